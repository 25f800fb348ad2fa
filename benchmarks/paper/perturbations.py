"""Perturbed test images: which family withstands which perturbation, and what is left to gain."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks.paper.combiners import AVERAGE, NLC, ORACLE, OURS, SUPER, combiners
from benchmarks.paper.embed import file_of
from benchmarks.paper.image_sets import ImageSet
from benchmarks.paper.material import Material
from benchmarks.robustness import FAMILIES, ONE_STRENGTH, crop
from sklearn_clipensemble import CLIPEmbedder, ensembles
from sklearn_clipensemble.backbones import resolve
from sklearn_clipensemble.corruptions import Corruption
from sklearn_clipensemble.images import as_sources, load

SEVERITIES = (1, 3, 5)


def conditions() -> list[tuple[str, int]]:
    """Return every perturbation and severity; the images as they are come first."""
    kinds = [kind for members in FAMILIES.values() for kind in members]
    return [("none", 0)] + [
        (kind, severity)
        for kind in kinds
        for severity in ((1,) if kind in ONE_STRENGTH else SEVERITIES)
    ]


def perturbed(
    image_set: ImageSet,
    material: Material,
    kind: str,
    severity: int,
    data: Path | None,
    out: Path,
    n_images: int,
) -> list[dict]:
    """Score the zero-shot answers, and what has learnt from clean images, on perturbed ones."""
    images, y = image_set.read(data, "test", None)
    rows = np.sort(np.random.default_rng(0).permutation(len(y))[:n_images])
    size = min(resolve(b)[0].geometry.height for b in material.backbones)
    sources = as_sources(images)
    images = [crop(load(sources, int(i))[1], size) for i in rows]
    if severity:
        images = Corruption(kind, severity=severity, random_state=0).fit_transform(images)
    table = CLIPEmbedder(material.backbones, cache=False).fit_transform(images).to_numpy()
    columns, start = [], 0
    for b in material.backbones:
        width = material.layout.widths[b]
        embedding = table[:, start : start + width]
        start += width
        with np.load(file_of(out, image_set.name, b)) as kept:
            logits = float(kept["scale"]) * embedding @ kept["W"].T + float(kept["bias"])
        columns += [embedding, logits]
    X, y = np.hstack(columns).astype(np.float32), y[rows]
    order = np.array(material.layout.classes)
    hits = {b: order[material.layout.logits(X, b).argmax(axis=1)] == y for b in material.backbones}
    found = {b: right.mean() for b, right in hits.items()}
    found[ORACLE] = np.any(list(hits.values()), axis=0).mean()
    if len(material.backbones) > 1:
        learn = material.few(0)
        for name, method in {
            AVERAGE: ensembles.ProbabilityAverage,
            SUPER: ensembles.SuperLearner,
            NLC: combiners(0)[NLC],
            OURS: ensembles.AdaptiveBackboneEnsemble,
        }.items():
            clf = method(layout=material.layout).fit(material.X[learn], material.y[learn])
            found[name] = np.mean(clf.predict(X) == y)
    common = {"group": material.group, "corruption": kind, "severity": severity}
    return [
        {**common, "method": m, "family": material.families.get(m, ""), "accuracy": accuracy}
        for m, accuracy in found.items()
    ]
