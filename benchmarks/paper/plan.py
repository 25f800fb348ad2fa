"""What a run would download and compute: sizes, GFLOPs and estimated hours, before anything is done."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd

from benchmarks.paper.sources import HuggingFace, Torchvision
from benchmarks.paper.study import STEPS, Study
from benchmarks.paper.tables import markdown
from sklearn_clipensemble import list_backbones
from sklearn_clipensemble.backbones import resolve

#: Floating-point operations per second that embedding reaches: two cores in bf16 (62.7 images/s of
#: ViT-B-32), and timm's figures for one RTX 4090 (427 images/s of five backbones in turn).
SPEEDS = {"2 CPU cores, bf16": 0.55e12, "one RTX 4090": 1.0e14}
#: Images decoded and brought to size per second and core, of 500 x 375 pixels.
DECODED = 300
#: Prompts per second of a text tower on two cores.
TEXTS = 20
#: Seconds of one cell on one core: some, and so many for each row, class and backbone.
_SECONDS = {
    "answers": (0.5, 0),
    "combine": (2.0, 4e-6),
    "linear": (2.0, 1.2e-5),
    "adapt": (1.5, 4e-6),
    "subsets": (10.0, 3e-5),
    "unseen": (2.0, 3e-6),
    "families": (1.0, 0),
    "similar": (1.0, 0),
    "perturb": (3.0, 3e-6),
}


def downloads(study: Study) -> pd.DataFrame:
    """Return the image sets: where from, how large, under what terms, and where they are kept."""
    rows = []
    for s in study.suite.image_sets:
        source = s.source
        how = "at hand"
        if isinstance(source, HuggingFace):
            how = f"Hugging Face: {source.repository}"
        elif isinstance(source, Torchvision):
            how = f"torchvision: {source.name}"
            if not source.downloads:
                how += ", its archives laid there by hand"
        rows.append(
            {
                "set": s.name,
                "from": how,
                "GB, about": s.gigabytes or "",
                "train": s.n_train or "",
                "test": s.n_test or "",
                "learnt from": _learnt(study, s) if s.n_train else "",
                "licence": s.licence,
                "home": s.home,
                "kept in": s.folder(study.data) if s.gigabytes else "",
                "there": _there(s.folder(study.data)) if s.gigabytes else "",
            }
        )
    return pd.DataFrame(rows)


def _there(folder) -> str:
    return "yes" if folder.is_dir() and any(folder.iterdir()) else "no"


def _learnt(study, image_set) -> int:
    """How many images there are to learn from, once they are limited."""
    per_class = study.suite.n_per_class(image_set)
    n_classes = len(image_set.prompts.classes)
    return min(image_set.n_train, per_class * n_classes) if per_class else image_set.n_train


def weights(study: Study) -> pd.DataFrame:
    """Return the backbones: what an image costs, how large their weights are, and whether they are here."""
    known = list_backbones()
    rows = []
    for backbone in study.suite.backbones:
        found = resolve(backbone)[0]
        file = found.weights.locate()
        megabytes = known.get("download_mb", pd.Series(dtype=float)).get(backbone, np.nan)
        rows.append(
            {
                "backbone": backbone,
                "family": known.family[backbone],
                "GFLOPs per image": known.gflops[backbone],
                "MB": "" if np.isnan(megabytes) else f"{megabytes:.0f}",
                "weights": getattr(found.weights, "repository", "bundled"),
                "here": "yes" if file else "no",
            }
        )
    return pd.DataFrame(rows)


def embedding(study: Study) -> pd.DataFrame:
    """Return what embedding costs: the images of all sets, by backbone."""
    images = sum(_learnt(study, s) + s.n_test for s in study.suite.image_sets)
    n_conditions = len(list(STEPS["perturb"](study)))
    images += n_conditions * study.suite.n_perturbed
    gflops = list_backbones().gflops.reindex(study.suite.backbones)
    table = pd.DataFrame({"backbone": gflops.index, "images": images})
    operations = gflops.to_numpy() * 1e9 * images
    table["PFLOPs"] = [f"{v / 1e15:,.3g}" for v in operations]
    for name, speed in SPEEDS.items():
        table[f"hours, {name}"] = [f"{v / speed / 3600:,.2g}" for v in operations]
    total = {"backbone": "all", "images": images, "PFLOPs": f"{operations.sum() / 1e15:,.3g}"}
    for name, speed in SPEEDS.items():
        total[f"hours, {name}"] = f"{operations.sum() / speed / 3600:,.2g}"
    return pd.concat([table, pd.DataFrame([total])], ignore_index=True)


def computing(study: Study, steps: Iterable[str]) -> pd.DataFrame:
    """Return the cells of every step, how many are done, and estimated hours on one core."""
    sizes = {
        s.name: (_learnt(study, s), min(s.n_test, study.suite.n_test), len(s.prompts.classes))
        for s in study.suite.image_sets
        if s.n_train
    }
    n_backbones = len(study.suite.backbones)
    rows = []
    for step in steps:
        todo = list(STEPS[step](study))
        done = sum(cell.file(study.out).exists() for cell in todo)
        row = {"step": step, "cells": len(todo), "done": done, "hours on one core, about": ""}
        if step in _SECONDS and sizes:
            once, each = _SECONDS[step]
            seconds = 0.0
            for cell in todo:
                n_learn, n_test, n_classes = sizes.get(cell.set, (0, 0, 0))
                if "all" not in cell.key:
                    n_learn = min(n_learn, 16 * n_classes)
                seconds += once + each * (n_learn + n_test) * n_classes * n_backbones
            row["hours on one core, about"] = f"{seconds / 3600:.2g}"
        rows.append(row)
    return pd.DataFrame(rows)


def plan(study: Study, steps: Iterable[str]) -> str:
    """Return what a run would do, as Markdown; nothing is downloaded or computed."""
    lines = [f"# What `--suite {study.name}` would do"]
    if study.suite.image_sets:
        sets = downloads(study)
        total = sum(s.gigabytes for s in study.suite.image_sets)
        lines += [f"## Image sets: {len(sets)}, about {total:.0f} GB", markdown(sets)]
        lines += [f"## Backbones: {len(study.suite.backbones)}", markdown(weights(study))]
        found = embedding(study)
        decode = found.images.iloc[0] / DECODED / 3600
        n_texts = sum(
            len(s.prompts.classes) * len(s.prompts.templates) for s in study.suite.image_sets
        )
        lines += [
            "## Embedding",
            markdown(found),
            f"Decoding takes about {decode:.1f} hours of one core (at 500 x 375 pixels), beside it. "
            f"Each text tower reads {n_texts:,} prompts, about {n_texts / TEXTS / 3600:.1f} hours of "
            "two CPU cores; a GPU takes minutes.",
        ]
    if study.suite.tables:
        lines += [
            "## Tables that come as they are",
            "\n".join(f"- {n}" for n in study.suite.tables),
        ]
    lines += ["## Steps", markdown(computing(study, steps))]
    return "\n\n".join(lines)
