"""What all Displays share: where their numbers come from, and how they are drawn."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Self

import pandas as pd
from numpy.typing import ArrayLike

from sklearn_clipensemble.inspection._answers import Answers


class Display(ABC):
    """A picture of what backbones and an ensemble answered, and the numbers in it.

    Make it with one of the ``from_`` methods; the constructor only stores. A
    subclass computes its numbers in ``_compute``, draws them in ``_draw`` and
    returns them from ``_frame``.

    Attributes
    ----------
    ax_ : matplotlib Axes
        The axes drawn on.
    figure_ : matplotlib Figure
        The figure that holds them.
    """

    ax_: Any
    figure_: Any

    @classmethod
    def from_answers(cls, answers: Answers, *, ax: Any = None, **options: Any) -> Self:
        """Draw answers.

        Parameters
        ----------
        answers : Answers
            What backbones and ensemble answered.
        ax : matplotlib Axes or None, default=None
            Where to draw; None makes a figure. A Display of several panels takes
            the place of ``ax``, which must be one of a grid of subplots.
        **options : dict
            As the class describes them.

        Returns
        -------
        Display
            The display, drawn.
        """
        return cls._compute(answers, **options).plot(ax)

    @classmethod
    def from_estimator(
        cls, estimator: Any, X: ArrayLike, y: ArrayLike | None = None, **options: Any
    ) -> Self:
        """Draw what a fitted classifier and its backbones answer.

        Parameters
        ----------
        estimator, X, y : object
            As for :meth:`~sklearn_clipensemble.inspection.Answers.from_estimator`.
        **options : dict
            As for :meth:`from_answers`, with ``ax``.

        Returns
        -------
        Display
            The display, drawn.
        """
        return cls.from_answers(Answers.from_estimator(estimator, X, y), **options)

    @classmethod
    def from_predictions(
        cls,
        X: Any,
        y: ArrayLike | None = None,
        *,
        classes: ArrayLike | None = None,
        y_pred: ArrayLike | None = None,
        weights: ArrayLike | None = None,
        **options: Any,
    ) -> Self:
        """Draw answers that were given before.

        Parameters
        ----------
        X, y, classes, y_pred, weights : object
            As for :meth:`~sklearn_clipensemble.inspection.Answers.from_predictions`.
        **options : dict
            As for :meth:`from_answers`, with ``ax``.

        Returns
        -------
        Display
            The display, drawn.
        """
        answers = Answers.from_predictions(X, y, classes=classes, y_pred=y_pred, weights=weights)
        return cls.from_answers(answers, **options)

    def plot(self, ax: Any = None) -> Self:
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes or None, default=None
            As for :meth:`from_answers`.

        Returns
        -------
        Display
            This display.
        """
        self._draw(ax)
        return self

    def frame(self) -> pd.DataFrame:
        """Return the numbers in the picture.

        Returns
        -------
        DataFrame
            What the parameters of the class describe, in one table.
        """
        return self._frame()

    @classmethod
    @abstractmethod
    def _compute(cls, answers: Answers, *args: Any, **options: Any) -> Self:
        """Return the Display of answers, not yet drawn."""

    @abstractmethod
    def _draw(self, ax) -> None:
        """Draw, and set ``figure_`` and ``ax_``."""

    @abstractmethod
    def _frame(self) -> pd.DataFrame:
        """Return the numbers as one table."""


def check_columns(scores: pd.DataFrame, *columns: str) -> None:
    """Raise if scores lack one of the columns."""
    missing = sorted(set(columns) - set(scores.columns))
    if missing:
        raise ValueError(
            f"scores has no column {missing[0]!r}; expected {', '.join(map(repr, columns))}, "
            f"got {list(scores.columns)}."
        )
