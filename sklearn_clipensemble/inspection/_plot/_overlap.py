"""Which images the backbones get right together and alone."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pandas as pd
from scipy.ndimage import distance_transform_edt
from scipy.optimize import brentq

from sklearn_clipensemble.inspection._oracle import overlap
from sklearn_clipensemble.inspection._plot import _style
from sklearn_clipensemble.inspection._plot._display import Display


class OverlapDisplay(Display):
    """The overlap of the sets of images that backbones classify correctly.

    Circles up to three backbones, whose areas and pairwise overlaps are
    proportional to the numbers of images (the middle of three circles follows
    from these); beyond, columns of bars over a matrix that says which backbones
    are right, the largest groups first. Answers need true labels.

    Parameters
    ----------
    regions : Series of int
        Number of images by the backbones that are right, as
        :func:`~sklearn_clipensemble.inspection.overlap` counts them.
    max_columns : int, default=20
        The largest number of groups to draw beyond three backbones. An option
        of :meth:`from_answers`, too.

    Attributes
    ----------
    axes_ : ndarray of matplotlib Axes
        The panels, beyond three backbones.

    Examples
    --------
    >>> from sklearn_clipensemble.inspection import OverlapDisplay
    >>> answers = {"RN50": ["cat", "cat", "dog", "cat"], "ViT-B-32": ["cat", "dog", "cat", "cat"]}
    >>> display = OverlapDisplay.from_predictions(answers, ["cat", "cat", "dog", "dog"])
    >>> display.ax_.get_title(loc="left")
    'At least one is right: 75.0%'
    """

    def __init__(self, regions: pd.Series, *, max_columns: int = 20):
        self.regions = regions
        self.max_columns = max_columns

    @classmethod
    def _compute(cls, answers, *, max_columns=20):
        return cls(overlap(answers), max_columns=max_columns)

    def _frame(self):
        return self.regions.reset_index()

    def _draw(self, ax):
        right = np.array([np.atleast_1d(region) for region in self.regions.index], dtype=bool)
        sizes = self.regions.to_numpy()
        names = _style.shorten(self.regions.index.names)
        few = len(names) <= 3
        figsize = (5.4, 4.4) if few else (8, 3 + 0.26 * len(names))
        self.figure_, self.ax_ = _style.new_axes(type(self).__name__, ax, figsize)
        title = f"At least one is right: {sizes[right.any(axis=1)].sum() / sizes.sum():.1%}"
        if few:
            self._circles(right, sizes, names)
            self.ax_.set_title(title, loc="left", fontsize=11, fontweight="bold")
        else:
            self._matrix(right, sizes, names, title)

    def _circles(self, right, sizes, names):
        from matplotlib.patches import Circle

        ax, colours = self.ax_, list(_style.colours(names).values())
        ax.set_axis_off()
        of_set = sizes @ right
        radii = np.sqrt(of_set / np.pi)
        pairs = combinations(range(len(names)), 2)
        shared = {pair: sizes[right[:, pair].all(axis=1)].sum() for pair in pairs}
        centres = _place(radii, shared)
        for centre, radius, colour in zip(centres, radii, colours, strict=True):
            for look in ({"facecolor": colour, "alpha": 0.2}, {"fill": False, "edgecolor": colour}):
                ax.add_patch(Circle(centre, radius, linewidth=1.8 * ("fill" in look), **look))
        low, high = (centres - radii[:, None]).min(axis=0), (centres + radii[:, None]).max(axis=0)
        extent = (high - low).max() or 1.0
        # The names stand below the circles, inside the axes, where every layout leaves them whole.
        margin, legend = 0.12 * extent, 0.09 * (len(names) + 1) * extent
        ax.set_xlim(low[0] - margin, high[0] + margin)
        ax.set_ylim(low[1] - margin - legend, high[1] + margin)
        ax.set_aspect("equal")
        step = extent / 400
        x, y = np.meshgrid(*(np.arange(low[d], high[d], step) for d in (0, 1)))
        circles = zip(centres, radii, strict=True)
        inside = np.array([np.hypot(x - c[0], y - c[1]) < radius for c, radius in circles])
        for region, size in zip(right, sizes, strict=True):
            here = (inside == region[:, None, None]).all(axis=0)
            if not (region.any() and here.any()):
                continue
            room = distance_transform_edt(np.pad(here, 1))[1:-1, 1:-1]
            spot = np.unravel_index(room.argmax(), room.shape)
            spot = np.array([x[spot], y[spot]])
            look = {"ha": "center", "va": "center", "fontsize": 10, "color": _style.INK}
            text = f"{size:,}"
            if room.max() * step > (0.02 + 0.018 * len(text)) * extent:
                ax.text(*spot, text, **look)
            else:  # too narrow to write in
                away = spot - (low + high) / 2
                away /= np.hypot(*away) or 1.0
                line = {"arrowstyle": "-", "color": _style.FAINT, "linewidth": 0.8}
                beyond = (low + high) / 2 + away * 0.58 * extent
                ax.annotate(text, spot, beyond, arrowprops=line, **look)
        lines = [f"{name}: {n:,} right" for name, n in zip(names, of_set, strict=True)]
        lines.append(f"none: {sizes[~right.any(axis=1)].sum():,}")
        for i, (line, colour) in enumerate(zip(lines, [*colours, _style.QUIET], strict=True)):
            ax.annotate(
                line, (0, 0), xycoords="axes fraction", xytext=(4, 4 + 14 * (len(names) - i)),
                textcoords="offset points", color=colour, fontsize=10, annotation_clip=False,
            )  # fmt: skip

    def _matrix(self, right, sizes, names, title):
        narrow = self.figure_.get_size_inches()[0] < 5
        n, shown = len(names), min(len(sizes), 8 if narrow else self.max_columns)
        ratios = {"height_ratios": [1.6, 0.26 * n], "width_ratios": [1, 4]}
        self.axes_ = _style.panels(self.ax_, 2, 2, hspace=0.02, wspace=0.02, **ratios)
        (corner, bars), (sets, matrix) = self.axes_
        corner.set_axis_off()
        colours = list(_style.colours(names).values())
        total, of_set = sizes.sum(), sizes @ right

        # A column takes the colour of the one backbone that is right; groups are ink, nobody is grey.
        def colour_of(region):
            if region.sum() == 1:
                return colours[region.argmax()]
            return _style.INK if region.any() else _style.FAINT

        column_colours = [colour_of(region) for region in right[:shown]]
        places = np.arange(shown)
        bars.bar(places, sizes[:shown], color=column_colours, width=0.62)
        for place, size in zip(places, sizes[:shown], strict=True):
            bars.text(
                place, size, f" {size:,}", rotation=90 if shown > 10 else 0,
                ha="center", va="bottom", fontsize=8.5, color=_style.INK,
            )  # fmt: skip
        _style.tidy(bars, grid=None)
        bars.spines["left"].set_visible(False)
        # Numbers that stand upright need more room above the bars.
        room = 1.3 if shown > 10 else 1.15
        bars.set(xlim=(-0.6, shown - 0.4), xticks=[], yticks=[], ylim=(0, sizes[0] * room))
        note = "" if shown == len(sizes) else f"  ({shown} largest of {len(sizes)} groups)"
        if narrow:
            note = note.strip() and f"\n{note.strip()}"
        start = corner if narrow else bars
        start.set_title(title + note, loc="left", fontsize=11, fontweight="bold")
        for row in range(0, n, 2):
            for ax in (matrix, sets):
                ax.axhspan(row - 0.5, row + 0.5, color=_style.PAPER, linewidth=0, zorder=0)
        for place, (region, colour) in enumerate(zip(right, column_colours, strict=False)):
            rows = np.flatnonzero(region)
            matrix.scatter(np.full(n, place), range(n), s=22, color="#d0d0d0", zorder=2)
            if len(rows):
                matrix.plot([place, place], rows[[0, -1]], color=colour, linewidth=1.6, zorder=3)
                matrix.scatter(np.full(len(rows), place), rows, s=34, color=colour, zorder=4)
        matrix.set(xlim=bars.get_xlim(), ylim=(n - 0.5, -0.5), xticks=[], yticks=[])
        for side in matrix.spines.values():
            side.set_visible(False)
        key = "● right" if narrow else "● right   (grey column: none is right)"
        matrix.set_xlabel(key, fontsize=9, color=_style.QUIET)
        sets.barh(range(n), of_set / total, color=colours, height=0.62)
        _style.tidy(sets, grid=None)
        sets.spines["right"].set_visible(False)
        sets.set(ylim=(n - 0.5, -0.5), xlim=(0, max(of_set.max() / total * 1.45, 0.01)), xticks=[])
        for row, share in enumerate(of_set / total):
            sets.text(share, row, f" {share:.1%}", va="center", fontsize=8.5, color=_style.INK)
        sets.set_yticks(range(n), names, fontsize=9)
        sets.tick_params(length=0)
        sets.set_xlabel("Accuracy", fontsize=9, color=_style.QUIET)


def _place(radii, shared) -> np.ndarray:
    """Return the centres of circles whose pairwise overlaps have the given areas."""
    distance = {(i, j): _distance(radii[i], radii[j], area) for (i, j), area in shared.items()}
    centres = np.zeros((len(radii), 2))
    if len(radii) > 1:
        centres[1] = distance[0, 1], 0
    if len(radii) > 2:
        a, b, c = distance[0, 1], distance[0, 2], distance[1, 2]
        # Three distances that make no triangle are laid on a line.
        along = (a**2 + b**2 - c**2) / (2 * a) if a > 0 else 0.0
        along = np.clip(along, -b, b)
        centres[2] = along, -np.sqrt(max(b**2 - along**2, 0))
    return centres


def _distance(r, s, area: float) -> float:
    """Return how far apart two circles overlap in an area."""
    if area <= 0:
        return 1.04 * (r + s)
    if area >= np.pi * min(r, s) ** 2 * (1 - 1e-9):
        return abs(r - s)
    return brentq(lambda d: _lens(r, s, d) - area, abs(r - s), r + s)


def _lens(r, s, d) -> float:
    """Return the area that two circles share."""
    if d <= abs(r - s):
        return np.pi * min(r, s) ** 2
    a = np.arccos(np.clip((d**2 + r**2 - s**2) / (2 * d * r), -1, 1))
    b = np.arccos(np.clip((d**2 + s**2 - r**2) / (2 * d * s), -1, 1))
    return r**2 * (a - np.sin(2 * a) / 2) + s**2 * (b - np.sin(2 * b) / 2)
