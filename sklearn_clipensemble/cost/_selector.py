"""Leaving out backbones that are not worth what they cost."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from functools import partial
from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator
from sklearn.feature_selection import SelectorMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from sklearn_clipensemble._compat import Interval, documented
from sklearn_clipensemble.cost._gflops import gflops_of
from sklearn_clipensemble.cost._subset_scores import SubsetScores
from sklearn_clipensemble.table._labelled import learnable
from sklearn_clipensemble.table._layout import Layout, part_of
from sklearn_clipensemble.table._read import read

# What is not worth another backbone, in nats per image.
_NOTHING = 0.002


@documented
class BackboneSelector(SelectorMixin, BaseEstimator):
    """Choose the backbones that are worth what they cost, from the labelled images alone.

    Backbones are added one after another, each the one that makes held-out labels more likely by the
    most per GFLOP. Put it between :class:`~sklearn_clipensemble.ZeroShotLogits` and the classifier;
    then embed new images with the chosen backbones alone: ``CLIPEmbedder(selector.backbones_)``.

    Parameters
    ----------
    n_backbones : int or None, default=None
        How many to choose; fewer where ``budget`` ends first. None takes as many as make held-out labels
        likelier.
    budget : float or None, default=None
        What the chosen ones may cost together, in GFLOPs per image; None sets no limit.
    costs : mapping of str to float or None, default=None
        GFLOPs per image of backbones that are not known here, by id.
    layout : Layout or None, default=None
        The columns of ``X``, where it has no column names.

    Attributes
    ----------
    backbones_ : list of str
        The ids of the chosen backbones, in the order in which they were chosen.
    cost_ : float
        What they cost together, in GFLOPs per image.
    support_ : ndarray of bool, shape (n_columns,)
        Which columns are theirs.
    path_ : DataFrame
        A row for each backbone that was added, the chosen first, indexed by the number of ``step``:
        ``backbone``, and of all so far the mean ``log_likelihood`` of held-out labels, their
        ``accuracy``, and ``gflops``.
    layout_ : Layout
        The columns seen at fit.
    n_features_in_ : int
        Number of columns.
    feature_names_in_ : ndarray of str
        Names of the columns, where ``X`` has names.

    See Also
    --------
    sklearn_clipensemble.CascadeClassifier : Asks every backbone, but not about every image.
    cost_curve : What each number of backbones costs and scores.

    Notes
    -----
    Labels are held out in four balanced folds: one label of every class, or a quarter of them. Within a
    fold each backbone learns by itself, as :class:`~sklearn_clipensemble.AdaptiveBackboneEnsemble` does
    without inner folds; the answer of several is the mean of their log-probabilities, at one
    temperature. So nothing is fitted to the many subsets, and what is chosen is as good, within half a
    point of accuracy, as if ensembles were (``benchmarks/selection.py``). Equal ``costs`` choose by the
    gain alone.

    A label that is the only one of its class is not held out. Zero-shot answers know no label, so they
    stand for what a backbone would say of its image. With one label per class they are all there is: a
    backbone without a text tower then gains nothing, and where no backbone has one the cheapest is
    taken, with a warning.

    Taking the best per GFLOP may spend a budget on many cheap backbones where a dear one would be
    better. So within ``budget`` backbones are also added by gain alone, and the better of the two is
    taken.

    References
    ----------
    R. Caruana, A. Niculescu-Mizil, G. Crew and A. Ksikes, "Ensemble selection from libraries of
    models", ICML 2004.
    J. Leskovec et al., "Cost-effective outbreak detection in networks", KDD 2007: both ways of adding,
    and the better of the two.

    Examples
    --------
    >>> from sklearn_clipensemble.cost import BackboneSelector
    >>> from sklearn_clipensemble.datasets import load_cats_and_dogs
    >>> X, y = load_cats_and_dogs()
    >>> selector = BackboneSelector(costs={"large": 162.0, "small": 8.8}).fit(X, y)
    >>> selector.path_.round(2)
         backbone  log_likelihood  accuracy  gflops
    step
    1       small           -0.34      0.83     8.8
    2       large           -0.02      1.00   170.8
    >>> selector.set_params(budget=20).fit(X, y).backbones_
    ['small']
    """

    _parameter_constraints: ClassVar[dict] = {
        "n_backbones": [Interval(Integral, 1, None, closed="left"), None],
        "budget": [Interval(Real, 0, None, closed="neither"), None],
        "costs": [Mapping, None],
        "layout": [Layout, None],
    }

    def __init__(
        self,
        n_backbones: int | None = None,
        *,
        budget: float | None = None,
        costs: Mapping[str, float] | None = None,
        layout: Layout | None = None,
    ):
        self.n_backbones = n_backbones
        self.budget = budget
        self.costs = costs
        self.layout = layout

    def fit(self, X: Any, y: ArrayLike) -> Self:
        """Choose backbones.

        Parameters
        ----------
        X : DataFrame or array-like
            A table as :class:`~sklearn_clipensemble.ZeroShotLogits` returns it; logits of shape
            (n_samples, n_backbones, n_classes); or a 2-D array, with ``layout``. Rows that are NaN
            throughout, of images that could not be read, are left out with a warning.
        y : array-like of shape (n_samples,)
            The labels.

        Returns
        -------
        self : object
            The fitted selector.

        Raises
        ------
        ValueError
            If labels are missing, what a backbone costs is not known, ``budget`` is below the cheapest,
            there are fewer backbones than ``n_backbones``, or the table is not whole.
        """
        name = type(self).__name__
        if y is None:
            raise ValueError(f"{name} requires y to be passed, but the target y is None.")
        self._validate_params()
        table = read(X, self.layout, None, self._check_numbers, name)
        table, classes, codes, _ = learnable(table, y, None, name)
        assert codes is not None  # y is given
        backbones = table.backbones
        if (self.n_backbones or 0) > len(backbones):
            raise ValueError(
                f"n_backbones={self.n_backbones}, but the table has {len(backbones)}: "
                f"{', '.join(backbones)}."
            )
        costs = self._find_costs(backbones)
        scores = SubsetScores(table, codes, classes)
        if scores.empty and len(backbones) > 1:
            warnings.warn(
                f"With one label per class and no zero-shot logits nothing tells which backbone is better: "
                f"{name} takes the cheapest. Give two labels of each class, or put ZeroShotLogits() before "
                "it.",
                UserWarning,
                stacklevel=2,
            )
        chosen, path = self._choose(scores, costs)
        self.backbones_ = [backbones[b] for b in chosen]
        self.cost_ = float(costs[chosen].sum())
        self.layout_ = table.layout
        known = [scores.score(path[: step + 1]) for step in range(len(path))]
        self.path_ = pd.DataFrame(
            {
                "backbone": [backbones[b] for b in path],
                "log_likelihood": [log_likelihood for log_likelihood, _ in known],
                "accuracy": [accuracy for _, accuracy in known],
                "gflops": costs[path].cumsum(),
            },
            index=pd.RangeIndex(1, len(path) + 1, name="step"),
        )
        named = set(part_of(table.layout, self.backbones_).names)
        self.support_ = np.array([column in named for column in table.layout.names])
        return self

    def _check_numbers(self, X, reset=True):
        return validate_data(
            self, X, reset=reset, dtype=[np.float32, np.float64], ensure_all_finite=False
        )

    def _find_costs(self, backbones) -> np.ndarray:
        try:
            costs = gflops_of(dict.fromkeys(backbones), self.costs)
        except ValueError:
            if len(backbones) > 1 or self.budget is not None or self.costs is not None:
                raise
            return np.array([np.nan])  # one backbone is not compared with any
        least = min(costs, key=costs.__getitem__)
        if self.budget is not None and self.budget < costs[least]:
            raise ValueError(
                f"budget={self.budget:g} GFLOPs per image is less than the cheapest backbone costs: {least}, "
                f"{costs[least]:.3g}. Give more, or use smaller backbones."
            )
        return np.array([costs[id] for id in backbones])

    def _choose(self, scores: SubsetScores, costs: np.ndarray) -> tuple[list[int], list[int]]:
        """Return the chosen backbones, and all that were added."""
        ways = [True] if self.budget is None else [True, False]
        found = []
        for per_gflop in ways:
            path = self._add(scores, costs, per_gflop)
            likely = [scores.score(path[: step + 1])[0] for step in range(len(path))]
            enough = np.greater_equal(likely, max(likely) - _NOTHING)
            size = int(np.argmax(enough)) + 1 if self.n_backbones is None else len(path)
            found.append((likely[size - 1], path[:size], path))
        return max(found, key=lambda way: way[0])[1:]

    def _add(self, scores: SubsetScores, costs: np.ndarray, per_gflop: bool) -> list[int]:
        """Return backbones in the order in which they are added, while the budget and their number allow."""
        path: list[int] = []
        before, spent = scores.of_a_guess, 0.0
        limit = np.inf if self.budget is None else self.budget * (1 + 1e-9)
        left = sorted(range(len(costs)), key=costs.__getitem__)  # of equals, the cheapest
        while len(path) < (self.n_backbones or len(costs)):
            left = [b for b in left if not spent + costs[b] > limit]
            if not left:
                break
            gains = np.array([scores.score([*path, b])[0] - before for b in left])
            if per_gflop:  # harm is harm, whatever it costs
                gains = np.where(gains > 0, gains / costs[left], gains)
            path.append(left.pop(int(gains.argmax())))
            before, spent = scores.score(path)[0], costs[path].sum()
        return path

    def transform(self, X: Any) -> Any:
        """Keep the columns of the chosen backbones.

        Parameters
        ----------
        X : DataFrame or array-like
            A table with the columns seen at fit. Rows of NaN stay.

        Returns
        -------
        DataFrame or ndarray
            The chosen columns, in their order; of logits of shape (n_samples, n_backbones, n_classes)
            those of the chosen backbones.
        """
        check_is_fitted(self)
        check = partial(self._check_numbers, reset=False)
        table = read(X, None, self.layout_, check, type(self).__name__)
        if hasattr(X, "iloc"):
            return X.loc[:, self.support_]
        if hasattr(X, "columns"):  # polars
            return X[[name for name, kept in zip(X.columns, self.support_, strict=True) if kept]]
        kept = table.X[:, self.support_]
        if table.unread is not None:
            kept[table.unread] = np.nan
        n_dims = X.ndim if hasattr(X, "ndim") else np.asarray(X).ndim
        return kept.reshape(len(kept), -1, len(self.layout_.classes)) if n_dims == 3 else kept

    def get_feature_names_out(self, input_features: ArrayLike | None = None) -> np.ndarray:
        """Return the names of the columns that are kept.

        Parameters
        ----------
        input_features : array-like of str or None, default=None
            The names of all columns; None takes those seen at fit, else those of the layout.

        Returns
        -------
        ndarray of str
            The names.
        """
        check_is_fitted(self)
        if input_features is None and not hasattr(self, "feature_names_in_"):
            input_features = self.layout_.names
        return super().get_feature_names_out(input_features)

    def _get_support_mask(self):
        return self.support_

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        tags.input_tags.three_d_array = True
        return tags
