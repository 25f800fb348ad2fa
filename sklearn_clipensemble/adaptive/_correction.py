"""What a few labelled images add to given logits: a Gaussian process on every backbone's features."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy.linalg import cholesky, eigh
from scipy.linalg.lapack import dtrtri
from scipy.sparse import csr_array

from sklearn_clipensemble.adaptive._priors import Priors
from sklearn_clipensemble.adaptive._softmax_regression import softmax_regression
from sklearn_clipensemble.table._features import cosine_kernel, place_in_class, unit_rows
from sklearn_clipensemble.table._scores import log_likelihood


class KernelCorrection:
    """Functions of a class each that are added to given logits.

    The logits of class ``c`` are ``offset_c(x) + f_c(x)``, with independent
    ``f_c ~ GP(0, amplitude * k)`` and the kernel ``k = sum over backbones of share * exp(cos - 1)``
    on features in the metric of :class:`WithinClassMetric`. With more rows than ``max_rows`` of the
    priors, the functions are spanned by ``n_means`` means of a few consecutive rows of one class,
    one of each class at least; the ``n_functions`` that vary most are used.

    ``metrics`` may be None where no new features will be asked for; ``rows`` are every backbone's
    features in its metric, ``(n_samples, width)``; every class must be among ``codes``; ``shares``
    sum to one. ``of_landmark`` is the landmark that each row is, or has a part in.
    """

    def __init__(self, metrics, rows, codes, weight, shares, priors):
        self.metrics, self.shares = metrics, np.asarray(shares, dtype=np.float64)
        self.codes, self.weight = codes, weight
        self.n_classes = int(codes.max()) + 1
        self.landmarks, self.of_landmark = rows, np.arange(len(codes))
        if len(codes) > priors.max_rows:
            self.landmarks, self.of_landmark = _means(rows, codes, weight, priors.n_means)
        dtype = rows[0].dtype
        # A basis that is uncorrelated over the rows: its squares there sum up to the eigenvalues.
        if self.landmarks is rows:
            root = np.sqrt(weight)[:, None]
            values, axes = _spectrum(self._kernel(rows) * root * root.T)
            self.projection = (root * axes / np.sqrt(values)).astype(dtype)
            self.basis = (axes / root * np.sqrt(values)).astype(dtype)
        else:
            projection = _inverse_root(self._kernel(self.landmarks)).astype(dtype)
            basis = self._kernel(rows) @ projection
            squares = basis.T @ (basis * weight[:, None].astype(dtype))
            _, axes = _spectrum(squares, priors.n_functions)
            self.projection, self.basis = (
                part @ axes.astype(dtype) for part in (projection, basis)
            )

    def __repr__(self):
        return (
            f"<{type(self).__name__} of {len(self.landmarks)} backbones, {self.n_classes} classes, "
            f"{len(self.landmarks[0])} landmarks>"
        )

    def rows(self, features: list[np.ndarray]) -> list[np.ndarray]:
        """Return every backbone's features in its metric, at length one."""
        return [metric(f) for metric, f in zip(self.metrics, features, strict=True)]

    def _parts(self, rows) -> Iterator[np.ndarray]:
        """Yield every backbone's summand of the kernel with the landmarks."""
        for row, landmark, share in zip(rows, self.landmarks, self.shares, strict=True):
            part = cosine_kernel(row, landmark, 1.0)
            part *= row.dtype.type(share)
            yield part

    def _kernel(self, rows):
        return sum(self._parts(rows))

    def functions(self, rows: list[np.ndarray]) -> np.ndarray:
        """Return the values of the basis on new rows in the metrics, ``(n_samples, n_functions)``."""
        return self._kernel(rows) @ self.projection

    def solve(self, offset, lift, start=None, *, tolerance) -> np.ndarray:
        """Return the most probable coefficients of the basis, ``(n_functions, n_classes)``.

        ``lift`` is what one labelled row does to the logit of its class on its own, in nats;
        ``tolerance`` the part of the loss of the offset alone that may be left to gain.
        """
        amplitude = lift * (1 + np.exp(lift) / max(self.n_classes - 1, 1))
        before = -log_likelihood(offset, self.codes, self.weight)
        problem = self.basis, offset, self.codes, self.weight
        return softmax_regression(*problem, amplitude, start, tolerance * before)

    def keep(self, coef: np.ndarray) -> None:
        """Keep one solution, and nothing that was needed to find it."""
        self.coef = self.projection @ coef
        del self.basis, self.projection, self.codes, self.weight

    def parts(self, features: list[np.ndarray]) -> Iterator[np.ndarray]:
        """Yield every backbone's share of the kept solution, ``(n_samples, n_classes)``."""
        for part in self._parts(self.rows(features)):
            yield part @ self.coef

    def influence(self, features: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Return how alike rows and landmarks are, and what each landmark adds to the logits.

        Of shapes ``(n_samples, n_landmarks)`` and ``(n_samples, n_landmarks, n_classes)``.
        """
        alike = self._kernel(self.rows(features))
        return alike, alike[:, :, None] * self.coef

    def __call__(self, features: list[np.ndarray]) -> np.ndarray:
        """Return the kept solution on new rows, ``(n_samples, n_classes)``."""
        return self._kernel(self.rows(features)) @ self.coef


def _inverse_root(kernel):
    """Return a matrix times whose columns the kernel's rows are uncorrelated, but for rounding."""
    kernel = kernel.astype(np.float64)
    kernel[np.diag_indices_from(kernel)] += 1e-4
    factor = cholesky(kernel, lower=True, overwrite_a=True)
    return dtrtri(factor, lower=True)[0].T


def _spectrum(matrix, n_largest=None):
    """Return the largest eigenvalues, those of mere rounding left out, and their eigenvectors."""
    values, vectors = eigh(matrix.astype(np.float64), driver="evd")
    first = np.searchsorted(values, 1e-6 * values[-1])
    if n_largest is not None:
        first = max(first, len(values) - n_largest)
    return values[first:], vectors[:, first:]


def _means(rows, codes, weight, n_means):
    """Return means of consecutive rows of each class, at length one, and which a row is part of."""
    n_classes = int(codes.max()) + 1
    n_groups = max(n_means // n_classes, 1)
    count = np.bincount(codes)[codes]
    group = codes * n_groups + place_in_class(codes) * n_groups // np.maximum(count, n_groups)
    group = np.unique(group, return_inverse=True)[1]
    of_group = csr_array((weight, group, np.arange(len(codes) + 1))).T
    return [unit_rows((of_group @ row).astype(row.dtype)) for row in rows], group


def dimension(
    rows: list[np.ndarray], codes: np.ndarray, shares: np.ndarray, priors: Priors
) -> float:
    """Return in how many dimensions rows of different classes seem to lie.

    One over the variance of their cosines, which is the number of dimensions where all directions
    are equally likely. Few rows say little: two that are centred on their own mean lie opposite,
    wherever they come from. So the variance is shrunk to the one that is expected. Of more rows
    than ``max_rows``, some of every class tell for all.
    """
    some = (place_in_class(codes) + codes) % -(-len(codes) // priors.max_rows) == 0
    codes, rows = codes[some], [row[some] for row in rows]
    factors = np.sqrt(shares).astype(rows[0].dtype)
    side_by_side = np.hstack([row * factor for row, factor in zip(rows, factors, strict=True)])
    blocks = [side_by_side[codes == c] for c in range(int(codes.max()) + 1)]
    wide = side_by_side.shape[1] > len(codes)
    gram = side_by_side @ side_by_side.T if wide else side_by_side.T @ side_by_side
    squares = np.square(gram, dtype=np.float64).sum()
    squares -= sum(np.square(block @ block.T, dtype=np.float64).sum() for block in blocks)
    sums = np.stack([block.sum(axis=0, dtype=np.float64) for block in blocks])
    total = np.square(sums.sum(axis=0)).sum() - np.square(sums).sum()
    pairs = len(codes) ** 2 - sum(len(block) ** 2 for block in blocks)
    variance = squares / pairs - (total / pairs) ** 2
    free = max(pairs / 2 - len(codes), 1e-9)  # centring and unit length cost one per row
    variance = free * variance + priors.n_pairs / priors.n_dimensions
    return float(1 / max(variance / (free + priors.n_pairs), 1e-6))
