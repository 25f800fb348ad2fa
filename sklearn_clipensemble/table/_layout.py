"""The table between the steps: which column belongs to which backbone.

The only code that writes or reads column names. A column is
``{backbone}__embedding__{i}`` or ``{backbone}__logit__{class}``; in files and batches, where thousands
of columns are slow, ``{backbone}__embedding`` is a column of lists.
"""

from __future__ import annotations

import functools
import os
import re
import reprlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from numbers import Integral, Real
from typing import Any

import numpy as np
import pandas as pd
from scipy.sparse import issparse

from sklearn_clipensemble._runtime import cached_property

_COLUMN = re.compile(r"^(?P<backbone>.+?)__(?P<kind>embedding|logit)__(?P<key>.+)$", re.DOTALL)
#: What ends the name of a column of lists, a backbone's whole embedding.
_PACKED = "__embedding"


def class_key(label: object) -> str:
    """Return the text that stands for a label in a column name.

    Whole numbers lose their type (``3``, ``3.0`` and ``np.int64(3)`` are all
    ``"3"``), so that a table written with integer labels is understood when
    the labels come back as floats.
    """
    if isinstance(label, Real) and not isinstance(label, bool | np.bool_):
        whole = int(label)  # type: ignore[call-overload]
        if label == whole:
            return str(whole)
    return str(label)


_short = reprlib.Repr()
_short.maxstring = _short.maxother = 100


def show(value: object) -> str:
    """Write a value for a message, as Python does and not as NumPy does: ``'cat'`` for ``np.str_('cat')``."""
    return _short.repr(value.item() if isinstance(value, np.generic) else value)


def _as_slice(columns: Sequence[int]) -> slice | np.ndarray:
    """Return a slice where the columns stand side by side, so that reading them copies nothing."""
    if len(columns) and columns == list(range(columns[0], columns[0] + len(columns))):
        return slice(columns[0], columns[0] + len(columns))
    return np.asarray(columns, dtype=np.intp)


def _check_widths(widths) -> dict[str, int]:
    if not isinstance(widths, Mapping | pd.Series):
        raise TypeError(
            f"widths: expected a mapping from backbone to width, got {type(widths).__name__}."
        )
    if not len(widths):
        raise ValueError("A layout needs at least one backbone.")
    for backbone, width in widths.items():
        if (
            not isinstance(backbone, str)
            or not backbone
            or "__embedding__" in backbone
            or "__logit__" in backbone
        ):
            raise ValueError(
                f"A backbone cannot be called {backbone!r}: expected a text without '__embedding__' and "
                "'__logit__', which separate the parts of a column's name."
            )
        if not isinstance(width, Integral) or width < 0:
            raise ValueError(
                f"The width of backbone {backbone!r} is {show(width)}; expected a whole number of columns, 0 "
                "where the table holds no embedding."
            )
    return dict(widths)


def _check_classes(classes) -> tuple[str, ...]:
    if isinstance(classes, str | bytes):
        raise TypeError(f"classes: got one text, {show(classes)}. Pass a list of the classes.")
    if isinstance(classes, Set):
        raise TypeError(
            f"classes: got a {type(classes).__name__}, which has no order. Pass a list of the classes, in the "
            "order of their columns."
        )
    keys = tuple(map(class_key, classes))
    if "" in keys:
        raise ValueError(f"The class at index {keys.index('')} has no name.")
    twice = [key for key, n in Counter(keys).items() if n > 1]
    if twice:
        raise ValueError(f"The class {twice[0]!r} is given twice.")
    return keys


def _check_with_logits(given, widths, classes) -> tuple[str, ...]:
    if given is None:
        return tuple(widths) if classes else ()
    unknown = [backbone for backbone in given if backbone not in widths]
    if unknown:
        raise ValueError(
            f"with_logits names {show(unknown[0])}, which is none of the backbones: {', '.join(widths)}."
        )
    if bool(len(given)) != bool(classes):
        raise ValueError(
            f"The layout has {len(classes)} classes and {len(given)} backbones with logits; give both or "
            "neither."
        )
    return tuple(backbone for backbone in widths if backbone in given)


@dataclass(frozen=True)
class Layout:
    """Which columns of a table are which backbone's embedding and zero-shot logits.

    Parameters
    ----------
    widths : mapping of str to int
        Backbone id -> width of its embedding; 0 where the table holds none.
    classes : sequence of labels, default=()
        The classes that have a zero-shot logit, the same for every backbone that
        has logits, as texts or numbers; kept as the texts that stand for them in
        column names. Empty where the table holds no logits.
    with_logits : sequence of str or None, default=None
        Ids of the backbones that have logits; the others, such as vision models
        without a text tower, have an embedding only. None means all.

    Examples
    --------
    >>> layout = Layout({"RN50/openai": 2, "ViT-B-32/openai": 1}, classes=["cat", "dog"])
    >>> layout.backbones
    ('RN50/openai', 'ViT-B-32/openai')
    >>> layout.names[:4]  # doctest: +NORMALIZE_WHITESPACE
    ['RN50/openai__embedding__0', 'RN50/openai__embedding__1',
     'RN50/openai__logit__cat', 'RN50/openai__logit__dog']
    >>> Layout.from_names(layout.names) == layout
    True
    """

    widths: Mapping[str, int]
    classes: Sequence[Any] = ()
    with_logits: Sequence[str] = None  # type: ignore[assignment]
    _embedding: Mapping[str, slice | np.ndarray] = field(init=False)
    _logits: Mapping[str, slice | np.ndarray] = field(init=False)

    def __post_init__(self):
        object.__setattr__(self, "widths", _check_widths(self.widths))
        object.__setattr__(self, "classes", _check_classes(self.classes))
        chosen = _check_with_logits(self.with_logits, self.widths, self.classes)
        object.__setattr__(self, "with_logits", chosen)
        bare = [b for b, width in self.widths.items() if not width and b not in chosen]
        if bare:
            raise ValueError(
                f"The backbone {bare[0]!r} has no columns: neither an embedding nor logits."
            )
        embedding: dict[str, slice] = {}
        logits: dict[str, slice] = {}
        start = 0
        for backbone, width in self.widths.items():
            embedding[backbone] = slice(start, start + width)
            start += width
            if backbone in chosen:
                logits[backbone] = slice(start, start + len(self.classes))
                start += len(self.classes)
        object.__setattr__(self, "_embedding", embedding)
        object.__setattr__(self, "_logits", logits)

    def __eq__(self, other):
        return isinstance(other, Layout) and self._names == other._names

    def __hash__(self):
        return hash(self._names)

    def __getstate__(self):
        # Names are worked out again where they are needed: they are longer than all the rest.
        worked_out = "_names", "_index", "_compared"
        return {key: value for key, value in vars(self).items() if key not in worked_out}

    def __repr__(self):
        mixed = self.classes and self.with_logits != self.backbones
        with_logits = f", with_logits={reprlib.repr(self.with_logits)}" if mixed else ""
        return f"Layout({reprlib.repr(self.widths)}, {reprlib.repr(self.classes)}{with_logits})"

    @classmethod
    def from_names(cls, names: Iterable[str]) -> Layout | None:
        """Read a layout from column names; None where no name is a backbone's.

        Parameters
        ----------
        names : iterable of str
            The names of all columns.

        Returns
        -------
        Layout or None
            The layout, with backbones and classes in the order of the columns.

        Raises
        ------
        ValueError
            If only some columns are backbone columns, if a backbone lacks the
            logit of a class that another one has, or if embedding columns are
            missing or doubled. The message names the column.
        """
        embedding: dict[str, dict[Any, int]] = {}
        logits: dict[str, dict[Any, int]] = {}
        strangers = []
        for position, name in enumerate(names):
            match = _COLUMN.match(name) if isinstance(name, str) else None
            if match is None or (match["kind"] == "embedding" and not match["key"].isdecimal()):
                strangers.append(name)
                continue
            backbone = match["backbone"]
            of_embedding = embedding.setdefault(backbone, {})
            of_logits = logits.setdefault(backbone, {})
            group, key = (
                (of_embedding, int(match["key"]))
                if match["kind"] == "embedding"
                else (of_logits, match["key"])
            )
            if key in group:
                raise ValueError(f"The column {name!r} is in the table twice.")
            group[key] = position
        if not embedding:
            return None
        if strangers:
            raise ValueError(
                f"The column {strangers[0]!r} is not a backbone's (one of {len(strangers)}). A table "
                "of backbones holds only '{backbone}__embedding__{i}' and '{backbone}__logit__{class}' "
                "columns; drop the others or keep them for another step."
            )
        for backbone, columns in embedding.items():
            missing = set(range(len(columns))) - set(columns)
            if missing:
                raise ValueError(f"The column '{backbone}__embedding__{min(missing)}' is missing.")
        classes = tuple(next((group for group in logits.values() if group), {}))
        for backbone, group in logits.items():
            odd = [c for c in classes if c not in group] + [c for c in group if c not in classes]
            if group and odd:
                what = "is missing" if odd[0] not in group else "has no counterpart in the others"
                raise ValueError(f"The column '{backbone}__logit__{odd[0]}' {what}.")
        with_logits = [backbone for backbone, group in logits.items() if group]
        layout = cls({b: len(columns) for b, columns in embedding.items()}, classes, with_logits)
        where = {b: _as_slice([c[i] for i in range(len(c))]) for b, c in embedding.items()}
        object.__setattr__(layout, "_embedding", where)
        where = {b: _as_slice([logits[b][k] for k in classes]) for b in with_logits}
        object.__setattr__(layout, "_logits", where)
        return layout

    @property
    def backbones(self) -> tuple[str, ...]:
        """The ids of the backbones, in the order of the table."""
        return tuple(self.widths)

    @property
    def n_features(self) -> int:
        """The number of columns."""
        return sum(self.widths.values()) + len(self.with_logits) * len(self.classes)

    @property
    def names(self) -> list[str]:
        """The names of all columns, in the order of the table."""
        return list(self._names)

    @cached_property
    def _index(self) -> pd.Index:
        return _index_of(self._names)

    def _is_named(self, names: np.ndarray | None) -> bool:
        """Return whether an array holds the names of all columns; the same array is looked at once."""
        if names is not None and vars(self).get("_compared") is not names:
            if names.tolist() != self.names:
                return False
            object.__setattr__(self, "_compared", names)
        return names is not None

    @cached_property
    def _names(self) -> tuple[str, ...]:
        names: list[str] = [""] * self.n_features
        positions = np.arange(self.n_features)
        for b in self.widths:
            for i, position in enumerate(positions[self._embedding[b]]):
                names[position] = f"{b}__embedding__{i}"
            if b in self.with_logits:
                for key, position in zip(self.classes, positions[self._logits[b]], strict=True):
                    names[position] = f"{b}__logit__{key}"
        return tuple(names)

    def embedding(self, X: np.ndarray, backbone: str) -> np.ndarray:
        """Return one backbone's embedding; a view where its columns adjoin.

        Parameters
        ----------
        X : ndarray of shape (n_samples, n_features)
            The numbers of a table of this layout.
        backbone : str
            The id of the backbone.

        Returns
        -------
        ndarray of shape (n_samples, width)
            The embedding.
        """
        return X[:, self._embedding[backbone]]

    def pack(self, X: np.ndarray) -> dict[str, np.ndarray]:
        """Return one column of vectors for each backbone's embedding, as files and batches hold them.

        Parameters
        ----------
        X : ndarray of shape (n_samples, n_features)
            The numbers of a table of this layout.

        Returns
        -------
        dict of str to ndarray of shape (n_samples, width)
            ``{backbone}__embedding`` -> the embedding.
        """
        return {f"{b}{_PACKED}": self.embedding(X, b) for b, width in self.widths.items() if width}

    def logits(self, X: np.ndarray, backbone: str) -> np.ndarray:
        """Return one backbone's zero-shot logits; a view where their columns adjoin.

        Parameters
        ----------
        X : ndarray of shape (n_samples, n_features)
            The numbers of a table of this layout.
        backbone : str
            The id of the backbone.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            The logits.
        """
        if backbone not in self.with_logits:
            raise ValueError(f"The backbone {backbone!r} has no zero-shot logits in this table.")
        return X[:, self._logits[backbone]]


@functools.lru_cache(maxsize=8)
def _index_of(names: tuple[str, ...]) -> pd.Index:
    """Return the same object for the same names, so that comparing it with itself takes no time."""
    return pd.Index(names)


def as_frame(rows: np.ndarray, layout: Layout, index: Any) -> pd.DataFrame:
    """Return numbers as the DataFrame of a layout; they are not copied."""
    # A view, since who names the axis of columns changes the object that holds them.
    return pd.DataFrame(rows, columns=layout._index.view(), index=index, copy=False)


def numbers_as_seen(X: Any, estimator: Any, seen: Layout) -> np.ndarray | None:
    """Return the numbers of a DataFrame just as ``estimator`` was fitted on; None for anything else.

    A short cut: checks of a thousand columns one by one take longer than to answer for one image.
    Where columns and order are those of fit, all numbers floats of one type and finite, there is
    nothing left for them to find. All else has to be looked at, and refused by name.
    """
    if type(X) is not pd.DataFrame or not len(X) or not seen._index.equals(X.columns):
        return None
    if not seen._is_named(getattr(estimator, "feature_names_in_", None)):
        return None
    values = X.to_numpy()
    # One block of numbers is handed out as it is. Columns of several types, or sparse ones, are put
    # together anew each time.
    if values.dtype not in (np.float32, np.float64) or not np.may_share_memory(
        values, X.to_numpy()
    ):
        return None
    with np.errstate(over="ignore", invalid="ignore"):
        return values if np.isfinite(values.sum(dtype=np.float64)) else None


def packed_backbone(name: object) -> str | None:
    """Return the backbone whose whole embedding a column of this name holds as lists, or None."""
    if not isinstance(name, str) or not name.endswith(_PACKED):
        return None
    return name.removesuffix(_PACKED) or None


def is_column(name: object) -> bool:
    """Return whether a column of this name holds numbers of a backbone."""
    return isinstance(name, str) and bool(_COLUMN.match(name))


def part_of(layout: Layout, backbones: Sequence[str]) -> Layout:
    """Return the layout of the columns of some backbones."""
    with_logits = [b for b in backbones if b in layout.with_logits]
    classes = layout.classes if with_logits else ()
    return Layout({b: layout.widths[b] for b in backbones}, classes, with_logits)


def check_backbones(layout: Layout | None, known: Layout) -> None:
    """Raise a ValueError that names the backbones by which two tables differ."""
    if layout is None or set(layout.backbones) == set(known.backbones):
        return
    missing = [b for b in known.backbones if b not in layout.backbones]
    unexpected = [b for b in layout.backbones if b not in known.backbones]
    message = f"The table's backbones are not those seen at fit: missing {missing}, unexpected {unexpected}."
    if any(a.endswith(f"__{b}") for m in missing for u in unexpected for a, b in ((m, u), (u, m))):
        message += (
            " One has a prefix, as ColumnTransformer and FeatureUnion put it before names. Build those "
            "with verbose_feature_names_out=False."
        )
    raise ValueError(message)


def refuse_what_is_no_table(X: object, taker: str) -> None:
    """Raise an error that says what to hand to ``taker``, where X is sparse or holds images or paths."""
    dense = None
    if issparse(X):
        dense = "X.toarray()"
    elif str(getattr(X, "layout", "")).startswith("torch.sparse"):
        dense = "X.to_dense()"
    elif isinstance(X, pd.DataFrame):
        if not X.columns.is_unique:
            twice = X.columns[X.columns.duplicated()][0]
            raise ValueError(f"The column {twice!r} is in the table twice.")
        if any(isinstance(d, pd.SparseDtype) for d in X.dtypes):
            dense = "X.sparse.to_dense()"
    if dense is not None:
        raise TypeError(
            f"X is sparse data ({type(X).__name__}); {taker} takes a dense table, since embeddings have no "
            f"zeros to leave out. Pass {dense}."
        )
    dtype, shape = str(getattr(X, "dtype", "")), getattr(X, "shape", ())
    if isinstance(X, str | bytes | os.PathLike):
        what = f"X is {show(X)}"
    elif type(X).__module__.startswith("datasets.") or not (
        isinstance(X, list | tuple) or hasattr(X, "shape") or hasattr(X, "__array__")
    ):
        what = f"X is a {type(X).__name__}"
    elif len(shape) > 3 or (len(shape) == 3 and dtype.endswith("uint8")):
        what = f"X has the shape {tuple(shape)} and the type {dtype}, as a stack of images has"
    elif isinstance(X, list | tuple) and len({np.shape(x) for x in X if np.ndim(x) == 2}) > 1:
        what = "X holds arrays of different shapes, as images are"
    else:
        image = next(filter(_is_image, _first_row(X)), None)
        if image is None:
            return
        n_dims = getattr(image, "ndim", 0)
        what = f"X holds {f'an array of shape {tuple(image.shape)}' if n_dims else show(image)} in row 0"
    steps = dict.fromkeys(["CLIPEmbedder()", "ZeroShotLogits()"])
    if taker[0].isupper():  # a class, and not a function
        steps[f"{taker}()"] = None
    raise ValueError(
        f"{what}. {taker} takes a table of numbers, such as CLIPEmbedder makes of images and paths: "
        f"make_pipeline({', '.join(steps)})."
    )


def _first_row(X) -> list:
    """Return what lies in the first row of X, where that may be anything but numbers."""
    columns = getattr(X, "columns", None)
    if columns is not None:
        # A table of backbones is wide, and holds no images.
        if any(_COLUMN.match(name) for name in columns if isinstance(name, str)) or not len(X):
            return []
        return X.iloc[0].tolist() if hasattr(X, "iloc") else np.asarray(X[:1], object)[0].tolist()
    if not isinstance(X, list | tuple) and len(getattr(X, "shape", ())) not in (1, 2):
        return []
    if getattr(getattr(X, "dtype", None), "kind", "O") not in "OUST" or not len(X):
        return []
    first = X.iloc[0] if hasattr(X, "iloc") else X[0]
    return list(first) if isinstance(first, list | tuple) or np.ndim(first) == 1 else [first]


def _is_image(value) -> bool:
    """Return whether a value is an image, a file or a text that is no number."""
    if isinstance(value, str):
        try:
            float(value)
        except ValueError:
            return True
        return False
    n_dims = getattr(value, "ndim", 0)
    return (
        isinstance(value, bytes | os.PathLike)
        or hasattr(value, "read")
        or type(value).__module__.startswith("PIL.")
        or n_dims > 2
        or (n_dims == 2 and str(getattr(value, "dtype", "uint8")).endswith("uint8"))
    )
