"""The combiners but the adaptive one."""


import numpy as np
import pandas as pd
import pytest
from scipy.special import logsumexp, softmax
from sklearn.utils.estimator_checks import parametrize_with_checks

from sklearn_clipensemble.ensembles import (
    LogitAverage,
    ProbabilityAverage,
    SingleBackbone,
)

LABEL_FREE = [SingleBackbone, LogitAverage, ProbabilityAverage]
COMBINERS = LABEL_FREE

CLASSES = ["ant", "bee", "cat"]
# Two backbones, three images, three classes.
LOGITS = np.array(
    [
        [[2.0, 0.0, -1.0], [0.5, 1.0, 0.0]],
        [[0.0, 0.3, 0.1], [0.0, 0.0, 4.0]],
        [[1.0, 1.5, 0.0], [3.0, 0.0, 0.0]],
    ]
)
PROBA = softmax(LOGITS, axis=2)


def as_frame(logits, classes=CLASSES, embeddings=None):
    """Name the columns of logits (n_samples, n_backbones, n_classes)."""
    columns = {}
    for b in range(logits.shape[1]):
        for i in range(0 if embeddings is None else embeddings.shape[2]):
            columns[f"m{b}__embedding__{i}"] = embeddings[:, b, i]
        for c, key in enumerate(classes):
            columns[f"m{b}__logit__{key}"] = logits[:, b, c]
    return pd.DataFrame(columns)


@pytest.mark.filterwarnings("ignore:X is an array without column names:UserWarning")
@parametrize_with_checks([cls() for cls in COMBINERS])
def test_scikit_learn_checks(estimator, check):
    check(estimator)


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
    np.testing.assert_allclose(
        ProbabilityAverage().fit(X).predict_proba(X), PROBA.mean(axis=1), rtol=1e-6
    )
    mean = LOGITS.mean(axis=1)
    np.testing.assert_allclose(
        LogitAverage().fit(X).predict_log_proba(X),
        mean - logsumexp(mean, axis=1, keepdims=True),
        rtol=1e-6,
    )
