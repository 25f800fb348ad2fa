"""The picture of accuracy against cost."""

import itertools

import matplotlib.pyplot as plt
import pandas as pd
import pytest
from instances import make_table

from sklearn_clipensemble import AdaptiveBackboneEnsemble
from sklearn_clipensemble.cost import cost_curve
from sklearn_clipensemble.ensembles import ProbabilityAverage
from sklearn_clipensemble.inspection import CostDisplay, report

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


def test_names_of_backbones_that_cost_the_same_can_be_read():
    rows = [("backbone", f"backbone {i}", 8.8 + i / 10, 0.7 + i / 1000) for i in range(5)]
    rows += [("cascade", 0.1, 20.0, 0.8), ("all", 5, 60.0, 0.81)]
    scores = pd.DataFrame(rows, columns=["method", "name", "gflops", "accuracy"])
    display = CostDisplay(scores).plot()
    display.figure_.canvas.draw()
    boxes = [text.get_window_extent() for text in display.ax_.texts]
    assert len(boxes) == 5
    assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))
    legend = display.ax_.get_legend().get_window_extent()
    assert not legend.overlaps(display.ax_.get_window_extent())
    plt.close(display.figure_)


def test_the_report_has_it_for_backbones_that_are_known(table, tmp_path):
    X, y = table
    page = report(
        AdaptiveBackboneEnsemble().fit(X, y), X, y, tmp_path / "unknown.html", n_repeats=1
    )
    assert "Left out: What the backbone &#39;m0&#39; costs is not known" in page.read_text("utf-8")
    ids = {"m0": "timm:resnet18.a1_in1k", "m1": "ViT-B-32/openai", "m2": "ViT-L-14/openai"}
    X = X.rename(columns=lambda name: ids[name[:2]] + name[2:])
    X = X[[name for name in X if not name.startswith("timm:resnet18.a1_in1k__logit")]]
    with pytest.warns(UserWarning, match="combines zero-shot answers"):
        average = ProbabilityAverage().fit(X, y)
    page = report(average, X, y, tmp_path / "known.html", n_repeats=1)  # where no fit warns of it
    assert "of the cost." in page.read_text("utf-8")


def test_scores_without_a_column_are_refused():
    with pytest.raises(ValueError, match="no column"):
        CostDisplay(make_table(2)[0]).plot()
