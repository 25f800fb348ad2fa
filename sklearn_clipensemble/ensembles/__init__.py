"""Combiners: classifiers over a table of several backbones' features."""

from sklearn_clipensemble.ensembles._adaptive import AdaptiveBackboneEnsemble
from sklearn_clipensemble.ensembles._average import (
    AgreementWeighted,
    EntropyWeighted,
    LogitAverage,
    MostConfident,
    ProbabilityAverage,
    SingleBackbone,
    Vote,
)
from sklearn_clipensemble.ensembles._cascade import AgreementCascade, ConfidenceCascade
from sklearn_clipensemble.ensembles._local import LocalAccuracy
from sklearn_clipensemble.ensembles._neural import (
    MixtureOfExperts,
    NeuralLogitController,
    SoftmaxGate,
)
from sklearn_clipensemble.ensembles._static import (
    BestBackbone,
    CalibratedAverage,
    CalibratedConfidence,
    GeneticSearch,
    GreedySelection,
    SuperLearner,
)

__all__ = [
    "AdaptiveBackboneEnsemble",
    "AgreementCascade",
    "AgreementWeighted",
    "BestBackbone",
    "CalibratedAverage",
    "CalibratedConfidence",
    "ConfidenceCascade",
    "EntropyWeighted",
    "GeneticSearch",
    "GreedySelection",
    "LocalAccuracy",
    "LogitAverage",
    "MixtureOfExperts",
    "MostConfident",
    "NeuralLogitController",
    "ProbabilityAverage",
    "SingleBackbone",
    "SoftmaxGate",
    "SuperLearner",
    "Vote",
]
