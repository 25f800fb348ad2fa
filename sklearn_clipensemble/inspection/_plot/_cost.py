"""Accuracy against what an image costs."""

from __future__ import annotations

import pandas as pd

from sklearn_clipensemble.cost import cost_curve
from sklearn_clipensemble.inspection._answers import need
from sklearn_clipensemble.inspection._plot import _style
from sklearn_clipensemble.inspection._plot._display import Display, check_columns

_TICKS = [digit * 10.0**power for power in range(-4, 6) for digit in (1, 2, 5)]
_LINES = {"subset": "a few, chosen by the labels", "cascade": "cascade"}


class CostDisplay(Display):
    """Accuracy against GFLOPs per image: single backbones, some, all, and the cascade.

    Means over draws. :meth:`from_answers` takes the options of
    :func:`~sklearn_clipensemble.cost.cost_curve`: the classifier learns from some
    of the images and is scored on the others.

    Parameters
    ----------
    scores : DataFrame
        What :func:`~sklearn_clipensemble.cost.cost_curve` returns: the columns
        ``method``, ``name``, ``gflops`` and ``accuracy``, a row per draw.

    Attributes
    ----------
    lines_ : dict of str to matplotlib Line2D
        The lines of "subset" and "cascade".

    Examples
    --------
    >>> import pandas as pd
    >>> from sklearn_clipensemble.inspection import CostDisplay
    >>> scores = pd.DataFrame({
    ...     "method": ["backbone", "backbone", "cascade", "cascade", "all"],
    ...     "name": ["RN50/openai", "ViT-B-16/openai", 0.05, 0.01, 2],
    ...     "gflops": [12.2, 35.1, 15.0, 21.0, 47.3],
    ...     "accuracy": [0.71, 0.78, 0.76, 0.80, 0.81],
    ... })
    >>> CostDisplay(scores).plot().ax_.get_xlabel()
    'GFLOPs per image'
    """

    def __init__(self, scores: pd.DataFrame):
        self.scores = scores

    @classmethod
    def _compute(cls, answers, **options):
        need(answers, "estimator")
        scores = cost_curve(answers.combiner, answers.combiner_X, need(answers, "y"), **options)
        return cls(scores)

    def _frame(self):
        return self.scores

    def _draw(self, ax):
        check_columns(self.scores, "method", "name", "gflops", "accuracy")
        means = self.scores.groupby(["method", "name"], sort=False)[["gflops", "accuracy"]].mean()
        self.figure_, self.ax_ = _style.new_axes(type(self).__name__, ax, (7.2, 4.4))
        ax, self.lines_ = self.ax_, {}
        _style.tidy(ax)
        ax.set_xscale("log")
        known = dict.fromkeys(means.index.get_level_values("method"))
        alone = means.loc["backbone"] if "backbone" in known else means.iloc[:0]
        ax.scatter(
            alone.gflops, alone.accuracy, color=_style.FAINT, s=34, marker="s", label="one backbone"
        )
        whole = means.loc["all"] if "all" in known else means.iloc[:0]
        for method, colour, marker in (
            ("subset", _style.colours(["subset"])["subset"], "D"),
            ("cascade", _style.INK, "o"),
        ):
            if method not in known:
                continue
            line = pd.concat([means.loc[method], whole]).sort_values("gflops")
            (self.lines_[method],) = ax.plot(
                line.gflops, line.accuracy, color=colour, marker=marker, markersize=5,
                linewidth=2.4 if method == "cascade" else 1.6, label=_LINES[method],
            )  # fmt: skip
        ax.scatter(
            whole.gflops,
            whole.accuracy,
            color=_style.WRONG,
            s=130,
            marker="*",
            zorder=4,
            label="all backbones",
        )
        low, high = means.gflops.min(), means.gflops.max()
        ticks = [t for t in _TICKS if low / 1.3 <= t <= high * 1.2]
        ax.set_xticks(ticks, [f"{t:g}" for t in ticks])
        ax.minorticks_off()
        ax.set(xlim=(low / 1.3, high * 1.2), xlabel="GFLOPs per image", ylabel="Accuracy")
        ax.margins(y=0.12)
        wide = _style.size_in_points(ax)[0] > 400
        ax.legend(
            frameon=False, fontsize=9, ncols=4 if wide else 2, loc="lower center", bbox_to_anchor=(0.5, 1),
            columnspacing=1.2, handletextpad=0.5,
        )  # fmt: skip
        names = _style.shorten(list(alone.index), 22)
        _style.label_points(ax, names, alone.gflops, alone.accuracy)
