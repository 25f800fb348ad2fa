"""What each backbone is good for: class by class, and to the whole."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from itertools import combinations
from numbers import Integral
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from sklearn.base import clone
from sklearn.dummy import DummyClassifier
from sklearn.model_selection import cross_val_score
from sklearn.utils import check_random_state
from tqdm.auto import tqdm

from sklearn_clipensemble._compat import Interval, feature_names, validate_params
from sklearn_clipensemble.inspection._answers import Answers, Asked, as_answers, asked, need, unwrap
from sklearn_clipensemble.table._layout import Layout


def per_class_accuracy(
    X: Asked, y: ArrayLike | None = None, *, estimator: Any = None
) -> pd.DataFrame:
    """Return the accuracy on every class by backbone, and of the combiner where one is given.

    Parameters
    ----------
    X, y, estimator : object
        As in :func:`oracle_score`.

    Returns
    -------
    DataFrame
        One row per class that occurs in ``y``, one column per backbone and one
        for the estimator.

    Examples
    --------
    >>> from sklearn_clipensemble.inspection import per_class_accuracy
    >>> y = ["cat", "cat", "dog"]
    >>> per_class_accuracy({"RN50": ["cat", "dog", "dog"], "ViT-B-32": ["cat", "cat", "cat"]}, y)
         RN50  ViT-B-32
    cat   0.5       1.0
    dog   1.0       0.0
    """
    answers = as_answers(X, y, estimator=estimator)
    return answers.correct.groupby(need(answers, "y")).mean().rename_axis(None)


@validate_params(
    {"max_subsets": [Interval(Integral, 2, None, closed="left"), None]},
    prefer_skip_nested_validation=True,
)
def backbone_contributions(
    estimator: object | Answers,
    X: ArrayLike | None = None,
    y: ArrayLike | None = None,
    *,
    cv: Any = None,
    scoring: Any = None,
    max_subsets: int | None = None,
    random_state: int | np.random.RandomState | None = None,
    verbose: int = 0,
) -> pd.DataFrame:
    """Return what each backbone contributes to a combiner's cross-validated score.

    The combiner is cross-validated on subsets of the backbones. A backbone's
    Shapley value [1]_ is its gain when it joins a subset of the others,
    averaged over the subsets of one size and then over all sizes; the values
    add up to the score of all backbones less that of the classes' shares alone.

    Interrupting (Ctrl-C) returns the estimate from the subsets done so far.

    Parameters
    ----------
    estimator : classifier or Answers
        A combiner of this package, or a fitted pipeline or search that ends in
        one; it is cloned for every fit. Or its :class:`Answers`, alone.
    X, y : array-like of shape (n_samples, ...) or None, default=None
        A table with named columns, or, for a pipeline, whatever it predicts from;
        and the true labels.
    cv : int, cross-validator or iterable, default=None
        As in :func:`sklearn.model_selection.cross_val_score`. Give randomised
        splits a ``random_state``, or subsets see different images.
    scoring : str, callable or None, default=None
        The score; None takes accuracy.
    max_subsets : int or None, default=None
        Number of subsets to estimate the values from; None takes all, ``2 **
        n_backbones``, for exact values.
    random_state : int, RandomState instance or None, default=None
        Decides the order of subsets, which matters with ``max_subsets``.
    verbose : int, default=0
        Whether to show progress.

    Returns
    -------
    DataFrame
        One row per backbone: its score ``alone``, what is lost when it is
        ``left_out``, and its ``shapley`` value.

    References
    ----------
    .. [1] Rozemberczki and Sarkar, "The Shapley Value of Classifiers", CIKM 2021.

    Examples
    --------
    >>> from sklearn_clipensemble.datasets import load_cats_and_dogs
    >>> from sklearn_clipensemble.ensembles import ProbabilityAverage
    >>> from sklearn_clipensemble.inspection import backbone_contributions
    >>> backbone_contributions(ProbabilityAverage(), *load_cats_and_dogs(), cv=2).columns.tolist()
    ['alone', 'left_out', 'shapley']
    """
    if isinstance(estimator, Answers):
        answers = asked(estimator, X, y)
        estimator, X, y = answers.combiner, answers.combiner_X, need(answers, "y")
    estimator, X = unwrap(estimator, X)
    names = feature_names(X)
    layout = None if names is None else Layout.from_names(names)
    if layout is None:
        raise ValueError(
            "X has no columns of backbones, so that none can be left out. Pass a DataFrame such as "
            "ZeroShotLogits returns."
        )
    table = pd.DataFrame(np.asarray(X), columns=names)
    positions = np.arange(len(names))[None]
    columns = []
    for b in layout.backbones:
        parts = [layout.embedding(positions, b)[0]]
        parts += [layout.logits(positions, b)[0]] if b in (layout.with_logits or ()) else []
        columns.append(np.sort(np.hstack(parts)))

    def score(subset):
        if not subset:
            model, rows = DummyClassifier(strategy="prior"), table.iloc[:, :1]
        else:
            model, rows = clone(estimator), table.iloc[:, np.hstack([columns[b] for b in subset])]
        return cross_val_score(model, rows, y, cv=cv, scoring=scoring).mean()

    n, scores = len(columns), {}
    total = 2**n if max_subsets is None else min(2**n, max_subsets)
    with tqdm(total=total, desc="subsets of backbones", disable=not verbose) as progress:
        try:
            for subset in _subsets(n, check_random_state(random_state), total == 2**n):
                if subset not in scores:
                    scores[subset] = score(subset)
                    progress.update()
                if len(scores) >= total:
                    break
        except KeyboardInterrupt:
            warnings.warn(
                f"Interrupted after {len(scores)} of {total} subsets: the values are estimates.",
                stacklevel=2,
            )
    return pd.DataFrame(_values(n, scores), index=layout.backbones)


def _subsets(n: int, rng: np.random.RandomState, everything: bool) -> Iterator[tuple[int, ...]]:
    """Yield subsets, those first that say most: none, all, single ones, all but one."""
    whole = tuple(range(n))
    yield from ((), whole)
    for size in (1, n - 1):
        yield from combinations(whole, size)
    if everything:
        rest = [s for size in range(2, n - 1) for s in combinations(whole, size)]
        yield from (rest[i] for i in rng.permutation(len(rest)))
    else:
        # Growing subsets, since a gain is seen on two that differ by one member.
        while True:
            order = rng.permutation(n).tolist()
            yield from (tuple(sorted(order[:size])) for size in range(n))


def _values(n: int, scores: dict[tuple[int, ...], float]) -> list[dict[str, float]]:
    """Read the contributions off the subsets that were scored; NaN where they do not tell."""
    found = []
    for b in range(n):
        gains: list[list[float]] = [[] for _ in range(n)]
        for subset, value in scores.items():
            without = tuple(other for other in subset if other != b)
            if b in subset and without in scores:
                gains[len(without)].append(value - scores[without])
        by_size = [np.mean(gain) for gain in gains if gain]
        values = {"alone": scores.get((b,), np.nan)}
        values["left_out"] = gains[-1][0] if gains[-1] else np.nan
        values["shapley"] = np.mean(by_size) if by_size else np.nan
        found.append(values)
    return found
