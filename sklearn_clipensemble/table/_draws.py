"""A few labelled examples of every class: drawn at random, or held out in turn."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from sklearn.utils import check_random_state

from sklearn_clipensemble.table._features import place_in_class


def draw_shots(
    y: np.ndarray,
    n_shots: int | np.ndarray | None,
    random_state: int | np.random.RandomState | None = None,
) -> np.ndarray:
    """Return the indices of up to ``n_shots`` examples of every class; all for None.

    ``n_shots`` may be an array, one number for each class in sorted order. The
    first of every class come before the second of any. For one integer
    ``random_state``, the draw of k examples is a part of the draw of k + 1.
    """
    if n_shots is None:
        return np.arange(len(y))
    rng = check_random_state(random_state)
    classes, codes, counts = np.unique(y, return_inverse=True, return_counts=True)
    order = rng.permutation(len(y))
    order = order[np.argsort(codes[order], kind="stable")]
    rank = np.arange(len(y)) - np.repeat(np.cumsum(counts) - counts, counts)
    drawn = rank < np.broadcast_to(n_shots, len(classes))[codes[order]]
    return order[drawn][np.argsort(rank[drawn], kind="stable")]


def balanced_folds(
    codes: np.ndarray, n_folds: int, n_held_out: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield rows to learn from and rows held out: one label of every class, or an ``n_folds``-th of them.

    A class's only row is never held out: without it, nothing is known of its class. There are no more
    folds once ``n_held_out`` rows were held out.
    """
    count = np.bincount(codes)
    n_folds = min(n_folds, int(count.max()))
    # Every class begins with another fold, so that all are of one size.
    turn = (place_in_class(codes) + codes) % n_folds
    fold = np.where(count[codes] > 1, turn, -1)
    n_held = 0
    for i in range(n_folds):
        out = np.flatnonzero(fold == i)
        if len(out) and n_held < n_held_out:
            n_held += len(out)
            yield np.flatnonzero(fold != i), out
