"""The most probable coefficients of a softmax regression with a Gaussian prior."""

from __future__ import annotations

from collections import deque

import numpy as np

# How many of the last steps tell the curvature.
_MEMORY = 5
_MAX_STEPS = 200
# How many numbers stay in a core's cache while they are worked on several times.
_CACHED = 2**16


def softmax_regression(
    basis: np.ndarray,
    offset: np.ndarray,
    codes: np.ndarray,
    weight: np.ndarray,
    amplitude: float,
    start: np.ndarray | None = None,
    tolerance: float = 0.0,
) -> np.ndarray:
    """Return the coefficients that are most probable given labels, to the precision of their loss.

    The logits are ``offset + basis @ coef``; the coefficients are drawn from a
    Gaussian of variance ``amplitude``. The minimiser is L-BFGS with three
    additions. The curvature from which its directions start is that of the
    softmax where it stands, class by class. Logits are linear in the
    coefficients, so that the size of all coefficients and the length of a step
    are set together, by a Newton step in this plane, for no further product of
    matrices: where labels are nearly separable, most of the way is one of size.

    ``basis`` are the values of functions that are uncorrelated over the rows, ``(n_samples,
    n_functions)``; their dtype is that of all steps, and sets the precision. ``tolerance`` is how
    much of the loss may be left to gain; 0 for what the dtype tells apart. See J. Nocedal and
    S. J. Wright, "Numerical Optimization", Springer 2006, chapter 7.
    """
    dtype = basis.dtype
    eps = float(np.finfo(dtype).eps)
    # A closer look is cheap in float64, and two ways to write one problem (a row twice, or of weight
    # two) then have one answer. In float32 it would only meet rounding.
    enough = 1e-5 * eps if dtype == np.float64 else eps
    precision = dtype.type(1 / amplitude)
    values = np.einsum("nf,nf,n->f", basis, basis, weight.astype(dtype))[:, None] / weight.sum()
    likelihood = _Likelihood(offset, codes, weight)
    if start is None:
        coef = np.zeros((basis.shape[1], offset.shape[1]), dtype)
        scores = np.zeros_like(offset, dtype)
    else:
        coef, scores = start, basis @ start
    value = likelihood.loss((scores, 1.0)) + _dot(coef, coef) / (2 * amplitude)
    slope = basis.T @ likelihood.residual + coef * precision
    steps: deque = deque(maxlen=_MEMORY)
    gained = np.inf
    for _ in range(_MAX_STEPS):
        curvature = values.astype(dtype) * likelihood.curvature.astype(dtype) + precision
        direction = _direction(slope, steps, curvature)
        descent = _dot(direction, slope)
        resolution = eps * max(abs(value), 1.0)
        worth = max(tolerance, enough * max(abs(value), 1.0))
        if -descent <= worth and (gained <= worth or not descent):
            # The rest is not worth another look. A step on its own does not tell: where the function
            # is far flatter than it was on the way, little seems to be left.
            return coef + direction
        along = basis @ direction
        prior = np.array([[_dot(a, b) for b in (coef, direction)] for a in (coef, direction)])
        prior /= amplitude
        # How far to go along the coefficients themselves, and along the direction.
        bend = likelihood.bend(scores, along) + prior
        size = np.diag(bend)
        unit = np.sqrt(np.where(size > 1e-100, size, 1.0))  # no step along what is no direction
        gradient = np.array([_dot(coef, slope), descent]) / unit
        step = -np.linalg.lstsq(bend / np.outer(unit, unit), gradient, rcond=1e-6)[0] / unit
        while True:
            there = step + np.array([1.0, 0.0])
            loss = likelihood.loss((scores, there[0]), (along, there[1]))
            loss += there @ prior @ there / 2
            if loss <= value + resolution:
                break
            step *= 0.3
            if np.abs(step).max() < 1e-6:  # the gradient is mere rounding
                return coef
        move = direction * dtype.type(step[1]) + coef * dtype.type(step[0])
        coef = coef + move
        scores *= dtype.type(there[0])
        along *= dtype.type(there[1])
        scores += along
        change = basis.T @ likelihood.residual + coef * precision - slope
        slope += change
        gained, value = value - loss, loss
        if (product := _dot(move, change)) > 0:
            steps.append((move, change, product))
    return coef


def _dot(a, b):
    """Return the inner product of two matrices."""
    return float(np.vdot(a, b))


def _direction(slope, steps, curvature):
    """Return minus the slope times the inverse curvature that the last steps have met."""
    dtype, factors = slope.dtype.type, []
    direction = -slope
    for step, change, product in reversed(steps):
        factors.append(dtype(_dot(step, direction) / product))
        direction -= factors[-1] * change
    direction /= curvature
    if steps:
        _, change, product = steps[-1]
        direction *= dtype(product / _dot(change, change / curvature))
    for (step, change, product), factor in zip(steps, reversed(factors), strict=True):
        direction += (factor - dtype(_dot(change, direction) / product)) * step
    return direction


class _Likelihood:
    """How likely labels are under logits, a few rows at a time.

    ``residual`` is the slope of the last loss along the logits, the probabilities less one-hot
    labels, weighted; ``curvature`` every class's ``p (1 - p)``, summed over the rows.
    """

    def __init__(self, offset, codes, weight):
        self.offset, self.codes = offset, codes
        self.weight = weight.astype(offset.dtype)
        self.residual = np.empty_like(offset)
        size = max(1, _CACHED // offset.shape[1])
        self.spare = np.empty((size, offset.shape[1]), offset.dtype)
        self.batches = [slice(start, start + size) for start in range(0, len(offset), size)]

    def loss(self, *terms):
        """Return the weighted negative log-likelihood with terms, arrays and factors, added to the offset."""
        value, self.curvature = 0.0, np.zeros(self.offset.shape[1])
        for batch in self.batches:
            part, label, mass = self.residual[batch], self.codes[batch], self.weight[batch]
            rows, spare = np.arange(len(part)), self.spare[: len(part)]
            part[:] = self.offset[batch]
            for term, factor in terms:
                part += np.multiply(term[batch], part.dtype.type(factor), out=spare)
            part -= part.max(axis=1, keepdims=True)
            of_label = part[rows, label].astype(np.float64)
            total = np.exp(part, out=part).sum(axis=1, dtype=np.float64)
            value += float(mass @ (np.log(total) - of_label))
            part *= (1 / total)[:, None].astype(part.dtype)
            self.curvature += mass @ part - mass @ np.square(part, out=spare)
            part *= mass[:, None]
            part[rows, label] -= mass
        return value

    def bend(self, first, second):
        """Return the second derivatives of the last loss along two changes of the logits."""
        found = np.zeros((2, 2))
        for batch in self.batches:
            part, label, mass = self.residual[batch], self.codes[batch], self.weight[batch]
            rows, spare = np.arange(len(part)), self.spare[: len(part)]
            part[rows, label] += mass
            changes = first[batch], second[batch]
            sums = []
            for i, change in enumerate(changes):
                weighted = np.multiply(part, change, out=spare)
                sums.append(weighted.sum(axis=1))
                for j, other in enumerate(changes[: i + 1]):
                    found[i, j] += _dot(weighted, other) - _dot(sums[i], sums[j] / mass)
            part[rows, label] -= mass
        found[0, 1] = found[1, 0]
        return found
