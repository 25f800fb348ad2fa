"""The base of all classifiers on tables: a table in, a distribution over classes out."""

from __future__ import annotations

import warnings
from abc import ABCMeta, abstractmethod
from collections.abc import Callable
from dataclasses import replace
from numbers import Real
from typing import ClassVar, Self

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.special import log_softmax
from sklearn import get_config
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import gen_batches
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted, validate_data

from sklearn_clipensemble._compat import documented
from sklearn_clipensemble.table._docstrings import complete
from sklearn_clipensemble.table._features import row_digests
from sklearn_clipensemble.table._ids import is_clip, without_prefix
from sklearn_clipensemble.table._labelled import learnable
from sklearn_clipensemble.table._labels import (
    NUMBERED,
    check_labels,
    is_text,
    list_some,
    unseen_labels,
)
from sklearn_clipensemble.table._layout import Layout, numbers_as_seen, show
from sklearn_clipensemble.table._read import Table, as_numpy, as_table, read, refuse_rows

# Rows that are answered at once: bounds the memory of predict by the table's own.
_BATCH = 2048


def _as_given(result: np.ndarray, X):
    """Return numbers as a tensor on the device of X, where X is one and scikit-learn dispatches."""
    dispatched = hasattr(X, "detach") and get_config()["array_api_dispatch"]
    if not dispatched or result.dtype.kind in "UO":
        return result
    import torch

    floats = result.dtype.kind == "f" and X.is_floating_point()
    return torch.from_numpy(result).to(X.device, X.dtype if floats else None)


def _blank(values: np.ndarray, unread: np.ndarray | None) -> np.ndarray:
    """Return values, one row per image, with NaN where the image could not be read."""
    return values if unread is None else np.where(unread[:, None], np.nan, values)


@documented
class TableClassifier(ClassifierMixin, BaseEstimator, metaclass=ABCMeta):
    """Base of classifiers on tables of several backbones' features.

    A subclass gives :meth:`_fit` and :meth:`_log_proba`, and ``_weights`` where
    it has combination weights. Reading, checking, labels and batches are dealt
    with here: the hooks see a :class:`Table` of numbers without gaps, and labels
    as class indices. Parameters and attributes that a base documents are added
    to the docstring of the subclass.

    Parameters
    ----------
    layout : Layout or None, default=None
        The columns of ``X``, where it has no column names.
    unread_label : str, number or None, default=None
        The answer for rows of NaN, of unread images; None refuses them.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The labels, sorted, those without a labelled row among them.
    backbones_ : list of str
        The backbones in use.
    layout_ : Layout
        The columns seen at fit.
    n_features_in_ : int
        Number of columns.
    feature_names_in_ : ndarray of str
        Names of the columns, where ``X`` has names.
    """

    #: Whether ``fit`` needs labels; otherwise the classes of the logits will do.
    _needs_labels = True
    #: Whether zero-shot logits are worth having: where CLIP backbones lack them, ``fit`` warns.
    _uses_logits = True
    #: A method that returns the combination weights of some rows of a table, ``(n_samples,
    #: n_backbones)``; None where there are none.
    _weights: Callable[[Table], np.ndarray] | None = None
    # For subclasses without the parameter.
    unread_label = None

    _parameter_constraints: ClassVar[dict] = {
        "layout": [Layout, None],
        "unread_label": [str, Real, "boolean", None],
    }

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        complete(cls)

    def __init__(self, *, layout: Layout | None = None, unread_label: str | float | None = None):
        self.layout = layout
        self.unread_label = unread_label

    @abstractmethod
    def _fit(self, table: Table, codes: np.ndarray | None, sample_weight: np.ndarray | None):
        """Learn from rows, class indices (None without labels) and positive weights (or None)."""

    @abstractmethod
    def _log_proba(self, table: Table) -> np.ndarray:
        """Return log-scores of some rows, ``(n_samples, n_classes)``, up to a constant per row."""

    def _choose_backbones(self, table: Table) -> tuple[str, ...]:
        """Return the backbones of the table to use: all, unless a subclass says otherwise."""
        return table.backbones

    def fit(
        self, X: ArrayLike, y: ArrayLike | None = None, sample_weight: ArrayLike | None = None
    ) -> Self:
        """Fit to a table.

        Parameters
        ----------
        X : DataFrame or array-like
            A table as :class:`~sklearn_clipensemble.ZeroShotLogits` returns it;
            logits of shape (n_samples, n_backbones, n_classes); or a 2-D array,
            with ``layout``. Rows that are NaN throughout, of images that could
            not be read, are left out with a warning.
        y : array-like of shape (n_samples,) or None, default=None
            The labels. Each must have a logit column where the table has
            logits; the classes of 3-D logits are the sorted labels, all of which
            must occur. None, where no labels are needed, takes the classes of the
            logit columns.
        sample_weight : array-like of shape (n_samples,) or None, default=None
            Weights of the rows; None gives all the same.

        Returns
        -------
        self : object
            The fitted classifier.

        Raises
        ------
        ValueError
            If ``X`` holds NaN or infinity in a row that is not NaN throughout,
            if a label has no column, if there are fewer than two classes, or if
            labels are needed and missing.
        TypeError
            If labels of different types are mixed.
        """
        if y is None and self._needs_labels:
            raise ValueError(
                f"{type(self).__name__} requires y to be passed, but the target y is None."
            )
        self._validate_params()
        table = self._read(X, reset=True)
        table, self.classes_, codes, weight = learnable(
            table, y, sample_weight, type(self).__name__
        )
        self.layout_, self.class_order_ = table.layout, table.order
        self.backbones_ = list(self._choose_backbones(table))
        self._answers()
        self._miss_logits()
        self._rows_of_fit = row_digests(table.X)
        self._fit(table.only(self.backbones_), codes, weight)
        return self

    def _miss_logits(self):
        """Warn where CLIP backbones could give zero-shot answers and the table has none."""
        layout = self.layout_
        clips = [b for b in layout.backbones if is_clip(without_prefix(b))]
        if clips and not layout.classes and self._uses_logits:
            warnings.warn(
                f"The table holds embeddings of CLIP backbones ({', '.join(clips[:4])}"
                f"{', ...' if len(clips) > 4 else ''}) and no zero-shot logits: {type(self).__name__} "
                "learns from the labelled images alone, and knows nothing of what the classes are "
                "called. With few labels that costs much. Put ZeroShotLogits() between CLIPEmbedder and "
                f"{type(self).__name__}, with class_names=... where the labels are no words.",
                UserWarning,
                stacklevel=3,
            )

    def _answers(self):
        """Return what ``predict`` can answer: the classes, and last the label of unread images."""
        if self.unread_label is None:
            return self.classes_
        if self.unread_label != self.unread_label or is_text(self.unread_label) != (
            self.classes_.dtype.kind in "UO"
        ):
            raise ValueError(
                f"unread_label={show(self.unread_label)} is not of the type of the labels, such as "
                f"{show(self.classes_[0])}: no metric could compare the answers. Choose one that is. "
                f"{NUMBERED if self.classes_.dtype.kind in 'iu' else ''}".rstrip()
            )
        return np.append(self.classes_, self.unread_label)

    def _read(self, X, *, reset):
        values = None if reset else numbers_as_seen(X, self, self.layout_)
        if values is not None:
            return as_table(values, self.layout_, X.index)

        def check(X):
            return validate_data(
                self, X, reset=reset, dtype=[np.float32, np.float64], ensure_all_finite=False
            )

        layout, seen = (self.layout, None) if reset else (None, self.layout_)
        return read(X, layout, seen, check, type(self).__name__)

    def _table(self, X) -> Table:
        """Return X read; a table that was read before is taken as it is."""
        check_is_fitted(self)
        if isinstance(X, Table):
            return X
        table = self._read(X, reset=False)
        if table.unread is not None and self.unread_label is None:
            refuse_rows(
                table,
                np.flatnonzero(table.unread),
                "The whole row is NaN, as CLIPEmbedder(on_error='nan') leaves it for an image that "
                "could not be read. Drop such rows before predict, or say what to answer for them: "
                f"{type(self).__name__}(unread_label=...).",
                table.layout.names,
            )
        return replace(table, order=self.class_order_).only(self.backbones_)

    def _given_to_fit(self, table: Table) -> np.ndarray:
        """Return which rows of a table were given to ``fit``, to the last digit."""
        return np.isin(row_digests(table.X), self._rows_of_fit)

    def _in_batches(self, rule: Callable[[Table], np.ndarray], table: Table) -> np.ndarray:
        """Return what a rule gives for the rows of a table, asked for some rows at a time."""
        if len(table) <= _BATCH:  # a single image would wait for what makes batches
            return rule(table)
        batches = gen_batches(len(table), _BATCH)
        return np.concatenate([rule(table.take(rows)) for rows in batches])

    def _normalised(self, X) -> np.ndarray:
        # In float64, so that what is computed from probabilities finds that they sum to one.
        table = self._table(X)
        scores = self._in_batches(self._log_proba, table).astype(np.float64, copy=False)
        return _blank(log_softmax(scores, axis=1), table.unread)

    def predict_log_proba(self, X: ArrayLike) -> np.ndarray:
        """Return the logarithm of :meth:`predict_proba`, exact where probabilities vanish.

        Parameters
        ----------
        X : DataFrame or array-like
            A table with the columns seen at fit.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            Log-probabilities in the order of ``classes_``.
        """
        return _as_given(self._normalised(X), X)

    def predict_proba(self, X: ArrayLike) -> np.ndarray:
        """Return the probability of every class.

        Parameters
        ----------
        X : DataFrame or array-like
            A table with the columns seen at fit.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            Probabilities in the order of ``classes_``; rows sum to one.
        """
        return _as_given(np.exp(self._normalised(X)), X)

    def decision_function(self, X: ArrayLike) -> np.ndarray:
        """Return the scores behind :meth:`predict`.

        Parameters
        ----------
        X : DataFrame or array-like
            A table with the columns seen at fit.

        Returns
        -------
        ndarray of shape (n_samples, n_classes) or (n_samples,)
            Log-probabilities; with two classes, the log-odds of the second.
        """
        scores = self.predict_log_proba(X)
        return scores[:, 1] - scores[:, 0] if len(self.classes_) == 2 else scores

    def predict(self, X: ArrayLike) -> np.ndarray:
        """Return the most probable class of every row.

        Parameters
        ----------
        X : DataFrame or array-like
            A table with the columns seen at fit.

        Returns
        -------
        ndarray of shape (n_samples,)
            Labels, of the type seen at fit.
        """
        table, answers = self._table(X), self._answers()
        codes = self._in_batches(self._log_proba, table).argmax(axis=1)
        if table.unread is not None:
            codes[table.unread] = -1
        return _as_given(answers[codes], X)

    def score(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
        """Return the accuracy.

        Labels that are none of the classes seen at fit count as wrong, with a
        warning that names one.

        Parameters
        ----------
        X : DataFrame or array-like
            A table with the columns seen at fit.
        y : array-like of shape (n_samples,)
            The true labels.
        sample_weight : array-like of shape (n_samples,) or None, default=None
            Weights of the rows; None gives all the same.

        Returns
        -------
        float
            The share of rows whose label is predicted.
        """
        check_is_fitted(self)
        labels = check_labels(as_numpy(y))
        texts = self.classes_.dtype.kind in "UO"
        if is_text(labels[0]) != texts:
            given, known = ("numbers", "texts") if texts else ("texts", "numbers")
            raise ValueError(
                f"The labels in y are {given}, such as {show(labels[0])}, and the classes {known}, such as "
                f"{show(self.classes_[0])}: no answer can be right. Pass the labels as at fit."
            )
        unseen = unseen_labels(labels, self._answers())
        if unseen.any():
            warnings.warn(
                f"{unseen.sum()} of {len(labels)} labels are none of the classes seen at fit, such as "
                f"{show(labels[unseen.argmax()])}: they count as wrong. The classes are: "
                f"{list_some(self.classes_)}.",
                UserWarning,
                stacklevel=2,
            )
        # A tensor stays one, for scikit-learn to compare with the tensors that predict may give.
        return super().score(X, y if hasattr(y, "detach") else labels, sample_weight)

    @available_if(lambda self: self._weights is not None)
    def combination_weights(self, X: ArrayLike) -> pd.DataFrame:
        """Return the weight of every backbone for every row.

        Parameters
        ----------
        X : DataFrame or array-like
            A table with the columns seen at fit.

        Returns
        -------
        DataFrame of shape (n_samples, n_backbones)
            The weights, with the rows of ``X`` and the backbones as columns.
        """
        table = self._table(X)
        weights = self._in_batches(self._weights, table)  # type: ignore[arg-type]
        weights = _blank(weights, table.unread)
        return pd.DataFrame(weights, columns=self.backbones_, index=table.index)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.required = self._needs_labels
        tags.input_tags.three_d_array = True
        return tags
