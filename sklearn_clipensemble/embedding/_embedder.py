"""Images -> one table of every backbone's embedding."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from numbers import Integral
from typing import Self
from weakref import WeakKeyDictionary

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from sklearn_clipensemble._compat import Interval, Options, StrOptions, VisualBlock, documented
from sklearn_clipensemble._runtime import runtime, unforked
from sklearn_clipensemble.backbones import Backbone, remember, resolve
from sklearn_clipensemble.embedding._cache import open_store
from sklearn_clipensemble.embedding._stream import Stream
from sklearn_clipensemble.images import as_sources
from sklearn_clipensemble.table._layout import Layout, as_frame

#: Parameters of CLIPEmbedder that decide how images are read and embedded.
_OPTIONS = ("device", "precision", "batch_size", "n_jobs", "decode", "exif_transpose")
#: Embedder -> its last stream, and what that was made for: single images mostly ask for the same.
_streams: WeakKeyDictionary[CLIPEmbedder, tuple[tuple, Stream]] = WeakKeyDictionary()


@documented
class CLIPEmbedder(TransformerMixin, BaseEstimator):
    """Embed images with several backbones in one pass.

    Every image is decoded once for all backbones that preprocess alike. Embeddings are kept by the
    content of the image and by all that changes them: cross-validation and grid searches cost one
    pass over the images.

    Parameters
    ----------
    backbones : str, Backbone or sequence of them, default="openai-small"
        A preset (``"openai-small"``: RN50, RN101, ViT-B-32, ViT-B-16; ``"openai"``: the paper's nine;
        ``"tiny"``: five small bundled ones, for trying out), or backbones: open_clip names with tag
        (``"ViT-B-32/laion2b_s34b_b79k"``; without one, the weights by OpenAI), ``"local-dir:PATH"``,
        ``"hf-hub:ID"``, any image model of timm (``"timm:NAME"``), a model in memory
        (:class:`Backbone`). See :func:`list_backbones` and the user guide.
    device : str, default="auto"
        A torch device; "auto" takes CUDA or Apple's MPS where there is one. A fitted embedder that is
        loaded where its device is missing takes the CPU, and warns.
    precision : {"auto", "fp32", "bf16", "fp16"}, default="auto"
        What the models multiply in. "auto" takes bf16 for a backbone where the hardware multiplies in
        it and eight probe photographs keep a cosine above 0.999 to their fp32 embedding, else fp32.
    batch_size : int or "auto", default="auto"
        Images that are read ahead and handed to the device together. "auto" depends on the input size;
        a batch that does not fit the device's memory is halved either way.
    n_jobs : int or None, default=None
        Threads that read and decode; None or -1 is one per CPU core.
    cache : path, None or False, default=None
        Where embeddings are kept: None in memory, shared by all embedders of the process (up to
        512 MB); a folder on disk, shared by processes and runs; False nowhere.
    decode : {"exact", "fast"}, default="exact"
        "exact" gives the very pixels of open_clip's own transform of the upright picture. "fast" lets
        JPEG files shrink while they are decoded.
    exif_transpose : bool, default=True
        Whether to turn photographs as their EXIF orientation says. open_clip's own transform does not:
        a portrait from a phone then lies on its side.
    on_error : {"raise", "nan"}, default="raise"
        What to do with an image that cannot be read: raise an error that names it, or fill its row
        with NaN and warn once with the list. Rows never move.
    store_weights : bool, default=False
        Whether a pickle of the fitted embedder holds the weights, to be used where they are not
        installed: loading it there writes them to the user's cache folder.
    verbose : int, default=0
        Whether to show progress.

    Attributes
    ----------
    backbones_ : list of str
        The ids of the backbones, in the order of the columns.
    fingerprints_ : dict of str to str
        Digests of each backbone's weights and settings; to transform with others is refused.

    See Also
    --------
    ZeroShotLogits : Turns the embeddings into zero-shot logits.
    load_image_folder : Lists the images of a folder and their classes.

    Notes
    -----
    The result is a DataFrame of float32 with the columns ``{backbone}__embedding__{i}``; each embedding
    has length 1. ``X`` is a sequence of paths, encoded bytes, file objects, PIL images, arrays or torch
    tensors, or one stacked array; see the user guide. File objects are read one after the other,
    whatever ``n_jobs``; they and opened PIL images are left as they were.

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
        "backbones": [str, os.PathLike, "array-like", Backbone],
        "device": [str],
        "precision": [StrOptions({"auto", "fp32", "bf16", "fp16"})],
        "batch_size": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"})],
        "n_jobs": [Integral, None],
        "cache": [str, os.PathLike, None, Options(bool, {False})],
        "decode": [StrOptions({"exact", "fast"})],
        "exif_transpose": ["boolean"],
        "on_error": [StrOptions({"raise", "nan"})],
        "store_weights": ["boolean"],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        backbones: str | Backbone | Sequence = "openai-small",
        *,
        device: str = "auto",
        precision: str = "auto",
        batch_size: int | str = "auto",
        n_jobs: int | None = None,
        cache: str | os.PathLike | bool | None = None,
        decode: str = "exact",
        exif_transpose: bool = True,
        on_error: str = "raise",
        store_weights: bool = False,
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
        self.store_weights = store_weights
        self.verbose = verbose

    def fit(self, X: Sequence, y: object = None) -> Self:
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
            The fitted step.

        Raises
        ------
        ConnectionError
            Within five seconds, if weights are not on this machine and cannot be downloaded.
        FileNotFoundError
            If a folder does not hold a backbone.
        ValueError
            If a backbone is unknown, the device is not here, or ``X`` is empty.
        TypeError
            If ``X`` is no sequence of images.
        """
        self._validate_params()
        as_sources(X)
        backbones = resolve(self.backbones)
        for backbone in backbones:
            backbone.require()
        if self.device not in ("auto", "cpu"):  # these need no torch to be known as good
            with unforked():
                from sklearn_clipensemble.backbones._model import resolve_device

            resolve_device(self.device)
        self._backbones = backbones
        self.backbones_ = [b.id for b in backbones]
        self.fingerprints_ = {b.id: b.fingerprint() for b in backbones}
        self._layout = Layout({b.id: b.width for b in backbones})
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
            One row per image, in order; indexed like ``X`` if it is a pandas Series.

        Raises
        ------
        FileNotFoundError, PermissionError, ValueError, TypeError
            If an image, which the message names, cannot be read and ``on_error="raise"``.
        MemoryError
            If a single image does not fit the device.
        """
        check_is_fitted(self)
        sources = as_sources(X)
        out = np.empty((len(sources), self._layout.n_features), dtype=np.float32)
        start = 0
        for rows in self._rows(sources):
            out[start : start + len(rows)] = rows
            start += len(rows)
        index = X.index if isinstance(X, pd.Series | pd.DataFrame) else None
        return as_frame(out, self._layout, index)

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
        for rows in self._rows(X):
            yield as_frame(rows, self._layout, pd.RangeIndex(start, start + len(rows)))
            start += len(rows)

    def warm_up(self) -> Self:
        """Load all that the first image would wait for.

        For a program that answers one image after the other, once it has loaded its pipeline:
        torch, open_clip and the models take seconds.

        Returns
        -------
        self : object
            The fitted step.

        Raises
        ------
        ValueError
            If the weights are not those of ``fit``.
        ConnectionError, FileNotFoundError
            If weights are not on this machine and cannot be had.

        Examples
        --------
        >>> from sklearn.datasets import load_sample_images
        >>> from sklearn_clipensemble import CLIPEmbedder
        >>> photos = load_sample_images().images
        >>> embedder = CLIPEmbedder(["tiny/RN-1221"]).fit(photos).warm_up()
        >>> embedder.transform(photos[:1]).shape
        (1, 128)
        """
        check_is_fitted(self)
        with self._stream() as stream:
            stream.warm_up()
        return self

    def get_feature_names_out(self, input_features: object = None) -> np.ndarray:
        """Return the names of the columns.

        Parameters
        ----------
        input_features : object
            Ignored.

        Returns
        -------
        ndarray of str
            One name for each column.
        """
        check_is_fitted(self)
        return np.array(self._layout.names, dtype=object)

    def _rows(self, X, errors: dict[int, Exception] | None = None) -> Iterator[np.ndarray]:
        """Yield the rows of one batch after the other; ``errors`` takes those of unreadable images."""
        with self._stream() as stream:
            options = {"on_error": self.on_error, "verbose": self.verbose, "errors": errors}
            yield from stream.rows(X, self._layout, **options)

    @contextmanager
    def _stream(self) -> Iterator[Stream]:
        """Open what reads and embeds images; the models stay loaded until it is left."""
        with runtime.using(self._backbones):
            self._check_fingerprints()
            store = open_store(self.cache)
            options = {name: getattr(self, name) for name in _OPTIONS}
            made_for = (tuple(self._backbones), tuple(self.fingerprints_.items()), store, options)
            kept = _streams.get(self)
            if kept is None or kept[0] != made_for:
                stream = Stream(self._backbones, self.fingerprints_, store, **options)
                kept = _streams[self] = made_for, stream
            yield kept[1]

    def _check_fingerprints(self):
        for backbone in self._backbones:
            remember(backbone)
            now, then = backbone.fingerprint(), self.fingerprints_[backbone.id]
            if now != then:
                same_weights = now.partition("-")[0] == then.partition("-")[0]
                what = "settings (its configuration file)" if same_weights else "weights"
                raise ValueError(
                    f"The {what} of backbone {backbone.id!r} have changed: this CLIPEmbedder was fitted with "
                    f"{then}, here is {now}. Its embeddings would not fit what was learned from "
                    "them. Restore the files, or fit again."
                )

    def _sk_visual_block_(self):
        ids = [b.id for b in resolve(self.backbones)]
        return VisualBlock("parallel", ids)

    def __getstate__(self):
        state = super().__getstate__()
        if self.store_weights and hasattr(self, "_backbones"):
            packed = {b.id: b.pack() for b in self._backbones}
            state = {**state, "_weights": {id: files for id, files in packed.items() if files}}
        return state

    def __setstate__(self, state):
        files = state.pop("_weights", {})
        super().__setstate__(state)
        for i, backbone in enumerate(getattr(self, "_backbones", [])):
            if backbone.id in files:
                known = self.fingerprints_[backbone.id]
                backbone = self._backbones[i] = backbone.unpack(files[backbone.id], known)
                self.fingerprints_[backbone.id] = backbone.fingerprint()
            # A text step may be fitted on this embedder's table without it running here.
            remember(backbone)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.one_d_array = True
        tags.input_tags.two_d_array = False
        tags.input_tags.three_d_array = True
        tags.input_tags.string = True
        tags.no_validation = True
        return tags
