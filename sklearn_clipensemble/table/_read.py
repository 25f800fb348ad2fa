"""Reading a table: numbers, whose columns they are, and which images could not be read."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from sklearn.utils import check_array

from sklearn_clipensemble._compat import feature_names
from sklearn_clipensemble._runtime import cached_property
from sklearn_clipensemble.table._labels import NUMBERED, align_classes
from sklearn_clipensemble.table._layout import (
    Layout,
    check_backbones,
    class_key,
    refuse_what_is_no_table,
    show,
)


@dataclass(frozen=True)
class Table:
    """The numbers of a table and how to read them.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_columns)
        The numbers, float32 or float64; zeros in the rows of ``unread``.
    layout : Layout
        Which columns are which backbone's embedding and logits.
    backbones : tuple of str
        The backbones to be looked at: all of the layout, unless
        :meth:`only` has left some out.
    order : ndarray of int, shape (n_classes,)
        The columns of every backbone's logits, in the order in which they are
        returned; all, in their own order, unless :meth:`align` has sorted them.
    unread : ndarray of bool, shape (n_samples,), or None
        Which rows are NaN throughout, of images that could not be read: nothing
        computed from them is to be used. None where there are none.
    numbered : bool
        Whether nothing says what the classes are called, as in an array of
        logits of shape (n_samples, n_backbones, n_classes).
    index : Index of length n_samples
        The names of the rows: those of ``X``, where it was a pandas DataFrame, or numbers.
    """

    X: np.ndarray
    layout: Layout
    backbones: tuple[str, ...]
    order: np.ndarray
    unread: np.ndarray | None = None
    numbered: bool = False
    index: Any = None

    def __len__(self):
        return len(self.X)

    def take(self, rows: np.ndarray | slice) -> Table:
        """Return some of the rows.

        Parameters
        ----------
        rows : ndarray of int or bool, or slice
            Which.

        Returns
        -------
        Table
            A table of these rows.
        """
        unread = None if self.unread is None else self.unread[rows]
        return replace(self, X=self.X[rows], unread=unread, index=self.index[rows])

    def find(self, backbone: str) -> int:
        """Return the position of a backbone; a ValueError where the table has no such.

        Parameters
        ----------
        backbone : str
            Its id.

        Returns
        -------
        int
            Its position in ``backbones``.
        """
        if backbone not in self.backbones:
            raise ValueError(
                f"The table has no backbone {backbone!r}; its backbones are: "
                f"{', '.join(self.backbones)}."
            )
        return self.backbones.index(backbone)

    def only(self, backbones: Sequence[str]) -> Table:
        """Return the same rows, of some backbones.

        Parameters
        ----------
        backbones : sequence of str
            Their ids.

        Returns
        -------
        Table
            A table that looks at these backbones.
        """
        return replace(self, backbones=tuple(backbones))

    def name_classes(self, y: np.ndarray | None) -> Table:
        """Return the table with classes that nothing names called by the labels, in sorted order.

        Parameters
        ----------
        y : ndarray of shape (n_samples,) or None
            The labels.

        Returns
        -------
        Table
            A table whose layout names the classes.
        """
        if not self.numbered or y is None:
            return self
        labels, n_classes = np.unique(y), len(self.layout.classes)
        if len(labels) != n_classes:
            raise ValueError(
                f"The array holds logits of {n_classes} classes but y has {len(labels)} different "
                f"labels, such as {show(labels[0])}: which class is which cannot be told. Say it with "
                "layout=Layout({'backbone0': 0, ...}, classes=[...]), or pass a DataFrame with named "
                f"columns. {NUMBERED if labels.dtype.kind in 'iu' else ''}".rstrip()
            )
        layout = Layout(self.layout.widths, [class_key(label) for label in labels])
        return replace(self, layout=layout, numbered=False)

    def align(self, y: np.ndarray | None) -> tuple[np.ndarray, Table]:
        """Return the sorted classes, of the type of the labels, and the table in their order.

        Parameters
        ----------
        y : ndarray of shape (n_samples,) or None
            The labels; None takes the texts that name the logits' columns.

        Returns
        -------
        classes : ndarray of shape (n_classes,)
            The labels, those without a labelled row among them.
        table : Table
            The table, with logits in their order.
        """
        classes, order = align_classes(self.layout.classes, y)
        return classes, replace(self, order=order)

    @property
    def with_logits(self) -> tuple[str, ...]:
        """The backbones that have zero-shot logits."""
        return tuple(b for b in self.backbones if b in self.layout.with_logits)

    @property
    def has_logits(self) -> bool:
        """Whether any backbone has zero-shot logits."""
        return bool(self.with_logits)

    def logits(self, backbone: str) -> np.ndarray:
        """Return the zero-shot logits of one backbone.

        Parameters
        ----------
        backbone : str
            Its id.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            The logits, in the order of the classes.
        """
        logits = self.layout.logits(self.X, backbone)
        return logits if self._in_own_order else logits[:, self.order]

    @cached_property
    def _in_own_order(self) -> bool:
        return np.array_equal(self.order, np.arange(len(self.order)))

    def features(self, backbone: str) -> np.ndarray:
        """Return one backbone's embedding, or its logits where it has none.

        Parameters
        ----------
        backbone : str
            Its id.

        Returns
        -------
        ndarray of shape (n_samples, width)
            The features.
        """
        if self.layout.widths[backbone]:
            return self.layout.embedding(self.X, backbone)
        return self.logits(backbone)


def read_table(X: ArrayLike, *, layout: Layout | None = None, seen: Layout | None = None) -> Table:
    """Read a table of several backbones' features.

    Parameters
    ----------
    X : DataFrame or array-like
        A table as :class:`~sklearn_clipensemble.CLIPEmbedder` or
        :class:`~sklearn_clipensemble.ZeroShotLogits` return it; logits of shape
        (n_samples, n_backbones, n_classes); or a 2-D array with ``layout``. A
        torch tensor of any device will do for an array.
    layout : Layout or None, default=None
        What the columns are, where ``X`` has no column names. Without it a 2-D
        array is the embedding of one anonymous backbone, with a warning.
    seen : Layout or None, default=None
        The layout of an earlier table, whose columns ``X`` must have.

    Returns
    -------
    Table
        The table. Rows that are NaN throughout are in ``unread``.

    Raises
    ------
    ValueError
        If ``X`` holds no numbers, NaN or infinity in a row that is not NaN
        throughout, columns that are no backbone's, or other columns than those
        of ``layout`` or ``seen``.
    TypeError
        If ``X`` is sparse.

    Examples
    --------
    >>> import pandas as pd
    >>> from sklearn_clipensemble import read_table
    >>> X = pd.DataFrame({"a__embedding__0": [0.6], "a__logit__cat": [2.0], "a__logit__dog": [1.0],
    ...                   "b__embedding__0": [0.8]})
    >>> table = read_table(X)
    >>> table.backbones, table.with_logits, table.layout.classes
    (('a', 'b'), ('a',), ('cat', 'dog'))
    >>> table.logits("a")
    array([[2., 1.]])
    """
    check = partial(
        check_array, dtype=[np.float32, np.float64], ensure_all_finite=False, input_name="X"
    )
    table = read(X, layout, seen, check, "read_table")
    names = feature_names(X)
    if seen is not None and names is not None and list(names) != seen.names:
        here, there = next((a, b) for a, b in zip(names, seen.names, strict=True) if a != b)
        same = set(names) == set(seen.names)
        raise ValueError(
            "The columns of X are those of the earlier table in another order."
            if same
            else f"X has {here!r} where the earlier table has {there!r}."
        )
    return table


def read(
    X: Any,
    layout: Layout | None,
    seen: Layout | None,
    check: Callable,
    reader: str,
) -> Table:
    """Read a table for ``reader``, which says how to check its numbers; see :func:`read_table`."""
    refuse_what_is_no_table(X, reader)
    X = as_numpy(X)
    index = X.index if hasattr(X, "iloc") else None
    names = feature_names(X)
    n_dims = X.ndim if hasattr(X, "ndim") else np.asarray(X).ndim
    given, found, numbered = seen or layout, None, False
    if names is None and n_dims == 3:
        numbered, X = given is None, np.asarray(X)
        found = _layout_of_logits(X.shape, given, seen is not None)
        X, names = X.reshape(len(X), X.shape[1] * X.shape[2]), found.names
    elif names is not None:
        found = Layout.from_names(names)
        if seen is not None:
            check_backbones(found, seen)
    # An array without names is what it is said to be.
    found = seen or found or given
    values = check(X)
    if found is None:
        what = "X is an array without column names"
        if names is not None:
            what = "no column of X is named like a backbone's"
        warnings.warn(
            f"{what}: its {values.shape[1]} columns are taken for the embedding "
            "of one anonymous backbone. Pass the DataFrame of ZeroShotLogits or CLIPEmbedder, or say "
            "what the columns are with layout=Layout(...).",
            UserWarning,
            stacklevel=3,
        )
        found = Layout({"features": values.shape[1]})
    if found.n_features != values.shape[1]:
        raise ValueError(
            f"layout describes {found.n_features} columns, but X has {values.shape[1]} features."
        )
    table = as_table(values, found, index, numbered=numbered and seen is None)
    # One sum is cheaper than a mask of the table; look closer only where it fails.
    with np.errstate(over="ignore", invalid="ignore"):
        total = values.sum(dtype=np.float64)
    if np.isfinite(total):
        return table
    unread = np.isnan(values).all(axis=1)
    odd = np.flatnonzero(~np.isfinite(values).all(axis=1) & ~unread)
    if len(odd):
        hint = "A row may be NaN as a whole, for an image that could not be read."
        refuse_rows(table, odd, hint, names)
    if unread.any():
        values = values.copy()
        values[unread] = 0
        table = replace(table, X=values, unread=unread)
    return table


def as_table(values: np.ndarray, layout: Layout, index: Any, *, numbered: bool = False) -> Table:
    """Return a table of all backbones and classes of a layout, in their order."""
    order = np.arange(len(layout.classes))
    index = pd.RangeIndex(len(values)) if index is None else index
    return Table(values, layout, layout.backbones, order, None, numbered, index)


def refuse_rows(table: Table, rows: np.ndarray, hint: str, names=None) -> None:
    """Raise the ValueError that says which rows of a table are not finite, and what to do."""
    at = ~np.isfinite(table.X[rows[0]])
    column = int(at.argmax()) if at.any() else 0
    where = f"column {column}" if names is None else f"column {names[column]!r}"
    raise ValueError(
        f"Input X contains NaN or infinity in {len(rows)} of {len(table)} rows, first in row "
        f"{rows[0]}, {where}. {hint}"
    )


def as_numpy(X):
    """Return what a torch tensor of any device holds; anything else as it is."""
    if not hasattr(X, "detach"):
        return X
    X = X.detach().cpu()
    # NumPy has no bfloat16.
    return (X.float() if str(X.dtype) == "torch.bfloat16" else X).numpy()


def _layout_of_logits(shape, given, seen):
    """Return the layout of an array of logits, ``(n_samples, n_backbones, n_classes)``."""
    if given is None:
        n_backbones, n_classes = shape[1:]
        return Layout(
            {f"backbone{i}": 0 for i in range(n_backbones)}, [str(c) for c in range(n_classes)]
        )
    if (len(given.backbones), len(given.classes)) != shape[1:] or any(given.widths.values()):
        raise ValueError(
            f"The {'table seen at fit has' if seen else 'layout describes'} "
            f"{len(given.backbones)} backbones and {len(given.classes)} classes"
            f"{', and embeddings' * any(given.widths.values())}, but X has shape {shape}; as "
            "logits that would be (n_samples, n_backbones, n_classes)."
        )
    return given
