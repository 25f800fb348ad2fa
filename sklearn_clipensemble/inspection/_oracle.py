"""Which images each backbone alone gets right, and what choosing among them could gain."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from sklearn_clipensemble.inspection._answers import Asked, as_answers, class_keys, need


def oracle_score(X: Asked, y: ArrayLike | None = None, *, estimator: Any = None) -> float:
    """Return the share of images that at least one backbone gets right.

    No way of choosing one backbone per image can be more accurate. It is not a
    ceiling for everything: a head trained on labels can be right where all
    backbones are wrong. It rises with every backbone that is added, even with one
    that guesses: compare it with :func:`oracle_null`.

    Parameters
    ----------
    X : Answers, DataFrame, mapping or array-like
        :class:`Answers`, alone; or what :meth:`Answers.from_predictions` reads; or,
        with ``estimator``, whatever it predicts from.
    y : array-like of shape (n_samples,) or None, default=None
        The true labels; not needed with a boolean ``X``.
    estimator : fitted classifier or None, default=None
        A combiner of this package, or a pipeline or search that ends in one.

    Returns
    -------
    float
        ``mean_i max_b [backbone b is right on image i]``.

    Examples
    --------
    >>> from sklearn_clipensemble.inspection import oracle_score
    >>> answers = {"RN50": ["cat", "dog", "dog", "cat"], "ViT-B-32": ["dog", "cat", "dog", "cat"]}
    >>> oracle_score(answers, ["cat", "cat", "dog", "dog"])
    0.75
    """
    return float(as_answers(X, y, estimator=estimator).hits.any(axis=1).mean())


def oracle_null(
    X: Asked, y: ArrayLike | None = None, *, estimator: Any = None, by_class: bool = False
) -> float:
    """Return the oracle that members of the same accuracies would reach by erring independently.

    ``1 - prod_b (1 - accuracy_b)``, the mean of :func:`oracle_score` when every
    backbone's rights and wrongs are shuffled over the images. An oracle below it
    says that the backbones fail on the same images.

    Parameters
    ----------
    X, y, estimator : object
        As in :func:`oracle_score`.
    by_class : bool, default=False
        Shuffle inside every class only, since some are hard for all backbones.

    Returns
    -------
    float
        The oracle of independent members.

    Examples
    --------
    >>> from sklearn_clipensemble.inspection import oracle_null
    >>> oracle_null([[True, True], [True, True], [False, False], [False, False]])
    0.75
    """
    answers = as_answers(X, y, estimator=estimator)
    groups = class_keys(need(answers, "y")) if by_class else np.zeros(len(answers))
    _, inverse, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    wrong = [np.bincount(inverse, ~hits) / sizes for hits in answers.hits.T]
    return float(1 - sizes @ np.prod(wrong, axis=0) / sizes.sum())


def oracle_gap_closed(
    y_pred: ArrayLike,
    X: Asked,
    y: ArrayLike | None = None,
    *,
    estimator: Any = None,
    best_single: float | None = None,
) -> float:
    """Return how much of the way from the best single backbone to the oracle a combiner went.

    ``(accuracy - best_single) / (oracle - best_single)``: negative where combining
    did harm, above 1 where it is right although every backbone is wrong.

    Parameters
    ----------
    y_pred : array-like of shape (n_samples,)
        The labels that the combiner predicts.
    X, y, estimator : object
        As in :func:`oracle_score`.
    best_single : float or None, default=None
        Accuracy to start from; None takes the best on this data, as the paper
        does, which favours the single backbone.

    Returns
    -------
    float
        The closed share of the gap; NaN where there is no gap.

    Examples
    --------
    >>> from sklearn_clipensemble.inspection import oracle_gap_closed
    >>> y = ["cat", "cat", "dog", "dog"]
    >>> answers = {"RN50": ["cat", "cat", "cat", "cat"], "ViT-B-32": ["dog", "dog", "dog", "dog"]}
    >>> oracle_gap_closed(["cat", "cat", "dog", "cat"], answers, y)
    0.5
    """
    answers = as_answers(X, y, estimator=estimator)
    accuracy = as_answers({"ensemble": y_pred}, need(answers, "y")).hits.mean()
    if best_single is None:
        best_single = answers.hits.mean(axis=0).max()
    gap = answers.hits.any(axis=1).mean() - best_single
    return float((accuracy - best_single) / gap) if gap else float("nan")


def overlap(X: Asked, y: ArrayLike | None = None, *, estimator: Any = None) -> pd.Series:
    """Count the images by which backbones get them right, as the regions of a Venn diagram.

    Parameters
    ----------
    X, y, estimator : object
        As in :func:`oracle_score`.

    Returns
    -------
    Series of int
        Number of images, largest first. The index has one boolean level per
        backbone. Regions without an image are left out.

    Examples
    --------
    >>> from sklearn_clipensemble.inspection import overlap
    >>> answers = {"RN50": ["cat", "cat", "dog", "cat"], "ViT-B-32": ["cat", "cat", "cat", "cat"]}
    >>> overlap(answers, ["cat", "cat", "dog", "dog"])
    RN50   ViT-B-32
    True   True        2
           False       1
    False  False       1
    Name: n_images, dtype: int64
    """
    answers = as_answers(X, y, estimator=estimator)
    regions, sizes = np.unique(answers.hits, axis=0, return_counts=True)
    # Largest first; among equals, the regions with more backbones right.
    order = np.lexsort([*(~regions).T[::-1], -sizes])
    index = pd.MultiIndex.from_arrays(list(regions[order].T), names=answers.backbones)
    return pd.Series(sizes[order], index=index, name="n_images")


def unique_correct(X: Asked, y: ArrayLike | None = None, *, estimator: Any = None) -> pd.Series:
    """Count the images that one backbone alone gets right.

    Parameters
    ----------
    X, y, estimator : object
        As in :func:`oracle_score`.

    Returns
    -------
    Series of int
        Number of images by backbone.

    Examples
    --------
    >>> from sklearn_clipensemble.inspection import unique_correct
    >>> unique_correct([[True, False], [True, True], [True, False], [False, True]])
    backbone0    2
    backbone1    1
    Name: n_images, dtype: int64
    """
    answers = as_answers(X, y, estimator=estimator)
    alone = answers.hits & (answers.hits.sum(axis=1, keepdims=True) == 1)
    return pd.Series(alone.sum(axis=0), index=answers.backbones, name="n_images")
