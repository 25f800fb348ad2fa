"""The combiners but the adaptive one; and what they and the heads all have to stand."""

import pickle
import subprocess
import sys
from itertools import islice

import numpy as np
import pandas as pd
import pytest
from scipy.special import logsumexp, softmax
from sklearn.base import clone

from sklearn_clipensemble import Layout
from sklearn_clipensemble.baselines._class_means import ClassMeans
from sklearn_clipensemble.baselines._local import _nearest
from sklearn_clipensemble.baselines._neural import _batches
from sklearn_clipensemble.ensembles import (
    AdaptiveBackboneEnsemble,
    AgreementCascade,
    AgreementWeighted,
    BestBackbone,
    CalibratedAverage,
    CalibratedConfidence,
    ConfidenceCascade,
    EntropyWeighted,
    GeneticSearch,
    GreedySelection,
    LocalAccuracy,
    LogitAverage,
    MixtureOfExperts,
    MostConfident,
    NeuralLogitController,
    ProbabilityAverage,
    SingleBackbone,
    SoftmaxGate,
    SuperLearner,
    Vote,
)
from sklearn_clipensemble.heads import (
    AnchoredLinearHead,
    GDAHead,
    KernelRidgeHead,
    LogisticHead,
    MultiKernelHead,
    TipAdapterHead,
)
from sklearn_clipensemble.table._scores import fit_temperature

LABEL_FREE = [
    SingleBackbone(),
    LogitAverage(),
    ProbabilityAverage(),
    Vote(),
    Vote(3),
    MostConfident(),
    EntropyWeighted(),
    AgreementWeighted(),
    ConfidenceCascade(),
    AgreementCascade(),
]
LEARNT = [
    BestBackbone(),
    CalibratedAverage(),
    CalibratedConfidence(),
    SuperLearner(),
    GeneticSearch(population_size=8, n_generations=5, random_state=0),
    GreedySelection(),
    LocalAccuracy(),
    LocalAccuracy(3, selection="ola"),
    LocalAccuracy(3, selection="knora-e"),
    NeuralLogitController(n_steps=5, random_state=0),
    NeuralLogitController(
        weight_map="exp",
        temperature="divide",
        feature_norm="standard",
        n_steps=5,
        random_state=0,
    ),
    SoftmaxGate(n_steps=5, random_state=0),
    MixtureOfExperts(n_steps=5, random_state=0),
]
HEADS = [
    AnchoredLinearHead(),
    GDAHead(),
    KernelRidgeHead(),
    LogisticHead(),
    MultiKernelHead(),
    TipAdapterHead(),
]
COMBINERS = LABEL_FREE + LEARNT
WEIGHTED = [clf for clf in COMBINERS if not isinstance(clf, Vote)]
# Those that weigh other scores than the zero-shot ones.
RESCALED = (AgreementWeighted, CalibratedAverage, CalibratedConfidence)
EVERYONE = COMBINERS + HEADS

every_classifier = pytest.mark.parametrize("clf", EVERYONE, ids=repr)
# For what the common base does.
one_of_each_kind = pytest.mark.parametrize(
    "clf", [ProbabilityAverage(), SuperLearner(), GDAHead()], ids=repr
)

CLASSES = ["ant", "bee", "cat"]
# Three images, two backbones, three classes.
LOGITS = np.array(
    [
        [[2.0, 0.0, -1.0], [0.5, 1.0, 0.0]],
        [[0.0, 0.3, 0.1], [0.0, 0.0, 4.0]],
        [[1.0, 1.5, 0.0], [3.0, 0.0, 0.0]],
    ]
)
PROBA = softmax(LOGITS, axis=2)


def as_frame(logits, classes=CLASSES, embeddings=()):
    """Name the columns of logits (n_samples, n_backbones, n_classes)."""
    columns = {}
    for b in range(logits.shape[1]):
        for i in range(embeddings[b].shape[1] if len(embeddings) else 0):
            columns[f"m{b}__embedding__{i}"] = embeddings[b][:, i]
        for c, key in enumerate(classes):
            columns[f"m{b}__logit__{key}"] = logits[:, b, c]
    return pd.DataFrame(columns)


def make_table(n_per_class=4, n_classes=4, seed=0, scales=(1.0, 1.0)):
    """Embeddings of widths 6 and 8 around class centres, and logits that are right more often than not."""
    rng = np.random.default_rng(seed)
    codes = np.tile(np.arange(n_classes), n_per_class)
    embeddings, logits = [], []
    for width, scale in zip((6, 8), scales, strict=True):
        centres = rng.normal(size=(n_classes, width))
        rows = centres[codes] + 0.5 * rng.normal(size=(len(codes), width))
        embeddings.append(rows / np.linalg.norm(rows, axis=1, keepdims=True))
        right = 1.5 * np.eye(n_classes)[codes]
        logits.append(scale * (right + rng.normal(size=(len(codes), n_classes))))
    classes = np.array([f"class {c}" for c in range(n_classes)])
    X = as_frame(np.stack(logits, axis=1), classes, embeddings).astype(np.float32)
    return X, classes[codes]


def assert_is_distribution(proba):
    assert np.isfinite(proba).all()
    assert (proba >= 0).all()
    np.testing.assert_allclose(proba.sum(axis=1), 1, rtol=1e-6)


# What everybody has to stand


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
    labelled = y != "class 2"
    sure = [name for name in X if name.endswith("__logit__class 2")]
    X.loc[~labelled, sure] += 20
    clf = clone(clf).fit(X[labelled], y[labelled])
    assert clf.classes_.tolist() == [f"class {c}" for c in range(4)]
    proba = clf.predict_proba(X)
    assert_is_distribution(proba)
    assert (proba[:, 2] > 0).all()
    if not isinstance(clf, LogisticHead):  # the control has no other source
        assert (clf.predict(X[~labelled]) == "class 2").all()


@every_classifier
def test_two_rows(clf):
    X, y = make_table(n_per_class=1, n_classes=2)
    clf = clone(clf).fit(X, y)
    assert_is_distribution(clf.predict_proba(X))
    assert clf.decision_function(X).shape == (2,)


@every_classifier
def test_one_labelled_class(clf):
    X, y = make_table()
    one = y == "class 1"
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
    X["m0__logit__class 1"] = 0.5
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
    y[3] = "zebra"
    with pytest.raises(ValueError, match="'zebra' in y has no logit column"):
        clone(clf).fit(X, y)


@one_of_each_kind
def test_one_class(clf):
    X, y = make_table(n_classes=1)
    with pytest.raises(ValueError, match=r"needs at least 2 classes.*'class 0'"):
        clone(clf).fit(X, y)


@one_of_each_kind
def test_labels_of_mixed_types(clf):
    X, y = make_table()
    mixed = list(y)
    mixed[1] = 1
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
    assert unlabelled.classes_.tolist() == sorted(set(y))
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
    logits = np.stack(
        [X[[f"{b}__logit__class {c}" for c in range(4)]] for b in clf.backbones_], axis=1
    )
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


# No labels


def test_single_backbone():
    X = as_frame(LOGITS)
    clf = SingleBackbone("m1").fit(X)
    np.testing.assert_allclose(clf.predict_proba(X), PROBA[:, 1])
    assert clf.combination_weights(X).to_numpy().tolist() == [[0, 1]] * 3
    np.testing.assert_allclose(SingleBackbone().fit(X).predict_proba(X), PROBA[:, 0])
    with pytest.raises(ValueError, match="no backbone 'm7'; its backbones are: m0, m1"):
        SingleBackbone("m7").fit(X)


def test_averages():
    X = as_frame(LOGITS)
    np.testing.assert_allclose(ProbabilityAverage().fit(X).predict_proba(X), PROBA.mean(axis=1))
    mean = LOGITS.mean(axis=1)
    np.testing.assert_allclose(
        LogitAverage().fit(X).predict_log_proba(X), mean - logsumexp(mean, axis=1, keepdims=True)
    )


def test_votes():
    # Three backbones; a and b are the favourites of one each, then of two.
    logits = np.array(
        [
            [[3.0, 1.0, 0.0, -1.0], [1.0, 2.0, 0.0, -1.0], [0.0, 0.5, 0.2, -1.0]],
            [[3.0, 1.0, 0.0, -1.0], [1.0, 1.1, 0.0, -1.0], [0.0, -1.0, 2.0, 1.0]],
        ]
    )
    X = as_frame(logits, classes=list("abcd"))
    average = softmax(logits, axis=2).mean(axis=1)
    first = np.array([[1, 2, 0, 0], [1, 1, 1, 0]]) + average / 2
    np.testing.assert_allclose(Vote().fit(X).predict_proba(X), first / 3.5, rtol=1e-6)
    assert Vote().fit(X).predict(X).tolist() == ["b", "a"]  # the second by the average
    # Every class is among the best three of two, three or one backbones.
    third = np.array([[3, 3, 3, 0], [3, 2, 3, 1]]) + average / 2
    np.testing.assert_allclose(Vote(3).fit(X).predict_proba(X), third / 9.5, rtol=1e-6)


def test_votes_with_few_classes():
    X = as_frame(LOGITS[:, :, :2], classes=["ant", "bee"])
    np.testing.assert_array_equal(Vote(3).fit(X).predict(X), Vote(1).fit(X).predict(X))


def test_most_confident():
    X = as_frame(LOGITS)
    clf = MostConfident().fit(X)
    assert clf.combination_weights(X).to_numpy().tolist() == [[1, 0], [0, 1], [0, 1]]
    np.testing.assert_allclose(
        clf.predict_proba(X), [PROBA[0, 0], PROBA[1, 1], PROBA[2, 1]], rtol=1e-6
    )
    tied = as_frame(np.array([[[1.0, 0.0], [0.0, 1.0]]]), classes=["ant", "bee"])
    assert MostConfident().fit(tied).combination_weights(tied).to_numpy().tolist() == [[0.5, 0.5]]


def test_entropy_weighted():
    X = as_frame(LOGITS)
    inverse = 1 / -(PROBA * np.log(PROBA)).sum(axis=2)
    weights = inverse / inverse.sum(axis=1, keepdims=True)
    clf = EntropyWeighted().fit(X)
    np.testing.assert_allclose(clf.combination_weights(X), weights)
    np.testing.assert_allclose(clf.predict_proba(X), np.einsum("nb,nbc->nc", weights, PROBA))


def test_agreement_weighted():
    logits = np.array([[[3.0, 0.0, 0.0], [2.0, 0.5, 0.0], [0.0, 0.0, 1.0]]])
    spread = logits.std(axis=2)
    z = (logits - logits.mean(axis=2, keepdims=True)) / spread[:, :, None]
    with_others = [z[0, b] @ np.delete(z[0], b, axis=0).mean(axis=0) for b in range(3)]
    weights = softmax(with_others)
    clf = AgreementWeighted().fit(as_frame(logits))
    np.testing.assert_allclose(clf.combination_weights(as_frame(logits)), [weights])
    fused = weights @ z[0] * (weights @ spread[0])
    np.testing.assert_allclose(clf.predict_proba(as_frame(logits)), [softmax(fused)])


# Static, from labels


def test_best_backbone():
    X = as_frame(LOGITS)
    clf = BestBackbone().fit(X, ["ant", "cat", "ant"])  # m0 right once, m1 twice
    assert clf.best_backbone_ == "m1"
    assert clf.weights_.tolist() == [0, 1]
    np.testing.assert_allclose(clf.predict_proba(X), PROBA[:, 1])
    assert BestBackbone().fit(X, ["ant", "bee", "bee"]).best_backbone_ == "m0"


def test_best_backbone_breaks_ties_by_likelihood():
    right = np.array([[2.0, 0.0], [0.0, 2.0], [2.0, 0.0], [2.0, 0.0]])
    barely = np.array([[2.0, 0.0], [0.0, 2.0], [2.0, 0.0], [0.1, 0.0]])
    X = as_frame(np.stack([right, barely], axis=1), classes=["ant", "bee"])
    # Both are wrong on the last row only, the second by less.
    assert BestBackbone().fit(X, ["ant", "bee", "ant", "bee"]).best_backbone_ == "m1"


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_temperature_maximises_the_smoothed_likelihood(scale):
    rng = np.random.default_rng(0)
    codes = rng.integers(3, size=40)
    logits = scale * (2.0 * np.eye(3)[codes] + rng.normal(size=(40, 3)))
    weight = rng.uniform(0.5, 2, size=40)
    found = fit_temperature(logits, codes, weight)

    def loss(temperature):
        log_proba = logits / temperature
        log_proba = log_proba - logsumexp(log_proba, axis=1, keepdims=True)
        smoothing = (weight / weight.sum()) @ log_proba.mean(axis=1)
        return -weight @ log_proba[np.arange(40), codes] - smoothing

    best = min(np.geomspace(found / 10, found * 10, 2001), key=loss)
    assert found == pytest.approx(best, rel=2e-3)


def test_temperature_of_rows_that_are_all_right_is_finite():
    temperature = fit_temperature(5.0 * np.eye(4), np.arange(4), np.ones(4))
    assert 0.1 < temperature < 10


def test_calibration_is_blind_to_the_scale_of_logits():
    X, y = make_table()
    scaled = X.copy()
    columns = [name for name in X if name.startswith("m0__logit")]
    scaled[columns] *= 37
    for clf in (CalibratedAverage(), CalibratedConfidence()):
        np.testing.assert_allclose(
            clf.fit(scaled, y).predict_proba(scaled),
            clone(clf).fit(X, y).predict_proba(X),
            rtol=1e-3,
        )


def test_calibrated_combiners_divide_by_the_temperatures():
    X, y = make_table()
    logits = [X[[f"m{b}__logit__class {c}" for c in range(4)]].to_numpy() for b in range(2)]
    clf = CalibratedAverage().fit(X, y)
    calibrated = [softmax(z / t, axis=1) for z, t in zip(logits, clf.temperatures_, strict=True)]
    np.testing.assert_allclose(clf.predict_proba(X), np.mean(calibrated, axis=0), rtol=1e-4)
    surest = np.argmax([p.max(axis=1) for p in calibrated], axis=0)
    confident = CalibratedConfidence().fit(X, y)
    np.testing.assert_array_equal(
        confident.combination_weights(X).to_numpy().argmax(axis=1), surest
    )


def test_super_learner_finds_the_most_likely_weights():
    X, y = make_table(n_per_class=10)
    clf = SuperLearner().fit(X, y)
    codes = np.searchsorted(clf.classes_, y)
    logits = np.stack([X[[f"m{b}__logit__class {c}" for c in range(4)]] for b in range(2)])

    def loss(weights):
        scores = np.einsum("b,bnc->nc", weights, logits)
        log_proba = scores - logsumexp(scores, axis=1, keepdims=True)
        return -log_proba[np.arange(len(y)), codes].sum() - log_proba.mean()

    nearby = [clf.weights_ + step for step in 0.02 * np.random.default_rng(0).normal(size=(50, 2))]
    assert all(loss(clf.weights_) <= loss(weights) for weights in nearby)


def test_super_learner_drops_a_backbone_that_is_wrong():
    codes = np.arange(4).repeat(3)
    wrong = -2.0 * np.eye(4)[codes]
    noisy = 2.0 * np.eye(4)[codes] + np.random.default_rng(0).normal(size=(12, 4))
    X = as_frame(np.stack([noisy, wrong], axis=1), classes=[0, 1, 2, 3])
    assert SuperLearner().fit(X, codes).weights_[1] == 0


def test_super_learner_keeps_an_order_where_all_are_worse_than_chance():
    codes = np.arange(4).repeat(3)
    X = as_frame(-2.0 * np.eye(4)[codes][:, None], classes=[0, 1, 2, 3])
    clf = SuperLearner().fit(X, codes)
    assert clf.weights_ > 0
    np.testing.assert_array_equal(clf.predict(X) == codes, False)
    assert clf.predict_proba(X).max() < 0.251


def test_genetic_search_is_at_least_as_accurate_as_the_sum():
    X, y = make_table(n_per_class=10)
    search = GeneticSearch(random_state=0).fit(X, y)
    assert search.score(X, y) >= LogitAverage().fit(X, y).score(X, y)
    assert (search.weights_ > 0).all()
    longer = GeneticSearch(n_generations=80, random_state=0).fit(X, y)
    assert longer.score(X, y) >= search.score(X, y)


def test_greedy_selection():
    # Probability of the label: .9 and .4 with m0, .4 and .9 with m1, .5 and .5 with m2.
    own = np.array([[0.9, 0.4, 0.5], [0.4, 0.9, 0.5]])
    logits = np.stack([np.log(own), np.log(1 - own)], axis=2)
    X = as_frame(logits, classes=["ant", "bee"])
    clf = GreedySelection().fit(X, ["ant", "ant"])
    # First m0 (the first of the two best), then m1; no longer average is better.
    np.testing.assert_allclose(clf.weights_, [0.5, 0.5, 0])
    assert GreedySelection(n_rounds=1).fit(X, ["ant", "ant"]).weights_.tolist() == [1, 0, 0]


# Per image


def local_table():
    """Two groups of images far apart; m0 is right in the first, m1 in the second."""
    embedding = np.array([[1.0, 0.0], [0.95, 0.1], [0.9, 0.2], [0.0, 1.0], [0.1, 0.95], [0.2, 0.9]])
    codes = np.array([0, 1, 0, 0, 1, 0])
    good = 2.0 * np.eye(2)[codes]
    bad = good[:, ::-1]
    first = np.arange(6)[:, None] < 3
    logits = np.stack([np.where(first, good, bad), np.where(first, bad, good)], axis=1)
    X = as_frame(logits, classes=["ant", "bee"], embeddings=[embedding, embedding])
    return X, np.array(["ant", "bee"])[codes]


@pytest.mark.parametrize("selection", ["ola", "knora-u", "knora-e"])
def test_local_accuracy_picks_the_backbone_that_is_right_nearby(selection):
    X, y = local_table()
    clf = LocalAccuracy(3, selection=selection).fit(X, y)
    assert clf.combination_weights(X).to_numpy().tolist() == [[1, 0]] * 3 + [[0, 1]] * 3
    assert clf.score(X, y) == 1


def test_local_accuracy_rules():
    X, y = local_table()

    # Of the five neighbours of the first image, nearest first, m0 gets the first three.
    def weights(n_neighbors, selection):
        clf = LocalAccuracy(n_neighbors, selection=selection).fit(X, y)
        return clf.combination_weights(X.iloc[[0]]).to_numpy()[0].tolist()

    assert weights(5, "knora-u") == pytest.approx([0.6, 0.4])
    assert weights(5, "ola") == [1, 0]
    assert weights(6, "ola") == [0.5, 0.5]
    assert weights(6, "knora-e") == [1, 0]
    assert weights(100, "knora-u") == [0.5, 0.5]


def test_local_accuracy_where_nobody_is_right():
    X, _ = local_table()
    wrong = np.array(["bee", "ant", "bee"])
    X = X.iloc[:3].copy()
    X[["m1__logit__ant", "m1__logit__bee"]] = X[["m0__logit__ant", "m0__logit__bee"]].to_numpy()
    for selection in ("ola", "knora-u", "knora-e"):
        clf = LocalAccuracy(3, selection=selection).fit(X, wrong)
        assert clf.combination_weights(X).to_numpy().tolist() == [[0.5, 0.5]] * 3


def test_nearest_columns():
    similarity = np.random.default_rng(0).normal(size=(20, 9)).round(1)
    everything = np.argsort(-similarity, axis=1, kind="stable")
    np.testing.assert_array_equal(_nearest(similarity, 100), everything)
    few = np.take_along_axis(similarity, _nearest(similarity, 2.5), axis=1)
    np.testing.assert_array_equal(few, np.take_along_axis(similarity, everything[:, :3], axis=1))


def test_confidence_cascade():
    proba = np.array(
        [
            [[0.95, 0.05], [0.2, 0.8], [0.5, 0.5]],  # the first is sure
            [[0.85, 0.15], [0.97, 0.03], [0.5, 0.5]],  # the first two are, together
            [[0.6, 0.4], [0.4, 0.6], [0.05, 0.95]],  # all three are not
        ]
    )
    X = as_frame(np.log(proba), classes=["ant", "bee"])
    clf = ConfidenceCascade(0.9).fit(X)
    assert clf.n_asked(X).tolist() == [1, 2, 3]
    third = 1 / 3
    np.testing.assert_allclose(
        clf.combination_weights(X), [[1, 0, 0], [0.5, 0.5, 0], [third, third, third]]
    )
    expected = [proba[0, 0], proba[1, :2].mean(axis=0), proba[2].mean(axis=0)]
    np.testing.assert_allclose(clf.predict_proba(X), expected)
    backwards = ConfidenceCascade(0.9, order=["m2", "m1", "m0"]).fit(X)
    assert backwards.n_asked(X).tolist() == [3, 3, 1]
    with pytest.raises(ValueError, match="every backbone of the table once: m0, m1, m2; got m0"):
        ConfidenceCascade(order=["m0"]).fit(X)


def test_agreement_cascade():
    a, b, c = np.eye(3) * 2
    logits = np.array([[a, a, b, b], [a, b, b, a], [a, b, c, a], [a, b, c, c], [c, a, b, b]])
    X = as_frame(logits, classes=list("abc"))
    clf = AgreementCascade().fit(X)
    assert clf.n_asked(X).tolist() == [2, 3, 4, 4, 4]
    assert clf.predict(X).tolist() == ["a", "b", "a", "c", "b"]
    assert clf.combination_weights(X).to_numpy().tolist() == [
        [0.5, 0.5, 0, 0],
        [0, 0.5, 0.5, 0],
        [0.5, 0, 0, 0.5],
        [0, 0, 0.5, 0.5],
        [0, 0, 0.5, 0.5],
    ]


def test_neural_combiners_start_at_equal_weights():
    X, y = make_table()
    slow = {"learning_rate": 1e-12, "n_steps": 1, "random_state": 0}
    for weight_map, weight in [("softplus", 1), ("exp", 1), ("raw", 1), ("softmax", 0.5)]:
        clf = NeuralLogitController(weight_map=weight_map, **slow).fit(X, y)
        np.testing.assert_allclose(clf.combination_weights(X), weight, rtol=1e-5)
    divided = NeuralLogitController(weight_map="softmax", temperature="divide", **slow).fit(X, y)
    np.testing.assert_allclose(divided.combination_weights(X), 2, rtol=1e-5)


@pytest.mark.parametrize(
    "clf",
    [
        NeuralLogitController(learning_rate=1e-2, n_steps=100, random_state=0),
        SoftmaxGate(n_steps=300, random_state=0),
        MixtureOfExperts(n_steps=300, random_state=0),
    ],
    ids=repr,
)
def test_neural_combiners_learn_which_backbone_to_ask(clf):
    X, y = local_table()
    clf.fit(X, y)
    weights = clf.combination_weights(X).to_numpy()
    assert (weights[:3, 0] > weights[:3, 1]).all()
    assert (weights[3:, 1] > weights[3:, 0]).all()
    assert clf.score(X, y) == 1


def test_controller_computes_what_its_arrays_say():
    X, y = make_table()
    clf = NeuralLogitController(n_steps=20, random_state=0).fit(X, y)
    parts = [X[[n for n in X if n.startswith(f"m{b}__emb")]].to_numpy() for b in range(2)]
    inputs = np.hstack([p / np.linalg.norm(p, axis=1, keepdims=True) for p in parts])
    assert [coef.shape for coef in clf.coefs_] == [(14, 128), (128, 2)]
    hidden = np.maximum(inputs @ clf.coefs_[0] + clf.intercepts_[0], 0)
    weights = np.log1p(np.exp(hidden @ clf.coefs_[1] + clf.intercepts_[1]))
    np.testing.assert_allclose(clf.combination_weights(X), weights, rtol=1e-5)


def test_controller_trains_in_batches():
    X, y = make_table(n_per_class=10)
    whole = NeuralLogitController(n_steps=20, random_state=0).fit(X, y)
    batches = clone(whole).set_params(batch_size=7).fit(X, y)
    again = clone(batches).fit(X, y)
    np.testing.assert_array_equal(batches.coefs_[0], again.coefs_[0])
    assert not np.allclose(batches.coefs_[0], whole.coefs_[0])
    other = clone(batches).set_params(random_state=1).fit(X, y)
    assert not np.allclose(batches.coefs_[0], other.coefs_[0])


def test_batches_take_every_row_once_in_a_pass():
    batches = list(islice(_batches(10, 4, np.random.RandomState(0)), 6))
    assert [len(rows) for rows in batches] == [4, 4, 2] * 2
    for each_pass in (batches[:3], batches[3:]):
        assert sorted(np.concatenate(each_pass)) == list(range(10))
    assert np.concatenate(batches[:3]).tolist() != np.concatenate(batches[3:]).tolist()


@pytest.mark.parametrize("weight_map", ["softplus", "softmax", "exp"])
@pytest.mark.parametrize("temperature", ["multiply", "divide"])
def test_no_temperature_overflows(weight_map, temperature):
    X, y = make_table()
    clf = NeuralLogitController(
        weight_map=weight_map, temperature=temperature, feature_norm="none", learning_rate=0.1
    )
    clf.set_params(n_steps=20, random_state=0).fit(X, y)
    X[[name for name in X if "__embedding__" in name]] *= 1e6
    assert_is_distribution(clf.predict_proba(X))
    assert (clf.combination_weights(X).to_numpy() > 0).all()


def test_raw_weights_cannot_divide():
    X, y = make_table()
    with pytest.raises(ValueError, match="weight_map='raw' can be zero"):
        NeuralLogitController(weight_map="raw", temperature="divide").fit(X, y)


def test_predicting_needs_no_torch():
    X, y = make_table()
    fitted = NeuralLogitController(n_steps=1, random_state=0).fit(X, y)
    code = (
        "import sys, pickle\n"
        "clf, X = pickle.load(sys.stdin.buffer)\n"
        "print(*clf.predict(X), sep='\\n')\n"
        "assert 'torch' not in sys.modules\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code],
        input=pickle.dumps((fitted, X)),
        capture_output=True,
        check=True,
    )
    assert ran.stdout.decode().splitlines() == fitted.predict(X).tolist()


# The stand-in where there are no zero-shot logits


def test_class_means_leave_one_out_is_a_refit():
    X, y = make_table(n_per_class=3)
    X = X[[name for name in X if "__embedding__" in name]].astype(np.float64)
    codes = np.searchsorted(np.unique(y), y)
    probe = ProbabilityAverage().fit(X, y)
    table = probe._table(X)
    weight = np.ones(len(y))
    means = ClassMeans(table, codes, weight)
    held_out = means.leave_one_out(table, codes, weight)
    for i in range(len(y)):
        rest = np.delete(np.arange(len(y)), i)
        for b, name in enumerate(["m0", "m1"]):
            rows = X[[n for n in X if n.startswith(name)]].to_numpy()
            centre = rows.mean(axis=0)
            refit = [rows[rest][codes[rest] == c].mean(axis=0) for c in range(4)]
            distance = [np.sum((rows[i] - m) ** 2) - np.sum((rows[i] - centre) ** 2) for m in refit]
            np.testing.assert_allclose(held_out[b, i], -means.scales[b] * np.array(distance))


def test_class_means_know_nothing_of_a_class_without_its_only_row():
    X, y = make_table(n_per_class=1)
    X = X[[name for name in X if "__embedding__" in name]]
    clf = SuperLearner().fit(X, y)
    np.testing.assert_allclose(clf.weights_, [0.5, 0.5])  # where the search starts
    np.testing.assert_array_equal(clf.predict(X), y)


# --- odd labels, arrays and layouts ---------------------------------------------------------


def named(keys, n_rows=6, dtype=np.float64):
    rng = np.random.default_rng(0)
    names = [f"{b}__logit__{k}" for b in "ab" for k in keys]
    return pd.DataFrame(rng.normal(size=(n_rows, len(names))), columns=names, dtype=dtype)


def test_boolean_labels():
    clf = ProbabilityAverage().fit(named(["False", "True"]), [True] * 6)
    assert clf.classes_.tolist() == [False, True]
    with pytest.raises(ValueError, match="'Maybe'"):
        ProbabilityAverage().fit(named(["False", "True", "Maybe"]), [True, False] * 3)


@pytest.mark.parametrize("keys", [["1", "01"], ["10", "1_0"]])
def test_two_keys_that_read_as_one_number(keys):
    with pytest.raises(ValueError, match=f"'{keys[1]}'.* not of the type"):
        ProbabilityAverage().fit(named(keys), [int(keys[0])] * 6)


@pytest.mark.parametrize("key", ["nan", "inf", "cat"])
def test_a_key_that_is_no_number(key):
    with pytest.raises(ValueError, match=f"'{key}'.* not of the type"):
        ProbabilityAverage().fit(named(["1", key]), [1.0] * 6)


def test_labels_of_a_type_too_narrow_for_the_classes():
    X = named([str(i) for i in range(300)])
    clf = ProbabilityAverage().fit(X, np.arange(6, dtype=np.uint8))
    assert clf.classes_.tolist() == list(range(300))
    few = ProbabilityAverage().fit(named(["1", "2", "3"]), np.array([1, 2] * 3, dtype=np.uint8))
    assert few.classes_.dtype == np.uint8


def test_missing_labels_of_pandas_are_named():
    for y in (pd.Series(["a", "b", pd.NA] * 2, dtype="string"), pd.Series([1, 2, pd.NA] * 2)):
        with pytest.raises(ValueError, match="label at index 2 is missing"):
            ProbabilityAverage().fit(named(["a", "b"]), y)


def test_objects_that_are_numbers():
    X = named(["1", "2"])
    for y in (pd.Series([1, 2] * 3, dtype="Int64"), np.array([1, 2] * 3, dtype=object)):
        assert ProbabilityAverage().fit(X, y).classes_.tolist() == [1, 2]


def test_logits_with_their_axes_swapped():
    logits = np.random.default_rng(0).normal(size=(8, 2, 3))
    clf = ProbabilityAverage().fit(logits)
    with pytest.raises(ValueError, match=r"2 backbones and 3 classes.* \(8, 3, 2\)"):
        clf.predict(logits.transpose(0, 2, 1))


@pytest.mark.parametrize("labels", [[0, 1, 2], [1, 2, 3], [0, 2, 4], ["x", "y", "z"]], ids=str)
def test_no_subset_of_the_rows_moves_a_class_of_an_array(labels):
    logits = np.random.default_rng(0).normal(size=(9, 2, 3))
    y = np.tile(labels, 3)
    whole = ProbabilityAverage().fit(logits, y)
    assert whole.classes_.tolist() == labels
    for absent in labels:
        kept = y != absent
        with pytest.raises(ValueError, match=r"logits of 3 classes but y has 2 .*layout=Layout\("):
            ProbabilityAverage().fit(logits[kept], y[kept])
        weighted = SuperLearner().fit(logits, y, sample_weight=kept)
        assert weighted.classes_.tolist() == labels
        layout = Layout({"left": 0, "right": 0}, list(map(str, labels)))
        named = ProbabilityAverage(layout=layout).fit(logits[kept], y[kept])
        np.testing.assert_array_equal(named.predict(logits), whole.predict(logits))


def test_a_layout_for_a_frame_of_other_names():
    X = pd.DataFrame(np.random.default_rng(0).normal(size=(8, 4)), columns=list("pqrs"))
    clf = SuperLearner(layout=Layout({"a": 2, "b": 2})).fit(X, [0, 1] * 4)
    assert clf.backbones_ == ["a", "b"]
    with pytest.warns(UserWarning, match="no column of X is named like a backbone's"):
        SuperLearner().fit(X, [0, 1] * 4)


def test_a_layout_for_logits():
    logits = np.random.default_rng(0).normal(size=(8, 2, 3))
    layout = Layout({"left": 0, "right": 0}, ["cat", "cow", "dog"])
    clf = SuperLearner(layout=layout).fit(logits, ["cat", "dog"] * 4)
    assert clf.backbones_ == ["left", "right"]
    assert clf.classes_.tolist() == ["cat", "cow", "dog"]
    with pytest.raises(ValueError, match="layout describes"):
        SuperLearner(layout=Layout({"left": 0}, ["cat", "cow", "dog"])).fit(logits, ["cat"] * 8)


def test_nan_in_logits_is_named():
    logits = np.zeros((4, 2, 3))
    logits[3, 1, 2] = np.nan
    with pytest.raises(ValueError, match="row 3, column 'backbone1__logit__2'"):
        ProbabilityAverage().fit(logits)


def test_an_order_that_is_no_order():
    with pytest.raises(ValueError, match="got a, 1"):
        ConfidenceCascade(order=["a", 1]).fit(named(["x", "y"]))


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
