"""Every combiner and every head keeps scikit-learn's contract, with no exception made."""

import os
import subprocess
import sys
import textwrap

import joblib
import numpy as np
import pandas as pd
import polars as pl
import pytest
import sklearn
import torch
from instances import FORMS, SMALL, Y, array_side, small
from sklearn.utils._param_validation import InvalidParameterError
from sklearn.utils.estimator_checks import parametrize_with_checks

from sklearn_clipensemble import (
    AdaptiveBackboneEnsemble,
    CLIPEmbedder,
    Layout,
    ZeroShotLogits,
    ensembles,
)

# scikit-learn's checks that an estimator cannot pass, with the reason why.
EXPECTED_FAILURES: dict[str, dict[str, str]] = {}


# The checks hand over arrays without column names, which every one of our estimators warns of.
@pytest.mark.filterwarnings("ignore:X is an array without column names:UserWarning")
@parametrize_with_checks(
    [small(cls) for cls in array_side()],
    expected_failed_checks=lambda estimator: EXPECTED_FAILURES.get(type(estimator).__name__, {}),
)
def test_scikit_learn_checks(estimator, check):
    check(estimator)


@pytest.mark.parametrize("cls", array_side(), ids=lambda cls: cls.__name__)
def test_a_bare_array_warns_and_names_the_way_out(cls):
    rng = np.random.default_rng(0)
    y = np.arange(20) % 2
    X = rng.normal(size=(20, 3)) + y[:, None]
    with pytest.warns(UserWarning, match=r"X is an array without column names.*layout=Layout"):
        small(cls).fit(X, y)
    layout = Layout({"left": 2, "right": 1})
    assert list(small(cls).set_params(layout=layout).fit(X, y).backbones_) == ["left", "right"]


@pytest.mark.parametrize("cls", [*array_side(), CLIPEmbedder, ZeroShotLogits])
def test_every_parameter_is_validated_in_fit(cls):
    X = pd.DataFrame(
        {f"{b}__logit__{c}": [0.5, 1.0, 0.0, 2.0] for b in ("m", "n") for c in ("x", "y")}
    )
    assert set(cls._parameter_constraints) == set(cls().get_params())
    for name in cls().get_params():
        bad = cls().set_params(**{name: type("Bad", (), {})()})
        with pytest.raises(
            InvalidParameterError, match=rf"The '{name}' parameter of {cls.__name__} must be "
        ):
            bad.fit(X, ["x", "y", "x", "y"])


@pytest.mark.parametrize("cls", [AdaptiveBackboneEnsemble, ensembles.Vote])
def test_torch_tensors(cls):
    rng = np.random.default_rng(0)
    y = np.arange(30) % 3
    X = (rng.normal(size=(30, 2, 3)) + 2 * np.eye(3)[y][:, None]).astype(np.float32)
    expected = cls().fit(X, y).predict_proba(X)
    clf = cls().fit(torch.from_numpy(X), torch.from_numpy(y))
    proba = clf.predict_proba(torch.from_numpy(X))
    assert type(proba) is np.ndarray
    np.testing.assert_allclose(proba, expected)


def test_array_api_dispatch_gives_tensors_back():
    if sklearn.__version__.startswith("1.6."):
        pytest.importorskip("array_api_compat")  # later versions bring their own
    # In another process: SciPy reads the variable once, when it is imported.
    code = """
        import numpy as np, sklearn, torch
        from sklearn_clipensemble import AdaptiveBackboneEnsemble
        sklearn.set_config(array_api_dispatch=True)
        y = np.arange(30) % 3
        X = np.random.default_rng(0).normal(size=(30, 2, 3)) + 2 * np.eye(3)[y][:, None]
        here = AdaptiveBackboneEnsemble().fit(X, y)
        X_there, y_there = torch.from_numpy(X), torch.from_numpy(y)
        there = AdaptiveBackboneEnsemble().fit(X_there, y_there)
        for method in ("predict", "predict_proba", "predict_log_proba", "decision_function"):
            tensor = getattr(there, method)(X_there)
            assert isinstance(tensor, torch.Tensor) and tensor.device == X_there.device, method
            np.testing.assert_allclose(tensor.numpy(), getattr(here, method)(X))
        assert abs(there.score(X_there, y_there) - here.score(X, y)) < 1e-9
        words = AdaptiveBackboneEnsemble().fit(X_there, y.astype(str))
        assert words.predict(X_there).tolist() == here.predict(X).astype(str).tolist()
    """
    environment = {**os.environ, "SCIPY_ARRAY_API": "1"}
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], env=environment, check=True)


def test_all_are_found():
    assert {"AdaptiveBackboneEnsemble", "ProbabilityAverage"} < {c.__name__ for c in array_side()}
    assert set(SMALL) | set(EXPECTED_FAILURES) <= {cls.__name__ for cls in array_side()}


def test_tensors_in_bfloat16():
    logits = torch.from_numpy(np.random.default_rng(0).normal(size=(30, 2, 3))).bfloat16()
    clf = ensembles.ProbabilityAverage().fit(logits)
    np.testing.assert_array_equal(
        clf.predict_proba(logits), clf.predict_proba(logits.float().numpy())
    )


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("cls", array_side(), ids=lambda cls: cls.__name__)
def test_reading_changes_nothing(cls, form):
    X, layout = FORMS[form]
    clf = small(cls).set_params(layout=layout).fit(X, Y)
    before = joblib.hash(vars(clf))
    for method in (
        *("predict", "predict_proba", "predict_log_proba", "decision_function"),
        *("combination_weights", "n_asked"),
    ):
        if hasattr(clf, method):
            getattr(clf, method)(X)
            assert joblib.hash(vars(clf)) == before, method
    clf.score(X, Y)
    assert joblib.hash(vars(clf)) == before
    with pytest.raises(ValueError, match="X has the shape"):
        clf.predict(np.zeros((2, 2, 2, 2)))
    assert joblib.hash(vars(clf)) == before


def test_transforming_changes_nothing():
    images = np.random.default_rng(0).integers(256, size=(2, 40, 40, 3)).astype(np.uint8)
    embedder = CLIPEmbedder(["tiny/RN-1221"]).fit(images)
    before = joblib.hash(vars(embedder))
    table = embedder.transform(images)
    assert joblib.hash(vars(embedder)) == before
    step = ZeroShotLogits(["cat", "dog"]).fit(table)
    before = joblib.hash(vars(step))
    for X in (table, pl.from_pandas(table)):
        step.transform(X)
        assert joblib.hash(vars(step)) == before
