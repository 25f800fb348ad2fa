"""The product: an ensemble whose weights are learnt from a few labelled images."""

from sklearn_clipensemble.adaptive._ensemble import AdaptiveBackboneEnsemble

__all__ = ["AdaptiveBackboneEnsemble"]
