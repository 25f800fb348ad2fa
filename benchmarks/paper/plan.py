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
#: Seconds of one cell on one core: some, so many for each row, class and backbone, and linear heads.
_SECONDS = {
    "answers": (0.5, 0, 0),
    "combine": (6.0, 2e-6, 2.5),
    "linear": (6.0, 2e-6, 2.0),
    "adapt": (6.0, 4e-6, 0),
    "subsets": (120.0, 3e-5, 0),
    "unseen": (4.0, 2e-6, 0.5),
    "families": (1.0, 0, 0),
    "similar": (1.0, 0, 0),
    "perturb": (3.0, 3e-6, 0),
}
#: Seconds of a linear head for each row to learn from, column and class: some 20 to 40 steps.
_HEAD = 5e-9
_HOURS = "hours on one core, about"


def downloads(study: Study) -> pd.DataFrame:
    """Return the image sets: where from, how large, under what terms, and where they are kept."""
    rows = []
    for s in study.suite.image_sets:
        row: dict[str, object] = {"set": s.name, "from": _how(s.source)}
        if s.n_train:  # at hand, none of this is known before it is read
            row |= {
                "GB, about": s.gigabytes,
                "splits": _splits(s.source),
                "train": s.n_train,
                "learnt from": _learnt(study, s),
                "test": s.n_test,
                "classes": len(s.prompts.classes),
                "templates": len(s.prompts.templates),
                "licence": s.licence,
                "home": s.home,
                "kept in": s.folder(study.data),
                "there": _there(s.folder(study.data)),
            }
        rows.append(row)
    return pd.DataFrame(rows)


def _how(source) -> str:
    if isinstance(source, HuggingFace):
        return f"Hugging Face: {source.repository}"
    if isinstance(source, Torchvision):
        by_hand = "" if source.downloads else ", its archives laid there by hand"
        return f"torchvision: {source.name}{by_hand}"
    return "at hand"


def _splits(source) -> str:
    """Say which parts are learnt from and tested on."""
    if isinstance(source, Torchvision) and source.train == source.test:
        return "none: a fixed fifth is tested on"
    parts = [getattr(source, part, {}).get("split", part) for part in ("train", "test")]
    return " / ".join(parts)


def _two_digits(value: float) -> str:
    return f"{float(f'{value:.2g}'):,g}"


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
                "MB": f"{megabytes:.0f}" if megabytes > 0 else "",
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
    table["PFLOPs"] = [_two_digits(v / 1e15) for v in operations]
    for name, speed in SPEEDS.items():
        table[f"hours, {name}"] = [_two_digits(v / speed / 3600) for v in operations]
    total = {"backbone": "all", "images": images, "PFLOPs": _two_digits(operations.sum() / 1e15)}
    for name, speed in SPEEDS.items():
        total[f"hours, {name}"] = _two_digits(operations.sum() / speed / 3600)
    return pd.concat([table, pd.DataFrame([total])], ignore_index=True)


def computing(study: Study, steps: Iterable[str]) -> pd.DataFrame:
    """Return the cells of every step, how many are done, and estimated hours on one core."""
    sizes = {
        s.name: (_learnt(study, s), min(s.n_test, study.suite.n_test), len(s.prompts.classes))
        for s in study.suite.image_sets
        if s.n_train
    }
    n_backbones = len(study.suite.backbones)
    width = list_backbones().width.reindex(study.suite.backbones).sum()
    rows = []
    for step in steps:
        todo = list(STEPS[step](study))
        done = sum(cell.file(study.out).exists() for cell in todo)
        row = {"step": step, "cells": len(todo), "done": done, _HOURS: ""}
        if step in _SECONDS and sizes:
            once, each, heads = _SECONDS[step]
            seconds = 0.0
            for cell in todo:
                n_learn, n_test, n_classes = sizes.get(cell.set, (0, 0, 0))
                if step != "linear" and "all" not in cell.key:
                    n_learn = min(n_learn, 16 * n_classes)
                seconds += once + each * (n_learn + n_test) * n_classes * n_backbones
                seconds += heads * _HEAD * n_learn * width * n_classes
            row[_HOURS] = _two_digits(seconds / 3600)
        rows.append(row)
    return pd.DataFrame(rows)


def plan(study: Study, steps: Iterable[str]) -> str:
    """Return what a run would do, as Markdown; nothing is downloaded or computed."""
    steps = list(steps)
    cells = computing(study, steps)
    # How many images are at hand is known once they are read.
    known = any(s.n_train for s in study.suite.image_sets)
    lines = [f"# What `--suite {study.name}` would do"]
    if known:
        lines += [_in_all(study, cells)]
    else:
        cells = cells.drop(columns=_HOURS)
        lines += [
            "Nothing is downloaded: all of it is at hand. From nothing it took "
            f"{study.suite.minutes} minutes of CPU, shared out by `--n-jobs`."
        ]
    if study.suite.image_sets:
        sets = downloads(study)
        lines += [f"## Image sets: {len(sets)}", markdown(sets)]
        lines += [f"## Backbones: {len(study.suite.backbones)}", markdown(weights(study))]
    if known:
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
    lines += ["## Steps", markdown(cells)]
    return "\n\n".join(lines)


def _in_all(study, cells) -> str:
    """Sum it up: downloads, hours and what is kept."""
    gigabytes = sum(s.gigabytes for s in study.suite.image_sets)
    of_weights = list_backbones().download_mb.reindex(study.suite.backbones).sum() / 1000
    last = embedding(study).iloc[-1]
    hours = {name: last[f"hours, {name}"] for name in SPEEDS}
    learning = pd.to_numeric(cells[_HOURS].str.replace(",", "")).sum()
    images = sum(_learnt(study, s) + s.n_test for s in study.suite.image_sets)
    widths = list_backbones().width.reindex(study.suite.backbones).sum()
    # Float16 in one file for each set and backbone, and float32 as they come.
    kept = images * widths * (2 + 4) / 1e9
    return (
        f"Downloads: about {gigabytes:.0f} GB of images, {of_weights:.1f} GB of weights. Embedding: "
        f"{last.PFLOPs} PFLOPs, "
        + " or ".join(f"{h} hours of {name}" for name, h in hours.items())
        + f". All that is learnt on top: {learning:.0f} hours of one core, shared out by `--n-jobs`. "
        f"Kept in OUT: about {kept:.0f} GB of embeddings, and results of some megabytes. All are "
        "estimates of the order of magnitude."
    )
