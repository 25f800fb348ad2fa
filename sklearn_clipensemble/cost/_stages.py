"""Where the rows of each stage of a cascade come from: images that are embedded, or a finished table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from sklearn_clipensemble.embedding import CLIPEmbedder
from sklearn_clipensemble.images import as_sources
from sklearn_clipensemble.table._layout import Layout


class Images:
    """Images, embedded stage by stage, by embedders that are fitted."""

    def __init__(self, X: Sequence, embedders: list[CLIPEmbedder]):
        self._sources, self._embedders = as_sources(X), embedders

    def __len__(self):
        return len(self._sources)

    def rows(self, stage: int, rows: np.ndarray) -> pd.DataFrame:
        """Return what a stage adds to the table of some images."""
        return self._embedders[stage].transform([self._sources[row] for row in rows])


class Columns:
    """The columns of a finished table, stage by stage."""

    def __init__(self, X: pd.DataFrame, columns: list[list[str]]):
        self._X, self._columns = X, columns

    def __len__(self):
        return len(self._X)

    def rows(self, stage: int, rows: np.ndarray) -> pd.DataFrame:
        """Return the columns of a stage, of some rows."""
        return self._X[self._columns[stage]].iloc[rows].reset_index(drop=True)


def columns_of(layout: Layout, backbones: Sequence[str]) -> list[str]:
    """Return the names of the columns of some backbones, in the order of the table."""
    starts = tuple(f"{b}__{kind}__" for b in backbones for kind in ("embedding", "logit"))
    return [name for name in layout.names if name.startswith(starts)]


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
