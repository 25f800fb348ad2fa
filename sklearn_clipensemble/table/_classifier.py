"""What all combiners share: a table in, a distribution over classes out."""

from __future__ import annotations

import warnings
from abc import ABCMeta, abstractmethod
from dataclasses import dataclass
from numbers import Real
from typing import ClassVar

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.special import log_softmax
from sklearn import get_config
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import (
    check_is_fitted,
    validate_data,
)

from sklearn_clipensemble._compat import check_sample_weight, feature_names
from sklearn_clipensemble.table._ids import is_clip, without_prefix
from sklearn_clipensemble.table._labels import (
    NUMBERED,
    align_classes,
    check_labels,
    is_text,
    list_some,
    unseen_labels,
)
from sklearn_clipensemble.table._layout import (
    Layout,
    check_backbones,
    class_key,
    refuse_what_is_no_table,
    show,
)


@dataclass(frozen=True)
class Table:
    """Rows of a table and how to read them, with the logits in the order of ``classes_``.

    ``unread`` says which rows are of images that could not be read; they hold
    zeros, and whatever is computed from them is not to be used. None where
    there are none.
    """

    X: np.ndarray
    layout: Layout
    order: np.ndarray
    unread: np.ndarray | None = None

    def __len__(self):
        return len(self.X)

    def take(self, rows: np.ndarray) -> Table:
        """Return some of the rows."""
        return Table(self.X[rows], self.layout, self.order)

    @property
    def backbones(self) -> tuple[str, ...]:
        """The ids of the backbones."""
        return self.layout.backbones

    @property
    def has_logits(self) -> bool:
        """Whether there are zero-shot logits."""
        return bool(self.layout.classes)

    def logits(self, backbone: str) -> np.ndarray:
        """Return the zero-shot logits of one backbone, ``(n_samples, n_classes)``."""
        logits = self.layout.logits(self.X, backbone)
        if np.array_equal(self.order, np.arange(len(self.order))):
            return logits
        return logits[:, self.order]

    def features(self, backbone: str) -> np.ndarray:
        """Return what tells two images of one backbone apart: its embedding, or its logits where it has none."""
        if self.layout.widths[backbone]:
            return self.layout.embedding(self.X, backbone)
        return self.logits(backbone)


def _as_numpy(X):
    """Return what a torch tensor of any device holds; anything else as it is."""
    if not hasattr(X, "detach"):
        return X
    X = X.detach().cpu()
    # NumPy has no bfloat16.
    return (X.float() if str(X.dtype) == "torch.bfloat16" else X).numpy()


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


def _number_classes(keys, y):
    """Give the classes of a 3-D array of logits the labels of y, in sorted order."""
    seen = np.unique(y)
    if len(seen) == len(keys):
        return tuple(map(class_key, seen))
    raise ValueError(
        f"The array holds logits of {len(keys)} classes but y has {len(seen)} different labels, "
        f"such as {show(seen[0])}: which class is which cannot be told. Say it with "
        "layout=Layout({'backbone0': 0, ...}, classes=[...]), or pass a DataFrame with named columns. "
        f"{NUMBERED if seen.dtype.kind in 'iu' else ''}".rstrip()
    )


class TableClassifier(ClassifierMixin, BaseEstimator, metaclass=ABCMeta):
    """A classifier over a table of several backbones' features.

    A subclass gives ``_fit(table, codes, sample_weight)`` and
    ``_log_proba(table)``; all reading, checking and labelling happens here.
    """

    #: Whether ``fit`` needs labels (a label-free combiner only learns the classes).
    _needs_labels = True
    #: Whether zero-shot logits are worth having.
    _uses_logits = True
    #: Whether ``fit`` may leave out the rows of images that could not be read.
    _leaves_out = True
    #: For what was pickled before there was the parameter, and for subclasses without it.
    unread_label = None

    _parameter_constraints: ClassVar[dict] = {
        "layout": [Layout, None],
        "unread_label": [str, Real, "boolean", None],
    }

    def __init__(
        self,
        *,
        layout: Layout | None = None,
        unread_label: str | float | None = None,
    ):
        self.layout = layout
        self.unread_label = unread_label

    @abstractmethod
    def _fit(self, table: Table, codes: np.ndarray | None, sample_weight: np.ndarray | None):
        """Learn from rows, class indices (None without labels) and weights."""

    @abstractmethod
    def _log_proba(self, table: Table) -> np.ndarray:
        """Return log-scores, ``(n_samples, n_classes)``; they are normalised by the caller."""

    def fit(self, X: ArrayLike, y: ArrayLike | None = None, sample_weight: ArrayLike | None = None):
        """Learn how to combine the backbones.

        Parameters
        ----------
        X : DataFrame or array-like
            A table as :class:`~sklearn_clipensemble.ZeroShotLogits` returns it;
            or logits of shape (n_samples, n_backbones, n_classes); or a 2-D
            array, with ``layout`` given at construction. Rows that are NaN
            throughout, of images that could not be read, are left out with a
            warning.
        y : array-like of shape (n_samples,) or None, default=None
            The labels. Each must have a logit column where the table has
            logits; the classes of logits of shape (n_samples, n_backbones,
            n_classes) are the sorted labels, all of which must occur. None where
            the combiner can do without: the classes are then those of the logit
            columns.
        sample_weight : array-like of shape (n_samples,) or None, default=None
            Weights of the rows; None weighs all alike.

        Returns
        -------
        self : object
            The fitted combiner.

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
        X, layout, numbered, unread = self._read(X, reset=True)
        if y is not None:
            y = check_labels(_as_numpy(y))
            if len(y) != len(X):
                raise ValueError(
                    f"Found input variables with inconsistent numbers of samples: X has {len(X)} "
                    f"rows and y has {len(y)} labels."
                )
        elif not layout.classes:
            raise ValueError(
                f"{type(self).__name__} requires y to be passed, but the target y is None: without "
                "zero-shot logits in the table, nothing else says what the classes are."
            )
        # All of y, so that no choice of rows has a say in which class is which.
        keys = _number_classes(layout.classes, y) if numbered and y is not None else layout.classes
        kept = np.ones(len(X), dtype=bool) if unread is None else ~unread
        if sample_weight is not None:
            sample_weight = check_sample_weight(sample_weight, X, ensure_non_negative=True)
            # A row of no weight is no row: nothing later has to think of it.
            kept &= sample_weight > 0
            if not kept.any():
                raise ValueError("All sample weights are zero: there is no row to learn from.")
        if unread is not None:
            warnings.warn(
                f"{unread.sum()} of {len(unread)} rows of X are NaN throughout, first row "
                f"{unread.argmax()}: images that could not be read. They are left out of fit.",
                UserWarning,
                stacklevel=2,
            )
        if not kept.all():
            X = X[kept]
            y = None if y is None else y[kept]
            sample_weight = None if sample_weight is None else sample_weight[kept]
        self.classes_, order = align_classes(keys, y)
        if len(self.classes_) < 2:
            raise ValueError(
                f"{type(self).__name__} needs at least 2 classes; the data has 1 class: "
                f"{show(self.classes_[0])}."
            )
        self.layout_, self.class_order_ = layout, order
        self.backbones_ = list(layout.backbones)
        self._answers()
        self._miss_logits()
        codes = None if y is None else np.searchsorted(self.classes_, y)
        self._fit(Table(X, layout, order), codes, sample_weight)
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
        """Check X.

        Returns the numbers, their layout, whether its classes are but numbered
        (those of a 3-D array), and which rows are of images that could not be
        read; None for none.
        """
        refuse_what_is_no_table(X, type(self).__name__)
        X, layout = _as_numpy(X), None
        names = feature_names(X)
        n_dims = X.ndim if hasattr(X, "ndim") else np.asarray(X).ndim
        given = getattr(self, "layout", None) if reset else self.layout_
        numbered = names is None and n_dims == 3 and given is None
        if names is None and n_dims == 3:
            X = np.asarray(X)
            layout = self._layout_of_logits(X.shape, given, reset=reset)
            X = X.reshape(len(X), -1)
        elif names is not None:
            layout = Layout.from_names(names)
            if not reset:
                check_backbones(layout, self.layout_)
        if layout is None:
            layout = given
        X, unread = self._finite(X, layout if n_dims == 3 else None, reset=reset)
        if not reset:
            return X, self.layout_, False, unread
        if layout is None:
            what = "X is an array without column names"
            if names is not None:
                what = "no column of X is named like a backbone's"
            warnings.warn(
                f"{what}: its {X.shape[1]} columns are taken for the embedding "
                "of one anonymous backbone. Pass the DataFrame of ZeroShotLogits or CLIPEmbedder, or say "
                "what the columns are with layout=Layout(...).",
                UserWarning,
                stacklevel=3,
            )
            layout = Layout({"features": X.shape[1]})
        if layout.n_features != X.shape[1]:
            raise ValueError(
                f"layout describes {layout.n_features} columns, but X has {X.shape[1]} features."
            )
        return X, layout, numbered, unread

    def _layout_of_logits(self, shape, given, *, reset):
        """Return the layout of an array of logits, ``(n_samples, n_backbones, n_classes)``."""
        if given is None:
            n_backbones, n_classes = shape[1:]
            return Layout(
                {f"backbone{i}": 0 for i in range(n_backbones)}, [str(c) for c in range(n_classes)]
            )
        if (len(given.backbones), len(given.classes)) != shape[1:] or any(given.widths.values()):
            raise ValueError(
                f"The {'layout describes' if reset else 'table seen at fit has'} "
                f"{len(given.backbones)} backbones and {len(given.classes)} classes"
                f"{', and embeddings' * any(given.widths.values())}, but X has shape {shape}; as "
                "logits that would be (n_samples, n_backbones, n_classes)."
            )
        return given

    def _finite(self, X, layout, *, reset):
        """Return X as numbers, zeros for the rows of unread images, and which rows those are."""
        X_checked = validate_data(
            self, X, reset=reset, dtype=[np.float32, np.float64], ensure_all_finite=False
        )
        # One sum is cheaper than a mask of the table; look closer only where it fails.
        with np.errstate(over="ignore", invalid="ignore"):
            total = X_checked.sum(dtype=np.float64)
        rows = [] if np.isfinite(total) else np.flatnonzero(~np.isfinite(X_checked).all(axis=1))
        if not len(rows):
            return X_checked, None
        unread = np.isnan(X_checked).all(axis=1)
        if self._leaves_out and not unread.all() if reset else self.unread_label is not None:
            rows = rows[~unread[rows]]
        if len(rows):
            column = int(np.flatnonzero(~np.isfinite(X_checked[rows[0]]))[0])
            names = getattr(self, "feature_names_in_", layout and layout.names)
            where = f"column {column}" if names is None else f"column {names[column]!r}"
            message = (
                f"Input X contains NaN or infinity in {len(rows)} of {len(X_checked)} rows, first in "
                f"row {rows[0]}, {where}. "
            )
            if not unread[rows[0]]:
                message += "A row may be NaN as a whole, for an image that could not be read."
            elif reset:
                message += "No image could be read." if unread.all() else "Drop such rows."
            else:
                message += (
                    "The whole row is NaN, as CLIPEmbedder(on_error='nan') leaves it for an image that "
                    "could not be read. Drop such rows before predict, or say what to answer for them: "
                    f"{type(self).__name__}(unread_label=...)."
                )
            raise ValueError(message)
        X_checked = X_checked.copy()
        X_checked[unread] = 0
        return X_checked, unread

    def _table(self, X) -> Table:
        check_is_fitted(self)
        X, layout, _, unread = self._read(X, reset=False)
        return Table(X, layout, self.class_order_, unread)

    def _normalised(self, X) -> np.ndarray:
        # In float64, so that what is computed from probabilities finds that they sum to one.
        table = self._table(X)
        scores = self._log_proba(table).astype(np.float64, copy=False)
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
        codes = self._log_proba(table).argmax(axis=1)
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
            Weights of the rows; None weighs all alike.

        Returns
        -------
        float
            The share of rows whose label is predicted.
        """
        check_is_fitted(self)
        labels = check_labels(_as_numpy(y))
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

    def _weights_table(self, weights: np.ndarray, X) -> pd.DataFrame:
        """Name the rows and columns of a table of combination weights."""
        index = getattr(X, "index", None)
        index = index if isinstance(index, pd.Index) else None
        if self.unread_label is not None:
            weights = _blank(weights, self._table(X).unread)
        return pd.DataFrame(weights, columns=self.backbones_, index=index)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.required = self._needs_labels
        tags.input_tags.three_d_array = True
        return tags
