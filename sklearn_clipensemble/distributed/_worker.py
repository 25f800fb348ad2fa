"""What a worker does with a batch of rows: embed those that are missing, write them as one part."""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from sklearn_clipensemble.distributed._batches import EmbedBatch
from sklearn_clipensemble.distributed._parts import KEY, KEY_TYPE, Known, Parts, as_table, row_keys
from sklearn_clipensemble.images import StoredFile, named


@dataclass
class Report:
    """What has become of a batch."""

    n_rows: int = 0
    #: Rows that were embedded, and the part that has them.
    n_new: int = 0
    part: str | None = None
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
    ):
        import torch

        torch.set_num_threads(n_threads)
        embed_batch.embedder.n_jobs = n_threads
        self._embed_batch, self._parts, self._known = embed_batch, parts, known
        self._run, self._n_threads, self._settings = run, n_threads, settings

    def __call__(self, batch: Mapping[str, Sequence]) -> dict[str, np.ndarray]:
        """Embed a batch; return its report, pickled."""
        try:
            report = self._work(dict(batch))
        except Exception as error:
            report = Report(error=error)
        return {"report": np.array([_pickled(report)], dtype=object)}

    def _work(self, batch: dict[str, Any]) -> Report:
        given = batch.pop(KEY, None)  # where the one who asked has made the keys
        images, others = self._embed_batch._images(batch), self._embed_batch._others(batch)
        sources = self._embed_batch._sources(images)
        if given is None:
            keys = row_keys(
                images, {c: v for c, v in others.items() if c != self._embed_batch.column}
            )
        else:
            keys = np.asarray(given).astype(KEY_TYPE)
        rows = self._missing(keys, sources)
        if not len(rows):
            return Report(len(images))
        name = self._parts.name(self._run, keys[rows])
        # A part that is there was written by a worker that died before it could say so.
        if not self._parts.has(name):
            sources = [sources[row] for row in rows]
            errors: dict[int, Exception] = {}
            vectors = self._embed_batch._embed(sources, errors)
            others = {name: [values[row] for row in rows] for name, values in others.items()}
            if errors and self._embed_batch.embedder.on_error == "raise":
                first = min(errors)
                raise named(errors[first], _name(sources[first], others, first))
            table = as_table(
                others,
                vectors,
                keys[rows],
                [source.n_bytes if isinstance(source, StoredFile) else None for source in sources],
                [_text(errors[row]) if row in errors else None for row in range(len(rows))],
                self._settings,
            )
            self._write(name, table)
        return Report(len(images), len(rows), name)

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

    def _write(self, name, table):
        try:
            self._parts.write(name, table)
        except OSError as error:
            raise type(error)(
                f"A part with {len(table)} rows could not be written to {self._parts.url!r}: "
                f"{error.strerror or error}. What was written before is whole; mend this, and call again to embed "
                "the rest."
            ) from error


def _size(source) -> int:
    """Return the size of a file as it is now; -1 where there is none."""
    if not isinstance(source, StoredFile):
        return -1
    try:
        return source.filesystem.size(source.path)
    except Exception:  # a filesystem may have errors of its own
        return -1


def _name(source, others: Mapping[str, Sequence], row: int) -> str:
    """Return how an error names a row."""
    if isinstance(source, StoredFile):
        return f"Image {source.path!r}"
    return (
        f"The image of the row { ({name: values[row] for name, values in others.items()})!r:.300}"
    )


def _text(error: Exception) -> str:
    return str(named(error, "")).removeprefix(": ")


def _pickled(report: Report) -> bytes:
    try:
        return pickle.dumps(report)
    except Exception:  # of an exception with something in it that cannot be pickled
        error = report.error
        return pickle.dumps(Report(error=RuntimeError(f"{type(error).__name__}: {error}")))
