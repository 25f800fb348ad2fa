"""Accuracy against the number of labelled images per class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from sklearn_clipensemble.inspection._answers import need
from sklearn_clipensemble.inspection._oracle import oracle_score
from sklearn_clipensemble.inspection._plot import _style
from sklearn_clipensemble.inspection._plot._display import Display, check_columns
from sklearn_clipensemble.model_selection import shot_curve


class ShotCurveDisplay(Display):
    """Accuracy against shots, with spread, beside what takes no labels.

    Lines are means over draws, bands one standard deviation. A method that scores
    the same at every shot count, as one that takes no labels does, is a dashed
    line. :meth:`from_answers` takes ``shots``, ``score_name`` and the options of
    :func:`~sklearn_clipensemble.model_selection.shot_curve`. The ensemble learns
    from some of the images and is scored on the rest; its backbones and their
    oracle are dashed lines, unless a ``scoring`` other than accuracy is given.

    Parameters
    ----------
    scores : DataFrame
        One row per method and draw, with columns ``method``, ``shots`` and
        ``score``. ``shots`` is 0 for what is not repeated, such as an oracle.
    score_name : str, default="Accuracy"
        What the scores are.
    highlight : str or None, default=None
        The method to draw in black; None takes the first one.

    Attributes
    ----------
    lines_ : dict of str to matplotlib Line2D
        The line of each method.

    Examples
    --------
    >>> from sklearn_clipensemble.inspection import ShotCurveDisplay
    >>> display = ShotCurveDisplay.from_scores(
    ...     {"adaptive": {1: [0.61, 0.64], 16: [0.79, 0.80]}, "average": {0: [0.60]}}
    ... )
    >>> display.ax_.get_xlabel()
    'Labelled images per class'
    """

    def __init__(
        self, scores: pd.DataFrame, *, score_name: str = "Accuracy", highlight: str | None = None
    ):
        self.scores = scores
        self.score_name = score_name
        self.highlight = highlight

    @classmethod
    def _compute(cls, answers, *, score_name="Accuracy", **options):
        need(answers, "estimator")
        scores = shot_curve(answers.combiner, answers.combiner_X, need(answers, "y"), **options)
        if options.get("scoring") is None and answers.backbones:
            levels = pd.Series(answers.hits.mean(axis=0), answers.backbones).rename_axis("method")
            levels["oracle"] = oracle_score(answers)
            scores = pd.concat(
                [scores, levels.rename("score").reset_index().assign(shots=0)], ignore_index=True
            )
        return cls(scores, score_name=score_name)

    @classmethod
    def from_estimator(  # type: ignore[override]  # which need not be fitted, but labelled
        cls,
        estimator: Any,
        X: ArrayLike,
        y: ArrayLike,
        *,
        score_name: str = "Accuracy",
        ax: Any = None,
        **options: Any,
    ) -> Self:
        """Measure any classifier's scores against shots, and draw them.

        Parameters
        ----------
        estimator, X, y : object
            A classifier, which is cloned, never fitted, and labelled data.
        score_name, ax, **options : object
            As for :meth:`from_answers`.

        Returns
        -------
        ShotCurveDisplay
            The display, drawn.
        """
        return cls(shot_curve(estimator, X, y, **options), score_name=score_name).plot(ax)

    @classmethod
    def from_scores(
        cls,
        scores: pd.DataFrame | Mapping[str, Mapping[int, Sequence[float]]],
        *,
        score_name: str = "Accuracy",
        highlight: str | None = None,
        ax: Any = None,
    ) -> Self:
        """Draw scores that were measured before.

        Parameters
        ----------
        scores : DataFrame or mapping
            As for the class, or a mapping of method to shots to scores.
        score_name, highlight, ax : object
            As for the class and for :meth:`from_answers`.

        Returns
        -------
        ShotCurveDisplay
            The display, drawn.
        """
        if isinstance(scores, Mapping):
            rows = [
                (method, shots, score)
                for method, curve in scores.items()
                for shots, draws in curve.items()
                for score in np.atleast_1d(draws)
            ]
            scores = pd.DataFrame(rows, columns=["method", "shots", "score"])
        return cls(scores, score_name=score_name, highlight=highlight).plot(ax)

    def _frame(self):
        return self.scores

    def _draw(self, ax):
        check_columns(self.scores, "method", "shots", "score")
        if not (self.scores["shots"] > 0).any():
            raise ValueError("No method has more than 0 shots: there is no curve to draw.")
        methods = list(dict.fromkeys(self.scores["method"]))
        highlight = methods[0] if self.highlight is None else self.highlight
        if highlight not in methods:
            raise ValueError(f"highlight={highlight!r} is none of the methods: {methods}.")
        self.figure_, self.ax_ = _style.new_axes(type(self).__name__, ax, (7, 4.2))
        ax = self.ax_
        scores = self.scores.groupby(["method", "shots"])["score"].agg(["mean", "std"])
        shots = sorted(set(self.scores["shots"]) - {0})
        flat = {
            m
            for m in methods
            if scores.loc[m].index.max() == 0
            or (m != highlight and len(scores.loc[m]) > 1 and np.ptp(scores.loc[m, "mean"]) < 1e-9)
        }
        curves = [m for m in methods if m not in flat]
        colour = dict.fromkeys(methods, _style.QUIET) | _style.colours(curves, [highlight])
        marker = _style.markers(curves)
        _style.tidy(ax)
        self.lines_, ends = {}, {}
        for method in sorted(methods, key=lambda m: m == highlight):
            mean, std = (scores.loc[method][column] for column in ("mean", "std"))
            if method in flat:
                x, mean = [0, len(shots) - 1], mean.iloc[[-1, -1]]
                look = {"linewidth": 1.0, "linestyle": (0, (4, 3))}
            else:
                x, std = [shots.index(n) for n in mean.index], std.fillna(0)
                look = {"marker": marker[method], "markersize": 5.5}
                look["linewidth"] = 2.6 if method == highlight else 1.6
                low, high = mean - std, mean + std
                if self.scores["score"].between(0, 1).all():  # a share, as accuracy is
                    low, high = low.clip(0, 1), high.clip(0, 1)
                ax.fill_between(x, low, high, color=colour[method], alpha=0.14, linewidth=0)
            (self.lines_[method],) = ax.plot(x, mean, color=colour[method], **look)
            ends[method] = mean.iloc[-1]
        ax.set_xticks(range(len(shots)), [f"{n:g}" for n in shots])
        ax.set(xlim=(-0.15, len(shots) - 1 + 0.08), ylim=ax.get_ylim())
        ax.set(xlabel="Labelled images per class", ylabel=self.score_name)
        names = dict(zip(ends, _style.shorten(list(ends), 26), strict=True))
        heights, inks = list(ends.values()), [colour[method] for method in ends]
        _style.label_right(ax, list(names.values()), heights, inks, bold=[names[highlight]])
