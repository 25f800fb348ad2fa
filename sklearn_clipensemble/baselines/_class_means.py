"""A stand-in for zero-shot logits where a table has none."""

from __future__ import annotations

import numpy as np

from sklearn_clipensemble.table._read import Table
from sklearn_clipensemble.table._scores import company


class ClassMeans:
    """Nearest class means, one head per backbone, for a table without zero-shot logits.

    The logit of a class is minus ten times the squared distance to the mean
    of its examples, in units of the examples' mean squared distance to the
    mean of all: on L2-normalised embeddings spread over the whole sphere that
    is 20 times the cosine. A class without examples stands at the mean of all.

    Parameters
    ----------
    table : Table
        The rows to learn from.
    codes : ndarray of shape (n_samples,)
        Their labels, as class indices.
    weight : ndarray of shape (n_samples,)
        Their weights.
    """

    def __init__(self, table: Table, codes: np.ndarray, weight: np.ndarray):
        one_hot = np.zeros((len(table), len(table.order)))
        one_hot[np.arange(len(table)), codes] = weight
        mass = one_hot.sum(axis=0)
        self.centres, self.means, self.scales = [], [], []
        for backbone in table.backbones:
            rows = table.features(backbone)
            centre = np.average(rows, axis=0, weights=weight)
            rows = rows - centre
            scatter = np.average(np.square(rows).sum(axis=1), weights=weight)
            self.centres.append(centre)
            self.means.append(one_hot.T @ rows / np.where(mass > 0, mass, 1.0)[:, None])
            self.scales.append(10 / scatter if scatter > 0 else 1.0)

    def logits(self, table: Table) -> np.ndarray:
        """Return the logits of new rows, ``(n_backbones, n_samples, n_classes)``."""
        return np.stack([self._logits(i, self._rows(i, table)) for i in range(len(self.means))])

    def leave_one_out(self, table: Table, codes: np.ndarray, weight: np.ndarray) -> np.ndarray:
        """Return the logits of the rows learnt from, each as the other rows alone give them.

        A row that is its class's only one gets equal logits: without it,
        nothing is known of its class.
        """
        rest = company(codes, weight)
        alone = rest == 0
        # The row leaves, and the mean of the others lies away from it.
        step = np.minimum(weight, 1.0) / np.where(alone, 1.0, rest)
        logits = []
        for i, means in enumerate(self.means):
            rows = self._rows(i, table)
            own = means[codes] + step[:, None] * (means[codes] - rows)
            scores = self._logits(i, rows)
            distance = np.square(own).sum(axis=1) - 2 * np.einsum("ij,ij->i", rows, own)
            scores[np.arange(len(rows)), codes] = -self.scales[i] * distance
            scores[alone] = 0.0
            logits.append(scores)
        return np.stack(logits)

    def _rows(self, i, table):
        return table.features(table.backbones[i]) - self.centres[i]

    def _logits(self, i, rows):
        means = self.means[i]
        return self.scales[i] * (2 * (rows @ means.T) - np.square(means).sum(axis=1))
