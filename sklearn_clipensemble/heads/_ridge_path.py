"""Ridge regression in closed form: one decomposition, every ridge, every leave-one-out score."""

from __future__ import annotations

import numpy as np
from scipy.linalg import eigh


class RidgePath:
    """Ridge regression onto several targets, for any ridge from one decomposition.

    Solves ``min_f sum_i s_i |y_i - f(x_i)|^2 + ridge |f|^2`` either over
    linear functions of features (``RidgePath(features=Z)``) or over the
    functions of a kernel (``RidgePath(kernel=K)``). The cost is cubic in the
    smaller of the number of rows and the number of features.

    Parameters
    ----------
    features : ndarray of shape (n_samples, n_features) or None
        Linear features.
    kernel : ndarray of shape (n_samples, n_samples) or None
        A positive semi-definite kernel between the rows.
    sample_weight : ndarray of shape (n_samples,) or None
        Positive weights ``s_i``; None weighs all alike.

    References
    ----------
    The leave-one-out identity is Allen's PRESS: R. M. Rifkin and R. A. Lippert,
    "Notes on regularized least squares", MIT-CSAIL-TR-2007-025.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_clipensemble.heads._ridge_path import RidgePath
    >>> Z = np.array([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0]])
    >>> Y = np.array([[1.0], [1.0], [-1.0]])
    >>> linear, kernel = RidgePath(features=Z), RidgePath(kernel=Z @ Z.T)
    >>> np.allclose(linear.leave_one_out(Y, 0.5), kernel.leave_one_out(Y, 0.5))
    True
    >>> np.allclose(linear.coef(Y, 0.5), Z.T @ kernel.coef(Y, 0.5))
    True
    """

    def __init__(self, *, features=None, kernel=None, sample_weight=None):
        given = kernel if features is None else features
        root = np.ones(len(given), given.dtype) if sample_weight is None else np.sqrt(sample_weight)
        self._root = root.astype(given.dtype)[:, None]
        self._primal = features is not None and features.shape[1] < len(features)
        if self._primal:
            Z = features * self._root
            values, self._basis = eigh(Z.T @ Z)
            keep = values > values[-1] * np.finfo(given.dtype).eps * len(values)
            self._values, self._basis = values[keep], self._basis[:, keep]
            self._left = Z @ (self._basis / np.sqrt(self._values))
        else:
            K = features @ features.T if kernel is None else kernel
            values, self._left = eigh(self._root * K * self._root.T)
            self._values = np.maximum(values, 0)
            self._features = features

    def leave_one_out(self, Y: np.ndarray, ridge: float) -> np.ndarray:
        """Return what a fit without one copy of a row predicts for it, ``(n_samples, n_targets)``."""
        shrunk = self._left * (self._values / (self._values + ridge))
        Y = Y * self._root
        # A row of weight two is two copies, and one of them leaves.
        leverage = np.einsum("ij,ij->i", shrunk, self._left)[:, None]
        leverage = leverage / np.maximum(self._root**2, 1)
        fitted = shrunk @ (self._left.T @ Y)
        return (fitted - leverage * Y) / (np.maximum(1 - leverage, 1e-6) * self._root)

    def coef(self, Y: np.ndarray, ridge: float) -> np.ndarray:
        """Return the coefficients: of the features where they were given, else of the kernel's rows."""
        projected = self._left.T @ (Y * self._root)
        if self._primal:
            scale = np.sqrt(self._values) / (self._values + ridge)
            return self._basis @ (scale[:, None] * projected)
        dual = self._root * (self._left @ (projected / (self._values + ridge)[:, None]))
        return dual if self._features is None else self._features.T @ dual
