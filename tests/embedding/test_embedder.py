"""Images -> one table of embeddings: every form, every option, each image once."""

import contextlib
import gzip
import http.client
import io
import pickle
import subprocess
import sys
import tarfile
import textwrap
import threading
import time
import zipfile
import zlib
from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest
import torch
from counting import CountingEmbedder
from PIL import Image
from sklearn.base import clone
from sklearn.datasets import load_digits, load_sample_images
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

from sklearn_clipensemble import CLIPEmbedder, clear
from sklearn_clipensemble.backbones import _model
from sklearn_clipensemble.backbones._clip_models import TinyClip
from sklearn_clipensemble.backbones._model import Model

TINY = ["tiny/RN-1221"]
PHOTOS = load_sample_images().images
DIGITS = (load_digits().images / 16)[:60]
BYTES = np.round(DIGITS * 255).astype(np.uint8)
LABELS = np.arange(60) % 6  # five folds of sixty images are meant, not digits


@pytest.fixture(autouse=True)
def fresh_memory():
    clear()


@pytest.fixture
def counted(monkeypatch):
    """The number of images that models have embedded, probes for bf16 left aside."""
    counts = []
    embed = Model.embed_images

    def counting(self, pixels, device, precision):
        counts.append(len(pixels))
        return embed(self, pixels, device, precision)

    monkeypatch.setattr(Model, "embed_images", counting)
    monkeypatch.setattr(Model, "is_faithful", lambda *args: True)
    return counts


def encode(array, kind="PNG", **options):
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, kind, **options)
    return buffer.getvalue()


def oriented(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def fp32(**options):
    return CLIPEmbedder(TINY, precision="fp32", **options)


# The table


def test_table():
    embedder = CLIPEmbedder(TINY)
    table = embedder.fit_transform(PHOTOS)
    assert isinstance(table, pd.DataFrame)
    assert table.shape == (2, 128)
    assert set(table.dtypes) == {np.dtype("float32")}
    assert table.columns[3] == "tiny/RN-1221__embedding__3"
    assert list(embedder.get_feature_names_out()) == list(table.columns)
    np.testing.assert_allclose(np.linalg.norm(table, axis=1), 1, rtol=1e-5)
    assert embedder.backbones_ == TINY
    assert len(embedder.fingerprints_["tiny/RN-1221"]) == 32 + 1 + 16


def test_every_form_gives_the_same_embedding(tmp_path):
    array = PHOTOS[0]
    path = tmp_path / "photo.png"
    path.write_bytes(encode(array))
    forms = [
        [str(path)],
        [path],
        [path.read_bytes()],
        [io.BytesIO(path.read_bytes())],
        [Image.open(io.BytesIO(path.read_bytes()))],
        [array],
        array[None],
        [array / 255],
        [torch.from_numpy(array.copy()).permute(2, 0, 1)],
        pd.Series([str(path)]),
        pd.DataFrame({"image": [path.read_bytes()]}),
    ]
    embedder = fp32(cache=False).fit(PHOTOS)
    expected = embedder.transform(PHOTOS).to_numpy()[:1]
    for X in forms:
        np.testing.assert_allclose(embedder.transform(X), expected, atol=1e-6)


def test_index_follows_pandas():
    frame = pd.DataFrame({"image": [encode(p) for p in PHOTOS]}, index=["a", "b"])
    assert list(CLIPEmbedder(TINY).fit_transform(frame["image"]).index) == ["a", "b"]
    assert list(CLIPEmbedder(TINY).fit_transform(frame).index) == ["a", "b"]


def test_rows_do_not_depend_on_their_company():
    embedder = fp32(cache=False).fit(DIGITS)
    together = embedder.transform(DIGITS).to_numpy()
    order = np.random.RandomState(0).permutation(60)
    np.testing.assert_allclose(embedder.transform(DIGITS[order]), together[order], atol=1e-5)
    np.testing.assert_allclose(embedder.transform(DIGITS[7:8]), together[7:8], atol=1e-5)
    by_size = fp32(cache=False, batch_size=7, n_jobs=1).fit_transform(DIGITS)
    np.testing.assert_allclose(by_size, together, atol=1e-5)


def test_a_cpu_takes_a_batch_in_parts(monkeypatch):
    whole = fp32(cache=False, device="cpu").fit_transform(DIGITS)
    sizes = []
    embed = Model._embed_at_once

    def noting(self, tower, pixels, *rest):
        sizes.append(len(pixels))
        return embed(self, tower, pixels, *rest)

    monkeypatch.setattr(Model, "_embed_at_once", noting)
    monkeypatch.setattr(_model, "_CACHED", 100_000 // torch.get_num_threads())
    in_parts = fp32(cache=False, device="cpu").fit_transform(DIGITS)
    assert sum(sizes) == 60 * len(TINY)
    assert max(sizes) < 60
    np.testing.assert_allclose(in_parts, whole, atol=1e-5)


def test_parameters_are_checked_in_fit():
    for name, value in {
        "precision": "int8",
        "batch_size": 0,
        "decode": "quick",
        "on_error": "ignore",
        "cache": True,
        "exif_transpose": "yes",
        "n_jobs": "all",
    }.items():
        with pytest.raises(ValueError, match=f"The '{name}' parameter of CLIPEmbedder must be"):
            CLIPEmbedder(TINY, **{name: value}).fit(DIGITS)
    with pytest.raises(NotFittedError):
        CLIPEmbedder(TINY).transform(DIGITS)
    with pytest.raises(TypeError, match=r"pass list\(X\)"):
        CLIPEmbedder(TINY).fit(x for x in DIGITS)
    with pytest.raises(ValueError, match="X is empty"):
        CLIPEmbedder(TINY).fit(DIGITS).transform([])
    with pytest.raises(ValueError, match="n_jobs == 0"):
        CLIPEmbedder(TINY, n_jobs=0).fit_transform(DIGITS)


def test_parameters_are_never_rewritten():
    embedder = CLIPEmbedder(TINY)
    before = embedder.get_params()
    embedder.fit_transform(DIGITS)
    assert embedder.get_params() == before
    assert before["device"] == "auto"
    assert clone(embedder).get_params() == before


# Options


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_other_precisions_are_near(precision):
    exact = fp32(cache=False).fit_transform(PHOTOS).to_numpy()
    other = CLIPEmbedder(TINY, precision=precision, cache=False).fit_transform(PHOTOS).to_numpy()
    assert np.abs(other - exact).max() > 0
    assert (exact * other).sum(1).min() > 0.999


def test_parameters_changed_after_fit_are_heard():
    big = encode(np.asarray(Image.fromarray(PHOTOS[0]).resize((1600, 1068))), "JPEG")
    embedder = fp32(cache=False).fit(PHOTOS)
    for decode in ("exact", "fast", "exact"):
        fresh = fp32(cache=False, decode=decode).fit_transform([big])
        assert embedder.set_params(decode=decode).transform([big]).equals(fresh)


def test_decode_fast_is_near():
    big = encode(np.asarray(Image.fromarray(PHOTOS[0]).resize((1600, 1068))), "JPEG")
    exact = fp32().fit_transform([big]).to_numpy()
    fast = fp32(decode="fast").fit_transform([big]).to_numpy()
    assert np.abs(fast - exact).max() > 0
    assert (exact * fast).sum() > 0.99


def test_exif_transpose():
    stored = PHOTOS[0]
    file = encode(stored, exif=oriented(6))
    as_stored, upright = fp32().fit_transform([stored, np.rot90(stored, -1)]).to_numpy()
    opened = Image.open(io.BytesIO(file))
    loaded = Image.open(io.BytesIO(file))
    loaded.load()
    for source in [file, opened, loaded]:
        for turn, expected in [(True, upright), (False, as_stored), (True, upright)]:
            embedder = fp32(exif_transpose=turn)
            np.testing.assert_allclose(
                embedder.fit_transform([source]).to_numpy()[0], expected, atol=1e-6
            )
    assert CLIPEmbedder().exif_transpose is True


@pytest.mark.parametrize("cache", [None, "folder"])
def test_the_cache_knows_which_way_up(counted, tmp_path, cache):
    from files import tagged_files

    cache = tmp_path if cache else None
    files = list(tagged_files(Image.fromarray(PHOTOS[0]).resize((64, 48))).values())
    lying = fp32(exif_transpose=False, cache=False).fit_transform(files)
    upright = fp32(cache=False).fit_transform(files)
    assert (lying - upright).abs().max(axis=1).gt(1e-3).sum() == len(files) - 1  # but for TIFF
    for turn, expected in [(True, upright), (False, lying), (True, upright)]:
        table = fp32(exif_transpose=turn, cache=cache).fit_transform(files)
        np.testing.assert_allclose(table, expected, atol=1e-5)


def test_untagged_images_are_shared_by_both_settings(counted):
    X = [
        PHOTOS[0],
        *[encode(p, "JPEG") for p in PHOTOS],
        encode(PHOTOS[0], "JPEG", exif=oriented(1)),
    ]
    first = fp32(exif_transpose=False).fit_transform(X)
    assert sum(counted) == 4
    pd.testing.assert_frame_equal(fp32().fit_transform(X), first)
    assert sum(counted) == 4


def test_backbones_that_preprocess_alike_share_one_decode(tmp_path, monkeypatch):
    from instances import RESNET, make_folder

    from sklearn_clipensemble.embedding import _stream

    decoded = []
    decode = _stream.decode

    def counting(content, **options):
        decoded.append(options["draft"])
        return decode(content, **options)

    monkeypatch.setattr(_stream, "decode", counting)
    small = [make_folder(tmp_path / f"same{i}", seed=i) for i in range(3)]
    large = make_folder(tmp_path / "larger", vision={**RESNET, "image_size": 64})
    files = [encode(p) for p in PHOTOS]
    table = CLIPEmbedder([*small, large], precision="fp32").fit_transform(files)
    assert table.shape == (2, 64)
    assert decoded == [None, None]
    # What a backbone sees of a draft must not hang on the others: here each size has its own.
    decoded.clear()
    fast = CLIPEmbedder([*small, large], decode="fast", precision="fp32").fit_transform(files)
    assert sorted(decoded) == [64, 64, 128, 128]
    clear()
    alone = CLIPEmbedder(small[0], decode="fast", precision="fp32").fit_transform(files)
    np.testing.assert_allclose(fast.iloc[:, :16], alone, atol=1e-6)


# Files that are open


class Recorder(io.BytesIO):
    """A file that writes down who reads it, and when."""

    def __init__(self, content, log):
        super().__init__(content)
        self.log = log

    def read(self, *args):
        self.log.append((threading.get_ident(), self))
        return super().read(*args)


def test_file_objects_are_read_in_one_thread_in_order():
    log = []
    X = [Recorder(encode(digit), log) for digit in BYTES]
    table = fp32(cache=False, n_jobs=16, batch_size=7).fit_transform(X)
    assert log == [(threading.get_ident(), file) for file in X]
    np.testing.assert_allclose(table, fp32().fit_transform(BYTES), atol=1e-5)


class Member:
    """One of several files behind one position, as archives hand them out, with time to lose it."""

    def __init__(self, archive, start, size):
        self.archive, self.start, self.size = archive, start, size

    def read(self):
        self.archive.seek(self.start)
        time.sleep(0.0005)
        return self.archive.read(self.size)


def packed_in_zip(files):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for i, file in enumerate(files):
            archive.writestr(f"{i}.png", file)
    return content


def packed_in_tar(files, mode):
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode=mode) as archive:
        for i, file in enumerate(files):
            member = tarfile.TarInfo(f"{i}.png")
            member.size = len(file)
            archive.addfile(member, io.BytesIO(file))
    content.seek(0)
    return content


def archived():
    """The digits as members of one open archive, in every way that shares a position."""
    files = [encode(digit) for digit in BYTES]
    shared, starts = io.BytesIO(b"".join(files)), np.cumsum([0, *map(len, files)])
    yield [Member(shared, s, len(f)) for s, f in zip(starts, files, strict=False)]
    for mode in ("w", "w:gz"):
        with tarfile.open(fileobj=packed_in_tar(files, mode)) as archive:
            yield [archive.extractfile(member) for member in archive]
            yield [Image.open(archive.extractfile(member)) for member in archive]
    with zipfile.ZipFile(packed_in_zip(files)) as archive:
        yield [archive.open(f"{i}.png") for i in range(len(files))]
        yield [Image.open(archive.open(f"{i}.png")) for i in range(len(files))]
        yield [zipfile.Path(archive, f"{i}.png") for i in range(len(files))]
    yield [gzip.GzipFile(fileobj=io.BytesIO(gzip.compress(file))) for file in files]


def test_members_of_one_archive_are_not_mixed_up():
    expected = fp32(cache=False).fit_transform(BYTES).to_numpy()
    embedder = fp32(cache=False, n_jobs=16).fit(BYTES)
    for way, X in enumerate(archived()):
        for order in (slice(None), slice(None, None, -1)):
            table = embedder.transform(X[order])
            np.testing.assert_allclose(table, expected[order], atol=1e-5, err_msg=str(way))


def test_files_of_fsspec():
    fsspec = pytest.importorskip("fsspec")
    memory = fsspec.filesystem("memory")
    names = [f"/digits-for-clip/{i:02}.png" for i in range(len(BYTES))]
    try:
        memory.pipe(dict(zip(names, map(encode, BYTES), strict=True)))
        expected = fp32().fit_transform(BYTES)
        for X in [
            fsspec.open_files([f"memory:/{name}" for name in names]),
            [memory.open(name) for name in names],
        ]:
            np.testing.assert_allclose(fp32(cache=False).fit_transform(X), expected, atol=1e-5)
    finally:
        memory.rm("/digits-for-clip", recursive=True)


def test_one_object_in_many_rows():
    """Rows may hold the same file, or the same image that is not loaded yet or has a palette."""
    file = encode(PHOTOS[0])
    expected = fp32().fit_transform([PHOTOS[0]] * 40)
    palette = Image.fromarray(PHOTOS[0]).quantize(256)
    for source in [io.BytesIO(file), Image.open(io.BytesIO(file)), palette]:
        table = fp32(cache=False, n_jobs=16).fit_transform([source] * 40)
        right = (
            fp32().fit_transform([palette.convert("RGB")] * 40) if source is palette else expected
        )
        np.testing.assert_allclose(table, right, atol=1e-6)


def test_opened_images_stay_unloaded(tmp_path):
    paths = []
    for i, photo in enumerate([*PHOTOS] * 5):
        paths.append(tmp_path / f"{i}.jpg")
        paths[-1].write_bytes(encode(photo, "JPEG"))
    with contextlib.ExitStack() as stack:
        opened = [stack.enter_context(Image.open(path)) for path in paths]
        table = fp32(cache=False).fit_transform(opened)
        for image in opened:
            assert vars(image).get("_im", vars(image).get("im")) is None
        again = fp32(cache=False).fit_transform(opened)
        copies = fp32(cache=False).fit_transform([image.copy() for image in opened])
    for other in [again, copies, fp32(cache=False).fit_transform(paths)]:
        np.testing.assert_allclose(other, table, atol=1e-6)


# Errors


def test_raise_names_index_path_and_reason(tmp_path):
    whole = tmp_path / "whole.png"
    whole.write_bytes(encode(PHOTOS[0]))
    text = tmp_path / "text.jpg"
    text.write_text("Dear reader, I am no image.")
    half = tmp_path / "half.png"
    half.write_bytes(whole.read_bytes()[:5000])
    embedder = CLIPEmbedder(TINY).fit([whole])
    for path, kind, reason in [
        (text, ValueError, "starts with the text 'Dear reader"),
        (half, ValueError, "damaged or truncated"),
        (tmp_path / "missing.png", FileNotFoundError, "No such file"),
        (tmp_path, IsADirectoryError, "directory"),
    ]:
        with pytest.raises(kind) as caught:
            embedder.transform([whole, whole, path])
        assert str(caught.value).startswith(f"Image 2 ({str(path)!r}): ")
        assert reason in str(caught.value)
    with pytest.raises(TypeError, match=r"^Image 1: cannot read an image from int"):
        embedder.transform([whole, 5])


def test_nan_keeps_the_rows_and_warns_once(tmp_path):
    X = [PHOTOS[0], b"", PHOTOS[1], None, str(tmp_path / "missing.jpg"), b"text", PHOTOS[0]]
    embedder = fp32(on_error="nan", batch_size=2).fit(X)
    with pytest.warns(UserWarning, match=r"4 of 7 images could not be read") as caught:
        table = embedder.transform(X)
    (message,) = [str(w.message) for w in caught]
    for part in ["Image 1: the file is empty", "Image 3: there is no", "missing.jpg'): No such"]:
        assert part in message
    np.testing.assert_array_equal(
        table.isna().all(axis=1), [False, True, False, True, True, True, False]
    )
    whole = fp32().fit_transform(PHOTOS).to_numpy()
    np.testing.assert_allclose(table.iloc[[0, 2, 6]], whole[[0, 1, 0]], atol=1e-6)


def test_nothing_but_errors():
    with pytest.warns(UserWarning, match="2 of 2"):
        table = CLIPEmbedder(TINY, on_error="nan").fit_transform([b"", b""])
    assert table.isna().all(axis=None)


def test_a_sequence_that_fails_as_it_is_read():
    class Lazy:
        def __len__(self):
            return 3

        def __getitem__(self, index):
            if index == 1:
                raise OSError("the drive was pulled")
            return PHOTOS[0]

    with pytest.raises(OSError, match=r"^Image 1: the drive was pulled"):
        CLIPEmbedder(TINY).fit_transform(Lazy())
    with pytest.warns(UserWarning, match="Image 1: the drive was pulled"):
        table = CLIPEmbedder(TINY, on_error="nan").fit_transform(Lazy())
    np.testing.assert_array_equal(table.isna().any(axis=1), [False, True, False])


class RemoteError(Exception):
    """A client's own, related to nothing."""


ERRORS = [
    RemoteError("403 Forbidden"),
    EOFError(),
    zipfile.BadZipFile("Bad CRC-32 for file '3.png'"),
    tarfile.ReadError("unexpected end of data"),
    zlib.error("Error -3 while decompressing data"),
    http.client.IncompleteRead(b"", 5),
    KeyError("image"),
    RuntimeError("File '3.png' is encrypted, password required"),
    NotImplementedError("That compression method is not supported"),
    AttributeError("no such thing"),
    TimeoutError("timed out"),
    UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
    AssertionError(),
    StopIteration(),
]


class Failing:
    """Something that raises as it is read."""

    def __init__(self, error):
        self.error = error

    def read(self):
        raise self.error


class FailingName(Failing):
    """A remote file that must ask for its name."""

    @property
    def name(self):
        raise self.error


class FailingSequence(Sequence):
    """A sequence that raises for one of its images."""

    def __init__(self, error):
        self.error = error

    def __len__(self):
        return 3

    def __getitem__(self, index):
        if index == 1:
            raise self.error
        return PHOTOS[0]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_whatever_an_image_raises_is_its_own(error):
    whole = fp32().fit_transform([PHOTOS[0]]).to_numpy()[0]
    kind, said = type(error).__name__, str(error)
    for X in [
        [PHOTOS[0], Failing(error), PHOTOS[0]],
        [PHOTOS[0], FailingName(error), PHOTOS[0]],
        FailingSequence(error),
    ]:
        with pytest.warns(UserWarning, match=r"1 of 3 images .* Image 1: ") as caught:
            table = fp32(on_error="nan").fit_transform(X)
        assert kind in str(caught[0].message)
        assert said in str(caught[0].message)
        np.testing.assert_array_equal(table.isna().all(axis=1), [False, True, False])
        np.testing.assert_allclose(table.iloc[[0, 2]], [whole] * 2, atol=1e-6)
        with pytest.raises((OSError, ValueError), match=r"^Image 1: ") as raised:
            fp32().fit_transform(X)
        assert raised.value.__cause__ is error


def test_a_damaged_member_of_an_archive():
    """The errors of real archives, as they come."""
    files = [encode(digit) for digit in BYTES[:5]]
    content = packed_in_zip(files)
    with zipfile.ZipFile(content) as archive:
        content.getbuffer()[archive.getinfo("3.png").header_offset + 60] ^= 255
        short = gzip.compress(files[0])[:-12]
        X = [archive.open(f"{i}.png") for i in range(5)] + [
            gzip.GzipFile(fileobj=io.BytesIO(short))
        ]
        with pytest.warns(UserWarning, match=r"2 of 6 .*Image 3 \('3.png'\): .*EOFError"):
            table = fp32(on_error="nan").fit_transform(X)
    np.testing.assert_array_equal(table.isna().any(axis=1), [0, 0, 0, 1, 0, 1])


def test_ctrl_c_is_no_image_error():
    with pytest.raises(KeyboardInterrupt):
        fp32(on_error="nan").fit_transform([Failing(KeyboardInterrupt())])


def test_trouble_with_a_backbone_is_no_image_error(monkeypatch):
    """`on_error="nan"` is for images: a model that fails must not become a table of NaN."""

    def fail(*args):
        raise OSError("weights vanished")

    monkeypatch.setattr(Model, "embed_images", fail)
    with pytest.raises(OSError, match="weights vanished"):
        CLIPEmbedder(TINY, on_error="nan", precision="fp32").fit_transform(PHOTOS)


# Each image once


def test_second_time_costs_nothing(counted):
    embedder = CLIPEmbedder(TINY).fit(DIGITS)
    first = embedder.transform(DIGITS)
    second = clone(embedder).fit_transform([encode_free(d) for d in DIGITS])
    pd.testing.assert_frame_equal(first, second)
    assert sum(counted) == 60


def encode_free(digit):
    """The same picture as another kind of object."""
    return np.round(digit * 255).astype(np.uint8)


def test_repeated_images_within_a_call(counted):
    CLIPEmbedder(TINY, batch_size=16).fit_transform([*DIGITS, *DIGITS[::-1], *DIGITS])
    assert sum(counted) == 60


def test_a_cached_table_needs_no_model(counted, monkeypatch):
    embedder = CLIPEmbedder(TINY).fit(DIGITS)
    first = embedder.transform(DIGITS)
    monkeypatch.setattr(_model, "load", lambda *args: pytest.fail("a model was loaded"))
    pd.testing.assert_frame_equal(embedder.transform(DIGITS), first)


def test_cache_false_keeps_nothing(counted):
    embedder = CLIPEmbedder(TINY, cache=False).fit(DIGITS)
    embedder.transform(DIGITS)
    embedder.transform(DIGITS)
    assert sum(counted) == 120


def test_everything_that_changes_the_output_is_in_the_key(counted, tmp_path):
    from instances import make_folder

    big = encode(PHOTOS[0], "JPEG", exif=oriented(6))
    variants = [
        {},
        {"precision": "bf16"},
        {"decode": "fast"},
        {"exif_transpose": False},
        {"backbones": make_folder(tmp_path / "a" / "model")},
        {"backbones": make_folder(tmp_path / "b" / "model", seed=1)},
        {"backbones": make_folder(tmp_path / "c" / "model", preprocess={"resize_mode": "squash"})},
        {"backbones": make_folder(tmp_path / "d" / "model", quick_gelu=True)},
    ]
    for variant in variants:
        CLIPEmbedder(**{"backbones": TINY, "precision": "fp32", **variant}).fit_transform([big])
    assert sum(counted) == len(variants)
    for irrelevant in [{"batch_size": 3}, {"n_jobs": 1}, {"on_error": "nan"}, {"device": "cpu"}]:
        fp32(**irrelevant).fit_transform([big])
    assert sum(counted) == len(variants)


def test_a_new_backbone_leaves_the_others_alone(counted, tmp_path):
    from instances import make_folder

    other = make_folder(tmp_path / "other")
    CLIPEmbedder(TINY).fit_transform(DIGITS)
    CLIPEmbedder([*TINY, other]).fit_transform(DIGITS)
    assert sum(counted) == 120


def test_grid_search_embeds_each_image_once(counted):
    pipeline = make_pipeline(CLIPEmbedder(TINY), LogisticRegression(max_iter=1000))
    grid = {"logisticregression__C": [0.01, 0.1, 1, 10]}
    GridSearchCV(pipeline, grid, cv=5).fit(DIGITS, LABELS)
    assert sum(counted) == 60


def test_grid_search_of_two_processes_embeds_each_image_once(tmp_path):
    embedder = CountingEmbedder(TINY, precision="fp32", cache=str(tmp_path / "cache"))
    pipeline = make_pipeline(embedder, LogisticRegression(max_iter=1000))
    grid = {"logisticregression__C": [0.01, 0.1, 1, 10]}
    search = GridSearchCV(pipeline, grid, cv=5, n_jobs=2, refit=False).fit(DIGITS, LABELS)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert sum(map(int, (tmp_path / "counts").read_text().split())) == 60


def test_cache_on_disk_serves_another_process(tmp_path):
    embedder = fp32(cache=tmp_path / "cache").fit(DIGITS)
    expected = embedder.transform(DIGITS)
    (tmp_path / "embedder.pkl").write_bytes(pickle.dumps(embedder))
    code = """
        import pickle, sys, numpy as np
        from sklearn.datasets import load_digits
        from sklearn_clipensemble.backbones import _model
        _model.Model.__init__ = None  # no model can be loaded
        embedder = pickle.load(open(sys.argv[1], "rb"))
        np.save(sys.argv[2], embedder.transform((load_digits().images / 16)[:60]))
    """
    result = tmp_path / "result.npy"
    arguments = [str(tmp_path / "embedder.pkl"), str(result)]
    subprocess.run([sys.executable, "-c", textwrap.dedent(code), *arguments], check=True)
    np.testing.assert_array_equal(np.load(result), expected)


def test_a_broken_cache_costs_a_warning_only(tmp_path):
    expected = fp32().fit_transform(DIGITS)
    embedder = fp32(cache=tmp_path).fit(DIGITS)
    embedder.transform(DIGITS)
    (file,) = tmp_path.glob("*.sqlite")
    other = tmp_path / "other"
    other.mkdir()
    (other / file.name).write_bytes(b"something else entirely" * 1000)
    embedder.set_params(cache=other)
    with pytest.warns(UserWarning, match="cannot be used"):
        table = embedder.transform(DIGITS)
    pd.testing.assert_frame_equal(table, expected)


# One image at a time


def test_warm_up_loads_what_the_first_image_needs(counted, monkeypatch):
    with pytest.raises(NotFittedError):
        fp32().warm_up()
    embedder = fp32().fit(DIGITS)
    assert embedder.warm_up() is embedder
    assert counted == [1]
    monkeypatch.setattr(TinyClip, "load", None)
    first = embedder.transform(DIGITS[:1])
    assert counted == [1, 1]  # nothing of the warm-up was kept
    np.testing.assert_allclose(first, fp32().fit_transform(DIGITS)[:1], atol=1e-5)


def test_one_image_needs_no_other_thread(monkeypatch):
    embedder = fp32(cache=False).fit(DIGITS).warm_up()
    expected = embedder.transform(DIGITS[:2])
    monkeypatch.setattr(threading.Thread, "start", None)
    np.testing.assert_allclose(embedder.transform(DIGITS[:1]), expected[:1], atol=1e-5)
    with pytest.raises(ValueError, match="Image 0"):
        embedder.transform([b"no image"])
    with pytest.warns(UserWarning, match="1 of 1 images"):
        table = embedder.set_params(on_error="nan").transform([b"no image"])
    assert table.isna().all(axis=None)


# Streams of images


class Endless:
    """A sequence that makes its images as they are asked for, and knows how many were."""

    def __init__(self, n):
        self.n, self.asked = n, 0

    def __len__(self):
        return self.n

    def __getitem__(self, index):
        self.asked = max(self.asked, index + 1)
        return np.full((8, 8), index % 256, np.uint8)


def test_batches_are_read_one_ahead():
    X = Endless(200_000)
    embedder = fp32(batch_size=50).fit(X)
    assert X.asked == 0
    batches = embedder.transform_batches(X)
    for i in range(1, 6):
        table = next(batches)
        assert list(table.index) == list(range(50 * (i - 1), 50 * i))
        assert X.asked <= 50 * (i + 1)
    batches.close()


def test_batches_are_the_table():
    embedder = fp32(batch_size=25).fit(DIGITS)
    batches = list(embedder.transform_batches(DIGITS))
    assert [len(b) for b in batches] == [25, 25, 10]
    pd.testing.assert_frame_equal(pd.concat(batches), embedder.transform(DIGITS))


def test_interrupted_work_is_kept(counted, monkeypatch, tmp_path):
    """Ctrl-C in the middle: what was embedded is not embedded again, and no thread is left behind."""
    import threading

    embedder = CLIPEmbedder(TINY, cache=tmp_path, batch_size=10).fit(DIGITS)
    embed = Model.embed_images

    def interrupted(self, pixels, device, precision):
        if sum(counted) == 30:
            raise KeyboardInterrupt
        return embed(self, pixels, device, precision)

    monkeypatch.setattr(Model, "embed_images", interrupted)
    with pytest.raises(KeyboardInterrupt):
        embedder.transform(DIGITS)
    monkeypatch.setattr(Model, "embed_images", embed)
    for thread in threading.enumerate():
        if thread.name.startswith("clip-images"):
            thread.join(30)
            assert not thread.is_alive()
    embedder.transform(DIGITS)
    assert sum(counted) == 60


# Memory and devices


def test_batches_are_halved_until_they_fit(monkeypatch):
    expected = fp32(cache=False).fit_transform(DIGITS)
    embed, tried = Model.embed_images, []

    def small(self, pixels, device, precision):
        tried.append(len(pixels))
        if len(pixels) > 10:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried")
        return embed(self, pixels, device, precision)

    monkeypatch.setattr(Model, "embed_images", small)
    embedder = fp32(cache=False, batch_size=40).fit(DIGITS)
    with pytest.warns(
        UserWarning, match=r"40 images at once did not fit .* 10 did. Pass batch_size=10"
    ):
        table = embedder.transform(DIGITS)
    np.testing.assert_allclose(table, expected, atol=1e-5)
    assert tried == [40, 20, 10, 10, 10, 10, 10, 10]  # what fits is remembered


def test_one_image_that_does_not_fit(monkeypatch):
    def never(self, pixels, device, precision):
        raise RuntimeError("CUDA out of memory. Tried to allocate 2 GiB")

    monkeypatch.setattr(Model, "embed_images", never)
    embedder = fp32(cache=False, batch_size=1).fit(DIGITS)
    with pytest.raises(MemoryError, match=r"One image does not fit .*precision='bf16'"):
        embedder.transform(DIGITS)


def test_other_errors_of_a_model_pass(monkeypatch):
    def fail(self, pixels, device, precision):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr(Model, "embed_images", fail)
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        fp32(cache=False).fit_transform(DIGITS)


def test_no_tensor_in_the_estimator():
    embedder = CLIPEmbedder(TINY).fit(DIGITS)
    embedder.transform(DIGITS)
    assert b"torch" not in pickle.dumps(embedder)
    assert len(pickle.dumps(embedder)) < 20_000


# Folders and pickles


def test_folder_pickled_here_and_used_there(tmp_path):
    from instances import make_folder

    from sklearn_clipensemble import ZeroShotLogits

    name = make_folder(tmp_path / "my-model")
    pipeline = make_pipeline(CLIPEmbedder(name, precision="fp32"), ZeroShotLogits(["cat", "dog"]))
    expected = pipeline.fit_transform(PHOTOS)
    table = pipeline[0].transform(PHOTOS)
    (tmp_path / "pipeline.pkl").write_bytes(pickle.dumps((pipeline, table)))
    code = """
        import pickle, sys, numpy as np
        from sklearn.datasets import load_sample_images
        from sklearn_clipensemble import ZeroShotLogits
        X = load_sample_images().images
        pipeline, table = pickle.load(open(sys.argv[1], "rb"))
        # The folder is known by the embedder's being here, also to a text step fitted only now.
        again = ZeroShotLogits(["cat", "dog"]).fit_transform(table)
        result = pipeline.transform(X)
        np.testing.assert_allclose(again, result, atol=1e-5)
        np.save(sys.argv[2], result)
    """
    arguments = [str(tmp_path / "pipeline.pkl"), str(tmp_path / "result.npy")]
    subprocess.run([sys.executable, "-c", textwrap.dedent(code), *arguments], check=True)
    np.testing.assert_allclose(np.load(arguments[1]), expected, atol=1e-5)


def test_changed_weights_are_refused(tmp_path):
    from instances import make_folder, official

    name = make_folder(tmp_path / "changing")
    embedder = CLIPEmbedder(name).fit(PHOTOS)
    embedder.transform(PHOTOS)
    other = make_folder(tmp_path / "changing", seed=1)
    with pytest.raises(ValueError, match=r"weights of backbone 'changing' have changed.*fit again"):
        embedder.transform(PHOTOS)
    # Fitted again it embeds with the new weights, not with those that lie loaded.
    again = embedder.set_params(precision="fp32").fit_transform(PHOTOS)
    np.testing.assert_allclose(again, official(other, PHOTOS), atol=2e-6)
    make_folder(tmp_path / "changing", seed=1, preprocess={"resize_mode": "squash"})
    with pytest.raises(
        ValueError, match=r"settings \(its configuration file\) of backbone 'changing'"
    ):
        embedder.transform(PHOTOS)


def forget(folder):
    """Move a folder away, as if it had never been on this machine."""
    folder.rename(folder.with_name("gone"))
    clear()


def test_pickle_with_weights_runs_where_they_are_not(tmp_path, monkeypatch):
    from instances import make_folder

    from sklearn_clipensemble import ZeroShotLogits

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user-cache"))
    name = make_folder(tmp_path / "travelling")
    pipeline = make_pipeline(
        CLIPEmbedder([name, *TINY], precision="fp32", store_weights=True),
        ZeroShotLogits(["a", "b"]),
    )
    expected = pipeline.fit_transform(PHOTOS)
    lean = pickle.dumps(clone(pipeline).set_params(clipembedder__store_weights=False).fit(PHOTOS))
    heavy = pickle.dumps(pipeline)
    assert len(lean) < 100_000 < 1_000_000 < len(heavy)
    pickle.loads(heavy)
    assert not (tmp_path / "user-cache").exists()  # nothing is written where the weights are
    forget(tmp_path / "travelling")
    with pytest.raises(FileNotFoundError, match="travelling"):
        pickle.loads(lean).transform(PHOTOS)
    for _ in range(2):
        loaded = pickle.loads(heavy)
        pd.testing.assert_frame_equal(loaded.transform(PHOTOS), expected)
        # A text step fitted afterwards finds its text tower as well.
        table = loaded[0].transform(PHOTOS)
        again = ZeroShotLogits(["a", "b"], cache=False).fit_transform(table)
        pd.testing.assert_frame_equal(again, expected)
    (home,) = (tmp_path / "user-cache").iterdir()
    assert len(list(home.iterdir())) == 1  # written once
    pd.testing.assert_frame_equal(pickle.loads(pickle.dumps(loaded)).transform(PHOTOS), expected)


def test_published_weights_travel_as_a_folder(tmp_path, monkeypatch):
    from instances import small_vit_b_32

    from sklearn_clipensemble.backbones import _weights

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user-cache"))
    small_vit_b_32(tmp_path, monkeypatch)
    embedder = CLIPEmbedder(["ViT-B-32/openai"], precision="fp32", store_weights=True)
    expected = embedder.fit_transform(PHOTOS)
    heavy = pickle.dumps(embedder)
    clear()
    monkeypatch.setattr(_weights, "_cached", lambda repo, name: None)
    table = pickle.loads(heavy).transform(PHOTOS)
    pd.testing.assert_frame_equal(table, expected)  # QuickGELU has travelled too
    assert table.columns[0] == "ViT-B-32/openai__embedding__0"


# Progress


def test_progress_is_silent_unless_asked_for(capfd):
    embedder = CLIPEmbedder(TINY).fit(DIGITS)
    embedder.transform(DIGITS)
    assert capfd.readouterr() == ("", "")
    embedder.set_params(verbose=1).transform(DIGITS)
    shown = capfd.readouterr().err
    assert "Embedding: 100%" in shown
    assert "60/60" in shown
    assert "image/s" in shown
