"""How often answers are right, by how probable they are said to be."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
import pandas as pd

from sklearn_clipensemble.inspection._answers import need
from sklearn_clipensemble.inspection._calibration import (
    calibration_bins,
    expected_calibration_error,
)
from sklearn_clipensemble.inspection._plot import _style
from sklearn_clipensemble.inspection._plot._display import Display


class ReliabilityDisplay(Display):
    """Reliability diagrams of the backbones and of the combiner, with their calibration errors.

    Below the diagonal, answers are right less often than their probability
    says. :meth:`from_answers` takes ``n_bins`` (15) and needs probabilities and
    true labels.

    Parameters
    ----------
    bins : mapping of str to DataFrame
        Name -> bins, as :func:`~sklearn_clipensemble.inspection.calibration_bins`
        returns them.
    errors : mapping of str to float
        Name -> expected calibration error.
    combined : collection of str, default=()
        Which of the names are combiners, to be drawn in black.

    Attributes
    ----------
    lines_ : dict of str to matplotlib Line2D
        The line of each name.

    Examples
    --------
    >>> from sklearn_clipensemble.inspection import ReliabilityDisplay
    >>> said = {"RN50": [[0.9, 0.1], [0.8, 0.2], [0.1, 0.9]]}
    >>> display = ReliabilityDisplay.from_predictions(said, ["cat", "dog", "dog"], n_bins=5)
    >>> round(display.errors["RN50"], 2)
    0.33
    """

    def __init__(self, bins: Mapping, errors: Mapping, *, combined: Collection[str] = ()):
        self.bins = bins
        self.errors = errors
        self.combined = combined

    @classmethod
    def _compute(cls, answers, *, n_bins=15):
        y, given = need(answers, "y"), need(answers, "probabilities")
        options = {"classes": answers.classes, "n_bins": n_bins}
        bins = {b: calibration_bins(y, p, **options) for b, p in given.items()}
        errors = {b: expected_calibration_error(y, p, **options) for b, p in given.items()}
        return cls(bins, errors, combined=[answers.ensemble] if answers.ensemble else [])

    def _frame(self):
        bins = pd.concat(self.bins, names=["name", None])
        return bins.reset_index("name").reset_index(drop=True)

    def _draw(self, ax):
        self.figure_, self.ax_ = _style.new_axes(type(self).__name__, ax, (7.2, 4.2))
        ax, names = self.ax_, list(self.bins)
        colour, marker = _style.colours(names, self.combined), _style.markers(names)
        _style.tidy(ax)
        ax.plot([0, 1], [0, 1], color=_style.FAINT, linewidth=1, linestyle=(0, (4, 3)))
        self.lines_ = {}
        for name, short in zip(names, _style.shorten(names, 26), strict=True):
            bins, strong = self.bins[name], name in self.combined
            points = bins["confidence"], bins["accuracy"]
            look = {"color": colour[name], "marker": marker[name], "zorder": 3 + strong}
            (self.lines_[name],) = ax.plot(
                *points, linewidth=2.4 if strong else 1.3, markersize=3,
                label=f"{short}  {self.errors[name]:.3f}", **look,
            )  # fmt: skip
            # The larger a mark, the more images it stands for.
            share = bins["n_images"] / bins["n_images"].sum()
            ax.scatter(*points, s=10 + 160 * share, linewidth=0, **look)
        ax.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), xticks=np.linspace(0, 1, 6))
        ax.set(xlabel="Probability of the answer", ylabel="Share of right answers")
        ax.legend(
            title="Calibration error", title_fontsize=9, fontsize=9, alignment="left", frameon=False,
            loc="upper left", bbox_to_anchor=(1.01, 1.0), borderaxespad=0,
        )  # fmt: skip
