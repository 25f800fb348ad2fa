"""What all pictures share: colours, names that fit, labels that do not overlap.

Nothing here changes matplotlib's global settings.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

INK, QUIET, FAINT, PAPER = "#222222", "#666666", "#8a8a8a", "#ededed"
RIGHT, WRONG = "#0f6b2e", "#a82a4a"

#: After Paul Tol's "muted" scheme, which stays apart for colour-blind readers; ordered so that the
#: first few differ most, and darkened to a contrast of 4.5 with white, since names are written in them.
_COLOURS = (
    "#332288",
    "#be5162",
    "#2a8071",
    "#936d15",
    "#307ca4",
    "#882255",
    "#117733",
    "#aa4499",
    "#77771e",
)
_MARKERS = "osD^vPX*<>"


def colours(names: Iterable[str], combined: Iterable[str] = ()) -> dict[str, str]:
    """Return a colour for each name; the combiners are drawn in ink."""
    combined = set(combined)
    free = [name for name in names if name not in combined]
    found = {name: _COLOURS[i % len(_COLOURS)] for i, name in enumerate(free)}
    return found | dict.fromkeys(combined, INK)


def markers(names: Iterable[str]) -> dict[str, str]:
    """Return a marker for each name, so that colour is never the only difference."""
    return {name: _MARKERS[i % len(_MARKERS)] for i, name in enumerate(names)}


def require_matplotlib(caller: str):
    """Return pyplot, or say how to get it."""
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError(
            f"{caller} draws with matplotlib, which is not installed: pip install matplotlib jinja2"
        ) from error
    return plt


def new_axes(caller: str, ax, figsize: tuple[float, float]):
    """Return a figure and axes to draw on: the given ones, or new ones of a fitting size."""
    plt = require_matplotlib(caller)
    if ax is None:
        return plt.subplots(figsize=figsize, layout="constrained")
    return ax.figure, ax


def tidy(ax, grid: str | None = "y"):
    """Take away the lines that carry nothing and lay a faint grid behind the rest."""
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        ax.spines[side].set_color(FAINT)
    ax.tick_params(color=FAINT)
    if grid:
        ax.grid(axis=grid, color=PAPER, linewidth=0.8)
        ax.set_axisbelow(True)


def shorten(names: Sequence[object], width: int = 18) -> list[str]:
    """Return names of at most ``width`` characters that still differ.

    What all backbones share goes first (``/openai``, ``tiny/``), then the
    synonyms after a comma, then the words that names of one kind share at their
    ends, then the middle.
    """
    short = [str(name) for name in names]
    tagged = [name for name in short if "/" in name.strip("/")]
    if len(tagged) > 1:
        for shared in ({name.partition("/")[0] + "/" for name in tagged},
                       {"/" + name.rpartition("/")[2] for name in tagged}):  # fmt: skip
            if len(shared) == 1:
                (part,) = shared
                short = [name.removeprefix(part).removesuffix(part) for name in short]
                break
    long = [name.split(", ")[0] for name in short]
    if max(map(len, long), default=0) > width and len(set(long)) == len(long) > 1:
        short = _without_shared_words(long)
    cut = [_cut(name, width) for name in short]
    # Names that came out alike share more than all do: what tells these few apart is left of them.
    alike = {name: [i for i, c in enumerate(cut) if c == name] for name in cut}
    for places in alike.values():
        apart = _without_shared_words([short[i] for i in places])
        if len(places) > 1 and len(set(apart)) == len(places):
            for i, name in zip(places, apart, strict=True):
                cut[i] = _cut(name, width)
    short = cut
    seen: dict[str, int] = {}
    for i, name in enumerate(short):
        seen[name] = seen.get(name, 0) + 1
        if short.count(name) > 1 and len(set(map(str, names))) == len(names):
            ending = f"~{seen[name]}"
            short[i] = _cut(name, width - len(ending)) + ending
    # matplotlib takes what stands between two dollars for a formula.
    return [name.replace("$", r"\$") for name in short]


def _without_shared_words(names: list[str]) -> list[str]:
    """Return names without the words that all have at their beginnings and ends; "…" stands for them."""
    words = [name.split() for name in names]
    room = min(map(len, words)) - 1  # something is left of every name
    start = 0
    while start < room and len({w[start] for w in words}) == 1:
        start += 1
    end = 0
    while end < room - start and len({w[-1 - end] for w in words}) == 1:
        end += 1
    kept = (" ".join(w[start : len(w) - end]) for w in words)
    return [f"{'…' * (start > 0)}{name}{'…' * (end > 0)}" for name in kept]


def _cut(name: str, width: int) -> str:
    if len(name) > width and ", " in name:
        name = name.split(", ")[0]
    if len(name) <= width:
        return name
    tail = (width - 1) // 3
    return f"{name[: width - 1 - tail].rstrip()}…{name[len(name) - tail :].lstrip()}"


def spread(positions: Sequence[float], gap: float, low: float, high: float) -> np.ndarray:
    """Move positions apart until neighbours are ``gap`` apart, as little as possible, inside bounds.

    Where there is no room for that, they are spread evenly.
    """
    wanted = np.asarray(positions, dtype=float)
    n = len(wanted)
    if n == 0:
        return wanted
    gap = min(gap, (high - low) / max(n - 1, 1))
    order = np.argsort(wanted, kind="stable")
    # Taking i gaps off turns "at least a gap apart" into "ascending", which blocks of means solve.
    blocks: list[list[float]] = []
    for i, value in enumerate(wanted[order]):
        blocks.append([value - i * gap, 1])
        while len(blocks) > 1 and blocks[-2][0] > blocks[-1][0]:
            mean, size = blocks.pop()
            other, other_size = blocks[-1]
            total = size + other_size
            blocks[-1] = [(mean * size + other * other_size) / total, total]
    flat = np.repeat([mean for mean, _ in blocks], [int(size) for _, size in blocks])
    moved = np.empty(n)
    moved[order] = np.clip(flat, low, high - (n - 1) * gap) + np.arange(n) * gap
    return moved


def size_in_points(ax) -> tuple[float, float]:
    """Return how wide and high an axes is once its figure is laid out."""
    root = ax.figure.figure  # that of a subfigure, too
    root.draw_without_rendering()
    box = ax.get_window_extent()
    return box.width * 72 / root.dpi, box.height * 72 / root.dpi


def lower(ax, points: float):
    """Return the coordinates of an axes, some points further down."""
    from matplotlib.transforms import ScaledTranslation

    return ax.transAxes + ScaledTranslation(0, -points / 72, ax.figure.figure.dpi_scale_trans)


def label_right(
    ax, labels: Sequence[str], heights: Sequence[float], colours: Sequence[str], bold=()
):
    """Write labels to the right of the axes at given data heights, none over another."""
    size = 9.0
    _, points = size_in_points(ax)
    at = [points * y for y in _fraction(ax, heights)]
    moved = spread(at, gap=size * 1.25, low=0, high=points)
    for text, height, start, end, colour in zip(labels, heights, at, moved, colours, strict=True):
        ax.annotate(
            text,
            xy=(1, height),
            xycoords=("axes fraction", "data"),
            xytext=(14, end - start),
            textcoords="offset points",
            va="center",
            fontsize=size,
            color=colour,
            fontweight="bold" if text in bold else "normal",
            annotation_clip=False,
            arrowprops={
                "arrowstyle": "-",
                "color": colour,
                "linewidth": 0.8,
                "shrinkA": 2,
                "shrinkB": 0,
                "relpos": (0, 0.5),
            },
        )


def halo(ax) -> list:
    """Return the path effects that keep a text apart from the lines behind it."""
    from matplotlib.patheffects import withStroke

    return [withStroke(linewidth=2.5, foreground=ax.get_facecolor())]


def label_points(ax, names: Sequence[str], xs: Sequence[float], ys: Sequence[float]) -> None:
    """Write names below or above points, as near as they come inside the axes without covering any."""
    from matplotlib.transforms import Bbox

    size_in_points(ax)  # lays the figure out, without which texts have no extent
    inside, points = ax.get_window_extent(), 72 / ax.figure.figure.dpi
    places = ax.transData.transform(np.column_stack([xs, ys]))
    taken = [Bbox([place - 3 / points, place + 3 / points]) for place in places]
    for name, x, y in sorted(zip(names, xs, ys, strict=True), key=lambda named: named[1:]):
        text = ax.annotate(
            name, (x, y), xytext=(0, 0), textcoords="offset points", ha="center", va="center",
            fontsize=8, color=QUIET, path_effects=halo(ax), zorder=3,
        )  # fmt: skip
        box = text.get_window_extent()
        aside = max(inside.x0 - box.x0, 0) + min(inside.x1 - box.x1, 0)
        for offset in (-9, 9, 18, -18, 27, -27, 36, -36):
            text.set_position((aside * points, offset))
            box = text.get_window_extent()
            fits = inside.y0 <= box.y0 and box.y1 <= inside.y1
            if fits and not any(box.overlaps(other) for other in taken):
                break
        taken.append(box)


def _fraction(ax, heights):
    low, high = ax.get_ylim()
    return (np.asarray(heights, dtype=float) - low) / (high - low)


def panels(ax, rows: int, columns: int, **gridspec):
    """Divide the place of an axes among a grid of new ones, ``(rows, columns)``."""
    place = ax.get_subplotspec()
    if place is None:
        raise ValueError("ax has no place in a grid of subplots; make it with plt.subplots().")
    ax.set_axis_off()
    grid = place.subgridspec(rows, columns, **gridspec)
    figure = ax.figure
    return np.array([[figure.add_subplot(grid[r, c]) for c in range(columns)] for r in range(rows)])


def heatmap(ax, values: np.ndarray, rows: Sequence[str], columns: Sequence[str], *, text: bool):
    """Draw a matrix, pale to dark, with its values written in where there is room."""
    known = values[~np.isnan(values)]
    low, high = (known.min(), known.max()) if len(known) else (0.0, 1.0)
    # Small differences stay pale: the colours span at least a tenth.
    low = max(min(low, (low + high) / 2 - 0.05), 0 if low >= 0 else -1)
    high = max(high, low + 0.1)
    image = ax.imshow(values, cmap="Blues", vmin=low, vmax=high, aspect="auto")
    for side in ax.spines.values():
        side.set_visible(False)
    ax.set_yticks(range(len(rows)), rows)
    ax.set_xticks(range(len(columns)), columns)
    ax.tick_params(length=0, labelsize=9)
    if 6 * max(map(len, columns)) * len(columns) > size_in_points(ax)[0]:
        ax.set_xticks(range(len(columns)), columns, rotation=40, ha="right", rotation_mode="anchor")
    if text:
        for (r, c), value in np.ndenumerate(values):
            if not np.isnan(value):
                written = f"{value:.2f}".replace("0.", ".", 1)
                colour = _ink_on(image.cmap(image.norm(value)))
                ax.text(c, r, written, ha="center", va="center", fontsize=8.5, color=colour)
    else:
        ax.figure.colorbar(image, ax=ax, shrink=0.5)
    return image


def _ink_on(ground) -> str:
    """Return black or white, whichever has the greater contrast; one of them has 4.5."""
    from matplotlib.colors import to_rgb

    channels = np.array(to_rgb(ground))
    linear = np.where(channels <= 0.03928, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return "black" if linear @ [0.2126, 0.7152, 0.0722] > 0.179 else "white"
