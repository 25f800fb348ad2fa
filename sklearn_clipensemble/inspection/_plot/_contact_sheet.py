"""Images with what every backbone says about them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

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

    :meth:`from_answers` takes ``images``, the pictures of all rows, where ``X`` is
    a table; ``n_images`` (12), the largest number to show; and ``show``, which of
    them:

    - ``"disagreement"`` (the default): those with the most different answers;
    - ``"rescued"``: those that the ensemble (without one, the majority) gets right
      although more backbones give one wrong answer than the right one, fewest
      right backbones first;
    - ``"failed"``: those that it gets wrong, surest first;
    - an array of int: these rows.

    With true labels, which the second and the third need, classes take turns.

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

    Examples
    --------
    >>> from sklearn.datasets import load_sample_images
    >>> from sklearn_clipensemble.inspection import ContactSheetDisplay
    >>> said = {"RN50": ["temple", "boat"], "ViT-B-32": ["pagoda", "flower"]}
    >>> images = load_sample_images().images
    >>> display = ContactSheetDisplay.from_predictions(said, ["temple", "flower"], images=images)
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
    def _compute(cls, answers, *, images=None, show="disagreement", n_images=12):
        images = as_sources(answers.X if images is None else images)
        if len(images) != len(answers):
            raise ValueError(f"There are {len(images)} images and {len(answers)} rows of answers.")
        rows, title = _pick(answers, show)
        truth = answers.y
        if truth is not None and isinstance(show, str):
            # The first of every class before the second of any, so that no class fills the sheet.
            turn = pd.Series(truth[rows]).groupby(truth[rows]).cumcount()
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
            y=None if truth is None else truth[rows],
            confidence=confidence,
            weights=None if weights is None else weights[answers.backbones].iloc[rows],
            title=title,
        )

    def _said(self) -> pd.DataFrame:
        """Return the answers of every backbone and, last, of the combiner."""
        combined = {} if self.combined is None else {"combined": self.combined}
        return self.answers.assign(**combined)

    def _frame(self):
        parts = {"answer": self._said(), "probability": self.confidence, "weight": self.weights}
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
            below = _HEAD + row * cell.height * scale
            cell.draw(ax, i, inset + column * cell.width * scale, below, scale)
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
        self.sheet, self.said = sheet, sheet._said()
        self.right = None
        if sheet.y is not None:
            self.right = class_keys(self.said.to_numpy()) == class_keys(sheet.y)[:, None]
        self.names = _style.shorten(list(sheet.answers), 14)
        self.names += [] if sheet.combined is None else ["Ensemble"]
        self.name_width = max(map(_text_width, self.names)) + 8
        given = [x for x in (sheet.answers, sheet.combined, sheet.y) if x is not None]
        labels = pd.unique(np.concatenate([np.asarray(x, dtype=object).ravel() for x in given]))
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
        _, picture = load(self.sheet.images, i)
        picture.thumbnail((256, 256))
        w, h = np.array(picture.size) / max(picture.size) * self.side * scale
        left = x + (self.side * scale - w) / 2
        ax.imshow(
            np.asarray(picture), extent=(left, left + w, y + h, y), cmap="gray", vmin=0, vmax=255,
            interpolation="nearest" if max(picture.size) <= 64 else "antialiased",
        )  # fmt: skip
        x, y = x + (self.side + 8) * scale, y + _LINE * scale / 2
        if self.sheet.y is not None:
            look = {"fontsize": _SIZE * scale, "fontweight": "bold", "va": "center"}
            ax.text(x, y, self.short[self.sheet.y[i]], color=_style.INK, **look)
            y += _LINE * scale
        for line in range(len(self.names)):
            self._line(ax, i, line, x, y + line * _LINE * scale, scale)

    def _line(self, ax, i, line, x, y, scale):
        from matplotlib.patches import Rectangle

        weights, confidence = self.sheet.weights, self.sheet.confidence
        is_backbone = line < self.sheet.answers.shape[1]
        right = None if self.right is None else bool(self.right[i, line])
        colour = {None: _style.INK, True: _style.RIGHT, False: _style.WRONG}[right]
        look = {"fontsize": _SIZE * scale, "va": "center"}
        strong = look | {"fontweight": "normal" if is_backbone else "bold"}
        if is_backbone and weights is not None:
            share, height = weights.iloc[i, line] / weights.to_numpy().max(), _LINE * scale
            corner, width = (x - 2, y - 0.42 * height), share * self.text_width * scale
            bar = Rectangle(corner, width, 0.84 * height, color=colour, alpha=0.16, linewidth=0)
            ax.add_patch(bar)
        if right is not None:
            ax.text(x, y, "✓" if right else "✗", color=colour, **look)
        x += self.mark * scale
        ax.text(x, y, self.names[line], color=_style.INK, **strong)
        x += self.name_width * scale
        ax.text(x, y, self.short[self.said.iloc[i, line]], color=colour, **strong)
        x += (self.answer_width + self.percent_width - 4) * scale
        if confidence is not None and line < confidence.shape[1]:
            percent = f"{100 * confidence.iloc[i, line]:.0f}%"
            ax.text(x, y, percent, color=_style.INK, ha="right", **look)


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
