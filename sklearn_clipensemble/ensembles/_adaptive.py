"""The default combiner: zero-shot evidence and a few-shot correction per backbone."""

from __future__ import annotations

from numbers import Integral
from typing import ClassVar

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.special import log_softmax, logsumexp, softmax
from sklearn.utils._param_validation import Interval

from sklearn_clipensemble._layout import Layout
from sklearn_clipensemble.ensembles._base import BaseCombiner, Table
from sklearn_clipensemble.heads._kernel import RidgePath
from sklearn_clipensemble.model_selection._split import draw_shots

_SPREAD = 2.5
_RIDGE = 3.0
_SHARPNESS = 10.0


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
        if codes is not None:
            rows = draw_shots(codes, self.n_shots, self.random_state)
            if sample_weight is not None:
                rows = rows[sample_weight[rows] > 0]
                sample_weight = sample_weight[rows]
            table, codes = table.take(rows), codes[rows]
        self.scales_ = np.array([_spread(table.logits(b), sample_weight) for b in table.backbones])
        self.trust_ = 1.0
        self.coefs_ = None
        if codes is None:
            return
        n_classes = len(self.classes_)
        if table.has_logits:
            log_prior = logsumexp(self._zero_shot(table), axis=0)
            grid = np.concatenate([[0], np.geomspace(0.02, 3, 25)])
            fit = [log_softmax(a * log_prior, axis=1)[np.arange(len(codes)), codes] for a in grid]
            self.trust_ = float(grid[np.average(fit, axis=1, weights=sample_weight).argmax()])
        targets = np.zeros((len(codes), n_classes), np.float32)
        targets[np.arange(len(codes)), codes] = 1
        targets -= 1 / n_classes
        if sample_weight is not None:
            sample_weight = sample_weight.astype(table.X.dtype)
        self.centres_, self.coefs_ = [], []
        for b in table.backbones:
            features = table.features(b)
            self.centres_.append(np.average(features, axis=0, weights=sample_weight))
            path = RidgePath(
                features=_unit(features - self.centres_[-1]), sample_weight=sample_weight
            )
            self.coefs_.append(_SHARPNESS * path.coef(targets, _RIDGE))

    def _zero_shot(self, table):
        logits = [
            table.logits(b) / (s / _SPREAD)
            for b, s in zip(table.backbones, self.scales_, strict=True)
        ]
        return np.stack([log_softmax(z, axis=1) for z in logits])

    def _experts(self, table):
        experts = 0
        if table.has_logits:
            experts = self.trust_ * self._zero_shot(table)
        if self.coefs_ is not None:
            experts = experts + np.stack(
                [
                    _unit(table.features(b) - m) @ w
                    for b, m, w in zip(table.backbones, self.centres_, self.coefs_, strict=True)
                ]
            )
        experts = log_softmax(experts, axis=2)
        consensus = np.exp(experts).mean(axis=0)
        weights = softmax((consensus * experts).sum(axis=2), axis=0)
        return weights, experts

    def _log_proba(self, table: Table) -> np.ndarray:
        weights, experts = self._experts(table)
        return np.einsum("bi,bic->ic", weights, experts)

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
        weights, _ = self._experts(self._table(X))
        return self._weights_table(weights.T, X)


def _spread(logits: np.ndarray, sample_weight) -> float:
    """Return how far a backbone's logits lie apart within a row, on average."""
    if not logits.size:
        return 1.0
    spread = float(np.average(np.std(logits, axis=1, dtype=np.float64), weights=sample_weight))
    return spread if spread > 0 else 1.0


def _unit(features: np.ndarray) -> np.ndarray:
    """Return rows of unit length; a zero row stays zero."""
    length = np.linalg.norm(features, axis=1, keepdims=True)
    return features / np.where(length > 0, length, 1)
