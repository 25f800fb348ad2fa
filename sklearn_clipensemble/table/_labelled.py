"""A table and labels -> the rows to learn from."""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import ArrayLike

from sklearn_clipensemble._compat import check_sample_weight
from sklearn_clipensemble.table._labels import check_labels
from sklearn_clipensemble.table._layout import show
from sklearn_clipensemble.table._read import Table, as_numpy, refuse_rows


def labels_of(y: ArrayLike, n_rows: int) -> np.ndarray:
    """Return the labels of as many rows, or raise an error that says what is wrong with them."""
    labels = check_labels(as_numpy(y))
    if len(labels) != n_rows:
        raise ValueError(
            f"Found input variables with inconsistent numbers of samples: X has {n_rows} rows and y "
            f"has {len(labels)} labels."
        )
    return labels


def learnable(
    table: Table, y: ArrayLike | None, sample_weight: ArrayLike | None, taker: str
) -> tuple[Table, np.ndarray, np.ndarray | None, np.ndarray | None]:
    """Return the rows that ``taker`` can learn from in ``fit``, the classes, and the rows' labels and weights.

    The table's logits are in the order of the classes, which are sorted, those without a labelled row
    among them. Labels are class indices; None without labels, as are weights where none were given. Rows
    of unread images and of no weight are left out, the former with a warning.
    """
    labels = weight = None
    if table.unread is not None and table.unread.all():
        rows = np.arange(len(table))
        refuse_rows(table, rows, "No image could be read.", table.layout.names)
    if y is not None:
        labels = labels_of(y, len(table))
    elif not table.has_logits:
        raise ValueError(
            f"{taker} requires y to be passed, but the target y is None: without "
            "zero-shot logits in the table, nothing else says what the classes are."
        )
    # By all of y, so that leaving out rows moves no class.
    table = table.name_classes(labels)
    kept = np.ones(len(table), dtype=bool) if table.unread is None else ~table.unread
    if sample_weight is not None:
        weight = check_sample_weight(sample_weight, table.X, ensure_non_negative=True)
        # A row of no weight is no row: nothing later has to think of it.
        kept &= weight > 0
        if not kept.any():
            raise ValueError("All sample weights are zero: there is no row to learn from.")
    if table.unread is not None:
        warnings.warn(
            f"{table.unread.sum()} of {len(table)} rows of X are NaN throughout, first row "
            f"{table.unread.argmax()}: images that could not be read. They are left out of fit.",
            UserWarning,
            stacklevel=3,
        )
    if not kept.all():
        table = table.take(kept)
        labels = None if labels is None else labels[kept]
        weight = None if weight is None else weight[kept]
    classes, table = table.align(labels)
    if len(classes) < 2:
        raise ValueError(
            f"{taker} needs at least 2 classes; the data has 1 class: {show(classes[0])}."
        )
    codes = None if labels is None else np.searchsorted(classes, labels)
    return table, classes, codes, weight
