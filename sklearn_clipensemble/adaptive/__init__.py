"""The product: an ensemble whose weights are learnt from a few labelled images."""

from sklearn_clipensemble.adaptive._ensemble import AdaptiveBackboneEnsemble
from sklearn_clipensemble.adaptive._priors import Priors

__all__ = ["AdaptiveBackboneEnsemble", "Priors"]
