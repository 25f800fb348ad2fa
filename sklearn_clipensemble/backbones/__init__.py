"""CLIP models by name: presets, weights on disk, loading, templates."""

from sklearn_clipensemble.backbones._catalogue import list_backbones
from sklearn_clipensemble.backbones._spec import (
    PRESETS,
    Backbone,
    from_id,
    is_clip,
    remember,
    resolve,
    without_prefix,
)

__all__ = [
    "PRESETS",
    "Backbone",
    "from_id",
    "is_clip",
    "list_backbones",
    "remember",
    "resolve",
    "without_prefix",
]
