"""What every backbone and the ensemble answered: the one value that all of inspection asks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.special import softmax
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline

from sklearn_clipensemble._compat import feature_names
from sklearn_clipensemble.table import Layout, Table, read_table
from sklearn_clipensemble.table._labels import check_labels, is_text, list_some, unseen_labels
from sklearn_clipensemble.table._layout import class_key, show

#: What to do where a question needs what is not known.
_MISSING = {
    "y": "The true labels are needed here: pass y.",
    "predicted": "The answers are needed here, not only whether they are right.",
    "probabilities": "Probabilities are needed here: pass a table with zero-shot logits, such as "
    "ZeroShotLogits returns, or a mapping of backbone to probabilities, instead of predictions.",
    "estimator": "A fitted classifier is needed here: make the answers with Answers.from_estimator.",
    "features": "X has no columns of backbones. Pass a table such as CLIPEmbedder returns, or a mapping "
    "of backbone to embedding.",
}


@dataclass(frozen=True, init=False, eq=False, repr=False)
class Answers:
    """What every backbone and the ensemble said of some images, and the true labels where known.

    Every function and Display of :mod:`sklearn_clipensemble.inspection` takes it
    in place of ``X``, ``y`` and ``estimator``: images are read once and predicted
    once, whatever is asked. Make it with :meth:`from_estimator` or
    :meth:`from_predictions`. Nothing changes it afterwards; ``predictions``,
    ``correct``, ``probabilities``, ``y_pred``, ``weights`` and ``features`` are
    computed when they are asked for.

    Attributes
    ----------
    backbones : list of str
        The backbones that answer by themselves. One without text has an
        embedding but no logits: it is in ``features`` and ``weights`` only.
    index : Index of length n_samples
        The names of the images in every DataFrame: those of ``X``, or numbers.
    y : ndarray of shape (n_samples,) or None
        The true labels.
    classes : ndarray of shape (n_classes,) or None
        The classes in the order of the probabilities; None with labels only.
    ensemble : str or None
        The name of the ensemble, if there is one.
    estimator, X : object
        What was asked, about what.

    Examples
    --------
    >>> from sklearn_clipensemble.inspection import Answers, oracle_score
    >>> said = {"RN50": ["cat", "dog", "dog"], "ViT-B-32": ["dog", "dog", "cat"]}
    >>> answers = Answers.from_predictions(said, y=["cat", "cat", "dog"])
    >>> round(oracle_score(answers), 2)
    0.67
    """

    backbones: list[str]
    index: pd.Index
    y: np.ndarray | None = None
    classes: np.ndarray | None = None
    ensemble: str | None = None
    estimator: Any = None
    X: Any = None
    # The classifier at the end of the estimator, what that is given, and the table read from it.
    combiner: Any = None
    combiner_X: Any = None
    table: Any = None

    @classmethod
    def _of(cls, **known) -> Answers:
        """Return what is known; it takes the place of properties that would be computed."""
        self = cls()
        vars(self).update(known)
        if not len(self):
            raise ValueError("X has no rows: there is nothing to inspect.")
        for name, what in {"y": "labels", "y_pred": "labels", "weights": "rows"}.items():
            given = known.get(name)
            if given is not None and len(given) != len(self):
                raise ValueError(f"X has {len(self)} rows and {name} has {len(given)} {what}.")
        if "weights" in known:
            vars(self)["weights"] = known["weights"].set_axis(self.index)
        return self

    def __len__(self):
        return len(self.index)

    def __repr__(self):
        names = [*self.backbones, *filter(None, [self.ensemble])]
        return f"<Answers of {', '.join(names)} to {len(self)} images>"

    @classmethod
    def from_estimator(cls, estimator: Any, X: ArrayLike, y: ArrayLike | None = None) -> Answers:
        """Ask a fitted classifier and its backbones.

        Parameters
        ----------
        estimator : fitted classifier
            A combiner of this package, or a pipeline or search that ends in one.
        X : array-like of shape (n_samples, ...)
            Whatever the estimator predicts from: images, or a table.
        y : array-like of shape (n_samples,) or None, default=None
            The true labels.

        Returns
        -------
        Answers
            What they say.
        """
        combiner, combiner_X = unwrap(estimator, X)
        name, labels = type(combiner).__name__, None if y is None else check_labels(y)
        if not hasattr(combiner, "_table"):
            raise TypeError(
                f"{name} does not read tables of backbones. Pass one of this package's combiners, or "
                "a pipeline or search that ends in one."
            )
        table = _all_read(combiner._table(combiner_X))
        unseen = [] if labels is None else labels[unseen_labels(labels, combiner.classes_)]
        if len(unseen):
            raise ValueError(
                f"{len(unseen)} of {len(table)} labels in y are none of the classes of {name}, such as "
                f"{show(unseen[0])}: no answer to them can be right. Leave their rows out. "
                f"The classes are: {list_some(combiner.classes_)}."
            )
        return cls._of(
            backbones=list(table.with_logits), index=_index(len(table), X, table), y=labels,
            classes=combiner.classes_, ensemble=name, estimator=estimator, X=X,
            combiner=combiner, combiner_X=combiner_X, table=table,
        )  # fmt: skip

    @classmethod
    def from_predictions(
        cls,
        X: ArrayLike | Mapping,
        y: ArrayLike | None = None,
        *,
        classes: ArrayLike | None = None,
        y_pred: ArrayLike | None = None,
        weights: ArrayLike | None = None,
    ) -> Answers:
        """Take answers that were given before, by backbones or by any other classifiers.

        Parameters
        ----------
        X : DataFrame, mapping or array-like
            One of

            - a table with zero-shot logits, or an array of logits of shape
              (n_samples, n_backbones, n_classes), classes sorted;
            - a mapping of backbone to probabilities, (n_samples, n_classes);
            - predicted labels: a mapping, or a DataFrame or array of shape
              (n_samples, n_backbones);
            - which answers are right: the same of bool.
        y : array-like of shape (n_samples,) or None, default=None
            The true labels.
        classes : array-like of shape (n_classes,) or None, default=None
            The class of every column of probabilities; None sorts ``y``.
        y_pred : array-like of shape (n_samples,) or None, default=None
            The answers of an ensemble.
        weights : DataFrame or array-like of shape (n_samples, n_backbones) or None, default=None
            How much each backbone counts for each image.

        Returns
        -------
        Answers
            What was given.
        """
        labels = None if y is None else check_labels(y)
        given: Any = X
        if isinstance(X, Mapping):
            given = {name: np.asarray(values) for name, values in X.items()}
            if all(values.ndim != 2 for values in given.values()):
                given = pd.DataFrame(given)
        names = feature_names(given)
        if isinstance(given, Mapping):
            found = _read_probabilities(given, labels, classes)
        elif np.ndim(given) == 3 or (names is not None and Layout.from_names(names) is not None):
            found = _read_logits(given, labels)
        else:
            found = _read_labels(given, names, labels)
        if y_pred is not None:
            found |= {"ensemble": "ensemble", "y_pred": check_labels(y_pred)}
        if weights is not None:
            names = list(getattr(found.get("table"), "backbones", found["backbones"]))
            is_frame = isinstance(weights, pd.DataFrame)
            frame: Any = weights if is_frame else pd.DataFrame(np.asarray(weights), columns=names)
            found["weights"] = frame[names]
        return cls._of(X=X, y=labels, **found)

    @cached_property
    def predicted(self) -> np.ndarray | None:
        """The backbones' labels, ``(n_samples, n_backbones)``; None where only right and wrong are known."""
        if not self.backbones:
            raise ValueError(
                "The table holds embeddings only, from which no backbone answers by itself. CLIP backbones "
                "do with ZeroShotLogits between CLIPEmbedder and the combiner; of others there are y_pred, "
                "weights and features."
            )
        best = [self.table.logits(b).argmax(axis=1) for b in self.backbones]
        return np.asarray(self.classes)[np.stack(best, axis=1)]

    @cached_property
    def hits(self) -> np.ndarray:
        """Which backbones are right, ``(n_samples, n_backbones)``; the ensemble is not asked."""
        return class_keys(need(self, "predicted")) == class_keys(need(self, "y"))[:, None]

    @cached_property
    def _log_proba(self) -> np.ndarray:
        return self.combiner.predict_log_proba(self.table)

    @cached_property
    def y_pred(self) -> np.ndarray | None:
        """The ensemble's labels, ``(n_samples,)``; None without an ensemble."""
        if self.combiner is None:
            return None
        return np.asarray(self.classes)[self._log_proba.argmax(axis=1)]

    @cached_property
    def predictions(self) -> pd.DataFrame:
        """The labels that every backbone and, last, the ensemble give: one row per image."""
        return self._with_ensemble(need(self, "predicted"), self.y_pred)

    @cached_property
    def correct(self) -> pd.DataFrame:
        """Whether the answers are right, of every backbone and, last, the ensemble."""
        right = None
        if self.y_pred is not None:
            right = class_keys(self.y_pred) == class_keys(need(self, "y"))
        return self._with_ensemble(self.hits, right)

    def _with_ensemble(self, of_backbones, of_ensemble) -> pd.DataFrame:
        frame = pd.DataFrame(of_backbones, self.index, self.backbones)
        return frame.assign(**{self.ensemble: of_ensemble}) if self.ensemble else frame

    @cached_property
    def probabilities(self) -> dict[str, np.ndarray] | None:
        """The probabilities by backbone and, last, ensemble, ``(n_samples, n_classes)``; None if unknown."""
        if self.table is None:
            return None
        logits = {b: self.table.logits(b).astype(np.float64) for b in self.backbones}
        found = {b: softmax(values, axis=1) for b, values in logits.items()}
        if self.ensemble and self.combiner is not None:
            found[self.ensemble] = np.exp(self._log_proba)
        return found

    @cached_property
    def weights(self) -> pd.DataFrame | None:
        """The ensemble's weights, ``(n_samples, n_backbones)``; None where it has none."""
        if not hasattr(self.combiner, "combination_weights"):
            return None
        return self.combiner.combination_weights(self.table).set_axis(self.index)

    @cached_property
    def features(self) -> dict[str, np.ndarray] | None:
        """The embedding of every backbone, its logits where it has none; None without a table."""
        if self.table is None:
            return None
        return {b: self.table.features(b) for b in self.table.backbones}


#: What the functions of inspection take: answers, or what they are made from.
Asked = Answers | Mapping | ArrayLike


def need(answers: Answers, what: str):
    """Return what answers know; an error that says how to have it where they do not."""
    value = getattr(answers, what)
    if value is None:
        raise ValueError(_MISSING[what])
    return value


def as_answers(X, y=None, *, estimator: Any = None) -> Answers:
    """Return what the functions of inspection are given, read unless it was read before."""
    if isinstance(X, Answers):
        if y is not None or estimator is not None:
            raise TypeError("Answers hold their labels and their estimator: pass them alone.")
        return X
    if estimator is None:
        return Answers.from_predictions(X, y)
    return Answers.from_estimator(estimator, X, y)


def asked(estimator, X, y) -> Answers:
    """Return the answers of a fitted classifier, which may be given in place of it."""
    if not isinstance(estimator, Answers):
        return Answers.from_estimator(estimator, X, y)
    need(estimator, "estimator")
    return as_answers(estimator, y)


def class_keys(labels: np.ndarray) -> np.ndarray:
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


def _index(n: int, *tables) -> pd.Index:
    """Return the names of the rows of the first table that has some."""
    found = (getattr(X, "index", None) for X in tables)
    return next((i for i in found if isinstance(i, pd.Index)), pd.RangeIndex(n))


def _all_read(table: Table) -> Table:
    """Return a table in which every image has been read."""
    if table.unread is not None:
        raise ValueError(
            f"{table.unread.sum()} of {len(table)} rows of X are NaN throughout, first row "
            f"{table.unread.argmax()}: images that could not be read. Leave them out: there is nothing "
            "to inspect."
        )
    return table


def _read_logits(X, y) -> dict:
    classes, table = _all_read(read_table(X)).name_classes(y).align(y)
    index, backbones = _index(len(table), table), list(table.with_logits)
    return {"backbones": backbones, "index": index, "classes": classes, "table": table}


def _read_probabilities(given: Mapping[str, np.ndarray], y, classes) -> dict:
    if classes is None and y is None:
        raise ValueError("Pass classes, the label of every column of the probabilities, or y.")
    classes = np.unique(y) if classes is None else np.asarray(classes)
    shape = (len(next(iter(given.values()))), len(classes))
    for name, proba in given.items():
        if proba.shape != shape:
            raise ValueError(
                f"The probabilities of {name!r} have the shape {proba.shape}; expected {shape}, one column "
                "per class. Pass classes, such as the classes_ of the classifier."
            )
    best = np.stack([proba.argmax(axis=1) for proba in given.values()], axis=1)
    return {
        "backbones": list(given),
        "index": pd.RangeIndex(shape[0]),
        "classes": classes,
        "probabilities": given,
        "predicted": classes[best],
    }


def _read_labels(X, names, y) -> dict:
    """Read predicted labels, or which answers are right."""
    given = np.asarray(X)
    if given.ndim != 2:
        raise ValueError(
            f"X has {given.ndim} dimensions. Expected a table, or an array of shape (n_samples, "
            "n_backbones) with one column of answers per backbone; or images, with estimator=, what "
            "was fitted to them."
        )
    if given.dtype.kind == "f" and names is None:
        raise ValueError(
            "X is an array of numbers without column names, which could be anything. Pass a table "
            "with named columns, logits of shape (n_samples, n_backbones, n_classes), predicted "
            "labels, or a boolean array that says which answers are right."
        )
    backbones = [f"backbone{i}" for i in range(given.shape[1])] if names is None else list(names)
    found = {"backbones": backbones, "index": _index(len(given), X)}
    if given.dtype == bool:
        return found | {"hits": given, "predicted": None}
    of_one_type = y is None or not given.size or is_text(given.flat[0]) == is_text(y[0])
    if not of_one_type and not np.isin(class_keys(y), class_keys(given)).any():
        raise ValueError(
            f"The answers, such as {show(given.flat[0])}, and the labels in y, such as {show(y[0])}, "
            "are of different types: none can be right. Name both alike."
        )
    return found | {"predicted": given}
