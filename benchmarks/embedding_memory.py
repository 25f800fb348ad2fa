"""Memory while hundreds of thousands of images stream through an embedder.

    python -m benchmarks.embedding_memory

The images are made as they are asked for, and the tables of `transform_batches`
are dropped as a program that writes them to disk would drop them. With
``--cache`` the embeddings are also kept, in memory (bounded) or in a folder.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np

from sklearn_clipensemble import CLIPEmbedder


class Images:
    """A sequence of n different images of 64 x 64 that exist only while they are looked at."""

    def __init__(self, n):
        self.n = n

    def __len__(self):
        return self.n

    def __getitem__(self, index):
        return np.random.default_rng(index).integers(0, 256, (64, 64, 3), np.uint8)


def resident() -> float:
    """Return the megabytes that this process holds (Linux)."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 2**20


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=200_000)
    parser.add_argument("--backbones", nargs="+", default=["tiny/RN-1221"])
    parser.add_argument("--cache", help="a folder, or 'memory'; nothing is kept without it")
    options = parser.parse_args()
    cache = {None: False, "memory": None}.get(options.cache, options.cache)
    X = Images(options.n)
    embedder = CLIPEmbedder(options.backbones, cache=cache).fit(X)
    marks = [options.n * i // 10 for i in range(1, 11)]
    start = time.perf_counter()
    for table in embedder.transform_batches(X):
        done = table.index[-1] + 1
        if done >= marks[0]:
            marks.pop(0)
            rate = done / (time.perf_counter() - start)
            print(f"{done:>8} images: {resident():.0f} MB, {rate:.0f} images/s", flush=True)


if __name__ == "__main__":
    main()
