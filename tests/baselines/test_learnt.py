"""Combiners with one weight or temperature per backbone, learnt from labels.

The fit of a temperature is tested by itself, since heads use it too.
"""

import numpy as np
import pytest
from instances import as_frame, make_table
from scipy.special import logsumexp, softmax
from sklearn.base import clone

from sklearn_clipensemble.ensembles import (
    BestBackbone,
    CalibratedAverage,
    CalibratedConfidence,
    GeneticSearch,
    GreedySelection,
    LogitAverage,
    SuperLearner,
)
from sklearn_clipensemble.table._scores import fit_temperature

# Three images, two backbones, three classes.
LOGITS = np.array(
    [
        [[2.0, 0.0, -1.0], [0.5, 1.0, 0.0]],
        [[0.0, 0.3, 0.1], [0.0, 0.0, 4.0]],
        [[1.0, 1.5, 0.0], [3.0, 0.0, 0.0]],
    ]
)
PROBA = softmax(LOGITS, axis=2)


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
    logits = [X[[f"m{b}__logit__{c}" for c in range(4)]].to_numpy() for b in range(2)]
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
    logits = np.stack([X[[f"m{b}__logit__{c}" for c in range(4)]] for b in range(2)])

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
