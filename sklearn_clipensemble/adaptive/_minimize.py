"""Minimisation over a great many unknowns."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import numpy as np

# How many of the last steps tell the curvature.
_MEMORY = 5
_MAX_STEPS = 200


def minimize_smooth(
    loss: Callable[[np.ndarray], tuple[float, np.ndarray]],
    start: np.ndarray,
    tolerance: float = 0.0,
) -> np.ndarray:
    """Return where a convex function is least, to the precision of its value.

    L-BFGS with backtracking. For functions whose curvature is not far from one
    in every direction, so that a step of the gradient's own length is a good
    first guess. SciPy's L-BFGS-B finds the same, but works in float64 and, with
    a million unknowns, spends as long on its own vectors as such a function
    takes to evaluate.

    Parameters
    ----------
    loss : callable
        Takes a point and returns the value, a float, and the gradient there.
    start : ndarray of shape (n_unknowns,)
        Where to begin. Its dtype is that of all steps, and sets the precision.
    tolerance : float, default=0.0
        How much of the value may be left to gain; 0 for what the dtype tells apart.

    Returns
    -------
    ndarray of shape (n_unknowns,)
        The point found.

    References
    ----------
    J. Nocedal and S. J. Wright, "Numerical Optimization", Springer 2006,
    chapter 7.
    """
    eps = float(np.finfo(start.dtype).eps)
    # A closer look is cheap in float64, and two ways to write one problem (a row twice, or of weight
    # two) then have one answer. In float32 it would only meet rounding.
    enough = 1e-5 * eps if start.dtype == np.float64 else eps
    point, (value, slope) = start, loss(start)
    steps: deque = deque(maxlen=_MEMORY)
    gained = np.inf
    for _ in range(_MAX_STEPS):
        direction = _direction(slope, steps)
        descent = float(direction @ slope)
        resolution = eps * max(abs(value), 1.0)
        worth = max(tolerance, enough * max(abs(value), 1.0))
        if -descent <= worth and (gained <= worth or not descent):
            # The rest is not worth another look. A step on its own does not tell: where the function
            # is far flatter than it was on the way, little seems to be left.
            return point + direction
        length = 1.0
        while True:
            there = point + length * direction
            there_value, there_slope = loss(there)
            if there_value <= value + 1e-4 * length * descent + resolution:
                break
            # Where the parabola through what is known is least.
            bend = there_value - value - length * descent
            length *= min(0.5, max(0.1, -length * descent / (2 * bend)))
            if length < 1e-6:  # the gradient is mere rounding
                return point
        step, change = there - point, there_slope - slope
        gained = value - there_value
        point, value, slope = there, there_value, there_slope
        if (product := float(step @ change)) > 0:
            steps.append((step, change, product))
    return point


def _direction(slope, steps):
    """Return minus the gradient times the inverse curvature that the last steps have met."""
    direction, factors = -slope, []
    for step, change, product in reversed(steps):
        factors.append(float(step @ direction) / product)
        direction -= factors[-1] * change
    if steps:
        _, change, product = steps[-1]
        direction *= product / float(change @ change)
    for (step, change, product), factor in zip(steps, reversed(factors), strict=True):
        direction += (factor - float(change @ direction) / product) * step
    return direction
