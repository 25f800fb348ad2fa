"""What a user has -> validated pixels. Pillow and numpy only."""

from sklearn_clipensemble.images._folder import load_image_folder
from sklearn_clipensemble.images._geometry import Geometry
from sklearn_clipensemble.images._sources import as_sources, decode, describe, read

__all__ = ["Geometry", "as_sources", "decode", "describe", "load_image_folder", "read"]
