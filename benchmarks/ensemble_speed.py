"""How long the default ensemble takes to fit and to predict, and in how much memory.

    python benchmarks/ensemble_speed.py
    python benchmarks/ensemble_speed.py --data DATA

Five backbones of width 512 to 1024. The embeddings are made: a narrow cone, as
CLIP's are, a direction per class, and noise whose variance falls off over the
dimensions as theirs does, like that of the class directions. The peer is scikit-learn's
LogisticRegression on the concatenated embeddings: on unit-length ones, and on
standardised ones. On unit-length embeddings its first gradient is already
below its tolerance when there are many classes, and it returns zeros; the
column of iterations says so. With ``--data``, real ones: 16,000 training images of
tiny_imagenet (200 classes) and its 10,000 test images, embedded with the bundled
backbones, whose embeddings are narrower. Each method runs in a process of its own, so
that peaks of memory do not mix. All rows of a table come from one run.
"""

from __future__ import annotations

import argparse
import io
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_clipensemble import (
    AdaptiveBackboneEnsemble,
    CLIPEmbedder,
    Layout,
    ZeroShotLogits,
)

WIDTHS = {"RN50": 1024, "RN101": 512, "ViT-B-32": 512, "ViT-B-16": 512, "ViT-L-14": 768}


# The length of the noise, beside class means of length one: so that the task is not easy.
NOISE = 2.5


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def make_table(n_classes: int, shots: int, n_test: int):
    """Return the table of training and test rows, its layout and the labels."""
    rng = np.random.default_rng(0)
    y = np.concatenate(
        [np.repeat(np.arange(n_classes), shots), rng.integers(n_classes, size=n_test)]
    )
    names = [f"{i:04}" for i in range(n_classes)]
    layout = Layout(WIDTHS, names)
    X = np.empty((len(y), layout.n_features), np.float32)
    for backbone, width in WIDTHS.items():
        cone = 2 * unit(rng.standard_normal((1, width)))
        spread = np.arange(1, width + 1) ** -0.5
        means = unit(rng.standard_normal((n_classes, width)) * spread)
        spread /= np.linalg.norm(spread)
        noise = rng.standard_normal((len(y), width), dtype=np.float32) * spread.astype(np.float32)
        embedding = unit((cone + means[y]).astype(np.float32) + NOISE * noise)
        texts = unit(means + 3 * unit(rng.standard_normal((n_classes, width))))
        layout.embedding(X, backbone)[:] = embedding
        layout.logits(X, backbone)[:] = 100 * embedding @ texts.T.astype(np.float32)
    return X, layout, np.array(names)[y]


def real_table(data: Path, shots: int):
    """Return the same of real images, the training rows first."""
    from PIL import Image

    images = pd.read_parquet(data / "tiny_imagenet_32px.parquet")
    train = images[images.split == "train"].groupby("label").head(shots)
    images = pd.concat([train, images[images.split == "test"]])
    y = images.label.to_numpy(dtype=str)
    words = {label: label.partition(",")[0] for label in np.unique(y)}
    pixels = [Image.open(io.BytesIO(content)).convert("RGB") for content in images.image]
    embeddings = CLIPEmbedder("tiny", cache=False).fit_transform(pixels)
    table = ZeroShotLogits(class_names=words).fit(embeddings, y).transform(embeddings)
    return table.to_numpy(), Layout.from_names(table.columns), y


def methods(layout):
    return {
        "AdaptiveBackboneEnsemble": AdaptiveBackboneEnsemble(layout=layout),
        "LogisticRegression, unit length": LogisticRegression(),
        "LogisticRegression, standardised": make_pipeline(StandardScaler(), LogisticRegression()),
    }


def memory(entry: str) -> float:
    """Return megabytes of this process (Linux): what it holds, VmRSS, or the peak so far, VmHWM."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(entry))


def measure(name: str, n: int, X: np.ndarray, layout: Layout, y: np.ndarray) -> dict:
    """Fit on the first rows and predict the others; seconds, megabytes and accuracy."""
    clf = methods(layout)[name]
    if not isinstance(clf, AdaptiveBackboneEnsemble):
        X = np.hstack([layout.embedding(X, b) for b in layout.backbones])
    Path("/proc/self/clear_refs").write_text("5")  # forgets the peak
    before = memory("VmRSS")
    start = time.perf_counter()
    clf.fit(X[:n], y[:n])
    fitted = time.perf_counter()
    accuracy = np.mean(clf.predict(X[n:]) == y[n:])
    done = time.perf_counter()
    after = memory("VmHWM")
    steps = clf[-1] if hasattr(clf, "steps") else clf
    return {
        "fit": fitted - start,
        "rate": (len(X) - n) / (done - fitted),
        "accuracy": accuracy,
        "iterations": getattr(steps, "n_iter_", [""])[0],
        "table": X.nbytes / 2**20,
        "added": after - before,
    }


def measure_made(name: str, n_classes: int, shots: int, n_test: int) -> dict:
    """Measure a method on made-up embeddings."""
    return measure(name, n_classes * shots, *make_table(n_classes, shots, n_test))


def report(label: str, task, *args):
    """Print a line for every method, each measured in a fresh process."""
    for name in methods(None):
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
            found = process.submit(task, name, *args).result()
        print(
            f"| {label} | {name} | {found['fit']:.1f} | {found['iterations']} "
            f"| {found['rate']:,.0f} | {found['accuracy']:.3f} | {found['table']:.0f} "
            f"| {found['added']:.0f} |",
            flush=True,
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--classes", type=int, nargs="+", default=[1000, 1000, 100])
    parser.add_argument("--shots", type=int, nargs="+", default=[1, 16, 16])
    parser.add_argument("--test", type=int, default=20_000, help="rows to predict")
    parser.add_argument("--data", type=Path, help="folder of tiny_imagenet_32px.parquet")
    args = parser.parse_args()
    print("| classes x shots | method | fit, s | iterations | predict, rows/s | accuracy |", end="")
    print(" table, MB | peak above it, MB |\n" + "|---" * 8 + "|", flush=True)
    if args.data:
        shots = 80
        X, layout, y = real_table(args.data, shots)
        n = shots * len(np.unique(y))
        report(f"{n // shots} x {shots}, real", measure, n, X, layout, y)
        return
    for n_classes, shots in zip(args.classes, args.shots, strict=True):
        report(f"{n_classes} x {shots}", measure_made, n_classes, shots, args.test)


if __name__ == "__main__":
    main()
