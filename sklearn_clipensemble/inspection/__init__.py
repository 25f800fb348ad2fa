"""See what the backbones do, alone and together: measures and pictures."""

from sklearn_clipensemble.inspection._oracle import (
    oracle_gap_closed,
    oracle_null,
    oracle_score,
    overlap,
    unique_correct,
)

__all__ = [
    "oracle_gap_closed",
    "oracle_null",
    "oracle_score",
    "overlap",
    "unique_correct",
]
