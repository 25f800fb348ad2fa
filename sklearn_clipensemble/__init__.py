"""Several CLIP backbones as one scikit-learn classifier.

images -> :class:`CLIPEmbedder` -> :class:`ZeroShotLogits` ->
:class:`AdaptiveBackboneEnsemble`. Importing this package loads neither torch
nor open_clip; fitting does.
"""

from sklearn_clipensemble._runtime import clear
from sklearn_clipensemble._version import __version__
from sklearn_clipensemble.backbones import Backbone, list_backbones
from sklearn_clipensemble.cost import CascadeClassifier
from sklearn_clipensemble.embedding import CLIPEmbedder, ZeroShotLogits
from sklearn_clipensemble.ensembles import AdaptiveBackboneEnsemble
from sklearn_clipensemble.images import load_image_folder
from sklearn_clipensemble.model_selection import FewShotSplit, shot_curve
from sklearn_clipensemble.table import Layout, Table, read_table

__all__ = [
    "AdaptiveBackboneEnsemble",
    "Backbone",
    "CLIPEmbedder",
    "CascadeClassifier",
    "FewShotSplit",
    "Layout",
    "Table",
    "ZeroShotLogits",
    "__version__",
    "clear",
    "list_backbones",
    "load_image_folder",
    "read_table",
    "shot_curve",
]
