"""What a worker does with a batch of rows: embed those that are missing, and write them as one part."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from sklearn_clipensemble.distributed._batches import EmbedBatch, is_path
from sklearn_clipensemble.distributed._parts import Known, Parts, as_part, row_keys
from sklearn_clipensemble.images import StoredFile, named


@dataclass
class Report:
    """What has become of a batch."""

    n_rows: int = 0
    #: Rows that were embedded, and the part that has them.
    n_new: int = 0
    part: str | None = None
    #: Whether it was given up, since it killed its workers.
    lost: bool = False
    error: Exception | None = None


class Worker:
    """Embeds batches and writes each as one part.

    It reports what went wrong and raises nothing: Ray wraps what is raised in exceptions of its own, by
    which an image that cannot be read is hard to tell from a worker that died.
    """

    def __init__(
        self,
        embed_batch: EmbedBatch,
        parts: Parts,
        known: Known,
        *,
        run: int,
        n_threads: int,
        settings: Mapping[str, Any],
        listed: Any = None,
    ):
        embed_batch.embedder.n_jobs = n_threads
        self._embed_batch, self._parts, self._known = embed_batch, parts, known
        self._run, self._n_threads, self._settings = run, n_threads, settings
        self._listed = listed

    def __call__(self, batch: Any) -> dict[str, np.ndarray]:
        """Embed a batch, a pyarrow table of rows or of a span of the list; return its report, pickled."""
        try:
            if self._listed is not None:
                ((start, stop),) = (span.values() for span in batch.to_pylist())
                batch = self._listed.slice(start, stop - start)
            report = self._work(batch)
        except Exception as error:
            report = Report(error=error)
        return {"report": np.array([_pickled(report)], dtype=object)}

    def _work(self, batch) -> Report:
        column = self._embed_batch.column
        images, others = batch.column(column).to_pylist(), batch.drop_columns([column])
        keys = row_keys(images, others)
        sources = self._embed_batch._sources(images)
        missing = self._missing(keys, sources)
        if not len(missing):
            return Report(len(images))
        name = self._parts.name(self._run, keys[missing])
        # A part that is there was written by a worker that died before it could say so.
        if not self._parts.has(name):
            if not self._parts.try_once_more(name):
                return Report(lost=True)
            kept = batch if all(map(is_path, images)) else others
            self._embed(name, kept.take(missing), [sources[i] for i in missing], keys[missing])
        return Report(len(images), len(missing), name)

    def _embed(self, name: str, rows, sources: list, keys: np.ndarray) -> None:
        """Embed some rows, and write them."""
        import torch

        torch.set_num_threads(self._n_threads)
        errors: dict[int, Exception] = {}
        vectors = self._embed_batch._embed(sources, errors)
        if errors and self._embed_batch.embedder.on_error == "raise":
            first = min(errors)
            what = f"Image of the row {rows.slice(first, 1).to_pylist()[0]}"
            if isinstance(sources[first], StoredFile):
                what = f"Image {sources[first].path!r}"
            raise named(errors[first], what)
        sizes = [source.n_bytes if isinstance(source, StoredFile) else None for source in sources]
        texts = [_text(errors[i]) if i in errors else None for i in range(len(sources))]
        part = as_part(rows, vectors, keys, sizes, texts, self._settings)
        try:
            self._parts.write(name, part)
        except OSError as error:
            raise type(error)(
                f"A part with {len(part)} rows could not be written to {self._parts.url!r}: "
                f"{error.strerror or error}. What was written before is whole; mend this, and call again to embed "
                "the rest."
            ) from error

    def _missing(self, keys, sources) -> np.ndarray:
        """Return the rows that are not in the output, each key once; a file of another size is missing."""
        at = self._known.find(keys)
        there = np.flatnonzero(at >= 0)
        with ThreadPoolExecutor(self._n_threads) as pool:
            sizes = np.array(list(pool.map(_size, [sources[row] for row in there])), np.int64)
        is_missing = np.ones(len(keys), bool)
        is_missing[there] = sizes != self._known.sizes[at[there]]
        once = np.zeros(len(keys), bool)
        once[np.unique(keys, return_index=True)[1]] = True
        return np.flatnonzero(is_missing & once)


def _size(source) -> int:
    """Return the size of a file as it is now; -1 where there is none."""
    if not isinstance(source, StoredFile):
        return -1
    try:
        return source.filesystem.size(source.path)
    except Exception:  # a filesystem may have errors of its own
        return -1


def _text(error: Exception) -> str:
    return str(named(error, "")).removeprefix(": ")


def _pickled(report: Report) -> bytes:
    try:
        return pickle.dumps(report)
    except Exception:  # of an exception with something in it that cannot be pickled
        error = report.error
        return pickle.dumps(Report(error=RuntimeError(f"{type(error).__name__}: {error}")))
