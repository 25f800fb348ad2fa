"""How many images a second the backbones embed here."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from numbers import Real

import numpy as np
import pandas as pd

from sklearn_clipensemble._compat import Interval, validate_params
from sklearn_clipensemble.backbones import BackboneLike, resolve
from sklearn_clipensemble.embedding import CLIPEmbedder
from sklearn_clipensemble.images import Geometry


class _Noise(Sequence):
    """Pictures without end, each another, which need no decoding and no resizing."""

    def __init__(self, geometry: Geometry):
        self._shape = (*(geometry.resized or (geometry.height, geometry.width)), 3)

    def __len__(self):
        return 10**9

    def __getitem__(self, index):
        return np.random.default_rng(index).integers(0, 256, self._shape, dtype=np.uint8)


@validate_params(
    {"seconds": [Interval(Real, 0, None, closed="neither")]}, prefer_skip_nested_validation=True
)
def measure_throughput(
    backbones: str | os.PathLike | BackboneLike | Sequence = "openai-small",
    *,
    seconds: float = 2.0,
    device: str = "auto",
    precision: str = "auto",
    batch_size: int | str = "auto",
) -> pd.DataFrame:
    """Measure how many images a second each backbone embeds on this machine.

    The images are noise of each backbone's own size: nothing is decoded or resized. They take the way
    of :class:`~sklearn_clipensemble.CLIPEmbedder`, with its precision and its batches, and nothing is
    kept. The first batch, which loads the model and chooses the precision, is not counted.

    Parameters
    ----------
    backbones : str, Backbone or sequence of them, default="openai-small"
        As :class:`~sklearn_clipensemble.CLIPEmbedder` takes them.
    seconds : float, default=2.0
        How long to measure each backbone; one batch at least.
    device : str, default="auto"
        As :class:`~sklearn_clipensemble.CLIPEmbedder` takes it.
    precision : {"auto", "fp32", "bf16", "fp16"}, default="auto"
        As :class:`~sklearn_clipensemble.CLIPEmbedder` takes it.
    batch_size : int or "auto", default="auto"
        As :class:`~sklearn_clipensemble.CLIPEmbedder` takes it.

    Returns
    -------
    DataFrame
        Indexed by id, the cheapest first, with the columns ``gflops`` (of one image), ``batch_size``
        and ``images_per_second`` (of the median batch).

    Raises
    ------
    ValueError
        If a name leads nowhere, or a setting is out of range.
    FileNotFoundError, ConnectionError
        If weights are not here and cannot be fetched.

    See Also
    --------
    sklearn_clipensemble.list_backbones : What they cost wherever they run.

    Examples
    --------
    >>> from sklearn_clipensemble.cost import measure_throughput
    >>> speed = measure_throughput(["tiny/ViT-4", "tiny/RN-1221"], seconds=0.1, batch_size=32)
    >>> speed[["gflops", "batch_size"]]
                   gflops  batch_size
    id
    tiny/RN-1221  0.01162          32
    tiny/ViT-4    0.06461          32
    >>> bool((speed["images_per_second"] > 0).all())
    True
    """
    rows = {}
    for backbone in sorted(resolve(backbones), key=lambda backbone: backbone.gflops):
        images = _Noise(backbone.geometry)
        embedder = CLIPEmbedder(
            [backbone], device=device, precision=precision, batch_size=batch_size, cache=False
        )
        batches = embedder.fit(images).transform_batches(images)
        size, times = len(next(batches)), []
        start = before = time.perf_counter()
        while before < start + seconds:
            next(batches)
            before, since = time.perf_counter(), before
            times.append(before - since)
        del batches  # and what was read ahead
        rows[backbone.id] = {
            "gflops": backbone.gflops,
            "batch_size": size,
            "images_per_second": size / float(np.median(times)),
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("id")
