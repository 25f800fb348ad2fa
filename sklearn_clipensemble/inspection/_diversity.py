"""How differently backbones answer and err, pair by pair, and whether that is what a combiner gains from."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from sklearn_clipensemble.inspection._answers import _keys, read_answers


def _both(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the share of images on which two conditions hold, for every pair of backbones."""
    return first.T.astype(np.float64) @ second / len(first)


def disagreement(X: ArrayLike, y: ArrayLike | None = None, *, estimator=None) -> pd.DataFrame:
    """Return the share of images on which two backbones differ.

    Without labels, they differ where they give different answers. With labels,
    they differ where one is right and the other wrong, the disagreement measure
    of [1]_; two different wrong answers do not count then.

    Parameters
    ----------
    X : DataFrame, mapping or array-like
        A table with zero-shot logits; or predicted labels by backbone
        (mapping, DataFrame, or array of shape (n_samples, n_backbones)); or a
        boolean array of shape (n_samples, n_backbones) that says which answers
        are right. With ``estimator``, whatever it predicts from.
    y : array-like of shape (n_samples,) or None, default=None
        The true labels.
    estimator : fitted classifier or None, default=None
        A combiner of this package, or a pipeline or search that ends in one,
        to say how ``X`` is to be read.

    Returns
    -------
    DataFrame of shape (n_backbones, n_backbones)
        Shares, symmetric, with zeros on the diagonal.

    References
    ----------
    .. [1] L. Kuncheva and C. Whitaker, "Measures of Diversity in Classifier
       Ensembles and Their Relationship with the Ensemble Accuracy", Machine
       Learning 51, 2003.

    Examples
    --------
    >>> from sklearn_clipensemble.inspection import disagreement
    >>> answers = {"RN50": ["cat", "dog", "fox", "fox"], "ViT-B-32": ["cat", "fox", "dog", "fox"]}
    >>> float(disagreement(answers).loc["RN50", "ViT-B-32"])
    0.5
    >>> float(disagreement(answers, ["cat", "dog", "cat", "fox"]).loc["RN50", "ViT-B-32"])
    0.25
    """
    answers = read_answers(X, y, estimator=estimator)
    if y is not None or answers.predicted is None:
        right = answers.correct
        return answers.frame(_both(right, ~right) + _both(~right, right))
    given = _keys(answers.predicted)
    return answers.frame(np.array([(given != g[:, None]).mean(axis=0) for g in given.T]))


def double_fault(X: ArrayLike, y: ArrayLike | None = None, *, estimator=None) -> pd.DataFrame:
    """Return the share of images that both backbones of a pair get wrong.

    The double-fault measure of Giacinto and Roli [1]_: such images are lost to
    every rule that chooses between the two.

    Parameters
    ----------
    X : DataFrame, mapping or array-like
        As in :func:`disagreement`.
    y : array-like of shape (n_samples,) or None, default=None
        The true labels; not needed with a boolean ``X``.
    estimator : fitted classifier or None, default=None
        As in :func:`disagreement`.

    Returns
    -------
    DataFrame of shape (n_backbones, n_backbones)
        Shares, symmetric; the diagonal holds the error rates.

    References
    ----------
    .. [1] G. Giacinto and F. Roli, "Design of effective neural network
       ensembles for image classification purposes", Image and Vision Computing
       19, 2001.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_clipensemble.inspection import double_fault
    >>> correct = np.array([[True, True], [True, False], [False, True], [False, False]])
    >>> double_fault(correct).to_numpy()
    array([[0.5 , 0.25],
           [0.25, 0.5 ]])
    """
    answers = read_answers(X, y, estimator=estimator)
    return answers.frame(_both(~answers.correct, ~answers.correct))


def q_statistic(X: ArrayLike, y: ArrayLike | None = None, *, estimator=None) -> pd.DataFrame:
    """Return Yule's Q statistic of every pair of backbones.

    ``(n11 n00 - n10 n01) / (n11 n00 + n10 n01)`` with the counts of images on
    which both are right, both wrong, and one of either [1]_: 0 for members that
    err independently, 1 for the same errors, negative for members that err on
    different images.

    Parameters
    ----------
    X : DataFrame, mapping or array-like
        As in :func:`disagreement`.
    y : array-like of shape (n_samples,) or None, default=None
        The true labels; not needed with a boolean ``X``.
    estimator : fitted classifier or None, default=None
        As in :func:`disagreement`.

    Returns
    -------
    DataFrame of shape (n_backbones, n_backbones)
        Values between -1 and 1, symmetric; NaN where both products vanish.

    References
    ----------
    .. [1] L. Kuncheva and C. Whitaker, "Measures of Diversity in Classifier
       Ensembles and Their Relationship with the Ensemble Accuracy", Machine
       Learning 51, 2003.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_clipensemble.inspection import q_statistic
    >>> correct = np.array([[True, True], [True, True], [True, False], [False, True], [False, False]])
    >>> float(q_statistic(correct).loc["backbone0", "backbone1"])
    0.333...
    """
    answers = read_answers(X, y, estimator=estimator)
    right = answers.correct
    same = _both(right, right) * _both(~right, ~right)
    other = _both(right, ~right) * _both(~right, right)
    with np.errstate(invalid="ignore"):
        return answers.frame((same - other) / (same + other))


def error_consistency(X: ArrayLike, y: ArrayLike | None = None, *, estimator=None) -> pd.DataFrame:
    """Return the error consistency of every pair of backbones.

    Cohen's kappa of right and wrong [1]_: with the observed share ``c`` of
    images on which both are right or both wrong, and the share ``e = p q +
    (1 - p)(1 - q)`` that two independent members of the accuracies ``p`` and
    ``q`` would have, ``(c - e) / (1 - e)``. 0 for independent errors, 1 for the
    same errors, negative for errors on different images.

    Parameters
    ----------
    X : DataFrame, mapping or array-like
        As in :func:`disagreement`.
    y : array-like of shape (n_samples,) or None, default=None
        The true labels; not needed with a boolean ``X``.
    estimator : fitted classifier or None, default=None
        As in :func:`disagreement`.

    Returns
    -------
    DataFrame of shape (n_backbones, n_backbones)
        Values up to 1, symmetric; NaN where both backbones are always right or
        always wrong, and chance explains everything.

    References
    ----------
    .. [1] R. Geirhos, K. Meding and F. Wichmann, "Beyond accuracy: quantifying
       trial-by-trial behaviour of CNNs and humans by measuring error
       consistency", NeurIPS 2020.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_clipensemble.inspection import error_consistency
    >>> correct = np.array([[True, True], [True, True], [True, False], [False, False]])
    >>> float(error_consistency(correct).loc["backbone0", "backbone1"])
    0.5
    """
    answers = read_answers(X, y, estimator=estimator)
    right = answers.correct
    observed = _both(right, right) + _both(~right, ~right)
    accuracy = right.mean(axis=0)
    expected = np.outer(accuracy, accuracy) + np.outer(1 - accuracy, 1 - accuracy)
    with np.errstate(invalid="ignore"):
        return answers.frame((observed - expected) / (1 - expected))


def gain_by_diversity(sets: Mapping[str, tuple]) -> pd.DataFrame:
    """Set what a combiner gains beside how diverse the backbones are, over many data sets.

    Parameters
    ----------
    sets : mapping of str to tuple
        Name of a data set -> ``(y_pred, X, y)``: the labels that the combiner
        predicts, the backbones' answers as in :func:`disagreement`, and the
        true labels.

    Returns
    -------
    DataFrame
        One row per set: the accuracies ``best_single``, ``combined`` and
        ``oracle``, the ``gain`` of the combiner over the best single backbone,
        and the means over all pairs of ``disagreement``, ``double_fault``,
        ``q_statistic`` and ``error_consistency``. Its ``corr("spearman")`` says
        which of them goes with the gain.

    Raises
    ------
    ValueError
        If a set has one backbone only: there is no pair.

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
    for name, (y_pred, X, y) in sets.items():
        right = read_answers(X, y).correct
        if right.shape[1] < 2:
            raise ValueError(f"The set {name!r} has one backbone; diversity takes at least two.")
        best, combined = right.mean(axis=0).max(), read_answers({"": y_pred}, y).correct.mean()
        pairs = np.triu_indices(right.shape[1], k=1)
        rows[name] = {
            "best_single": best,
            "combined": combined,
            "oracle": right.any(axis=1).mean(),
            "gain": combined - best,
        } | {
            measure.__name__: measure(right).to_numpy()[pairs].mean()
            for measure in (disagreement, double_fault, q_statistic, error_consistency)
        }
    return pd.DataFrame.from_dict(rows, orient="index")
