"""Few-shot evidence: a Gaussian process that corrects given logits."""

from __future__ import annotations

import numpy as np
from scipy.linalg import eigh
from scipy.optimize import minimize
from scipy.special import softmax

from sklearn_clipensemble.ensembles._features import unit_rows
from sklearn_clipensemble.ensembles._scores import company, log_softmax
from sklearn_clipensemble.heads._base import few_of_each
from sklearn_clipensemble.heads._kernel import cosine_kernel

# The prior variance of the corrections: the values tried, and the one believed without evidence.
_AMPLITUDES = np.array([1.0, 10.0, 100.0])
_EXPECTED = 10.0
# How much evidence, in nats, it takes to believe one that is e times larger or smaller.
_DOUBT = 0.5
# At least this many labelled rows span the functions that can be learnt.
_N_LANDMARKS = 512


class KernelCorrection:
    """Classification by a Gaussian process whose mean function is given.

    The logits of class ``c`` are ``offset_c(x) + f_c(x)``, with independent
    ``f_c ~ GP(0, amplitude * k)`` and the kernel
    ``k = mean over backbones of exp(-(1 - cos))`` on centred unit features;
    ``f`` is the most probable one given the labels, so that it is small where
    the offset already knows them. The amplitude is averaged over, weighted by
    how likely it makes every row's label when the row is left out (in closed
    form) and its part in the fit is taken over by the rest of its class; a
    row that is its class's only one can tell nothing and is not asked.

    The work is cubic in the number of rows up to ``max(512, n_classes)``; with
    more rows, that many of them, evenly from the classes, span the functions
    (Nystroem's method).

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

    def __init__(self, features, offset, codes, weight):
        self.centers = [np.average(f, axis=0, weights=weight).astype(f.dtype) for f in features]
        rows = self._unit(features)
        chosen = few_of_each(codes, max(_N_LANDMARKS, offset.shape[1]))
        self.landmarks = [r[chosen] for r in rows]
        basis, projection, values = _basis(self._kernel(rows), chosen, weight)
        evidence, solutions, start = [], [], None
        for amplitude in _AMPLITUDES:
            start = _solve(basis, values, offset, codes, weight, amplitude, start)
            told = _held_out_log_likelihood(basis, values, offset, codes, weight, amplitude, start)
            evidence.append(told - _DOUBT * np.log(amplitude / _EXPECTED) ** 2)
            solutions.append(start)
        belief = softmax(evidence)
        self.amplitude = float(belief @ _AMPLITUDES)
        mean = np.tensordot(belief.astype(basis.dtype), np.stack(solutions), axes=1)
        self.coef = projection @ mean

    def parts(self, features):
        """Yield every backbone's share of the correction, ``(n_samples, n_classes)``."""
        for row, landmark in zip(self._unit(features), self.landmarks, strict=True):
            yield cosine_kernel(row, landmark, 1.0) @ (self.coef / len(self.landmarks))

    def __call__(self, features):
        """Return the correction, ``(n_samples, n_classes)``."""
        return self._kernel(self._unit(features)) @ self.coef

    def _unit(self, features):
        return [unit_rows(f - m) for f, m in zip(features, self.centers, strict=True)]

    def _kernel(self, rows):
        kernel = 0
        for row, landmark in zip(rows, self.landmarks, strict=True):
            kernel = kernel + cosine_kernel(row, landmark, 1.0)
        kernel /= len(rows)
        return kernel


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
    norms, vectors = eigh(kernel[chosen].astype(np.float64))
    kept = norms > 10 * np.finfo(kernel.dtype).eps * norms[-1]
    projection = vectors[:, kept] / np.sqrt(norms[kept])
    basis = kernel @ projection.astype(kernel.dtype)
    weighted = basis * weight[:, None].astype(basis.dtype)
    values, rotation = eigh((basis.T @ weighted).astype(np.float64))
    projection = (projection @ rotation).astype(kernel.dtype)
    return basis @ rotation.astype(basis.dtype), projection, np.maximum(values, 0)


def _solve(basis, values, offset, codes, weight, amplitude, start):
    """Return the most probable coefficients of the basis, ``(n_functions, n_classes)``."""
    dtype = basis.dtype
    rows, n_classes = np.arange(len(codes)), offset.shape[1]
    # In these units the curvature is about one in every direction.
    curvature = (1 - 1 / n_classes) / n_classes
    unit = (1 / np.sqrt(curvature * values + 1 / amplitude)).astype(dtype)[:, None]
    penalty = unit**2 / amplitude
    scaled = basis * unit.T

    def loss(flat):
        coef = flat.reshape(len(values), n_classes).astype(dtype)
        log_proba = log_softmax(offset + scaled @ coef)
        value = -(weight @ log_proba[rows, codes].astype(np.float64))
        residual = np.exp(log_proba, out=log_proba)
        residual[rows, codes] -= 1
        residual *= weight[:, None].astype(dtype)
        slope = scaled.T @ residual
        coef_penalty = penalty * coef
        value += 0.5 * np.vdot(coef_penalty, coef)
        slope += coef_penalty
        return float(value), slope.ravel().astype(np.float64)

    start = np.zeros((len(values), n_classes), dtype) if start is None else start / unit
    eps = np.finfo(dtype).eps
    options = {"maxcor": 5, "maxiter": 200, "ftol": eps, "gtol": np.sqrt(eps)}
    found = minimize(
        loss, start.ravel().astype(np.float64), jac=True, method="L-BFGS-B", options=options
    )
    return found.x.reshape(start.shape).astype(dtype) * unit


def _held_out_log_likelihood(basis, values, offset, codes, weight, amplitude, coef):
    """Return how likely the rows' labels are when each row's class-mates stand in for it.

    One Newton step from the solution: the residual of the row leaves, and
    enters again spread evenly over the rest of its class, so that no class
    is rarer for the row that is judged. (Leaving a row out and not making up
    for it favours all other classes, by as much as 1 in k.)
    """
    dtype = basis.dtype
    rows, n_classes = np.arange(len(codes)), offset.shape[1]
    logits = offset + basis @ coef
    proba = np.exp(log_softmax(logits))
    left = company(codes, weight)
    out = np.minimum(weight, 1.0)
    curvature = float(weight @ (1 - np.einsum("nc,nc->n", proba, proba))) / (
        weight.sum() * (n_classes - 1)
    )
    variance = (amplitude / (1 + amplitude * curvature * values)).astype(dtype)
    spread = basis * variance
    own = np.einsum("nr,nr->n", spread, basis)
    sums = np.zeros((n_classes, basis.shape[1]), dtype)
    np.add.at(sums, codes, basis * weight[:, None].astype(dtype))
    mates = np.einsum("nr,nr->n", spread, sums[codes]) - out * own
    moved = own - np.divide(mates, left, out=own.astype(np.float64), where=left > 0)
    step = out * moved / (1 - np.minimum(curvature * out * moved, 0.95))
    proba[rows, codes] -= 1
    logits += proba * step[:, None].astype(dtype)
    return float((weight * (left > 0)) @ log_softmax(logits)[rows, codes].astype(np.float64))
