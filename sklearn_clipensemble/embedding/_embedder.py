"""Images -> one table of every backbone's embedding."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from numbers import Integral

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from sklearn_clipensemble._layout import Layout
from sklearn_clipensemble.backbones import resolve
from sklearn_clipensemble.backbones._weights import fingerprint, require, width
from sklearn_clipensemble.embedding._cache import open_store, vector_key
from sklearn_clipensemble.images import as_sources, decode, describe, read


@dataclass
class _Prepared:
    """One image, ready for the models: what is known of it and what is to be computed."""

    digest: bytes = b""
    known: dict[str, np.ndarray] = field(default_factory=dict)
    pixels: dict = field(default_factory=dict)
    error: Exception | None = None


class CLIPEmbedder(TransformerMixin, BaseEstimator):
    """Embed images with several CLIP backbones in one pass.

    Every image is read and decoded once for all backbones that preprocess
    alike, and embedded once in its life: embeddings are kept by the content of
    the image and by everything that changes them, so that cross-validation and
    grid searches cost one pass over the images.

    Parameters
    ----------
    backbones : str or sequence of str, default="openai-small"
        A preset (``"openai-small"``: RN50, RN101, ViT-B-32, ViT-B-16;
        ``"openai"``: the nine backbones of the paper; ``"tiny"``: five small ones that
        come with the package, for trying out and for tests), or a list of
        backbones: open_clip names with tag (``"ViT-B-32/laion2b_s34b_b79k"``;
        without one, the weights by OpenAI), ``"local-dir:PATH"``,
        ``"hf-hub:ID"``. See :func:`list_backbones`.
    device : str, default="auto"
        A torch device; "auto" takes CUDA or Apple's MPS where there is one.
    precision : {"auto", "fp32", "bf16", "fp16"}, default="auto"
        What the models multiply in. "auto" takes bf16 for a backbone where the
        hardware multiplies in it and the cosine to the fp32 embedding of eight
        probe photographs stays above 0.999, else fp32.
    batch_size : int or "auto", default="auto"
        Images per batch. "auto" depends on the input size; a batch that does
        not fit the device's memory is halved either way.
    n_jobs : int or None, default=None
        Threads that read and decode; None or -1 is one per CPU core.
    cache : path, None or False, default=None
        Where embeddings are kept: None in memory, shared by all embedders of
        the process (up to 512 MB); a folder on disk, shared by processes and
        runs; False nowhere.
    decode : {"exact", "fast"}, default="exact"
        "exact" gives the very pixels of open_clip's own transform. "fast" lets
        JPEG files shrink while they are decoded.
    exif_transpose : bool, default=False
        Whether to turn photographs as their EXIF orientation says, which
        open_clip does not.
    on_error : {"raise", "nan"}, default="raise"
        What to do with an image that cannot be read: raise an error that names
        it, or fill its row with NaN and warn once with the list. Rows never
        move.
    verbose : int, default=0
        Whether to show progress.

    Attributes
    ----------
    backbones_ : list of str
        The ids of the backbones, in the order of the columns.
    fingerprints_ : dict of str to str
        Digest of each backbone's weights; transforming with other weights of
        the same name is refused.

    See Also
    --------
    ZeroShotLogits : Turns the embeddings into zero-shot logits.
    load_image_folder : Lists the images of a folder and their classes.

    Notes
    -----
    The result is a DataFrame of float32 with the columns
    ``{backbone}__embedding__{i}``; each embedding has length 1. ``X`` is a
    sequence of paths, encoded bytes, file objects, PIL images, arrays or torch
    tensors, or one stacked array; see the user guide.

    Examples
    --------
    >>> from sklearn.datasets import load_sample_images
    >>> from sklearn_clipensemble import CLIPEmbedder
    >>> photos = load_sample_images().images
    >>> table = CLIPEmbedder(["tiny/RN-1221", "tiny/ViT-4"]).fit_transform(photos)
    >>> table.shape
    (2, 256)
    >>> table.columns[0]
    'tiny/RN-1221__embedding__0'
    """

    _parameter_constraints: dict = {
        "backbones": [str, os.PathLike, "array-like"],
        "device": [str],
        "precision": [StrOptions({"auto", "fp32", "bf16", "fp16"})],
        "batch_size": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"})],
        "n_jobs": [Integral, None],
        "cache": [str, os.PathLike, None, "boolean"],
        "decode": [StrOptions({"exact", "fast"})],
        "exif_transpose": ["boolean"],
        "on_error": [StrOptions({"raise", "nan"})],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        backbones: str | Sequence = "openai-small",
        *,
        device: str = "auto",
        precision: str = "auto",
        batch_size: int | str = "auto",
        n_jobs: int | None = None,
        cache: str | os.PathLike | bool | None = None,
        decode: str = "exact",
        exif_transpose: bool = False,
        on_error: str = "raise",
        verbose: int = 0,
    ):
        self.backbones = backbones
        self.device = device
        self.precision = precision
        self.batch_size = batch_size
        self.n_jobs = n_jobs
        self.cache = cache
        self.decode = decode
        self.exif_transpose = exif_transpose
        self.on_error = on_error
        self.verbose = verbose

    def fit(self, X: Sequence, y=None):
        """Find the backbones; no image is read.

        Parameters
        ----------
        X : sequence of images
            Checked to be a sequence; its images are not read.
        y : object
            Ignored.

        Returns
        -------
        self : object

        Raises
        ------
        ConnectionError
            If weights are not on this machine and cannot be downloaded; within
            five seconds, with what to do.
        FileNotFoundError
            If a folder does not hold a backbone.
        ValueError
            If a backbone is unknown, or if ``X`` is empty.
        TypeError
            If ``X`` is no sequence of images.
        """
        self._validate_params()
        as_sources(X)
        backbones = resolve(self.backbones)
        for backbone in backbones:
            require(backbone)
        self._backbones = backbones
        self.backbones_ = [b.id for b in backbones]
        self.fingerprints_ = {b.id: fingerprint(b) for b in backbones}
        self._layout = Layout({b.id: width(b) for b in backbones})
        return self

    def transform(self, X: Sequence) -> pd.DataFrame:
        """Embed images.

        Parameters
        ----------
        X : sequence of images
            See the class.

        Returns
        -------
        DataFrame of float32, shape (n_images, sum of the embedding widths)
            One row per image, in order; indexed like ``X`` if it is a pandas
            Series.

        Raises
        ------
        FileNotFoundError, PermissionError, ValueError, TypeError
            If an image cannot be read and ``on_error="raise"``; the message
            names its index, and its path where it has one.
        MemoryError
            If a single image does not fit the device.
        """
        check_is_fitted(self)
        sources = as_sources(X)
        out = np.empty((len(sources), self._layout.n_features), dtype=np.float32)
        start = 0
        for rows in self._batches(sources):
            out[start : start + len(rows)] = rows
            start += len(rows)
        index = X.index if isinstance(X, pd.Series | pd.DataFrame) else None
        return self._as_frame(out, index)

    def transform_batches(self, X: Sequence) -> Iterator[pd.DataFrame]:
        """Embed images, one table per batch, for more images than memory holds rows.

        Parameters
        ----------
        X : sequence of images
            See the class.

        Yields
        ------
        DataFrame of float32
            The rows of one batch, indexed by their position in ``X``.
        """
        check_is_fitted(self)
        start = 0
        for rows in self._batches(as_sources(X)):
            yield self._as_frame(rows, pd.RangeIndex(start, start + len(rows)))
            start += len(rows)

    def get_feature_names_out(self, input_features=None) -> np.ndarray:
        """Return the names of the columns.

        Parameters
        ----------
        input_features : object
            Ignored.

        Returns
        -------
        ndarray of str
        """
        check_is_fitted(self)
        return np.array(self._layout.names, dtype=object)

    def _as_frame(self, rows, index):
        return pd.DataFrame(rows, columns=self._layout.names, index=index, copy=False)

    def _batches(self, sources) -> Iterator[np.ndarray]:
        """Read, decode and embed batch by batch, reading one batch ahead."""
        from sklearn_clipensemble.backbones._model import load, resolve_device

        self._check_fingerprints()
        device = resolve_device(self.device)
        store = open_store(self.cache)
        backbones = {b.id: b for b in self._backbones}
        precisions = {id: self._precision(b, device, store) for id, b in backbones.items()}
        computation = {
            id: f"image {self.fingerprints_[id]} {p} {self.decode} {self.exif_transpose}"
            for id, p in precisions.items()
        }

        def prepare(source) -> _Prepared:
            try:
                digest, content = read(source)
                keys = {id: vector_key(digest, text) for id, text in computation.items()}
                found = store.get(keys.values())
                known = {id: found[key] for id, key in keys.items() if key in found}
                # A model is loaded only when an image needs it: a cached table needs none.
                geometries = {load(b).geometry for id, b in backbones.items() if id not in known}
                pixels = {}
                if geometries:
                    draft = None
                    if self.decode == "fast":
                        draft = 2 * max(max(g.height, g.width) for g in geometries)
                    image = decode(content, exif_transpose=self.exif_transpose, draft=draft)
                    pixels = {g: g.apply(image, fast=self.decode == "fast") for g in geometries}
                return _Prepared(digest, known, pixels)
            except (OSError, ValueError, TypeError) as error:
                return _Prepared(error=error)

        size = self._batch_size()
        n_threads = (
            self.n_jobs if self.n_jobs is not None and self.n_jobs > 0 else os.cpu_count() or 1
        )
        failed: list[str] = []
        progress = _progress(len(sources), self.verbose)
        pool = ThreadPoolExecutor(n_threads, thread_name_prefix="clip-images")
        try:
            ahead = [pool.submit(prepare, sources[i]) for i in range(min(size, len(sources)))]
            for start in range(0, len(sources), size):
                batch, ahead = (
                    [f.result() for f in ahead],
                    [
                        pool.submit(prepare, sources[i])
                        for i in range(start + size, min(start + 2 * size, len(sources)))
                    ],
                )
                for i, image in enumerate(batch):
                    if image.error is not None:
                        message = f"{describe(sources[start + i], start + i)}: {image.error}"
                        if self.on_error == "raise":
                            raise _like(image.error, message) from image.error
                        failed.append(message)
                table = np.full((len(batch), self._layout.n_features), np.nan, dtype=np.float32)
                for backbone in self._backbones:
                    into = self._layout.embedding(table, backbone.id)
                    new = _new_rows(into, batch, backbone.id)
                    if not new:
                        continue
                    model = load(backbone)
                    pixels = np.stack(
                        [batch[rows[0]].pixels[model.geometry] for rows in new.values()]
                    )
                    vectors = _embed(model, pixels, device, precisions[backbone.id])
                    for same, vector in zip(new.values(), vectors, strict=True):
                        into[same] = vector
                    text = computation[backbone.id]
                    store.put({vector_key(d, text): v for d, v in zip(new, vectors, strict=True)})
                progress.update(len(batch))
                yield table
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            progress.close()
        if failed:
            shown = "; ".join(failed[:5]) + ("; ..." if len(failed) > 5 else "")
            warnings.warn(
                f"{len(failed)} of {len(sources)} images could not be read; their rows are NaN. {shown}",
                UserWarning,
                stacklevel=3,
            )

    def _precision(self, backbone, device, store) -> str:
        """Return what a backbone multiplies in; what "auto" found is kept beside the embeddings."""
        from sklearn_clipensemble.backbones._model import load, multiplies_in_bf16

        if self.precision != "auto":
            return self.precision
        if not multiplies_in_bf16(device):
            return "fp32"
        key = vector_key(b"", f"precision {self.fingerprints_[backbone.id]} {device}")
        faithful = store.get([key]).get(key)
        if faithful is None:
            faithful = np.array([load(backbone).is_faithful(device, "bf16")], dtype=np.float32)
            store.put({key: faithful})
        return "bf16" if faithful[0] else "fp32"

    def _batch_size(self):
        if self.batch_size != "auto":
            return self.batch_size
        from sklearn_clipensemble.backbones._weights import config

        pixels = 0
        for backbone in self._backbones:
            size = config(backbone)["vision_cfg"]["image_size"]
            height, width = (size, size) if isinstance(size, int) else size
            pixels = max(pixels, height * width)
        # 64 images of 224 x 224, or as many smaller ones as cost about the same.
        return int(np.clip(64 * 224 * 224 // pixels, 8, 512))

    def _check_fingerprints(self):
        for backbone in resolve(self._backbones):
            now, then = fingerprint(backbone), self.fingerprints_[backbone.id]
            if now != then:
                raise ValueError(
                    f"The weights of backbone {backbone.id!r} have changed: this CLIPEmbedder was fitted with "
                    f"{then}, here are {now}. Its embeddings would not fit what was learned from them. "
                    "Restore the weights, or fit again."
                )

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.one_d_array = True
        tags.input_tags.two_d_array = False
        tags.input_tags.three_d_array = True
        tags.input_tags.string = True
        tags.no_validation = True
        return tags


def _new_rows(into: np.ndarray, batch: list[_Prepared], id: str) -> dict[bytes, list[int]]:
    """Write what is known of a backbone's embeddings; return the rows of each image that is new."""
    new: dict[bytes, list[int]] = {}
    for row, image in enumerate(batch):
        if id in image.known:
            into[row] = image.known[id]
        elif image.error is None:
            new.setdefault(image.digest, []).append(row)
    return new


def _embed(model, pixels: np.ndarray, device: str, precision: str) -> np.ndarray:
    """Embed a batch, halving it while it does not fit the device."""
    try:
        return model.embed_images(pixels, device, precision)
    except (MemoryError, RuntimeError) as error:
        # CUDA has a class of its own for this, CPUs only a message.
        if "memory" not in str(error).lower():
            raise
        if len(pixels) == 1:
            raise MemoryError(
                f"One image does not fit the memory of {device!r} with backbone {model.backbone.id!r}. Use "
                "fewer or smaller backbones, precision='bf16', or another device."
            ) from error
    half = len(pixels) // 2
    return np.concatenate(
        [_embed(model, part, device, precision) for part in (pixels[:half], pixels[half:])]
    )


def _like(error: Exception, message: str) -> Exception:
    """Return an exception of the same kind with a message that names the image."""
    kinds = (FileNotFoundError, IsADirectoryError, PermissionError, OSError, TypeError)
    return next((kind for kind in kinds if isinstance(error, kind)), ValueError)(message)


def _progress(total: int, verbose: int):
    from tqdm.auto import tqdm

    return tqdm(total=total, desc="Embedding", unit="image", disable=not verbose)
