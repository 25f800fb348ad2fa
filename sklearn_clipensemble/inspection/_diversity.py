"""How differently backbones answer and err, pair by pair, and whether that is what a combiner gains from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from sklearn_clipensemble.inspection._answers import Answers, Asked, as_answers, class_keys


def _both(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the share of images on which two conditions hold, for every pair of backbones."""
    return first.T.astype(np.float64) @ second / len(first)


def _pairs(answers: Answers, values: np.ndarray) -> pd.DataFrame:
    """Name the rows and columns of a backbones-by-backbones matrix."""
    return pd.DataFrame(values, answers.backbones, answers.backbones)


def disagreement(X: Asked, y: ArrayLike | None = None, *, estimator: Any = None) -> pd.DataFrame:
    """Return the share of images on which two backbones differ.

    Without labels, they differ where they give different answers. With labels,
    they differ where one is right and the other wrong, the disagreement measure
    of [1]_; two different wrong answers do not count then.

    Parameters
    ----------
    X, y, estimator : object
        As in :func:`oracle_score`.

    Returns
    -------
    DataFrame of shape (n_backbones, n_backbones)
        Shares, symmetric, with zeros on the diagonal.

    References
    ----------
    .. [1] Kuncheva and Whitaker, "Measures of Diversity", Machine Learning 51, 2003.

    Examples
    --------
    >>> from sklearn_clipensemble.inspection import disagreement
    >>> answers = {"RN50": ["cat", "dog", "fox", "fox"], "ViT-B-32": ["cat", "fox", "dog", "fox"]}
    >>> float(disagreement(answers, ["cat", "dog", "cat", "fox"]).loc["RN50", "ViT-B-32"])
    0.25
    """
    answers = as_answers(X, y, estimator=estimator)
    if answers.y is not None or answers.predicted is None:
        right = answers.hits
        return _pairs(answers, _both(right, ~right) + _both(~right, right))
    given = class_keys(answers.predicted)
    return _pairs(answers, np.array([(given != g[:, None]).mean(axis=0) for g in given.T]))


def double_fault(X: Asked, y: ArrayLike | None = None, *, estimator: Any = None) -> pd.DataFrame:
    """Return the share of images that both backbones of a pair get wrong.

    Such images are lost to every rule that chooses between the two [1]_.

    Parameters
    ----------
    X, y, estimator : object
        As in :func:`oracle_score`.

    Returns
    -------
    DataFrame of shape (n_backbones, n_backbones)
        Shares, symmetric; the diagonal holds the error rates.

    References
    ----------
    .. [1] Giacinto and Roli, "Design of effective neural network ensembles", IVC 19, 2001.

    Examples
    --------
    >>> from sklearn_clipensemble.inspection import double_fault
    >>> double_fault([[True, True], [True, False], [False, True], [False, False]]).to_numpy().tolist()
    [[0.5, 0.25], [0.25, 0.5]]
    """
    answers = as_answers(X, y, estimator=estimator)
    return _pairs(answers, _both(~answers.hits, ~answers.hits))


def q_statistic(X: Asked, y: ArrayLike | None = None, *, estimator: Any = None) -> pd.DataFrame:
    """Return Yule's Q statistic of every pair of backbones.

    ``(n11 n00 - n10 n01) / (n11 n00 + n10 n01)`` with the counts of images on
    which both are right, both wrong, and one of either: 0 for independent errors,
    1 for the same errors, negative for errors on different images. Its source is
    that of :func:`disagreement`.

    Parameters
    ----------
    X, y, estimator : object
        As in :func:`oracle_score`.

    Returns
    -------
    DataFrame of shape (n_backbones, n_backbones)
        Values between -1 and 1, symmetric; NaN where both products vanish.

    Examples
    --------
    >>> from sklearn_clipensemble.inspection import q_statistic
    >>> correct = [[True, True], [True, True], [True, False], [False, True], [False, False]]
    >>> float(q_statistic(correct).loc["backbone0", "backbone1"])
    0.333...
    """
    answers = as_answers(X, y, estimator=estimator)
    right = answers.hits
    same = _both(right, right) * _both(~right, ~right)
    other = _both(right, ~right) * _both(~right, right)
    with np.errstate(invalid="ignore"):
        return _pairs(answers, (same - other) / (same + other))


def error_consistency(
    X: Asked, y: ArrayLike | None = None, *, estimator: Any = None
) -> pd.DataFrame:
    """Return the error consistency of every pair of backbones.

    Cohen's kappa of right and wrong [1]_: with the observed share ``c`` of
    images on which both are right or both wrong, and the share ``e = p q +
    (1 - p)(1 - q)`` that two independent members of the accuracies ``p`` and
    ``q`` would have, ``(c - e) / (1 - e)``. 0 for independent errors, 1 for the
    same errors, negative for errors on different images.

    Parameters
    ----------
    X, y, estimator : object
        As in :func:`oracle_score`.

    Returns
    -------
    DataFrame of shape (n_backbones, n_backbones)
        Values up to 1, symmetric; NaN where chance explains everything.

    References
    ----------
    .. [1] Geirhos, Meding and Wichmann, "Beyond accuracy", NeurIPS 2020.

    Examples
    --------
    >>> from sklearn_clipensemble.inspection import error_consistency
    >>> correct = [[True, True], [True, True], [True, False], [False, False]]
    >>> float(error_consistency(correct).loc["backbone0", "backbone1"])
    0.5
    """
    answers = as_answers(X, y, estimator=estimator)
    right = answers.hits
    observed = _both(right, right) + _both(~right, ~right)
    accuracy = right.mean(axis=0)
    expected = np.outer(accuracy, accuracy) + np.outer(1 - accuracy, 1 - accuracy)
    with np.errstate(invalid="ignore"):
        return _pairs(answers, (observed - expected) / (1 - expected))


def gain_by_diversity(sets: Mapping[str, Answers | tuple]) -> pd.DataFrame:
    """Set what a combiner gains beside how diverse the backbones are, over many data sets.

    Parameters
    ----------
    sets : mapping of str to Answers or tuple
        Name of a data set -> :class:`Answers` with those of an ensemble; or
        ``(y_pred, X, y)``, of which such Answers are made.

    Returns
    -------
    DataFrame
        One row per set: the accuracies ``best_single``, ``combined`` and
        ``oracle``, the ``gain`` of the combiner over the best single backbone,
        and the means over all pairs of ``disagreement``, ``double_fault``,
        ``q_statistic`` and ``error_consistency``.

    Examples
    --------
    >>> from sklearn_clipensemble.inspection import gain_by_diversity
    >>> y = ["cat", "cat", "dog", "dog"]
    >>> answers = {"RN50": ["cat", "cat", "cat", "dog"], "ViT-B-32": ["dog", "cat", "dog", "dog"]}
    >>> gain_by_diversity({"pets": (y, answers, y)})[["best_single", "gain", "disagreement"]]
          best_single  gain  disagreement
    pets         0.75  0.25           0.5
    """
    rows = {}
    for name, given in sets.items():
        if not isinstance(given, Answers):
            y_pred, X, y = given
            given = Answers.from_predictions(X, y, y_pred=y_pred)
        right = given.hits
        if right.shape[1] < 2:
            raise ValueError(f"The set {name!r} has one backbone; diversity takes at least two.")
        best, combined = right.mean(axis=0).max(), given.correct.iloc[:, -1].mean()
        pairs = np.triu_indices(right.shape[1], k=1)
        rows[name] = {"best_single": best, "combined": combined}
        rows[name] |= {"oracle": right.any(axis=1).mean(), "gain": combined - best}
        for measure in (disagreement, double_fault, q_statistic, error_consistency):
            rows[name][measure.__name__] = measure(right).to_numpy()[pairs].mean()
    return pd.DataFrame.from_dict(rows, orient="index")
