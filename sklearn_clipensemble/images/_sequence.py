"""What a user calls images -> a sequence of single images."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from numbers import Number

import numpy as np
import pandas as pd
from PIL import Image

from sklearn_clipensemble.images._sources import is_tensor, opens_when_entered, tensor_to_array


class _ArrowColumn(Sequence):
    """A pyarrow array whose values become Python objects one at a time, as they are read."""

    def __init__(self, array):
        self._array = array

    def __len__(self):
        return len(self._array)

    def __getitem__(self, index):
        return self._array[index].as_py()


def as_sources(X) -> Sequence:
    """Return X as a sequence of single images, or say why it is none."""
    _refuse_one(X)
    if isinstance(X, Mapping):
        raise TypeError(_mapping(X))
    if type(X).__name__ == "LazyFrame":  # of polars; asked for its columns it would warn
        raise TypeError("Expected a sequence of images, got LazyFrame. Pass X.collect().")
    columns = getattr(X, "column_names", None)  # datasets, pyarrow
    columns = getattr(X, "columns", None) if columns is None else columns  # pandas, polars
    if columns is not None and hasattr(X, "__len__"):
        if len(columns) != 1:
            raise ValueError(
                f"Expected one column of images, got a table of {len(columns)} columns: "
                f"{list(columns)[:5]}. Select the column of images: X[column]."
            )
        X = X[columns[0]]
    if isinstance(X, pd.Series | pd.Index):
        X = X.to_list()
    elif type(X).__module__.startswith("pyarrow"):
        X = _ArrowColumn(X)
    elif isinstance(getattr(X, "shape", None), tuple):  # numpy, torch, h5py, zarr, ...
        X = _check_array(X)
        X = tensor_to_array(X, batch=True) if is_tensor(X) else X
    if not hasattr(X, "__len__") or not hasattr(X, "__getitem__"):
        raise TypeError(_no_sequence(X))
    if len(X) == 0:
        raise ValueError("Found no images: X is empty. At least one image is required.")
    return X


def _refuse_one(X) -> None:
    """Refuse a single image or file, whatever its form; arrays are looked at elsewhere."""
    kind = type(X).__name__
    for lists, opens in (("namelist", "open"), ("getmembers", "extractfile")):  # zipfile, tarfile
        if hasattr(X, lists):
            raise TypeError(
                f"Expected a sequence of images, got an archive ({kind}). Pass its files: "
                f"[X.{opens}(name) for name in names]."
            )
    hint = ""
    if isinstance(X, str | os.PathLike):
        what = f"{kind}: {str(X)[:80]!r}"
        if os.path.isdir(os.path.expanduser(X)):
            hint = f" For a folder of images use load_image_folder({os.fspath(X)!r}).paths."
    elif isinstance(X, bytes | bytearray | memoryview):
        what = f"{kind}: {bytes(X[:20])!r}"
    elif isinstance(X, Image.Image):
        what = "PIL image"
    elif isinstance(X, Mapping) and set(X) == {"bytes", "path"}:
        what = "undecoded image"
    elif callable(getattr(X, "read", None)):
        what = f"file object ({kind})"
    elif hasattr(X, "read_bytes") or (opens_when_entered(X) and not hasattr(X, "__len__")):
        what = kind
    else:
        return
    raise TypeError(
        f"Expected a sequence of images, got one {what}. Wrap it in a list: [image].{hint}"
    )


def _mapping(X: Mapping) -> str:
    keys = list(X)
    tables = [key for key in keys[:5] if hasattr(X[key], "column_names")]
    if tables:  # datasets.DatasetDict
        columns = list(X[tables[0]].column_names or ["image"])
        column = "image" if "image" in columns else columns[0]
        return (
            f"Expected a sequence of images, got {type(X).__name__} with the splits {keys[:5]}. Select a "
            f"split and its column of images: X[{tables[0]!r}][{column!r}]."
        )
    key = "paths" if "paths" in keys else keys[0] if keys else "images"
    return (
        f"Expected a sequence of images, got {type(X).__name__} with the keys {keys[:5]}. Select the "
        f"images: X[{key!r}]."
    )


def _no_sequence(X) -> str:
    kind = type(X).__name__
    # Of torch: loaders, and what goes through them.
    if "DataLoader" in kind or (hasattr(X, "dataset") and hasattr(X, "batch_size")):
        return (
            f"Expected a sequence of images, got {kind}, which hands out batches. Batches are made here: "
            "pass the images or paths that it reads, such as [image for image, label in X.dataset], "
            "before they are shuffled or normalised."
        )
    what = f"Expected a sequence of images, got {kind}"
    if isinstance(X, set | frozenset):
        return (
            f"{what}, whose images have no order. Rows follow the order of the images: pass a list."
        )
    if hasattr(X, "__len__"):
        return f"{what}, which cannot be indexed. Pass list(X)."
    if hasattr(X, "__getitem__"):
        return f"{what}, which has no length. Pass a list of the images."
    if hasattr(X, "__iter__"):
        return (
            f"{what}. A generator can be read only once and has no length to check labels against: pass "
            "list(X), or paths."
        )
    return f"{what}, which holds no images."


def _check_array(X):
    """Return an array that holds one image per entry of its first axis."""
    shape, ndim = tuple(X.shape), len(X.shape)
    if ndim == 0:
        raise ValueError(
            "Expected a sequence of images, got an array of no axis. Wrap what it holds in a list: [X.item()]."
        )
    kind = getattr(getattr(X, "dtype", None), "kind", "")  # torch's have none
    if kind in ("O", "U", "S", "T"):
        if ndim > 2 and isinstance(next(iter(np.asarray(X).flat), None), Number | np.generic):
            raise ValueError(
                f"Got an object array of shape {shape} with one number in each place: numpy takes pictures "
                "of one size apart when it makes an array of objects. Pass the list of pictures itself, "
                "or give the array the pictures' own type: X.astype(np.uint8)."
            )
        if ndim == 2 and shape[1] == 1:  # what a ColumnTransformer makes of one column
            return X[:, 0]
        if ndim != 1:
            raise ValueError(
                f"Expected one column of images, got an array of {X.dtype} and shape {shape}. Select the "
                "column of images: X[:, column]."
            )
        return X
    if ndim == 1 and not isinstance(X, np.ndarray) and not is_tensor(X):
        return X
    if ndim not in (3, 4) and shape[0]:
        raise ValueError(
            f"An array of images must have shape (n, H, W) or (n, H, W, C), got {shape}. Reshape your "
            "data, X.reshape(n, H, W), or wrap a single image in a list: [image]."
        )
    if ndim == 3 and shape[0] and (shape[2] <= 4 or (is_tensor(X) and shape[0] in (3, 4))):
        axis = "X[..., None]" if not is_tensor(X) else "X[:, None]"
        raise ValueError(
            f"Expected a sequence of images, got an array of shape {shape}, which is one picture. Wrap it in "
            f"a list: [image]. If it is a stack of grey images, give it an axis of channels: {axis}."
        )
    return X
