"""Whether probabilities can be believed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from sklearn.utils import check_array, check_consistent_length

from sklearn_clipensemble.inspection._answers import Asked, as_answers, class_keys, need
from sklearn_clipensemble.table._labels import check_labels


def _check_proba(y_true, y_proba, classes) -> tuple[np.ndarray, np.ndarray]:
    """Return the column of every true label, and the probabilities."""
    check_consistent_length(y_true, y_proba)
    y = check_labels(y_true)
    try:
        y_proba = check_array(y_proba, dtype=np.float64)
    except ValueError as error:
        raise ValueError(
            "y_proba must hold probabilities of shape (n_samples, n_classes), as predict_proba returns "
            f"them. {error}"
        ) from error
    classes = np.unique(y) if classes is None else np.asarray(classes)
    if len(classes) != y_proba.shape[1]:
        raise ValueError(
            f"y_proba has {y_proba.shape[1]} columns for {len(classes)} classes. Pass classes, the label "
            "of every column, such as the classes_ of the classifier."
        )
    column = {key: i for i, key in enumerate(class_keys(classes))}
    unknown = [label for label in class_keys(y) if label not in column]
    if unknown:
        raise ValueError(f"The label {str(unknown[0])!r} in y_true is not among the classes.")
    return np.array([column[key] for key in class_keys(y)]), y_proba


def calibration_bins(
    y_true: ArrayLike,
    y_proba: ArrayLike,
    *,
    classes: ArrayLike | None = None,
    n_bins: int = 15,
    strategy: str = "uniform",
) -> pd.DataFrame:
    """Return how often the answer is right, by how probable it is said to be.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,)
        The true labels.
    y_proba : array-like of shape (n_samples, n_classes)
        Probabilities of the classes.
    classes : array-like of shape (n_classes,) or None, default=None
        The label of every column; None takes the sorted labels of ``y_true``.
    n_bins : int, default=15
        Number of bins. Empty bins are left out.
    strategy : {"uniform", "quantile"}, default="uniform"
        Whether bins are of equal width between 0 and 1, or hold equally many
        images; those of the same probability stay together.

    Returns
    -------
    DataFrame
        One row per bin: ``confidence`` (mean probability of the answer),
        ``accuracy`` (share of right answers) and ``n_images``.

    Examples
    --------
    >>> from sklearn_clipensemble.inspection import calibration_bins
    >>> calibration_bins(["cat", "dog"], [[0.9, 0.1], [0.8, 0.2]], n_bins=2)
       confidence  accuracy  n_images
    0        0.85       0.5         2
    """
    codes, proba = _check_proba(y_true, y_proba, classes)
    confidence, right = proba.max(axis=1), proba.argmax(axis=1) == codes
    if strategy == "quantile":
        ranks = np.searchsorted(np.sort(confidence), confidence)
        bins = ranks * n_bins // len(ranks)
    elif strategy == "uniform":
        # A bin holds its upper edge, so that a probability of exactly 1 has a bin.
        bins = np.clip(np.ceil(confidence * n_bins).astype(int) - 1, 0, n_bins - 1)
    else:
        raise ValueError(f"strategy={strategy!r}; expected 'uniform' or 'quantile'.")
    table = pd.DataFrame({"confidence": confidence, "accuracy": right.astype(float)})
    means = table.groupby(bins).mean().reset_index(drop=True)
    means["n_images"] = np.unique(bins, return_counts=True)[1]
    return means


def expected_calibration_error(
    y_true: ArrayLike, y_proba: ArrayLike, *, classes: ArrayLike | None = None, n_bins: int = 15
) -> float:
    """Return the expected calibration error of the most probable class.

    ``sum_b n_b / n |accuracy_b - confidence_b|`` over bins of equal width of
    the answer's probability [1]_. It depends on the number of bins and is
    biased upwards on few images: compare only where both are the same.

    Parameters
    ----------
    y_true, y_proba, classes : array-like
        As in :func:`calibration_bins`.
    n_bins : int, default=15
        Number of bins.

    Returns
    -------
    float
        The error, between 0 (calibrated) and 1.

    References
    ----------
    .. [1] Guo et al., "On Calibration of Modern Neural Networks", ICML 2017.

    Examples
    --------
    >>> from sklearn_clipensemble.inspection import expected_calibration_error
    >>> round(expected_calibration_error(["cat", "dog"], [[0.9, 0.1], [0.8, 0.2]], n_bins=2), 3)
    0.35
    """
    bins = calibration_bins(y_true, y_proba, classes=classes, n_bins=n_bins)
    return float(np.average((bins.accuracy - bins.confidence).abs(), weights=bins.n_images))


def brier_score(
    y_true: ArrayLike, y_proba: ArrayLike, *, classes: ArrayLike | None = None
) -> float:
    """Return Brier's score over all classes.

    ``mean_i sum_c (p_ic - [y_i = c])^2``, from 0 (certain and right) to 2
    (certain and wrong), as Brier gave it [1]_; scikit-learn's score of two
    classes is half of it.

    Parameters
    ----------
    y_true, y_proba, classes : array-like
        As in :func:`calibration_bins`.

    Returns
    -------
    float
        The score; lower is better.

    References
    ----------
    .. [1] Brier, "Verification of forecasts", Monthly Weather Review 78, 1950.

    Examples
    --------
    >>> from sklearn_clipensemble.inspection import brier_score
    >>> round(brier_score(["cat", "dog"], [[0.9, 0.1], [0.8, 0.2]]), 3)
    0.65
    """
    codes, proba = _check_proba(y_true, y_proba, classes)
    of_truth = proba[np.arange(len(proba)), codes]
    return float(np.mean(np.square(proba).sum(axis=1) - 2 * of_truth + 1))


def negative_log_likelihood(
    y_true: ArrayLike, y_proba: ArrayLike, *, classes: ArrayLike | None = None
) -> float:
    """Return the mean negative log-probability of the true class.

    ``-mean_i log p_i(y_i)``. Unlike :func:`sklearn.metrics.log_loss` it needs no
    example of every class and takes the columns in any order. Probabilities
    below the smallest positive number count as that number.

    Parameters
    ----------
    y_true, y_proba, classes : array-like
        As in :func:`calibration_bins`.

    Returns
    -------
    float
        The score in nats; lower is better.

    Examples
    --------
    >>> from sklearn_clipensemble.inspection import negative_log_likelihood
    >>> round(negative_log_likelihood(["cat", "dog"], [[0.9, 0.1], [0.8, 0.2]]), 3)
    0.857
    """
    codes, proba = _check_proba(y_true, y_proba, classes)
    of_truth = proba[np.arange(len(proba)), codes]
    return float(-np.log(np.maximum(of_truth, np.finfo(float).tiny)).mean())


def calibration_table(
    X: Asked, y: ArrayLike | None = None, *, estimator: Any = None, n_bins: int = 15
) -> pd.DataFrame:
    """Return accuracy and calibration of every backbone, and of the combiner where one is given.

    Parameters
    ----------
    X, y, estimator : object
        As in :func:`oracle_score`.
    n_bins : int, default=15
        Number of bins of the calibration error.

    Returns
    -------
    DataFrame
        One row per backbone and one for the estimator, with ``accuracy``,
        ``ece``, ``brier`` and ``nll``.

    Examples
    --------
    >>> from sklearn_clipensemble.inspection import calibration_table
    >>> calibration_table([[[5, 0], [1, 0]], [[0, 5], [1, 0]]], ["cat", "dog"]).round(2)
               accuracy   ece  brier   nll
    backbone0       1.0  0.01   0.00  0.01
    backbone1       0.5  0.23   0.61  0.81
    """
    answers = as_answers(X, y, estimator=estimator)
    y, classes = need(answers, "y"), answers.classes
    return pd.DataFrame.from_dict(
        {
            name: {
                "accuracy": answers.correct[name].mean(),
                "ece": expected_calibration_error(y, proba, classes=classes, n_bins=n_bins),
                "brier": brier_score(y, proba, classes=classes),
                "nll": negative_log_likelihood(y, proba, classes=classes),
            }
            for name, proba in need(answers, "probabilities").items()
        },
        orient="index",
    )
