"""Few-shot evidence: a Gaussian process that corrects given logits."""

from __future__ import annotations

import numpy as np
from scipy.linalg import eigh
from scipy.optimize import minimize_scalar
from scipy.sparse import csr_array
from scipy.special import softmax

from sklearn_clipensemble.ensembles._features import cosine_kernel, few_of_each, unit_rows
from sklearn_clipensemble.ensembles._minimize import minimize_smooth
from sklearn_clipensemble.ensembles._scores import (
    company,
    log_likelihood,
    log_softmax,
    softmax_loss,
    unexplained,
)

# What one labelled example does to the logit of its class, on its own: the values tried, in nats,
# and the one expected where the given logits know nothing.
_LIFTS = (0.1, 1.0, 3.0, 5.0)
_EXPECTED_LIFT = 4.0
# How much evidence it takes to believe an amplitude e times larger or smaller, in nats.
_DOUBT = 0.1
# An amplitude whose evidence is this far below the best counts for nothing, nor does any beyond it.
_HOPELESS = 20.0
# How much sharper the sum of all evidence is expected to be than it says, and how firmly.
_EXPECTED_SHARPNESS = 1.15
_SHARPNESS_PRECISION = 10.0
# How many pairs within classes it takes to believe half of how well a backbone tells them apart.
_PAIRS = 20.0
# At least this many labelled rows span the functions that can be learnt.
_N_LANDMARKS = 512


class KernelCorrection:
    """Classification by a Gaussian process whose mean function is given.

    The logits of class ``c`` are ``offset_c(x) + f_c(x)``, with independent
    ``f_c ~ GP(0, amplitude * k)`` and the kernel
    ``k = sum over backbones of share * exp(-(1 - cos))`` on centred unit
    features; a backbone's share grows with how well it tells classes apart;
    ``f`` is the most probable one given the labels, so that it is small where
    the offset already knows them. The amplitude is averaged over, weighted by
    how likely it makes the label of every row that is left out (in closed form).

    All logits are then to be multiplied by ``sharpness``, the factor that makes
    the same held-out labels most likely, under a prior on its logarithm.

    The work is cubic in the number of rows up to ``max(512, n_classes)``; with
    more rows, about that many of them, equally many of each class, span the
    functions (Nystroem's method).

    Parameters
    ----------
    features : list of ndarray of shape (n_samples, width)
        The features of every backbone.
    offset : ndarray of shape (n_samples, n_classes)
        The logits to correct.
    codes : ndarray of shape (n_samples,)
        The labels, as class indices; every class must be among them.
    weight : ndarray of shape (n_samples,)
        The weights of the rows, positive.
    """

    # Pickles of version 0.1.0.dev0 may hold none; they were not sharpened.
    sharpness = 1.0

    def __init__(self, features, offset, codes, weight):
        self.centers = [np.average(f, axis=0, weights=weight).astype(f.dtype) for f in features]
        rows = self._unit(features)
        self.shares = np.square([_separation(r, codes, weight) for r in rows])
        self.shares /= self.shares.sum()
        chosen = few_of_each(codes, max(_N_LANDMARKS, offset.shape[1]))
        self.landmarks = [r[chosen] for r in rows]
        basis, projection, values = _basis(self._kernel(rows), chosen, weight)
        del rows  # as large as the table
        # A row that is its class's only one is not asked: without it, nothing is known of its class.
        n_classes, asked = offset.shape[1], np.flatnonzero(company(codes, weight))
        # Squared, or a prior that knows much would be corrected too much by a single label.
        expected = _amplitude(_EXPECTED_LIFT, n_classes)
        expected *= unexplained(offset, codes, weight) ** 2
        amplitudes = [_amplitude(lift, n_classes) for lift in _LIFTS] if len(asked) else [expected]
        doubt = _DOUBT * np.log(np.divide(amplitudes, expected)) ** 2
        evidence = np.full(len(amplitudes), -np.inf)
        solutions, held_out = {}, {}
        coef, curvature = None, _curvature(np.exp(log_softmax(offset)), weight)
        for i, neighbour in _outwards((len(doubt) - 1) // 2, len(doubt)):
            if evidence[neighbour] < evidence.max() - _HOPELESS:
                continue
            problem = basis, values, offset, codes, weight, amplitudes[i]
            coef = _solve(*problem, curvature, coef)
            logits, curvature = _held_out_logits(*problem, coef)
            solutions[i], held_out[i] = coef, logits[asked]
            evidence[i] = log_likelihood(held_out[i], codes[asked], weight[asked]) - doubt[i]
        belief = softmax(evidence)
        self.amplitude = float(belief @ amplitudes)
        self.coef = projection @ _mean(solutions, belief)
        self.sharpness = _EXPECTED_SHARPNESS
        if len(asked):
            self.sharpness = _most_likely_sharpness(
                _mean(held_out, belief), codes[asked], weight[asked]
            )

    def parts(self, features):
        """Yield every backbone's share of the correction, ``(n_samples, n_classes)``."""
        for row, landmark, share in zip(
            self._unit(features), self.landmarks, self.shares, strict=True
        ):
            yield cosine_kernel(row, landmark, 1.0) @ (row.dtype.type(share) * self.coef)

    def __call__(self, features):
        """Return the correction, ``(n_samples, n_classes)``."""
        return self._kernel(self._unit(features)) @ self.coef

    def _unit(self, features):
        return [unit_rows(f - m) for f, m in zip(features, self.centers, strict=True)]

    def _kernel(self, rows):
        kernel = np.zeros((len(rows[0]), len(self.landmarks[0])), rows[0].dtype)
        for row, landmark, share in zip(rows, self.landmarks, self.shares, strict=True):
            part = cosine_kernel(row, landmark, 1.0)
            part *= share
            kernel += part
        return kernel


def _outwards(first, n):
    """Yield the numbers below ``n`` from ``first`` to both ends, each with the one on its way."""
    yield first, first
    yield from ((i, i - 1) for i in range(first + 1, n))
    yield from ((i, i + 1) for i in reversed(range(first)))


def _amplitude(lift, n_classes):
    """Return the prior variance at which one example lifts the logit of its class by ``lift``.

    That of a class among ``n_classes`` equally likely ones: it fits
    ``lift = amplitude * (1 - p)`` with the probability ``p`` it then has.
    """
    return lift * (1 + np.exp(lift) / max(n_classes - 1, 1))


def _separation(rows, codes, weight):
    """Return how far the cosines within classes lie above those between, in standard deviations.

    Every two rows are a pair (a row of weight two is two rows). A few more
    pairs, at a distance of one, are added: they make the answer the same for
    all backbones where a class has no pair.
    """
    total, lengths = weight.sum(), weight @ np.square(rows).sum(axis=1)
    mass = np.bincount(codes, weights=weight)
    sums = csr_array((weight, codes, np.arange(len(codes) + 1))).T @ rows
    n_within = max(mass @ mass - total, 0.0)
    n_between = total**2 - mass @ mass
    within = np.square(sums).sum() - lengths
    between = np.square(sums.sum(axis=0)).sum() - np.square(sums).sum()
    root = rows * np.sqrt(weight[:, None]).astype(rows.dtype)
    gram = root.T @ root if rows.shape[1] < len(rows) else root @ root.T
    deviation = np.sqrt(
        max(np.square(gram).sum(dtype=np.float64) - lengths, 0) / max(total**2 - total, 1)
    )
    if not n_within or not n_between or not deviation:
        return 1.0
    found = (within / n_within - between / n_between) / deviation
    pairs = n_within / 2
    return max((pairs * found + _PAIRS) / (pairs + _PAIRS), 0.02)


def _basis(kernel, chosen, weight):
    """Return functions of unit norm, uncorrelated over the rows, that span what can be learnt.

    Returns
    -------
    basis : ndarray of shape (n_samples, n_functions)
        Their values on the rows.
    projection : ndarray of shape (n_landmarks, n_functions)
        Their coefficients on the landmarks' kernels.
    values : ndarray of shape (n_functions,)
        Their weighted sums of squares over the rows.
    """
    if len(chosen) == len(kernel):
        root = np.sqrt(weight)
        values, vectors = eigh(kernel * np.outer(root, root))
        kept = values > 10 * np.finfo(kernel.dtype).eps * values[-1]
        values, vectors = values[kept], vectors[:, kept]
        basis = vectors * np.sqrt(values) / root[:, None]
        projection = vectors * (root[:, None] / np.sqrt(values))
        return basis.astype(kernel.dtype), projection.astype(kernel.dtype), values
    norms, vectors = eigh(kernel[chosen].astype(np.float64))
    kept = norms > 10 * np.finfo(kernel.dtype).eps * norms[-1]
    projection = vectors[:, kept] / np.sqrt(norms[kept])
    basis = kernel @ projection.astype(kernel.dtype)
    weighted = basis * weight[:, None].astype(basis.dtype)
    values, rotation = eigh((basis.T @ weighted).astype(np.float64))
    projection = (projection @ rotation).astype(kernel.dtype)
    return basis @ rotation.astype(basis.dtype), projection, np.maximum(values, 0)


def _curvature(proba, weight):
    """Return how much a class's probability changes with its logit, mean over rows and classes."""
    uncertainty = 1 - np.einsum("nc,nc->n", proba, proba)
    return np.average(uncertainty, weights=weight) / (proba.shape[1] - 1)


def _solve(basis, values, offset, codes, weight, amplitude, curvature, start):
    """Return the most probable coefficients of the basis, ``(n_functions, n_classes)``."""
    dtype = basis.dtype
    shape = len(values), offset.shape[1]
    # In these units the curvature is about one in every direction.
    unit = (1 / np.sqrt(curvature * values + 1 / amplitude)).astype(dtype)[:, None]
    penalty = unit**2 / dtype.type(amplitude)
    scaled = basis * unit.T
    logits = np.empty(offset.shape, dtype)

    def loss(flat):
        coef = flat.reshape(shape)
        np.dot(scaled, coef, out=logits)
        logits[:] += offset
        value = softmax_loss(logits, codes, weight)
        slope = scaled.T @ logits
        coef_penalty = penalty * coef
        value += 0.5 * float(np.vdot(coef_penalty, coef))
        slope += coef_penalty
        return value, slope.ravel()

    start = np.zeros(shape, dtype) if start is None else start / unit
    return minimize_smooth(loss, start.ravel()).reshape(shape) * unit


def _held_out_logits(basis, values, offset, codes, weight, amplitude, coef):
    """Return every row's logits as they are without the row, and the curvature with it.

    In one Newton step from the solution. A row of weight two loses one of its
    two copies.
    """
    dtype = basis.dtype
    logits = basis @ coef
    logits += offset
    residual = np.exp(log_softmax(logits))
    curvature = _curvature(residual, weight)
    residual[np.arange(len(codes)), codes] -= 1
    variance = amplitude / (1 + amplitude * curvature * values)
    variance = np.minimum(weight, 1) * (np.square(basis) @ variance.astype(dtype))
    step = variance / (1 - np.minimum(curvature * variance, 0.95))
    residual *= step[:, None].astype(dtype)
    logits += residual
    return logits, curvature


def _most_likely_sharpness(logits, codes, weight):
    """Return the most probable factor on held-out logits, given their labels and a prior."""

    def loss(log_factor):
        away = log_factor - np.log(_EXPECTED_SHARPNESS)
        likely = log_likelihood(logits * logits.dtype.type(np.exp(log_factor)), codes, weight)
        return _SHARPNESS_PRECISION / 2 * away**2 - likely

    return float(np.exp(minimize_scalar(loss, bounds=(-2, 2), method="bounded").x))


def _mean(arrays, belief):
    return sum(array * array.dtype.type(belief[i]) for i, array in arrays.items())
