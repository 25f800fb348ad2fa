"""Images -> embeddings and text vectors of every backbone: one file for each set and backbone."""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.paper.cells import Skipped, plain
from benchmarks.paper.image_sets import ImageSet
from benchmarks.paper.material import Material
from sklearn_clipensemble import CLIPEmbedder, Layout, ZeroShotLogits, clear
from sklearn_clipensemble.backbones import resolve


def file_of(out: Path, name: str, backbone: str) -> Path:
    """Where the embeddings of a set are kept."""
    return out / "embeddings" / plain(name) / f"{plain(backbone)}.npz"


def embed(
    image_set: ImageSet,
    backbones: Sequence[str],
    data: Path | None,
    out: Path,
    n_per_class: int | None,
    keep: bool,
) -> list[dict]:
    """Embed both splits by the backbones that have not been yet, each image decoded once for all.

    With ``keep``, every image's vectors are kept as they come, so that a run that is stopped goes on.
    """
    usable, why = [], {}
    for backbone in backbones:
        if not file_of(out, image_set.name, backbone).exists():
            try:
                resolve(backbone)[0].require()
                usable.append(backbone)
            except (OSError, ImportError) as error:
                why[backbone] = " ".join(str(error).split())
    if usable:
        _embed(image_set, usable, data, out, n_per_class, str(out / "vectors") if keep else False)
    if why:
        n_usable = len(backbones) - len(why)
        raise Skipped(f"{n_usable} of {len(backbones)} backbones; {'; '.join(why.values())}")
    rows = []
    for backbone in backbones:
        with np.load(file_of(out, image_set.name, backbone)) as kept:
            n_test = int((~kept["train"]).sum())
            rows.append(
                {
                    "backbone": backbone,
                    "n_train": len(kept["train"]) - n_test,
                    "n_test": n_test,
                    "seconds": float(kept["seconds"]),
                    "prompts": str(kept["prompts"]),
                }
            )
    return rows


def _embed(image_set, backbones, data, out, n_per_class, cache):
    prompts = image_set.prompts
    train, y_train = image_set.read(data, "train", n_per_class)
    test, y_test = image_set.read(data, "test", None)
    embedder = CLIPEmbedder(backbones, cache=cache)
    start = time.perf_counter()
    tables = [embedder.fit_transform(images) for images in (train, test)]
    seconds = (time.perf_counter() - start) / len(backbones)
    names = dict(zip(prompts.labels, prompts.classes, strict=True))
    texts = ZeroShotLogits(names, templates=prompts.templates, cache=False).fit(tables[0].head(1))
    layout = Layout.from_names(tables[0].columns)
    for backbone in backbones:
        X = np.concatenate([layout.embedding(t.to_numpy(), backbone) for t in tables])
        file = file_of(out, image_set.name, backbone)
        file.parent.mkdir(parents=True, exist_ok=True)
        aside = file.with_name(f"{os.getpid()}-{file.name}")
        np.savez(
            aside,
            X=X.astype(np.float16),
            W=texts.text_heads_[backbone].astype(np.float32),
            scale=texts.logit_scales_[backbone],
            bias=texts.logit_biases_[backbone],
            y=np.concatenate([y_train, y_test]),
            train=np.arange(len(X)) < len(y_train),
            labels=prompts.labels,
            prompts=str(prompts),
            seconds=seconds,
        )
        aside.replace(file)
    clear()


@functools.lru_cache(maxsize=1)
def embedded(
    out: Path, name: str, group: str, backbones: tuple[str, ...], families: tuple[str, ...]
) -> Material:
    """Return a set as a table of those backbones that have embedded it."""
    have = {}
    for backbone in backbones:
        if (file := file_of(out, name, backbone)).exists():
            with np.load(file) as kept:
                have[backbone] = dict(kept)
    if not have:
        raise Skipped("not embedded by any backbone")
    first = next(iter(have.values()))
    columns = []
    for kept in have.values():
        X = kept["X"].astype(np.float32)
        X /= np.linalg.norm(X, axis=1, keepdims=True)
        logits = float(kept["scale"]) * (X @ kept["W"].T) + float(kept["bias"])
        columns += [X, logits.astype(np.float32)]
    return Material(
        name=name,
        group=group,
        X=np.hstack(columns),
        layout=Layout(
            {b: kept["X"].shape[1] for b, kept in have.items()}, first["labels"].tolist()
        ),
        y=first["y"],
        learn=np.flatnonzero(first["train"]),
        test=np.flatnonzero(~first["train"]),
        families={b: f for b, f in zip(backbones, families, strict=True) if b in have},
        prompts=str(first["prompts"]),
    )
