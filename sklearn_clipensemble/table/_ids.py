"""What the id of a backbone tells by itself: nothing is imported for that."""

from __future__ import annotations

import functools
from importlib.util import find_spec
from pathlib import Path

from sklearn_clipensemble._runtime import runtime


def without_prefix(id: str) -> str:
    """Return the CLIP backbone that an id names behind a prefix such as ``clip__``; else the id."""
    parts = id.split("__")
    ends = ("__".join(parts[start:]) for start in range(len(parts)))
    return next(filter(is_clip, ends), id)


def is_clip(id: str) -> bool:
    """Tell by its id whether a backbone is a CLIP model."""
    model, _, tag = id.rpartition("/")
    return (
        any(b.has_text for b in runtime.seen(id))
        or id.startswith(("tiny/", "hf-hub:"))
        or (bool(tag) and model in _open_clip_models())
    )


@functools.cache
def _open_clip_models() -> set[str]:
    """Return the names of open_clip's models, read off its folder: importing it takes seconds."""
    spec = find_spec("open_clip")
    folder = Path(spec.origin).parent / "model_configs" if spec and spec.origin else Path()
    return {path.stem for path in folder.glob("*.json")}
