"""How much each backbone counts, and for what."""

from __future__ import annotations

from textwrap import wrap
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from sklearn_clipensemble.inspection._plot import _style
from sklearn_clipensemble.inspection._plot._display import Display
from sklearn_clipensemble.table._labels import check_labels


class WeightsDisplay(Display):
    """Combination weights: their distribution by backbone, and their means by class.

    Parameters
    ----------
    weights : DataFrame of shape (n_samples, n_backbones)
        The weights, as ``combination_weights`` returns them.
    y : array-like of shape (n_samples,) or None, default=None
        The class of every row: in answers, the true one, or the predicted one
        where there is none. None draws the distribution only.
    max_classes : int, default=25
        The largest number of classes to draw: those whose weights differ most
        from the mean. An option of :meth:`from_answers`, too.

    Attributes
    ----------
    axes_ : ndarray of matplotlib Axes
        The panels.

    Examples
    --------
    >>> import pandas as pd
    >>> from sklearn_clipensemble.inspection import WeightsDisplay
    >>> weights = pd.DataFrame({"RN50": [0.2, 0.3, 0.6], "ViT-B-32": [0.8, 0.7, 0.4]})
    >>> display = WeightsDisplay.from_weights(weights, ["cat", "cat", "dog"])
    >>> [tick.get_text() for tick in display.axes_[-1].get_yticklabels()]
    ['dog', 'cat']
    """

    def __init__(self, weights: pd.DataFrame, y: ArrayLike | None = None, *, max_classes: int = 25):
        self.weights = weights
        self.y = y
        self.max_classes = max_classes

    @classmethod
    def from_weights(
        cls, weights: pd.DataFrame, y: ArrayLike | None = None, *, ax: Any = None, **options: Any
    ) -> Self:
        """Draw weights that were computed before.

        Parameters
        ----------
        weights, y, ax, **options : object
            As for the class and for :meth:`from_answers`.

        Returns
        -------
        WeightsDisplay
            The display, drawn.
        """
        return cls(weights, y, **options).plot(ax)

    @classmethod
    def _compute(cls, answers, *, max_classes=25):
        if answers.weights is None:
            raise TypeError(
                f"{answers.ensemble or 'What was answered'} has no combination_weights: it does not "
                "weight backbones."
            )
        y = answers.y_pred if answers.y is None else answers.y
        return cls(answers.weights, y, max_classes=max_classes)

    def _frame(self):
        return self.weights

    def _draw(self, ax):
        weights, names = self.weights, _style.shorten(list(self.weights))
        by_class = None
        if self.y is not None:
            by_class = weights.groupby(check_labels(self.y)).mean()
            n_classes = len(by_class)
            # Where the image decides: the classes furthest from the mean, and by the leading backbone.
            apart = (by_class - weights.mean()).abs().sum(axis=1)
            by_class = by_class.loc[apart.nlargest(self.max_classes).index]
            leading = by_class.to_numpy().argmax(axis=1)
            by_class = by_class.iloc[np.lexsort([-by_class.max(axis=1), leading])]
        rows = 0 if by_class is None else len(by_class)
        figsize = (max(5.2, 2.4 + 0.62 * len(names)), 2.3 + (0.6 + 0.22 * rows) * (rows > 0))
        self.figure_, self.ax_ = _style.new_axes(type(self).__name__, ax, figsize)
        heights = [1.5] + ([0.22 * rows + 0.4] if rows else [])
        self.axes_ = _style.panels(self.ax_, len(heights), 1, height_ratios=heights)[:, 0]
        top = self.axes_[0]
        colours = list(_style.colours(names).values())
        places = range(len(names))
        drawn = top.violinplot(weights.to_numpy(), positions=places, widths=0.8, showextrema=False)
        for body, colour in zip(drawn["bodies"], colours, strict=True):
            body.set(facecolor=colour, edgecolor=colour, alpha=0.35)
        top.scatter(places, weights.mean(), color=colours, s=28, zorder=3)
        for place, mean in zip(places, weights.mean(), strict=True):
            top.annotate(
                f"{mean:.2f}", (place, mean), xytext=(0, 4), textcoords="offset points", fontsize=8.5,
                ha="center", va="bottom", color=_style.INK, path_effects=_style.halo(top),
            )  # fmt: skip
        _style.tidy(top)
        top.set(xlim=(-0.5, len(names) - 0.5), ylim=(0, 1.15 * np.max(weights)), ylabel="Weight")
        top.set_title("Weights over all images", loc="left", fontsize=11, fontweight="bold")
        if by_class is None:
            top.set_xticks(places, names, fontsize=9)
            return
        top.set_xticks(places, [])
        narrow = self.figure_.get_size_inches()[0] < 5
        classes = _style.shorten(list(by_class.index), 16 if narrow else 22)
        _style.heatmap(self.axes_[1], by_class.to_numpy(), classes, names, text=True)
        which = ["Mean weight by class"]
        if rows < n_classes:
            letters = int(_style.size_in_points(self.axes_[1])[0] / 7)
            which += wrap(f"({rows} of {n_classes}, furthest from average)", max(letters, 12))
        self.axes_[1].set_title("\n".join(which), loc="left", fontsize=11, fontweight="bold")
