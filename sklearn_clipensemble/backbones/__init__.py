"""Image models by name or in memory: families, weights on disk, loading, templates."""

from sklearn_clipensemble.backbones._catalogue import list_backbones
from sklearn_clipensemble.backbones._interface import BackboneLike
from sklearn_clipensemble.backbones._loaded_model import Backbone
from sklearn_clipensemble.backbones._registry import FAMILIES, PRESETS, from_id, remember, resolve

__all__ = [
    "FAMILIES",
    "PRESETS",
    "Backbone",
    "BackboneLike",
    "from_id",
    "list_backbones",
    "remember",
    "resolve",
]
