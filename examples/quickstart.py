"""The main job: several CLIP backbones as one classifier, from a few labelled images.

Runs offline in under two minutes with the five small backbones that come with
the package, on real handwritten digits (scikit-learn's ``load_digits``), or on
your own photographs, one sub-folder per class::

    python examples/quickstart.py
    python examples/quickstart.py --images FOLDER
    python examples/quickstart.py --images FOLDER --backbones openai-small   # real CLIPs, downloaded once

It compares every single backbone, the plain averages, the adaptive ensemble
and the oracle (right wherever any backbone is right) with 1, 4 and 16 labelled
images per class, each over several random draws of the labelled images, and
saves a picture.
"""

import argparse
import time

import numpy as np
import pandas as pd
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_clipensemble import (
    AdaptiveBackboneEnsemble,
    CLIPEmbedder,
    FewShotSplit,
    Layout,
    ZeroShotLogits,
    load_image_folder,
    shot_curve,
)
from sklearn_clipensemble.ensembles import LogitAverage, ProbabilityAverage, SingleBackbone
from sklearn_clipensemble.inspection import ContactSheetDisplay, ShotCurveDisplay, oracle_score


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--images", help="a folder with one sub-folder of images per class")
    parser.add_argument("--backbones", default="tiny", help="a preset or an open_clip name")
    parser.add_argument("--draws", type=int, default=5, help="draws of the labelled images")
    parser.add_argument("--picture", default="quickstart.png", help="where to save the picture")
    args = parser.parse_args()
    start = time.time()

    images, labels = load(args.images)
    classes, counts = np.unique(labels, return_counts=True)
    shots = [k for k in (1, 4, 16) if k < counts.min()]
    if len(classes) < 2 or not shots:
        raise SystemExit(
            f"Found {len(classes)} classes, the smallest with {counts.min()} images. At least 2 classes with "
            "2 images each are needed: one to learn from, one to test on."
        )
    shown = ", ".join(classes[:12]) + (", ..." if len(classes) > 12 else "")
    print(f"{len(images)} images of {len(classes)} classes: {shown}\n")

    print(f"1. CLIPEmbedder({args.backbones!r}): every backbone's embedding, in one pass")
    embeddings = CLIPEmbedder(args.backbones, verbose=1).fit_transform(images)
    print("2. ZeroShotLogits(): the class names, read by every backbone's text tower")
    table = ZeroShotLogits().fit_transform(embeddings, labels)
    print(f"   a table of {table.shape[0]} images x {table.shape[1]} columns")
    print(f"3. AdaptiveBackboneEnsemble() and others, {args.draws} draws of the labelled images\n")
    scores = compare(table, labels, shots, args.draws)
    show(scores)

    draw_picture(scores, images, table, labels, shots, args.picture)
    print(f"\nSaved {args.picture}. {time.time() - start:.0f} seconds in all.")


def load(folder):
    """Images and their class names."""
    if folder is None:
        digits = load_digits()
        return digits.images / 16, digits.target.astype(str)
    data = load_image_folder(folder)
    if data.target is None:
        raise SystemExit(f"{folder} has no sub-folders; put the images of each class into one.")
    return data.paths, data.target


def compare(table, labels, shots, n_draws):
    """Score every method on the same draws; one row per method, shot count and draw."""
    backbones = Layout.from_names(table.columns).backbones
    scores = shot_curve(
        AdaptiveBackboneEnsemble(),
        table,
        labels,
        shots,
        n_repeats=n_draws,
        random_state=0,
        baselines={
            **{f"{backbone} alone": SingleBackbone(backbone) for backbone in backbones},
            "average of logits": LogitAverage(),
            "average of probabilities": ProbabilityAverage(),
            # The control: what the same labels give without any zero-shot knowledge.
            "logistic regression": make_pipeline(
                make_column_transformer((StandardScaler(), make_column_selector("__embedding__"))),
                LogisticRegression(max_iter=1000),
            ),
        },
    )
    draws = FewShotSplit(max(shots), n_draws, random_state=0).split(labels, labels)
    oracle = [
        ("oracle of the backbones", k, draw, oracle_score(table.iloc[test], labels[test]))
        for draw, (_, test) in enumerate(draws)
        for k in shots
    ]
    oracle = pd.DataFrame(oracle, columns=["method", "shots", "repeat", "score"])
    return pd.concat([scores, oracle], ignore_index=True)


def show(scores):
    """Print mean and standard deviation over the draws, the adaptive ensemble last but one."""
    names = list(dict.fromkeys(scores["method"]))
    names.insert(-1, names.pop(0))
    summary = scores.groupby(["method", "shots"])["score"].agg(["mean", "std"]) * 100
    shots = sorted(scores["shots"].unique())
    print(f"{'accuracy in %, labels per class:':32}" + "".join(f"{k:>14}" for k in shots))
    for name in names:
        cells = [f"{m:.1f} ± {s:.1f}" for m, s in summary.loc[name].loc[shots].to_numpy()]
        print(f"{name:32}" + "".join(f"{cell:>14}" for cell in cells))


def draw_picture(scores, images, table, labels, shots, path):
    """Accuracy against shots, and the images on which the backbones disagree most."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(
        1, 2, figsize=(15, 6.5), width_ratios=[1, 1.25], layout="constrained"
    )
    ShotCurveDisplay.from_scores(scores, ax=left)
    train, test = next(FewShotSplit(max(shots), 1, random_state=0).split(labels, labels))
    ensemble = AdaptiveBackboneEnsemble().fit(table.iloc[train], labels[train])
    ContactSheetDisplay.from_estimator(
        ensemble,
        table.iloc[test],
        labels[test],
        images=[images[i] for i in test],
        show="rescued",
        n_images=8,
        ax=right,
    )
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
