"""What users have to make pixels of pictures, read as geometry, mean and std."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Integral
from typing import Any

from PIL import Image

from sklearn_clipensemble.backbones._timm_models import import_timm, preprocessing
from sklearn_clipensemble.images import Geometry

_EXPECTED = (
    "Pass the transform of open_clip or timm for evaluation, torchvision's Resize, CenterCrop, ToTensor "
    "and Normalize in a Compose, or a dict such as {'size': 224, 'mean': (0.485, 0.456, 0.406), 'std': "
    "(0.229, 0.224, 0.225), 'interpolation': 'bicubic', 'resize_mode': 'shortest', 'resized': 256}."
)


def read_preprocess(
    preprocess: Any, model: Any
) -> tuple[Geometry, tuple[float, ...], tuple[float, ...]]:
    """Return what pixels go through by any form of ``preprocess``: geometry, mean and std."""
    if preprocess is None:
        preprocess = getattr(getattr(model, "visual", None), "preprocess_cfg", None)
        if preprocess is None and hasattr(model, "pretrained_cfg"):
            return preprocessing(import_timm().data.resolve_data_config({}, model=model))
    if type(preprocess).__name__ == "ImageClassification":  # torchvision's, of pretrained weights
        own = {k: getattr(preprocess, k) for k in ("interpolation", "mean", "std")}
        preprocess = {**own, "resized": preprocess.resize_size, "size": preprocess.crop_size}
    elif hasattr(preprocess, "transforms"):
        preprocess = _read_steps(preprocess.transforms)
    if not isinstance(preprocess, Mapping):
        raise TypeError(
            f"Backbone: preprocess is a {type(preprocess).__name__}, which does not say what it does to a "
            f"picture. {_EXPECTED}"
        )
    given = {k: v for k, v in preprocess.items() if v is not None and k != "mode"}
    known = {"size", "mean", "std", "interpolation", "resize_mode", "fill_color", "resized"}
    missing, unknown = {"size", "mean", "std"} - set(given), set(given) - known
    if missing or unknown:
        what = f"lacks {sorted(missing)}" if missing else f"has unknown {sorted(unknown)}"
        raise ValueError(f"Backbone: preprocess {what}. {_EXPECTED}")
    height, width = _sides(given, "size")
    mode = given.get("resize_mode", "shortest")
    interpolation = given.get("interpolation", "bicubic")
    interpolation = str(getattr(interpolation, "value", interpolation))  # torchvision has an enum
    if mode not in ("shortest", "squash", "longest"):
        raise ValueError(f"Backbone: preprocess has resize_mode={mode!r}. {_EXPECTED}")
    if interpolation.upper() not in Image.Resampling.__members__:
        raise ValueError(f"Backbone: preprocess has interpolation={interpolation!r}. {_EXPECTED}")
    mean, std = (
        tuple(map(float, v)) if hasattr(v, "__len__") else (float(v),) * 3
        for v in (given["mean"], given["std"])
    )
    if not (len(mean) == len(std) == 3 and all(0 <= m <= 1 for m in mean) and min(std) > 0):
        raise ValueError(
            f"Backbone: preprocess has mean={mean} and std={std}; expected three numbers each, of channels "
            "scaled to [0, 1]."
        )
    resized, fill = given.get("resized"), given.get("fill_color", 0)
    fill = fill if isinstance(fill, int) else tuple(fill)
    resized = None if resized is None else _sides(given, "resized")
    return Geometry(height, width, mode, interpolation, fill, resized), mean, std


def _sides(given, key) -> tuple[int, int]:
    """Return height and width of a size as torchvision writes it."""
    size = given[key]
    sides = tuple(size) if hasattr(size, "__len__") and not isinstance(size, str) else (size,)
    if len(sides) not in (1, 2) or not all(isinstance(s, Integral) and int(s) > 0 for s in sides):
        raise ValueError(
            f"Backbone: preprocess has {key}={size!r}; expected pixels, one number or height and width."
        )
    return int(sides[0]), int(sides[-1])


def _read_steps(steps) -> dict[str, Any]:
    """Return what the steps of a transform do."""
    read: dict[str, Any] = {"mean": 0, "std": 1}
    for step in steps:
        name = getattr(step, "__name__", type(step).__name__)
        first = not {"resized", "size"} & set(read)
        whole = getattr(step, "max_size", None) is None
        if name in ("Resize", "ResizeKeepRatio") and first and whole:
            both_sides = hasattr(step.size, "__len__") and len(step.size) > 1
            mode = "squash" if name == "Resize" and both_sides else "shortest"
            if getattr(step, "longest", 0) == 1:
                mode = "longest"
            read |= {"resized": step.size, "resize_mode": mode}
            read["interpolation"] = step.interpolation
        elif name in ("CenterCrop", "CenterCropOrPad") and "size" not in read:
            read |= {"size": step.size, "fill_color": getattr(step, "fill", 0)}
        elif name == "Normalize":
            read |= {"mean": step.mean, "std": step.std}
        elif name not in (
            *("_convert_to_rgb", "MaybeConvertMode", "RGB", "ToImage", "ToDtype"),
            *("ToTensor", "MaybeToTensor", "PILToTensor", "ConvertImageDtype", "ToPureTensor"),
        ):
            raise ValueError(
                f"Backbone: the step {step} of preprocess is not known here. {_EXPECTED}"
            )
    if "size" in read and "resized" not in read:
        raise ValueError(f"Backbone: no step of preprocess resizes pictures. {_EXPECTED}")
    if "size" not in read and read.get("resize_mode") == "squash":
        read["size"] = read["resized"]
    return read
