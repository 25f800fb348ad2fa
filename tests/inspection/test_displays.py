"""The Displays, on made-up tables of every size that has to be legible."""

import io
import os
import subprocess
import sys
from itertools import combinations, pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageFilter, PngImagePlugin
from scipy.special import softmax

from sklearn_clipensemble import Layout, inspection
from sklearn_clipensemble.corruptions import CORRUPTIONS
from sklearn_clipensemble.ensembles import AdaptiveBackboneEnsemble, ProbabilityAverage, Vote
from sklearn_clipensemble.inspection import (
    ContactSheetDisplay,
    DisagreementDisplay,
    OverlapDisplay,
    ReliabilityDisplay,
    RobustnessDisplay,
    ShotCurveDisplay,
    WeightsDisplay,
    calibration_table,
    cka_matrix,
    disagreement,
    overlap,
)
from sklearn_clipensemble.inspection._plot import _style
from sklearn_clipensemble.model_selection import shot_curve

matplotlib = pytest.importorskip("matplotlib")
import matplotlib.pyplot as plt  # noqa: E402
from matplotlib.text import Text  # noqa: E402

BACKBONES = [
    *("RN50/openai", "ViT-B-32/openai", "RN101/openai", "ViT-B-16/openai", "RN50x4/openai"),
    *("RN50x16/openai", "RN50x64/openai", "ViT-L-14/openai", "ViT-L-14-336/openai"),
]
SIZES = [(2, 2), (5, 10), (9, 200)]


@pytest.fixture(autouse=True)
def _style_is_left_alone():
    before = dict(plt.rcParams)
    yield
    plt.close("all")
    assert dict(plt.rcParams) == before


def make_table(n_backbones, n_classes, n_samples=120, seed=0):
    """Backbones that see the truth through common and private noise; long names of classes."""
    rng = np.random.default_rng(seed)
    classes = [f"class number {i}, also called the {i}th" for i in range(n_classes)]
    codes = np.arange(n_samples) % n_classes
    common = rng.normal(size=(n_samples, n_classes))
    logits = [
        8 * np.eye(n_classes)[codes] + 3 * common + 4 * rng.normal(size=common.shape)
        for _ in range(n_backbones)
    ]
    layout = Layout(dict.fromkeys(BACKBONES[:n_backbones], 0), classes)
    X = pd.DataFrame(np.hstack(logits).astype(np.float32), columns=layout.names)
    return X, np.array(classes)[codes]


@pytest.fixture(params=SIZES, ids=lambda size: f"{size[0]} backbones, {size[1]} classes")
def fitted(request):
    X, y = make_table(*request.param)
    return AdaptiveBackboneEnsemble().fit(X[:40], y[:40]), X, y


def boxes_of_texts(figure):
    """Return every text that is drawn and the box that it fills, in pixels."""
    figure.draw_without_rendering()
    unseen = set()
    for ax in figure.axes:
        for axis, (low, high) in (
            (ax.xaxis, ax.viewLim.intervalx),
            (ax.yaxis, ax.viewLim.intervaly),
        ):
            # Ticks beyond the limits, and those of axes that are switched off, are not drawn.
            ticks = axis.get_major_ticks() + axis.get_minor_ticks()
            unseen |= {
                label
                for tick in ticks
                for label in (tick.label1, tick.label2)
                if not (ax.axison and min(low, high) <= tick.get_loc() <= max(low, high))
            }
    texts = [t for t in figure.findobj(Text) if t.get_visible() and t.get_text().strip()]
    # An annotation's own extent includes its arrow.
    return [(t, Text.get_window_extent(t)) for t in texts if t not in unseen]


def overlapping_texts(figure, margin=1.0):
    """Return the pairs of texts whose boxes overlap by more than a margin in pixels."""
    found = []
    for (first, a), (second, b) in combinations(boxes_of_texts(figure), 2):
        width = min(a.x1, b.x1) - max(a.x0, b.x0)
        height = min(a.y1, b.y1) - max(a.y0, b.y0)
        if width > margin and height > margin and not side_by_side(first, second):
            found.append((first.get_text(), second.get_text()))
    return found


def side_by_side(first, second):
    """Whether two texts at the same slant lie beside each other although their boxes overlap."""
    slant = first.get_rotation()
    if slant != second.get_rotation() or slant % 90 == 0:
        return False
    places = [t.get_transform().transform(t.get_unitless_position()) for t in (first, second)]
    along = np.array([-np.sin(np.radians(slant)), np.cos(np.radians(slant))])
    apart = abs((places[1] - places[0]) @ along)
    return apart > first.get_fontsize() * first.figure.dpi / 72


def texts_outside(figure):
    """Return the texts that are cut off by the figure's edge."""
    low, high = figure.bbox.min - 1, figure.bbox.max + 1
    return [
        t for t, box in boxes_of_texts(figure) if (box.min < low).any() or (box.max > high).any()
    ]


def assert_legible(figure):
    assert overlapping_texts(figure) == []
    assert texts_outside(figure) == []


# What the Displays share


def test_names_are_shortened_and_stay_different():
    assert _style.shorten(["RN50/openai", "ViT-B-32/openai", "oracle"]) == [
        "RN50", "ViT-B-32", "oracle",
    ]  # fmt: skip
    assert _style.shorten(["tiny/RN", "tiny/ViT", "oracle"]) == ["RN", "ViT", "oracle"]
    assert _style.shorten(["RN50/openai", "ViT/yfcc15m"]) == ["RN50/openai", "ViT/yfcc15m"]
    assert _style.shorten(["RN50/openai", "RN50/yfcc15m"]) == ["openai", "yfcc15m"]
    assert _style.shorten(["goldfish, Carassius auratus"]) == ["goldfish"]
    assert _style.shorten(["$5 or $6"]) == [r"\$5 or \$6"]
    long = _style.shorten([f"a very long name of a class, {i}" for i in range(12)], 12)
    assert len(set(long)) == 12
    assert max(map(len, long)) <= 12
    # What long names share is cut first, so that what tells them apart is read.
    signs = [f"speed limit {n} km per hour traffic sign" for n in (20, 30, 120)]
    assert _style.shorten(signs) == ["…20…", "…30…", "…120…"]
    signs += ["stop traffic sign", "priority at the next crossing traffic sign"]
    for name in _style.shorten(signs, 14)[:3]:
        assert any(n in name for n in ("20", "30", "120"))
        assert "~" not in name
    assert _style.shorten(["cat of the neighbours", "dog"]) == ["cat of the n…bours", "dog"]


def contrast(colour, ground="white"):
    """Return the contrast of two colours as WCAG defines it."""
    channels = np.array([matplotlib.colors.to_rgb(c) for c in (colour, ground)])
    linear = np.where(channels <= 0.03928, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    low, high = np.sort(linear @ [0.2126, 0.7152, 0.0722])
    return (high + 0.05) / (low + 0.05)


def test_what_is_written_can_be_read():
    assert min(map(contrast, _style.colours(range(9)).values())) >= 4.5
    assert min(map(contrast, (_style.INK, _style.QUIET, _style.RIGHT, _style.WRONG))) >= 4.5
    X, y = make_table(3, 4)
    clf = AdaptiveBackboneEnsemble().fit(X[:40], y[:40])
    sheet = ContactSheetDisplay.from_estimator(clf, X, y, images=make_images(120))
    bars = sheet.ax_.patches
    assert bars
    for bar in bars:
        ground = 1 - bar.get_alpha() * (1 - np.array(bar.get_facecolor()[:3]))
        texts = [t for t in sheet.ax_.texts if abs(t.get_position()[1] - bar.get_y()) < 14]
        assert min(contrast(text.get_color(), ground) for text in texts) >= 4.5


def test_numbers_of_a_heatmap_can_be_read():
    weights = pd.DataFrame(np.linspace(0.05, 0.95, 60).reshape(20, 3), columns=list("abc"))
    display = WeightsDisplay.from_weights(weights, np.arange(20))
    axes, image = display.axes_[1], display.axes_[1].images[0]
    grounds = image.cmap(image.norm(image.get_array()))
    for text in axes.texts:
        column, row = text.get_position()
        assert contrast(text.get_color(), grounds[row, column, :3]) >= 4.5


def test_what_a_phone_shows_can_be_read(fitted):
    estimator, X, y = fitted
    answers = inspection.Answers.from_estimator(estimator, X, y)
    for Display in (WeightsDisplay, OverlapDisplay, DisagreementDisplay, ReliabilityDisplay):
        display = Display.from_answers(answers)
        height = display.figure_.get_size_inches()[1]
        if Display is ReliabilityDisplay:  # its legend goes below
            height += 0.17 * len(answers.table.backbones)
        narrow = plt.figure(figsize=(3.8, height), layout="constrained")
        display.plot(narrow.add_subplot())
        assert_legible(narrow)


def test_long_names_leave_a_phone_room_for_the_title():
    weights = pd.DataFrame(np.eye(5).repeat(8, axis=0), columns=BACKBONES[:5])
    names = [f"{'name ' * 4} {i}" for i in range(40)]
    narrow = plt.figure(figsize=(3.8, 8), layout="constrained")
    display = WeightsDisplay(weights, names).plot(narrow.add_subplot())
    assert_legible(narrow)
    assert "25 of 40" in display.axes_[1].get_title(loc="left")


@pytest.mark.parametrize("width", [3.8, 6])
def test_names_below_a_heatmap_stay_apart(width):
    weights = pd.DataFrame(np.eye(5), columns=BACKBONES[:5])
    figure = plt.figure(figsize=(width, 4), layout="constrained")
    display = WeightsDisplay(weights, list("abcde")).plot(figure.add_subplot())
    figure.canvas.draw()
    names = display.axes_[1].get_xticklabels()
    if names[0].get_rotation() == 0:
        boxes = [name.get_window_extent() for name in names]
        assert all(left.x1 + 2 < right.x0 for left, right in pairwise(boxes))


def test_names_of_points_stay_inside_the_axes():
    figure = plt.figure(figsize=(3.8, 3), layout="constrained")
    ax = figure.add_subplot()
    ax.set(xlim=(0, 1), ylim=(0, 1), xticks=[0, 1], yticks=[0, 0.5, 1])
    names = ["the first of many backbones", "the last of many backbones", "between", "above"]
    _style.label_points(ax, names, [0.02, 0.98, 0.5, 0.5], [0.02, 0.98, 0.5, 0.53])
    figure.canvas.draw()
    inside = ax.get_window_extent()
    points = ax.transData.transform([[0.02, 0.02], [0.98, 0.98], [0.5, 0.5], [0.5, 0.53]])
    for text in ax.texts:
        box = text.get_window_extent()
        assert not any(box.contains(*point) for point in points)  # nor do they cover a point
        assert inside.x0 <= box.x0
        assert box.x1 <= inside.x1
        assert inside.y0 <= box.y0
        assert box.y1 <= inside.y1


def test_labels_are_spread_as_little_as_possible():
    assert _style.spread([1, 5, 9], 2, 0, 10).tolist() == [1, 5, 9]
    assert _style.spread([5, 5.0, 9], 2, 0, 10).tolist() == [4, 6, 9]
    assert _style.spread([9, 9, 9], 2, 0, 10).tolist() == [6, 8, 10]
    assert _style.spread([3, 1, 2], 5, 0, 10).tolist() == [10, 0, 5]
    assert _style.spread(np.zeros(11), 2, 0, 10).tolist() == list(range(11))


# Shot curve


def make_scores(n_baselines):
    curves = {
        "adaptive": {1: [0.61, 0.64], 4: [0.70, 0.71], 16: [0.79, 0.80]},
        "logistic regression": {1: [0.40, 0.47], 4: [0.62, 0.63], 16: [0.76, 0.77]},
        "stack": {4: [0.62, 0.64], 16: [0.765, 0.77]},
    }
    return curves | {name: {0: [0.6]} for name in BACKBONES[:n_baselines]}


@pytest.mark.parametrize("n_baselines", [0, 2, 9])
def test_shot_curve(n_baselines):
    display = ShotCurveDisplay.from_scores(make_scores(n_baselines))
    assert display.ax_.figure is display.figure_
    assert list(display.lines_["stack"].get_xdata()) == [1, 2]
    assert display.lines_["adaptive"].get_ydata() == pytest.approx([0.625, 0.705, 0.795])
    assert [tick.get_text() for tick in display.ax_.get_xticklabels()] == ["1", "4", "16"]
    assert_legible(display.figure_)


def test_shot_curve_takes_a_table_and_axes():
    table = pd.DataFrame({"method": "a", "shots": [1, 1, 2], "score": [0.2, 0.4, 0.5]})
    _, ax = plt.subplots()
    display = ShotCurveDisplay.from_scores(table, ax=ax, score_name="Balanced accuracy")
    assert display.ax_ is ax
    assert ax.get_ylabel() == "Balanced accuracy"
    assert display.lines_["a"].get_ydata() == pytest.approx([0.3, 0.5])


def test_shot_curve_measures():
    X, y = make_table(2, 3, 60)
    display = ShotCurveDisplay.from_estimator(
        AdaptiveBackboneEnsemble(), X, y, shots=[1, 4], n_repeats=2, random_state=0,
        baselines=[ProbabilityAverage()],
    )  # fmt: skip
    expected = shot_curve(
        AdaptiveBackboneEnsemble(), X, y, [1, 4], n_repeats=2, random_state=0
    )  # fmt: skip
    means = expected.groupby("shots")["score"].mean()
    assert display.lines_["AdaptiveBackboneEnsemble"].get_ydata() == pytest.approx(means)
    # What takes no labels is a dashed line.
    assert display.lines_["ProbabilityAverage"].is_dashed()
    assert not display.lines_["AdaptiveBackboneEnsemble"].is_dashed()


def test_shot_curve_says_what_is_wrong():
    with pytest.raises(ValueError, match="no column 'shots'"):
        ShotCurveDisplay.from_scores(pd.DataFrame({"method": ["a"], "score": [1.0]}))
    with pytest.raises(ValueError, match="more than 0 shots"):
        ShotCurveDisplay.from_scores({"a": {0: [0.5]}})
    with pytest.raises(ValueError, match="'b' is none of the methods"):
        ShotCurveDisplay.from_scores({"a": {1: [0.5]}}, highlight="b")


# Contact sheet


def make_images(n):
    """Pictures of every form: tall, wide, grey."""
    rng = np.random.default_rng(0)
    shapes = [(40, 60, 3), (60, 20, 3), (8, 8)]
    return [rng.integers(256, size=shapes[i % 3]).astype(np.uint8) for i in range(n)]


@pytest.mark.parametrize("show", ["disagreement", "rescued", "failed"])
def test_contact_sheet(fitted, show):
    estimator, X, y = fitted
    display = ContactSheetDisplay.from_estimator(
        estimator, X, y, images=make_images(len(X)), show=show, n_images=7
    )
    assert len(display.images) <= 7
    right = np.asarray(display.combined) == display.y
    assert not (show == "failed" and right.any())
    assert not (show == "rescued" and not right.all())
    assert display.ax_.get_title() == ""
    assert_legible(display.figure_)


def test_contact_sheet_shows_what_the_estimator_says():
    X, y = make_table(5, 10)
    estimator = AdaptiveBackboneEnsemble().fit(X[:40], y[:40])
    display = ContactSheetDisplay.from_estimator(
        estimator, X, y, images=make_images(len(X)), show=[7, 3]
    )
    assert display.combined.tolist() == estimator.predict(X)[[7, 3]].tolist()
    weights = estimator.combination_weights(X).to_numpy()[[7, 3]]
    assert np.allclose(display.weights, weights)
    assert np.allclose(
        display.confidence["combined"], estimator.predict_proba(X).max(axis=1)[[7, 3]]
    )
    drawn = [t.get_text() for t in display.ax_.texts]
    assert drawn.count("Ensemble") == 2
    assert drawn.count("✓") + drawn.count("✗") == 2 * 6


def test_contact_sheet_without_labels_or_logits():
    answers = {"a": ["x", "x", "y"], "b": ["y", "x", "x"], "c": ["z", "x", "y"]}
    display = ContactSheetDisplay.from_predictions(answers, images=make_images(3))
    # The second image is left out: all agree on it.
    assert display.answers.to_numpy().tolist() == [["x", "y", "z"], ["y", "x", "y"]]
    assert not {"✓", "✗"} & {t.get_text() for t in display.ax_.texts}
    assert_legible(display.figure_)


def test_contact_sheet_rescues_only_from_a_wrong_vote():
    answers = {"a": ["x", "x"], "b": ["x", "y"], "c": ["y", "z"]}
    display = ContactSheetDisplay.from_predictions(
        answers, ["y", "y"], y_pred=["y", "y"], images=make_images(2), show="rescued"
    )
    assert display.answers.to_numpy().tolist() == [["x", "x", "y"]]


def test_contact_sheet_takes_turns_among_classes():
    answers = {"a": list("xxxxyy"), "b": list("yyyyxx")}
    display = ContactSheetDisplay.from_predictions(
        answers, list("xxxxyy"), images=make_images(6), n_images=4
    )
    assert display.y.tolist() == ["x", "y", "x", "y"]


def test_contact_sheet_with_nothing_to_show():
    display = ContactSheetDisplay.from_predictions(
        {"a": ["x", "y"], "b": ["x", "y"]}, ["x", "y"], images=make_images(2), show="failed"
    )
    assert "There is no such image." in [t.get_text() for t in display.ax_.texts]


def test_contact_sheet_says_what_is_wrong():
    answers = {"a": ["x", "y"], "b": ["x", "y"]}
    with pytest.raises(ValueError, match="3 images and 2 rows"):
        ContactSheetDisplay.from_predictions(answers, images=make_images(3))
    with pytest.raises(ValueError, match="show='best'"):
        ContactSheetDisplay.from_predictions(answers, images=make_images(2), show="best")
    with pytest.raises(ValueError, match="pass y"):
        ContactSheetDisplay.from_predictions(answers, images=make_images(2), show="failed")


@pytest.mark.parametrize("nested", [False, True])
def test_curve_and_sheet_side_by_side(nested):
    X, y = make_table(5, 10)
    estimator = AdaptiveBackboneEnsemble().fit(X[:40], y[:40])
    figure = plt.figure(figsize=(15, 6), layout="constrained")
    if nested:
        left, right = (sub.subplots() for sub in figure.subfigures(1, 2))
    else:
        left, right = figure.subplots(1, 2)
    ShotCurveDisplay.from_scores(make_scores(5), ax=left)
    ContactSheetDisplay.from_estimator(estimator, X, y, images=make_images(120), ax=right)
    assert_legible(figure)


# Overlap


def test_overlap(fitted):
    estimator, X, y = fitted
    display = OverlapDisplay.from_estimator(estimator, X, y)
    assert display.regions.equals(overlap(X, y))
    assert_legible(display.figure_)


def test_circles_are_proportional():
    rng = np.random.default_rng(0)
    correct = rng.random((3000, 3)) < [0.7, 0.5, 0.4]
    correct[:, 2] &= rng.random(3000) < np.where(correct[:, 0], 0.4, 0.9)
    display = OverlapDisplay.from_predictions(correct)
    circles = display.ax_.patches[::2]
    x, y = np.random.default_rng(0).uniform(-60, 60, size=(2, 400_000))
    inside = np.array([np.hypot(x - c.center[0], y - c.center[1]) < c.radius for c in circles])
    area = 120**2 * np.einsum("ai,bi->ab", inside * 1.0, inside * 1.0) / len(x)
    counts = correct.T.astype(float) @ correct
    assert np.allclose(area, counts, rtol=0.04)
    # Every region carries its number.
    drawn = {t.get_text() for t in display.ax_.texts}
    assert {f"{n:,}" for region, n in display.regions.items() if any(region)} <= drawn


@pytest.mark.parametrize(
    "correct",
    [
        np.array([[True, True], [True, True], [False, False]]),  # the same set twice
        np.array([[True, False], [True, True], [True, False]]),  # one inside the other
        np.array([[True, False], [False, True], [True, False]]),  # apart
        np.array([[False, False, False], [True, False, False]]),  # empty sets
        np.array([[True, True, True]]),
        np.array([[False, False, False, False]]),
        np.ones((4, 5), dtype=bool),
        np.array([[True], [False]]),
    ],
)
def test_overlap_of_strange_sets(correct):
    display = OverlapDisplay.from_predictions(correct)
    display.figure_.draw_without_rendering()
    oracle = 100 * correct.any(axis=1).mean()
    titles = [ax.get_title(loc="left") for ax in display.figure_.axes]
    assert any(f"{oracle:.1f}%" in title for title in titles)


def test_matrix_says_when_groups_are_left_out():
    correct = np.random.default_rng(0).random((500, 6)) < 0.5
    display = OverlapDisplay.from_predictions(correct, max_columns=7)
    bars = display.axes_[0, 1]
    assert len(bars.patches) == 7
    assert "(7 largest of 64 groups)" in bars.get_title(loc="left")
    assert [bar.get_height() for bar in bars.patches] == display.regions.tolist()[:7]


# Weights


def test_weights(fitted):
    estimator, X, y = fitted
    display = WeightsDisplay.from_estimator(estimator, X, y)
    assert display.weights.equals(estimator.combination_weights(X))
    assert len(display.axes_[1].get_yticklabels()) == min(len(np.unique(y)), 25)
    assert_legible(display.figure_)


def test_weights_are_means_by_class():
    weights = pd.DataFrame({"a": [0.2, 0.4, 0.9], "b": [0.8, 0.6, 0.1]})
    display = WeightsDisplay.from_weights(weights, ["x", "x", "y"])
    drawn = display.axes_[1].images[0].get_array()
    assert drawn.tolist() == [pytest.approx([0.9, 0.1]), pytest.approx([0.3, 0.7])]
    assert [t.get_text() for t in display.axes_[1].get_yticklabels()] == ["y", "x"]
    assert len(WeightsDisplay.from_weights(weights).axes_) == 1
    assert_legible(display.figure_)


def test_weights_need_weights():
    X, y = make_table(2, 2)
    with pytest.raises(TypeError, match="Vote has no combination_weights"):
        WeightsDisplay.from_estimator(Vote().fit(X, y), X, y)


# Reliability


def test_reliability(fitted):
    estimator, X, y = fitted
    display = ReliabilityDisplay.from_estimator(estimator, X, y)
    table = calibration_table(X, y, estimator=estimator)
    assert display.errors == pytest.approx(table["ece"].to_dict())
    assert display.combined == ["AdaptiveBackboneEnsemble"]
    assert_legible(display.figure_)


def test_reliability_has_bins_of_equal_count_and_a_band():
    rng = np.random.default_rng(0)
    proba = softmax(3 * rng.normal(size=(150, 3)), axis=1)
    y = np.array([rng.choice(3, p=p) for p in proba])
    display = ReliabilityDisplay.from_predictions({"m": proba}, y)
    bins = display.bins["m"]
    assert bins["n_images"].min() >= 15
    assert np.ptp(bins["n_images"]) <= 1
    assert len(display.ax_.collections) >= 1
    low, high = display.bands["m"]
    assert (low < bins["accuracy"]).all() or (bins["accuracy"] == 0).any()
    assert (high > low + 0.05).all()
    # Few images make few bins, and one that is thin is not drawn.
    few = ReliabilityDisplay.from_predictions({"m": proba[:20]}, y[:20])
    assert len(few.bins["m"]) == 1
    # A band of one bin has no width: its interval is an upright line.
    (interval,) = few.ax_.collections
    ((x, low), (_, high)) = interval.get_segments()[0]
    assert x == few.bins["m"]["confidence"][0]
    assert [[low], [high]] == few.bands["m"].tolist()


# Disagreement


def test_disagreement(fitted):
    estimator, X, y = fitted
    display = DisagreementDisplay.from_estimator(estimator, X, y)
    assert display.matrix.equals(disagreement(X, y))
    assert display.ax_.images[0].get_array()[0, 1] == pytest.approx(display.matrix.iloc[0, 1])
    assert_legible(display.figure_)


@pytest.mark.parametrize("measure", ["double_fault", "q_statistic", "error_consistency", "cka"])
def test_disagreement_takes_other_measures(measure):
    X, y = make_table(3, 4)
    display = DisagreementDisplay.from_predictions(X, y, measure=measure)
    expected = (
        cka_matrix(X, debiased=True) if measure == "cka" else getattr(inspection, measure)(X, y)
    )
    assert display.matrix.equals(expected)


def test_disagreement_of_many_and_of_one():
    correct = np.random.default_rng(0).random((50, 20)) < 0.5
    display = DisagreementDisplay.from_predictions(correct)
    # Too many to write numbers in: a scale stands beside them.
    assert not display.ax_.texts
    assert len(display.figure_.axes) == 2
    assert_legible(display.figure_)
    alone = DisagreementDisplay.from_predictions(correct[:, :1], measure="q_statistic")
    assert_legible(alone.figure_)


def test_disagreement_says_what_is_wrong():
    with pytest.raises(ValueError, match="measure='kappa'; expected one of disagreement"):
        DisagreementDisplay.from_predictions({"a": ["x"], "b": ["y"]}, measure="kappa")


# What all have in common


def test_axes_can_be_given():
    X, y = make_table(5, 10)
    estimator = AdaptiveBackboneEnsemble().fit(X[:40], y[:40])
    figure, axes = plt.subplots(2, 2, figsize=(16, 14), layout="constrained")
    displays = [OverlapDisplay, WeightsDisplay, ReliabilityDisplay, DisagreementDisplay]
    for display, ax in zip(displays, axes.flat, strict=True):
        assert display.from_estimator(estimator, X, y, ax=ax).ax_ is ax
    assert_legible(figure)


@pytest.mark.parametrize(
    ("name", "columns"),
    {
        "overlap_5": [*BACKBONES[:5], "n_images"],
        "shot_curve": ["method", "shots", "score"],
        "weights": BACKBONES[:5],
        "robustness": ["corruption", "severity", "method", "accuracy"],
        "reliability": ["name", "confidence", "accuracy", "n_images"],
        "disagreement": BACKBONES[:5],
    }.items(),
)
def test_the_numbers_are_to_be_had(name, columns):
    frame = fixed_pictures()[name]().frame()
    assert isinstance(frame, pd.DataFrame)
    assert list(frame) == columns


def test_the_numbers_of_a_sheet_name_their_images():
    given = pd.DataFrame({"a": ["x", "y"], "b": ["y", "y"]}, index=["one.jpg", "two.jpg"])
    display = ContactSheetDisplay.from_predictions(
        given,
        ["x", "x"],
        y_pred=["x", "y"],
        weights=[[1, 0], [0.5, 0.5]],
        images=make_images(2),
        show="failed",
    )
    assert display.frame().to_dict("index") == {
        "two.jpg": {
            ("answer", "a"): "y",
            ("answer", "b"): "y",
            ("answer", "combined"): "y",
            ("weight", "a"): 0.5,
            ("weight", "b"): 0.5,
            ("truth", ""): "x",
        }
    }
    estimator, X, y = AdaptiveBackboneEnsemble(), *make_table(2, 2)
    display = ContactSheetDisplay.from_estimator(
        estimator.fit(X[:20], y[:20]), X, images=make_images(len(X)), show=[3]
    )
    frame = display.frame()
    assert frame.index.tolist() == [3]
    assert list(frame.columns.unique(0)) == ["answer", "probability", "weight"]
    assert frame["weight"].to_numpy().sum() == pytest.approx(1)


def test_panels_need_a_grid():
    ax = plt.figure().add_axes((0.1, 0.1, 0.8, 0.8))
    with pytest.raises(ValueError, match="has no place in a grid"):
        OverlapDisplay.from_predictions(np.ones((3, 5), dtype=bool), ax=ax)


def test_matplotlib_is_asked_for_by_name(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ImportError, match=r"OverlapDisplay draws .* pip install matplotlib"):
        OverlapDisplay.from_predictions(np.ones((3, 2), dtype=bool))


def test_importing_does_not_import_matplotlib():
    code = "import sys, sklearn_clipensemble.inspection; print('matplotlib' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"


# Robustness


def make_robustness(n_backbones, n_corruptions):
    names = list(CORRUPTIONS)[:n_corruptions]
    methods = [*BACKBONES[:n_backbones], "AdaptiveBackboneEnsemble"]
    rows = [("none", 0, method, 0.8) for method in methods]
    rows += [
        (n, s, m, 0.8 - 0.1 * s - 0.01 * i)
        for i, m in enumerate(methods)
        for n in names
        for s in (1, 3, 5)
    ]
    return pd.DataFrame(rows, columns=["corruption", "severity", "method", "accuracy"])


@pytest.mark.parametrize(("n_backbones", "n_corruptions"), [(2, 3), (9, 19)])
def test_robustness(n_backbones, n_corruptions):
    display = RobustnessDisplay.from_scores(
        make_robustness(n_backbones, n_corruptions), highlight="AdaptiveBackboneEnsemble"
    )
    drawn = [ax for ax in display.axes_.flat if ax.axison]
    assert len(drawn) == n_corruptions
    assert len(drawn[0].lines) == n_backbones + 1
    # Every line starts at the clean images.
    assert list(drawn[0].lines[0].get_xdata()) == [0, 1, 3, 5]
    assert drawn[0].lines[1].get_ydata() == pytest.approx([0.8, 0.69, 0.49, 0.29])
    assert_legible(display.figure_)


def test_robustness_says_what_is_missing():
    with pytest.raises(ValueError, match="no column 'method'"):
        RobustnessDisplay.from_scores(make_robustness(2, 1).drop(columns="method"))


# The pictures themselves


def fixed_pictures():
    """One picture of each kind, of data that no algorithm of this package has touched."""
    X, y = make_table(5, 10)
    rng = np.random.default_rng(0)
    weights = pd.DataFrame(rng.dirichlet([1, 2, 3, 4, 5], len(X)), columns=BACKBONES[:5])
    proba = {b: softmax(rng.normal(size=(120, 10)) * (i + 1), axis=1) for i, b in enumerate("abc")}
    return {
        "overlap_3": lambda: OverlapDisplay.from_predictions(X.iloc[:, :30], y),
        "overlap_5": lambda: OverlapDisplay.from_predictions(X, y),
        "shot_curve": lambda: ShotCurveDisplay.from_scores(make_scores(3)),
        "weights": lambda: WeightsDisplay.from_weights(weights, y),
        "robustness": lambda: RobustnessDisplay.from_scores(make_robustness(5, 6)),
        "reliability": lambda: ReliabilityDisplay.from_predictions(proba, y),
        "disagreement": lambda: DisagreementDisplay.from_predictions(X, y),
        "contact_sheet": lambda: ContactSheetDisplay.from_predictions(
            X, y, y_pred=y, weights=weights, images=make_images(120), show="rescued", n_images=6
        ),
    }


@pytest.mark.parametrize("name", fixed_pictures())
def test_picture_has_not_changed(name):
    """Compare with the picture kept in ``tests/inspection/pictures``, small and blurred.

    Versions of matplotlib place text a little differently, so that the
    comparison is made with the version that drew the kept picture; the tests
    above hold everywhere. After a wanted change, look at the pictures at full
    size, then keep the new ones with
    ``KEEP_PICTURES=1 pytest tests/inspection/test_displays.py -k picture``.
    """
    path = Path(__file__).parent / "pictures" / f"{name}.png"
    version = ".".join(matplotlib.__version__.split(".")[:2])
    file = io.BytesIO()
    fixed_pictures()[name]().figure_.savefig(file, dpi=24, facecolor="white")
    picture = Image.open(file).convert("RGB")
    if os.environ.get("KEEP_PICTURES"):
        path.parent.mkdir(exist_ok=True)
        note = PngImagePlugin.PngInfo()
        note.add_text("matplotlib", version)
        picture.save(path, optimize=True, pnginfo=note)
    with Image.open(path) as kept:
        kept.load()
    if kept.info["matplotlib"] != version:
        pytest.skip(f"the kept picture was drawn with matplotlib {kept.info['matplotlib']}")
    assert kept.size == picture.size
    first, second = (
        np.asarray(image.convert("RGB").filter(ImageFilter.GaussianBlur(2)), dtype=float)
        for image in (picture, kept)
    )
    # A line that is missing moves this to 30, a colour that changed to 40 and more.
    assert np.percentile(np.abs(first - second), 99) < 15


def test_the_band_of_a_share_stays_between_0_and_1():
    scores = {"a": {1: [0.1, 1.0], 4: [0.9, 1.0]}, "b": {1: [0.4, 0.5], 4: [0.5, 0.6]}}
    display = ShotCurveDisplay.from_scores(scores)
    for band in display.ax_.collections:
        heights = band.get_paths()[0].vertices[:, 1]
        assert heights.min() >= 0
        assert heights.max() <= 1
