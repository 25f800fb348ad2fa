"""Tip-Adapter: the labelled rows as a cache."""

from __future__ import annotations

from numbers import Real
from typing import ClassVar

from sklearn_clipensemble._compat import Interval
from sklearn_clipensemble.heads._head import Head, one_hot
from sklearn_clipensemble.table._features import cosine_kernel
from sklearn_clipensemble.table._layout import Layout


class TipAdapterHead(Head):
    """Zero-shot logits plus the votes of the labelled rows nearby (Tip-Adapter).

    The scores are ``log prior + alpha * exp(-beta * (1 - f K')) Y``, with the
    row's features ``f``, those of the labelled rows ``K`` and their one-hot
    labels ``Y``. With one backbone the log prior is its logits up to a constant.

    Parameters
    ----------
    alpha : float, default=1.0
        Weight of the labelled rows against the zero-shot logits.
    beta : float, default=5.5
        How fast their votes fade with distance.

    Attributes
    ----------
    keys_ : ndarray of shape (n_labelled, n_columns)
        The labelled rows' features.
    values_ : ndarray of shape (n_labelled, n_classes)
        Their one-hot labels, times their sample weights.

    Notes
    -----
    ``alpha`` and ``beta`` are the paper's. The released code searches both on the
    test set, for which reason the trained form (Tip-Adapter-F) is left out.
    Features and prior are neither centred nor calibrated.

    References
    ----------
    R. Zhang et al., "Tip-Adapter: training-free adaption of CLIP for few-shot classification",
    ECCV 2022.

    Examples
    --------
    >>> from sklearn_clipensemble import datasets, heads
    >>> X, y = datasets.load_cats_and_dogs()
    >>> heads.TipAdapterHead().fit(X, y).predict(X)
    array(['cat', 'cat', 'cat', 'dog', 'dog', 'dog'], dtype='<U3')
    """

    _metric = None
    _parameter_constraints: ClassVar[dict] = {
        **Head._parameter_constraints,
        "alpha": [Interval(Real, 0, None, closed="left")],
        "beta": [Interval(Real, 0, None, closed="neither")],
    }

    def __init__(
        self,
        *,
        alpha: float = 1.0,
        beta: float = 5.5,
        backbone: str | None = None,
        layout: Layout | None = None,
        unread_label: str | float | None = None,
    ):
        super().__init__(backbone=backbone, layout=layout, unread_label=unread_label)
        self.alpha = alpha
        self.beta = beta

    def _learn(self, features, log_prior, codes, weight):
        self.keys_ = features
        self.values_ = one_hot(codes, len(self.classes_)) * weight[:, None]

    def _scores(self, features, log_prior):
        votes = cosine_kernel(features, self.keys_, self.beta) @ self.values_
        return log_prior + self.alpha * votes
