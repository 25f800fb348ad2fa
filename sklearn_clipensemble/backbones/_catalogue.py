"""What can be named, and what it costs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import pandas as pd

from sklearn_clipensemble.backbones._clip_models import PublishedClip, TinyClip
from sklearn_clipensemble.backbones._interface import (
    BackboneLike,
    count_gflops,
    count_parameters,
)
from sklearn_clipensemble.backbones._open_clip import open_clip
from sklearn_clipensemble.backbones._published import published
from sklearn_clipensemble.backbones._registry import PRESETS, resolve
from sklearn_clipensemble.backbones._weights import AtUrl, OnHub

_COLUMNS = ["family", "width", "image_size", "gflops", "parameters", "download_mb", "imagenet"]
#: What classes are called otherwise.
_FAMILY = {"ModifiedResNet": "ResNet", "VisionTransformer": "ViT", "Eva": "EVA"}


def list_backbones(
    backbones: str | os.PathLike | BackboneLike | Sequence | None = None, *, all: bool = False
) -> pd.DataFrame:
    """List backbones and what they cost, the cheapest first.

    Parameters
    ----------
    backbones : str, Backbone or sequence of them, or None, default=None
        What to list, as :class:`CLIPEmbedder` takes it: presets, names, folders, models in memory. None
        lists the bundled ones and the paper's nine.
    all : bool, default=False
        Whether to list all that open_clip publishes weights for, in place of the paper's nine.

    Returns
    -------
    DataFrame
        Indexed by id, with the columns ``family`` (such as ``"ResNet"``), ``width`` (of the
        embedding), ``image_size`` (pixels; the height), ``gflops`` (billions of floating-point
        operations for one image; a multiply-add is two), ``parameters`` (millions, of the image tower),
        ``download_mb`` (megabytes of the whole model's weights; 0 where nothing is downloaded),
        ``imagenet`` (published zero-shot accuracy on ImageNet-1k) and ``presets``. NaN is what is not
        known.

    Raises
    ------
    ValueError
        If a name leads nowhere, or both ``backbones`` and ``all`` are given.
    FileNotFoundError, ConnectionError
        If a folder is missing, or a repository's configuration cannot be fetched.

    See Also
    --------
    CLIPEmbedder : Embeds images with backbones.
    sklearn_clipensemble.cost.measure_throughput : Images per second on this machine.

    Notes
    -----
    What is published comes from one file of the package, ``backbones/published.csv``, which says where
    each figure is from. The costs of other backbones, timm's too, are counted from the architecture;
    no weights are fetched for that.

    Examples
    --------
    >>> from sklearn_clipensemble import list_backbones
    >>> list_backbones("openai-small")[["gflops", "parameters", "download_mb", "imagenet"]]
                     gflops  parameters  download_mb  imagenet
    id
    ViT-B-32/openai   8.818       87.85          605    0.6332
    RN50/openai      12.220       38.32          408    0.5982
    RN101/openai     19.540       56.26          479    0.6228
    ViT-B-16/openai  35.130       86.19          598    0.6834
    """
    if backbones is not None:
        if all:
            raise ValueError(
                "Pass backbones or all=True, not both: all lists every known backbone."
            )
        found = resolve(backbones)
    elif all:
        found = resolve([*PRESETS["tiny"], *open_clip().list_pretrained()])
    else:
        found = resolve(["tiny", "openai"])
    known = published()
    rows = {b.id: known.loc[b.id].to_dict() if _is_known(b) else describe(b) for b in found}
    table = pd.DataFrame.from_dict(rows, orient="index", columns=_COLUMNS).rename_axis("id")
    table["presets"] = [
        ", ".join(p for p, ids in PRESETS.items() if id in ids) for id in table.index
    ]
    return table.sort_values("gflops", kind="stable")


def _is_known(backbone):
    return isinstance(backbone, PublishedClip | TinyClip) and backbone.id in published().index


def describe(backbone: BackboneLike) -> dict[str, Any]:
    """Return what there is to know of a backbone from its architecture."""
    tower, weights = backbone.architecture(), getattr(backbone, "weights", None)
    return {
        "family": _family(tower),
        "width": backbone.width,
        "image_size": backbone.geometry.height,
        "gflops": count_gflops(tower, backbone.geometry),
        "parameters": count_parameters(tower),
        "download_mb": float("nan" if isinstance(weights, OnHub | AtUrl) else 0),
        "imagenet": float("nan"),
    }


def _family(tower: Any) -> str:
    """Return what kind of network a tower is, by the name of its class."""
    name = type(getattr(tower, "trunk", tower)).__name__
    return _FAMILY.get(name, name)
