"""What all Displays share: where their numbers come from, and how they are drawn."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Self

import pandas as pd
from numpy.typing import ArrayLike

from sklearn_clipensemble.inspection._answers import Answers


class Display(ABC):
    """A picture of what backbones and an ensemble answered, and the numbers in it.

    A subclass stores numbers and settings in its constructor, computes them in
    ``from_answers``, draws them in ``_draw`` and returns them from ``_frame``.

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
    @abstractmethod
    def from_answers(cls, answers: Answers, *args: Any, **options: Any) -> Self:
        """Draw answers, see :class:`~sklearn_clipensemble.inspection.Answers`."""

    @classmethod
    def from_estimator(
        cls, estimator: Any, X: ArrayLike, y: ArrayLike | None = None, *, ax=None, **options: Any
    ) -> Self:
        """Draw what a fitted classifier and its backbones answer.

        Parameters
        ----------
        estimator : fitted classifier
            A combiner of this package, or a pipeline or search that ends in one.
        X : array-like of shape (n_samples, ...)
            Whatever the estimator predicts from.
        y : array-like of shape (n_samples,) or None, default=None
            The true labels.
        ax : matplotlib Axes or None, default=None
            Where to draw; None makes a figure.
        **options : dict
            As for ``from_answers``.

        Returns
        -------
        Display
            The display, drawn.
        """
        return cls.from_answers(Answers.from_estimator(estimator, X, y), ax=ax, **options)

    @classmethod
    def from_predictions(
        cls,
        X: ArrayLike | Mapping,
        y: ArrayLike | None = None,
        *,
        classes: ArrayLike | None = None,
        y_pred: ArrayLike | None = None,
        weights: ArrayLike | None = None,
        ax: Any = None,
        **options: Any,
    ) -> Self:
        """Draw answers that were given before.

        Parameters
        ----------
        X, y, classes, y_pred, weights : answers
            As for :meth:`Answers.from_predictions
            <sklearn_clipensemble.inspection.Answers.from_predictions>`.
        ax : matplotlib Axes or None, default=None
            Where to draw; None makes a figure.
        **options : dict
            As for ``from_answers``.

        Returns
        -------
        Display
            The display, drawn.
        """
        answers = Answers.from_predictions(X, y, classes=classes, y_pred=y_pred, weights=weights)
        return cls.from_answers(answers, ax=ax, **options)

    def plot(self, ax: Any = None) -> Self:
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes or None, default=None
            Where to draw; None makes a figure. A Display of several panels takes
            the place of ``ax``, which must be one of a grid of subplots.

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

    @abstractmethod
    def _draw(self, ax) -> None:
        """Draw, and set ``figure_`` and ``ax_``."""

    @abstractmethod
    def _frame(self) -> pd.DataFrame:
        """Return the numbers as one table."""
