"""Backbones asked one after another until the answer is clear."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from numbers import Real
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike

from sklearn_clipensemble._compat import Interval
from sklearn_clipensemble.baselines._combiner import ZeroShotCombiner
from sklearn_clipensemble.table._layout import Layout
from sklearn_clipensemble.table._scores import first_exit, mean_log_proba


class _CascadeMixin(ABC):
    """Asks the backbones in order; a subclass says when to stop and which to believe.

    Parameters
    ----------
    order : sequence of str or None, default=None
        The backbones, cheapest first; None takes the order of the table.

    Attributes
    ----------
    order_ : ndarray of shape (n_backbones,)
        The order of asking, as positions in ``backbones_``.
    """

    _needs_labels = False

    @abstractmethod
    def _believed(self, asked: np.ndarray) -> np.ndarray:
        """Return for every row which of the backbones asked are believed; none to go on asking."""

    def _learn(self, log_probas, table, codes, weight):
        order = list(map(str, table.backbones if self.order is None else self.order))
        if sorted(order) != sorted(table.backbones):
            raise ValueError(
                f"order must hold every backbone of the table once: {', '.join(table.backbones)}; "
                f"got {', '.join(order)}."
            )
        self.order_ = np.array([table.find(backbone) for backbone in order])

    def _ask(self, log_probas):
        """Return the weights, and the number of backbones asked, per row."""
        n_backbones, n_samples, _ = log_probas.shape
        believed = np.zeros((n_backbones, n_samples, n_backbones))  # by stage
        for stage in range(n_backbones):
            asked = self.order_[: stage + 1]
            believed[stage][:, asked] = self._believed(log_probas[asked])
        stages = first_exit(believed.any(axis=2))
        weights = believed[stages, np.arange(n_samples)]
        weights[~weights.any(axis=1)] = 1  # never clear: all count
        return weights / weights.sum(axis=1, keepdims=True), stages + 1

    def _weigh(self, log_probas, table):
        return self._ask(log_probas)[0]

    def n_asked(self: Any, X: ArrayLike) -> np.ndarray:
        """Return how many backbones are asked for every row.

        Nothing is saved here, where the table holds all features; it is where
        images are embedded by one backbone after another.

        Parameters
        ----------
        X : DataFrame or array-like
            A table with the columns seen at fit.

        Returns
        -------
        ndarray of shape (n_samples,)
            Number of backbones, in the cascade's order; 0 for an image that
            could not be read.
        """
        table = self._table(X)
        n_asked = self._in_batches(lambda part: self._ask(self._log_probas(part))[1], table)
        if table.unread is not None:
            n_asked[table.unread] = 0
        return n_asked


class ConfidenceCascade(_CascadeMixin, ZeroShotCombiner):
    """Backbones asked cheapest first, until their average is sure.

    The probabilities of the backbones asked so far are averaged; asking stops
    when the best class reaches the threshold.

    Parameters
    ----------
    threshold : float, default=0.9
        Average probability of the best class at which asking stops: a matter of
        cost, which the sources tune to a budget.

    References
    ----------
    X. Wang et al., "Wisdom of committees", ICLR 2022.

    Examples
    --------
    >>> from sklearn_clipensemble import datasets, ensembles
    >>> X, y = datasets.load_cats_and_dogs()
    >>> ensembles.ConfidenceCascade().fit(X).n_asked(X)
    array([1, 2, 2, 1, 2, 2])
    """

    _parameter_constraints: ClassVar[dict] = {
        "threshold": [Interval(Real, 0, 1, closed="both")],
        "order": ["array-like", None],
        **ZeroShotCombiner._parameter_constraints,
    }

    def __init__(
        self,
        threshold: float = 0.9,
        *,
        order: Sequence[str] | None = None,
        layout: Layout | None = None,
        unread_label: str | float | None = None,
    ):
        super().__init__(layout=layout, unread_label=unread_label)
        self.threshold = threshold
        self.order = order

    def _believed(self, asked):
        sure = np.exp(mean_log_proba(asked).max(axis=1)) >= self.threshold
        return np.repeat(sure[:, None], len(asked), axis=1)


class AgreementCascade(_CascadeMixin, ZeroShotCombiner):
    """Backbones asked cheapest first, until two give the same answer.

    The answer is that of the two that agree, their probabilities averaged;
    where no two agree, the average of all.

    Notes
    -----
    In the source every stage is an ensemble whose members must agree; here a
    stage is one backbone, and any two may agree.

    References
    ----------
    S. Kolawole et al., "Agreement-based cascading for efficient inference", arXiv:2407.02348.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_clipensemble.ensembles import AgreementCascade
    >>> logits = np.array([[[3.0, 0], [2.0, 0], [0, 1.0]], [[3.0, 0], [0, 2.0], [0, 1.0]]])
    >>> AgreementCascade().fit(logits).combination_weights(logits)
       backbone0  backbone1  backbone2
    0        0.5        0.5        0.0
    1        0.0        0.5        0.5
    """

    _parameter_constraints: ClassVar[dict] = {
        "order": ["array-like", None],
        **ZeroShotCombiner._parameter_constraints,
    }

    def __init__(
        self,
        *,
        order: Sequence[str] | None = None,
        layout: Layout | None = None,
        unread_label: str | float | None = None,
    ):
        super().__init__(layout=layout, unread_label=unread_label)
        self.order = order

    def _believed(self, asked):
        answers = asked.argmax(axis=2).T
        agree = answers == answers[:, -1:]  # two earlier ones would have ended it before
        return agree & (agree.sum(axis=1, keepdims=True) > 1)
