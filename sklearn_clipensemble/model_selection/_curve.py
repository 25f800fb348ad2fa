"""Scores against the number of labelled examples."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from numbers import Integral

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, clone
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import cross_validate
from sklearn.pipeline import Pipeline
from sklearn.utils import check_random_state, get_tags

from sklearn_clipensemble.model_selection._split import FewShotSplit


def shot_curve(
    estimator: BaseEstimator,
    X: ArrayLike | Sequence,
    y: ArrayLike,
    shots: Sequence[int] = (1, 2, 4, 8, 16),
    *,
    n_repeats: int = 5,
    baselines: Mapping[str, BaseEstimator] | Sequence[BaseEstimator] | None = None,
    scoring: str | Callable | Sequence[str] | Mapping[str, str | Callable] | None = None,
    groups: ArrayLike | None = None,
    rare: str = "raise",
    random_state: int | np.random.RandomState | None = None,
    n_jobs: int | None = None,
) -> pd.DataFrame:
    """Score a classifier against the number of labelled examples per class.

    The scores for k shots are those of :func:`sklearn.model_selection.cross_validate`
    with ``FewShotSplit(k, n_repeats, max_shots=max(shots), random_state=random_state)``:
    the draws are nested in k, and all shot counts and methods are tested on the
    same examples.

    Leading steps of a pipeline that learn nothing from the data transform ``X``
    once for all fits, without labels: frozen ones, and those that scikit-learn's
    tags call stateless, such as :class:`CLIPEmbedder`.

    Parameters
    ----------
    estimator : classifier
        What to score. It is cloned, never fitted.
    X : array-like or sequence of length n_samples
        Images or a table, whatever the estimator takes.
    y : array-like of shape (n_samples,)
        The class labels.
    shots : sequence of int, default=(1, 2, 4, 8, 16)
        Numbers of labelled examples per class.
    n_repeats : int, default=5
        Number of draws.
    baselines : dict of str to classifier, sequence of classifiers or None, default=None
        What to score beside it, on the same draws; a sequence is named by its
        classes. Where the estimator is a pipeline, each takes the place of its
        last step, and so sees what the last step sees.
    scoring : str, callable, sequence, dict or None, default=None
        As in :func:`sklearn.model_selection.cross_validate`; None is the
        estimator's ``score``, which is accuracy.
    groups : array-like of shape (n_samples,) or None, default=None
        Examples that belong together; see :meth:`FewShotSplit.split`.
    rare : {"raise", "take"}, default="raise"
        What to do with rare classes; see :class:`FewShotSplit`.
    random_state : int, RandomState instance or None, default=None
        Decides the draws.
    n_jobs : int or None, default=None
        Draws to run in parallel.

    Returns
    -------
    DataFrame
        One row per method, shot count and draw, with the columns ``method``,
        ``shots``, ``repeat``, ``score`` (or, with several metrics, one column
        for each), ``fit_time`` and ``score_time`` in seconds.

    Raises
    ------
    TypeError
        If ``shots`` is no sequence of whole numbers.
    ValueError
        If ``shots`` is empty, if two methods have the same name, if one draws
        fewer shots by itself (``n_shots``), or if a class is too small for
        ``max(shots)``.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_clipensemble import AdaptiveBackboneEnsemble, shot_curve
    >>> from sklearn_clipensemble.ensembles import ProbabilityAverage
    >>> rng = np.random.default_rng(0)
    >>> y = np.arange(60) % 3
    >>> logits = rng.normal(size=(60, 2, 3)) + 2 * np.eye(3)[y][:, None]  # images, backbones, classes
    >>> curve = shot_curve(
    ...     AdaptiveBackboneEnsemble(), logits, y, shots=(1, 4),
    ...     baselines={"average": ProbabilityAverage()}, random_state=0,
    ... )
    >>> curve.groupby(["method", "shots"])["score"].size()
    method                    shots
    AdaptiveBackboneEnsemble  1        5
                              4        5
    average                   1        5
                              4        5
    Name: score, dtype: int64
    """
    shots = check_shots(shots)
    if not shots:
        raise ValueError("shots is empty; name at least one number of examples per class.")
    if not isinstance(random_state, Integral):
        random_state = int(check_random_state(random_state).randint(np.iinfo(np.int32).max))
    splits = {
        k: list(
            FewShotSplit(
                k, n_repeats, max_shots=shots[-1], rare=rare, random_state=random_state
            ).split(X, y, groups)
        )
        for k in shots
    }
    estimator, X = _transform_once(estimator, X)
    tables = []
    methods = _methods(estimator, baselines)
    for name, method in methods.items():
        for parameter, value in method.get_params().items():
            if parameter.rpartition("__")[2] == "n_shots" and value is not None:
                raise ValueError(
                    f"{name} draws shots by itself: {parameter}={value!r}. Set it to None; shot_curve "
                    "gives each method as many as it says."
                )
    for name, method in methods.items():
        for k in shots:
            result = cross_validate(
                method, X, y, cv=splits[k], scoring=scoring, n_jobs=n_jobs, error_score="raise"
            )
            times = {time: result.pop(time) for time in ("fit_time", "score_time")}
            scores = {key.removeprefix("test_"): values for key, values in result.items()}
            table = pd.DataFrame({"repeat": np.arange(n_repeats), **scores, **times})
            table.insert(0, "shots", k)
            table.insert(0, "method", name)
            tables.append(table)
    return pd.concat(tables, ignore_index=True)


def check_shots(shots: Sequence[int]) -> list[int]:
    """Return numbers of examples per class, sorted, or say what should be in their place."""
    numbers = list(shots) if np.iterable(shots) else [None]
    if not all(isinstance(n, Integral) for n in numbers):
        raise TypeError(
            f"shots is {shots!r}; expected numbers of examples per class, such as [1, 4]."
        )
    return sorted({int(n) for n in numbers})


def _transform_once(estimator, X):
    """Take off a pipeline's leading steps that learn nothing, and apply them."""
    if not isinstance(estimator, Pipeline):
        return estimator, X
    steps = list(estimator.steps)
    while len(steps) > 1 and _learns_nothing(steps[0][1]):
        _, step = steps.pop(0)
        if step not in (None, "passthrough"):
            X = clone(step).fit(X, None).transform(X)  # without labels, so that none can leak
    return clone(estimator).set_params(steps=steps), X


def _learns_nothing(step) -> bool:
    if step in (None, "passthrough") or isinstance(step, FrozenEstimator):
        return True
    tags = get_tags(step)
    # scikit-learn keeps "no_validation" for stateless transformers.
    return hasattr(step, "transform") and (tags.no_validation or not tags.requires_fit)


def _methods(estimator, baselines) -> dict[str, BaseEstimator]:
    """Name the methods to compare; a baseline takes the place of a pipeline's last step."""
    last = estimator.steps[-1][1] if isinstance(estimator, Pipeline) else estimator
    named = [(type(last).__name__, last)]
    if isinstance(baselines, Mapping):
        named += baselines.items()
    elif baselines is not None:
        named += [(type(baseline).__name__, baseline) for baseline in baselines]
    names = [name for name, _ in named]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ValueError(
            f"Two methods are called {twice!r}. Name the baselines: baselines={{'name': ...}}."
        )
    if not isinstance(estimator, Pipeline):
        return dict(named)
    front = estimator.steps[:-1]
    return {
        name: clone(estimator).set_params(steps=[*front, ("method", method)])
        for name, method in named
    }
