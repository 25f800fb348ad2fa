"""Accuracy against the number of labelled images per class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from sklearn_clipensemble.inspection._plot import _style


class ShotCurveDisplay:
    """Accuracy against shots, with spread, beside what takes no labels.

    Create it with :meth:`from_scores` or :meth:`from_estimator`; the
    constructor only stores.

    Parameters
    ----------
    scores : DataFrame
        One row per method and draw, with columns ``method``, ``n_shots`` and
        ``score``. A method that takes no labels has ``n_shots`` 0.
    score_name : str, default="Accuracy"
        What the scores are.

    Attributes
    ----------
    ax_ : matplotlib Axes
        The axes drawn on.
    figure_ : matplotlib Figure
        The figure that holds them.
    lines_ : dict of str to matplotlib Line2D
        The line of each method.

    See Also
    --------
    sklearn_clipensemble.model_selection.shot_curve : Measures the scores.

    Examples
    --------
    >>> from sklearn_clipensemble.inspection import ShotCurveDisplay
    >>> display = ShotCurveDisplay.from_scores(
    ...     {
    ...         "adaptive": {1: [0.61, 0.64], 4: [0.70, 0.71], 16: [0.79, 0.80]},
    ...         "logistic regression": {1: [0.40, 0.47], 4: [0.62, 0.63], 16: [0.76, 0.77]},
    ...         "probability average": {0: [0.60]},
    ...     }
    ... )
    >>> display.ax_.get_xlabel()
    'Labelled images per class'
    """

    def __init__(self, scores: pd.DataFrame, *, score_name: str = "Accuracy"):
        self.scores = scores
        self.score_name = score_name

    @classmethod
    def from_scores(
        cls,
        scores: pd.DataFrame | Mapping[str, Mapping[int, Sequence[float]]],
        *,
        score_name: str = "Accuracy",
        highlight: str | None = None,
        ax=None,
    ) -> ShotCurveDisplay:
        """Draw scores that were measured before.

        Parameters
        ----------
        scores : DataFrame or mapping
            One row per method and draw, with columns ``method``, ``n_shots``
            and ``score``, as
            :func:`~sklearn_clipensemble.model_selection.shot_curve` returns
            them; or a mapping of method to shots to scores. Methods that take
            no labels have 0 shots.
        score_name : str, default="Accuracy"
            What the scores are.
        highlight : str or None, default=None
            The method to draw in black; None takes the first one.
        ax : matplotlib Axes or None, default=None
            Where to draw; None makes a figure.

        Returns
        -------
        ShotCurveDisplay
            The display, drawn.

        Raises
        ------
        ValueError
            If a column is missing, or if no method has more than 0 shots.
        """
        if isinstance(scores, Mapping):
            scores = pd.DataFrame(
                [
                    (method, n_shots, score)
                    for method, curve in scores.items()
                    for n_shots, draws in curve.items()
                    for score in np.atleast_1d(draws)
                ],
                columns=["method", "n_shots", "score"],
            )
        missing = {"method", "n_shots", "score"} - set(scores.columns)
        if missing:
            raise ValueError(
                f"scores has no column {min(missing)!r}; expected 'method', 'n_shots' and 'score', "
                f"got {list(scores.columns)}."
            )
        if not (scores["n_shots"] > 0).any():
            raise ValueError("No method has more than 0 shots: there is no curve to draw.")
        return cls(scores, score_name=score_name).plot(ax=ax, highlight=highlight)

    def plot(self, ax=None, *, highlight: str | None = None) -> ShotCurveDisplay:
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes or None, default=None
            Where to draw; None makes a figure.
        highlight : str or None, default=None
            The method to draw in black; None takes the first one.

        Returns
        -------
        ShotCurveDisplay
            This display.
        """
        methods = list(dict.fromkeys(self.scores["method"]))
        highlight = methods[0] if highlight is None else highlight
        if highlight not in methods:
            raise ValueError(f"highlight={highlight!r} is none of the methods: {methods}.")
        self.figure_, self.ax_ = _style.new_axes(type(self).__name__, ax, (7, 4.2))
        ax = self.ax_
        shots = sorted(set(self.scores.loc[self.scores["n_shots"] > 0, "n_shots"]))
        place = {n: i for i, n in enumerate(shots)}
        curves = [
            m for m in methods if (self.scores["n_shots"][self.scores["method"] == m] > 0).any()
        ]
        colour = dict.fromkeys(methods, _style.QUIET) | _style.colours(curves, [highlight])
        marker = _style.markers(curves)
        _style.tidy(ax)
        self.lines_, ends = {}, {}
        for method in sorted(methods, key=lambda m: m == highlight):
            grouped = self.scores[self.scores["method"] == method].groupby("n_shots")["score"]
            mean, spread = grouped.mean(), grouped.std().fillna(0)
            width = 2.6 if method == highlight else 1.6
            if method not in curves:
                (line,) = ax.plot(
                    [0, len(shots) - 1],
                    [mean[0]] * 2,
                    color=colour[method],
                    linewidth=1.2,
                    linestyle=(0, (4, 3)),
                )
            else:
                mean, spread = mean[mean.index > 0], spread[spread.index > 0]
                x = [place[n] for n in mean.index]
                (line,) = ax.plot(
                    x,
                    mean,
                    color=colour[method],
                    linewidth=width,
                    marker=marker[method],
                    markersize=5.5,
                    zorder=2 + (method == highlight),
                )
                ax.fill_between(
                    x, mean - spread, mean + spread, color=colour[method], alpha=0.14, linewidth=0
                )
            self.lines_[method], ends[method] = line, mean.iloc[-1]
        ax.set_xticks(range(len(shots)), [f"{n:g}" for n in shots])
        ax.set_xlim(-0.15, len(shots) - 1 + 0.08)
        ax.set_xlabel("Labelled images per class")
        ax.set_ylabel(self.score_name)
        low, high = ax.get_ylim()
        ax.set_ylim(low, high)
        _style.label_right(
            ax,
            _style.shorten(ends, 26),
            list(ends.values()),
            [colour[method] for method in ends],
            bold=_style.shorten([highlight], 26),
        )
        return self
