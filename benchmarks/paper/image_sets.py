"""The paper's 21 image sets: where each comes from, how it is split, and under what terms.

Which sets the paper has is known at second hand. Sizes of downloads are about right; licences with a
question mark could not be checked, and are no advice: read the terms at the source.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.paper.prompts import Prompts
from benchmarks.paper.sources import (
    AtHand,
    HuggingFace,
    Torchvision,
    is_laid_out,
    limited,
    read_folder,
    take,
)


@dataclass(frozen=True)
class ImageSet:
    """A set of images to be embedded."""

    #: Names its folder and the file of its prompts.
    name: str
    source: Torchvision | HuggingFace | AtHand
    n_train: int = 0
    n_test: int = 0
    gigabytes: float = 0.0
    licence: str = ""
    home: str = ""
    #: What the tables set apart.
    group: str = "the paper's"
    #: The name in open_clip's table of results, and whether that is mean recall over classes.
    published: str | None = None
    recall: bool = False
    #: Whether the published figure is of other test images.
    other_split: bool = False

    @property
    def prompts(self) -> Prompts:
        """What its classes are called."""
        return Prompts.of(self.name)

    def folder(self, data: Path | None) -> Path:
        """Where it lies."""
        return (data or Path("data")) / self.name

    def fetch(self, data: Path | None) -> None:
        """Download it, unless it is laid out as a folder."""
        folder = self.folder(data)
        if not is_laid_out(folder):
            self.source.fetch(folder)

    def read(
        self, data: Path | None, split: str, n_per_class: int | None
    ) -> tuple[Sequence[Any], np.ndarray]:
        """Return the images of a split, at most so many of each class, and their labels."""
        prompts, folder = self.prompts, self.folder(data)
        read = read_folder if is_laid_out(folder) else self.source.read
        images, classes = read(folder, split, prompts)
        rows = limited(classes, n_per_class)
        return take(images, rows), np.array(prompts.labels)[classes[rows]]


def _splits(train="train", test="test"):
    return {"train": {"split": train}, "test": {"split": test}}


_FLAG = {"train": {"train": True}, "test": {"train": False}}

PAPER = (
    ImageSet(
        "cars", HuggingFace("tanganke/stanford_cars", by_name=False), 8144, 8041, 6.0,
        "research, non-commercial?", "ai.stanford.edu/~jkrause/cars", published="Stanford Cars",
    ),
    ImageSet(
        "cifar10", Torchvision("CIFAR10", **_FLAG, files=False), 50000, 10000, 0.17,
        "none stated?", "www.cs.toronto.edu/~kriz/cifar.html", published="CIFAR-10",
    ),
    ImageSet(
        "cifar100", Torchvision("CIFAR100", **_FLAG, files=False), 50000, 10000, 0.17,
        "none stated?", "www.cs.toronto.edu/~kriz/cifar.html", published="CIFAR-100",
    ),
    ImageSet(
        "clevr_counts", Torchvision("CLEVRClassification", **_splits(test="val"), first=3),
        70000, 15000, 18.0, "CC BY 4.0", "cs.stanford.edu/people/jcjohns/clevr",
        published="CLEVR Counts",
    ),
    ImageSet(
        "country211", Torchvision("Country211", **_splits()), 31650, 21100, 11.0,
        "Creative Commons, image by image", "github.com/openai/CLIP/blob/main/data/country211.md",
        published="Country211",
    ),
    ImageSet(
        "cub", HuggingFace("bentrevett/caltech-ucsd-birds-200-2011"), 5994, 5794, 1.15,
        "research, non-commercial?", "www.vision.caltech.edu/datasets/cub_200_2011",
    ),
    ImageSet(
        "dtd", Torchvision("DTD", **_splits()), 1880, 1880, 0.6,
        "research?", "www.robots.ox.ac.uk/~vgg/data/dtd", published="Describable Textures",
    ),
    ImageSet(
        "eurosat", Torchvision("EuroSAT"), 21600, 5400, 0.09,
        "MIT", "github.com/phelber/EuroSAT", published="EuroSAT", other_split=True,
    ),
    ImageSet(
        "fgvc_aircraft", Torchvision("FGVCAircraft", **_splits("trainval")), 6667, 3333, 2.75,
        "research, non-commercial", "www.robots.ox.ac.uk/~vgg/data/fgvc-aircraft",
        published="FGVC Aircraft", recall=True,
    ),
    ImageSet(
        "flowers102", Torchvision("Flowers102", **_splits()), 1020, 6149, 0.35,
        "none stated?", "www.robots.ox.ac.uk/~vgg/data/flowers/102",
        published="Oxford Flowers-102", recall=True,
    ),
    ImageSet(
        "food101", Torchvision("Food101", **_splits()), 75750, 25250, 5.0,
        "none stated?", "data.vision.ee.ethz.ch/cvl/datasets_extra/food-101",
        published="Food-101",
    ),
    ImageSet(
        "gtsrb", Torchvision("GTSRB", **_splits(), files=False), 26640, 12630, 0.28,
        "free, cite?", "benchmark.ini.rub.de", published="GTSRB",
    ),
    ImageSet(
        "imagenet", Torchvision("ImageNet", **_splits(test="val"), downloads=False),
        1281167, 50000, 144.0, "research, non-commercial, by request", "www.image-net.org",
        published="ImageNet 1k",
    ),
    ImageSet(
        "mnist", Torchvision("MNIST", **_FLAG, files=False), 60000, 10000, 0.01,
        "CC BY-SA 3.0?", "yann.lecun.com/exdb/mnist", published="MNIST",
    ),
    ImageSet(
        "pcam", Torchvision("PCAM", **_splits(), files=False), 262144, 32768, 7.8,
        "CC0", "github.com/basveeling/pcam", published="PatchCamelyon",
    ),
    ImageSet(
        "pets", Torchvision("OxfordIIITPet", **_splits("trainval"), files=False),
        3680, 3669, 0.8, "CC BY-SA 4.0", "www.robots.ox.ac.uk/~vgg/data/pets",
        published="Oxford-IIIT Pet", recall=True,
    ),
    ImageSet(
        "rendered_sst2", Torchvision("RenderedSST2", **_splits()), 6920, 1821, 0.13,
        "none stated?", "github.com/openai/CLIP/blob/main/data/rendered-sst2.md",
        published="Rendered SST2",
    ),
    ImageSet(
        "resisc45", HuggingFace("timm/resisc45"), 18900, 6300, 0.43,
        "none stated", "huggingface.co/datasets/timm/resisc45", published="RESISC45",
    ),
    ImageSet(
        "stl10", Torchvision("STL10", **_splits(), files=False), 5000, 8000, 2.6,
        "research?", "cs.stanford.edu/~acoates/stl10", published="STL-10",
    ),
    ImageSet(
        "sun397", HuggingFace("tanganke/sun397"), 19850, 19850, 14.6,
        "research?", "vision.princeton.edu/projects/2010/SUN",
        published="SUN397", other_split=True,
    ),
    ImageSet(
        "svhn", Torchvision("SVHN", **_splits(), files=False), 73257, 26032, 0.25,
        "research, non-commercial", "ufldl.stanford.edu/housenumbers", published="SVHN",
    ),
)  # fmt: skip
