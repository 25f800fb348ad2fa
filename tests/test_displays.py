"""The Displays, on made-up tables of every size that has to be legible."""

from itertools import combinations

import numpy as np
import pandas as pd
import pytest

from sklearn_clipensemble import Layout
from sklearn_clipensemble.ensembles import AdaptiveBackboneEnsemble
from sklearn_clipensemble.inspection import ContactSheetDisplay, ShotCurveDisplay
from sklearn_clipensemble.inspection._plot import _style

plt = pytest.importorskip("matplotlib.pyplot")
from matplotlib.text import Text  # noqa: E402

BACKBONES = [
    *("RN50/openai", "ViT-B-32/openai", "RN101/openai", "ViT-B-16/openai", "RN50x4/openai"),
    *("RN50x16/openai", "RN50x64/openai", "ViT-L-14/openai", "ViT-L-14-336/openai"),
]
SIZES = [(b, c) for b in (2, 5, 9) for c in (2, 10, 200)]


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
    return [(t.get_text(), Text.get_window_extent(t)) for t in texts if t not in unseen]


def overlapping_texts(figure, margin=1.0):
    """Return the pairs of texts whose boxes overlap by more than a margin in pixels."""
    found = []
    for (first, a), (second, b) in combinations(boxes_of_texts(figure), 2):
        width = min(a.x1, b.x1) - max(a.x0, b.x0)
        height = min(a.y1, b.y1) - max(a.y0, b.y0)
        if width > margin and height > margin:
            found.append((first, second))
    return found


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
    assert _style.shorten(["RN50/openai", "RN50/yfcc15m"]) == ["RN50/openai", "RN50/yfcc15m"]
    assert _style.shorten(["goldfish, Carassius auratus"]) == ["goldfish"]
    long = _style.shorten([f"a very long name of a class, {i}" for i in range(12)], 12)
    assert len(set(long)) == 12
    assert max(map(len, long)) <= 12


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
    table = pd.DataFrame({"method": "a", "n_shots": [1, 1, 2], "score": [0.2, 0.4, 0.5]})
    _, ax = plt.subplots()
    display = ShotCurveDisplay.from_scores(table, ax=ax, score_name="Balanced accuracy")
    assert display.ax_ is ax
    assert ax.get_ylabel() == "Balanced accuracy"
    assert display.lines_["a"].get_ydata() == pytest.approx([0.3, 0.5])


def test_shot_curve_says_what_is_wrong():
    with pytest.raises(ValueError, match="no column 'n_shots'"):
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
    display = ContactSheetDisplay.from_predictions(make_images(3), answers)
    # The second image is left out: all agree on it.
    assert display.answers.to_numpy().tolist() == [["x", "y", "z"], ["y", "x", "y"]]
    assert not {"✓", "✗"} & {t.get_text() for t in display.ax_.texts}
    assert_legible(display.figure_)


def test_contact_sheet_rescues_only_from_a_wrong_vote():
    answers = {"a": ["x", "x"], "b": ["x", "y"], "c": ["y", "z"]}
    display = ContactSheetDisplay.from_predictions(
        make_images(2), answers, ["y", "y"], y_pred=["y", "y"], show="rescued"
    )
    assert display.answers.to_numpy().tolist() == [["x", "x", "y"]]


def test_contact_sheet_with_nothing_to_show():
    display = ContactSheetDisplay.from_predictions(
        make_images(2), {"a": ["x", "y"], "b": ["x", "y"]}, ["x", "y"], show="failed"
    )
    assert "There is no such image." in [t.get_text() for t in display.ax_.texts]


def test_contact_sheet_says_what_is_wrong():
    answers = {"a": ["x", "y"], "b": ["x", "y"]}
    with pytest.raises(ValueError, match="3 images and 2 rows"):
        ContactSheetDisplay.from_predictions(make_images(3), answers)
    with pytest.raises(ValueError, match="show='best'"):
        ContactSheetDisplay.from_predictions(make_images(2), answers, show="best")
    with pytest.raises(ValueError, match="pass y"):
        ContactSheetDisplay.from_predictions(make_images(2), answers, show="failed")


def test_curve_and_sheet_side_by_side():
    X, y = make_table(5, 10)
    estimator = AdaptiveBackboneEnsemble().fit(X[:40], y[:40])
    figure, (left, right) = plt.subplots(1, 2, figsize=(15, 6), layout="constrained")
    ShotCurveDisplay.from_scores(make_scores(5), ax=left)
    ContactSheetDisplay.from_estimator(estimator, X, y, images=make_images(120), ax=right)
    assert_legible(figure)
