"""What labels may be, and how they meet the classes of a table."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy.sparse import issparse
from sklearn.utils import column_or_1d
from sklearn.utils.multiclass import check_classification_targets

from sklearn_clipensemble.table._layout import class_key, show


def check_labels(y, where: str = "") -> np.ndarray:
    """Return ``y`` as a 1-D array of texts or numbers, or raise an error that says ``where`` it is not."""
    where = where and f" {where}"
    given = np.asarray(y, dtype=object)
    if issparse(y) or (given.ndim > 1 and given.shape[1:] != (1,)):
        raise ValueError(f"y has the shape {np.shape(y)}. {ONE_EACH}")
    if given.ndim == 0:
        y = given[()]
        what = f"a {type(y).__name__}" if isinstance(y, Iterable) and not is_text(y) else show(y)
        raise ValueError(f"y is {what}, not one label for each image. Pass a list or an array.")
    if not given.size:
        raise ValueError(f"y is empty{where}. Expected one label for each image.")
    kinds: dict[str, int] = {}
    for index, label in enumerate(given.ravel()):
        kinds.setdefault(_kind(label, index, where), index)
    if len(kinds) > 1:
        first, second = sorted(kinds.values())
        labels = given.ravel()
        raise TypeError(
            f"Labels of mixed types{where}: "
            f"{show(labels[first])} ({type(labels[first]).__name__}) at index {first} and "
            f"{show(labels[second])} ({type(labels[second]).__name__}) at index {second}. "
            "Use one type for all labels."
        )
    # NumPy's own types are kept. scikit-learn knows nothing of StringDType, and turns pandas' nullable
    # integers into floats.
    dtype = getattr(y, "dtype", None)
    y = column_or_1d(
        y if isinstance(dtype, np.dtype) and dtype.kind in "biufU" else given, warn=True
    )
    if y.dtype == object:
        y = y.astype(str) if "text" in kinds else np.asarray(y.tolist())
    with warnings.catch_warnings():
        # One example of each of many classes is not a regression problem.
        warnings.filterwarnings("ignore", "The number of unique classes is greater", UserWarning)
        check_classification_targets(y)
    return y


def _kind(label: Any, index: int, where: str) -> str:
    """Return whether a label is a "text" or a "number"; an error that names it where it is neither."""
    name = f"The label at index {index}{where}"
    if is_text(label):
        if not label.strip():
            raise ValueError(
                f"{name} is an empty text ({show(label)}), as a table leaves for a gap. Leave "
                "unlabelled images out, or give the class a name."
            )
        return "text"
    if isinstance(label, bytes):
        raise TypeError(f"{name} is bytes, {show(label)}. Pass texts: label.decode().")
    if isinstance(label, Collection) and getattr(label, "ndim", 1) > 0:
        raise ValueError(f"{name} is a {type(label).__name__}, {show(label)}. {ONE_EACH}")
    if label is None or label is pd.NA or label != label:
        reason = "" if where else " Input y contains NaN: leave unlabelled images out."
        raise ValueError(f"{name} is missing ({show(label)}).{reason}")
    kind = np.asarray(label).dtype.kind
    if kind not in "biuf":
        raise TypeError(
            f"{name} is of type {type(label).__name__}, {show(label)}. A label is a text or a number, of 64 "
            "bits at most."
        )
    if kind == "f" and np.isinf(label):
        raise ValueError(f"{name} is infinite ({show(label)}).")
    return "number"


def is_text(label: object) -> bool:
    """Return whether a label is a text; otherwise it is a number."""
    return isinstance(label, str)


def list_some(labels: Iterable) -> str:
    """Write the first eight labels, and how many more there are."""
    labels = list(labels)
    more = f" and {len(labels) - 8} more" if len(labels) > 8 else ""
    return ", ".join(map(show, labels[:8])) + more


#: Said where there are several labels for an image.
ONE_EACH = (
    "Expected one label for each image, in one dimension. Pass y.argmax(axis=1) if the rows are "
    "one-hot; for several labels per image, put the whole classifier into scikit-learn's "
    "MultiOutputClassifier."
)

#: Said where labels are numbers that nobody named.
NUMBERED = (
    "If your labels are words: VotingClassifier, StackingClassifier, BaggingClassifier, "
    "CalibratedClassifierCV(ensemble=False) and cross_val_predict(method='predict_proba') hand on "
    "0, 1, ... for the sorted labels of y; inside them, use the whole pipeline with "
    "ZeroShotLogits(class_names=sorted(set(y))), or class_names=dict(enumerate(sorted(set(y)))) where "
    "a split inside of them may lack a class. OneVsRestClassifier, OneVsOneClassifier, "
    "OutputCodeClassifier and ClassifierChain hand on two numbers for 'this class' and 'not this "
    "class', which no words name: use the pipeline without them, it tells many classes apart."
)


def align_classes(keys: Sequence[str], y: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Return the sorted labels of a table's classes, and the position of each in ``keys``.

    Labels are of the type of ``y``; classes without a labelled example are among
    them. Without ``y`` the keys are the labels, without keys ``y`` has them all.
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
        raise ValueError(
            f"The label {str(unknown[0])!r} in y has no logit column in the table (one of {len(unknown)} "
            f"such labels). The table's classes are: {list_some(keys)}. Fit ZeroShotLogits on all labels, or "
            f"pass it class_names. {NUMBERED if seen.dtype.kind in 'iu' else ''}".rstrip()
        )
    labels = [label_of[key] if key in label_of else _label(key, seen) for key in keys]
    dtype = None
    if seen.dtype.kind not in "UO":
        # In the type of y, or in a wider one where a class without an example does not fit it.
        unseen = [label for label in labels if not isinstance(label, np.generic)]
        dtype = np.result_type(seen, *map(np.min_scalar_type, unseen))
    classes = np.asarray(labels, dtype=dtype)
    order = np.argsort(classes, kind="stable")
    return classes[order], order


def unseen_labels(y: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Return which of the labels ``y`` are none of the classes, ``(n_samples,)``."""
    if {y.dtype.kind, classes.dtype.kind} <= set("biuf"):
        return ~np.isin(y, classes)
    labels, inverse = np.unique(y, return_inverse=True)
    known = set(map(class_key, classes))
    return np.array([class_key(label) not in known for label in labels], dtype=bool)[inverse]


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
            f"The table has a class {key!r} that is not of the type of y's labels ({show(seen[0])}, "
            f"{seen.dtype}). Give the labels as text, or the classes' columns other names."
        )
    return label
