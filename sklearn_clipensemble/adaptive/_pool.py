"""What the backbones say before any label, made comparable."""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize
from sklearn.utils import gen_batches

from sklearn_clipensemble.adaptive._priors import Priors
from sklearn_clipensemble.table._read import Table
from sklearn_clipensemble.table._scores import log_softmax, softmax_loss, unexplained

# Rows that are looked at together: bounds the memory by the table's own.
_BATCH = 2048


class ZeroShotPool:
    """A weighted sum of standardised zero-shot logits, of the backbones that have them.

    Without labels (``codes`` is None), a backbone counts as much as it agrees with the others;
    labels correct its weight, and what a class scores whatever the image. They have not been seen
    by any zero-shot answer, so they can judge it without being held out.
    """

    def __init__(self, table: Table, codes: np.ndarray | None, weight: np.ndarray, priors: Priors):
        n_backbones, n_classes = len(table.with_logits), len(table.order)
        self.biases = np.zeros(n_classes)
        self.weights = self.scales = np.ones(n_backbones)
        # In float64, or the square of a large float32 is infinite, and of a small one zero.
        spreads = (np.std(z, axis=1, dtype=np.float64) for z in self._each(table))
        scales = np.array([np.average(spread, weights=weight) for spread in spreads])
        self.scales = np.where(scales > 0, scales, 1.0)
        parts = self.parts(table)
        self.weights = anchor = priors.zero_shot_sharpness * _agreement(parts, weight)
        if codes is None or len(labelled := np.unique(codes)) < 2:
            return
        if len(labelled) < n_classes:  # nothing is known against the others
            parts, codes = parts[:, :, labelled], np.searchsorted(labelled, codes)
        self.weights, self.biases[labelled] = _most_likely(parts, codes, weight, anchor, priors)

    def __repr__(self):
        weights = ", ".join(f"{weight:.2f}" for weight in self.weights)
        return f"<{type(self).__name__} of {len(self.biases)} classes, weights {weights}>"

    def _each(self, table):
        """Yield every backbone's share of the sum, ``(n_samples, n_classes)``."""
        for backbone, factor in zip(table.with_logits, self.weights / self.scales, strict=True):
            logits = table.logits(backbone)
            part = logits - logits.mean(axis=1, keepdims=True)
            part *= factor
            yield part

    def parts(self, table: Table) -> np.ndarray:
        """Return every backbone's share of the sum, ``(n_backbones, n_samples, n_classes)``."""
        parts = np.empty((len(self.weights), len(table), len(table.order)), table.X.dtype)
        for part, share in zip(parts, self._each(table), strict=True):
            part[:] = share
        return parts

    def __call__(self, table: Table) -> np.ndarray:
        """Return the sum and the classes' biases, ``(n_samples, n_classes)``."""
        total = np.tile(self.biases.astype(table.X.dtype), (len(table), 1))
        for share in self._each(table):
            total += share
        return total


def zero_shot(
    table: Table, codes: np.ndarray | None, weight: np.ndarray, priors: Priors
) -> ZeroShotPool | None:
    """Return the weighted zero-shot answers; None where no backbone has any."""
    return ZeroShotPool(table, codes, weight, priors) if table.has_logits else None


def _agreement(parts, weight):
    """Weigh every backbone by how well it agrees with the weighted sum of the others.

    A correlation ``r`` with the consensus counts as ``r / (1 - r^2)``, the
    coefficient that a regression on one noisy reading of it would give.
    """
    n_backbones = len(parts)
    if n_backbones == 1:
        return np.ones(1)
    gram = np.empty((parts.shape[1], n_backbones, n_backbones))
    for i in range(n_backbones):
        for j in range(i + 1):
            gram[:, i, j] = gram[:, j, i] = np.einsum("nc,nc->n", parts[i], parts[j])
    others = 1 - np.eye(n_backbones)
    length = np.sqrt(np.einsum("nii->ni", gram))
    weights = np.full(n_backbones, 1 / n_backbones)
    for _ in range(5):
        mixes = others * weights  # row i: the consensus that backbone i is compared with
        along = np.einsum("nij,ij->ni", gram, mixes)
        # Rounding may take a length of zero below it.
        across = np.sqrt(np.maximum(np.einsum("ij,njk,ik->ni", mixes, gram, mixes), 0)) * length
        cosine = np.divide(along, across, out=np.zeros_like(along), where=across > 0)
        agreement = np.clip(np.average(cosine, axis=0, weights=weight), 0.01, 0.99)
        weights = agreement / (1 - agreement**2)
        weights /= weights.sum()
    return weights


def _most_likely(parts, codes, weight, anchor, priors):
    """Return the positive weights and the biases that make the labels most likely.

    Both are drawn, by a Gaussian prior, towards the label-free weights and
    towards no bias. The weights may grow or shrink together more easily than
    they may change their proportions.
    """
    n_backbones, _, n_classes = parts.shape
    parts = parts.reshape(n_backbones, -1)
    logits = np.empty((len(codes), n_classes), parts.dtype)

    def pool(weights):
        np.dot(weights.astype(parts.dtype), parts, out=logits.reshape(-1))

    pool(anchor)
    bias_precision = priors.bias_precision / unexplained(logits, codes, weight) ** 2
    together = anchor / np.linalg.norm(anchor)
    looser = (priors.size_precision - priors.weight_precision) * np.outer(together, together)
    weight_precision = priors.weight_precision * np.eye(n_backbones) + looser
    # In these units the curvature is about one in every direction.
    curvature = np.diag(weight_precision).copy()
    bias_curvature = np.full(n_classes, bias_precision)
    for rows in gen_batches(len(codes), _BATCH):
        proba, mass = np.exp(log_softmax(logits[rows])), weight[rows]
        scores = parts.reshape(n_backbones, *logits.shape)[:, rows]
        curvature += [mass @ _variance(proba, z) for z in scores]
        bias_curvature += mass @ (proba - proba**2)
    unit = 1 / np.sqrt(np.concatenate([curvature, bias_curvature]))

    def loss(scaled):
        weights, biases = np.split(scaled * unit, [n_backbones])
        pool(weights)
        logits[:] += biases.astype(logits.dtype)
        pull, bias_pull = weight_precision @ (weights - anchor), bias_precision * biases
        value = softmax_loss(logits, codes, weight)
        value += (pull @ (weights - anchor) + bias_pull @ biases) / 2
        slope = pull + parts @ logits.reshape(-1)
        bias_slope = bias_pull + logits.sum(axis=0, dtype=np.float64)
        return value, np.concatenate([slope, bias_slope]) * unit

    eps = np.finfo(parts.dtype).eps
    start = np.concatenate([anchor, np.zeros(n_classes)])
    found = minimize(
        loss,
        start / unit,
        jac=True,
        method="L-BFGS-B",
        bounds=[(1e-3 / u, None) for u in unit[:n_backbones]] + [(None, None)] * n_classes,
        options={"ftol": 10 * eps, "gtol": np.sqrt(eps)},
    )
    weights, biases = np.split(found.x * unit, [n_backbones])
    return weights, biases


def _variance(proba, scores):
    """Return the variance of every row's scores, each class counting by its probability."""
    away = scores - np.einsum("nc,nc->n", proba, scores)[:, None]
    return np.einsum("nc,nc->n", proba * away, away)
