"""AdaptiveBackboneEnsemble: what it promises, on real handwritten digits seen in several ways."""

import os
import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageDraw
from scipy.optimize import minimize
from scipy.special import log_softmax
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_clipensemble import CLIPEmbedder, FewShotSplit, Layout, ZeroShotLogits
from sklearn_clipensemble.adaptive import Priors, _correction
from sklearn_clipensemble.adaptive._softmax_regression import softmax_regression
from sklearn_clipensemble.ensembles import (
    AdaptiveBackboneEnsemble,
    LogitAverage,
    ProbabilityAverage,
)
from sklearn_clipensemble.inspection import expected_calibration_error

CLASSES = [str(c) for c in range(10)]


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def view(pixels, labels, seed, noise):
    """Another look at the digits: a PCA of noisy pixels, and imperfect class prototypes as text."""
    rng = np.random.default_rng(seed)
    seen = pixels + noise * rng.normal(size=pixels.shape)
    embedding = unit(PCA(24, whiten=True, random_state=0).fit_transform(seen))
    text = np.stack([embedding[labels == c].mean(axis=0) for c in range(10)])
    text = unit(text + 0.15 * rng.normal(size=text.shape))
    return embedding, 10 * embedding @ text.T


def frame(parts, dtype=np.float32):
    """A table from {backbone: (embedding, logits)}; either may be None."""
    columns = {}
    for backbone, (embedding, logits) in parts.items():
        if embedding is not None:
            columns.update({f"{backbone}__embedding__{i}": e for i, e in enumerate(embedding.T)})
        if logits is not None:
            columns.update(
                {f"{backbone}__logit__{c}": z for c, z in zip(CLASSES, logits.T, strict=True)}
            )
    return pd.DataFrame(columns, dtype=dtype)


@pytest.fixture(scope="module")
def parts():
    pixels, labels = load_digits(return_X_y=True)
    return {
        f"view{i}": view(pixels / 16, labels, i, noise) for i, noise in enumerate((0.3, 0.4, 0.5))
    }


@pytest.fixture(scope="module")
def table(parts):
    return frame(parts)


@pytest.fixture(scope="module")
def y():
    return load_digits(return_X_y=True)[1].astype(str)


def splits(y, shots, n_repeats=5):
    return FewShotSplit(shots, n_repeats, max_shots=16, random_state=0).split(y, y)


def accuracy(clf, table, y, shots, n_repeats=5):
    scores = [
        clone(clf).fit(table.iloc[train], y[train]).score(table.iloc[test], y[test])
        for train, test in splits(y, shots, n_repeats)
    ]
    return np.mean(scores)


@pytest.fixture(scope="module")
def few(table, y):
    """Two labelled rows per class, and 300 others."""
    train, test = next(splits(y, 2))
    return table.iloc[train], y[train], table.iloc[test[:300]], y[test[:300]]


# --- what it is for ---------------------------------------------------------------------


@pytest.mark.parametrize("shots", [1, 2, 4, 16])
def test_better_than_the_averages_and_than_logistic_regression(table, y, shots):
    adaptive = accuracy(AdaptiveBackboneEnsemble(), table, y, shots)
    assert adaptive > accuracy(ProbabilityAverage(), table, y, shots)
    assert adaptive > accuracy(LogitAverage(), table, y, shots)
    assert adaptive > accuracy(LogisticRegression(max_iter=1000), table, y, shots)


def test_more_labels_help(table, y):
    scores = [accuracy(AdaptiveBackboneEnsemble(), table, y, shots) for shots in (1, 4, 16)]
    assert scores[0] < scores[1] < scores[2]


def test_worthless_zero_shot_answers_are_overcome(parts, y):
    rng = np.random.default_rng(0)
    noise = {b: (e, 10 * rng.normal(size=z.shape)) for b, (e, z) in parts.items()}
    with_noise, without = frame(noise), frame({b: (e, None) for b, (e, _) in parts.items()})
    for shots in (4, 16):
        lost = accuracy(AdaptiveBackboneEnsemble(), without, y, shots) - accuracy(
            AdaptiveBackboneEnsemble(), with_noise, y, shots
        )
        assert lost < 0.03


@pytest.mark.parametrize("shots", [4, 16])
def test_a_member_of_pure_noise_costs_less_than_a_point(parts, y, shots):
    rng = np.random.default_rng(0)
    noise = unit(rng.normal(size=(len(y), 24))), 5 * rng.normal(size=(len(y), 10))
    clean = accuracy(AdaptiveBackboneEnsemble(), frame(parts), y, shots)
    spoilt = accuracy(AdaptiveBackboneEnsemble(), frame({**parts, "noise": noise}), y, shots)
    assert spoilt > clean - 0.01


def test_probabilities_are_calibrated(table, y):
    def error(clf, shots):
        errors = []
        for train, test in splits(y, shots):
            clf = clone(clf).fit(table.iloc[train], y[train])
            errors.append(expected_calibration_error(y[test], clf.predict_proba(table.iloc[test])))
        return np.mean(errors)

    for shots in (1, 4, 16):
        assert error(AdaptiveBackboneEnsemble(), shots) < error(ProbabilityAverage(), shots)
        assert error(AdaptiveBackboneEnsemble(), shots) < 0.1


def traffic_signs(n_classes=43, n_each=12):
    """Drawings of many kinds that no zero-shot answer knows; the n-th of each class has rank n."""
    rng = np.random.default_rng(0)
    images = []
    for _ in range(n_classes):
        strokes = rng.uniform(12, 52, size=(3, 3, 2))
        for _ in range(n_each):
            ink, paper = rng.integers(0, 256, size=(2, 3)).tolist()
            image = Image.new("RGB", (64, 64), tuple(paper))
            pen = ImageDraw.Draw(image)
            here = strokes + rng.normal(size=strokes.shape) + rng.normal(size=2)
            for stroke in here.tolist():
                width = int(rng.integers(2, 6))
                pen.line([tuple(point) for point in stroke], fill=tuple(ink), width=width)
            images.append(image)
    labels = np.repeat([f"sign {c}" for c in range(n_classes)], n_each)
    return images, labels, np.tile(np.arange(n_each), n_classes)


def test_more_labels_help_where_zero_shot_answers_are_worthless():
    """Many classes: held-out labels once made two per class worth less than one."""
    images, labels, rank = traffic_signs()
    embeddings = CLIPEmbedder("tiny").fit_transform(images)
    signs = ZeroShotLogits().fit(embeddings, labels).transform(embeddings)
    scores = []
    for shots in (1, 2, 4, 8):
        right = []
        for draw in range(2):
            order = np.random.default_rng(draw).permutation(12)
            learn, rest = np.isin(rank, order[:shots]), np.isin(rank, order[8:])
            clf = AdaptiveBackboneEnsemble().fit(signs[learn], labels[learn])
            right.append(clf.score(signs[rest], labels[rest]))
        scores.append(np.mean(right))
    assert (np.diff(scores) > 0.02).all(), scores


needs_real_features = pytest.mark.skipif(
    "CLIPENSEMBLE_DATA" not in os.environ, reason="needs the features of real CLIPs"
)


def real_features(name):
    """Return a set with one backbone: its embedding, its table, labels, layout, and what to learn from."""
    with np.load(Path(os.environ["CLIPENSEMBLE_DATA"], f"real_features/{name}.npz")) as arrays:
        backbone = next(key[3:] for key in arrays if key.startswith("X__"))
        embedding, text = arrays[f"X__{backbone}"], arrays[f"W__{backbone}"]
        labels, learn = arrays["y"].astype(str), arrays["split"] == "train"
    embedding, text = unit(embedding.astype(np.float32)), unit(text.astype(np.float32))
    layout = Layout({backbone: embedding.shape[1]}, [str(c) for c in range(len(text))])
    return embedding, np.hstack([embedding, 100 * embedding @ text.T]), labels, layout, learn


@needs_real_features
def test_better_than_five_lines_of_scikit_learn_on_real_features():
    embedding, X, labels, layout, learn = real_features("sun71")
    rows, test = np.flatnonzero(learn), np.flatnonzero(~learn)[::4]
    for shots in (2, 4, 8):
        train = pd.Series(rows).groupby(labels[rows]).head(shots)
        ours = AdaptiveBackboneEnsemble(layout=layout).fit(X[train], labels[train])
        peer = make_pipeline(StandardScaler(), LogisticRegression(max_iter=300))
        peer.fit(embedding[train], labels[train])
        assert ours.score(X[test], labels[test]) > peer.score(embedding[test], labels[test])


@needs_real_features
@pytest.mark.parametrize("shots", [1, 4, 16])
def test_classes_without_labels_stay_predictable_on_real_features(shots):
    """Of 196 classes 50 have no label: they lose less than three points to their zero-shot answers."""
    _, X, labels, layout, learn = real_features("stanford_cars")
    without = np.random.default_rng(0).permutation(np.unique(labels))[:50]
    rows = np.flatnonzero(learn & ~np.isin(labels, without))
    train = pd.Series(rows).groupby(labels[rows]).head(shots)
    test = ~learn & np.isin(labels, without)
    ours = AdaptiveBackboneEnsemble(layout=layout).fit(X[train], labels[train])
    zero_shot = ProbabilityAverage(layout=layout).fit(X[train])
    assert ours.score(X[test], labels[test]) > zero_shot.score(X[test], labels[test]) - 0.03


# --- weights ----------------------------------------------------------------------------


def test_weights_are_positive_sum_to_one_and_differ_by_image(few, table):
    X, y, X_test, _ = few
    weights = AdaptiveBackboneEnsemble().fit(X, y).combination_weights(X_test)
    assert list(weights.columns) == ["view0", "view1", "view2"]
    assert weights.index.equals(X_test.index)
    assert (weights > 0).all(axis=None)
    np.testing.assert_allclose(weights.sum(axis=1), 1)
    assert (weights.std() > 0.01).all()


def test_a_member_of_pure_noise_weighs_little(parts, y):
    rng = np.random.default_rng(0)
    noise = unit(rng.normal(size=(len(y), 24))), 50 * rng.normal(size=(len(y), 10))
    noisy = frame({**parts, "noise": noise})
    train, test = next(splits(y, 4))
    clf = AdaptiveBackboneEnsemble().fit(noisy.iloc[train], y[train])
    weights = clf.combination_weights(noisy.iloc[test]).mean()
    assert weights["noise"] < 0.5 * weights.drop("noise").min()


def test_weights_without_labels_follow_agreement(parts, table):
    rng = np.random.default_rng(0)
    noisy = frame(
        {**parts, "noise": (None, None)}
        | {"noise": (unit(rng.normal(size=(len(table), 24))), rng.normal(size=(len(table), 10)))}
    )
    weights = AdaptiveBackboneEnsemble().fit(noisy).combination_weights(noisy).mean()
    assert weights["noise"] < 0.1 * weights.drop("noise").min()


# --- invariance -------------------------------------------------------------------------


def proba(parts, y, train, test, **kwargs):
    table = frame(parts)
    clf = AdaptiveBackboneEnsemble(**kwargs).fit(table.iloc[train], y[train])
    return clf.predict_proba(table.iloc[test])


@pytest.mark.parametrize("factor", [1e-6, 0.1, 1e6])
def test_a_backbones_logits_may_be_scaled_and_shifted(parts, y, factor):
    train, test = next(splits(y, 2))
    expected = proba(parts, y, train, test)
    embedding, logits = parts["view1"]
    shift = factor * np.linspace(-5, 5, len(logits))[:, None]
    changed = proba({**parts, "view1": (embedding, factor * logits + shift)}, y, train, test)
    np.testing.assert_allclose(changed, expected, atol=2e-3)


# In float32, 1e3 z - 7 holds fewer digits of z.
@pytest.mark.parametrize(("dtype", "atol"), [(np.float64, 1e-6), (np.float32, 5e-3)])
def test_logits_alone_may_be_scaled_and_shifted(parts, y, dtype, atol):
    train, test = next(splits(y, 2))
    logits = {b: (None, z) for b, (_, z) in parts.items()}
    changed = {b: (None, 1e3 * z - 7 * i) for i, (b, (_, z)) in enumerate(logits.items())}
    found, expected = (
        AdaptiveBackboneEnsemble().fit(t.iloc[train], y[train]).predict_proba(t.iloc[test])
        for t in (frame(changed, dtype), frame(logits, dtype))
    )
    np.testing.assert_allclose(found, expected, atol=atol)


def test_order_of_backbones_does_not_matter(parts, y):
    train, test = next(splits(y, 2))
    turned = dict(reversed(parts.items()))
    np.testing.assert_allclose(
        proba(turned, y, train, test), proba(parts, y, train, test), atol=2e-3
    )


@pytest.mark.parametrize("shots", [1, 2, 4, 16])
@pytest.mark.parametrize("max_rows", [1024, 64])
def test_order_of_classes_does_not_matter(parts, y, max_rows, shots):
    priors = Priors(max_rows=max_rows)
    rows = next(splits(y, shots))[0]
    swap = np.random.default_rng(0).permutation(10)
    renamed = {b: (e, z[:, swap]) for b, (e, z) in parts.items()}  # column j is class swap[j]
    names = np.argsort(swap).astype(str)[y.astype(int)]
    first = proba(parts, y, rows, slice(None, 300), priors=priors)
    second = proba(renamed, names, rows, slice(None, 300), priors=priors)
    np.testing.assert_allclose(second, first[:, swap], atol=1e-5)


@pytest.mark.parametrize("shots", [1, 2, 4, 16])
@pytest.mark.parametrize("max_rows", [1024, 64])
def test_order_of_rows_does_not_matter(parts, y, max_rows, shots):
    priors = Priors(max_rows=max_rows)
    rows = next(splits(y, shots))[0]
    first = proba(parts, y, rows, slice(None, 300), priors=priors)
    order = np.random.default_rng(0).permutation(len(rows))
    second = proba(parts, y, rows[order], slice(None, 300), priors=priors)
    np.testing.assert_allclose(second, first, atol=1e-6)


def test_rows_are_answered_one_by_one(few):
    X, y, X_test, _ = few
    clf = AdaptiveBackboneEnsemble().fit(X, y)
    np.testing.assert_allclose(
        clf.predict_proba(X_test.iloc[:3]), clf.predict_proba(X_test)[:3], atol=1e-5
    )


# --- labels -----------------------------------------------------------------------------


def test_no_labels_give_the_prior(table, y):
    clf = AdaptiveBackboneEnsemble().fit(table)
    assert list(clf.classes_) == CLASSES
    assert clf.score(table, y) >= ProbabilityAverage().fit(table).score(table, y) - 0.003


def test_no_labels_robust_to_a_bad_member(parts, y):
    rng = np.random.default_rng(0)
    noisy = frame(
        {
            **parts,
            "noise": (unit(rng.normal(size=(len(y), 24))), 50 * rng.normal(size=(len(y), 10))),
        }
    )
    clean = AdaptiveBackboneEnsemble().fit(frame(parts)).score(frame(parts), y)
    assert AdaptiveBackboneEnsemble().fit(noisy).score(noisy, y) > clean - 0.01
    assert LogitAverage().fit(noisy).score(noisy, y) < clean - 0.1


def test_classes_without_labels_stay_predictable(table, y):
    train, test = next(splits(y, 4))
    labelled = train[np.isin(y[train], list("01234"))]
    clf = AdaptiveBackboneEnsemble().fit(table.iloc[labelled], y[labelled])
    assert list(clf.classes_) == CLASSES
    unseen = test[np.isin(y[test], list("56789"))]
    prior = AdaptiveBackboneEnsemble().fit(table.iloc[labelled])
    assert (
        clf.score(table.iloc[unseen], y[unseen]) > prior.score(table.iloc[unseen], y[unseen]) - 0.1
    )
    assert clf.score(table.iloc[test], y[test]) > prior.score(table.iloc[test], y[test])


@pytest.mark.parametrize("shots", [1, 4, 16])
def test_labels_of_some_classes_take_nothing_from_the_others(table, y, shots):
    """The labelled classes together keep the probability that zero-shot answers give them."""
    train, test = next(splits(y, shots))
    train = train[np.isin(y[train], list("01234"))]
    X = table.iloc[test]
    clf = AdaptiveBackboneEnsemble().fit(table.iloc[train], y[train])
    pool = clf.zero_shot_(clf._table(X)) * clf.scale_
    expected = np.exp(pool - np.logaddexp.reduce(pool, axis=1, keepdims=True))
    found = clf.predict_proba(X)
    np.testing.assert_allclose(found[:, 5:], expected[:, 5:], atol=1e-5)
    assert np.abs(found[:, :5] - expected[:, :5]).max() > 0.1


def test_one_label_in_all(table, y):
    clf = AdaptiveBackboneEnsemble().fit(table.iloc[:1], y[:1])
    prior = AdaptiveBackboneEnsemble().fit(table)
    assert clf.score(table, y) > prior.score(table, y) - 0.05
    assert np.isfinite(clf.predict_proba(table)).all()


def test_integer_labels(table, y):
    train, test = next(splits(y, 2))
    clf = AdaptiveBackboneEnsemble().fit(table.iloc[train], y[train].astype(int))
    assert clf.predict(table.iloc[test]).dtype.kind == "i"
    text = AdaptiveBackboneEnsemble().fit(table.iloc[train], y[train])
    np.testing.assert_array_equal(
        clf.predict(table.iloc[test]).astype(str), text.predict(table.iloc[test])
    )


def test_n_shots_draws_nested_and_seeded(table, y):
    one = AdaptiveBackboneEnsemble(n_shots=2, random_state=0).fit(table, y)
    two = AdaptiveBackboneEnsemble(n_shots=2, random_state=0).fit(table, y)
    other = AdaptiveBackboneEnsemble(n_shots=2, random_state=1).fit(table, y)
    np.testing.assert_array_equal(one.predict_proba(table), two.predict_proba(table))
    assert np.abs(one.predict_proba(table) - other.predict_proba(table)).max() > 0.01
    assert len(one.few_shot_.landmarks[0]) == 20


def test_as_many_shots_as_there_are_labels_are_all_of_them(few):
    X, y, others, _ = few
    by_class = np.argsort(y)  # as a folder is read
    X, y = X.iloc[by_class], y[by_class]
    all_of_them = AdaptiveBackboneEnsemble().fit(X, y)
    for n_shots in (2, 1000):
        drawn = AdaptiveBackboneEnsemble(n_shots=n_shots, random_state=0).fit(X, y)
        np.testing.assert_array_equal(
            drawn.predict_proba(others), all_of_them.predict_proba(others)
        )


def test_grid_search_over_shots(table, y):
    search = GridSearchCV(
        AdaptiveBackboneEnsemble(random_state=0), {"n_shots": [1, 8]}, cv=StratifiedKFold(3)
    ).fit(table, y)
    assert search.best_params_ == {"n_shots": 8}


# --- other frequencies than those of the labels -------------------------------------------


def test_class_prior_is_what_counting_by_hand_gives(few):
    X, y, X_test, _ = few
    keep = np.ones(len(y), dtype=bool)
    keep[np.flatnonzero(y == "3")[0]] = False  # 1 of 19 labels, the others 2
    X, y = X[keep], y[keep]
    frequency = np.arange(1, 11) / 55
    plain = AdaptiveBackboneEnsemble().fit(X, y)
    np.testing.assert_allclose(plain.class_shares_, np.where(np.arange(10) == 3, 1, 2) / 19)
    expected = plain.predict_proba(X_test) * frequency / plain.class_shares_
    expected /= expected.sum(axis=1, keepdims=True)
    by_label = dict(zip(CLASSES, frequency, strict=True))
    for prior in (frequency, list(7 * frequency), by_label, pd.Series(by_label)[::-1]):
        clf = AdaptiveBackboneEnsemble(class_prior=prior).fit(X, y)
        np.testing.assert_allclose(clf.predict_proba(X_test), expected, rtol=1e-4, atol=1e-7)
        np.testing.assert_array_equal(
            clf.predict(X_test), clf.classes_[clf.predict_proba(X_test).argmax(axis=1)]
        )
    # Read at predict.
    again = plain.set_params(class_prior=by_label)
    np.testing.assert_allclose(again.predict_proba(X_test), expected, rtol=1e-4, atol=1e-7)


def test_class_prior_helps_where_frequencies_have_shifted(table, y):
    rng = np.random.default_rng(0)
    train, test = next(splits(y, 1))
    frequency = np.where(np.arange(10) < 2, 0.4, 0.025)
    shifted = rng.choice(test, 600, p=(p := frequency[y[test].astype(int)]) / p.sum())
    scores = [
        AdaptiveBackboneEnsemble(class_prior=prior)
        .fit(table.iloc[train], y[train])
        .score(table.iloc[shifted], y[shifted])
        for prior in (None, frequency)
    ]
    assert scores[1] > scores[0]


def test_a_class_that_is_never_expected_is_never_answered(few, table):
    X, y, X_test, _ = few
    prior = dict.fromkeys(CLASSES, 1) | {"3": 0}
    for clf in (
        AdaptiveBackboneEnsemble(class_prior=prior).fit(X, y),
        AdaptiveBackboneEnsemble(class_prior=prior).fit(table),  # no labels
    ):
        proba = clf.predict_proba(X_test)
        assert (proba[:, 3] == 0).all()
        np.testing.assert_allclose(proba.sum(axis=1), 1)


@pytest.mark.parametrize(
    ("prior", "message"),
    [
        ([0.5, 0.5], r"shape \(2,\), but there are 10 classes"),
        ({"0": 1.0}, r"Classes without one: \['1', '2'"),
        (dict.fromkeys([*CLASSES, "ten"], 1), r"labels that are no class: \['ten'\]"),
        ([-1.0] + [1.0] * 9, "none negative.*that of class '0' is -1.0"),
        ([1.0] * 9 + [np.nan], "finite.*that of class '9' is nan"),
        (dict.fromkeys(CLASSES, 1) | {"3": None}, "finite.*that of class '3' is nan"),
        ([0.0] * 10, "not all zero"),
        (dict.fromkeys(CLASSES, 1) | {"3": "rare"}, "class_prior must hold numbers: .*'rare'"),
        (pd.Series(1, index=[*CLASSES, "3"]), "class_prior names '3' twice"),
    ],
)
def test_a_class_prior_that_cannot_be_meant(few, prior, message):
    X, y, *_ = few
    with pytest.raises(ValueError, match=message):
        AdaptiveBackboneEnsemble(class_prior=prior).fit(X, y)


# --- sample weights ---------------------------------------------------------------------


def test_a_weight_of_two_is_a_row_twice(few):
    X, y, X_test, _ = few
    weight = np.where(np.arange(len(X)) % 3 == 0, 2, 1)
    weighted = AdaptiveBackboneEnsemble().fit(X, y, sample_weight=weight)
    doubled = AdaptiveBackboneEnsemble().fit(X.loc[X.index.repeat(weight)], np.repeat(y, weight))
    np.testing.assert_allclose(
        weighted.predict_proba(X_test), doubled.predict_proba(X_test), atol=1e-6
    )


def test_a_weight_of_zero_is_no_row(few):
    X, y, X_test, _ = few
    weight = np.where(np.arange(len(X)) % 4 == 0, 0, 1)
    weighted = AdaptiveBackboneEnsemble(n_shots=1, random_state=0).fit(X, y, sample_weight=weight)
    kept = AdaptiveBackboneEnsemble(n_shots=1, random_state=0).fit(X[weight > 0], y[weight > 0])
    np.testing.assert_allclose(
        weighted.predict_proba(X_test), kept.predict_proba(X_test), atol=1e-6
    )


# --- tables of every kind ---------------------------------------------------------------


def test_logits_only(parts, y):
    logits = frame({b: (None, z) for b, (_, z) in parts.items()})
    assert accuracy(AdaptiveBackboneEnsemble(), logits, y, 4) > accuracy(
        ProbabilityAverage(), logits, y, 4
    )


def test_three_dimensional_logits(parts, y):
    stacked = np.stack([z for _, z in parts.values()], axis=1)
    train, test = next(splits(y, 4))
    clf = AdaptiveBackboneEnsemble().fit(stacked[train], y[train])
    flat = frame({b: (None, z) for b, (_, z) in parts.items()})
    named = AdaptiveBackboneEnsemble().fit(flat.iloc[train], y[train])
    assert clf.score(stacked[test], y[test]) == pytest.approx(
        named.score(flat.iloc[test], y[test]), abs=0.005
    )


def test_embeddings_only(parts, y):
    embeddings = frame({b: (e, None) for b, (e, _) in parts.items()})
    assert accuracy(AdaptiveBackboneEnsemble(), embeddings, y, 4) > accuracy(
        LogisticRegression(), embeddings, y, 4
    )


def test_one_backbone(parts, y):
    single = frame({"view0": parts["view0"]})
    train, test = next(splits(y, 4))
    clf = AdaptiveBackboneEnsemble().fit(single.iloc[train], y[train])
    average = ProbabilityAverage().fit(single.iloc[train], y[train])
    assert clf.score(single.iloc[test], y[test]) > average.score(single.iloc[test], y[test])
    assert (clf.combination_weights(single.iloc[test]) == 1).all(axis=None)


def test_a_bare_array(parts, y):
    embedding = parts["view0"][0]
    train, test = next(splits(y, 4))
    with pytest.warns(UserWarning, match="one anonymous backbone"):
        clf = AdaptiveBackboneEnsemble().fit(embedding[train], y[train])
    told = AdaptiveBackboneEnsemble(layout=Layout({"view0": 24})).fit(embedding[train], y[train])
    np.testing.assert_array_equal(clf.predict(embedding[test]), told.predict(embedding[test]))


# --- hard input -------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_probabilities_are_finite_at_any_scale(parts, y, scale):
    train, test = next(splits(y, 1))
    table = frame({b: (e, scale * z) for b, (e, z) in parts.items()})
    for labels in (None, y[train]):
        found = (
            AdaptiveBackboneEnsemble()
            .fit(table.iloc[train], labels)
            .predict_proba(table.iloc[test])
        )
        assert np.isfinite(found).all()
        np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-6)


def test_constant_columns(parts, y):
    train, test = next(splits(y, 2))
    dead = {**parts, "dead": (np.zeros((len(y), 8)), np.ones((len(y), 10)))}
    found, expected = proba(dead, y, train, test), proba(parts, y, train, test)
    assert np.isfinite(found).all()
    assert np.mean(found.argmax(axis=1) == expected.argmax(axis=1)) > 0.95


def test_same_row_with_different_labels(table):
    X = table.iloc[[0] * 10]
    found = AdaptiveBackboneEnsemble().fit(X, CLASSES).predict_proba(table.iloc[:50])
    assert np.isfinite(found).all()


def test_a_thousand_classes_with_one_label_each():
    rng = np.random.default_rng(0)
    prototypes = unit(rng.normal(size=(1000, 32)))
    codes = np.tile(np.arange(1000), 2)
    layout = Layout({"a": 32, "b": 32}, [str(c) for c in range(1000)])
    parts = []
    for _ in range(2):
        embedding = unit(prototypes[codes] + 0.15 * rng.normal(size=(2000, 32)))
        parts += [
            embedding,
            20 * embedding @ unit(prototypes + 0.2 * rng.normal(size=(1000, 32))).T,
        ]
    X = np.concatenate(parts, axis=1).astype(np.float32)
    labels = codes.astype(str)
    clf = AdaptiveBackboneEnsemble(layout=layout).fit(X[:1000], labels[:1000])
    found = clf.predict_proba(X[1000:])
    assert np.isfinite(found).all()
    average = ProbabilityAverage(layout=layout).fit(X[:1000], labels[:1000])
    # Not by score: scikit-learn 1.7 warns of so many classes.
    right = [np.mean(c.predict(X[1000:]) == labels[1000:]) for c in (clf, average)]
    assert right[0] > right[1]


def test_means_of_rows_give_the_same_answer(parts, y):
    """With many rows, means of a few span the functions."""
    train, test = next(FewShotSplit(64, 1, random_state=0).split(y, y))
    exact = proba(parts, y, train, test)
    short = proba(parts, y, train, test, priors=Priors(max_rows=512))
    assert np.abs(short - exact).max() > 1e-3  # they did take different ways
    assert np.mean(short.argmax(axis=1) == exact.argmax(axis=1)) > 0.95
    right = y[test].astype(int)
    lost = np.mean(exact.argmax(axis=1) == right) - np.mean(short.argmax(axis=1) == right)
    assert abs(lost) < 0.015


def test_lifts_that_count_for_nothing_are_passed_over(table, y, monkeypatch):
    train, test = next(splits(y, 16))
    solve, lifts = _correction.KernelCorrection.solve, []

    def counted(self, offset, lift, *args, **kwargs):
        lifts.append(lift)
        return solve(self, offset, lift, *args, **kwargs)

    monkeypatch.setattr(_correction.KernelCorrection, "solve", counted)
    found = AdaptiveBackboneEnsemble().fit(table.iloc[train], y[train])
    n_tried = len(lifts)
    every_lift = AdaptiveBackboneEnsemble(priors=Priors(negligible_evidence=np.inf))
    all_tried = every_lift.fit(table.iloc[train], y[train])
    assert n_tried < len(lifts) - n_tried
    np.testing.assert_allclose(
        found.predict_proba(table.iloc[test]), all_tried.predict_proba(table.iloc[test]), atol=2e-3
    )


def test_priors_are_a_value(few):
    X, y, X_test, _ = few
    clf = AdaptiveBackboneEnsemble(priors=Priors(lifts=(1e-6,), largest_lift=1e-6))
    without_correction = clone(clf).fit(X, y).predict_proba(X_test)
    plain = AdaptiveBackboneEnsemble().fit(X, y).predict_proba(X_test)
    assert np.abs(without_correction - plain).max() > 0.1
    same = AdaptiveBackboneEnsemble(priors=Priors()).fit(X, y).predict_proba(X_test)
    np.testing.assert_array_equal(same, plain)
    with pytest.raises(ValueError, match="'priors' parameter"):
        AdaptiveBackboneEnsemble(priors={"largest_lift": 3}).fit(X, y)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_the_minimum_is_scipys(dtype):
    rng = np.random.default_rng(0)
    basis = rng.normal(size=(50, 8)) * np.geomspace(0.3, 3, 8)
    offset, codes, weight = rng.normal(size=(50, 4)), np.arange(50) % 4, rng.uniform(0.5, 2, 50)

    def loss(coef):
        log_proba = log_softmax(offset + basis @ coef.reshape(8, 4), axis=1)
        return -weight @ log_proba[np.arange(50), codes] + coef @ coef / 6

    problem = basis.astype(dtype), offset.astype(dtype), codes, weight
    found = softmax_regression(*problem, amplitude=3.0)
    assert found.dtype == dtype
    least = minimize(loss, np.zeros(32), options={"gtol": 1e-7}).fun
    eps = float(np.finfo(dtype).eps)
    assert loss(found.astype(float).ravel()) == pytest.approx(least, rel=max(10 * eps, 1e-12))
    again = softmax_regression(*problem, amplitude=3.0, start=2 * found)
    np.testing.assert_allclose(again, found, atol=100 * np.sqrt(eps))


def test_how_sure_it_is_follows_what_held_out_labels_say():
    rng = np.random.default_rng(0)
    y = np.repeat(list("abcde"), 8)
    layout = Layout({"a": 16, "b": 16})
    noise = rng.normal(size=(40, 32))
    told = noise + 3 * rng.normal(size=(5, 32))[np.repeat(np.arange(5), 8)]
    blind, sees = (AdaptiveBackboneEnsemble(layout=layout).fit(X, y) for X in (noise, told))
    assert blind.predict_proba(rng.normal(size=(200, 32))).max(axis=1).mean() < 0.5
    near = told + 0.1 * rng.normal(size=told.shape)
    assert sees.predict_proba(near).max(axis=1).mean() > 0.9


def test_two_rows_do_not_tell_in_how_many_dimensions_they_lie():
    def lift(n_classes, width, **changes):
        X = np.random.default_rng(0).normal(size=(n_classes, width))
        priors = Priors(sharpness_without_logits=1, **changes)
        clf = AdaptiveBackboneEnsemble(layout=Layout({"a": width}), priors=priors)
        return clf.fit(X, np.arange(n_classes)).lift_

    assert lift(2, 3) == pytest.approx(lift(2, 300)) == pytest.approx(Priors().n_dimensions / 3)
    assert lift(2, 3, n_dimensions=6) == pytest.approx(2)
    assert lift(50, 3) < 2 < Priors().largest_lift == lift(50, 300)


def test_pickle_is_small_and_answers_the_same(parts, y):
    train, test = next(splits(y, 16))
    table = frame(parts)
    clf = AdaptiveBackboneEnsemble().fit(table.iloc[train], y[train])
    data = pickle.dumps(clf)
    assert len(data) < 200_000
    np.testing.assert_array_equal(
        pickle.loads(data).predict_proba(table.iloc[test]), clf.predict_proba(table.iloc[test])
    )


def test_nothing_to_learn_from(parts):
    with pytest.raises(ValueError, match="requires y"):
        AdaptiveBackboneEnsemble().fit(frame({b: (e, None) for b, (e, _) in parts.items()}))


def test_float64_and_float32_agree(few):
    X, y, X_test, _ = few
    single = AdaptiveBackboneEnsemble().fit(X, y).predict_proba(X_test)
    double = AdaptiveBackboneEnsemble().fit(X.astype(float), y).predict_proba(X_test.astype(float))
    np.testing.assert_allclose(single, double, atol=2e-3)


@pytest.mark.filterwarnings("error")
def test_zero_shot_answers_that_leave_no_doubt():
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1], 300)
    sure = np.stack([np.eye(2)[y], np.eye(2)[y]], axis=1).astype(np.float32) * 1e3
    sure += rng.normal(size=sure.shape).astype(np.float32)
    clf = AdaptiveBackboneEnsemble().fit(sure, y)
    assert clf.score(sure, y) == 1
    assert np.isfinite(clf.predict_proba(sure)).all()
