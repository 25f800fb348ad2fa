"""What can be named."""

from __future__ import annotations

import re

import pandas as pd

from sklearn_clipensemble.backbones._clip_models import OPENAI, TINY, TinyClip
from sklearn_clipensemble.backbones._open_clip import open_clip
from sklearn_clipensemble.backbones._registry import PRESETS

_FAMILY = {"convnext": "ConvNeXt", "edgenext": "EdgeNeXt", "vit": "ViT", "resnet": "ResNet"}


def list_backbones(*, all: bool = False) -> pd.DataFrame:
    """List the backbones that can be named.

    Parameters
    ----------
    all : bool, default=False
        Whether to list all that open_clip publishes weights for, or only the bundled backbones and
        the paper's nine.

    Returns
    -------
    DataFrame
        Indexed by id, with the columns ``family`` (such as ``"ResNet"``), ``width`` (of the
        embedding), ``image_size`` (pixels), ``gflops`` (of one image; NaN where not known),
        ``presets`` and ``source``.

    Examples
    --------
    >>> from sklearn_clipensemble import list_backbones
    >>> list_backbones().loc["ViT-B-32/openai", ["family", "presets"]].tolist()
    ['ViT', 'openai, openai-small']
    """
    rows = {
        id: _describe(TinyClip(id).config()["model_cfg"], gflops, "bundled")
        for id, gflops in TINY.items()
    }
    pairs = [id.split("/") for id in PRESETS["openai"]]
    if all:
        pairs += [list(p) for p in open_clip().list_pretrained() if list(p) not in pairs]
    for model, tag in pairs:
        gflops = OPENAI[model][1] if model in OPENAI else float("nan")
        rows[f"{model}/{tag}"] = _describe(open_clip().get_model_config(model), gflops, "open_clip")
    table = pd.DataFrame.from_dict(rows, orient="index").rename_axis("id")
    presets = [", ".join(p for p, ids in PRESETS.items() if id in ids) for id in table.index]
    table.insert(4, "presets", presets)
    return table


def _describe(config: dict, gflops: float, source: str) -> dict:
    vision = config["vision_cfg"]
    start = re.sub("[^a-z].*", "", vision.get("timm_model_name", "vit"))
    if isinstance(vision.get("layers"), list):
        start = "resnet"
    size = vision["image_size"]
    return {
        "family": _FAMILY.get(start, start),
        "width": config["embed_dim"],
        "image_size": size if isinstance(size, int) else size[0],
        "gflops": gflops,
        "source": source,
    }
