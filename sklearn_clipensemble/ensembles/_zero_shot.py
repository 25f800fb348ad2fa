"""What the backbones say before any label, made comparable."""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize

from sklearn_clipensemble.ensembles._base import Table
from sklearn_clipensemble.ensembles._scores import log_softmax

# The sharpness of a label-free answer: its logits' standard deviation over the classes.
_SHARPNESS = 2.5
# How many labelled rows a class's bias must be seen on to be half believed.
_ROWS_FOR_BIAS = 10
# The precision of the label-free weights, in units of the labels' own evidence.
_PRECISION = 2.0


class ZeroShotPool:
    """A weighted sum of the backbones' standardised zero-shot logits.

    Without labels, a backbone counts as much as it agrees with the others;
    labels correct its class bias and its weight. The labels have not been seen
    by any zero-shot answer, so they can judge it without being held out.

    Parameters
    ----------
    table : Table
        The rows to learn from.
    codes : ndarray of shape (n_samples,) or None
        Their labels, as class indices; None without labels.
    weight : ndarray of shape (n_samples,)
        Their weights.
    """

    def __init__(self, table: Table, codes: np.ndarray | None, weight: np.ndarray):
        n_backbones, n_classes = len(table.backbones), len(table.order)
        self.scales = np.ones(n_backbones)
        self.biases = np.zeros((n_backbones, n_classes))
        self.weights = np.ones(n_backbones)
        self.scales = np.array(
            [np.average(np.std(z, axis=1), weights=weight) for z in self.parts(table)]
        )
        self.scales[self.scales == 0] = 1.0
        parts = self.parts(table)
        anchor = _SHARPNESS * _agreement(parts, weight)
        if codes is None:
            self.weights = anchor
            return
        self.biases = np.stack([_class_bias(z, codes, weight) for z in parts])
        parts -= self.biases[:, None].astype(parts.dtype)
        self.weights = _most_likely_weights(parts, codes, weight, anchor)

    def parts(self, table: Table) -> np.ndarray:
        """Return every backbone's share of the sum, ``(n_backbones, n_samples, n_classes)``."""
        parts = np.empty((len(self.weights), len(table), len(table.order)), table.X.dtype)
        for part, backbone, scale, bias, weight in zip(
            parts, table.backbones, self.scales, self.biases, self.weights, strict=True
        ):
            logits = table.logits(backbone)
            np.subtract(logits, logits.mean(axis=1, keepdims=True), out=part)
            part *= weight / scale
            part -= (weight * bias).astype(part.dtype)
        return parts


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
        across = np.sqrt(np.einsum("ij,njk,ik->ni", mixes, gram, mixes)) * length
        cosine = np.divide(along, across, out=np.zeros_like(along), where=across > 0)
        agreement = np.clip(np.average(cosine, axis=0, weights=weight), 0.01, 0.99)
        weights = agreement / (1 - agreement**2)
        weights /= weights.sum()
    return weights


def _class_bias(logits, codes, weight):
    """Return what a class scores whatever the image, shrunk to zero where rows are few.

    The logits are read as a bias per class plus a constant for the right one:
    the right one's share does not count as bias, however uneven the labels are.
    """
    rows, total = np.arange(len(codes)), weight.sum()
    share = np.bincount(codes, weights=weight, minlength=logits.shape[1]) / total
    spread = 1 - share @ share
    if spread <= 0:  # one class only: what is its bias and what its due cannot be told
        return np.zeros(logits.shape[1])
    mean = weight @ logits / total
    right = weight @ logits[rows, codes] / total
    lift = (right - share @ mean) / spread
    return (mean - lift * share) * total / (total + _ROWS_FOR_BIAS)


def _most_likely_weights(parts, codes, weight, anchor):
    """Return the positive weights that make the labels most likely, drawn towards ``anchor``."""
    rows = np.arange(len(codes))
    right = np.stack([z[rows, codes] for z in parts]).astype(np.float64) @ weight

    def loss(weights):
        pooled = np.tensordot(weights.astype(parts.dtype), parts, axes=1)
        log_proba = log_softmax(pooled)
        value = -(weight @ log_proba[rows, codes].astype(np.float64))
        proba = np.exp(log_proba, out=log_proba)
        proba *= weight[:, None].astype(proba.dtype)
        slope = np.array([np.vdot(proba, z) for z in parts]) - right
        away = weights - anchor
        return value + _PRECISION / 2 * away @ away, slope + _PRECISION * away

    bounds = [(1e-3, None)] * len(anchor)
    options = {"gtol": 1e-7, "ftol": 1e-14}
    return minimize(loss, anchor, jac=True, method="L-BFGS-B", bounds=bounds, options=options).x
