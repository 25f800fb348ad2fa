"""Several CLIP backbones as one scikit-learn classifier."""

from sklearn_clipensemble._layout import Layout
from sklearn_clipensemble._version import __version__

__all__ = ["Layout", "__version__"]
