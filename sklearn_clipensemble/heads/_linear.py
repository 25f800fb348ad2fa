"""Linear heads trained on the log-likelihood."""

from __future__ import annotations

import numpy as np
from scipy.linalg import eigh
from scipy.optimize import minimize
from scipy.special import logsumexp

from sklearn_clipensemble.heads._head import (
    N_ROWS_TO_CHOOSE_ON,
    Head,
    fill_unseen,
    one_hot,
    span_of,
)
from sklearn_clipensemble.table._features import few_of_each
from sklearn_clipensemble.table._scores import log_softmax, smooth_log_likelihood, weight_of_others

# From stiff to soft: each fit starts near its end.
_RIDGES = (3.0, 1.0, 0.3, 0.1, 0.03, 0.01, 0.003)


class _LinearMixin:
    """Softmax regression on top of an offset, its penalty chosen by leave-one-out.

    Attributes
    ----------
    coef_ : ndarray of shape (n_columns, n_seen_classes)
        The weights of the classes with labelled rows.
    ridge_ : float
        The chosen penalty, scikit-learn's ``1 / C``.
    """

    def _learn(self, features, log_prior, codes, weight):
        self.seen_ = np.bincount(codes, weights=weight, minlength=len(self.classes_)) > 0
        codes = np.unique(codes, return_inverse=True)[1]
        offset = self._offset(log_prior)[:, self.seen_]
        rows, basis = span_of(features)
        some = few_of_each(codes, N_ROWS_TO_CHOOSE_ON)
        self.ridge_ = _choose_ridge(rows[some], offset[some], codes[some], weight[some])
        self.coef_ = basis.T @ _fit_softmax(rows, offset, codes, weight, self.ridge_)

    def _scores(self, features, log_prior):
        return self._offset(log_prior) + fill_unseen(features @ self.coef_, self.seen_)

    def _offset(self, log_prior):
        return log_prior if self._uses_logits else np.zeros_like(log_prior)


class AnchoredLinearHead(_LinearMixin, Head):
    """Softmax regression that starts at the zero-shot prior and is held to it (LP++, CLAP).

    The scores are ``log prior + x W``. The penalty ``ridge / 2 * |W|^2`` holds
    them to the prior as it would hold class weights to the text prototypes.

    Notes
    -----
    The sources set the strength by their training schedules; here training runs
    to the optimum, and the penalty, of seven from 0.003 to 3, is the one under
    which the rows are most likely, each given the others: leave-one-out to first
    order, on about 1,000 rows. With one row per class it is 0.3. A class without
    a labelled row gets the mean correction of the others. There is no intercept:
    balanced shots say nothing about the classes' shares.

    References
    ----------
    Y. Huang et al., "LP++: a surprisingly strong linear probe for few-shot CLIP", CVPR 2024.
    J. Silva-Rodriguez et al., "A closer look at the few-shot adaptation of large vision-language
    models", CVPR 2024.

    Examples
    --------
    >>> from sklearn_clipensemble import datasets, heads
    >>> X, y = datasets.load_cats_and_dogs()
    >>> heads.AnchoredLinearHead().fit(X, y).predict(X)
    array(['cat', 'cat', 'cat', 'dog', 'dog', 'dog'], dtype='<U3')
    """


class LogisticHead(_LinearMixin, Head):
    """Logistic regression on the features, with no use of the zero-shot prior.

    The control that every combination of backbones has to beat: the same labels
    and features, and the penalty of :class:`AnchoredLinearHead`.

    References
    ----------
    A. Radford et al., "Learning transferable visual models from natural language supervision",
    ICML 2021: the linear probe.

    Examples
    --------
    >>> from sklearn_clipensemble import datasets, heads
    >>> X, y = datasets.load_cats_and_dogs()
    >>> heads.LogisticHead().fit(X, y).predict(X)
    array(['cat', 'cat', 'cat', 'dog', 'dog', 'dog'], dtype='<U3')
    """

    _uses_logits = False


def _choose_ridge(rows, offset, codes, weight):
    """Return the penalty under which the rows are most likely, each given the others."""
    counted = np.where(weight_of_others(codes, weight) > 0, weight, 0.0)
    if not counted.any():
        return 0.3
    coef, merits = np.zeros((rows.shape[1], offset.shape[1])), {}
    for ridge in _RIDGES:
        coef = _fit_softmax(rows, offset, codes, weight, ridge, start=coef, tol=1e-4)
        held_out = _leave_one_out(rows, offset, codes, weight, ridge, coef)
        merits[ridge] = smooth_log_likelihood(log_softmax(held_out), codes, counted)
    return max(merits, key=merits.get)


def _leave_one_out(rows, offset, codes, weight, ridge, coef):
    """Return each row's scores without it, to first order: one Newton step from the optimum.

    The curvature at a row is taken to be the same between all classes, at its mean, so that one
    decomposition serves all.
    """
    scores = rows @ coef + offset
    proba = np.exp(log_softmax(scores))
    curvature = (1 - np.square(proba).sum(axis=1)) / max(offset.shape[1] - 1, 1)
    values, axes = eigh((rows * (weight * curvature)[:, None]).T @ rows)
    leverage = np.square(rows @ axes) @ (1 / (np.maximum(values, 0) + ridge))
    leaving = np.minimum(weight, 1.0)
    step = leaving * leverage / (1 - leaving * curvature * leverage)
    return scores + step[:, None] * (proba - one_hot(codes, offset.shape[1]))


def _fit_softmax(rows, offset, codes, weight, ridge, start=None, tol=1e-7):
    """Return the weights that minimise the penalised cross-entropy."""
    shape = rows.shape[1], offset.shape[1]
    start = np.zeros(shape) if start is None else start
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

    options = {"gtol": tol, "maxiter": 100}
    found = minimize(
        loss, start.ravel(), jac=True, hessp=curve, method="trust-ncg", options=options
    )
    return found.x.reshape(shape)
