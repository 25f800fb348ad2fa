"""What every combiner and every head has to stand."""

import pickle

import numpy as np
import pandas as pd
import pytest
from instances import (
    COMBINERS,
    HEADS,
    LABEL_FREE,
    LEARNT,
    assert_is_distribution,
    every_classifier,
    make_table,
)
from scipy.special import softmax
from sklearn.base import clone

from sklearn_clipensemble import Layout
from sklearn_clipensemble.ensembles import (
    AdaptiveBackboneEnsemble,
    AgreementWeighted,
    CalibratedAverage,
    CalibratedConfidence,
    LocalAccuracy,
    ProbabilityAverage,
    SuperLearner,
    Vote,
)
from sklearn_clipensemble.heads import GDAHead, LogisticHead

WEIGHTED = [clf for clf in COMBINERS if not isinstance(clf, Vote)]
# Those whose weights are of other scores than the zero-shot ones.
RESCALED = (AgreementWeighted, CalibratedAverage, CalibratedConfidence)
# For what the common base does.
one_of_each_kind = pytest.mark.parametrize(
    "clf", [ProbabilityAverage(), SuperLearner(), GDAHead()], ids=repr
)


# Three images, two backbones, three classes.
LOGITS = np.array(
    [
        [[2.0, 0.0, -1.0], [0.5, 1.0, 0.0]],
        [[0.0, 0.3, 0.1], [0.0, 0.0, 4.0]],
        [[1.0, 1.5, 0.0], [3.0, 0.0, 0.0]],
    ]
)
PROBA = softmax(LOGITS, axis=2)


@every_classifier
def test_labels_and_probabilities(clf):
    X, y = make_table()
    clf = clone(clf).fit(X, y)
    proba = clf.predict_proba(X)
    assert_is_distribution(proba)
    assert proba.shape == (len(y), 4)
    assert clf.classes_.tolist() == sorted(set(y))
    np.testing.assert_array_equal(clf.predict(X), clf.classes_[proba.argmax(axis=1)])
    np.testing.assert_allclose(np.exp(clf.predict_log_proba(X)), proba)
    assert clf.score(X, y) > 0.5


@every_classifier
def test_is_deterministic_and_survives_a_pickle(clf):
    X, y = make_table()
    first = clone(clf).fit(X, y)
    proba = first.predict_proba(X)
    np.testing.assert_array_equal(clone(clf).fit(X, y).predict_proba(X), proba)
    again = pickle.loads(pickle.dumps(first))
    np.testing.assert_array_equal(again.predict_proba(X), proba)


@every_classifier
def test_fitted_state_is_arrays(clf):
    X, y = make_table()
    dumped = pickle.dumps(clone(clf).fit(X, y))
    assert b"torch" not in dumped


@every_classifier
def test_order_of_rows_at_predict_does_not_matter(clf):
    X, y = make_table()
    clf = clone(clf).fit(X, y)
    np.testing.assert_allclose(
        clf.predict_proba(X.iloc[::-1])[::-1], clf.predict_proba(X), rtol=1e-5
    )


@every_classifier
def test_order_of_class_columns_does_not_matter(clf):
    X, y = make_table()
    shuffled = X[sorted(X.columns, key=lambda name: (name.split("__")[0], name[::-1]))]
    assert list(shuffled.columns) != list(X.columns)
    first, second = clone(clf).fit(X, y), clone(clf).fit(shuffled, y)
    np.testing.assert_array_equal(second.predict(shuffled), first.predict(X))


@every_classifier
def test_one_label_per_class(clf):
    X, y = make_table(n_per_class=1, n_classes=5)
    X_new, _ = make_table(n_per_class=3, n_classes=5)
    clf = clone(clf).fit(X, y)
    assert_is_distribution(clf.predict_proba(X_new))
    assert len(np.unique(clf.predict(X_new))) > 1


@every_classifier
def test_classes_without_a_label_stay(clf):
    X, y = make_table()
    labelled = y != 2
    sure = [name for name in X if name.endswith("__logit__2")]
    X.loc[~labelled, sure] += 20
    clf = clone(clf).fit(X[labelled], y[labelled])
    assert clf.classes_.tolist() == [0, 1, 2, 3]
    proba = clf.predict_proba(X)
    assert_is_distribution(proba)
    assert (proba[:, 2] > 0).all()
    if not isinstance(clf, LogisticHead):  # the control has no other source
        assert (clf.predict(X[~labelled]) == 2).all()


@every_classifier
def test_two_rows(clf):
    X, y = make_table(n_per_class=1, n_classes=2)
    clf = clone(clf).fit(X, y)
    assert_is_distribution(clf.predict_proba(X))
    assert clf.decision_function(X).shape == (2,)


@every_classifier
def test_one_labelled_class(clf):
    X, y = make_table()
    one = y == 1
    assert_is_distribution(clone(clf).fit(X[one], y[one]).predict_proba(X))


@every_classifier
def test_one_backbone(clf):
    X, y = make_table()
    X = X[[name for name in X if name.startswith("m1")]]
    assert_is_distribution(clone(clf).fit(X, y).predict_proba(X))


@every_classifier
def test_logits_only(clf):
    X, y = make_table()
    X = X[[name for name in X if "__logit__" in name]]
    assert_is_distribution(clone(clf).fit(X, y).predict_proba(X))


@every_classifier
def test_embeddings_only(clf):
    X, y = make_table()
    X = X[[name for name in X if "__embedding__" in name]]
    clf = clone(clf).fit(X, y)
    assert_is_distribution(clf.predict_proba(X))
    assert clf.score(X, y) > 0.7


@every_classifier
def test_three_dimensional_logits(clf):
    logits = np.repeat(LOGITS, 2, axis=0)
    clf = clone(clf).fit(logits, [0, 0, 2, 2, 1, 1])
    assert clf.backbones_ == ["backbone0", "backbone1"]
    assert_is_distribution(clf.predict_proba(logits))


@every_classifier
def test_layout_of_an_array(clf):
    X, y = make_table()
    by_name = clone(clf).fit(X, y).predict_proba(X)
    rows = X.to_numpy()
    by_layout = clone(clf).set_params(layout=Layout.from_names(X.columns)).fit(rows, y)
    np.testing.assert_array_equal(by_layout.predict_proba(rows), by_name)


@every_classifier
@pytest.mark.parametrize("scales", [(1e-6, 1e-6), (1e6, 1e6), (1e6, 1e-6)])
def test_extreme_logit_scales(clf, scales):
    X, y = make_table(scales=scales)
    clf = clone(clf).fit(X, y)
    assert_is_distribution(clf.predict_proba(X))
    assert not np.isnan(clf.predict_log_proba(X)).any()


@every_classifier
def test_same_images_with_different_labels(clf):
    X, y = make_table(n_per_class=1)
    X = pd.concat([X, X], ignore_index=True)
    clf = clone(clf).fit(X, np.concatenate([y, np.roll(y, 1)]))
    assert_is_distribution(clf.predict_proba(X))


@every_classifier
def test_images_that_are_all_the_same(clf):
    X, y = make_table(n_per_class=2)
    X.loc[:] = X.iloc[[0] * len(X)].to_numpy()
    assert_is_distribution(clone(clf).fit(X, y).predict_proba(X))
    for huge in (1e9, 1e14):
        weight = np.where(np.arange(len(y)) % 3, 1e-9, huge)
        assert_is_distribution(clone(clf).fit(X, y, sample_weight=weight).predict_proba(X))


@every_classifier
def test_constant_columns(clf):
    X, y = make_table()
    X["m0__logit__1"] = 0.5
    X["m1__embedding__3"] = 0.0
    assert_is_distribution(clone(clf).fit(X, y).predict_proba(X))


@every_classifier
def test_sample_weights_are_copies(clf):
    X, y = make_table(n_per_class=3)
    X = X.astype(np.float64)
    weight = np.random.default_rng(0).integers(0, 4, size=len(y))
    weighted = clone(clf).fit(X, y, sample_weight=weight)
    repeated = np.repeat(np.arange(len(y)), weight)
    copies = clone(clf).fit(X.iloc[repeated], y[repeated])
    np.testing.assert_allclose(
        weighted.predict_proba(X), copies.predict_proba(X), rtol=1e-6, atol=1e-9
    )


@one_of_each_kind
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_none(clf, bad):
    X, y = make_table()
    X.iloc[5, 3] = bad
    with pytest.raises(ValueError, match="row 5, column 'm0__embedding__3'"):
        clone(clf).fit(X, y)
    good, _ = make_table()
    clf = clone(clf).fit(good, y)
    with pytest.raises(ValueError, match="row 5, column 'm0__embedding__3'"):
        clf.predict(X)


@one_of_each_kind
def test_label_without_a_column(clf):
    X, y = make_table()
    y[3] = 7
    with pytest.raises(ValueError, match="'7' in y has no logit column"):
        clone(clf).fit(X, y)


@one_of_each_kind
def test_one_class(clf):
    X, y = make_table(n_classes=1)
    with pytest.raises(ValueError, match=r"needs at least 2 classes.*: 0"):
        clone(clf).fit(X, y)


@one_of_each_kind
def test_labels_of_mixed_types(clf):
    X, y = make_table()
    mixed = list(y)
    mixed[1] = "cat"
    with pytest.raises(TypeError, match="Labels of mixed types"):
        clone(clf).fit(X, mixed)


@pytest.mark.parametrize("clf", LEARNT + HEADS, ids=repr)
def test_labels_are_needed(clf):
    X, _ = make_table()
    with pytest.raises(ValueError, match="requires y to be passed"):
        clone(clf).fit(X)


@pytest.mark.parametrize("clf", LABEL_FREE, ids=repr)
def test_no_labels_are_needed(clf):
    X, y = make_table()
    unlabelled = clone(clf).fit(X)
    assert unlabelled.classes_.tolist() == sorted(set(y.astype(str)))
    np.testing.assert_array_equal(
        unlabelled.predict_proba(X), clone(clf).fit(X, y).predict_proba(X)
    )
    with pytest.raises(ValueError, match="without zero-shot logits"):
        clone(clf).fit(X[[name for name in X if "__embedding__" in name]])


@pytest.mark.parametrize("clf", WEIGHTED, ids=repr)
def test_combination_weights(clf):
    X, y = make_table()
    X.index = [f"photo {i}" for i in range(len(X))]
    weights = clone(clf).fit(X, y).combination_weights(X)
    assert list(weights.columns) == ["m0", "m1"]
    assert list(weights.index) == list(X.index)
    assert (weights.to_numpy() >= 0).all()
    assert (weights.sum(axis=1) > 0).all()


@pytest.mark.parametrize(
    "clf", [clf for clf in WEIGHTED if not isinstance(clf, RESCALED)], ids=repr
)
def test_predict_follows_the_weights(clf):
    X, y = make_table()
    clf = clone(clf).fit(X, y)
    weights = clf.combination_weights(X).to_numpy()
    logits = np.stack([X[[f"{b}__logit__{c}" for c in range(4)]] for b in clf.backbones_], axis=1)
    if clf._of_logits:
        scores = np.einsum("nb,nbc->nc", weights, logits)
        expected = softmax(scores, axis=1)
    else:
        expected = np.einsum("nb,nbc->nc", weights, softmax(logits, axis=2))
        expected /= expected.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(clf.predict_proba(X), expected, rtol=1e-4)


def test_batches_do_not_show(monkeypatch):
    X, y = make_table()
    clf = LocalAccuracy().fit(X, y)
    proba, weights = clf.predict_proba(X), clf.combination_weights(X)
    monkeypatch.setattr("sklearn_clipensemble.table._classifier._BATCH", 5)
    np.testing.assert_allclose(clf.predict_proba(X), proba, rtol=1e-6)
    pd.testing.assert_frame_equal(clf.combination_weights(X), weights)


# Log-probabilities of logits of 1e-25 are all alike: what weighs those by agreement sees no more.
@pytest.mark.parametrize(
    ("clf", "scale"),
    [
        (AgreementWeighted(), 1e25),
        (AdaptiveBackboneEnsemble(), 1e25),
        (AdaptiveBackboneEnsemble(), 1e-25),
    ],
)
def test_any_scale_that_float32_holds(clf, scale):
    logits = np.random.default_rng(0).normal(size=(8, 3, 4)).astype(np.float32)
    plain = clone(clf).fit(logits)
    scaled = logits * np.float32([[[1], [scale], [1]]])
    far = clone(clf).fit(scaled)
    assert np.isfinite(far.predict_proba(scaled)).all()
    np.testing.assert_allclose(
        far.combination_weights(scaled), plain.combination_weights(logits), atol=1e-3
    )


def test_agreement_of_two_classes_is_no_nan():
    for seed in range(6):
        logits = np.random.default_rng(seed).normal(size=(5000, 3, 2)).astype(np.float32)
        assert np.isfinite(AdaptiveBackboneEnsemble().fit(logits).zero_shot_.weights).all()


@pytest.mark.parametrize("weight", [1e-6, 1e6])
def test_weights_of_rows_that_leave_no_doubt(weight):
    y = np.repeat([0, 1, 2], 100)
    logits = np.float32(50) * np.eye(3, dtype=np.float32)[np.stack([y, y], axis=1)]
    clf = AdaptiveBackboneEnsemble().fit(logits, y, sample_weight=np.full(300, weight))
    assert clf.score(logits, y) == 1
