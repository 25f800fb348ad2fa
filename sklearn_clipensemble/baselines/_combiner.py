"""The base of combiners of zero-shot answers."""

from __future__ import annotations

import warnings

import numpy as np
from scipy.special import logsumexp

from sklearn_clipensemble.baselines._class_means import ClassMeans
from sklearn_clipensemble.table._classifier import TableClassifier
from sklearn_clipensemble.table._read import Table
from sklearn_clipensemble.table._scores import log_softmax, zero_shot_logits


class ZeroShotCombiner(TableClassifier):
    """Base of combiners of the backbones' zero-shot distributions over the classes.

    A subclass gives what differs from this: ``_learn``, where it has anything to
    learn, and ``_weigh``, where its weights are not the same for every row.

    In a table without zero-shot logits the nearest class means of the labelled
    rows stand in for them, and ``_learn`` sees leave-one-out scores. Where only
    some backbones have logits, the others are left out.
    """

    #: Whether the weights are those of log-probabilities, and not of probabilities.
    _of_logits = False

    def _learn(
        self,
        log_probas: np.ndarray | None,
        table: Table,
        codes: np.ndarray | None,
        weight: np.ndarray,
    ) -> None:
        """Learn from log-probabilities, ``(n_backbones, n_samples, n_classes)``.

        They have not seen the labels. None where the combiner needs no labels.
        """

    def _weigh(self, log_probas: np.ndarray, table: Table) -> np.ndarray:
        """Return the weights, ``(n_samples, n_backbones)``: ``weights_`` for every row."""
        return np.broadcast_to(self.weights_, (len(table), len(self.weights_)))

    def _combine(self, log_probas: np.ndarray, table: Table) -> np.ndarray:
        """Return log-scores, ``(n_samples, n_classes)``: the weighted sum."""
        weights = self._weigh(log_probas, table).T
        if self._of_logits:
            return np.einsum("bn,bnc->nc", weights, log_probas)
        with np.errstate(divide="ignore"):
            return logsumexp(log_probas + np.log(weights)[:, :, None], axis=0)

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

    def _fit(self, table, codes, sample_weight):
        weight = np.ones(len(table)) if sample_weight is None else sample_weight
        self.class_means_ = means = None
        if not table.has_logits:
            self.class_means_ = means = ClassMeans(table, codes, weight)
        log_probas = None
        if self._needs_labels:
            held_out = means and means.leave_one_out(table, codes, weight)
            log_probas = log_softmax(zero_shot_logits(table) if held_out is None else held_out)
        self._learn(log_probas, table, codes, weight)

    def _log_probas(self, table):
        means = self.class_means_
        return log_softmax(means.logits(table) if means else zero_shot_logits(table))

    def _log_proba(self, table):
        return self._combine(self._log_probas(table), table)

    def _weights(self, table):
        return self._weigh(self._log_probas(table), table)
