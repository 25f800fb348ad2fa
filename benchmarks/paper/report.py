"""All tables and figures of a study on one page, with what was skipped and how classes were asked for."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import pandas as pd

from benchmarks.paper.study import Study
from benchmarks.paper.tables import PROMPTS, TABLES, markdown


def write_tables(study: Study) -> list[Path]:
    """Write every table for which there are results, as CSV and Markdown, into ``OUT/tables``."""
    files = []
    folder = study.out / "tables"
    folder.mkdir(parents=True, exist_ok=True)
    for name, table in TABLES.items():
        found = table.make(study)
        for ending in ("csv", "md"):
            (folder / f"{name}.{ending}").unlink(missing_ok=True)
        if found.empty:
            continue
        found.to_csv(folder / f"{name}.csv", index=False)
        text = f"{markdown(found)}\n\n{_footnote(study, table)}\n"
        (folder / f"{name}.md").write_text(text, encoding="utf-8")
        files.append(folder / f"{name}.md")
    return files


def _footnote(study, table):
    steps = " ".join((*table.steps, "tables"))
    return f"Prompts: `{PROMPTS}.md`. `python -m benchmarks.paper --suite {study.name} --data DATA --out OUT --steps {steps}`"


def write_report(study: Study) -> Path:
    """Write ``OUT/report.md`` from the tables and figures that are there."""
    out = study.out
    lines = [f"# The paper's study, `--suite {study.name}`", _where(study)]
    for name, table in TABLES.items():
        file = out / "tables" / f"{name}.md"
        if not file.exists():
            continue
        lines.append(f"## {table.title}")
        if table.question:
            lines.append(f"*{table.question}*")
        lines.append(file.read_text(encoding="utf-8").strip())
    figures = sorted((out / "figures").glob("*.png"))
    if figures:
        lines.append("## Figures")
        lines += [f"![{f.stem}]({f.relative_to(out).as_posix()})" for f in figures]
    skipped = out / "skipped.csv"
    if skipped.exists() and len(table := pd.read_csv(skipped)):
        lines += ["## What was left out, and why", markdown(table)]
    file = out / "report.md"
    file.write_text("\n\n".join(lines) + "\n", encoding="utf-8")
    return file


def _where(study):
    import sklearn
    import torch

    import sklearn_clipensemble

    versions = (
        f"sklearn-clipensemble {sklearn_clipensemble.__version__}, scikit-learn "
        f"{sklearn.__version__}, torch {torch.__version__}, Python {platform.python_version()}, "
        f"{os.cpu_count()} cores"
    )
    backbones = ", ".join(study.suite.backbones) or "those of the tables"
    return (
        f"Backbones: {backbones}. Sets: {len(study.suite.names)}. Draws: {study.suite.draws}. "
        f"{versions}. Accuracies in %, gains in points. Intervals are 95 % of means over resampled "
        "sets, where nothing else is said; of fewer than five sets none is given."
    )
