"""Ridge regression in closed form: one decomposition, every ridge, every leave-one-out score."""

from __future__ import annotations

import numpy as np
from scipy.linalg import eigh


class RidgePath:
    """Kernel ridge regression, ``min_f sum_i s_i |y_i - f(x_i)|^2 + ridge |f|^2``.

    With a positive semi-definite kernel between the rows and positive weights ``s_i``. The cost is
    cubic in the number of rows. The leave-one-out identity is Allen's PRESS: R. M. Rifkin and
    R. A. Lippert, "Notes on regularized least squares", MIT-CSAIL-TR-2007-025.
    """

    def __init__(self, kernel: np.ndarray, sample_weight: np.ndarray | None = None):
        weight = np.ones(len(kernel)) if sample_weight is None else sample_weight
        self._root = np.sqrt(weight).astype(kernel.dtype)[:, None]
        values, self._left = eigh(self._root * kernel * self._root.T)
        self._values = np.maximum(values, 0)

    def leave_one_out(self, Y: np.ndarray, ridge: float) -> np.ndarray:
        """Return what a fit without one copy of a row predicts for it, ``(n_samples, n_targets)``."""
        shrunk = self._left * (self._values / (self._values + ridge))
        Y = Y * self._root
        # A row of weight two is two copies, and one of them leaves.
        leverage = np.einsum("ij,ij->i", shrunk, self._left)[:, None]
        leverage = leverage / np.maximum(self._root**2, 1)
        fitted = shrunk @ (self._left.T @ Y)
        return (fitted - leverage * Y) / (np.maximum(1 - leverage, 1e-6) * self._root)
