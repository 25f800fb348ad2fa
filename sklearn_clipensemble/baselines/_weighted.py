"""Combiners that weigh every backbone's distribution over the classes."""

from __future__ import annotations

import warnings
from abc import abstractmethod

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.special import logsumexp
from sklearn.utils import gen_batches

from sklearn_clipensemble.baselines._class_means import ClassMeans
from sklearn_clipensemble.table._classifier import TableClassifier
from sklearn_clipensemble.table._read import Table
from sklearn_clipensemble.table._scores import log_softmax, zero_shot_logits

# Rows that are combined at once: bounds the memory of predict by the table's own.
_BATCH = 4096


class ZeroShotCombiner(TableClassifier):
    """A combiner of the backbones' zero-shot distributions over the classes.

    In a table without zero-shot logits the nearest class means of the labelled
    rows stand in for them, and what is learnt on top of those sees
    leave-one-out scores. In one where only some backbones have logits, the
    others are left out.
    """

    def _choose_backbones(self, table):
        chosen = table.with_logits or table.backbones
        if len(chosen) < len(table.backbones):
            left_out = [b for b in table.backbones if b not in chosen]
            warnings.warn(
                f"{type(self).__name__} combines zero-shot answers, and these backbones have none: "
                f"{', '.join(left_out)}. They are left out; AdaptiveBackboneEnsemble and the heads use "
                "their embeddings.",
                UserWarning,
                stacklevel=3,
            )
        return chosen

    @abstractmethod
    def _combine(self, log_probas: np.ndarray, table: Table) -> np.ndarray:
        """Return log-scores, ``(n_samples, n_classes)``, of log-probabilities, backbones first."""

    def _learn(self, log_probas: np.ndarray, table: Table, codes: np.ndarray, weight: np.ndarray):
        """Learn from log-probabilities that have not seen the labels; nothing by default."""

    def _fit(self, table, codes, sample_weight):
        weight = np.ones(len(table)) if sample_weight is None else sample_weight
        self.class_means_ = None if table.has_logits else ClassMeans(table, codes, weight)
        if self._needs_labels:
            if self.class_means_ is None:
                logits = zero_shot_logits(table)
            else:
                logits = self.class_means_.leave_one_out(table, codes, weight)
            self._learn(log_softmax(logits), table, codes, weight)

    def _log_probas(self, table):
        means = self.class_means_
        return log_softmax(means.logits(table) if means else zero_shot_logits(table))

    def _batches(self, table):
        """Yield some rows after others: which, their table, their log-probabilities."""
        for rows in gen_batches(len(table), _BATCH):
            part = table.take(rows)
            yield rows, part, self._log_probas(part)

    def _log_proba(self, table):
        scores = np.empty((len(table), len(self.classes_)))
        for rows, part, log_probas in self._batches(table):
            scores[rows] = self._combine(log_probas, part)
        return scores


class WeightedCombiner(ZeroShotCombiner):
    """A combiner whose rule is one weight per row and backbone.

    A subclass gives ``_weights``. They weigh the probabilities, or the
    log-probabilities where ``_of_logits`` is set.
    """

    _of_logits = False

    @abstractmethod
    def _weights(self, log_probas: np.ndarray, table: Table) -> np.ndarray:
        """Return the weights, ``(n_samples, n_backbones)``."""

    def _combine(self, log_probas, table):
        weights = self._weights(log_probas, table).T
        if self._of_logits:
            return np.einsum("bn,bnc->nc", weights, log_probas)
        with np.errstate(divide="ignore"):
            return logsumexp(log_probas + np.log(weights)[:, :, None], axis=0)

    def combination_weights(self, X: ArrayLike) -> pd.DataFrame:
        """Return the weight of every backbone for every row.

        Parameters
        ----------
        X : DataFrame or array-like
            A table with the columns seen at fit.

        Returns
        -------
        DataFrame of shape (n_samples, n_backbones)
            The weights, with the rows of ``X`` and the backbones as columns.
        """
        table = self._table(X)
        weights = [self._weights(scores, part) for _, part, scores in self._batches(table)]
        return self._weights_table(np.concatenate(weights), X)


class StaticCombiner(WeightedCombiner):
    """A combiner with one weight per backbone, the same for every row: ``weights_``."""

    def _weights(self, log_probas, table):
        return np.broadcast_to(self.weights_, (len(table), len(self.weights_)))
