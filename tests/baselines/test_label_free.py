"""Combiners that need no labels."""

import numpy as np
import pytest
from instances import as_frame
from scipy.special import logsumexp, softmax

from sklearn_clipensemble.ensembles import (
    AgreementWeighted,
    EntropyWeighted,
    LogitAverage,
    MostConfident,
    ProbabilityAverage,
    SingleBackbone,
    Vote,
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
