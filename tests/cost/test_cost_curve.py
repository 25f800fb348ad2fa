"""Accuracy beside cost, as numbers."""

import numpy as np
import pytest
from instances import make_table

from sklearn_clipensemble import AdaptiveBackboneEnsemble
from sklearn_clipensemble.cost import cost_curve

COSTS = {"m0": 1.0, "m1": 3.0, "m2": 9.0}


@pytest.fixture(scope="module")
def table():
    return make_table(20, widths=(6, 8, 8), noise=0.9)


def test_every_method_is_scored_on_every_draw(table):
    X, y = table
    scores = cost_curve(
        AdaptiveBackboneEnsemble(),
        X,
        y,
        costs=COSTS,
        n_repeats=2,
        tolerances=(0, 1),
        random_state=0,
    )
    assert set(scores.method) == {"backbone", "subset", "cascade", "all"}
    assert (scores.groupby(["method", "name"]).repeat.nunique() == 2).all()
    assert scores.accuracy.between(0, 1).all()
    alone = scores[scores.method == "backbone"]
    assert dict(zip(alone.name, alone.gflops, strict=True)) == COSTS
    whole = scores[scores.method == "all"].set_index("repeat")
    assert (whole.gflops == 13).all()
    never, always = (
        scores[(scores.method == "cascade") & (scores.name == t)].set_index("repeat")
        for t in (0, 1)
    )
    np.testing.assert_allclose(never.gflops, 13)
    np.testing.assert_array_equal(never.accuracy, whole.accuracy)
    np.testing.assert_allclose(always.gflops, 1)
    cheapest = alone[alone.name == "m0"].set_index("repeat")
    np.testing.assert_array_equal(always.accuracy, cheapest.accuracy)
    subset = scores[scores.method == "subset"]
    assert (subset.name == 2).all()
    assert subset.gflops.between(4, 12).all()


def test_draws_are_the_same_for_one_random_state(table):
    X, y = table
    options = {"costs": COSTS, "n_repeats": 1, "tolerances": [0.01]}
    first, again = (
        cost_curve(AdaptiveBackboneEnsemble(), X, y, random_state=3, **options) for _ in range(2)
    )
    assert first.equals(again)


def test_what_cannot_be_scored_is_refused(table):
    X, y = table
    clf = AdaptiveBackboneEnsemble()
    with pytest.raises(TypeError, match="does not say whose columns"):
        cost_curve(clf, X.to_numpy(), y, costs=COSTS)
    with pytest.raises(ValueError, match="'m0' costs is not known here"):
        cost_curve(clf, X, y)
    with pytest.raises(ValueError, match="n_shots"):
        cost_curve(clf, X, y, costs=COSTS, n_shots=0)
    with pytest.raises(ValueError, match="20"):
        cost_curve(clf, X, y, costs=COSTS, n_shots=20)
