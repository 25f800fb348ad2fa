"""What a backbone without a text tower adds: one backbone's zero-shot logits are taken away.

Four tables of the same images, labels and draws: all backbones with their logits; one of them,
each in turn, with its embedding only; without that backbone; and nobody's logits. The default
ensemble beside five lines of scikit-learn, on a random half of every set's test images::

    python -m benchmarks.without_text --data DATA --tables few_shot/tables

``DATA`` is as in ``few_shot.py``; ``TABLES`` is where it keeps the tables of the bundled backbones.
"""

import argparse
import os
import warnings
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.few_shot import ScikitLearn
from benchmarks.readers import draw, draw_real, half_of, image_sets, real_features, table_of
from sklearn_clipensemble import AdaptiveBackboneEnsemble, Layout

SHOTS = (1, 4, 16)
METHODS = {
    "AdaptiveBackboneEnsemble": AdaptiveBackboneEnsemble,
    "scikit-learn + prior": lambda **kw: ScikitLearn(True, **kw),
}


def parts(layout, logits_of, backbones):
    """Return the columns of some backbones, with the logits of some, and what they are."""
    X = np.arange(layout.n_features)[None]
    columns = []
    for b in backbones:
        columns.append(layout.embedding(X, b)[0])
        if b in logits_of:
            columns.append(layout.logits(X, b)[0])
    classes = layout.classes if logits_of else ()
    widths = {b: layout.widths[b] for b in backbones}
    return np.concatenate(columns), Layout(widths, classes, logits_of)


def tables(layout):
    """Yield name, columns and layout of every table to compare."""
    every = layout.backbones
    yield "all logits", *parts(layout, every, every)
    for b in every:
        others = [other for other in every if other != b]
        yield "one without logits", *parts(layout, others, every)
        yield "one left out", *parts(layout, others, others)
    yield "no logits", *parts(layout, [], every)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", default=os.environ.get("CLIPENSEMBLE_DATA"), type=Path)
    parser.add_argument("--tables", default="few_shot/tables", type=Path)
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--test", type=int, default=1000)
    parser.add_argument("--sets", nargs="*", default=["caltech101", "load_digits", "flowers5"])
    args = parser.parse_args()
    for expected in (
        "The number of unique classes is greater",
        "The table holds embeddings of CLIP",
    ):
        warnings.filterwarnings("ignore", expected, UserWarning)
    rows = []
    for name in args.sets:
        if name == "caltech101" and args.data is not None:
            X, layout, y, train = real_features(args.data, name)
        elif name in (sets := image_sets(args.data)):
            X, layout, y = half_of(*table_of(name, sets[name][1], ["tiny"], args.tables), "test")
            train = None
        else:
            continue
        for seed in range(args.draws):
            for shots in SHOTS:
                if train is None:
                    learn, test = draw(y, shots, seed, args.test)
                else:
                    learn, test = draw_real(y, train, "test", shots, seed, args.test)
                for table, columns, its_layout in tables(layout):
                    for method, make in METHODS.items():
                        clf = make(layout=its_layout).fit(X[np.ix_(learn, columns)], y[learn])
                        score = clf.score(X[np.ix_(test, columns)], y[test])
                        rows.append((name, table, method, shots, seed, 100 * score))
    scores = pd.DataFrame(rows, columns=["set", "table", "method", "shots", "draw", "accuracy"])
    # Each backbone's turn counts alike; the spread is that over draws.
    scores = scores.groupby(["set", "table", "method", "shots", "draw"], sort=False).mean()
    found = scores.groupby(["set", "table", "method", "shots"], sort=False).accuracy
    text = found.mean().map("{:.1f}".format) + " ± " + found.std().map("{:.1f}".format)
    wide = text.unstack()
    print(f"| set | table | method | {' | '.join(map(str, SHOTS))} |\n{'|---' * (3 + len(SHOTS))}|")
    for names, cells in zip(wide.index, wide.to_numpy(), strict=True):
        print(f"| {' | '.join([*names, *cells])} |")


if __name__ == "__main__":
    main()
