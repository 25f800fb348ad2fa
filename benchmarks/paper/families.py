"""Are backbones of two families right about different images, more than two of one family?

The odds ratio of two backbones says how much more often one is right where the other is, whatever
their accuracies: 1 where they err independently. From it and two accuracies follows how many images
at least one is right about (Plackett's distribution), so that two of two families can be set beside
what two of one family *with the same accuracies* would be right about.
"""

from __future__ import annotations

from itertools import permutations
from math import factorial

import numpy as np
import pandas as pd

#: Reassignments of families to try where there are too many for all.
_N_PERMUTATIONS = 10000


def log_odds(right: np.ndarray, weight: np.ndarray | None = None) -> np.ndarray:
    """Return the logarithm of the odds ratio of every pair of columns; half an image added to each cell."""
    R = np.asarray(right, dtype=float)
    w = np.ones(len(R)) if weight is None else weight
    both, one = (R.T * w) @ R + 0.5, (R.T * w) @ (1 - R) + 0.5
    none = ((1 - R).T * w) @ (1 - R) + 0.5
    return np.log(both * none / (one * one.T))


def union(p: np.ndarray, q: np.ndarray, log_ratio: np.ndarray) -> np.ndarray:
    """Return how often at least one is right of two backbones of accuracies p and q."""
    ratio = np.exp(np.where(np.abs(log_ratio) < 1e-6, 1e-6, log_ratio))
    total = 1 + (p + q) * (ratio - 1)
    root = np.sqrt(total**2 - 4 * ratio * (ratio - 1) * p * q)
    return p + q - (total - root) / (2 * (ratio - 1))


def compare(
    right: pd.DataFrame,
    families: dict[str, str],
    clusters: np.ndarray | None = None,
    n_bootstrap: int = 1000,
) -> pd.DataFrame:
    """Set pairs of two families beside pairs of one.

    Intervals are 95 % of resampled images (whole clusters of them); the p-value is the share of all
    ways to hand the families to the backbones that tell them apart as much, ``least p`` the smallest it
    can be.
    """
    R = right.to_numpy(dtype=bool)
    labels = np.array([families[b] for b in right])
    groups = np.arange(len(R)) if clusters is None else np.unique(clusters, return_inverse=True)[1]
    same = _pairs(labels[:, None] == labels)
    if same.all() or not same.any():
        raise ValueError("There must be two families, and two backbones of one.")
    found = _measure(R, same, np.ones(len(R)))
    rng = np.random.default_rng(0)
    n_groups = groups.max() + 1
    resampled = []
    for _ in range(n_bootstrap):
        times = np.bincount(rng.integers(n_groups, size=n_groups), minlength=n_groups)
        resampled.append(_measure(R, same, times[groups].astype(float)))
    low, high = np.percentile(pd.DataFrame(resampled), [2.5, 97.5], axis=0)
    table = pd.DataFrame({"value": list(found.values()), "low": low, "high": high}, list(found))
    table.loc["difference", ["p", "least p"]] = _permute(_pairs(log_odds(R)), labels, same, rng)
    table["pairs"] = (~same).sum()
    table.loc[list(_OF_ONE_FAMILY), "pairs"] = same.sum()
    return table.rename_axis("measure").reset_index()


#: The measures of pairs of one family.
_OF_ONE_FAMILY = ("log odds ratio, one family", "second of one family adds, points")


def _pairs(matrix: np.ndarray) -> np.ndarray:
    return matrix[np.triu_indices(len(matrix), k=1)]


def _measure(R, same, weight):
    accuracy = np.average(R, axis=0, weights=weight)
    i, j = np.triu_indices(R.shape[1], k=1)
    p, q = accuracy[i], accuracy[j]
    ratio = _pairs(log_odds(R, weight))
    either = _pairs(1 - ((~R).T * weight) @ (~R).astype(float) / weight.sum())
    gain, best, other = either - np.maximum(p, q), np.maximum(p, q), ~same
    alike = np.full(other.sum(), ratio[same].mean())
    expected = union(p[other], q[other], alike) - best[other]
    independent = (p + q - p * q - best)[other]
    return {
        "log odds ratio, one family": ratio[same].mean(),
        "log odds ratio, two families": ratio[other].mean(),
        "difference": ratio[same].mean() - ratio[other].mean(),
        "second of one family adds, points": 100 * gain[same].mean(),
        "second of another adds, points": 100 * gain[other].mean(),
        "if it were as alike as in one family": 100 * expected.mean(),
        "if it erred independently": 100 * independent.mean(),
        "another beyond one family, points": 100 * (gain[other] - expected).mean(),
    }


def _permute(ratio, labels, same, rng):
    if factorial(len(labels)) <= 400_000:
        handed = {tuple(order) for order in permutations(labels)}
    else:
        handed = [rng.permutation(labels) for _ in range(_N_PERMUTATIONS)]
    masks = [_pairs(np.equal.outer(order, order)) for order in map(np.array, handed)]
    observed = ratio[same].mean() - ratio[~same].mean()
    found = np.array([ratio[m].mean() - ratio[~m].mean() for m in masks])
    least = np.mean([np.array_equal(mask, same) for mask in masks])
    return np.mean(found >= observed - 1e-12), max(least, 1 / len(masks))
