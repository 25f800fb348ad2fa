"""Where the rows of each stage of a cascade come from: images that are embedded, or a finished table."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext

import numpy as np
import pandas as pd

from sklearn_clipensemble._runtime import one_blas_thread
from sklearn_clipensemble.embedding import CLIPEmbedder
from sklearn_clipensemble.table._layout import Layout

# Images that are decoded at once, in batches: the later stages, which see few of them, get full ones.
_N_BATCHES = 8

#: What a stage adds to some rows of a block.
Rows = Callable[[int, np.ndarray], np.ndarray]


def blocks_of_images(
    X: Sequence, embedder: CLIPEmbedder, layouts: Sequence[Layout]
) -> Iterator[tuple[int, Rows]]:
    """Yield the size of one block of images after the other, and what embeds some of its rows."""
    with embedder._stream() as stream, one_blas_thread() if stream.on_cpu else nullcontext():
        for images in stream.images(
            X,
            on_error=embedder.on_error,
            verbose=embedder.verbose,
            n_batches=_N_BATCHES,
            first=layouts[0].backbones,
        ):

            def rows(stage, at, images=images):
                return stream.embed([images[row] for row in at], layouts[stage])

            yield len(images), rows


def block_of_columns(X: pd.DataFrame, layouts: Sequence[Layout]) -> Iterator[tuple[int, Rows]]:
    """Yield the size of a finished table, and what takes the columns of some of its rows."""
    yield len(X), lambda stage, at: X[layouts[stage].names].to_numpy()[at]


def in_stages(
    backbones: Sequence[str],
    costs: Mapping[str, float],
    answering: Sequence[str],
    given: Sequence[Sequence[str]] | None,
) -> list[list[str]]:
    """Return the backbones that each stage adds: as given, or one after another by cost.

    Where only some of them can answer without labels, the others wait for the first of these.
    """
    if given is None:
        order = sorted(backbones, key=costs.__getitem__)
        first = min((order.index(b) for b in answering), default=0)
        return [order[: first + 1], *([b] for b in order[first + 1 :])]
    if isinstance(given, str) or any(isinstance(stage, str) for stage in given):
        raise ValueError(
            f"stages must hold one list of backbones for every stage, got {given!r}. Write "
            f"[['{backbones[0]}'], ...]."
        )
    stages = [[str(b) for b in stage] for stage in given]
    named = [b for stage in stages for b in stage]
    if sorted(named) != sorted(backbones) or not all(stages):
        twice = sorted({b for b in named if named.count(b) > 1})
        unknown = [b for b in named if b not in backbones]
        missing = [b for b in backbones if b not in named]
        what = f"{twice[0]!r} is in two of them" if twice else "a stage is empty"
        what = f"{missing[0]!r} is in none of them" if missing else what
        what = f"{unknown[0]!r} is no backbone of the estimator" if unknown else what
        raise ValueError(
            f"stages must hold every backbone once, but {what}. The backbones are: "
            f"{', '.join(backbones)}."
        )
    return stages
