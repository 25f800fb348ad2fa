"""Images with what every backbone says about them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from sklearn_clipensemble.images import as_sources, load
from sklearn_clipensemble.inspection._answers import Answers, class_keys, need
from sklearn_clipensemble.inspection._plot import _style
from sklearn_clipensemble.inspection._plot._display import Display

_SIZE, _LINE = 8.5, 12.5  # points


class ContactSheetDisplay(Display):
    """Images with each backbone's answer, confidence and weight.

    Create it with :meth:`from_answers`, :meth:`from_estimator` or
    :meth:`from_predictions`; the constructor only stores.

    Parameters
    ----------
    images : sequence of n_images images
        What to show: paths, bytes, PIL images or arrays.
    answers : DataFrame of shape (n_images, n_backbones)
        The answer of every backbone; the index names the images.
    combined : array-like of shape (n_images,) or None, default=None
        The answer of the combiner.
    y : array-like of shape (n_images,) or None, default=None
        The true labels.
    confidence : DataFrame or None, default=None
        The probability of every answer, with the columns of ``answers`` and,
        last, one for the combiner.
    weights : DataFrame of shape (n_images, n_backbones) or None, default=None
        How much each backbone counts.
    title : str, default=""
        What the images have in common.

    Attributes
    ----------
    ax_ : matplotlib Axes
        The axes drawn on.
    figure_ : matplotlib Figure
        The figure that holds them.

    Examples
    --------
    >>> from sklearn.datasets import load_sample_images
    >>> from sklearn_clipensemble.inspection import ContactSheetDisplay
    >>> display = ContactSheetDisplay.from_predictions(
    ...     {"RN50": ["temple", "boat"], "ViT-B-32": ["pagoda", "flower"]},
    ...     y=["temple", "flower"],
    ...     images=load_sample_images().images,
    ... )
    >>> display.title
    'Where the backbones disagree most'
    """

    def __init__(
        self,
        images: Sequence,
        answers: pd.DataFrame,
        *,
        combined: ArrayLike | None = None,
        y: ArrayLike | None = None,
        confidence: pd.DataFrame | None = None,
        weights: pd.DataFrame | None = None,
        title: str = "",
    ):
        self.images = images
        self.answers = answers
        self.combined: Any = combined
        self.y: Any = y
        self.confidence = confidence
        self.weights = weights
        self.title = title

    @classmethod
    def from_answers(
        cls,
        answers: Answers,
        *,
        images: Sequence | None = None,
        show: str | Sequence[int] = "disagreement",
        n_images: int = 12,
        ax: Any = None,
    ) -> Self:
        """Choose images by what backbones and ensemble say, and draw them.

        Parameters
        ----------
        answers : Answers
            What was answered.
        images : sequence of n_samples images or None, default=None
            The pictures: paths, bytes, PIL images or arrays; None where they are
            the ``X`` of the answers.
        show : {"disagreement", "rescued", "failed"} or array of int, default="disagreement"
            Which images: those on which the backbones' answers differ most;
            those that the ensemble (without one, the majority) gets right
            although more backbones give one wrong answer than the right one,
            fewest right backbones first; those that it gets wrong, surest first;
            or the given rows. With true labels, which the second and the third
            need, one of every class comes before another of any.
        n_images : int, default=12
            The largest number of images.
        ax : matplotlib Axes or None, default=None
            Where to draw; None makes a figure.

        Returns
        -------
        ContactSheetDisplay
            The display, drawn.
        """
        images = as_sources(answers.X if images is None else images)
        if len(images) != len(answers):
            raise ValueError(f"There are {len(images)} images and {len(answers)} rows of answers.")
        rows, title = _pick(answers, show)
        if answers.y is not None and isinstance(show, str):
            # The first of every class before the second of any, so that no class fills the sheet.
            turn = pd.Series(answers.y[rows]).groupby(answers.y[rows]).cumcount()
            rows = rows[np.argsort(turn, kind="stable")]
        rows = rows[:n_images]
        confidence = None
        if answers.probabilities:
            sure = {name: p[rows].max(axis=1) for name, p in answers.probabilities.items()}
            confidence = pd.DataFrame(sure, answers.index[rows])
            confidence = confidence.rename(columns={answers.ensemble: "combined"})
        weights = answers.weights
        return cls(
            [images[i] for i in rows],
            answers.predictions[answers.backbones].iloc[rows],
            combined=None if answers.ensemble is None else np.asarray(answers.y_pred)[rows],
            y=None if answers.y is None else answers.y[rows],
            confidence=confidence,
            weights=None if weights is None else weights[answers.backbones].iloc[rows],
            title=title,
        ).plot(ax)

    def _frame(self):
        answers = self.answers.copy()
        if self.combined is not None:
            answers["combined"] = self.combined
        parts = {"answer": answers, "probability": self.confidence, "weight": self.weights}
        frame = pd.concat({k: part for k, part in parts.items() if part is not None}, axis=1)
        if self.y is not None:
            frame["truth", ""] = self.y
        return frame

    def _draw(self, ax):
        plt = _style.require_matplotlib(type(self).__name__)
        n, cell = len(self.images), _Cell(self)
        if ax is None:
            across = min(max(n, 1), 3 if cell.width < 300 else 2)
            down = -(-n // across)
            size = max(across * cell.width + 12, 300), down * cell.height + _HEAD + 30
            ax = plt.figure(figsize=np.divide(size, 72)).add_axes((0, 0, 1, 1))
        self.figure_, self.ax_ = ax.figure, ax
        width, height = _style.size_in_points(ax)
        key = self._key(width)
        room = height - _HEAD - 8 - 11 * (key.count("\n") + 1)
        # Every number of columns is tried for the one that shrinks the cells least.
        scales = {
            across: min(1.0, width / (across * cell.width), room / (-(-n // across) * cell.height))
            for across in range(1, n + 1)
        }
        across = max(scales, key=scales.get, default=1)
        scale = scales.get(across, 1.0)
        left = max((width - across * cell.width * scale) / 2, 0) if n else 0
        ax.set_axis_off()
        inset = left + 6 * scale
        ax.text(inset, 6, self.title, fontsize=11, fontweight="bold", color=_style.INK, va="top")
        for i in range(n):
            row, column = divmod(i, across)
            cell.draw(
                ax, i, inset + column * cell.width * scale, _HEAD + row * cell.height * scale, scale
            )
        below = _HEAD + -(-n // across) * cell.height * scale
        key = key if n else "There is no such image."
        ax.text(inset, below, key, fontsize=8, color=_style.QUIET, va="top", linespacing=1.3)
        # Points from the upper left corner; after imshow, which sets limits of its own.
        ax.set(xlim=(0, width), ylim=(height, 0), aspect="auto")

    def _key(self, width: float) -> str:
        """Say what the signs mean, in one line where it fits."""
        key = ["✓ right  ✗ wrong"] if self.y is not None else []
        key += ["%: the answer's probability"] if self.confidence is not None else []
        key += ["bar: the backbone's weight for this image"] if self.weights is not None else []
        line = "     ".join(key)
        return line if _text_width(line) < width - 12 else "\n".join(key)


_HEAD = 28  # points above the first cell


class _Cell:
    """One image and its lines of text, measured in points."""

    def __init__(self, sheet: ContactSheetDisplay):
        self.sheet = sheet
        names = _style.shorten(list(sheet.answers), 14)
        self.names = names + ([] if sheet.combined is None else ["Ensemble"])
        self.name_width = max(map(_text_width, self.names)) + 8
        labels = pd.unique(
            np.concatenate(
                [
                    sheet.answers.to_numpy().astype(object).ravel(),
                    *(
                        np.asarray(a, dtype=object)
                        for a in (sheet.combined, sheet.y)
                        if a is not None
                    ),
                ]
            )
        )
        self.short = dict(zip(labels, _style.shorten(labels, 17), strict=True))
        self.answer_width = max(map(_text_width, self.short.values()), default=20) + 8
        self.percent_width = 0 if sheet.confidence is None else 27
        text = _LINE * (len(self.names) + (sheet.y is not None))
        self.side = float(np.clip(text, 70, 110))
        self.mark = 0 if sheet.y is None else 11
        self.text_width = self.mark + self.name_width + self.answer_width + self.percent_width
        self.width = self.side + 8 + self.text_width + 16
        self.height = max(self.side, text) + 14

    def draw(self, ax, i: int, x: float, y: float, scale: float):
        """Draw the i-th image and its answers with the upper left corner at x, y."""
        sheet = self.sheet
        _, picture = load(sheet.images, i)
        picture.thumbnail((256, 256))
        w, h = np.array(picture.size) / max(picture.size) * self.side * scale
        x0, y0 = x + (self.side * scale - w) / 2, y
        ax.imshow(
            np.asarray(picture),
            extent=(x0, x0 + w, y0 + h, y0),
            cmap="gray",
            vmin=0,
            vmax=255,
            interpolation="nearest" if max(picture.size) <= 64 else "antialiased",
        )
        x, size = x + (self.side + 8) * scale, _SIZE * scale
        top = y + _LINE * scale / 2
        if sheet.y is not None:
            ax.text(
                x, top, self.short[sheet.y[i]], fontsize=size, fontweight="bold",
                color=_style.INK, va="center",
            )  # fmt: skip
            top += _LINE * scale
        answers = list(sheet.answers.iloc[i])
        answers += [] if sheet.combined is None else [sheet.combined[i]]
        for line, (name, answer) in enumerate(zip(self.names, answers, strict=True)):
            self._line(ax, i, line, name, answer, x, top + line * _LINE * scale, scale)

    def _line(self, ax, i, line, name, answer, x, y, scale):
        from matplotlib.patches import Rectangle

        sheet, size = self.sheet, _SIZE * scale
        is_backbone = line < sheet.answers.shape[1]
        right = (
            None
            if sheet.y is None
            else bool(class_keys(np.array([answer]))[0] == class_keys(sheet.y[[i]])[0])
        )
        colour = {None: _style.INK, True: _style.RIGHT, False: _style.WRONG}[right]
        weight = "normal" if is_backbone else "bold"
        if is_backbone and sheet.weights is not None:
            share = sheet.weights.iloc[i, line] / sheet.weights.to_numpy().max()
            ax.add_patch(
                Rectangle(
                    (x - 2, y - 0.42 * _LINE * scale),
                    share * self.text_width * scale,
                    0.84 * _LINE * scale,
                    facecolor=colour,
                    alpha=0.16,
                    linewidth=0,
                )
            )
        if right is not None:
            ax.text(x, y, "✓" if right else "✗", fontsize=size, color=colour, va="center")
        x += self.mark * scale
        ax.text(x, y, name, fontsize=size, color=_style.INK, va="center", fontweight=weight)
        x += self.name_width * scale
        ax.text(
            x, y, self.short[answer], fontsize=size, color=colour, va="center", fontweight=weight
        )
        x += (self.answer_width + self.percent_width - 4) * scale
        if sheet.confidence is not None and line < sheet.confidence.shape[1]:
            percent = f"{100 * sheet.confidence.iloc[i, line]:.0f}%"
            ax.text(x, y, percent, fontsize=size, color=_style.QUIET, va="center", ha="right")


def _text_width(text: str) -> float:
    """Return the width of a text in points, in bold so that both weights fit."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    font = FontProperties(size=_SIZE, weight="bold")
    return text_to_path.get_text_width_height_descent(text, font, ismath=False)[0]


def _pick(answers: Answers, show) -> tuple[np.ndarray, str]:
    """Return the rows to show, best first, and what they have in common."""
    if not isinstance(show, str):
        return np.asarray(show, dtype=int), "Chosen images"
    predicted = need(answers, "predicted")
    keys = class_keys(predicted)
    votes = (keys[:, :, None] == keys[:, None, :]).sum(axis=2)
    if show == "disagreement":
        # Entropy of the votes: a backbone with v votes adds log(v / b) / b.
        entropy = -np.log(votes / votes.shape[1]).mean(axis=1)
        rows = np.argsort(-entropy, kind="stable")
        return rows[entropy[rows] > 0], "Where the backbones disagree most"
    if show not in ("rescued", "failed"):
        raise ValueError(
            f"show={show!r}; expected 'disagreement', 'rescued', 'failed' or an array of rows."
        )
    given, sure = answers.y_pred, np.zeros(len(keys))
    if given is None:
        given = predicted[np.arange(len(keys)), votes.argmax(axis=1)]
    elif answers.probabilities and answers.ensemble in answers.probabilities:
        sure = answers.probabilities[answers.ensemble].max(axis=1)
    right, for_truth = class_keys(given) == class_keys(need(answers, "y")), answers.hits.sum(axis=1)
    if show == "failed":
        rows = np.flatnonzero(~right)
        return rows[np.argsort(-sure[rows], kind="stable")], "Where the ensemble fails"
    rows = np.flatnonzero(right & (votes.max(axis=1) > for_truth))
    order = np.lexsort([-sure[rows], for_truth[rows]])
    return rows[order], "Where the ensemble overrules the vote, rightly"
