"""A batch of images in, a batch of embeddings out, on any engine."""

import io
import os
import pickle
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from datasets import Dataset
from PIL import Image
from sklearn.datasets import load_digits

from sklearn_clipensemble import CLIPEmbedder
from sklearn_clipensemble.distributed import EmbedBatch, read_embeddings

TINY = ["tiny/RN-1221", "tiny/ViT-4"]
DIGITS = np.round(load_digits().images[:6] / 16 * 255).astype(np.uint8)


def encode(array):
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def expected():
    return CLIPEmbedder(TINY, precision="fp32", cache=False).fit_transform(list(DIGITS))


@pytest.fixture
def paths(tmp_path):
    for row, digit in enumerate(DIGITS):
        Image.fromarray(digit).save(tmp_path / f"{row}.png")
    return [str(tmp_path / f"{row}.png") for row in range(len(DIGITS))]


def test_pixels_go_and_other_columns_stay(expected):
    batch = {"id": np.arange(6), "image": [encode(d) for d in DIGITS]}
    out = EmbedBatch(TINY, precision="fp32")(batch)
    assert list(out) == ["id", "tiny/RN-1221__embedding", "tiny/ViT-4__embedding"]
    assert out["id"] is batch["id"]
    vectors = out["tiny/ViT-4__embedding"]
    assert vectors.shape == (6, 128)
    assert vectors.dtype == np.float32
    both = np.hstack([out[f"{b}__embedding"] for b in TINY])
    np.testing.assert_array_equal(both, expected)


def test_paths_stay(paths, expected):
    out = EmbedBatch(TINY, column="path", precision="fp32")({"path": np.array(paths, object)})
    assert list(out["path"]) == paths
    np.testing.assert_array_equal(read_embeddings(pd.DataFrame(_rows(out))), expected)


def _rows(batch):
    return {name: list(values) for name, values in batch.items()}


def test_relative_paths_start_where_it_was_made(paths, expected, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    embed = EmbedBatch(TINY, precision="fp32")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    out = embed({"image": [os.path.basename(path) for path in paths]})
    np.testing.assert_array_equal(out["tiny/RN-1221__embedding"], expected.iloc[:, :128])


@pytest.mark.parametrize("given", [False, True], ids=["by url", "filesystem"])
def test_object_stores(given, expected):
    fsspec = pytest.importorskip("fsspec")
    memory = fsspec.filesystem("memory")
    for row, digit in enumerate(DIGITS):
        memory.pipe(f"/digits/{row}.png", encode(digit))
    begin, filesystem = ("/digits", memory) if given else ("memory://digits", None)
    embed = EmbedBatch(TINY, filesystem=filesystem, precision="fp32")
    out = embed({"image": [f"{begin}/{row}.png" for row in range(6)]})
    np.testing.assert_array_equal(out["tiny/RN-1221__embedding"], expected.iloc[:, :128])


def test_a_filesystem_of_pyarrow(paths, expected):
    fs = pytest.importorskip("pyarrow.fs")
    embed = EmbedBatch(TINY, filesystem=fs.LocalFileSystem(), precision="fp32")
    out = embed({"image": paths})
    np.testing.assert_array_equal(out["tiny/RN-1221__embedding"], expected.iloc[:, :128])


def test_unreadable_images(paths):
    batch = {"image": [paths[0], paths[1] + ".gone"]}
    with pytest.raises(FileNotFoundError, match=r"Image 1 .*1\.png\.gone"):
        EmbedBatch(TINY)(batch)
    with pytest.warns(UserWarning, match="1 of 2 images could not be read"):
        out = EmbedBatch(TINY, on_error="nan")(batch)
    assert np.isnan(out["tiny/ViT-4__embedding"]).all(axis=1).tolist() == [False, True]


def test_a_batch_without_the_column():
    with pytest.raises(ValueError, match=r"no column 'image' .*\['picture'\].*column="):
        EmbedBatch(TINY)({"picture": list(DIGITS)})


def test_datasets_map(expected):
    data = Dataset.from_dict({"image": [encode(d) for d in DIGITS], "label": list("abcdef")})
    out = data.map(EmbedBatch(TINY, precision="fp32"), batched=True, remove_columns=["image"])
    assert out.column_names[0] == "label"
    table = read_embeddings(out.to_pandas())
    assert table.index.tolist() == list("abcdef")
    np.testing.assert_array_equal(table, expected)


def test_frames_one_after_the_other_as_mapinpandas_hands_them_out(expected):
    embed = EmbedBatch(TINY, precision="fp32")

    def embed_frames(frames):
        for frame in frames:
            yield pd.DataFrame(_rows(embed(frame)))

    frame = pd.DataFrame({"image": [encode(d) for d in DIGITS]})
    table = pd.concat(embed_frames([frame[:3], frame[3:]]))
    np.testing.assert_allclose(read_embeddings(table), expected, atol=1e-6)


def test_it_is_small_and_imports_no_ray():
    embed = EmbedBatch("tiny")
    embed({"image": list(DIGITS)})
    assert len(pickle.dumps(embed)) < 10_000
    code = (
        "import sys, sklearn_clipensemble.distributed as d; d.EmbedBatch('tiny');"
        "assert not {'ray', 'torch', 'pyarrow.parquet'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_worker_with_other_weights_refuses():
    embed = EmbedBatch(TINY)
    embed.embedder.fingerprints_["tiny/ViT-4"] = "0-0"  # as where it was made
    with pytest.raises(ValueError, match="weights of backbone 'tiny/ViT-4' have changed"):
        embed({"image": list(DIGITS)})
