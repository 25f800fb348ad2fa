"""What more backbones, and more diverse ones, are worth.

    python -m benchmarks.diversity --data DATA --out few_shot

Every subset of two to five backbones, on the image sets and halves of
``few_shot.py`` (whose tables in ``OUT/tables`` it shares), with the same labels
for all subsets. ``OUT/subsets.csv`` has one line per set, subset, shot count and
draw: what each method gains over the subset's best single backbone (chosen on
test), the oracle's gain, and the diversity of the zero-shot answers.
"""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.few_shot import METHODS
from benchmarks.readers import TRANSFER, draw, half_of, image_sets, only, table_of
from sklearn_clipensemble.inspection import gain_by_diversity

SHOTS = (1, 4, 16)
CHOSEN = ("ProbabilityAverage", "SuperLearner", "KernelRidgeHead", "AdaptiveBackboneEnsemble")
MEASURES = ("disagreement", "double_fault", "q_statistic", "error_consistency")


def study(name, group, X, layout, y, args):
    rows = []
    for seed, shots in itertools.product(range(args.draws), SHOTS):
        train, test = draw(y, shots, seed, args.test)
        for size in range(2, len(layout.backbones) + 1):
            for backbones in itertools.combinations(layout.backbones, size):
                part, part_layout = only(X, layout, backbones)
                right = np.stack(
                    [
                        np.array(layout.classes)[part_layout.logits(part[test], b).argmax(1)]
                        == y[test]
                        for b in backbones
                    ],
                    axis=1,
                )
                common = {"set": name, "group": group, "shots": shots, "draw": seed}
                for method in CHOSEN:
                    clf = METHODS[method](layout=part_layout).fit(part[train], y[train])
                    # Right or wrong, for the method as for its backbones.
                    hit = clf.predict(part[test]) == y[test]
                    found = gain_by_diversity({"": (hit, right, np.ones(len(test), bool))})
                    row = common | {
                        "method": method,
                        "size": size,
                        "backbones": " ".join(backbones),
                    }
                    rows.append(row | found.iloc[0].to_dict())
        print(f"{name}: draw {seed}, {shots} shots", flush=True)
    return pd.DataFrame(rows)


def report(scores):
    transfer = scores[scores.group == TRANSFER]
    lines = ["Mean accuracy on the transfer sets by number of backbones (all subsets):\n"]
    mean = transfer.groupby(["method", "shots", "size"]).combined.mean().unstack()
    for column in ("best_single", "oracle"):
        mean.loc[(column, 0), :] = transfer.groupby("size")[column].mean()
    lines += ["| method | shots | 2 | 3 | 4 | 5 |", "|---|---|---|---|---|---|"]
    for (method, shots), row in mean.iterrows():
        lines.append(f"| {method} | {shots or ''} | " + " | ".join(f"{v:.3f}" for v in row) + " |")
    lines += ["", "Spearman correlation of the gain over the best single backbone with the"]
    lines += ["diversity of pairs, over pairs within a set, then the mean over all sets:\n"]
    lines += ["| method | shots | " + " | ".join(MEASURES) + " |", "|---" * 6 + "|"]
    pairs = scores[scores["size"] == 2].groupby(["method", "shots", "set", "backbones"])
    pairs = pairs[["gain", *MEASURES]].mean()
    for (method, shots), part in pairs.groupby(["method", "shots"]):
        per_set = [g.corr("spearman").loc["gain", list(MEASURES)] for _, g in part.groupby("set")]
        mean = pd.DataFrame(per_set).mean()
        lines.append(f"| {method} | {shots} | " + " | ".join(f"{v:.2f}" for v in mean) + " |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--out", default="few_shot", type=Path)
    parser.add_argument("--draws", type=int, default=3)
    parser.add_argument("--test", type=int, default=1000)
    args = parser.parse_args()
    file, scores = args.out / "subsets.csv", []
    for name, (group, load) in image_sets(args.data).items():
        if name in ("caltech101_64px", "tiny_imagenet_32px", "caltech101_64px gaussian_blur"):
            continue  # a hundred and more classes: 26 subsets of them would take hours
        table = table_of(name, load, ["tiny"], args.out / "tables")
        scores.append(study(name, group, *half_of(*table, "test"), args))
        pd.concat(scores).to_csv(file, index=False)
    text = report(pd.concat(scores))
    (args.out / "subsets.md").write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
