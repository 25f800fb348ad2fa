"""What can be named."""

from __future__ import annotations

import re

import pandas as pd

from sklearn_clipensemble.backbones._clip_models import OPENAI, TINY, TinyClip
from sklearn_clipensemble.backbones._open_clip import open_clip
from sklearn_clipensemble.backbones._registry import PRESETS


def list_backbones(*, all: bool = False) -> pd.DataFrame:
    """List the backbones that can be named.

    Parameters
    ----------
    all : bool, default=False
        Whether to list everything that open_clip publishes weights for, or
        only the bundled backbones and the paper's nine.

    Returns
    -------
    DataFrame
        Indexed by id, with the columns ``family`` (such as ``"ResNet"``),
        ``width`` (of the embedding), ``image_size`` (pixels), ``gflops``
        (of one image through the image tower; NaN where not known), ``presets``
        and ``source``.

    Examples
    --------
    >>> from sklearn_clipensemble import list_backbones
    >>> list_backbones().loc["ViT-B-32/openai", ["family", "presets"]].tolist()
    ['ViT', 'openai, openai-small']
    """
    rows = {}
    for id in PRESETS["tiny"]:
        rows[id] = {
            **_describe(id.partition("/")[2], TinyClip(id).config()["model_cfg"]),
            "gflops": TINY[id],
            "source": "bundled",
        }
    pairs = [id.split("/") for id in PRESETS["openai"]]
    if all:
        pairs += [list(p) for p in open_clip().list_pretrained() if list(p) not in pairs]
    for model, tag in pairs:
        row = _describe(model, open_clip().get_model_config(model))
        rows[f"{model}/{tag}"] = {
            **row,
            "gflops": OPENAI[model][1] if model in OPENAI else float("nan"),
            "source": "open_clip",
        }
    table = pd.DataFrame.from_dict(rows, orient="index")
    table["presets"] = [
        ", ".join(p for p, ids in PRESETS.items() if id in ids) for id in table.index
    ]
    table.index.name = "id"
    return table[["family", "width", "image_size", "gflops", "presets", "source"]]


def _describe(name: str, config: dict) -> dict:
    vision = config["vision_cfg"]
    if isinstance(vision.get("layers"), list):
        family = "ResNet"
    elif "timm_model_name" in vision:
        family = _timm_family(vision["timm_model_name"])
    else:
        family = "ViT"
    size = vision["image_size"]
    return {
        "family": family,
        "width": config["embed_dim"],
        "image_size": size if isinstance(size, int) else size[0],
        "gflops": float("nan"),
    }


def _timm_family(name: str) -> str:
    known = {"convnext": "ConvNeXt", "edgenext": "EdgeNeXt", "vit": "ViT", "resnet": "ResNet"}
    start = re.sub("[^a-z].*", "", name)
    return known.get(start, start)
