"""What the classes are called and in which sentences: facts from public lists, one file for each set."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parent / "prompts"


@dataclass(frozen=True)
class Prompts:
    """The words of the classes, by position, the templates they are put into, and whose they are."""

    classes: tuple[str, ...]
    templates: tuple[str, ...]
    source: str

    @classmethod
    def of(cls, name: str) -> Prompts:
        """Read those of one of the paper's sets."""
        known = tomllib.loads((FOLDER / f"{name}.toml").read_text(encoding="utf-8"))
        return cls(tuple(known["classes"]), tuple(known["templates"]), known["source"])

    def __str__(self):
        n = len(self.templates)
        more = f" and {n - 1} more" if n > 1 else ""
        return f'"{self.templates[0]}"{more}. {self.source}'

    @property
    def labels(self) -> list[str]:
        """The labels: positions, since two classes may share words (ImageNet has two "missile")."""
        return [f"{i:04}" for i in range(len(self.classes))]

    def positions(self, names: Sequence[str]) -> list[int]:
        """Return which class each name is: by its words, else by order where there are as many.

        Names differ from words in case, and in ``_``, ``/`` or ``-`` for a space.
        """
        known = {_plain(words): i for i, words in enumerate(self.classes)}
        if all(_plain(name) in known for name in names):
            return [known[_plain(name)] for name in names]
        if len(names) == len(self.classes):
            return list(range(len(names)))
        unknown = next(name for name in names if _plain(name) not in known)
        raise ValueError(
            f"{unknown!r} is the name of no class, and there are {len(names)} names for "
            f"{len(self.classes)} classes. Expected names such as {self.classes[0]!r}, or one for every "
            "class, in the order of the list of prompts."
        )


def _plain(name: str) -> str:
    return re.sub(r"[\s_/-]+", " ", name).strip().lower()
