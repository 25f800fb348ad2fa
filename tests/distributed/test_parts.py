"""What a worker writes: each row once, each part whole, whatever comes in between."""

import errno
import io
import os
import pickle

import numpy as np
import pandas as pd
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from PIL import Image

from sklearn_clipensemble import CLIPEmbedder
from sklearn_clipensemble.distributed import EmbedBatch, read_embeddings
from sklearn_clipensemble.distributed._parts import Parts
from sklearn_clipensemble.distributed._worker import Worker

pa = pytest.importorskip("pyarrow")

TINY = "tiny/RN-1221"


def picture(seed):
    pixels = np.random.RandomState(seed).randint(0, 256, (8, 8, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def paths(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for row in range(8):
        (folder / f"{row}.png").write_bytes(picture(row))
    return [str(folder / f"{row}.png") for row in range(8)]


class Output:
    """An output folder, and workers that write to it as a run would have them do."""

    def __init__(self, folder, column="path", **options):
        self.folder, self.parts = str(folder), Parts(folder)
        self.embed = EmbedBatch([TINY], column=column, precision="fp32", **options)
        self.run = 0

    def worker(self):
        self.run += 1
        return Worker(
            pickle.loads(pickle.dumps(self.embed)),
            pickle.loads(pickle.dumps(self.parts)),
            self.parts.settle(),
            run=self.run,
            n_threads=1,
            settings={"precision": "fp32"},
        )

    def write(self, rows, worker=None):
        return report(worker or self.worker(), rows)

    def read(self):
        self.parts.settle()
        return read_embeddings(self.folder)


def report(worker, rows):
    if not isinstance(rows, dict):
        rows = {"path": rows}
    out = worker(pa.table(rows))
    report = pickle.loads(out["report"][0])
    if report.error is not None:
        raise report.error
    return report


@pytest.fixture
def output(tmp_path):
    return Output(tmp_path / "out")


def reference(images):
    return CLIPEmbedder([TINY], precision="fp32", cache=False).fit_transform(images).to_numpy()


def test_a_part_has_the_numbers_of_the_embedder(output, paths):
    told = output.write(paths)
    assert (told.n_rows, told.n_new, told.lost) == (8, 8, False)
    assert output.parts.names() == [told.part]
    table = output.read()
    assert table.index.tolist() == paths
    np.testing.assert_array_equal(table, reference(paths))
    plain = pd.read_parquet(output.folder)  # what any other reader sees
    assert list(plain) == ["path", "row_key", "n_bytes", "error", f"{TINY}__embedding"]
    assert plain["n_bytes"].tolist() == [os.path.getsize(path) for path in paths]


def test_only_what_is_missing_is_embedded(output, paths, monkeypatch):
    output.write(paths[:5])
    embedded = []
    embed = EmbedBatch._embed
    monkeypatch.setattr(EmbedBatch, "_embed", lambda *a: [embedded.append(len(a[1])), embed(*a)][1])
    assert output.write(paths).n_new == 3
    told = output.write(paths)
    assert (told.n_rows, told.n_new, told.part) == (8, 0, None)
    assert embedded == [3]
    assert sorted(output.read().index) == paths


def test_a_changed_file_takes_the_place_of_its_old_row(output, paths):
    output.write(paths)
    with open(paths[2], "wb") as file:
        file.write(picture(100) + b"a longer file")
    assert output.write(paths).n_new == 1
    assert read_embeddings(output.folder).index.is_unique  # also before anybody has tidied up
    table = output.read()
    assert sorted(table.index) == paths
    np.testing.assert_allclose(table.loc[paths], reference(paths), atol=1e-6)
    assert len(pd.read_parquet(output.folder)) == 8


def test_a_part_all_of_whose_rows_are_old_goes(output, paths):
    first = output.write(paths[:1])
    with open(paths[0], "ab") as file:
        file.write(b"more")
    second = output.write(paths[:1])
    output.parts.settle()
    assert output.parts.names() == [second.part] != [first.part]


def test_images_in_the_rows_are_known_by_content(tmp_path):
    output = Output(tmp_path / "out", column="image")
    images, labels = [picture(0), picture(1), picture(0), picture(0)], ["a", "b", "a", "c"]
    assert output.write({"image": images, "label": labels}).n_new == 3  # two rows are alike
    assert output.write({"image": images[::-1], "label": labels[::-1]}).n_new == 0
    table = output.read()
    assert table.index.name == "label"
    assert sorted(table.index) == ["a", "b", "c"]
    np.testing.assert_array_equal(table.loc["a"], table.loc["c"])
    assert "image" not in pd.read_parquet(output.folder)


def test_images_alone_are_indexed_by_their_keys(tmp_path):
    output = Output(tmp_path / "out", column="image")
    arrays = [np.full((4, 4), grey, np.uint8).tolist() for grey in (0, 200)]
    output.write({"image": [picture(0), picture(1)]})
    assert output.read().index.name == "row_key"
    with pytest.raises(TypeError, match=r"Image of the row \{\}: cannot read an image from list"):
        output.write({"image": arrays})


def test_types_of_other_columns_stay(output, paths):
    rows = pa.table({"path": paths[:2], "id": pa.array([None, 2**60 + 1]), "empty": [None, None]})
    output.write(rows.to_pydict() | {"id": rows["id"]})
    frame = pd.read_parquet(output.folder, dtype_backend="pyarrow")
    assert frame["id"].tolist() == [pd.NA, 2**60 + 1]


def test_unreadable_images_are_rows_of_nan_and_listed(tmp_path, paths):
    output = Output(tmp_path / "out", on_error="nan")
    os.remove(paths[3])
    with open(paths[4], "wb") as file:
        file.write(b"Dear reader, I am no image.")
    output.write(paths)
    table = output.read()
    assert table.index[table.isna().all(axis=1)].tolist() == paths[3:5]
    listed = pd.read_csv(tmp_path / "out" / "_unreadable.csv")
    assert list(listed) == ["path", "error"]
    assert listed["path"].tolist() == paths[3:5]
    assert "No such file" in listed["error"][0]
    assert listed["error"][1].startswith("not an image; it starts with the text 'Dear reader")
    assert output.parts.settle().n_unreadable == 2

    assert output.write(paths).n_new == 0  # nothing has changed
    before = output.parts.settle()
    assert before.n_new(before) == 0
    for row in (3, 4):  # mended, both are embedded
        with open(paths[row], "wb") as file:
            file.write(picture(row))
    assert output.write(paths).n_new == 2
    assert output.parts.settle().n_new(before) == 2
    assert not output.read().isna().any(axis=None)
    assert not (tmp_path / "out" / "_unreadable.csv").exists()


def test_an_unreadable_image_is_named(output, paths):
    os.remove(paths[3])
    with pytest.raises(FileNotFoundError, match=r"Image '.*/3\.png': .*No such file"):
        output.write(paths)
    assert output.parts.names() == []
    named = Output(output.folder, column="image")
    with pytest.raises(ValueError, match=r"Image of the row \{'id': 7\}: not an image"):
        named.write({"image": [picture(0), b"none"], "id": [6, 7]})


def test_a_batch_that_is_done_again_is_the_same_part(output, paths):
    worker = output.worker()
    told = output.write(paths, worker)
    again = output.write(paths, worker)  # its node was lost before it could report
    assert told == again
    assert output.parts.names() == [told.part]


def test_what_stragglers_have_written_twice_is_there_once(output, paths):
    one, other = output.worker(), output.worker()
    output.write(paths[:6], one)
    output.write(paths[3:], other)
    assert sorted(output.read().index) == paths
    assert len(pd.read_parquet(output.folder)) == 8


def test_what_kills_its_workers_is_given_up(output, paths, monkeypatch):
    def die(*args):
        raise KeyboardInterrupt  # what the worker itself cannot hold up

    worker = output.worker()
    with monkeypatch.context() as patched:
        patched.setattr(EmbedBatch, "_embed", die)
        for _ in range(2):
            with pytest.raises(KeyboardInterrupt):
                output.write(paths, worker)
        told = output.write(paths, worker)
    assert (told.lost, told.n_rows, told.part) == (True, 0, None)
    assert len(output.parts.settle()) == 0
    assert output.write(paths).n_new == 8  # in a new run it has another try
    assert [n for n in os.listdir(output.folder) if n.startswith(".")] == []


def test_a_write_that_fails_leaves_nothing(output, paths, monkeypatch):
    output.write(paths[:4])

    def full(self, path, value, **kwargs):
        with open(path, "wb") as file:
            file.write(value[: len(value) // 2])
        if value:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)

    with monkeypatch.context() as patched:
        patched.setattr(type(output.parts.filesystem), "pipe_file", full)
        with pytest.raises(OSError, match=r"part with 4 rows could not be .*No space left.*again"):
            output.write(paths)
    assert len(pd.read_parquet(output.folder)) == 4
    assert output.write(paths).n_new == 4
    assert sorted(output.read().index) == paths


def test_a_file_that_was_cut_short_is_tidied_away(output, paths):
    output.write(paths)
    for name in (".new-1-part-00001-a.parquet", ".begun-0-part-00001-a.parquet"):
        with open(os.path.join(output.folder, name), "wb") as file:
            file.write(b"PAR1")
    assert len(output.read()) == 8
    assert os.listdir(output.folder) == output.parts.names()


def test_on_an_object_store(paths):
    MemoryFileSystem.store.clear()
    output = Output("memory://bucket/out", on_error="nan")
    output.write(paths[:4])
    output.write([*paths, "gone.png"])
    assert sorted(output.read().index) == sorted([*paths, "gone.png"])
    assert output.parts.settle().n_unreadable == 1
    assert MemoryFileSystem().exists("/bucket/out/_unreadable.csv")


def test_other_settings_are_refused(output, paths):
    output.parts.check({"precision": "bf16"})  # nothing is there yet
    output.write(paths)
    output.parts.check({"precision": "fp32"})
    with pytest.raises(
        ValueError, match=r"precision was 'fp32' and is 'bf16'\. Take another folder"
    ):
        output.parts.check({"precision": "bf16"})


def test_a_folder_that_nodes_do_not_share(output, paths):
    told = output.write(paths)
    output.parts.require([told.part, None])
    os.remove(os.path.join(output.folder, told.part))
    with pytest.raises(RuntimeError, match="All nodes must share the folder"):
        output.parts.require([told.part])


def test_names_that_are_taken(output, paths):
    with pytest.raises(ValueError, match="column 'error' has a name that the output gives"):
        output.write({"path": paths, "error": paths})
