"""CLIP models by name: presets, weights on disk, loading, templates."""

from sklearn_clipensemble.backbones._catalogue import list_backbones
from sklearn_clipensemble.backbones._spec import (
    PRESETS,
    Backbone,
    from_id,
    remember,
    resolve,
)

__all__ = [
    "PRESETS",
    "Backbone",
    "from_id",
    "list_backbones",
    "remember",
    "resolve",
]
