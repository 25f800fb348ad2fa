"""What a user has -> validated pixels; nothing here knows a model."""

from sklearn_clipensemble.images._folder import load_image_folder
from sklearn_clipensemble.images._geometry import Geometry
from sklearn_clipensemble.images._sequence import as_sources
from sklearn_clipensemble.images._sources import (
    StoredFile,
    decode,
    describe,
    load,
    named,
    read,
    settle,
)

__all__ = [
    "Geometry",
    "StoredFile",
    "as_sources",
    "decode",
    "describe",
    "load",
    "load_image_folder",
    "named",
    "read",
    "settle",
]
