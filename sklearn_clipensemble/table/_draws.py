"""A few labelled examples of every class, drawn at random."""

from __future__ import annotations

import numpy as np
from sklearn.utils import check_random_state


def draw_shots(y: np.ndarray, n_shots: int | np.ndarray | None, random_state=None) -> np.ndarray:
    """Draw up to ``n_shots`` examples of every class.

    Every class is shuffled on its own and its first ``n_shots`` examples are
    taken: for one integer ``random_state``, the draw of k examples is a part of
    the draw of k + 1.

    Parameters
    ----------
    y : ndarray of shape (n_samples,)
        The labels.
    n_shots : int, ndarray of shape (n_classes,) or None
        Examples per class, or of each class in sorted order; None takes all.
    random_state : int, RandomState instance or None, default=None
        Decides the draw.

    Returns
    -------
    ndarray of int
        Indices of the drawn examples: the first of every class, then the
        second of every class, and so on. All indices in order for None.
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
