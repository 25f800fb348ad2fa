"""What is measured together: which sets, which backbones, how many draws."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from benchmarks import readers
from benchmarks.paper import decisions
from benchmarks.paper.cells import Skipped
from benchmarks.paper.embed import embedded
from benchmarks.paper.image_sets import PAPER, ImageSet
from benchmarks.paper.material import Material
from benchmarks.paper.prompts import Prompts
from benchmarks.paper.sources import AtHand
from sklearn_clipensemble import list_backbones
from sklearn_clipensemble.backbones import PRESETS


@dataclass(frozen=True)
class Suite:
    """A study's sets and sizes; ``image_sets`` are embedded by ``backbones``, ``tables`` come as they are."""

    name: str
    image_sets: tuple[ImageSet, ...] = ()
    #: Name -> what reads it from the folder of data.
    tables: dict[str, Callable[[Path], Material]] = field(default_factory=dict)
    backbones: tuple[str, ...] = ()
    draws: int = 5
    #: Rows to test on, and draws of subsets of backbones.
    n_test: int = 2000
    #: Sets whose test images are perturbed as well, and how many images of each.
    perturbed: tuple[str, ...] = ()
    n_perturbed: int = 300
    #: Images to learn from, of all classes together, and at least so many of every class.
    n_train: int | None = None
    least_per_class: int = 64
    #: Whether sets are embedded side by side, which is for small backbones.
    side_by_side: bool = False
    #: Whether the decisions of real models are set beside one another by family.
    has_decisions: bool = False
    #: CPU minutes that it took, all in all, where that was measured.
    minutes: int | None = None

    @property
    def families(self) -> tuple[str, ...]:
        """The families of the backbones."""
        return tuple(list_backbones().family.reindex(self.backbones).fillna("?"))

    @property
    def names(self) -> list[str]:
        """The names of all sets."""
        return [s.name for s in self.image_sets] + list(self.tables)

    def n_per_class(self, image_set: ImageSet) -> int | None:
        """Return how many images of each class there are at most to learn from."""
        if self.n_train is None:
            return None
        n_classes = len(image_set.prompts.classes)
        return max(self.least_per_class, self.n_train // n_classes)

    def material(self, name: str, data: Path | None, out: Path) -> Material:
        """Return a set, ready to be measured."""
        if name in self.tables:
            if data is None:
                raise Skipped("no folder of data: pass --data")
            return self.tables[name](data)
        group = next(s.group for s in self.image_sets if s.name == name)
        return embedded(out, name, group, self.backbones, self.families)


def full(data: Path | None) -> Suite:
    """The paper's study: nine backbones by OpenAI on 21 sets."""
    return Suite(
        "full",
        PAPER,
        backbones=PRESETS["openai"],
        n_test=10000,
        perturbed=("imagenet", "cifar10", "eurosat"),
        n_perturbed=2000,
        n_train=20000,
    )


@dataclass(frozen=True)
class LocalSet(ImageSet):
    """Images at hand, whose labels say what they show."""

    @property
    def prompts(self) -> Prompts:
        """Return the words of the labels, in CLIP's plainest sentence."""
        labels = np.unique(self.source.load()[1])
        words = tuple(readers.words_of(label) for label in labels)
        return Prompts(words, ("a photo of a {}.",), "Class names: the labels of the files.")


def tiny(data: Path | None) -> Suite:
    """The bundled backbones on the image sets at hand; without data, on handwritten digits alone."""
    sets = {"digits": (readers.TRANSFER, readers.digits)}
    if data is not None:
        for name in ("cifar10", "mnist", "caltech101_64px", "tiny_imagenet_32px"):
            sets[name] = (
                readers.SEEN,
                functools.partial(readers.read_images, data, name, ["test"]),
            )
        for style in ("photo", "art_painting", "cartoon", "sketch"):
            sets[f"pacs {style}"] = (
                readers.TRANSFER,
                functools.partial(readers.read_images, data, "pacs_64px", [style]),
            )
        sets["flowers5"] = (
            readers.TRANSFER,
            functools.partial(readers.read_images, data, "flowers5_64px", ["train", "test"]),
        )
    return Suite(
        "tiny",
        tuple(
            LocalSet(name, AtHand(functools.partial(_reported_half, load)), group=group)
            for name, (group, load) in sets.items()
        ),
        backbones=PRESETS["tiny"],
        draws=3,
        perturbed=tuple(name for name in ("digits", "cifar10", "pacs photo") if name in sets),
        side_by_side=True,
        minutes=28,
    )


@functools.lru_cache(maxsize=1)
def _reported_half(load):
    """Return the half of a set on which no constant of ours was chosen."""
    images, labels = load()
    rows, _, labels = readers.half_of(np.arange(len(labels)), None, labels, "test")
    return [images[i] for i in rows], labels


def real(data: Path | None) -> Suite:
    """Features, logits and decisions of real models."""
    features = {name: functools.partial(_features, name=name) for name in readers.REAL_SETS}
    return Suite(
        "real",
        tables={**features, "cifar10 logits": _logits, **decisions.TABLES},
        has_decisions=True,
        minutes=12,
    )


def _family(backbone: str) -> str:
    return "ResNet" if backbone.startswith("RN") else "ViT"


def _features(data: Path, name: str) -> Material:
    X, layout, y, train = readers.real_features(data, name)
    rest = np.flatnonzero(~train)
    rows, *_ = readers.half_of(rest, None, y[rest], "test")
    return Material(
        name=name,
        group=readers.REAL,
        X=X,
        layout=layout,
        y=y,
        learn=np.flatnonzero(train),
        test=rows,
        families={b: _family(b) for b in layout.backbones},
        prompts="text vectors as they came with the features" if layout.classes else "none",
    )


def _logits(data: Path) -> Material:
    X, layout, y = readers.half_of(*readers.real_logits(data), "test")
    learn = np.random.default_rng(0).permutation(len(y)) < len(y) // 2
    return Material(
        name="cifar10 logits",
        group=readers.LOGITS,
        X=X,
        layout=layout,
        y=y,
        learn=np.flatnonzero(learn),
        test=np.flatnonzero(~learn),
        families={b: b.partition("(")[2].rstrip(")") or b for b in layout.backbones},
        prompts="as they came with the logits",
        embedded=False,
    )


SUITES: dict[str, Callable[[Path | None], Suite]] = {"tiny": tiny, "real": real, "full": full}
