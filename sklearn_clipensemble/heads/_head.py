"""What all heads share: unit features, and the zero-shot answer as prior."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

import numpy as np
from scipy.linalg import svd
from sklearn.utils import gen_batches

from sklearn_clipensemble.table._classifier import TableClassifier
from sklearn_clipensemble.table._features import distinct, unit_rows
from sklearn_clipensemble.table._layout import Layout
from sklearn_clipensemble.table._metric import WithinClassMetric
from sklearn_clipensemble.table._scores import (
    fit_temperature,
    log_softmax,
    mean_log_proba,
)

# Rows that are scored at once: bounds the memory of predict by the table's own.
_BATCH = 4096
# Settings are chosen on about this many rows: what is cubic in them stays within seconds.
N_ROWS_TO_CHOOSE_ON = 1000


class Head(TableClassifier):
    """A few-shot classifier on the features of one backbone, or of several side by side.

    The embeddings of CLIP lie in a narrow cone, and vary far more in some
    directions than in others, so the features of each backbone are
    L2-normalised and brought into a metric learnt from the labelled rows; side
    by side they weigh alike. The prior is the average of the backbones'
    zero-shot probabilities, at the temperature that makes the labels most
    likely: it has not seen them, so they can judge it. Without zero-shot
    logits it is uniform.
    """

    _parameter_constraints: ClassVar[dict] = {
        "backbone": [str, None],
        **TableClassifier._parameter_constraints,
    }
    # Heads that follow a published formula to the letter take features and prior as they are.
    _as_given = False
    _metric = WithinClassMetric

    def __init__(
        self,
        *,
        backbone: str | None = None,
        layout: Layout | None = None,
        unread_label: str | float | None = None,
    ):
        self.backbone = backbone
        self.layout = layout
        self.unread_label = unread_label

    @abstractmethod
    def _learn(self, features, log_prior, codes: np.ndarray, weight: np.ndarray):
        """Learn from unit features, the prior's log-probabilities, class indices and weights."""

    @abstractmethod
    def _scores(self, features, log_prior) -> np.ndarray:
        """Return log-scores, ``(n_samples, n_classes)``."""

    def _join(self, parts):
        """Put the backbones' features side by side, at length one."""
        return np.hstack(parts) / np.sqrt(len(parts))

    def _fit(self, table, codes, sample_weight):
        if self.backbone is not None and self.backbone not in table.backbones:
            raise ValueError(
                f"The table has no backbone {self.backbone!r}; its backbones are: "
                f"{', '.join(table.backbones)}."
            )
        weight = np.ones(len(table)) if sample_weight is None else sample_weight
        self.prior_temperature_ = 1.0
        self.metrics_ = None
        if not self._as_given:
            # A row that stands twice is one of weight two: it tells no more of what varies.
            first, mass = distinct(table.X, codes, weight)
            parts, labels = self._parts(table.take(first)), codes[first]
            self.metrics_ = [self._metric(part, labels, mass) for part in parts]
            log_prior = self._log_prior(table)
            if log_prior.any():
                self.prior_temperature_ = fit_temperature(log_prior, codes, weight)
        features = self._join(self._parts(table))
        self._learn(features, self._log_prior(table), codes, weight)

    def _chosen(self, table):
        return table.backbones if self.backbone is None else (self.backbone,)

    def _parts(self, table):
        """Return every chosen backbone's unit features, in its metric once that is known."""
        parts = [unit_rows(table.features(backbone)) for backbone in self._chosen(table)]
        if self.metrics_ is None:
            return parts
        return [metric(part) for metric, part in zip(self.metrics_, parts, strict=True)]

    def _log_prior(self, table):
        """Return the prior's log-probabilities, all zero where there are no logits."""
        answering = table.only(self._chosen(table)).with_logits
        if not answering:
            return np.zeros((len(table), len(self.classes_)))
        experts = [log_softmax(table.logits(backbone)) for backbone in answering]
        return log_softmax(mean_log_proba(np.stack(experts)) / self.prior_temperature_)

    def _log_proba(self, table):
        scores = np.empty((len(table), len(self.classes_)))
        for rows in gen_batches(len(table), _BATCH):
            part = table.take(rows)
            scores[rows] = self._scores(self._join(self._parts(part)), self._log_prior(part))
        return scores


def span_of(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return coordinates of the rows in their span, and its basis.

    Where there are more columns than rows, what is learnt from the coordinates
    costs no more than the rows do.
    """
    rows = rows.astype(np.float64)
    if rows.shape[0] >= rows.shape[1]:
        return rows, np.eye(rows.shape[1])
    left, values, basis = svd(rows, full_matrices=False)
    return left * values, basis


def one_hot(codes: np.ndarray, n_classes: int) -> np.ndarray:
    """Return class indices as rows of zeros and a one."""
    return np.eye(n_classes)[codes]


def fill_unseen(scores: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Give classes without a labelled row the mean score of the others: nothing for, nothing against.

    Parameters
    ----------
    scores : ndarray of shape (n_samples, n_seen)
        Scores of the classes with labelled rows.
    seen : ndarray of bool of shape (n_classes,)
        Which classes those are.
    """
    filled = np.repeat(scores.mean(axis=1)[:, None], len(seen), axis=1)
    filled[:, seen] = scores
    return filled
