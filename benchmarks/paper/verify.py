"""Published zero-shot accuracies beside those measured: is the way from image to answer right?"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from benchmarks.paper.cells import plain
from benchmarks.paper.study import Study

FILE = Path(__file__).parent / "published_zero_shot.csv"
#: Points by which a cell may be off.
TOLERANCE = 1.0


def published() -> pd.DataFrame:
    """Return what open_clip publishes: sets down, backbones across."""
    return pd.read_csv(FILE, comment="#", index_col="set")


def verify(study: Study) -> pd.DataFrame:
    """Return every set and backbone of which both are known, in points; ``flag`` where they differ."""
    known, rows = published(), []
    for image_set in study.suite.image_sets:
        file = study.out / "cells" / "answers" / plain(image_set.name) / "right.csv"
        if image_set.name not in known.index or not file.exists():
            continue
        table = pd.read_csv(file)
        right = table.drop(columns=["set", "y"]).astype(float)
        # Where the published figure is a mean over classes, so is this one.
        accuracy = right.groupby(table.y).mean().mean() if image_set.recall else right.mean()
        for backbone in known.columns.intersection(right.columns):
            theirs, ours = 100 * known.loc[image_set.name, backbone], 100 * accuracy[backbone]
            off = ours - theirs
            rows.append(
                {
                    "set": image_set.name,
                    "backbone": backbone,
                    "published": round(theirs, 2),
                    "measured": round(ours, 2),
                    "off": round(off, 2),
                    "images": len(table),
                    "flag": "off" if abs(off) > TOLERANCE else "",
                    "note": "other test images than published" if image_set.other_split else "",
                }
            )
    columns = ["set", "backbone", "published", "measured", "off", "images", "flag", "note"]
    return pd.DataFrame(rows, columns=columns)
