"""Both forms of a file of embeddings become the same table."""

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_digits

from sklearn_clipensemble import AdaptiveBackboneEnsemble, CLIPEmbedder, ZeroShotLogits, read_table
from sklearn_clipensemble.distributed import read_embeddings

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")


@pytest.fixture(scope="module")
def wide():
    images = load_digits().images[:12] / 16
    table = CLIPEmbedder(["tiny/RN-1221", "tiny/ViT-4"]).fit_transform(images)
    table.index = pd.Index([f"{row}.png" for row in range(12)], name="path")
    return table


def lists(wide, fixed=True):
    """The same numbers in one column of lists for each backbone."""
    arrays = {"path": pa.array(wide.index.to_list())}
    for backbone, columns in (("tiny/RN-1221", slice(128)), ("tiny/ViT-4", slice(128, 256))):
        values = wide.to_numpy()[:, columns]
        if fixed:
            flat = pa.array(values.ravel())
            arrays[f"{backbone}__embedding"] = pa.FixedSizeListArray.from_arrays(flat, 128)
        else:
            arrays[f"{backbone}__embedding"] = pa.array(list(values))
    return pa.table(arrays)


@pytest.mark.parametrize("fixed", [True, False])
def test_lists_from_a_file(wide, fixed, tmp_path):
    pq.write_table(lists(wide, fixed), tmp_path / "a.parquet")
    table = read_embeddings(tmp_path / "a.parquet")
    pd.testing.assert_frame_equal(table, wide)
    assert np.shares_memory(table.to_numpy(), table.to_numpy())  # one block of float32


def test_numbers_from_a_file(wide, tmp_path):
    wide.to_parquet(tmp_path / "a.parquet")
    pd.testing.assert_frame_equal(read_embeddings(tmp_path / "a.parquet"), wide)
    wide.reset_index(drop=True).to_parquet(tmp_path / "b.parquet")
    pd.testing.assert_frame_equal(
        read_embeddings(str(tmp_path / "b.parquet")), wide.reset_index(drop=True)
    )


def test_what_pandas_has_read(wide, tmp_path):
    pq.write_table(lists(wide), tmp_path / "a.parquet")
    pd.testing.assert_frame_equal(read_embeddings(pd.read_parquet(tmp_path / "a.parquet")), wide)
    pd.testing.assert_frame_equal(read_embeddings(wide.reset_index()), wide)


def test_a_folder_of_either(wide, tmp_path):
    pq.write_table(lists(wide[:5]), tmp_path / "a.parquet")
    wide[5:].reset_index().to_parquet(tmp_path / "b.parquet")
    (tmp_path / "_unreadable.csv").write_text("path,error\n")
    (tmp_path / ".new-c.parquet").write_text("half a file")
    pd.testing.assert_frame_equal(read_embeddings(tmp_path), wide)


def test_several_columns_become_levels(wide, tmp_path):
    table = lists(wide).append_column("label", pa.array(list("abcdefghijkl")))
    pq.write_table(table, tmp_path / "a.parquet")
    read = read_embeddings(tmp_path)
    assert read.index.names == ["path", "label"]
    assert read.index.get_level_values("label").tolist() == list("abcdefghijkl")


def test_the_other_steps_take_it(wide, tmp_path):
    pq.write_table(lists(wide), tmp_path / "a.parquet")
    table = read_embeddings(tmp_path)
    assert read_table(table).backbones == ("tiny/RN-1221", "tiny/ViT-4")
    labels = np.array(["zero", "one"] * 6)
    logits = ZeroShotLogits().fit_transform(table, labels)
    clf = AdaptiveBackboneEnsemble().fit(logits, labels)
    assert clf.combination_weights(logits).index.tolist() == wide.index.tolist()


def test_what_is_no_table_is_refused(wide, tmp_path):
    with pytest.raises(FileNotFoundError, match="no parquet file in"):
        read_embeddings(tmp_path)
    with pytest.raises(FileNotFoundError):
        read_embeddings(tmp_path / "none.parquet")
    with pytest.raises(ValueError, match=r"no column of a backbone.*'path'"):
        read_embeddings(pd.DataFrame({"path": ["a"]}))
    both = lists(wide).append_column("tiny/ViT-4__embedding__0", pa.array(np.ones(12, np.float32)))
    with pytest.raises(ValueError, match="both forms"):
        read_embeddings(both.to_pandas())
    uneven = pd.DataFrame({"a__embedding": [[1.0, 0.0], [1.0]]})
    with pytest.raises(ValueError, match=r"'a__embedding'.*of different lengths"):
        read_embeddings(uneven)
    uneven.to_parquet(tmp_path / "a.parquet")
    with pytest.raises(ValueError, match=r"'a__embedding'.*of different lengths"):
        read_embeddings(tmp_path)
    pq.write_table(lists(wide), tmp_path / "a.parquet")
    pq.write_table(lists(wide).drop_columns(["tiny/ViT-4__embedding"]), tmp_path / "b.parquet")
    with pytest.raises(
        ValueError, match=r"b\.parquet' has other columns of backbones than .*a\.parq"
    ):
        read_embeddings(tmp_path)
