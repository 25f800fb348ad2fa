"""From what a user writes to backbones: the families by prefix, and the presets."""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Sequence
from typing import Any

from sklearn_clipensemble._runtime import runtime
from sklearn_clipensemble.backbones import _clip_models as clip
from sklearn_clipensemble.backbones import _timm_models as timm
from sklearn_clipensemble.backbones._interface import BackboneLike
from sklearn_clipensemble.backbones._loaded_model import Backbone
from sklearn_clipensemble.table._ids import without_prefix

#: The beginning of a name -> the class whose ``from_name`` reads it; the longest that fits counts.
FAMILIES: dict[str, Any] = {
    "tiny/": clip.TinyClip,
    "local-dir:": clip.FolderClip,
    "hf-hub:": clip.HubClip,
    "timm:hf-hub:": timm.HubTimm,
    "timm:local-dir:": timm.FolderTimm,
    "timm:": timm.PublishedTimm,
    "": clip.PublishedClip,
}

#: Preset name (``openai``, ``openai-small``, ``tiny``) -> ids of its backbones.
PRESETS: dict[str, tuple[str, ...]] = {
    "tiny": tuple(clip.TINY),
    "openai": tuple(f"{name}/openai" for name in clip.OPENAI),
    "openai-small": tuple(f"{name}/openai" for name in list(clip.OPENAI)[:4]),
}


def resolve(backbones: str | os.PathLike | BackboneLike | Sequence) -> list[BackboneLike]:
    """Turn what a user wrote into backbones: names, presets, (name, tag) pairs, folders, backbones."""
    if isinstance(backbones, str | os.PathLike) or _is_backbone(backbones):
        entries: Sequence = [backbones]
    else:
        entries = list(backbones)  # type: ignore[arg-type]
    found: list[BackboneLike] = []
    for entry in entries:
        if isinstance(entry, str) and entry in PRESETS:
            found += [_resolve_one(id) for id in PRESETS[entry]]
        else:
            found.append(_resolve_one(entry))
    if not found:
        raise ValueError(
            "backbones is empty; name at least one, or a preset such as 'openai-small'."
        )
    twice = [id for id, n in Counter(b.id for b in found).items() if n > 1]
    if twice:
        raise ValueError(
            f"Two backbones have the id {twice[0]!r}. Name each once, and give two folders, files or models "
            "names of their own."
        )
    for backbone in found:
        remember(backbone)
    return found


def remember(backbone: BackboneLike) -> None:
    """Note what an id stands for in this process: a model in memory by the models loaded last."""
    if isinstance(backbone, Backbone):
        from sklearn_clipensemble.backbones._model import load

        load(backbone)
    else:
        runtime.note(backbone)


def from_id(id: str, *, may_be_unknown: bool = False) -> BackboneLike | None:
    """Return the backbone that a table's columns name; None where it has no text tower.

    One that nobody knows here is an error, or taken for one without a text tower, with a warning.
    """
    seen = [b for b in runtime.seen(id) if os.path.exists(getattr(b, "path", os.curdir))]
    if seen and not any(b.has_text for b in seen):
        return None
    if len(seen) > 1:
        raise ValueError(
            f"Several folders or models named {id!r} were used in this process: "
            f"{sorted(map(str, seen))}. Say which one with backbones=['local-dir:PATH'] or "
            "backbones=[Backbone(...)], or give each a name of its own."
        )
    if seen:
        return seen[0]
    named = without_prefix(id)
    if named != id:
        raise ValueError(
            f"The columns of backbone {named!r} bear the prefix {id.removesuffix(named)!r}, as "
            "ColumnTransformer and FeatureUnion put it before names. Build those with "
            "verbose_feature_names_out=False."
        )
    if not _family(id).has_text:
        return None
    try:
        return _resolve_one(id)
    except ValueError as error:
        if may_be_unknown:
            warnings.warn(
                f"The backbone {id!r} is known neither here nor from backbones=[...]: it is taken for one "
                "without a text tower, and has no zero-shot logits.",
                UserWarning,
                stacklevel=4,
            )
            return None
        raise ValueError(
            f"{error} A folder that another process used is named by backbones=['local-dir:PATH'], a "
            "model in memory by backbones=[Backbone(...)]."
        ) from None


def _is_backbone(entry) -> bool:
    return hasattr(type(entry), "fingerprint")


def _family(name: str) -> Any:
    return FAMILIES[max(filter(name.startswith, FAMILIES), key=len)]


def _resolve_one(entry) -> BackboneLike:
    if _is_backbone(entry):
        return entry
    if isinstance(entry, tuple | list) and [isinstance(e, str) for e in entry] == [True, True]:
        return clip.PublishedClip.from_name(*map(str, entry))
    if isinstance(entry, os.PathLike):
        entry = f"local-dir:{os.fspath(entry)}"
    if not isinstance(entry, str):
        raise TypeError(
            f"A backbone is named by a string, a folder or a (name, tag) pair, got {type(entry).__name__}. A "
            "model in memory is passed as sklearn_clipensemble.Backbone(model, preprocess=..., id=...), or "
            "saved as a folder first: its weights as open_clip_model.safetensors beside an "
            "open_clip_config.json, then 'local-dir:PATH'."
        )
    entry = str(entry)  # NumPy's texts are written otherwise than Python's
    return _family(entry).from_name(entry)
