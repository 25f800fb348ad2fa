"""What is saved is small, loads anywhere and predicts the same, and shows itself well."""

import inspect
import pickle
import re
import shutil
import subprocess
import sys
from pathlib import Path

import joblib
import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from sklearn.base import BaseEstimator, clone
from sklearn.datasets import load_digits
from sklearn.pipeline import make_pipeline

import sklearn_clipensemble
from sklearn_clipensemble import (
    AdaptiveBackboneEnsemble,
    CLIPEmbedder,
    ZeroShotLogits,
    ensembles,
    heads,
)
from sklearn_clipensemble.backbones import PRESETS, tiny

BACKBONES = ["tiny/RN-1221", "tiny/ConvNeXt-zepto"]
ZOO = Path(tiny.__file__).parent
NAMES = np.array(["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"])


def make():
    return make_pipeline(
        CLIPEmbedder(BACKBONES, precision="fp32"),
        ZeroShotLogits(),
        AdaptiveBackboneEnsemble(random_state=0),
    )


@pytest.fixture(scope="module")
def images():
    data = load_digits()
    return data.images[:160] / 16, NAMES[data.target[:160]]


@pytest.fixture(scope="module")
def fitted(images):
    X, y = images
    return make().fit(X[:100], y[:100])


@pytest.fixture(scope="module")
def table(images):
    X, y = images
    return make()[:2].fit_transform(X, y)


def dump_cloudpickle(estimator, path):
    import cloudpickle

    path.write_bytes(cloudpickle.dumps(estimator))


def dump_skops(estimator, path):
    import skops.io

    skops.io.dump(estimator, path)


DUMP = {
    "pickle": lambda estimator, path: path.write_bytes(pickle.dumps(estimator)),
    "joblib": joblib.dump,
    "cloudpickle": dump_cloudpickle,
    "skops": dump_skops,
}
FRESH = """
import pickle, sys
from pathlib import Path
import joblib, numpy as np
folder = Path(sys.argv[1])
X = np.load(folder / "X.npy")
for kind in ("pickle", "joblib", "cloudpickle", "skops"):
    path = folder / kind
    if not path.exists():
        continue
    if kind == "joblib":
        clf = joblib.load(path)
    elif kind == "skops":
        import skops.io
        clf = skops.io.load(path, trusted=skops.io.get_untrusted_types(file=path))
    else:
        clf = pickle.loads(path.read_bytes())
    np.save(folder / f"{kind}.npy", clf.predict_proba(X))
"""


def test_small_and_the_same_in_a_fresh_process(fitted, images, tmp_path):
    X = images[0][100:]
    np.save(tmp_path / "X.npy", X)
    kinds = []
    for kind, dump in DUMP.items():
        try:
            dump(fitted, tmp_path / kind)
        except ImportError:
            continue
        kinds.append(kind)
        assert (tmp_path / kind).stat().st_size < 1_000_000
    assert {"pickle", "joblib"} <= set(kinds)
    subprocess.run([sys.executable, "-c", FRESH, tmp_path], check=True)
    for kind in kinds:
        np.testing.assert_allclose(
            np.load(tmp_path / f"{kind}.npy"), fitted.predict_proba(X), atol=1e-5
        )


def test_unfitted(images):
    X, y = images
    again = pickle.loads(pickle.dumps(make()))
    np.testing.assert_allclose(
        again.fit(X[:50], y[:50]).predict_proba(X), make().fit(X[:50], y[:50]).predict_proba(X)
    )


ARRAY_SIDE = sorted(
    {
        cls
        for module in (ensembles, heads)
        for cls in vars(module).values()
        if inspect.isclass(cls) and issubclass(cls, BaseEstimator) and not inspect.isabstract(cls)
    },
    key=lambda cls: cls.__name__,
)


@pytest.mark.parametrize("cls", ARRAY_SIDE, ids=lambda cls: cls.__name__)
def test_every_combiner_and_head(cls, table, images):
    y = images[1]
    clf = cls()
    if "n_steps" in clf.get_params():
        clf.set_params(n_steps=5)
    clf.fit(table[:100], y[:100])
    expected = clf.predict_proba(table)
    content = pickle.dumps(clf)
    # Fitted state is arrays: no tensor and no module, so that it loads on any device.
    assert b"torch" not in content
    np.testing.assert_array_equal(pickle.loads(content).predict_proba(table), expected)
    skops_io = pytest.importorskip("skops.io")
    content = skops_io.dumps(clf)
    types = skops_io.get_untrusted_types(data=content)
    assert all(name.startswith("sklearn_clipensemble.") for name in types)
    again = skops_io.loads(content, trusted=types)
    np.testing.assert_array_equal(again.predict_proba(table), expected)


FIXTURES = sorted((Path(__file__).parent / "fixtures").glob("*.joblib"))


# scikit-learn warns where it is another version itself, and so do we where the device it was fitted
# on is missing; what counts is that the answers stay.
@pytest.mark.filterwarnings("ignore:device=.* is not available here:UserWarning")
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.InconsistentVersionWarning")
@pytest.mark.parametrize("path", FIXTURES, ids=lambda path: path.name)
def test_pickles_of_earlier_versions_answer_the_same(path):
    content = joblib.load(path)
    images = load_digits().images[100:160] / 16
    np.testing.assert_allclose(
        content["pipeline"].predict_proba(images), content["proba"], atol=0.01
    )
    assert path.stat().st_size < 1_000_000


def test_there_is_a_pickle_of_this_release():
    release = ".".join(sklearn_clipensemble.__version__.split(".")[:2])
    assert f"fitted-pipeline-{release}.joblib" in [path.name for path in FIXTURES]


def test_skops_list_is_the_documented_one(fitted):
    skops_io = pytest.importorskip("skops.io")
    page = Path(__file__).parents[1] / "docs" / "persistence.md"
    documented = re.findall(r"^sklearn_clipensemble\.[\w.]+$", page.read_text(), re.MULTILINE)
    assert skops_io.get_untrusted_types(data=skops_io.dumps(fitted)) == sorted(documented)


def copy(folder):
    """Make a backbone of the user's own, in a folder; its name is its id."""
    return Path(shutil.copytree(ZOO / "RN-1221", folder))


def test_other_weights_of_the_same_name_are_refused(images, tmp_path):
    X, y = images
    folder = copy(tmp_path / "changing-clip")
    clf = make().set_params(clipembedder__backbones=[f"local-dir:{folder}"]).fit(X, y)
    content = pickle.dumps(clf)
    expected = clf.predict(X)
    np.testing.assert_array_equal(pickle.loads(content).predict(X), expected)
    before = clf[0].fingerprints_["changing-clip"]

    path = folder / "open_clip_model.safetensors"
    weights = load_file(path)
    save_file({**weights, "logit_scale": np.zeros_like(weights["logit_scale"])}, path)
    with pytest.raises(ValueError, match=rf"'changing-clip' have changed.*with {before}"):
        pickle.loads(content).predict(X)
    assert clf.fit(X, y)[0].fingerprints_["changing-clip"] != before


@pytest.mark.parametrize("device", ["cuda", "cuda:7", "mps", "xpu"])
def test_a_device_that_is_missing_where_it_is_loaded(fitted, images, monkeypatch, device):
    X, y = images
    expected = fitted.predict_proba(X)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: device == "cuda:7")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    there = pickle.loads(pickle.dumps(fitted)).set_params(clipembedder__device=device)
    loaded = pickle.loads(pickle.dumps(there))
    with pytest.warns(UserWarning, match=f"device='{device}' is not available here.*on the CPU"):
        found = loaded.predict_proba(X)
    np.testing.assert_allclose(found, expected, atol=2e-2)
    with pytest.raises(ValueError, match=f"device='{device}' is not available here"):
        clone(there).fit(X, y)


def test_weights_that_are_gone_are_named(images, tmp_path):
    X, y = images
    folder = copy(tmp_path / "vanishing-clip")
    clf = make().set_params(clipembedder__backbones=[f"local-dir:{folder}"]).fit(X, y)
    content = pickle.dumps(clf)
    shutil.rmtree(folder)
    with pytest.raises(FileNotFoundError, match="vanishing-clip"):
        pickle.loads(content).predict(X)


def test_repr_is_short_and_html_shows_the_backbones(fitted):
    assert repr(CLIPEmbedder("tiny")) == "CLIPEmbedder(backbones='tiny')"
    assert repr(fitted[1]) == "ZeroShotLogits()"
    assert len(repr(fitted)) < 400
    html = fitted._repr_html_()
    for backbone in BACKBONES:
        assert backbone in html
    assert "AdaptiveBackboneEnsemble" in html
    of_preset = CLIPEmbedder("tiny")._repr_html_()
    for backbone in PRESETS["tiny"]:
        assert backbone in of_preset
    assert "CLIPEmbedder" in CLIPEmbedder(["no such backbone"])._repr_html_()
