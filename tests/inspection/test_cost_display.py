"""The picture of accuracy against cost."""

import matplotlib.pyplot as plt
import pytest
from instances import make_table

from sklearn_clipensemble import AdaptiveBackboneEnsemble
from sklearn_clipensemble.cost import cost_curve
from sklearn_clipensemble.inspection import CostDisplay

COSTS = {"m0": 1.0, "m1": 3.0, "m2": 9.0}


@pytest.fixture
def table():
    return make_table(12, widths=(6, 8, 8), noise=0.9)


def test_the_picture_shows_the_means_of_the_curve(table):
    X, y = table
    clf = AdaptiveBackboneEnsemble().fit(X, y)
    options = {"costs": COSTS, "n_repeats": 2, "random_state": 0}
    display = CostDisplay.from_estimator(clf, X, y, **options)
    scores = cost_curve(AdaptiveBackboneEnsemble(), X, y, **options)
    assert display.frame().equals(scores)
    means = scores.groupby(["method", "name"])[["gflops", "accuracy"]].mean()
    for method in ("subset", "cascade"):
        drawn = dict(zip(*display.lines_[method].get_data(), strict=True))
        for point in means.loc[method].itertuples():
            assert point.gflops in drawn
        assert drawn[13.0] == means.loc["all"].accuracy.iloc[0]
    assert display.ax_.get_xscale() == "log"
    assert {"m0", "m1", "m2"} <= {text.get_text() for text in display.ax_.texts}
    plt.close(display.figure_)


def test_scores_without_a_column_are_refused():
    with pytest.raises(ValueError, match="no column"):
        CostDisplay(make_table(2)[0]).plot()
