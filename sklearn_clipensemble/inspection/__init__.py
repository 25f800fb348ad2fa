"""See what the backbones do, alone and together: measures and pictures."""

from sklearn_clipensemble.inspection._answers import Answers
from sklearn_clipensemble.inspection._calibration import (
    brier_score,
    calibration_bins,
    calibration_table,
    expected_calibration_error,
    negative_log_likelihood,
)
from sklearn_clipensemble.inspection._contribution import backbone_contributions, per_class_accuracy
from sklearn_clipensemble.inspection._diversity import (
    disagreement,
    double_fault,
    error_consistency,
    gain_by_diversity,
    q_statistic,
)
from sklearn_clipensemble.inspection._oracle import (
    oracle_gap_closed,
    oracle_null,
    oracle_score,
    overlap,
    unique_correct,
)
from sklearn_clipensemble.inspection._plot._combination_weights import WeightsDisplay
from sklearn_clipensemble.inspection._plot._contact_sheet import ContactSheetDisplay
from sklearn_clipensemble.inspection._plot._cost import CostDisplay
from sklearn_clipensemble.inspection._plot._disagreement import DisagreementDisplay
from sklearn_clipensemble.inspection._plot._overlap import OverlapDisplay
from sklearn_clipensemble.inspection._plot._reliability import ReliabilityDisplay
from sklearn_clipensemble.inspection._plot._robustness_bars import RobustnessDisplay
from sklearn_clipensemble.inspection._plot._shot_curve import ShotCurveDisplay
from sklearn_clipensemble.inspection._report import report
from sklearn_clipensemble.inspection._robustness import robustness
from sklearn_clipensemble.inspection._similarity import cka_matrix, linear_cka

__all__ = [
    "Answers",
    "ContactSheetDisplay",
    "CostDisplay",
    "DisagreementDisplay",
    "OverlapDisplay",
    "ReliabilityDisplay",
    "RobustnessDisplay",
    "ShotCurveDisplay",
    "WeightsDisplay",
    "backbone_contributions",
    "brier_score",
    "calibration_bins",
    "calibration_table",
    "cka_matrix",
    "disagreement",
    "double_fault",
    "error_consistency",
    "expected_calibration_error",
    "gain_by_diversity",
    "linear_cka",
    "negative_log_likelihood",
    "oracle_gap_closed",
    "oracle_null",
    "oracle_score",
    "overlap",
    "per_class_accuracy",
    "q_statistic",
    "report",
    "robustness",
    "unique_correct",
]
