"""Combiners: classifiers over a table of several backbones' features."""

from sklearn_clipensemble.ensembles._adaptive import AdaptiveBackboneEnsemble
from sklearn_clipensemble.ensembles._average import (
    LogitAverage,
    ProbabilityAverage,
    SingleBackbone,
)

__all__ = [
    "AdaptiveBackboneEnsemble",
    "LogitAverage",
    "ProbabilityAverage",
    "SingleBackbone",
]
