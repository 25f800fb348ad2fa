"""What the ensemble is measured against: label-free, learnt and neural combiners."""

from sklearn_clipensemble.baselines._cascade import AgreementCascade, ConfidenceCascade
from sklearn_clipensemble.baselines._combiner import ZeroShotCombiner as ZeroShotCombiner
from sklearn_clipensemble.baselines._label_free import (
    AgreementWeighted,
    EntropyWeighted,
    LogitAverage,
    MostConfident,
    ProbabilityAverage,
    SingleBackbone,
    Vote,
)
from sklearn_clipensemble.baselines._learnt import (
    BestBackbone,
    CalibratedAverage,
    CalibratedConfidence,
    GeneticSearch,
    GreedySelection,
    SuperLearner,
)
from sklearn_clipensemble.baselines._local import LocalAccuracy
from sklearn_clipensemble.baselines._neural import (
    MixtureOfExperts,
    NeuralLogitController,
    SoftmaxGate,
)

__all__ = [
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
