"""What every backbone answered: the one place that reads what the inspection functions are given."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.special import softmax
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline

from sklearn_clipensemble._compat import feature_names
from sklearn_clipensemble.table import TableClassifier, read_table
from sklearn_clipensemble.table._labels import check_labels, is_text, list_some, unseen_labels
from sklearn_clipensemble.table._layout import Layout, class_key, show
from sklearn_clipensemble.table._read import Table


@dataclass(frozen=True)
class Answers:
    """The answer of every backbone to every image, and the true labels where they are known.

    ``predicted`` is None where only right and wrong are known; ``table`` and
    ``classes`` are None where no logits were given; ``combiner``, and ``X`` as
    it is given to it, are None without an estimator.
    """

    backbones: list[str]
    y: np.ndarray | None = None
    predicted: np.ndarray | None = None
    given_correct: np.ndarray | None = None
    table: Table | None = None
    classes: np.ndarray | None = None
    combiner: TableClassifier | None = None
    X: ArrayLike | None = None

    def __len__(self):
        return len(self.given_correct if self.predicted is None else self.predicted)

    @cached_property
    def correct(self) -> np.ndarray:
        """Whether each answer is right, ``(n_samples, n_backbones)``."""
        if self.given_correct is not None:
            return self.given_correct
        return _keys(self.predicted) == _keys(self.labels)[:, None]

    @property
    def labels(self) -> np.ndarray:
        """The true labels; an error where there are none."""
        if self.y is None:
            raise ValueError("The true labels are needed here: pass y.")
        return self.y

    @property
    def combined(self) -> list[str]:
        """The name of the combiner beside the backbones; empty without one."""
        return [] if self.combiner is None else [type(self.combiner).__name__]

    @cached_property
    def everyone(self) -> pd.DataFrame:
        """Whether each answer is right, with a column for the combiner where there is one."""
        right = pd.DataFrame(self.correct, columns=self.backbones)
        for name in self.combined:
            right[name] = _keys(self.combiner.predict(self.X)) == _keys(self.labels)
        return right

    def proba(self, name: str) -> np.ndarray:
        """Return the combiner's or one backbone's zero-shot probabilities, ``(n_samples, n_classes)``."""
        if name in self.combined:
            return self.combiner.predict_proba(self.X)
        if self.table is None:
            raise ValueError(
                "Probabilities are needed here: pass a table with zero-shot logits, such as "
                "ZeroShotLogits returns, instead of predictions."
            )
        return softmax(self.table.logits(name).astype(np.float64), axis=1)

    def frame(self, values: np.ndarray) -> pd.DataFrame:
        """Name the rows and columns of a backbones-by-backbones matrix."""
        return pd.DataFrame(values, index=self.backbones, columns=self.backbones)


def _keys(labels: np.ndarray) -> np.ndarray:
    """Return labels as class keys, so that 3 and "3" are the same label."""
    unique, inverse = np.unique(labels, return_inverse=True)
    return np.array([class_key(label) for label in unique])[inverse].reshape(labels.shape)


def unwrap(estimator, X):
    """Return the classifier at the end of pipelines and searches, and the table that it is given."""
    while True:
        if hasattr(estimator, "best_estimator_"):
            estimator = estimator.best_estimator_
        elif isinstance(estimator, FrozenEstimator):
            estimator = estimator.estimator
        elif isinstance(estimator, Pipeline):
            if len(estimator) > 1:
                X = estimator[:-1].transform(X)
            estimator = estimator[-1]
        else:
            return estimator, X


def read_answers(X: ArrayLike | Mapping, y: ArrayLike | None = None, *, estimator=None) -> Answers:
    """Read what the backbones answered.

    Parameters
    ----------
    X : DataFrame, mapping or array-like
        One of

        - a table with zero-shot logits, or an array of logits of shape
          (n_samples, n_backbones, n_classes); with ``estimator``, whatever it
          predicts from (images, for a pipeline that starts with them);
        - a mapping or DataFrame, backbone -> predicted labels; or an array of
          predicted labels of shape (n_samples, n_backbones);
        - a boolean array or DataFrame of shape (n_samples, n_backbones): which
          answers are right.
    y : array-like of shape (n_samples,) or None, default=None
        The true labels.
    estimator : fitted classifier or None, default=None
        Says how to read ``X``.

    Returns
    -------
    Answers
        What was answered.
    """
    y = None if y is None else check_labels(y)
    if estimator is not None:
        estimator, X = unwrap(estimator, X)
    if isinstance(X, Mapping):
        X = pd.DataFrame({name: np.asarray(answers) for name, answers in X.items()})
    names = feature_names(X)
    layout = None if names is None else Layout.from_names(names)
    array = None if layout is not None else np.asarray(X)
    if estimator is not None or layout is not None or array.ndim == 3:
        answers = _from_table(X, y, estimator)
    elif array.ndim != 2:
        raise ValueError(
            f"X has {array.ndim} dimensions. Expected a table, or an array of shape (n_samples, "
            "n_backbones) with one column of answers per backbone."
        )
    else:
        given = [f"backbone{i}" for i in range(array.shape[1])] if names is None else list(names)
        if array.dtype == bool:
            answers = Answers(given, y, given_correct=array)
        elif array.dtype.kind == "f" and names is None:
            raise ValueError(
                "X is an array of numbers without column names, which could be anything. Pass a table "
                "with named columns, logits of shape (n_samples, n_backbones, n_classes), predicted "
                "labels, or a boolean array that says which answers are right."
            )
        else:
            answers = Answers(given, y, predicted=array)
            if y is not None and not np.isin(_keys(y), _keys(array)).any():
                first = array.flat[0] if array.size else None
                if array.size and len(y) and is_text(first) != is_text(y[0]):
                    raise ValueError(
                        f"The answers, such as {show(first)}, and the labels in y, such as "
                        f"{show(y[0])}, are of different types: none can be right. Name both alike."
                    )
    if y is not None and len(y) != len(answers):
        raise ValueError(f"X has {len(answers)} rows and y has {len(y)} labels.")
    if not len(answers):
        raise ValueError("X has no rows: there is nothing to inspect.")
    return answers


def read_features(X: ArrayLike | Mapping, *, estimator=None) -> dict[str, np.ndarray]:
    """Return every backbone's embedding (its logits where there is none), or the given mapping."""
    if estimator is not None:
        estimator, X = unwrap(estimator, X)
        table = _refuse_unread(_check_combiner(estimator)._table(X))
        return {b: table.features(b) for b in table.backbones}
    if isinstance(X, Mapping):
        return dict(X)
    names = feature_names(X)
    layout = None if names is None else Layout.from_names(names)
    if layout is None:
        raise ValueError(
            "X has no columns of backbones. Pass a table such as CLIPEmbedder returns, or a mapping of "
            "backbone to embedding."
        )
    read = layout.embedding if any(layout.widths.values()) else layout.logits
    return {b: read(np.asarray(X), b) for b in layout.backbones}


def _check_combiner(estimator):
    if not hasattr(estimator, "_table"):
        raise TypeError(
            f"{type(estimator).__name__} does not read tables of backbones. Pass one of this package's "
            "combiners, or a pipeline or search that ends in one."
        )
    return estimator


def _refuse_unread(table: Table) -> Table:
    """Return a table in which every image has been read."""
    if table.unread is not None:
        raise ValueError(
            f"{table.unread.sum()} of {len(table)} rows of X are NaN throughout, first row "
            f"{table.unread.argmax()}: images that could not be read. Leave them out: there is nothing "
            "to inspect."
        )
    return table


def _from_table(X, y, estimator) -> Answers:
    if estimator is None:
        classes, table = _refuse_unread(read_table(X).name_classes(y)).align(y)
    else:
        table = _refuse_unread(_check_combiner(estimator)._table(X))
        classes = estimator.classes_
    if not table.has_logits:
        raise ValueError(
            "The table holds embeddings only, from which no backbone answers by itself. Put "
            "ZeroShotLogits between CLIPEmbedder and the combiner."
        )
    unseen = unseen_labels(y, classes) if y is not None else np.zeros(0, dtype=bool)
    if unseen.any():
        raise ValueError(
            f"{unseen.sum()} of {len(y)} labels in y are none of the classes of {type(estimator).__name__}, "
            f"such as {show(y[unseen.argmax()])}: no answer to them can be right. Leave their rows out. "
            f"The classes are: {list_some(classes)}."
        )
    predicted = np.stack([classes[table.logits(b).argmax(axis=1)] for b in table.backbones], axis=1)
    return Answers(list(table.backbones), y, predicted, None, table, classes, estimator, X)
