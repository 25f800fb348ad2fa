"""How often answers are right, by how probable they are said to be."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
import pandas as pd
from scipy.stats import beta

from sklearn_clipensemble.inspection._answers import need
from sklearn_clipensemble.inspection._calibration import (
    calibration_bins,
    expected_calibration_error,
)
from sklearn_clipensemble.inspection._plot import _style
from sklearn_clipensemble.inspection._plot._display import Display

#: What fewer images say of their share of right answers is noise.
_IN_A_BIN = 15


class ReliabilityDisplay(Display):
    """Reliability diagrams of the backbones and of the combiner, with their calibration errors.

    Below the diagonal, answers are right less often than their probability
    says. Every bin holds equally many images; bands are 95 % intervals of the
    share that is right, drawn for combiners, or for all where there is none.
    :meth:`from_answers` takes ``n_bins`` (10), the largest number of bins: fewer
    images than 15 make no bin of their own. It needs probabilities and true
    labels. The calibration errors are those of 15 bins of equal width, as
    everywhere.

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
    bands : dict of str to tuple of ndarray
        Lower and upper ends of each name's intervals, one per bin.

    Examples
    --------
    >>> from sklearn_clipensemble.inspection import ReliabilityDisplay
    >>> said = {"RN50": [[0.9, 0.1], [0.8, 0.2], [0.1, 0.9]]}
    >>> display = ReliabilityDisplay.from_predictions(said, ["cat", "dog", "dog"])
    >>> round(display.errors["RN50"], 2)
    0.33
    """

    def __init__(self, bins: Mapping, errors: Mapping, *, combined: Collection[str] = ()):
        self.bins = bins
        self.errors = errors
        self.combined = combined
        # Jeffreys' interval of a share, which stays between 0 and 1.
        self.bands = {
            name: beta.ppf([[0.025], [0.975]], right + 0.5, b["n_images"] - right + 0.5)
            for name, b in bins.items()
            for right in [b["accuracy"] * b["n_images"]]
        }

    @classmethod
    def _compute(cls, answers, *, n_bins=10):
        y, given = need(answers, "y"), need(answers, "probabilities")
        n_bins, classes = max(min(n_bins, len(answers) // _IN_A_BIN), 1), answers.classes
        bins, errors = {}, {}
        for name, p in given.items():
            errors[name] = expected_calibration_error(y, p, classes=classes)
            found = calibration_bins(y, p, classes=classes, n_bins=n_bins, strategy="quantile")
            thick = found["n_images"] >= min(_IN_A_BIN, found["n_images"].max())
            bins[name] = found[thick].reset_index(drop=True)
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
                *points, linewidth=2.4 if strong else 1.3, markersize=4.5,
                label=f"{short}  {self.errors[name]:.3f}", **look,
            )  # fmt: skip
            if strong or not self.combined:
                low, high = self.bands[name]
                if len(bins) > 1:
                    ax.fill_between(
                        points[0], low, high, color=colour[name], alpha=0.14, linewidth=0
                    )
                else:
                    ax.vlines(points[0], low, high, color=colour[name], alpha=0.4)
        ax.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), xticks=np.linspace(0, 1, 6))
        ax.set(xlabel="Probability of the answer", ylabel="Share of right answers")
        width, _ = _style.size_in_points(ax)
        beside = {"loc": "upper left", "bbox_to_anchor": (1.01, 1.0), "borderaxespad": 0}
        below = {"loc": "upper left", "bbox_to_anchor": (0, 0), "borderaxespad": 0}
        below["bbox_transform"] = _style.lower(ax, 36)
        ax.legend(
            title="Calibration error", title_fontsize=9, fontsize=9, alignment="left", frameon=False,
            **(beside if width > 300 else below),
        )  # fmt: skip
