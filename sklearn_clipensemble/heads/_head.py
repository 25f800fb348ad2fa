"""The base of heads: unit features, and the zero-shot answer as prior."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

import numpy as np
from scipy.linalg import svd

from sklearn_clipensemble.table._classifier import TableClassifier
from sklearn_clipensemble.table._features import distinct, unit_rows
from sklearn_clipensemble.table._layout import Layout
from sklearn_clipensemble.table._metric import WithinClassMetric
from sklearn_clipensemble.table._scores import fit_temperature, log_softmax, mean_log_proba

# Settings are chosen on about this many rows: what is cubic in them stays within seconds.
N_ROWS_TO_CHOOSE_ON = 1000


class Head(TableClassifier):
    """Base of few-shot classifiers on the features of one backbone, or of several side by side.

    A subclass gives :meth:`_learn` and :meth:`_scores`. They see the backbones'
    features, L2-normalised, in a metric learnt from the labelled rows (in
    embeddings of CLIP a few directions vary far more than all others), and side
    by side at length one. The prior is the average of the backbones' zero-shot
    probabilities, at the temperature that makes the labels most likely; uniform
    without zero-shot logits.

    Parameters
    ----------
    backbone : str or None, default=None
        The one backbone to use; None uses all, side by side.

    Attributes
    ----------
    prior_temperature_ : float
        The divisor of the prior's log-probabilities.
    metrics_ : list or None
        The metric of every backbone; None where features are taken as they are.
    """

    _parameter_constraints: ClassVar[dict] = {
        "backbone": [str, None],
        **TableClassifier._parameter_constraints,
    }
    #: A class made of ``(rows, codes, weight)`` of one backbone that maps rows to unit rows; None
    #: takes features and prior as they are.
    _metric: type | None = WithinClassMetric

    def __init__(
        self,
        *,
        backbone: str | None = None,
        layout: Layout | None = None,
        unread_label: str | float | None = None,
    ):
        super().__init__(layout=layout, unread_label=unread_label)
        self.backbone = backbone

    @abstractmethod
    def _learn(
        self, features: np.ndarray, log_prior: np.ndarray, codes: np.ndarray, weight: np.ndarray
    ) -> None:
        """Learn from the labelled rows.

        Their features of length one, ``(n_samples, n_columns)``; the prior's log-probabilities,
        ``(n_samples, n_classes)``; the labels as class indices; and positive weights.
        """

    @abstractmethod
    def _scores(self, features: np.ndarray, log_prior: np.ndarray) -> np.ndarray:
        """Return log-scores of some rows, ``(n_samples, n_classes)``, up to a constant per row."""

    def _join(self, parts: list[np.ndarray]) -> np.ndarray:
        """Put the backbones' features side by side, at length one."""
        return np.hstack(parts) / np.sqrt(len(parts))

    def _choose_backbones(self, table):
        if self.backbone is None:
            return table.backbones
        return (table.backbones[table.find(self.backbone)],)

    def _fit(self, table, codes, sample_weight):
        weight = np.ones(len(table)) if sample_weight is None else sample_weight
        self.prior_temperature_ = 1.0
        self.metrics_ = None
        if self._metric is not None:
            # A row that stands twice is one of weight two: it tells no more of what varies.
            first, mass = distinct(table.X, codes, weight)
            parts, labels = self._parts(table.take(first)), codes[first]
            self.metrics_ = [self._metric(part, labels, mass) for part in parts]
            log_prior = self._log_prior(table)
            if log_prior.any():
                self.prior_temperature_ = fit_temperature(log_prior, codes, weight)
        features = self._join(self._parts(table))
        self._learn(features, self._log_prior(table), codes, weight)

    def _parts(self, table):
        """Return every backbone's unit features, in its metric once that is known."""
        parts = [unit_rows(table.features(backbone)) for backbone in table.backbones]
        if self.metrics_ is None:
            return parts
        return [metric(part) for metric, part in zip(self.metrics_, parts, strict=True)]

    def _log_prior(self, table):
        """Return the prior's log-probabilities, all zero where there are no logits."""
        if not table.has_logits:
            return np.zeros((len(table), len(self.classes_)))
        experts = [log_softmax(table.logits(backbone)) for backbone in table.with_logits]
        return log_softmax(mean_log_proba(np.stack(experts)) / self.prior_temperature_)

    def _log_proba(self, table):
        return self._scores(self._join(self._parts(table)), self._log_prior(table))


def span_of(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return coordinates of the rows in their span, no more than there are rows, and its basis."""
    rows = rows.astype(np.float64)
    if rows.shape[0] >= rows.shape[1]:
        return rows, np.eye(rows.shape[1])
    left, values, basis = svd(rows, full_matrices=False)
    return left * values, basis


def one_hot(codes: np.ndarray, n_classes: int) -> np.ndarray:
    """Return class indices as rows of zeros and a one."""
    return np.eye(n_classes)[codes]


def fill_unseen(scores: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Give classes without a labelled row the mean score of the others, ``(n_samples, n_classes)``."""
    filled = np.repeat(scores.mean(axis=1)[:, None], len(seen), axis=1)
    filled[:, seen] = scores
    return filled
