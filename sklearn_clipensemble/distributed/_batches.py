"""A batch of images in, a batch of embeddings out: what every engine can call."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sklearn_clipensemble.backbones import Backbone
from sklearn_clipensemble.embedding import CLIPEmbedder
from sklearn_clipensemble.images import StoredFile


class EmbedBatch:
    """Embed the images of a batch: a small callable that engines ship to their workers.

    Ray Data's ``map_batches``, ``datasets.Dataset.map(batched=True)``, Daft and Spark's
    ``mapInPandas`` can call it. Weights are loaded once per process, when the first image needs them.

    Parameters
    ----------
    backbones : str, Backbone or sequence of them, default="openai-small"
        As in :class:`~sklearn_clipensemble.CLIPEmbedder`.
    column : str, default="image"
        The column of images: paths, URLs that fsspec opens (``"s3://..."``), encoded bytes, arrays, or
        whatever else :class:`~sklearn_clipensemble.CLIPEmbedder` takes. Relative paths start where the
        process stood that made this object.
    filesystem : fsspec or pyarrow filesystem or None, default=None
        Where paths lead to; None goes by the beginning of each, and takes those without a scheme for
        local files.
    **options : dict
        Other parameters of :class:`~sklearn_clipensemble.CLIPEmbedder`. Without ``cache``, nothing is
        kept.

    Attributes
    ----------
    embedder : CLIPEmbedder
        What embeds. It is fitted, so that a worker with other weights refuses.

    See Also
    --------
    embed : Embeds on Ray, writes parquet, and goes on where it was stopped.

    Examples
    --------
    >>> from sklearn.datasets import load_sample_images
    >>> from sklearn_clipensemble.distributed import EmbedBatch
    >>> batch = {"image": load_sample_images().images, "label": ["temple", "flower"]}
    >>> embedded = EmbedBatch(["tiny/RN-1221", "tiny/ViT-4"])(batch)
    >>> {name: np.shape(values) for name, values in embedded.items()}
    {'label': (2,), 'tiny/RN-1221__embedding': (2, 128), 'tiny/ViT-4__embedding': (2, 128)}
    """

    def __init__(
        self,
        backbones: str | Backbone | Sequence = "openai-small",
        *,
        column: str = "image",
        filesystem: Any = None,
        **options: Any,
    ):
        self.column = column
        self.filesystem = _as_fsspec(filesystem)
        self.embedder = CLIPEmbedder(backbones, **{"cache": False, **options}).fit([None])
        self._folder = os.getcwd()

    def __call__(self, batch: Mapping[str, Sequence]) -> dict[str, Any]:
        """Embed one batch.

        Parameters
        ----------
        batch : mapping of str to sequence of length n
            The columns; a DataFrame will do.

        Returns
        -------
        dict of str to sequence of length n
            The other columns as they were, that of the images if it holds paths, and for each backbone
            ``{backbone}__embedding``, an ndarray of float32, shape (n, width).
        """
        images = self._images(batch)
        table = self.embedder.transform(self._sources(images)).to_numpy()
        return {**self._others(batch), **self.embedder._layout.pack(table)}

    def _images(self, batch) -> list:
        """Return the images of a batch."""
        if self.column not in batch:
            raise ValueError(
                f"The batch has no column {self.column!r} of images; its columns are {list(batch)}. Say which "
                "one it is with column=..."
            )
        return list(batch[self.column])

    def _others(self, batch) -> dict[str, Any]:
        """Return the columns that stay beside the embeddings: all but pixels."""
        paths = all(map(is_path, batch[self.column]))
        return {name: batch[name] for name in batch if paths or name != self.column}

    def _sources(self, images) -> list:
        """Return images as the embedder takes them: paths as files that threads read."""
        return [self._locate(image) if is_path(image) else image for image in images]

    def _embed(self, sources: list, errors: dict[int, Exception]) -> dict[str, np.ndarray]:
        """Return the vectors of images; ``errors`` takes those of images that cannot be read."""
        rows = np.concatenate(list(self.embedder._rows(sources, errors)))
        return self.embedder._layout.pack(rows)

    def _locate(self, path) -> StoredFile:
        from fsspec.core import url_to_fs

        text = os.fspath(path)
        if self.filesystem is not None:
            return StoredFile(self.filesystem, text)
        if "://" not in text:
            text = os.path.join(self._folder, os.path.expanduser(text))
        return StoredFile(*url_to_fs(text))


def is_path(image: object) -> bool:
    """Return whether an image is given by where it lies."""
    return isinstance(image, str | os.PathLike)


def _as_fsspec(filesystem):
    """Return a pyarrow filesystem as one of fsspec."""
    if type(filesystem).__module__.startswith("pyarrow."):
        from fsspec.implementations.arrow import ArrowFSWrapper

        return ArrowFSWrapper(filesystem)
    return filesystem
