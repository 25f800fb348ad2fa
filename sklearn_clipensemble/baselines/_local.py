"""Backbones chosen by how they do on the labelled rows nearby."""

from __future__ import annotations

from numbers import Integral
from typing import ClassVar

import numpy as np

from sklearn_clipensemble._compat import Interval, StrOptions
from sklearn_clipensemble.baselines._combiner import ZeroShotCombiner
from sklearn_clipensemble.table._features import unit_features
from sklearn_clipensemble.table._layout import Layout


class LocalAccuracy(ZeroShotCombiner):
    """For every row, the backbones that are right on the labelled rows nearby.

    Dynamic selection: nearest are the labelled rows with the highest average
    cosine of the backbones' features. The probabilities are averaged.

    Parameters
    ----------
    n_neighbors : int, default=7
        Number of labelled rows nearby.
    selection : {"knora-u", "knora-e", "ola"}, default="knora-u"
        "ola" takes the backbones with the highest accuracy nearby, "knora-u"
        all, weighted by how many neighbours they get right, and "knora-e" those
        with the longest run of nearest neighbours without a miss. Several count
        alike; where there is none, all do.

    Attributes
    ----------
    neighbors_ : ndarray of shape (n_labelled, n_columns)
        The labelled rows' features.
    correct_ : ndarray of shape (n_labelled, n_backbones)
        Whether each backbone is right on each of them.
    neighbor_weights_ : ndarray of shape (n_labelled,)
        Their sample weights.

    Notes
    -----
    The sources break ties at random or by order; here they are shared. Seven
    neighbours are DESlib's default.

    References
    ----------
    K. Woods et al., "Combination of multiple classifiers using local accuracy estimates", IEEE
    TPAMI 19, 1997 ("ola"). A. H. R. Ko et al., "From dynamic classifier selection to dynamic
    ensemble selection", Pattern Recognition 41, 2008 ("knora-u", "knora-e").

    Examples
    --------
    >>> from sklearn_clipensemble import datasets, ensembles
    >>> X, y = datasets.load_cats_and_dogs()
    >>> ensembles.LocalAccuracy(n_neighbors=1).fit(X, y).combination_weights(X[1:3])
       large  small
    1    1.0    0.0
    2    0.0    1.0
    """

    _parameter_constraints: ClassVar[dict] = {
        "n_neighbors": [Interval(Integral, 1, None, closed="left")],
        "selection": [StrOptions({"knora-u", "knora-e", "ola"})],
        **ZeroShotCombiner._parameter_constraints,
    }

    def __init__(
        self,
        n_neighbors: int = 7,
        *,
        selection: str = "knora-u",
        layout: Layout | None = None,
        unread_label: str | float | None = None,
    ):
        super().__init__(layout=layout, unread_label=unread_label)
        self.n_neighbors = n_neighbors
        self.selection = selection

    def _learn(self, log_probas, table, codes, weight):
        self.neighbors_ = unit_features(table)
        self.correct_ = (log_probas.argmax(axis=2) == codes).T.astype(np.float64)
        self.neighbor_weights_ = weight

    def _weigh(self, log_probas, table):
        similarity = unit_features(table) @ self.neighbors_.T
        nearest = _nearest(similarity, self.n_neighbors / self.neighbor_weights_.min())
        # A row of weight two is two neighbours.
        mass = self.neighbor_weights_[nearest]
        before = np.cumsum(mass, axis=1) - mass
        mass = np.clip(self.n_neighbors - before, 0, mass)
        correct = self.correct_[nearest]
        if self.selection == "knora-e":
            correct = np.cumprod(correct, axis=1)
        right = np.einsum("nk,nkb->nb", mass, correct)
        if self.selection != "knora-u":
            right = np.isclose(right, right.max(axis=1, keepdims=True)) & (right > 0)
        right = np.where(right.any(axis=1, keepdims=True), right, 1.0)
        return right / right.sum(axis=1, keepdims=True)


def _nearest(similarity, n_rows):
    """Return the indices of each row's most similar columns, the most similar first."""
    if n_rows >= similarity.shape[1]:
        return np.argsort(-similarity, axis=1, kind="stable")
    n_rows = int(np.ceil(n_rows))
    columns = np.sort(np.argpartition(-similarity, n_rows - 1, axis=1)[:, :n_rows], axis=1)
    order = np.argsort(-np.take_along_axis(similarity, columns, 1), axis=1, kind="stable")
    return np.take_along_axis(columns, order, axis=1)
