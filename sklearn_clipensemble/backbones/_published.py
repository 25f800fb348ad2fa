"""What is known of published backbones: the file ``published.csv``, which says where from."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pandas as pd


@functools.cache
def published() -> pd.DataFrame:
    """Return all that the file holds, by id: ``benchmarks/count_costs.py`` makes it."""
    return pd.read_csv(Path(__file__).with_name("published.csv"), comment="#", index_col="id")


def published_costs(id: str) -> dict[str, Any]:
    """Return what is known of one backbone; an empty dict where that is nothing."""
    table = published()
    return table.loc[id].to_dict() if id in table.index else {}
