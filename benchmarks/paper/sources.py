"""Where images come from: torchvision, the Hugging Face hub, folders, or what is at hand.

A source reads one split as a sequence of images, and for each its class by position. Nothing is
downloaded but by ``fetch``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.paper.cells import Skipped
from benchmarks.paper.prompts import Prompts
from sklearn_clipensemble import load_image_folder

#: Images, and their classes by position.
Split = tuple[Sequence, np.ndarray]


class Lazy(Sequence):
    """The images of a dataset of (image, label), each read when it is asked for."""

    def __init__(self, dataset, rows=None):
        self.dataset = dataset
        self.rows = np.arange(len(dataset)) if rows is None else rows

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        image, _ = self.dataset[int(self.rows[index])]
        return str(image) if isinstance(image, Path) else image


@dataclass(frozen=True)
class Torchvision:
    """A dataset of torchvision; ``train`` and ``test`` are its arguments for the two splits.

    Without them it has no splits, and a fifth of each class, always the same, is to test on.
    """

    name: str
    train: Mapping = field(default_factory=dict)
    test: Mapping = field(default_factory=dict)
    #: Datasets of files hand out paths, which are decoded once and in threads.
    files: bool = True
    #: The label of the first class.
    first: int = 0
    #: Whether torchvision can download it.
    downloads: bool = True

    def fetch(self, folder: Path) -> None:
        """Download both splits."""
        if not self.downloads:
            return
        for options in (self.train, self.test):
            try:
                self._open(folder, options, download=True)
            except RuntimeError as error:  # a library is missing, or a download is not whole
                raise Skipped(f"torchvision's {self.name} could not be fetched: {error}") from error

    def read(self, folder: Path, split: str, prompts: Prompts) -> Split:
        """Return images and classes of a split."""
        has_splits = self.train != self.test
        try:
            dataset = self._open(folder, getattr(self, split), download=False)
        except (RuntimeError, OSError) as error:
            raise Skipped(f"torchvision's {self.name} is not in {folder}: {error}") from error
        classes = np.array([int(label) for _, label in dataset]) - self.first
        rows = np.arange(len(classes)) if has_splits else fifths(classes, split == "test")
        return Lazy(dataset, rows), classes[rows]

    def _open(self, folder, options, *, download):
        from torchvision import datasets

        options = dict(options)
        if self.downloads:
            options["download"] = download
        if self.files:
            options["loader"] = Path
        folder.mkdir(parents=True, exist_ok=True)
        return getattr(datasets, self.name)(folder, **options)


@dataclass(frozen=True)
class HuggingFace:
    """A repository of images on the Hugging Face hub, with splits ``train`` and ``test``."""

    repository: str
    image: str = "image"
    label: str = "label"
    #: Whether its classes are matched by name; else by number.
    by_name: bool = True

    def fetch(self, folder: Path) -> None:
        """Download both splits."""
        from datasets import load_dataset

        for split in ("train", "test"):
            found = load_dataset(self.repository, split=split, cache_dir=str(folder))
            found.save_to_disk(folder / "hub" / split)

    def read(self, folder: Path, split: str, prompts: Prompts) -> Split:
        """Return images and classes of a split."""
        if not (folder / "hub" / split).is_dir():
            raise Skipped(f"{self.repository} is not in {folder}: run the step fetch.")
        from datasets import load_from_disk

        dataset = load_from_disk(folder / "hub" / split)
        classes = np.array(dataset[self.label])
        if self.by_name:
            classes = np.array(prompts.positions(dataset.features[self.label].names))[classes]
        return dataset.select_columns([self.image]), classes


@dataclass(frozen=True)
class AtHand:
    """Images that a function loads, with labels; two fifths of each class are to test on."""

    load: Callable[[], tuple[Sequence, np.ndarray]]

    def fetch(self, folder: Path) -> None:
        """Nothing to fetch."""

    def read(self, folder: Path, split: str, prompts: Prompts) -> Split:
        """Return images and classes of a split."""
        images, labels = self.load()
        classes = np.unique(labels, return_inverse=True)[1]
        rows = fifths(classes, split == "test", n=2)
        return [images[i] for i in rows], classes[rows]


def fifths(classes: np.ndarray, test: bool, n: int = 1) -> np.ndarray:
    """Return the rows of one or more random fifths of every class, always the same; or the others."""
    rank = np.empty(len(classes), int)
    order = np.random.default_rng(0).permutation(len(classes))
    order = order[np.argsort(classes[order], kind="stable")]
    counts = np.bincount(classes)
    rank[order] = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
    return np.flatnonzero((rank % 5 < n) == test)


def is_laid_out(folder: Path) -> bool:
    """Whether a set lies in ``train`` and ``test``, as folders with one sub-folder per class."""
    return (folder / "train").is_dir() and (folder / "test").is_dir()


def read_folder(folder: Path, split: str, prompts: Prompts) -> Split:
    """Return images and classes of a set that is laid out."""
    found = load_image_folder(folder / split)
    if not found.target_names:
        raise Skipped(f"{folder / split} has no sub-folders, one for every class")
    positions = dict(zip(found.target_names, prompts.positions(found.target_names), strict=True))
    return found.paths, np.array([positions[name] for name in found.target])


def limited(classes: np.ndarray, n_per_class: int | None) -> np.ndarray:
    """Return the rows of at most so many images of every class, always the same."""
    from sklearn_clipensemble.table._draws import draw_shots

    if n_per_class is None:
        return np.arange(len(classes))
    return np.sort(draw_shots(classes, n_per_class, 0))


def take(images: Sequence, rows: np.ndarray) -> Any:
    """Return some of a sequence of images, whatever it is."""
    if isinstance(images, Lazy):
        return Lazy(images.dataset, images.rows[rows])
    if hasattr(images, "select"):  # of datasets
        return images.select(rows)
    return [images[int(i)] for i in rows]
