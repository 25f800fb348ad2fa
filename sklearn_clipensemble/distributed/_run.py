"""Rows in, parts out, until none is missing."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from sklearn.utils import Bunch

from sklearn_clipensemble._compat import Interval, validate_params
from sklearn_clipensemble.backbones import Backbone
from sklearn_clipensemble.distributed import _ray
from sklearn_clipensemble.distributed._batches import EmbedBatch, is_path
from sklearn_clipensemble.distributed._parts import Known, Parts, row_keys
from sklearn_clipensemble.embedding import CLIPEmbedder
from sklearn_clipensemble.embedding._stream import Progress
from sklearn_clipensemble.images import as_sources

if TYPE_CHECKING:
    import ray.data

#: How often what is missing is tried again, after workers or nodes were lost.
_PASSES = 20
#: Parameters of CLIPEmbedder that say what a row is; the others are each worker's own.
_OPTIONS = ("precision", "batch_size", "decode", "exif_transpose", "on_error")


@validate_params(
    {
        "backbones": [str, os.PathLike, "array-like", Backbone],
        "column": [str, None],
        "n_workers": [Interval(Integral, 1, None, closed="left"), None],
        "num_cpus": [Interval(Integral, 1, None, closed="left"), None],
        "num_gpus": [Interval(Real, 0, None, closed="left"), None],
        "rows_per_part": [Interval(Integral, 1, None, closed="left")],
        "verbose": ["verbose"],
    },
    prefer_skip_nested_validation=True,
)
def embed(
    images: Sequence | pd.DataFrame | ray.data.Dataset,
    output: str | os.PathLike,
    *,
    backbones: str | Backbone | Sequence = "openai-small",
    column: str | None = None,
    filesystem: Any = None,
    n_workers: int | None = None,
    num_cpus: int | None = None,
    num_gpus: float | None = None,
    rows_per_part: int = 1024,
    verbose: int = 0,
    **options: Any,
) -> Bunch:
    """Embed images on a Ray cluster, and write the table to parquet.

    Every worker loads the weights once, and writes what it has embedded itself, as files that are whole or
    not there. A call after one that was interrupted, or with more images, embeds what is missing and
    nothing else.

    Parameters
    ----------
    images : sequence of paths, DataFrame or ray.data.Dataset
        Paths or URLs (``"s3://..."``, whatever fsspec opens); a DataFrame with a column of them; or a
        dataset with a column of paths, encoded bytes or arrays. Other columns are written beside the
        embeddings.
    output : path or URL
        The folder to write to, which all nodes must see.
    backbones : str, Backbone or sequence of them, default="openai-small"
        As in :class:`~sklearn_clipensemble.CLIPEmbedder`. All nodes must have the same weights.
    column : str or None, default=None
        The column of images; None takes the only one, or else "image" or "path".
    filesystem : fsspec or pyarrow filesystem or None, default=None
        Where paths lead to; None goes by the beginning of each, and takes those without a scheme for
        files, which all nodes must see.
    n_workers : int or None, default=None
        The most workers at a time; None has as many as the cluster has room for.
    num_cpus : int or None, default=None
        CPUs of a worker: the threads that decode and, without a GPU, multiply. None shares out those of
        a node, up to 16 each, but for one that is left to read data.
    num_gpus : float or None, default=None
        GPUs of a worker; None takes one where the cluster has any.
    rows_per_part : int, default=1024
        Rows that are embedded together and become one file. No more are lost with a worker.
    verbose : int, default=0
        Whether to show progress.
    **options : dict
        The parameters ``precision``, ``batch_size``, ``decode``, ``exif_transpose`` and ``on_error`` of
        :class:`~sklearn_clipensemble.CLIPEmbedder`. With ``on_error="nan"``, the file
        ``_unreadable.csv`` in the folder lists the images that could not be read.

    Returns
    -------
    Bunch
        ``n_rows`` in the folder, how many of them this call has embedded (``n_new``), and how many are
        NaN (``n_unreadable``).

    Raises
    ------
    RuntimeError
        If workers died or nodes were lost so often that rows are missing; the message names some. What
        is there is whole, and another call goes on with the rest.
    FileNotFoundError, PermissionError, ValueError, TypeError
        If an image, which the message names, cannot be read and ``on_error="raise"``; if the folder was
        written with other backbones or settings; or if the cluster has no room for a worker.
    OSError
        If the folder cannot be written to.
    ImportError
        If Ray is not installed.

    See Also
    --------
    read_embeddings : Reads what was written.
    EmbedBatch : The same for an engine of your own.

    Notes
    -----
    A row is known by its image and its other columns; an image by its path and the size of the file, or by
    its content where it is no file. Rows that are alike in all of that are one row. A file whose size has
    changed is embedded again, and its old row goes. One call at a time may write to a folder.

    Examples
    --------
    >>> from sklearn_clipensemble.distributed import embed, read_embeddings
    >>> embed(paths, "embeddings", backbones="openai")  # doctest: +SKIP
    >>> table = read_embeddings("embeddings")  # doctest: +SKIP
    """
    unknown = [name for name in options if name not in _OPTIONS]
    if unknown:
        raise TypeError(
            f"embed() takes no {unknown[0]!r}. Of CLIPEmbedder's parameters it takes {', '.join(_OPTIONS)}; "
            "num_gpus decides on the device."
        )
    ray = _ray.load()
    rows, column = _as_rows(images, column, ray.data.Dataset)
    embed_batch = EmbedBatch(backbones, column=column, filesystem=filesystem, **options)
    parts, settings = Parts(output), _settings(embed_batch.embedder)
    parts.check(settings)
    before = known = parts.settle()
    _ray.connect(ray)
    listed = shared = None
    if not isinstance(rows, ray.data.Dataset):
        listed, rows = rows, len(rows)
        shared = ray.put(listed)
    n_in_vain, lost = 0, None
    with _progress(None if listed is None else len(listed), verbose) as advance:
        for attempt in range(_PASSES):
            pool = _ray.Pool.fit(ray.nodes(), n_workers, num_cpus, num_gpus, reads=listed is None)
            worker = {
                "embed_batch": embed_batch,
                "parts": parts,
                "known": known,
                "run": parts.last_run() + 1,
                "n_threads": pool.num_cpus,
                "settings": settings,
            }
            one = _ray.Pass(ray, rows, shared, pool, rows_per_part, worker)
            reports = []
            for report in one.reports():
                if report.error is not None:
                    raise report.error
                reports.append(report)
                advance(report.n_new if attempt else report.n_rows)
            parts.require(report.part for report in reports)
            known, lost = parts.settle(), one.lost
            killed = any(report.lost for report in reports)
            if lost is None and not killed:
                # Counted in the folder: who was lost may have written parts without a report.
                n_new = known.n_new(before)
                return Bunch(n_rows=len(known), n_new=n_new, n_unreadable=known.n_unreadable)
            n_in_vain = 0 if any(report.n_new for report in reports) else n_in_vain + 1
            # Once may be because Ray takes seconds to see that a node was lost.
            if killed or n_in_vain > 1:
                if rows_per_part == 1:
                    break
                # What kills its worker takes fewer others with it, in the end none.
                rows_per_part = max(1, rows_per_part // 16)
    raise RuntimeError(_incomplete(listed, column, known, parts, lost))


def _settings(embedder: CLIPEmbedder) -> dict[str, Any]:
    """Return all that decides the numbers of an output."""
    names = ("precision", "decode", "exif_transpose")
    own = {name: getattr(embedder, name) for name in names}
    return {"backbones": embedder.fingerprints_, **own}


def _as_rows(images, column, dataset_type) -> tuple[Any, str]:
    """Return the rows, a pyarrow table of paths or a dataset, and which column has the images."""
    import pyarrow as pa

    if isinstance(images, dataset_type):
        return images, _choose(images.columns(), column)
    if not isinstance(images, pd.DataFrame):
        column = column or "path"
        images = pd.DataFrame({column: pd.Series(list(as_sources(images)), dtype=object)})
    column = _choose(list(images), column)
    paths = []
    for row, image in enumerate(images[column]):
        if not is_path(image):
            raise TypeError(
                f"Image {row} is no path, but {type(image).__name__}. Images in memory are embedded by "
                "CLIPEmbedder, or as a dataset: ray.data.from_items([{'image': image}, ...])."
            )
        paths.append(os.fspath(image))
        try:
            paths[-1].encode()
        except UnicodeEncodeError:
            raise ValueError(
                f"Image {row} ({paths[-1]!r}): its name is no UTF-8, which all text in parquet is. Rename it, "
                "or embed without Ray."
            ) from None
    table = pa.Table.from_pandas(images.assign(**{column: paths}), preserve_index=False)
    first = np.unique(_keys(table, column), return_index=True)[1]
    return table.take(np.sort(first)), column


def _keys(table, column: str) -> np.ndarray:
    return row_keys(table.column(column).to_pylist(), table.drop_columns([column]))


def _choose(columns: list, column: str | None) -> str:
    """Return the column of images."""
    likely = [name for name in ("image", "path") if name in columns]
    likely = columns if len(columns) == 1 else likely
    if column is None and likely:
        return likely[0]
    if column is None or column not in columns:
        raise ValueError(
            f"Which column has the images? Say it with column=...: the columns are {columns}, and column is "
            f"{column!r}."
        )
    return column


@contextlib.contextmanager
def _progress(total: int | None, verbose: int) -> Iterator[Callable[[int], None]]:
    """Show progress, if asked to; what is returned tells it of more rows."""
    if not verbose:
        yield lambda n: None
        return
    progress = Progress(total)
    try:
        yield progress.update
    finally:
        progress.close()


def _incomplete(listed, column, known: Known, parts: Parts, lost) -> str:
    """Say what is missing."""
    what = "Rows are missing"
    if listed is not None:
        paths = np.array(listed.column(column).to_pylist(), object)
        missing = paths[known.find(_keys(listed, column)) < 0].tolist()
        shown = ", ".join(map(repr, missing[:5])) + (", ..." if len(missing) > 5 else "")
        what = f"{len(missing)} of {len(listed)} images are missing ({shown})"
    return (
        f"{what} in {parts.url!r}: the workers that embedded them died, or their nodes were lost, however often "
        f"they were tried{f' ({lost})' if lost else ''}. The {len(known)} rows that are there are whole. Leave "
        "out what no worker survives, or give the workers more memory, and call again for the rest."
    )
