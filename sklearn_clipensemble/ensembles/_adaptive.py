"""The default combiner: zero-shot evidence and a few-shot correction per backbone."""

from __future__ import annotations

from numbers import Integral
from typing import ClassVar

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from sklearn.utils import gen_batches
from sklearn.utils._param_validation import Interval

from sklearn_clipensemble._layout import Layout
from sklearn_clipensemble.ensembles._base import BaseCombiner, Table
from sklearn_clipensemble.ensembles._gaussian_process import KernelCorrection
from sklearn_clipensemble.ensembles._zero_shot import ZeroShotPool
from sklearn_clipensemble.model_selection._split import draw_shots

# Rows that are answered at once: bounds the memory of predict by the table's own.
_BATCH = 2048
# So that the weights stay positive where a backbone has nothing to say.
_SILENCE = 1e-9


class AdaptiveBackboneEnsemble(BaseCombiner):
    """Combine several backbones with weights that differ from image to image.

    Parameters
    ----------
    n_shots : int or None, default=None
        Learn from this many labelled rows of each class, drawn from those given
        to ``fit``; None takes all. Draws are nested: the one of k rows is a
        part of the one of k + 1.
    layout : Layout or None, default=None
        What the columns are, where ``X`` has no column names.
    random_state : int, RandomState instance or None, default=None
        Decides the draw; nothing else is random.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The classes, those without a labelled row among them.
    backbones_ : list of str
        The ids of the backbones.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_clipensemble.ensembles import AdaptiveBackboneEnsemble
    >>> logits = np.random.default_rng(0).normal(size=(6, 2, 3))  # images, backbones, classes
    >>> clf = AdaptiveBackboneEnsemble().fit(logits, [0, 0, 1, 1, 2, 2])
    >>> clf.combination_weights(logits).shape
    (6, 2)
    """

    _needs_labels = False
    _parameter_constraints: ClassVar[dict] = {
        "n_shots": [Interval(Integral, 1, None, closed="left"), None],
        "layout": [Layout, None],
        "random_state": ["random_state"],
    }

    def __init__(
        self, *, n_shots: int | None = None, layout: Layout | None = None, random_state=None
    ):
        self.n_shots = n_shots
        self.layout = layout
        self.random_state = random_state

    def _fit(self, table: Table, codes, sample_weight):
        weight = np.ones(len(table)) if sample_weight is None else sample_weight
        rows = np.flatnonzero(weight > 0)
        if codes is not None:
            rows = rows[draw_shots(codes[rows], self.n_shots, self.random_state)]
            codes = codes[rows]
        table, weight = table.take(rows), weight[rows].astype(np.float64)
        self.zero_shot_ = ZeroShotPool(table, codes, weight) if table.has_logits else None
        self.few_shot_, self.labelled_ = None, np.unique([] if codes is None else codes)
        if len(self.labelled_) > 1:
            # A class without labels keeps its zero-shot logit: nothing is known against it.
            offset = self._offset(table)[:, self.labelled_]
            codes = np.searchsorted(self.labelled_, codes)
            self.few_shot_ = KernelCorrection(_features(table), offset, codes, weight)

    def _offset(self, table):
        """Return the sum of what the backbones say before any label of the task."""
        if self.zero_shot_ is None:
            return np.zeros((len(table), len(self.classes_)), table.X.dtype)
        return self.zero_shot_(table)

    def _log_proba(self, table: Table) -> np.ndarray:
        logits = np.empty((len(table), len(self.classes_)), table.X.dtype)
        for batch in gen_batches(len(table), _BATCH):
            part = table.take(batch)
            logits[batch] = self._offset(part)
            if self.few_shot_ is not None:
                logits[batch, self.labelled_] += self.few_shot_(_features(part))
        return logits

    def _weights(self, table):
        """Return how loudly every backbone speaks, for one batch of rows."""
        if self.zero_shot_ is None:
            parts = np.zeros((len(table.backbones), len(table), len(self.classes_)), table.X.dtype)
        else:
            parts = self.zero_shot_.parts(table)
        if self.few_shot_ is not None:
            for part, correction in zip(parts, self.few_shot_.parts(_features(table)), strict=True):
                part[:, self.labelled_] += correction
        loudness = parts.std(axis=2, dtype=np.float64).T + _SILENCE
        return loudness / loudness.sum(axis=1, keepdims=True)

    def combination_weights(self, X: ArrayLike) -> pd.DataFrame:
        """Return how much each backbone counts for each image.

        Parameters
        ----------
        X : DataFrame or array-like
            A table with the columns seen at fit.

        Returns
        -------
        DataFrame of shape (n_samples, n_backbones)
            Positive weights; rows sum to one.
        """
        table = self._table(X)
        batches = gen_batches(len(table), _BATCH)
        weights = np.concatenate([self._weights(table.take(batch)) for batch in batches])
        return self._weights_table(weights, X)


def _features(table):
    """Return every backbone's features, those made of logits free of a common constant."""
    return [
        f if table.layout.widths[b] else f - f.mean(axis=1, keepdims=True)
        for b, f in ((b, table.features(b)) for b in table.backbones)
    ]
