"""How alike the backbones' representations are."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations_with_replacement
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from sklearn.utils import check_array, check_consistent_length

from sklearn_clipensemble.inspection._answers import Asked, as_answers, need


def linear_cka(A: ArrayLike, B: ArrayLike, *, debiased: bool = False) -> float:
    """Return the linear centered kernel alignment of two representations of the same images.

    ``HSIC(A, B) / sqrt(HSIC(A, A) HSIC(B, B))`` with linear kernels [1]_: 1 for
    representations that are equal up to rotation and scale. Its usual estimate
    grows towards 1 with the number of dimensions per image; ``debiased`` takes the
    unbiased estimate of HSIC [2]_ and is 0 on average for unrelated ones.

    Parameters
    ----------
    A, B : array-like of shape (n_samples, width)
        The representations, of any width each.
    debiased : bool, default=False
        Whether to use the unbiased estimate; takes at least four images.

    Returns
    -------
    float
        The alignment, between 0 and 1; debiased, it can be negative. NaN where
        a representation is constant.

    References
    ----------
    .. [1] Kornblith et al., "Similarity of Neural Network Representations Revisited", ICML 2019.
    .. [2] Song et al., "Feature Selection via Dependence Maximization", JMLR 13, 2012, eq. 4.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_clipensemble.inspection import linear_cka
    >>> A, B = np.random.default_rng(0).normal(size=(2, 200, 100))
    >>> round(linear_cka(A, B), 2), round(linear_cka(A, B, debiased=True), 2)
    (0.34, 0.01)
    """
    check_consistent_length(A, B)
    a, b = (check_array(M, dtype=np.float64) for M in (A, B))
    a, b = a - a.mean(axis=0), b - b.mean(axis=0)
    hsic = _unbiased_hsic if debiased else _hsic
    if debiased and len(a) < 4:
        raise ValueError(f"The unbiased estimate takes at least 4 images; there are {len(a)}.")
    scale = hsic(a, a) * hsic(b, b)
    return float(hsic(a, b) / np.sqrt(scale)) if scale > 0 else float("nan")


def _hsic(A: np.ndarray, B: np.ndarray) -> float:
    """Return the biased HSIC of centered features, up to a factor that cancels."""
    return np.square(A.T @ B).sum()


def _unbiased_hsic(A: np.ndarray, B: np.ndarray) -> float:
    """Return the unbiased HSIC of centered features, up to a factor that cancels."""
    # The rows of their linear kernel without its diagonal sum to minus that diagonal.
    n = len(A)
    a, b = np.square(A).sum(axis=1), np.square(B).sum(axis=1)
    off_diagonal = _hsic(A, B) - a @ b
    return off_diagonal + a.sum() * b.sum() / ((n - 1) * (n - 2)) - 2 * (a @ b) / (n - 2)


def cka_matrix(X: Asked, *, estimator: Any = None, debiased: bool = False) -> pd.DataFrame:
    """Return the linear centered kernel alignment of every pair of backbones.

    Parameters
    ----------
    X, estimator : object
        As in :func:`oracle_score`; of a table, embeddings are compared, logits
        where a backbone has none. A mapping of backbone to an array of shape
        (n_samples, width) holds any features.
    debiased : bool, default=False
        Whether to use the unbiased estimate; see :func:`linear_cka`.

    Returns
    -------
    DataFrame of shape (n_backbones, n_backbones)
        Alignments, symmetric.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_clipensemble.inspection import cka_matrix
    >>> A = np.random.default_rng(0).normal(size=(50, 4))
    >>> cka_matrix({"RN50": A, "ViT-B-32": A + 1}).to_numpy().round(2).tolist()
    [[1.0, 1.0], [1.0, 1.0]]
    """
    # A mapping holds embeddings here, and no answers.
    if estimator is None and isinstance(X, Mapping):
        features = X
    else:
        features = need(as_answers(X, estimator=estimator), "features")
    names = list(features)
    values = np.ones((len(names), len(names)))
    for (i, a), (j, b) in combinations_with_replacement(enumerate(features.values()), 2):
        values[i, j] = values[j, i] = linear_cka(a, b, debiased=debiased)
    return pd.DataFrame(values, index=names, columns=names)
