"""What labels may be, and how they meet the classes of a table."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import pandas as pd
from sklearn.utils import column_or_1d
from sklearn.utils.multiclass import check_classification_targets

from sklearn_clipensemble._layout import class_key


def check_labels(y) -> np.ndarray:
    """Return ``y`` as a 1-D array of class labels of one type.

    Raises
    ------
    TypeError
        If labels of different types are mixed, such as ``1`` and ``"cat"``.
    ValueError
        If a label is missing (None or NaN) or infinite, or if ``y`` is continuous.
    """
    given = np.asarray(y, dtype=object)
    if given.ndim == 1:
        kinds: dict[str, int] = {}
        for index, label in enumerate(given):
            if label is None or label is pd.NA or label != label:
                raise ValueError(
                    f"The label at index {index} is missing ({label!r}). Input y contains NaN: "
                    "leave unlabelled images out of fit."
                )
            if isinstance(label, float) and np.isinf(label):
                raise ValueError(f"The label at index {index} is infinite ({label!r}).")
            kind = "text" if isinstance(label, str | bytes) else "number"
            kinds.setdefault(kind, index)
        if len(kinds) > 1:
            first, second = sorted(kinds.values())
            raise TypeError(
                "Labels of mixed types: "
                f"{given[first]!r} ({type(given[first]).__name__}) at index {first} and "
                f"{given[second]!r} ({type(given[second]).__name__}) at index {second}. "
                "Use one type for all labels."
            )
    y = column_or_1d(y, warn=True)
    if y.dtype == object and not any(isinstance(label, str | bytes) for label in y):
        y = np.asarray(y.tolist())  # numbers, such as pandas' nullable ones
    with warnings.catch_warnings():
        # One example of each of many classes is not a regression problem.
        warnings.filterwarnings("ignore", "The number of unique classes is greater", UserWarning)
        check_classification_targets(y)
    if y.dtype == object and all(isinstance(label, str) for label in y):
        y = y.astype(str)
    return y


#: Said where labels are numbers that nobody named.
NUMBERED = (
    "VotingClassifier, StackingClassifier and CalibratedClassifierCV number the labels in sorted "
    "order before they hand them on: inside them, use the whole pipeline with "
    "ZeroShotLogits(class_names=sorted(labels))."
)


def align_classes(keys: Sequence[str], y: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Find the label of every class of a table.

    Parameters
    ----------
    keys : sequence of str
        The class keys of the table's logit columns; empty where it has none.
    y : ndarray of shape (n_samples,) or None
        The labels; None where there are none, and the keys are the labels.

    Returns
    -------
    classes : ndarray of shape (n_classes,)
        The labels in sorted order, of the type of ``y``. Classes without a
        labelled example are among them.
    order : ndarray of shape (n_classes,)
        Position of each of them in ``keys``.
    """
    if y is None:
        classes = np.asarray(keys, dtype=str)
        order = np.argsort(classes, kind="stable")
        return classes[order], order
    seen = np.unique(y)
    if not len(keys):
        return seen, np.arange(len(seen))
    label_of = {class_key(label): label for label in seen}
    unknown = [label for key, label in label_of.items() if key not in keys]
    if unknown:
        shown = ", ".join(keys[:8]) + (", ..." if len(keys) > 8 else "")
        raise ValueError(
            f"The label {str(unknown[0])!r} in y has no logit column in the table (one of {len(unknown)} "
            f"such labels). The table's classes are: {shown}. Fit ZeroShotLogits on all labels, or "
            f"pass it class_names. {NUMBERED if seen.dtype.kind in 'iu' else ''}".rstrip()
        )
    labels = [label_of[key] if key in label_of else _label(key, seen) for key in keys]
    if seen.dtype.kind not in "UO":
        # In the type of y, or in a wider one where a class does not fit it.
        labels = np.asarray(labels, dtype=np.result_type(seen, *map(np.min_scalar_type, labels)))
    classes = np.asarray(labels)
    order = np.argsort(classes, kind="stable")
    return classes[order], order


def _label(key, seen):
    """Return the label, of the type of those seen, that a class key stands for."""
    kind = seen.dtype.kind
    read = {"b": {"False": False, "True": True}.get, "i": int, "u": int, "f": float}.get(kind, str)
    try:
        label = read(key)
        same = label is not None and class_key(label) == key
    except (ValueError, OverflowError):
        same = False
    if not same:
        raise ValueError(
            f"The table has a class {key!r} that is not of the type of y's labels ({seen[0]!r}, "
            f"{seen.dtype}). Give the labels as text, or the classes' columns other names."
        )
    return label
