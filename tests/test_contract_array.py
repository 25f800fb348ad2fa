"""Every combiner and every head keeps scikit-learn's contract, with no exception made."""

import inspect

import numpy as np
import pytest
from sklearn.base import BaseEstimator
from sklearn.utils.estimator_checks import parametrize_with_checks

from sklearn_clipensemble import Layout, ensembles, heads

# Small settings for what is slow with its defaults; nothing else differs from them.
SMALL = {
    "MixtureOfExperts": {"max_epochs": 20},
    "NeuralLogitController": {"max_epochs": 5},
    "SoftmaxGate": {"max_epochs": 20},
}
# scikit-learn's checks that an estimator cannot pass, with the reason why.
EXPECTED_FAILURES: dict[str, dict[str, str]] = {}


def array_side():
    """Find every public estimator that takes a table."""
    found = {
        cls
        for module in (ensembles, heads)
        for cls in vars(module).values()
        if inspect.isclass(cls) and issubclass(cls, BaseEstimator) and not inspect.isabstract(cls)
    }
    return sorted(found, key=lambda cls: cls.__name__)


def small(cls):
    return cls(**SMALL.get(cls.__name__, {}))


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
    layout = Layout({"one": 2, "other": 1})
    assert list(small(cls).set_params(layout=layout).fit(X, y).backbones_) == ["one", "other"]


def test_all_are_found():
    assert {"AdaptiveBackboneEnsemble", "ProbabilityAverage"} < {c.__name__ for c in array_side()}
    assert set(SMALL) | set(EXPECTED_FAILURES) <= {cls.__name__ for cls in array_side()}
