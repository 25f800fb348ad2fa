"""Accuracy on corrupted images."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import pandas as pd

from sklearn_clipensemble.inspection._plot import _style
from sklearn_clipensemble.inspection._plot._display import Display, check_columns
from sklearn_clipensemble.inspection._robustness import robustness


class RobustnessDisplay(Display):
    """Accuracy by corruption and severity, of every backbone and of the combiner.

    One small panel for each corruption, all with the same axes.
    :meth:`from_answers` takes the options of
    :func:`~sklearn_clipensemble.inspection.robustness` and the answers of a
    pipeline that starts with images.

    Parameters
    ----------
    scores : DataFrame
        One row per corruption, severity and method, in columns of these names,
        and the ``accuracy``. The clean images have severity 0.
    highlight : str or None, default=None
        The method to draw in black; None draws none.

    Attributes
    ----------
    axes_ : ndarray of matplotlib Axes
        The panels.

    Examples
    --------
    >>> import pandas as pd
    >>> from sklearn_clipensemble.inspection import RobustnessDisplay
    >>> scores = {"corruption": ["none", "fog"], "severity": [0, 3], "accuracy": [0.7, 0.2]}
    >>> scores = pd.DataFrame(scores).assign(method="RN50")
    >>> display = RobustnessDisplay.from_scores(scores)
    >>> display.axes_[0, 0].get_title(loc="left")
    'fog'
    """

    def __init__(self, scores: pd.DataFrame, *, highlight: str | None = None):
        self.scores = scores
        self.highlight = highlight

    @classmethod
    def _compute(cls, answers, **options):
        return cls(robustness(answers, **options), highlight=answers.ensemble)

    @classmethod
    def from_scores(
        cls, scores: pd.DataFrame, *, highlight: str | None = None, ax: Any = None
    ) -> Self:
        """Draw scores that were measured before.

        Parameters
        ----------
        scores, highlight, ax : object
            As for the class and for :meth:`from_answers`.

        Returns
        -------
        RobustnessDisplay
            The display, drawn.
        """
        check_columns(scores, "corruption", "severity", "method", "accuracy")
        return cls(scores, highlight=highlight).plot(ax)

    def _frame(self):
        return self.scores

    def _draw(self, ax):
        scores, methods = self.scores, list(dict.fromkeys(self.scores["method"]))
        clean = scores[scores["severity"] == 0].groupby("method")["accuracy"].mean()
        names = [name for name in dict.fromkeys(scores["corruption"]) if name != "none"]
        across = min(len(names), 4) or 1
        down = -(-len(names) // across) or 1
        size = max(2 * across, 3.4) + 1.7, max(1.7 * down + 0.5, 0.22 * len(methods) + 0.6)
        self.figure_, self.ax_ = _style.new_axes(type(self).__name__, ax, size)
        left, right = _style.panels(self.ax_, 1, 2, width_ratios=[2 * across, 1.7])[0]
        self.axes_ = _style.panels(left, down, across, hspace=0.04, wspace=0.03)
        colour = _style.colours(methods, [] if self.highlight is None else [self.highlight])
        looks = {
            method: {"color": colour[method], "marker": marker, "linewidth": 1.2, "zorder": 3}
            for method, marker in _style.markers(methods).items()
        }
        if self.highlight in looks:
            looks[self.highlight] |= {"linewidth": 2.4, "zorder": 4}
        high = min(scores["accuracy"].max() * 1.06, 1.02)
        last = max(int(scores["severity"].max()), 1)
        for i, panel in enumerate(self.axes_.flat):
            if i >= len(names):
                panel.set_axis_off()
                continue
            here = scores[scores["corruption"] == names[i]].pivot_table(
                index="severity", columns="method", values="accuracy"
            )
            _style.tidy(panel)
            for method in methods:
                curve = here[method].dropna()
                if method in clean:
                    curve = pd.concat([pd.Series({0: clean[method]}), curve])
                panel.plot(curve.index, curve, markersize=3.2, **looks[method])
            ticks = [tick for tick in np.linspace(0, 1, 6) if tick <= high]
            panel.set(xlim=(-0.3, last + 0.3), ylim=(0, high), xticks=range(last + 1), yticks=ticks)
            panel.set_title(names[i].replace("_", " "), loc="left", fontsize=9.5, fontweight="bold")
            panel.tick_params(labelsize=8)
            # Numbers at the outer panels only; the panels share their axes.
            if i % across:
                panel.set_yticklabels([])
            if i + across < len(names):
                panel.set_xticklabels([])
            else:
                panel.set_xlabel("Severity (0: clean)", fontsize=9)
            if i % across == 0:
                panel.set_ylabel("Accuracy", fontsize=9)
        means = scores[scores["severity"] > 0].groupby("method")["accuracy"].mean()
        for method, short in zip(methods, _style.shorten(methods, 26), strict=True):
            label = f"{means.get(method, np.nan):.3f}  {short}"
            right.plot([], [], markersize=4, label=label, **looks[method])
        right.set_axis_off()
        right.legend(
            title="Mean over all", title_fontsize=9, fontsize=9, alignment="left", frameon=False,
            loc="upper left", bbox_to_anchor=(0, 1), borderaxespad=0,
        )  # fmt: skip
