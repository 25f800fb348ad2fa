"""Images in, rows out, batch by batch: read, look up, decode, embed, keep."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import joblib
import numpy as np
from PIL import Image

from sklearn_clipensemble._runtime import unforked
from sklearn_clipensemble.backbones import BackboneLike
from sklearn_clipensemble.embedding._cache import Store, vector_key
from sklearn_clipensemble.images import Geometry, as_sources, decode, describe, named, read, settle
from sklearn_clipensemble.table._layout import Layout


@dataclass
class _Image:
    """One image, ready for the models: what is known of it and what there is to compute with."""

    name: str
    source: Any = None
    keys: dict[str, bytes] = field(default_factory=dict)
    known: dict[str, np.ndarray] = field(default_factory=dict)
    pixels: dict[Geometry, np.ndarray] = field(default_factory=dict)
    error: Exception | None = None


class _Here(Executor):
    """Works off at once what it is given: for a single image, threads would only cost time."""

    def submit(self, function, /, *args):
        future: Future = Future()
        future.set_result(function(*args))
        return future


class Stream:
    """Everything that decides an embedding, put together for one pass over images.

    The options are those of :class:`CLIPEmbedder`.
    """

    def __init__(
        self,
        backbones: list[BackboneLike],
        fingerprints: dict[str, str],
        store: Store,
        *,
        device: str,
        precision: str,
        batch_size: int | str,
        n_jobs: int | None,
        decode: str,
        exif_transpose: bool,
    ):
        self._backbones, self._fingerprints, self._store = backbones, fingerprints, store
        self._fast, self._exif_transpose = decode == "fast", exif_transpose
        with unforked():
            from sklearn_clipensemble.backbones._model import resolve_device

            self._device = resolve_device(device, fitted=True)
            Image.preinit()  # the first file of a kind would import its reader, in any thread
            Image.init()
        self._geometries = {b.id: b.geometry for b in backbones}
        self._precisions = {
            b.id: self._choose_precision(b, precision, fingerprints[b.id]) for b in backbones
        }
        # The 2 stands for this package's own steps from file to pixels: raise it when they change.
        # Which way up an image is, its digest tells: one without an orientation is the same either way.
        self._computations = {
            id: f"image 2 {fingerprints[id]} {p} {decode}" for id, p in self._precisions.items()
        }
        self._batch_size = self._choose_batch_size() if isinstance(batch_size, str) else batch_size
        self._fitting: dict[str, int] = {}
        self._n_jobs = n_jobs

    def _choose_precision(self, backbone, precision, fingerprint) -> str:
        """Return what a backbone multiplies in; what "auto" found is kept beside the embeddings."""
        from sklearn_clipensemble.backbones._model import load, multiplies_in_bf16

        if precision != "auto":
            return precision
        if not multiplies_in_bf16(self._device):
            return "fp32"
        key = vector_key(b"", f"precision {fingerprint} {self._device}")
        faithful = self._store.get([key]).get(key)
        if faithful is None:
            faithful = np.array([load(backbone).takes_bf16(self._device)], np.float32)
            self._store.put({key: faithful})
        return "bf16" if faithful[0] else "fp32"

    def _choose_batch_size(self) -> int:
        """Return 64 for images of 224 x 224 on a CPU, as many as cost the same for others, more on a GPU."""
        pixels = max(g.height * g.width for g in self._geometries.values())
        at_224 = 64 if self._device == "cpu" else 256
        return int(np.clip(at_224 * 224 * 224 // pixels, 8, 512))

    @property
    def on_cpu(self) -> bool:
        """Whether the models run on the CPU."""
        return self._device == "cpu"

    def warm_up(self) -> None:
        """Embed a black picture with every backbone, and keep nothing of it."""
        for backbone in self._backbones:
            geometry = self._geometries[backbone.id]
            self._forward(backbone, np.zeros((1, geometry.height, geometry.width, 3), np.uint8))

    def rows(self, X: Sequence, layout: Layout, **options: Any) -> Iterator[np.ndarray]:
        """Yield the rows of one batch of images after the other; the options are those of ``images``."""
        for batch in self.images(X, **options):
            yield self.embed(batch, layout)

    def images(
        self,
        X: Sequence,
        *,
        on_error: str,
        verbose: int,
        errors: dict[int, Exception] | None = None,
        n_batches: int = 1,
        first: Sequence[str] | None = None,
    ) -> Iterator[list[_Image]]:
        """Yield images that are read, some batches at once, reading as many ahead.

        They are decoded for the backbones that are ``first``, None for all. ``errors``, where there is
        one, takes what each unreadable image raised, whatever ``on_error`` says.
        """
        self._fitting.clear()  # what did not fit once may fit now
        sources = as_sources(X)
        n, size = len(sources), n_batches * self._batch_size
        ids = list(self._geometries) if first is None else first
        failed: list[str] = []
        progress = Progress(n) if verbose else None
        pool, process = self._pool(n), os.getpid()

        def submit(start):
            # Fetched here, in order: files of one archive share a position that threads would move.
            return [
                pool.submit(self._prepare, *_fetch(sources, i), ids)
                for i in range(start, min(start + size, n))
            ]

        try:
            ahead = submit(0)
            for start in range(0, n, size):
                if os.getpid() != process:  # forked between two batches: its threads are not here
                    pool, process = self._pool(n), os.getpid()
                    ahead = submit(start)
                current, ahead = ahead, submit(start + size)
                batch = [future.result() for future in current]
                for row, image in enumerate(batch, start):
                    if image.error is None:
                        continue
                    if errors is not None:
                        errors[row] = image.error
                    else:
                        error = named(image.error, image.name)
                        if on_error == "raise":
                            raise error from image.error
                        failed.append(str(error))
                yield batch
                if progress is not None:
                    progress.update(len(batch))
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            if progress is not None:
                progress.close()
        if failed:
            shown = "; ".join(failed[:5]) + ("; ..." if len(failed) > 5 else "")
            warnings.warn(
                f"{len(failed)} of {n} images could not be read; their rows are NaN. {shown}",
                UserWarning,
                stacklevel=6,
            )

    def _pool(self, n: int) -> Executor:
        """Return what reads n images."""
        if n == 1:
            return _Here()
        n_jobs = self._n_jobs
        n_threads = joblib.cpu_count() if n_jobs is None else joblib.effective_n_jobs(n_jobs)
        return ThreadPoolExecutor(n_threads, thread_name_prefix="clip-images")

    def _prepare(self, name: str, source, ids: Sequence[str]) -> _Image:
        """Read an image, look it up, and decode it for those backbones that need it; in a thread."""
        if isinstance(source, Exception):
            return _Image(name, error=source)
        try:
            digest, content = read(source, exif_transpose=self._exif_transpose)
        except Exception as error:  # files, remote ones above all, have errors of their own
            return _Image(name, error=error)
        keys = {id: vector_key(digest, text) for id, text in self._computations.items()}
        found = self._store.get(keys.values())
        known = {id: found[key] for id, key in keys.items() if key in found}
        geometries = {self._geometries[id] for id in ids if id not in known}
        # Each geometry has a draft of its own: what one backbone sees must not depend on the others.
        drafts = {g: 2 * max(g.height, g.width) if self._fast else None for g in geometries}
        try:
            images = {
                draft: decode(content, exif_transpose=self._exif_transpose, draft=draft)
                for draft in set(drafts.values())
            }
            pixels = {g: g.apply(images[draft], fast=self._fast) for g, draft in drafts.items()}
        except Exception as error:
            return _Image(name, error=error)
        return _Image(name, source, keys, known, pixels)

    def embed(self, images: list[_Image], layout: Layout) -> np.ndarray:
        """Return the rows of images for the backbones of a layout; NaN where there is no image."""
        table = np.full((len(images), layout.n_features), np.nan, dtype=np.float32)
        self._decode(images, layout.backbones)
        rows = {row: image for row, image in enumerate(images) if image.error is None}
        for backbone in self._backbones:
            id, geometry = backbone.id, self._geometries[backbone.id]
            if id not in layout.widths:
                continue
            vectors = {i.keys[id]: i.known[id] for i in rows.values() if id in i.known}
            wanted = {i.keys[id]: i.pixels[geometry] for i in rows.values() if id not in i.known}
            vectors |= self._compute(backbone, wanted)
            into = layout.embedding(table, id)
            for row, image in rows.items():
                into[row] = vectors[image.keys[id]]
        return table

    def _decode(self, images, ids):
        """Read again those images that were not decoded for all of these backbones."""
        late = [
            image
            for image in images
            if image.error is None
            and any(
                id not in image.known and self._geometries[id] not in image.pixels for id in ids
            )
        ]
        if not late:
            return
        with self._pool(len(late)) as pool:
            again = pool.map(lambda image: self._prepare(image.name, image.source, ids), late)
            for image, new in zip(late, again, strict=True):
                if new.error is not None or new.keys != image.keys:
                    raise named(
                        new.error or ValueError("It changed while it was read."), image.name
                    )
                image.pixels |= new.pixels

    def _compute(self, backbone: BackboneLike, wanted: dict[bytes, np.ndarray]) -> dict:
        """Embed what is not known by now, and wait for what other processes are embedding."""
        done: dict[bytes, np.ndarray] = {}
        while missing := [key for key in wanted if key not in done]:
            mine = self._store.claim(missing)
            if mine:
                vectors = self._forward(backbone, np.stack([wanted[key] for key in mine]))
                new = dict(zip(mine, vectors, strict=True))
                self._store.put(new)
                done |= new
            if others := set(missing) - set(mine):
                found = self._store.get(others)
                done |= found
                if not mine and not found:
                    time.sleep(0.02)
        return done

    def _forward(self, backbone: BackboneLike, pixels: np.ndarray) -> np.ndarray:
        """Embed pixels, in halves while they do not fit the device's memory."""
        from sklearn_clipensemble.backbones._model import load

        model, device = load(backbone, self._fingerprints[backbone.id]), self._device
        asked = size = min(len(pixels), self._fitting.get(backbone.id, self._batch_size))
        parts, start = [], 0
        while start < len(pixels):
            part = pixels[start : start + size]
            try:
                parts.append(model.embed_images(part, device, self._precisions[backbone.id]))
                start += size
                continue
            except (MemoryError, RuntimeError) as error:
                # CUDA has a class of its own for this, CPUs only a message.
                if "memory" not in str(error).lower() and not isinstance(error, MemoryError):
                    raise
                if len(part) == 1:
                    raise MemoryError(
                        f"One image does not fit the memory of {device!r} with backbone {backbone.id!r}. Use "
                        "fewer or smaller backbones, precision='bf16', or another device."
                    ) from error
            # Outside of the handler, whose traceback would keep the tensors alive.
            size = len(part) // 2
        if size < asked:
            self._fitting[backbone.id] = size
            warnings.warn(
                f"{asked} images at once did not fit the memory of {device!r} with backbone {backbone.id!r}, "
                f"{size} did. Pass batch_size={size} to save the attempts.",
                UserWarning,
                stacklevel=2,
            )
        return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _fetch(sources: Sequence, index: int) -> tuple:
    """Return an image's name, and what there is to read; the error, where getting it failed."""
    name = f"Image {index}"
    try:
        source = sources[index]
        name = describe(source, index)
        return name, settle(source)
    except Exception as error:
        return name, error


class Progress:
    """A progress bar; a fork waits for tqdm's lock too."""

    @unforked()
    def __init__(self, total: int | None):
        # In a notebook without widgets tqdm.auto warns: not before it is asked for.
        from tqdm.auto import tqdm

        self._bar = tqdm(total=total, desc="Embedding", unit="image")

    @unforked()
    def update(self, n: int) -> None:
        self._bar.update(n)

    @unforked()
    def close(self) -> None:
        self._bar.close()
