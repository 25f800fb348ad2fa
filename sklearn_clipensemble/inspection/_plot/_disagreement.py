"""A number for every pair of backbones."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pandas as pd

from sklearn_clipensemble.inspection import _diversity
from sklearn_clipensemble.inspection._plot import _style
from sklearn_clipensemble.inspection._plot._display import Display
from sklearn_clipensemble.inspection._similarity import cka_matrix

_MEASURES: dict[str, tuple[str, Callable]] = {
    "disagreement": ("Disagreement", _diversity.disagreement),
    "double_fault": ("Double fault", _diversity.double_fault),
    "q_statistic": ("Q statistic", _diversity.q_statistic),
    "error_consistency": ("Error consistency", _diversity.error_consistency),
    "cka": ("Debiased linear CKA", partial(cka_matrix, debiased=True)),
}


class DisagreementDisplay(Display):
    """How differently pairs of backbones answer, err or represent.

    :meth:`from_answers` takes ``measure``: ``"disagreement"`` (the default),
    ``"double_fault"``, ``"q_statistic"``, ``"error_consistency"`` or ``"cka"``.
    Disagreement and CKA need no labels.

    Parameters
    ----------
    matrix : DataFrame of shape (n_backbones, n_backbones)
        A symmetric measure.
    name : str, default="Disagreement"
        What it is.

    Examples
    --------
    >>> from sklearn_clipensemble.inspection import DisagreementDisplay
    >>> answers = {"RN50": ["cat", "dog"], "RN101": ["cat", "fox"], "ViT-B-32": ["cat", "dog"]}
    >>> display = DisagreementDisplay.from_predictions(answers)
    >>> float(display.matrix.loc["RN50", "RN101"])
    0.5
    """

    def __init__(self, matrix: pd.DataFrame, *, name: str = "Disagreement"):
        self.matrix = matrix
        self.name = name

    @classmethod
    def _compute(cls, answers, *, measure="disagreement"):
        if measure not in _MEASURES:
            raise ValueError(f"measure={measure!r}; expected one of {', '.join(_MEASURES)}.")
        name, function = _MEASURES[measure]
        return cls(function(answers), name=name)

    def _frame(self):
        return self.matrix

    def _draw(self, ax):
        names = _style.shorten(list(self.matrix))
        side = 0.55 * len(names)
        self.figure_, self.ax_ = _style.new_axes(
            type(self).__name__, ax, (max(2.2 + side, 4), 1.4 + side)
        )
        # A backbone beside itself says nothing and would take most of the colours' range.
        pairs = np.where(np.eye(len(names), dtype=bool), np.nan, self.matrix)
        _style.heatmap(self.ax_, pairs, names, names, text=len(names) <= 15)
        self.ax_.set_title(self.name, loc="left", fontsize=11, fontweight="bold")
