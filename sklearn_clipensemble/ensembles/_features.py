"""The backbones' features side by side."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sklearn_clipensemble.ensembles._base import Table


def unit_rows(rows: np.ndarray, negligible: float = 0.0) -> np.ndarray:
    """Return the rows at length one; those of a negligible length become zeros."""
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    there = length > negligible
    return np.where(there, rows, 0) / np.where(there, length, 1)


def unit_features(table: Table, backbones: Sequence[str] | None = None) -> np.ndarray:
    """Return the L2-normalised features of several backbones, side by side, at length one.

    The inner product of two rows is the backbones' average cosine.
    """
    backbones = table.backbones if backbones is None else backbones
    parts = [unit_rows(table.features(backbone)) for backbone in backbones]
    return np.hstack(parts) / np.sqrt(len(parts), dtype=parts[0].dtype)
