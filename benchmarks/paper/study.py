"""One study: a suite, its data, where results go, and the steps that make them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from benchmarks.paper import decisions
from benchmarks.paper.cells import Cell, Skipped
from benchmarks.paper.combiners import combine
from benchmarks.paper.embed import embed
from benchmarks.paper.families import compare
from benchmarks.paper.heads_and_adapters import adapters, linear_heads
from benchmarks.paper.material import ALL_SHOTS, Material, words
from benchmarks.paper.perturbations import conditions, perturbed
from benchmarks.paper.subsets import subsets
from benchmarks.paper.suites import SUITES, Suite
from benchmarks.paper.unseen import unseen_classes
from benchmarks.readers import SHOTS
from sklearn_clipensemble.backbones import resolve
from sklearn_clipensemble.inspection import cka_matrix


@dataclass(frozen=True)
class Study:
    """What a cell needs to find its set; small, so that it travels to other processes."""

    name: str
    out: Path
    data: Path | None = None

    @property
    def suite(self) -> Suite:
        """The suite."""
        return _suite(self.name, self.data)

    def material(self, name: str) -> Material:
        """Return a set, ready to be measured."""
        return self.suite.material(name, self.data, self.out)

    def image_set(self, name: str):
        """Return a set of images."""
        return next(s for s in self.suite.image_sets if s.name == name)


@functools.lru_cache(maxsize=1)
def _suite(name: str, data: Path | None) -> Suite:
    return SUITES[name](data)


# --- the steps: each returns its cells -------------------------------------------------


def fetch(study: Study) -> Iterator[Cell]:
    """Download sets and weights."""
    for image_set in study.suite.image_sets:
        args = (study, image_set.name)
        yield Cell("fetch", image_set.name, "images", _fetch_images, args, again=True)
    for backbone in study.suite.backbones:
        yield Cell("fetch", backbone, "weights", _fetch_weights, (backbone,), again=True)


def _fetch_images(study, name):
    image_set = study.image_set(name)
    image_set.fetch(study.data)
    return [{"folder": str(image_set.folder(study.data))}]


def _fetch_weights(backbone):
    known = resolve(backbone)[0]
    known.require()
    known.load()
    return [{"fingerprint": known.fingerprint()}]


def embed_all(study: Study) -> Iterator[Cell]:
    """Embed the images of all sets by all backbones."""
    for image_set in study.suite.image_sets:
        yield Cell("embed", image_set.name, "all", _embed, (study, image_set.name))


def _embed(study, name):
    suite, image_set = study.suite, study.image_set(name)
    per_class = suite.n_per_class(image_set)
    keep = not suite.side_by_side
    return embed(image_set, suite.backbones, study.data, study.out, per_class, keep)


def answers(study: Study) -> Iterator[Cell]:
    """Keep which backbone is right about which test image, zero-shot."""
    for name in study.suite.names:
        yield Cell("answers", name, "right", _answers, (study, name))


def _answers(study, name):
    material = study.material(name)
    correct = material.answers().correct
    correct.insert(0, "y", material.y[material.tested(None)])
    return correct.to_dict("records")


def combine_all(study: Study) -> Iterator[Cell]:
    """Combine the zero-shot answers: every method, number of labels and draw."""
    for name in study.suite.names:
        for shots in ALL_SHOTS:
            # Of all labels there is one draw; two show what the seed of a training decides.
            draws = study.suite.draws if shots else min(study.suite.draws, 2)
            for seed in range(draws):
                key = f"{words(shots)} shots, draw {seed}"
                yield Cell("combine", name, key, _combine, (study, name, shots, seed))


def _combine(study, name, shots, seed):
    return combine(study.material(name), shots, seed, study.suite.n_test)


def linear(study: Study) -> Iterator[Cell]:
    """Linear heads, and the controller on top."""
    for name in study.suite.names:
        for seed in range(study.suite.draws):
            yield Cell("linear", name, f"draw {seed}", _linear, (study, name, seed))


def _linear(study, name, seed):
    return linear_heads(study.material(name), seed, study.suite.n_test)


def adapt(study: Study) -> Iterator[Cell]:
    """Tip-Adapters, and the controller on top."""
    for name in study.suite.names:
        for shots in SHOTS:
            for seed in range(study.suite.draws):
                key = f"{shots} shots, draw {seed}"
                yield Cell("adapt", name, key, _adapt, (study, name, shots, seed))


def _adapt(study, name, shots, seed):
    return adapters(study.material(name), shots, seed, study.suite.n_test)


def subsets_all(study: Study) -> Iterator[Cell]:
    """Subsets of the backbones, and cascades of them."""
    for name in study.suite.names:
        for seed in range(min(study.suite.draws, 2)):
            yield Cell("subsets", name, f"draw {seed}", _subsets, (study, name, seed))


def _subsets(study, name, seed):
    return subsets(study.material(name), seed, study.suite.n_test)


def unseen(study: Study) -> Iterator[Cell]:
    """Classes without labels."""
    for name in study.suite.names:
        for seed in range(max(study.suite.draws // 2 * 2, 2)):
            yield Cell("unseen", name, f"draw {seed}", _unseen, (study, name, seed))


def _unseen(study, name, seed):
    return unseen_classes(study.material(name), seed, study.suite.n_test)


def families(study: Study) -> Iterator[Cell]:
    """Pairs of two families beside pairs of one."""
    for name in study.suite.names:
        if name not in decisions.TABLES:  # those are panels, too
            yield Cell("families", name, "pairs", _families, (study, name))
    if study.suite.has_decisions:
        for name in decisions.PANELS:
            yield Cell("families", name, "pairs", _panel, (study, name))
        yield Cell("families", "one backbone", "pairs", _same_backbone, (study,))


def _families(study, name):
    material = study.material(name)
    material.need_several()
    counts = pd.Series(material.families).value_counts()
    if len(counts) < 2 or counts.max() < 2:
        raise Skipped("takes two families, and two backbones of one")
    correct = material.answers().correct
    rows = compare(correct, material.families).to_dict("records")
    return [{"group": material.group, "n_images": len(correct), **row} for row in rows]


def _panel(study, name):
    panel = decisions.PANELS[name](_need(study.data))
    rows = compare(panel.right, panel.families, panel.clusters).to_dict("records")
    return [{"group": decisions.GROUP, "n_images": len(panel.right), **row} for row in rows]


def _same_backbone(study):
    found = decisions.same_backbone(_need(study.data))
    return [{"group": decisions.GROUP, **row} for row in found]


def _need(data):
    if data is None:
        raise Skipped("no folder of data: pass --data")
    return data


def similar(study: Study) -> Iterator[Cell]:
    """How alike the embeddings are."""
    for name in study.suite.names:
        yield Cell("similar", name, "CKA", _similar, (study, name))


def _similar(study, name):
    material = study.material(name)
    material.need_several()
    material.need_embeddings()
    rows = material.tested(2000)
    layout, X = material.layout, material.X[rows]
    found = cka_matrix({b: layout.embedding(X, b) for b in material.backbones}, debiased=True)
    of = material.families
    return [
        {"a": a, "b": b, "one family": of[a] == of[b], "cka": found.loc[a, b]}
        for i, a in enumerate(material.backbones)
        for b in material.backbones[i + 1 :]
    ]


def perturb(study: Study) -> Iterator[Cell]:
    """Perturbed images."""
    for name in study.suite.perturbed:
        for kind, severity in conditions():
            yield Cell(
                "perturb", name, f"{kind} {severity}", _perturb, (study, name, kind, severity)
            )


def _perturb(study, name, kind, severity):
    suite = study.suite
    return perturbed(
        study.image_set(name), study.material(name), kind, severity, study.data, study.out,
        suite.n_perturbed,
    )  # fmt: skip


#: The steps that measure, in order; each stands on those before it, and on files only.
STEPS: dict[str, Callable[[Study], Iterator[Cell]]] = {
    "fetch": fetch,
    "embed": embed_all,
    "answers": answers,
    "combine": combine_all,
    "linear": linear,
    "adapt": adapt,
    "subsets": subsets_all,
    "unseen": unseen,
    "families": families,
    "similar": similar,
    "perturb": perturb,
}
