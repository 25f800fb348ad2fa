"""Small files of results: what has been measured is not measured again."""

from __future__ import annotations

import os
import time
import traceback
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import joblib
import pandas as pd


class Skipped(Exception):
    """Something is missing, or there is nothing to measure; the message says what."""


#: Warnings that few labels of many classes make.
_EXPECTED = (
    "lbfgs failed to converge",
    "y_pred contains classes not in y_true",
    "The number of unique classes is greater",
)


@dataclass(frozen=True)
class Cell:
    """One thing to measure: a step, a set, and what tells it from the step's other cells of the set."""

    step: str
    set: str
    key: str
    #: Returns rows; called with ``args`` in a process of its own, where there are several.
    measure: Callable[..., list[dict]]
    args: tuple[Any, ...]
    #: Whether to do it in every run: what it makes lies elsewhere, and may be gone.
    again: bool = False

    def file(self, out: Path) -> Path:
        """Where its rows are kept."""
        return out / "cells" / self.step / plain(self.set) / f"{plain(self.key)}.csv"


def plain(name: object) -> str:
    """Return a name that a file may have."""
    return "".join(c if c.isalnum() or c in "-_." else "-" for c in str(name))


def run(cells: Iterable[Cell], out: Path, n_jobs: int, tell: Callable = print) -> pd.DataFrame:
    """Measure what has no file yet; return what could not be, and why."""
    todo = [cell for cell in cells if cell.again or not cell.file(out).exists()]
    problems: list[dict] = []
    if not todo:
        return _table(problems)
    start = time.perf_counter()
    parallel = joblib.Parallel(n_jobs=min(n_jobs, len(todo)), return_as="generator")
    with joblib.parallel_config("loky", inner_max_num_threads=1):
        for done, (cell, kind, reason) in enumerate(
            parallel(joblib.delayed(_attempt)(cell, out) for cell in todo), start=1
        ):
            if kind:
                problems.append({"step": cell.step, "set": cell.set, "kind": kind, "why": reason})
            if done == len(todo) or done % 20 == 0:
                minutes = (time.perf_counter() - start) / 60
                tell(f"{cell.step}: {done} of {len(todo)}, {minutes:.1f} minutes")
    return _table(problems)


def _table(problems: Sequence[dict]) -> pd.DataFrame:
    table = pd.DataFrame(problems, columns=["step", "set", "kind", "why"])
    return table.value_counts(sort=False).rename("cells").reset_index()


def _attempt(cell: Cell, out: Path) -> tuple[Cell, str, str]:
    """Measure a cell and keep its rows; one that fails stops no other."""
    try:
        with warnings.catch_warnings():
            for message in _EXPECTED:
                warnings.filterwarnings("ignore", message)
            rows = cell.measure(*cell.args)
    except (Skipped, OSError, ImportError) as error:  # no set, no weights, no network, no library
        return cell, "skipped", _line(error)
    except Exception as error:
        traceback.print_exc()
        return cell, "failed", f"{type(error).__name__}: {_line(error)}"
    write(pd.DataFrame([{"set": cell.set, **row} for row in rows]), cell.file(out))
    return cell, "", ""


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]


def write(table: pd.DataFrame, file: Path) -> None:
    """Write a table aside first, so that a run that is cut short leaves no half of a file."""
    file.parent.mkdir(parents=True, exist_ok=True)
    aside = file.with_name(f"{file.name}.{os.getpid()}.part")
    table.to_csv(aside, index=False)
    aside.replace(file)


def read(out: Path, step: str) -> pd.DataFrame:
    """Return all rows of a step; none where nothing was measured."""
    files = sorted((out / "cells" / step).glob("*/*.csv"))
    tables = [pd.read_csv(file) for file in files if file.stat().st_size > 2]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()
