"""Gaussian discriminant analysis with one shrunken covariance."""

from __future__ import annotations

import numpy as np
from scipy.linalg import eigh

from sklearn_clipensemble.heads._head import Head, fill_unseen, one_hot, span_of
from sklearn_clipensemble.table._features import unit_rows
from sklearn_clipensemble.table._scores import fit_pool, weight_of_others


class _Centred:
    """Rows about the mean of the labelled ones, at length one."""

    def __init__(self, rows, codes, weight):
        self.center = np.average(rows, axis=0, weights=weight)

    def __repr__(self):
        return f"<{type(self).__name__} of {len(self.center)} columns>"

    def __call__(self, rows):
        # What is left of a unit row at the centre is rounding, with no direction.
        return unit_rows(rows - self.center, negligible=1e-6)


class GDAHead(Head):
    """Gaussian classes with one shrunken covariance, beside the zero-shot prior (GDA).

    Linear discriminant analysis with the published precision ``d ((N - 1) S +
    tr(S) I)^-1`` and uniform class shares, its scores added to the prior's
    log-probabilities.

    Attributes
    ----------
    coef_ : ndarray of shape (n_columns, n_seen_classes)
        Discriminant directions of the classes with labelled rows.
    intercept_ : ndarray of shape (n_seen_classes,)
        Their constants.
    pool_weights_ : ndarray of shape (2,)
        Weights of the prior and of the discriminant scores.

    Notes
    -----
    The features are centred on the labelled rows, and in no other metric. The
    source searches the balance of the two on a validation set; here both weights
    make the labels most likely, given exact leave-one-out scores. Where no class
    has two rows, the discriminant scores get the spread of the prior's, and the
    covariance is that of all rows (the source augments the images). A class
    without a labelled row gets the mean score of the others.

    References
    ----------
    Z. Wang et al., "A hard-to-beat baseline for training-free CLIP-based adaptation", ICLR 2024.

    Examples
    --------
    >>> from sklearn_clipensemble import datasets, heads
    >>> X, y = datasets.load_cats_and_dogs()
    >>> heads.GDAHead().fit(X, y).predict(X)
    array(['cat', 'cat', 'cat', 'dog', 'dog', 'dog'], dtype='<U3')
    """

    _metric = _Centred

    def _learn(self, features, log_prior, codes, weight):
        n_classes = len(self.classes_)
        self.seen_ = np.bincount(codes, weights=weight, minlength=n_classes) > 0
        codes = np.unique(codes, return_inverse=True)[1]
        rows, basis = span_of(features)
        gaussians = _Gaussians(rows, codes, weight, features.shape[1])
        coef, self.intercept_ = gaussians.discriminant()
        self.coef_ = basis.T @ coef

        scores = features @ self.coef_ + self.intercept_
        unit = _span(log_prior, weight) / _span(scores, weight)
        held_out = fill_unseen(gaussians.leave_one_out(), self.seen_)
        labels = np.flatnonzero(self.seen_)[codes]
        self.pool_weights_ = fit_pool(
            np.stack([log_prior, held_out]), labels, weight, start=np.array([1.0, unit])
        )

    def _scores(self, features, log_prior):
        scores = fill_unseen(features @ self.coef_ + self.intercept_, self.seen_)
        return self.pool_weights_[0] * log_prior + self.pool_weights_[1] * scores


def _span(scores, weight):
    """Return the mean range of scores over the classes; 10, that of a sure answer, where it is 0."""
    ranges = np.average(np.ptp(scores, axis=1), weights=weight)
    return ranges if ranges > 0 else 10.0


class _Gaussians:
    """Class means and one covariance, in the coordinates in which the covariance is diagonal."""

    def __init__(self, rows, codes, weight, n_features):
        self.codes, self.weight, self.n_features = codes, weight, n_features
        self.total = weight.sum()
        self.mass = np.bincount(codes, weights=weight)
        labels = one_hot(codes, len(self.mass))
        means = (labels * weight[:, None]).T @ rows / self.mass[:, None]
        residuals = rows - means[codes]
        scatter = (residuals * weight[:, None]).T @ residuals
        size = np.trace((rows * weight[:, None]).T @ rows)
        self.within = np.trace(scatter) > 1e-9 * size
        if not self.within:
            residuals = rows - np.average(rows, axis=0, weights=weight)
            scatter = (residuals * weight[:, None]).T @ residuals
        values, self.axes = eigh(scatter)
        self.values = np.maximum(values, 0)
        self.rows, self.means = rows @ self.axes, means @ self.axes
        self.trace = np.trace(scatter)

    def discriminant(self):
        """Return coefficients and intercepts of the classes' linear scores."""
        shrinkage = self.trace / max(self.total - 1, 1)
        # Where all rows are the same nothing tells the classes apart: the pseudo-inverse of zero.
        known = self.values + shrinkage > 0
        precision = np.where(known, self.n_features, 0) / np.where(
            known, self.values + shrinkage, 1
        )
        weighted = precision * self.means
        return self.axes @ weighted.T, -np.einsum("cd,cd->c", weighted, self.means) / 2

    def leave_one_out(self):
        """Return each row's scores from the other rows; zeros where those cannot tell."""
        rows, means, codes = self.rows, self.means, self.codes
        leaving = np.minimum(self.weight, 1.0)
        rest = weight_of_others(codes, self.weight)
        known = (rest > 0) & self.within
        rest = np.where(known, rest, 1.0)
        residuals = rows - means[codes]
        # Without the row the scatter loses this multiple of its residual's outer product.
        lost = leaving * self.mass[codes] / rest
        trace = self.trace - lost * np.einsum("ij,ij->i", residuals, residuals)
        known &= trace > 1e-9 * self.trace
        shrinkage = np.where(known, trace, 1.0) / np.maximum(self.total - leaving - 1, 1)
        inverse = 1 / (self.values + shrinkage[:, None])

        own = means[codes] - (leaving / rest)[:, None] * residuals
        at = np.arange(len(rows))

        def against_means(weighted):
            products = weighted @ means.T
            products[at, codes] = np.einsum("ij,ij->i", weighted, own)
            return products

        # Sherman and Morrison: the inverse after the residual's outer product is gone.
        weighted = residuals * inverse
        gain = lost / (1 - lost * np.einsum("ij,ij->i", weighted, residuals))
        shadow = against_means(weighted)
        lengths = inverse @ np.square(means).T
        lengths[at, codes] = np.einsum("ij,ij->i", inverse, np.square(own))
        along = np.einsum("ij,ij->i", weighted, rows)
        cross = against_means(rows * inverse) + (gain * along)[:, None] * shadow
        lengths += gain[:, None] * np.square(shadow)
        scores = self.n_features * (cross - lengths / 2)
        return np.where(known[:, None], scores, 0.0)
