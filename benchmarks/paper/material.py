"""What the steps measure: one set as a table of backbones, rows to learn from and rows to test on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from benchmarks.paper.cells import Skipped
from benchmarks.readers import SHOTS, draw_shots
from sklearn_clipensemble import Layout
from sklearn_clipensemble.inspection import Answers


@dataclass(frozen=True)
class Material:
    """A set, embedded by all backbones that could be had."""

    name: str
    group: str
    X: np.ndarray
    layout: Layout
    y: np.ndarray
    #: Rows to learn from, and to test on.
    learn: np.ndarray
    test: np.ndarray
    #: Backbone -> family.
    families: dict[str, str]
    #: How the classes were put to the text towers.
    prompts: str
    #: Whether X has real embeddings, and not answers only.
    embedded: bool = True

    @property
    def backbones(self) -> list[str]:
        """The backbones."""
        return list(self.layout.backbones)

    def need_several(self) -> None:
        """Skip where there is nothing to combine."""
        if len(self.backbones) < 2:
            raise Skipped(f"one backbone only ({self.backbones[0]}): nothing to combine")

    def need_texts(self) -> None:
        """Skip where there are no zero-shot answers."""
        if not self.layout.classes:
            raise Skipped("no texts, so no zero-shot answers")

    def need_embeddings(self) -> None:
        """Skip where there are answers only."""
        if not self.embedded:
            raise Skipped("answers only, no embeddings")

    def draw(self, shots: int | None, seed: int) -> np.ndarray:
        """Return rows to learn from: so many of each class, nested in their number; all for None."""
        if shots is not None:
            most = np.median(np.unique(self.y[self.learn], return_counts=True)[1])
            if most < shots:
                raise Skipped(f"fewer than {shots} labelled images in half of the classes")
        return self.learn[draw_shots(self.y[self.learn], shots, seed)]

    def few(self, seed: int, rows: np.ndarray | None = None) -> np.ndarray:
        """Return sixteen rows to learn from of each class, or what there is; of ``rows`` only."""
        rows = self.learn if rows is None else rows
        return rows[draw_shots(self.y[rows], max(SHOTS), seed)]

    def tested(self, most: int | None) -> np.ndarray:
        """Return the rows to test on, at most so many, always the same."""
        rows = np.random.default_rng(0).permutation(self.test)
        return np.sort(rows[:most])

    def answers(self, most: int | None = None) -> Answers:
        """Return what every backbone says of the rows to test on."""
        self.need_texts()
        rows = self.tested(most)
        logits = np.stack([self.layout.logits(self.X[rows], b) for b in self.backbones], axis=1)
        order = np.array(self.layout.classes)
        said = {b: order[logits[:, i].argmax(axis=1)] for i, b in enumerate(self.backbones)}
        return Answers.from_predictions(said, self.y[rows])


#: Labelled images per class; None takes all there are.
ALL_SHOTS = (*SHOTS, None)


def words(shots: int | None) -> str:
    """Return how a number of labelled images is written in tables."""
    return "all" if shots is None else str(shots)
