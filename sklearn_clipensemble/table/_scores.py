"""Log-probabilities of every backbone, and how far to trust them."""

from __future__ import annotations

import numpy as np
from scipy.optimize import brentq, minimize
from scipy.special import logsumexp

from sklearn_clipensemble.table._read import Table

# How many scores a core's cache holds.
_CACHED = 2**19


def log_softmax(scores: np.ndarray) -> np.ndarray:
    """Return log-probabilities over the last axis, in the precision of ``scores``."""
    scores = scores - scores.max(axis=-1, keepdims=True)
    scores -= np.log(np.exp(scores).sum(axis=-1, keepdims=True))
    return scores


def zero_shot_logits(table: Table) -> np.ndarray:
    """Return the zero-shot logits of every backbone, ``(n_backbones, n_samples, n_classes)``."""
    return np.stack([table.logits(backbone) for backbone in table.backbones])


def mean_log_proba(log_probas: np.ndarray) -> np.ndarray:
    """Return the logarithm of the average probability of several experts."""
    return logsumexp(log_probas, axis=0) - np.log(len(log_probas))


def spreads(log_probas: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Return each expert's mean range of log-probabilities over the classes; 1 where it is 0."""
    ranges = [np.average(np.ptp(scores, axis=1), weights=weight) for scores in log_probas]
    return np.where(np.asarray(ranges) > 0, ranges, 1.0)


def weight_of_others(codes: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Return the weight that is left of each row's class when one copy of the row leaves.

    Zero where the row is its class's only one: without it, nothing is known of
    the class.
    """
    mass = np.bincount(codes, weights=weight)[codes]
    left = mass - np.minimum(weight, 1.0)
    return np.where(left > 1e-9 * mass, left, 0.0)


def _batches(scores):
    """Return slices of rows that stay in a core's cache while they are worked on several times."""
    size = max(1, _CACHED // scores.shape[1])
    return [slice(start, start + size) for start in range(0, len(scores), size)]


def log_likelihood(logits: np.ndarray, codes: np.ndarray, weight: np.ndarray) -> float:
    """Return the weighted sum of the log-probabilities that logits give the labels."""
    total = 0.0
    for batch in _batches(logits):
        log_proba = log_softmax(logits[batch])
        of_label = log_proba[np.arange(len(log_proba)), codes[batch]]
        total += float(weight[batch] @ of_label.astype(np.float64))
    return total


def softmax_loss(logits: np.ndarray, codes: np.ndarray, weight: np.ndarray) -> float:
    """Return minus the :func:`log_likelihood` of logits, and write its gradient over them."""
    loss = 0.0
    for batch in _batches(logits):
        part, label, mass = logits[batch], codes[batch], weight[batch]
        rows = np.arange(len(part))
        part -= part.max(axis=1, keepdims=True)
        of_label = part[rows, label].astype(np.float64)
        total = np.exp(part, out=part).sum(axis=1, dtype=np.float64)
        loss += float(mass @ (np.log(total) - of_label))
        part *= (mass / total)[:, None].astype(part.dtype)
        part[rows, label] -= mass.astype(part.dtype)
    return loss


def unexplained(logits: np.ndarray, codes: np.ndarray, weight: np.ndarray) -> float:
    """Return the labels' mean loss as a share of that of a guess, between 0.01 and 1."""
    share = -log_likelihood(logits, codes, weight) / (weight.sum() * np.log(logits.shape[1]))
    return float(np.clip(share, 0.01, 1.0))


def smooth_targets(codes: np.ndarray, weight: np.ndarray, n_classes: int) -> np.ndarray:
    """Return the weighted one-hot labels, and one more label in all that could be any class.

    It keeps a scale fitted to a few rows finite when all of them are right: the
    smoothing of Platt scaling, for many classes.
    """
    targets = np.repeat((weight / (weight.sum() * n_classes))[:, None], n_classes, axis=1)
    targets[np.arange(len(codes)), codes] += weight
    return targets


def smooth_log_likelihood(log_proba: np.ndarray, codes: np.ndarray, weight: np.ndarray) -> float:
    """Return the mean log-likelihood of the labels and of one more that could be any class."""
    targets = smooth_targets(codes, weight, log_proba.shape[1])
    return float(np.sum(targets * log_proba) / targets.sum())


def fit_temperature(log_proba: np.ndarray, codes: np.ndarray, weight: np.ndarray) -> float:
    """Return the temperature that makes one expert's log-probabilities most likely.

    Scores that are the same for every class keep the temperature 1.
    """
    targets = smooth_targets(codes, weight, log_proba.shape[1])
    mass = targets.sum(axis=1)
    spread = float(spreads(log_proba[None], weight)[0])
    scores = np.asarray(log_proba, dtype=np.float64) / spread
    if not np.ptp(scores, axis=1).any():
        return 1.0
    wanted = np.sum(targets * scores)

    def slope(log_sharpness):
        expected = (np.exp(log_softmax(np.exp(log_sharpness) * scores)) * scores).sum(axis=1)
        return mass @ expected - wanted

    low, high = np.log(1e-2), np.log(1e4)
    if slope(low) >= 0:  # worse than chance: as flat as the search allows
        return spread / np.exp(low)
    if slope(high) <= 0:
        return spread / np.exp(high)
    return spread / np.exp(brentq(slope, low, high, xtol=1e-6))


def fit_pool(
    log_probas: np.ndarray, codes: np.ndarray, weight: np.ndarray, start: np.ndarray
) -> np.ndarray:
    """Return the non-negative weights of the most likely log-linear pool, ``sum(w * log_probas)``.

    ``log_probas`` are of shape (n_experts, n_samples, n_classes) and have not
    seen the rows' labels. Where the labels do not say, the weights stay where
    the search starts. Where no expert is better than chance they are a
    thousandth of that: a flat distribution that still has an order.
    """
    n_experts, _, n_classes = log_probas.shape
    targets = smooth_targets(codes, weight, n_classes)
    mass, total = targets.sum(axis=1), targets.sum()
    # In units of each expert's own spread, so that a scale of 1e6 converges like one of 1.
    spread = spreads(log_probas, weight)
    wanted = np.einsum("nc,enc->e", targets, log_probas) / spread

    def loss(scaled):
        pooled = np.einsum("e,enc->nc", scaled / spread, log_probas)
        log_norm = logsumexp(pooled, axis=1)
        proba = np.exp(pooled - log_norm[:, None]) * mass[:, None]
        slope = np.einsum("nc,enc->e", proba, log_probas) / spread
        return (mass @ log_norm - scaled @ wanted) / total, (slope - wanted) / total

    bounds = [(0, None)] * n_experts
    found = minimize(loss, start * spread, jac=True, method="L-BFGS-B", bounds=bounds)
    return found.x / spread if found.x.any() else 1e-3 * start


def first_exit(leaves: np.ndarray) -> np.ndarray:
    """Return the first stage at which each row leaves, the last where it never does.

    ``leaves`` is a mask of shape (n_stages, n_samples).
    """
    return np.where(leaves.any(axis=0), leaves.argmax(axis=0), len(leaves) - 1)
