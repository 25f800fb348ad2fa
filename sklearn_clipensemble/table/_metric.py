"""A metric in which images of one class are alike, learnt from a few of each."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import cholesky, eigh
from scipy.linalg.lapack import dtrtri
from scipy.sparse import csr_array

from sklearn_clipensemble.table._features import unit_rows

# Rows are few while there are fewer than one for so many columns.
_FEW_ROWS = 4


@dataclass(frozen=True, kw_only=True)
class MetricPriors:
    """How many rows the shrunken parts of a :class:`WithinClassMetric` are worth.

    Parameters
    ----------
    equal_rows : float, default=5.0
        The mean of all columns' variances, beside each column's own.
    column_rows : float, default=20.0
        A column's total variance, beside that within classes.
    rows_per_column : float, default=2.0
        The variances within classes, beside the whole covariance: so many rows
        for each column.
    """

    equal_rows: float = 5.0
    column_rows: float = 20.0
    rows_per_column: float = 2.0


_DEFAULT = MetricPriors()


class WithinClassMetric:
    """Features that vary alike within classes in every direction, at length one.

    A few coordinates of CLIP's embeddings have a very large variance, and
    cosines see little else. So the rows are multiplied by the inverse root of
    their covariance within classes before they are brought to length one. The
    estimate is shrunk to the columns' variances within classes, those to the
    columns' total variances, and those to their mean: with one row per class
    the total variances are all there is.

    Rows are ``(n_samples, width)``. They are centred and scaled; then the part ``gain`` of the
    ``axes`` of the covariance within classes is taken out, or, where there are many rows, they are
    multiplied by its inverse ``root``.
    """

    def __init__(
        self,
        rows: np.ndarray,
        codes: np.ndarray,
        weight: np.ndarray,
        priors: MetricPriors = _DEFAULT,
    ):
        dtype, width = rows.dtype, rows.shape[1]
        self.center = np.average(rows, axis=0, weights=weight).astype(dtype)
        rows = rows - self.center
        of_class = csr_array((weight, codes, np.arange(len(codes) + 1))).T
        mass = np.bincount(codes, weights=weight)
        share = np.divide(1, mass, out=np.zeros_like(mass), where=mass > 0)
        within = rows - ((of_class @ rows) * share[:, None])[codes]
        within *= np.sqrt(weight)[:, None]
        # Degrees of freedom, in units of a row of weight one.
        squares = np.bincount(codes, weights=weight**2)
        n_total = weight.sum() - squares.sum() / weight.sum()
        n_within = float(np.sum(mass - squares * share))
        if n_within < 1e-9 * weight.sum():
            n_within = 0.0

        total = weight @ np.square(rows, dtype=np.float64) / max(n_total, 1e-9 * weight.sum())
        mean = total.mean()
        total = (n_total * total + priors.equal_rows * mean) / (n_total + priors.equal_rows)
        columns = np.square(within, dtype=np.float64).sum(axis=0)
        self.scale = np.ones(width, dtype)
        # Rounding about a constant is no variance.
        if mean > 1e-12 * np.square(self.center, dtype=np.float64).mean():
            part = columns.sum() / n_within / total.sum() if n_within else 1.0
            columns += priors.column_rows * part * total
            columns /= n_within + priors.column_rows
            if columns.any():
                self.scale = np.sqrt(columns.mean() / columns).astype(dtype)

        self.axes, self.gain, self.root = np.empty((0, width), dtype), np.empty(0, dtype), None
        within *= self.scale
        length = np.square(within, dtype=np.float64).sum()
        if not (n_within and length):
            return
        kept = priors.rows_per_column * width / (priors.rows_per_column * width + n_within)
        within = (within * np.sqrt((1 - kept) * width / length)).astype(dtype, copy=False)
        if len(within) * _FEW_ROWS > width:
            covariance = (within.T @ within).astype(np.float64)
            covariance[np.diag_indices(width)] += kept
            factor = cholesky(covariance, lower=True, overwrite_a=True)
            self.root = dtrtri(factor, lower=True)[0].T.astype(dtype)
        else:
            # The same, up to a rotation, in as few numbers as there are rows.
            values, vectors = eigh((within @ within.T).astype(np.float64), driver="evd")
            there = values > 1e-7 * values[-1]
            values, vectors = values[there], vectors[:, there]
            self.axes = (vectors / np.sqrt(values)).T.astype(dtype) @ within
            self.gain = (1 - np.sqrt(kept / (kept + values))).astype(dtype)

    def __repr__(self):
        return f"<{type(self).__name__} of {len(self.center)} columns>"

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        """Return rows of length one, ``(n_samples, width)``."""
        rows = rows - self.center
        # What is left of a row at the centre is rounding, with no direction.
        squares = np.einsum("nc,nc->n", rows, rows)
        rows[squares <= 1e-12 * (self.center @ self.center)] = 0
        rows *= self.scale
        if self.root is not None:
            return unit_rows(rows @ self.root)
        along = rows @ self.axes.T
        along *= self.gain
        rows -= along @ self.axes
        return unit_rows(rows)
