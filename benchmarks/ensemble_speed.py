"""How long the default ensemble takes to fit and to predict, and in how much memory.

    python -m benchmarks.ensemble_speed --data DATA
    python -m benchmarks.ensemble_speed

With ``--data``, features of real CLIPs: 16 labels for each of the 196 classes of
stanford_cars, and for each of the 100 of mini_imagenet (two backbones); then 1,000
classes with 16 labels and with one, made up like those of stanford_cars: class means and
texts, and rows about them, have the covariances of the real ones. Without, made-up
embeddings of five backbones of width 512 to 1024: a narrow cone, as CLIP's are, a
direction per class, and noise whose variance falls off over the dimensions as theirs
does, like that of the class directions.

The peer is scikit-learn's LogisticRegression on the concatenated embeddings: on
unit-length ones, and on standardised ones. On unit-length embeddings its first gradient
is already below its tolerance when there are many classes, and it returns zeros; the
column of iterations says so. Each method runs in a process of its own, so that peaks of
memory do not mix. All rows of a table come from one run.
"""

from __future__ import annotations

import argparse
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks.readers import real_features, unit
from sklearn_clipensemble import AdaptiveBackboneEnsemble, Layout

WIDTHS = {"RN50": 1024, "RN101": 512, "ViT-B-32": 512, "ViT-B-16": 512, "ViT-L-14": 768}


# The length of the noise, beside class means of length one: so that the task is not easy.
NOISE = 2.5


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


def real_table(data: Path, name: str, shots: int, n_test: int):
    """Return the same of real features; rows to predict are repeated until there are enough."""
    X, layout, y, _ = real_features(data, name)
    learn = pd.Series(y).groupby(y).cumcount().to_numpy() < shots
    rest = np.flatnonzero(~learn) if not learn.all() else np.arange(len(y))
    rows = np.concatenate([np.flatnonzero(learn), np.resize(rest, n_test)])
    return X[rows], layout, y[rows]


def table_like(data: Path, name: str, n_classes: int, shots: int, n_test: int):
    """Return a made-up table whose class means, texts and rows vary as those of real features do."""
    X, layout, y, _ = real_features(data, name)
    (backbone,) = layout.backbones
    real, codes = layout.embedding(X, backbone), np.unique(y, return_inverse=True)[1]
    means = class_means(real, codes)
    texts = np.linalg.lstsq(real, layout.logits(X, backbone) / 100, rcond=None)[0].T
    rng = np.random.default_rng(0)

    def draw(rows, n):
        """Return Gaussian rows with the mean and the covariance of others."""
        center = rows.mean(axis=0)
        mix = rng.standard_normal((n, len(rows)), dtype=np.float32) / np.sqrt(len(rows))
        return center + mix @ (rows - center)

    pairs = draw(np.hstack([means, texts]), n_classes)
    means, texts = pairs[:, : means.shape[1]], unit(pairs[:, means.shape[1] :])
    y = np.concatenate(
        [np.repeat(np.arange(n_classes), shots), rng.integers(n_classes, size=n_test)]
    )
    embedding = unit(means[y] + draw(real - class_means(real, codes)[codes], len(y)))
    embedding, texts = embedding.astype(np.float32), texts.astype(np.float32)
    names = [f"{i:04}" for i in range(n_classes)]
    layout = Layout({backbone: real.shape[1]}, names)
    return np.hstack([embedding, 100 * embedding @ texts.T]), layout, np.array(names)[y]


def class_means(rows, codes):
    """Return the mean row of every class."""
    return np.stack([rows[codes == c].mean(axis=0) for c in range(codes.max() + 1)])


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


def measure_made(name: str, n: int, make, *args) -> dict:
    """Measure a method on a table that is made, or read, in its own process."""
    return measure(name, n, *make(*args))


def report(label: str, n: int, make, *args):
    """Print a line for every method, each measured in a fresh process."""
    for name in methods(None):
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
            found = process.submit(measure_made, name, n, make, *args).result()
        print(
            f"| {label} | {name} | {found['fit']:.1f} | {found['iterations']} "
            f"| {found['rate']:,.0f} | {found['accuracy']:.3f} | {found['table']:.0f} "
            f"| {found['added']:.0f} |",
            flush=True,
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--test", type=int, default=20_000, help="rows to predict")
    parser.add_argument("--data", type=Path, help="folder of real_features")
    args = parser.parse_args()
    print("| classes x shots | method | fit, s | iterations | predict, rows/s | accuracy |", end="")
    print(" table, MB | peak above it, MB |\n" + "|---" * 8 + "|", flush=True)
    if args.data:
        cars = args.data, "stanford_cars"
        report("stanford_cars, 196 x 16", 196 * 16, real_table, *cars, 16, args.test)
        two = args.data, "mini_imagenet", 16, args.test
        report("mini_imagenet, 100 x 16, 2 backbones", 1600, real_table, *two)
        report("like stanford_cars, 1000 x 16", 16_000, table_like, *cars, 1000, 16, args.test)
        report("like stanford_cars, 1000 x 1", 1000, table_like, *cars, 1000, 1, args.test)
        return
    for n_classes, shots in ((1000, 1), (1000, 16), (100, 16)):
        report(f"{n_classes} x {shots}", n_classes * shots, make_table, n_classes, shots, args.test)


if __name__ == "__main__":
    main()
