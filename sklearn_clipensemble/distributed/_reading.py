"""Files of embeddings -> the table that the steps take."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pandas as pd

from sklearn_clipensemble.distributed._parts import ERROR, KEY, SIZE, THREADS
from sklearn_clipensemble.table._layout import Layout, is_column, packed_backbone


def read_embeddings(source: str | os.PathLike | pd.DataFrame) -> pd.DataFrame:
    """Read a table of embeddings from parquet, in either of its forms.

    Files hold one column of lists for each backbone, ``{backbone}__embedding``, as :func:`embed` and
    :class:`EmbedBatch` write them, or one column for each number, ``{backbone}__embedding__{i}``, as a
    saved table of :class:`~sklearn_clipensemble.CLIPEmbedder` has them.

    Parameters
    ----------
    source : path, URL or DataFrame
        The folder that :func:`embed` wrote, a parquet file, or what another reader, such as
        ``pandas.read_parquet``, made of either.

    Returns
    -------
    DataFrame of float32, shape (n_images, n_columns)
        The table as the other steps take it, with one column for each number. The columns that are no
        backbone's, such as ``path``, become its index; those that only :func:`embed` needs are left out.
        Rows of images that could not be read are NaN.

    Raises
    ------
    FileNotFoundError
        If there is no such file, or no parquet file in the folder.
    ImportError
        If pyarrow is missing.
    ValueError
        If no column is a backbone's, or the files have different ones.

    See Also
    --------
    embed : Writes such a folder.

    Examples
    --------
    >>> import pandas as pd
    >>> from sklearn_clipensemble.distributed import read_embeddings
    >>> frame = pd.DataFrame({"path": ["a.jpg", "b.jpg"], "small__embedding": [[0.6, 0.8], [1.0, 0.0]]})
    >>> read_embeddings(frame)
           small__embedding__0  small__embedding__1
    path
    a.jpg                  0.6                  0.8
    b.jpg                  1.0                  0.0
    """
    if isinstance(source, pd.DataFrame):
        layout, others, values = _take_apart(source, "The DataFrame")
        return pd.DataFrame(values, columns=layout.names, index=_as_index(others), copy=False)
    try:
        import pyarrow.parquet as pq
    except ImportError as error:
        raise ImportError(
            "Parquet is read with pyarrow, which is missing: pip install pyarrow."
        ) from error
    from fsspec.core import url_to_fs

    filesystem, path = url_to_fs(os.fspath(source))
    files = _find(filesystem, path) if filesystem.isdir(path) else [path]

    def count(file):
        with filesystem.open(file, "rb") as opened:
            return pq.read_metadata(opened).num_rows

    with ThreadPoolExecutor(THREADS) as pool:
        n_rows = sum(pool.map(count, files))
    whole: Any = None  # made once: parts of it beside it would take the memory twice
    descriptions, start = [], 0
    for file in files:
        with filesystem.open(file, "rb") as opened:
            layout, others, values = _take_apart(pq.read_table(opened), repr(file))
        if whole is None:
            first, whole = layout, np.empty((n_rows, layout.n_features), np.float32)
        if layout != first:
            raise ValueError(f"{file!r} has other columns of backbones than {files[0]!r}.")
        whole[start : start + len(values)] = values
        start += len(values)
        descriptions.append(others)
    unnamed = len(files) > 1 and isinstance(descriptions[0].index, pd.RangeIndex)
    others = pd.concat(descriptions, ignore_index=unnamed)
    if KEY in others:
        # Of a row that was embedded again in a run that was interrupted, the last counts.
        last = ~others[KEY].duplicated(keep="last").to_numpy()
        others, whole = (others, whole) if last.all() else (others[last], whole[last])
    return pd.DataFrame(whole, columns=first.names, index=_as_index(others), copy=False)


def _find(filesystem, folder: str) -> list[str]:
    """Return the parquet files below a folder; what begins with a dot or an underscore is passed over."""
    found = sorted(file for file in filesystem.find(folder) if file.endswith(".parquet"))
    below = {file: file.removeprefix(folder).replace("/_", "/.") for file in found}
    files = [file for file in found if "/." not in below[file]]
    if not files:
        raise FileNotFoundError(f"There is no parquet file in {folder!r}.")
    return files


def _take_apart(table, what: str) -> tuple[Layout, pd.DataFrame, np.ndarray]:
    """Return a table's layout, its columns that are no backbone's, and the numbers."""
    is_frame = isinstance(table, pd.DataFrame)
    names = list(table.columns) if is_frame else table.column_names
    vectors = {b: name for name in names if (b := packed_backbone(name))}
    plain = [name for name in names if is_column(name)]
    used = [*vectors.values(), *plain]
    if not used:
        raise ValueError(
            f"{what} has no column of a backbone, such as 'RN50/openai__embedding'; it has {names[:5]}."
        )
    if vectors and plain:
        raise ValueError(f"{what} has embeddings in both forms: {used[0]!r} and {plain[0]!r}.")
    # One choice of columns: to drop thousands of them one after the other takes seconds.
    rest = [name for name in names if packed_backbone(name) is None and not is_column(name)]
    others = table[rest] if is_frame else table.select(rest).to_pandas()
    if plain:
        values = table[plain] if is_frame else table.select(plain).to_pandas()
        layout: Any = Layout.from_names(plain)
        return layout, others, values.to_numpy(np.float32)
    matrices = {b: _matrix(name, table[name]) for b, name in vectors.items()}
    layout = Layout({b: matrix.shape[1] for b, matrix in matrices.items()})
    return layout, others, np.hstack(list(matrices.values()))


def _matrix(name: str, column: Any) -> np.ndarray:
    """Return a column of lists, of pandas or pyarrow, as an array."""
    if isinstance(column, pd.Series):
        lists = [np.asarray(vector, np.float32) for vector in column]
        flat, lengths = np.concatenate([v.ravel() for v in lists]), {v.shape for v in lists}
    else:
        import pyarrow.compute as pc

        column = column.combine_chunks()
        flat, lengths = column.flatten().to_numpy(), set(pc.list_value_length(column).to_pylist())
    if len(lengths) > 1:
        raise ValueError(
            f"The column {name!r} holds lists of different lengths, which are no embeddings."
        )
    return flat.reshape(len(column), -1).astype(np.float32, copy=False)


def _as_index(others: pd.DataFrame) -> pd.Index:
    """Return the index that tells rows apart: the columns of the user, or else the keys."""
    names = [name for name in others if name not in (KEY, SIZE, ERROR)]
    if not names and KEY in others:
        names = [KEY]
    if not names:
        return others.index
    if len(names) == 1:
        return pd.Index(others[names[0]])
    return pd.MultiIndex.from_frame(others[names])
