"""Combiners: classifiers over a table of several backbones' features."""

from sklearn_clipensemble import baselines
from sklearn_clipensemble.adaptive import AdaptiveBackboneEnsemble
from sklearn_clipensemble.baselines import *  # noqa: F403

__all__ = ["AdaptiveBackboneEnsemble", *baselines.__all__]
