"""Accuracy against what an image costs: one backbone, some, all, or as many as an image needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Integral

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, clone

from sklearn_clipensemble._compat import Interval, feature_names, validate_params
from sklearn_clipensemble.cost._cascade_classifier import CascadeClassifier
from sklearn_clipensemble.cost._gflops import gflops_of
from sklearn_clipensemble.cost._selector import BackboneSelector
from sklearn_clipensemble.model_selection import FewShotSplit
from sklearn_clipensemble.table import Layout
from sklearn_clipensemble.table._labelled import labels_of
from sklearn_clipensemble.table._layout import part_of


@validate_params(
    {
        "estimator": [BaseEstimator],
        "tolerances": ["array-like"],
        "n_shots": [Interval(Integral, 1, None, closed="left")],
        "n_repeats": [Interval(Integral, 1, None, closed="left")],
        "costs": [Mapping, None],
        "random_state": ["random_state"],
    },
    prefer_skip_nested_validation=True,
)
def cost_curve(
    estimator: BaseEstimator,
    X: pd.DataFrame,
    y: ArrayLike,
    *,
    tolerances: Sequence[float] = (0.0025, 0.005, 0.01, 0.02, 0.05),
    n_shots: int = 4,
    n_repeats: int = 5,
    costs: Mapping[str, float] | None = None,
    random_state: int | np.random.RandomState | None = None,
) -> pd.DataFrame:
    """Score a classifier on one, some and all backbones, and as a cascade, with what each costs.

    All learn from the same labelled images of each draw, and are scored on the others.

    Parameters
    ----------
    estimator : classifier
        A classifier of tables, such as :class:`~sklearn_clipensemble.AdaptiveBackboneEnsemble`. It is
        cloned, never fitted.
    X : DataFrame of shape (n_images, n_columns)
        A table as :class:`~sklearn_clipensemble.ZeroShotLogits` or
        :class:`~sklearn_clipensemble.CLIPEmbedder` returns it.
    y : array-like of shape (n_images,)
        The labels.
    tolerances : sequence of float, default=(0.0025, 0.005, 0.01, 0.02, 0.05)
        At which to score the cascade; see :class:`CascadeClassifier`.
    n_shots : int, default=4
        Labelled images of each class to learn from.
    n_repeats : int, default=5
        Number of draws.
    costs : mapping of str to float or None, default=None
        GFLOPs per image of backbones that are not known here, by id.
    random_state : int, RandomState instance or None, default=None
        Decides the draws.

    Returns
    -------
    DataFrame
        One row per draw and method, with the columns ``method`` ("backbone", "subset", "cascade" or
        "all"), ``name`` (the backbone, the number of backbones or the tolerance), ``repeat``,
        ``gflops`` (mean of an image) and ``accuracy``. The subset of each size is what
        :class:`BackboneSelector` takes, from the labels alone: the best on the images that are scored
        is known only afterwards.

    Raises
    ------
    TypeError
        If ``X`` has no columns of backbones.
    ValueError
        If a cost is not known, or a class has too few images.

    See Also
    --------
    sklearn_clipensemble.inspection.CostDisplay : Draws it.

    Examples
    --------
    >>> from sklearn_clipensemble import AdaptiveBackboneEnsemble
    >>> from sklearn_clipensemble.cost import cost_curve
    >>> from sklearn_clipensemble.datasets import load_cats_and_dogs
    >>> X, y = load_cats_and_dogs()
    >>> scores = cost_curve(AdaptiveBackboneEnsemble(), X, y, n_shots=1, n_repeats=1,
    ...                     tolerances=[0.01], costs={"large": 162.0, "small": 8.8}, random_state=0)
    >>> scores[["method", "name", "gflops"]]
         method   name  gflops
    0  backbone  large   162.0
    1  backbone  small     8.8
    2   cascade   0.01     8.8
    3       all      2   170.8
    """
    names = feature_names(X)
    layout = None if names is None else Layout.from_names(names)
    if layout is None:
        raise TypeError(
            f"X is a {type(X).__name__} that does not say whose columns are whose. Pass the DataFrame that "
            "CLIPEmbedder or ZeroShotLogits returns."
        )
    table = X if isinstance(X, pd.DataFrame) else pd.DataFrame(np.asarray(X), columns=names)
    labels = labels_of(y, len(table))
    gflops = gflops_of(dict.fromkeys(layout.backbones), costs)
    rows: list[tuple] = []
    splits = FewShotSplit(n_shots, n_repeats, random_state=random_state).split(table, labels)
    for repeat, (train, test) in enumerate(splits):
        learn, given = table.iloc[train], labels[train]
        rest, answers = table.iloc[test], labels[test]

        def score(
            method,
            name,
            backbones,
            repeat=repeat,
            learn=learn,
            given=given,
            rest=rest,
            answers=answers,
        ):
            columns = part_of(layout, backbones).names
            accuracy = clone(estimator).fit(learn[columns], given).score(rest[columns], answers)
            cost = sum(gflops[b] for b in backbones)
            rows.append((method, name, repeat, cost, accuracy))

        for backbone in layout.backbones:
            score("backbone", backbone, [backbone])
        if len(layout.backbones) > 2:
            selector = BackboneSelector(n_backbones=len(layout.backbones) - 1, costs=costs)
            chosen = list(selector.fit(learn, given).path_["backbone"])
            for size in range(2, len(chosen) + 1):
                score("subset", size, chosen[:size])
        cascade = CascadeClassifier(clone(estimator), costs=costs).fit(learn, given)
        for tolerance in tolerances:
            cascade.set_params(tolerance=tolerance)
            cost, accuracy = cascade.cost(rest).mean(), cascade.score(rest, answers)
            rows.append(("cascade", tolerance, repeat, cost, accuracy))
        score("all", len(layout.backbones), layout.backbones)
    return pd.DataFrame(rows, columns=["method", "name", "repeat", "gflops", "accuracy"])
