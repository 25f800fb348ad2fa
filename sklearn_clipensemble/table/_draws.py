"""A few labelled examples of every class, drawn at random."""

from __future__ import annotations

import numpy as np
from sklearn.utils import check_random_state


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
