"""The backbones' features side by side, what is alike in them, and few rows for many."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from sklearn.utils import gen_batches

from sklearn_clipensemble.table._read import Table


def unit_rows(rows: np.ndarray, negligible: float = 0.0) -> np.ndarray:
    """Return the rows at length one; those of a negligible length become zeros."""
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    length[length <= negligible] = np.inf
    return rows / length


def row_digests(X: np.ndarray) -> np.ndarray:
    """Return a number for every row, ``(n_samples,)``, the same for the same row only."""
    factors = np.random.default_rng(0).integers(2**63, size=X.shape[1], dtype=np.uint64) | 1
    digests = [
        X[rows].astype(np.float32).view(np.uint32).astype(np.uint64) @ factors
        for rows in gen_batches(len(X), 1024)
    ]
    return np.concatenate(digests)


def unit_features(table: Table, backbones: Sequence[str] | None = None) -> np.ndarray:
    """Return the L2-normalised features of several backbones, side by side, at length one.

    The inner product of two rows is the backbones' average cosine.
    """
    backbones = table.backbones if backbones is None else backbones
    parts = [unit_rows(table.features(backbone)) for backbone in backbones]
    return np.hstack(parts) / np.sqrt(len(parts), dtype=parts[0].dtype)


def cosine_kernel(A: np.ndarray, B: np.ndarray, sharpness: float) -> np.ndarray:
    """Return ``exp(-sharpness * (1 - a @ b))`` for rows ``a`` of A and ``b`` of B of unit length."""
    K = A @ B.T
    K -= 1
    K *= sharpness
    return np.exp(K, out=K)


def place_in_class(codes: np.ndarray) -> np.ndarray:
    """Return how many rows of its class come before each row."""
    order = np.argsort(codes, kind="stable")
    place = np.empty_like(order)
    place[order] = np.arange(len(codes)) - np.searchsorted(codes[order], codes[order])
    return place


def few_of_each(codes: np.ndarray, limit: int) -> np.ndarray:
    """Return the first rows of every class, equally many of each, until there are ``limit``.

    In whole rounds through the classes, so that their order does not matter.
    """
    if len(codes) <= limit:
        return np.arange(len(codes))
    rank = place_in_class(codes)
    enough = np.searchsorted(np.cumsum(np.bincount(rank)), limit)
    return np.flatnonzero(rank <= enough)


def distinct(X: np.ndarray, codes: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the first of all rows that are the same, label included, and the sums of their weights.

    Then no copy of a row is learnt from while it is held out.
    """
    sums = X.sum(axis=1)
    order = np.lexsort((sums, codes))
    following = order[1:][(np.diff(sums[order]) == 0) & (np.diff(codes[order]) == 0)]
    first = np.arange(len(X))
    if len(following):
        before = order[np.flatnonzero(np.isin(order, following)) - 1]
        for this, other in zip(following, before, strict=True):
            if np.array_equal(X[this], X[other]):
                first[this] = first[other]
    kept, groups = np.unique(first, return_inverse=True)
    return kept, np.bincount(groups, weight)
