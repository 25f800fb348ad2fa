"""Backbones asked one after another."""

import numpy as np
import pytest
from instances import as_frame

from sklearn_clipensemble.ensembles import AgreementCascade, ConfidenceCascade


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


def test_an_order_that_is_no_order():
    X = as_frame(np.zeros((1, 2, 3)))
    with pytest.raises(ValueError, match="got a, 1"):
        ConfidenceCascade(order=["a", 1]).fit(X)
