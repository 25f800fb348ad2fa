"""Images -> one table of embeddings: every form, every option, each image once."""

import io
import os
import pickle
import subprocess
import sys
import textwrap

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from sklearn.base import clone
from sklearn.datasets import load_digits, load_sample_images
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

from sklearn_clipensemble import CLIPEmbedder
from sklearn_clipensemble.backbones import _model
from sklearn_clipensemble.backbones._model import Model, unload
from sklearn_clipensemble.embedding import clear_memory

TINY = ["tiny/RN-1221"]
PHOTOS = load_sample_images().images
DIGITS = (load_digits().images / 16)[:60]
LABELS = np.arange(60) % 6  # five folds of sixty images are meant, not digits


@pytest.fixture(autouse=True)
def fresh_memory():
    clear_memory()


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
        [Image.open(path)],
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


def test_decode_fast_is_near():
    big = encode(np.asarray(Image.fromarray(PHOTOS[0]).resize((1600, 1068))), "JPEG")
    exact = fp32().fit_transform([big]).to_numpy()
    fast = fp32(decode="fast").fit_transform([big]).to_numpy()
    assert np.abs(fast - exact).max() > 0
    assert (exact * fast).sum() > 0.99


def test_exif_transpose():
    exif = Image.Exif()
    exif[0x0112] = 6
    stored = PHOTOS[0]
    file = encode(stored, exif=exif)
    turned = np.rot90(stored, -1)
    embedder = fp32().fit(PHOTOS)
    as_stored, as_turned = embedder.transform([stored, turned]).to_numpy()
    np.testing.assert_allclose(embedder.transform([file]).to_numpy()[0], as_stored, atol=1e-6)
    embedder.set_params(exif_transpose=True)
    for source in [file, Image.open(io.BytesIO(file))]:
        np.testing.assert_allclose(embedder.transform([source]).to_numpy()[0], as_turned, atol=1e-6)


def test_backbones_that_preprocess_alike_share_one_decode(tmp_path, monkeypatch):
    from test_backbones import RESNET, make_folder

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
    clear_memory()
    alone = CLIPEmbedder(small[0], decode="fast", precision="fp32").fit_transform(files)
    np.testing.assert_allclose(fast.iloc[:, :16], alone, atol=1e-6)


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
    monkeypatch.setattr(Model, "__init__", lambda *args: pytest.fail("a model was loaded"))
    unload()
    pd.testing.assert_frame_equal(embedder.transform(DIGITS), first)


def test_cache_false_keeps_nothing(counted):
    embedder = CLIPEmbedder(TINY, cache=False).fit(DIGITS)
    embedder.transform(DIGITS)
    embedder.transform(DIGITS)
    assert sum(counted) == 120


def test_everything_that_changes_the_output_is_in_the_key(counted, tmp_path):
    from test_backbones import make_folder

    big = encode(PHOTOS[0], "JPEG")
    variants = [
        {},
        {"precision": "bf16"},
        {"decode": "fast"},
        {"exif_transpose": True},
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
    from test_backbones import make_folder

    other = make_folder(tmp_path / "other")
    CLIPEmbedder(TINY).fit_transform(DIGITS)
    CLIPEmbedder([*TINY, other]).fit_transform(DIGITS)
    assert sum(counted) == 120


def test_grid_search_embeds_each_image_once(counted):
    pipeline = make_pipeline(CLIPEmbedder(TINY), LogisticRegression(max_iter=1000))
    grid = {"logisticregression__C": [0.01, 0.1, 1, 10]}
    GridSearchCV(pipeline, grid, cv=5).fit(DIGITS, LABELS)
    assert sum(counted) == 60


class CountingEmbedder(CLIPEmbedder):
    """Writes down, in a file beside the cache, how many images the models of any process embed."""

    def transform(self, X):
        embed = Model.embed_images
        log = os.path.join(os.path.dirname(self.cache), "counts")

        def counting(model, pixels, device, precision):
            with open(log, "a") as file:
                file.write(f"{len(pixels)}\n")
            return embed(model, pixels, device, precision)

        Model.embed_images = counting
        try:
            return super().transform(X)
        finally:
            Model.embed_images = embed


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
    from test_backbones import make_folder

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
    from test_backbones import make_folder, official

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
        ValueError, match=r"settings \(open_clip_config.json\) of backbone 'changing'"
    ):
        embedder.transform(PHOTOS)


def forget(folder):
    """Move a folder away, as if it had never been on this machine."""
    folder.rename(folder.with_name("gone"))
    unload()


def test_pickle_with_weights_runs_where_they_are_not(tmp_path, monkeypatch):
    from test_backbones import make_folder

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
    from test_backbones import small_vit_b_32

    from sklearn_clipensemble.backbones import _weights

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user-cache"))
    small_vit_b_32(tmp_path, monkeypatch)
    embedder = CLIPEmbedder(["ViT-B-32/openai"], precision="fp32", store_weights=True)
    expected = embedder.fit_transform(PHOTOS)
    heavy = pickle.dumps(embedder)
    unload()
    clear_memory()
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
