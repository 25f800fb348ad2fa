"""Kernel heads: a smooth correction of the zero-shot prior."""

from __future__ import annotations

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from scipy.optimize import minimize

from sklearn_clipensemble.heads._head import N_ROWS_TO_CHOOSE_ON, Head, one_hot
from sklearn_clipensemble.heads._ridge_path import RidgePath
from sklearn_clipensemble.table._features import cosine_kernel, few_of_each
from sklearn_clipensemble.table._scores import fit_temperature, weight_of_others

# The temperature of the scores where no row has another of its class.
_TEMPERATURE = 0.1


def _factor(gram, ridge):
    """Decompose the kernel plus a ridge for each row, in place."""
    # Rows may be equal and their weights huge: the ridge stays above rounding.
    rounding = len(gram) * np.finfo(gram.dtype).eps * gram.diagonal().max()
    gram[np.diag_indices_from(gram)] += np.maximum(ridge, rounding)
    return cho_factor(gram, lower=True, overwrite_a=True)


class _KernelMixin:
    """The prior's probabilities plus a kernel regression on what they miss.

    A subclass gives ``_take``, some rows of its features; ``_kernel``, between
    rows; and ``_choose``, which chooses the settings and returns the correction
    of each row by the others.

    Attributes
    ----------
    ridge_ : float
        The chosen ridge, the variance of the noise.
    temperature_ : float
        What the scores are divided by to give log-probabilities.
    dual_coef_ : ndarray of shape (n_labelled, n_classes)
        The labelled rows' coefficients.
    """

    def _learn(self, features, log_prior, codes, weight):
        targets = one_hot(codes, len(self.classes_)) - np.exp(log_prior)
        some = few_of_each(codes, N_ROWS_TO_CHOOSE_ON)
        chosen_on = self._take(features, some), targets[some], codes[some], weight[some]
        held_out = np.exp(log_prior[some]) + self._choose(*chosen_on)
        known = weight_of_others(codes[some], weight[some]) > 0
        self.temperature_ = _TEMPERATURE
        if known.any():
            some = some[known]
            self.temperature_ = fit_temperature(held_out[known], codes[some], weight[some])
        gram = self._kernel(features, features).astype(np.float64)
        self.labelled_ = features
        self.dual_coef_ = cho_solve(_factor(gram, self.ridge_ / weight), targets)

    def _scores(self, features, log_prior):
        correction = self._kernel(features, self.labelled_) @ self.dual_coef_
        return (np.exp(log_prior) + correction) / self.temperature_


class KernelRidgeHead(_KernelMixin, Head):
    """Kernel ridge regression on what the zero-shot prior misses (ProKeR).

    The scores are ``m(x) + k(x, X) (K + ridge I)^-1 (Y - m(X))`` with the
    prior's probabilities ``m``, one-hot labels ``Y`` and the kernel
    ``exp(-sharpness (1 - cos))``.

    Attributes
    ----------
    sharpness_ : float
        The chosen sharpness of the kernel.
    labelled_ : ndarray of shape (n_labelled, n_columns)
        The labelled rows' features.

    Notes
    -----
    The source chooses sharpness and ridge on a validation set, and fixes no scale
    for probabilities. Here the first two have the least squared leave-one-out
    error, in closed form, on about 1,000 rows, and the temperature makes the
    labels most likely given the same scores. With one row per class, sharpness 2,
    ridge 1 and temperature 0.1 are taken.

    References
    ----------
    Y. Bendou et al., "ProKeR: a kernel perspective on few-shot adaptation of large vision-language
    models", CVPR 2025.

    Examples
    --------
    >>> from sklearn_clipensemble import datasets, heads
    >>> X, y = datasets.load_cats_and_dogs()
    >>> heads.KernelRidgeHead().fit(X, y).predict(X)
    array(['cat', 'cat', 'cat', 'dog', 'dog', 'dog'], dtype='<U3')
    """

    def _take(self, features, rows):
        return features[rows]

    def _kernel(self, rows, others):
        return cosine_kernel(rows, others, self.sharpness_)

    def _choose(self, features, targets, codes, weight):
        counted = np.where(weight_of_others(codes, weight) > 0, weight, 0.0)
        if not counted.any():
            self.sharpness_, self.ridge_ = 2.0, 1.0
            return np.zeros_like(targets)
        best = np.inf
        for sharpness in (0.5, 1.0, 2.0, 4.0, 8.0, 16.0):
            kernel = cosine_kernel(features, features, sharpness)
            path = RidgePath(kernel, weight)
            for ridge in np.geomspace(1e-2, 1e2, 9):
                held_out = path.leave_one_out(targets, ridge)
                error = counted @ np.square(targets - held_out).sum(axis=1)
                if error < best:
                    best, correction = error, held_out
                    self.sharpness_, self.ridge_ = sharpness, float(ridge)
        return correction


class MultiKernelHead(_KernelMixin, Head):
    """A Gaussian process around the zero-shot prior, with one kernel per backbone.

    The prior's probabilities are the mean; the kernel is a sum over backbones
    of ``scale * exp(-sharpness (1 - cos))``. Scales, sharpnesses and the noise
    maximise the marginal likelihood of the one-hot labels, so that a backbone
    that does not help fades out, with no validation set.

    Attributes
    ----------
    scales_ : ndarray of shape (n_backbones,)
        The kernels' scales.
    sharpnesses_ : ndarray of shape (n_backbones,)
        Their sharpnesses.
    labelled_ : list of ndarray of shape (n_labelled, width)
        The labelled rows' features, one array per backbone.

    Notes
    -----
    The source leaves the scale of probabilities open: here a temperature, as in
    :class:`KernelRidgeHead`. The marginal likelihood is that of about 1,000 rows.

    References
    ----------
    Y. Miao et al., "Bayesian exploration of pre-trained models for low-shot image classification",
    CVPR 2024.

    Examples
    --------
    >>> from sklearn_clipensemble import datasets, heads
    >>> X, y = datasets.load_cats_and_dogs()
    >>> heads.MultiKernelHead().fit(X, y).predict(X)
    array(['cat', 'cat', 'cat', 'dog', 'dog', 'dog'], dtype='<U3')
    """

    def _join(self, parts):
        return parts

    def _take(self, features, rows):
        return [part[rows] for part in features]

    def _kernel(self, rows, others):
        parts = zip(self.scales_, self.sharpnesses_, rows, others, strict=True)
        return sum(scale * cosine_kernel(a, b, sharpness) for scale, sharpness, a, b in parts)

    def _choose(self, features, targets, codes, weight):
        distances = [1 - part.astype(np.float64) @ part.T for part in features]
        n_parts, (n_rows, n_classes) = len(features), targets.shape
        # In units of the targets' own variance per class, so that one start serves all.
        variance = np.average(np.square(targets).mean(axis=1), weights=weight)

        def solve(theta):
            scales, sharpnesses, noise = np.split(np.exp(theta), [n_parts, 2 * n_parts])
            noise = noise[0]
            kernels = [
                scale * np.exp(-sharpness * distance)
                for scale, sharpness, distance in zip(scales, sharpnesses, distances, strict=True)
            ]
            factor = _factor(sum(kernels), noise / weight)
            return kernels, sharpnesses, noise, factor, cho_solve(factor, targets)

        def loss(theta):
            kernels, sharpnesses, noise, factor, alpha = solve(theta)
            inverse = cho_solve(factor, np.eye(n_rows))
            # A row of weight w is w equal copies with noise of their own.
            copies = np.sum(weight - 1) * n_classes * np.log(noise)
            log_det = 2 * n_classes * np.log(np.diag(factor[0])).sum()
            value = np.sum(targets * alpha) / variance + log_det + copies
            outer = n_classes * inverse - alpha @ alpha.T / variance
            slopes = [np.sum(outer * kernel) for kernel in kernels]
            slopes += [
                -sharpness * np.sum(outer * kernel * distance)
                for sharpness, kernel, distance in zip(sharpnesses, kernels, distances, strict=True)
            ]
            slopes.append(noise * np.sum(np.diag(outer) / weight) + np.sum(weight - 1) * n_classes)
            total = weight.sum() * n_classes
            return value / total, np.array(slopes) / total

        start = np.log([0.5 / n_parts] * n_parts + [2.0] * n_parts + [0.5])
        bounds = np.log([(1e-4, 1e2)] * n_parts + [(0.25, 32.0)] * n_parts + [(1e-2, 1e2)])
        options = {"maxiter": 50}
        found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options=options)
        _, _, noise, factor, alpha = solve(found.x)
        self.scales_, self.sharpnesses_, _ = np.split(np.exp(found.x), [n_parts, 2 * n_parts])
        self.ridge_ = noise
        # One of a row's copies leaves.
        leverage = np.diag(cho_solve(factor, np.eye(n_rows)))[:, None] * noise / weight[:, None]
        fitted = targets - noise / weight[:, None] * alpha
        share = (1 - leverage) / np.maximum(weight, 1.0)[:, None]
        return (fitted - share * targets) / (1 - share)
