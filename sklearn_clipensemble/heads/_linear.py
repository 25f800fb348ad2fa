"""Linear heads trained on the log-likelihood."""

from __future__ import annotations

from numbers import Real
from typing import ClassVar

import numpy as np
from scipy.optimize import minimize
from scipy.special import logsumexp
from sklearn.utils._param_validation import Interval

from sklearn_clipensemble._layout import Layout
from sklearn_clipensemble.heads._base import Head, fill_unseen, one_hot, span_of


class AnchoredLinearHead(Head):
    """Softmax regression that starts at the zero-shot prior and is held to it (LP++, CLAP).

    The scores are ``log prior + x W``. The penalty ``ridge / 2 * |W|^2`` holds
    them to the prior as it would hold class weights to the text prototypes.

    Parameters
    ----------
    ridge : float, default=0.03
        The penalty, scikit-learn's ``1 / C``.
    backbone : str or None, default=None
        Id of the one backbone to use; None uses all, side by side.
    layout : Layout or None, default=None
        What the columns of a bare 2-D array are; a DataFrame says it itself.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The labels, those without a labelled row among them.
    backbones_ : list of str
        The backbones of the table.
    coef_ : ndarray of shape (n_columns, n_seen_classes)
        The weights of the classes with labelled rows.
    n_features_in_ : int
        Number of columns.

    Notes
    -----
    Both sources hold linear weights to text prototypes with no validation set;
    a table holds the prototypes' logits, not the prototypes, and so the
    difference to them is what is learnt and penalised. The sources set the
    strength by their training schedules; here training runs to the optimum, and
    the default penalty is that of CLIP's own linear probes (``C=0.316`` on
    features of length about 10). A class without a labelled row gets the mean
    correction of the others. There is no intercept: balanced shots say nothing
    about the classes' shares.

    References
    ----------
    Y. Huang et al., "LP++: a surprisingly strong linear probe for few-shot
    CLIP", CVPR 2024.
    J. Silva-Rodriguez, S. Hajimiri, I. Ben Ayed and J. Dolz, "A closer look at
    the few-shot adaptation of large vision-language models", CVPR 2024.

    Examples
    --------
    >>> import pandas as pd
    >>> from sklearn_clipensemble.heads import AnchoredLinearHead
    >>> X = pd.DataFrame(
    ...     {"a__embedding__0": [1.0, 0.8, 0.0, 0.6], "a__embedding__1": [0.0, 0.6, 1.0, 0.8],
    ...      "a__logit__cat": [1.0, 0.0, 0.0, 0.2], "a__logit__dog": [0.0, 0.2, 1.0, 0.0]}
    ... )
    >>> AnchoredLinearHead().fit(X, ["cat", "cat", "dog", "dog"]).predict(X)
    array(['cat', 'cat', 'dog', 'dog'], dtype='<U3')
    """

    _anchored = True
    _parameter_constraints: ClassVar[dict] = {
        **Head._parameter_constraints,
        "ridge": [Interval(Real, 0, None, closed="neither")],
    }

    def __init__(
        self, *, ridge: float = 0.03, backbone: str | None = None, layout: Layout | None = None
    ):
        super().__init__(backbone=backbone, layout=layout)
        self.ridge = ridge

    def _learn(self, features, log_prior, codes, weight):
        n_classes = len(self.classes_)
        self.seen_ = np.bincount(codes, weights=weight, minlength=n_classes) > 0
        codes = np.unique(codes, return_inverse=True)[1]
        offset = self._offset(log_prior)[:, self.seen_]
        rows, basis = span_of(features)
        self.coef_ = basis.T @ _fit_softmax(rows, offset, codes, weight, self.ridge)

    def _offset(self, log_prior):
        return log_prior if self._anchored else np.zeros_like(log_prior)

    def _scores(self, features, log_prior):
        return self._offset(log_prior) + fill_unseen(features @ self.coef_, self.seen_)


class LogisticHead(AnchoredLinearHead):
    """Logistic regression on the features, with no use of the zero-shot prior.

    The control that every combination of backbones has to beat: the same
    labels and the same features.

    Parameters
    ----------
    ridge : float, default=0.03
        The penalty, scikit-learn's ``1 / C``.
    backbone : str or None, default=None
        Id of the one backbone to use; None uses all, side by side.
    layout : Layout or None, default=None
        What the columns of a bare 2-D array are; a DataFrame says it itself.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The labels, those without a labelled row among them.
    backbones_ : list of str
        The backbones of the table.
    coef_ : ndarray of shape (n_columns, n_seen_classes)
        The weights of the classes with labelled rows.
    n_features_in_ : int
        Number of columns.

    See Also
    --------
    AnchoredLinearHead : The same, held to the prior.

    Examples
    --------
    >>> import pandas as pd
    >>> from sklearn_clipensemble.heads import LogisticHead
    >>> X = pd.DataFrame(
    ...     {"a__embedding__0": [1.0, 0.8, 0.0, 0.6], "a__embedding__1": [0.0, 0.6, 1.0, 0.8],
    ...      "a__logit__cat": [1.0, 0.0, 0.0, 0.2], "a__logit__dog": [0.0, 0.2, 1.0, 0.0]}
    ... )
    >>> LogisticHead().fit(X, ["cat", "cat", "dog", "dog"]).predict(X)
    array(['cat', 'cat', 'dog', 'dog'], dtype='<U3')
    """

    _anchored = False


def _fit_softmax(rows, offset, codes, weight, ridge):
    """Return the weights that minimise the penalised cross-entropy."""
    shape = rows.shape[1], offset.shape[1]
    labels = one_hot(codes, shape[1])
    share, ridge = weight / weight.sum(), ridge / weight.sum()

    def predict(flat):
        scores = rows @ flat.reshape(shape) + offset
        return scores, logsumexp(scores, axis=1)

    def loss(flat):
        scores, log_norm = predict(flat)
        misses = (np.exp(scores - log_norm[:, None]) - labels) * share[:, None]
        value = share @ (log_norm - scores[np.arange(len(codes)), codes])
        slope = (rows.T @ misses).ravel() + ridge * flat
        return value + ridge / 2 * flat @ flat, slope

    def curve(flat, direction):
        scores, log_norm = predict(flat)
        proba = np.exp(scores - log_norm[:, None])
        change = proba * (rows @ direction.reshape(shape))
        change -= proba * change.sum(axis=1, keepdims=True)
        return (rows.T @ (change * share[:, None])).ravel() + ridge * direction

    found = minimize(
        loss,
        np.zeros(shape[0] * shape[1]),
        jac=True,
        hessp=curve,
        method="trust-ncg",
        options={"gtol": 1e-7, "maxiter": 100},
    )
    return found.x.reshape(shape)
