"""Docstrings that are completed from those of the bases, so that what classes share stands once."""

from __future__ import annotations

import inspect
import re


def _sections(doc: str) -> dict[str, str]:
    """Return the bodies of a numpydoc docstring's sections by title; that of "" comes before them."""
    titled = re.split(r"(?:\A|\n\n)(\w[\w ]*)\n-{3,}\n", "\n\n" + inspect.cleandoc(doc))
    return {"": titled[0].strip(), **dict(zip(titled[1::2], titled[2::2], strict=True))}


def complete(cls: type) -> None:
    """Add to the docstring of a class what its bases document and it does not.

    Those are the parameters that its ``__init__`` takes, in that order, and all attributes.
    """
    if not vars(cls).get("__doc__"):  # none is written, or Python runs with -OO
        return
    own = _sections(cls.__doc__ or "")
    shared: dict[str, dict[str, str]] = {"Parameters": {}, "Attributes": {}}
    for base in reversed(cls.__mro__):
        sections = _sections(vars(base).get("__doc__") or "")
        for title, entries in shared.items():
            for entry in filter(None, re.split(r"\n(?=\S)", sections.get(title, ""))):
                entries[re.split(r"\W", entry.lstrip("*"))[0]] = entry.rstrip()
    taken = list(inspect.signature(cls.__init__).parameters)  # type: ignore[misc]
    documented = shared["Parameters"]
    shared["Parameters"] = {name: documented[name] for name in taken if name in documented}
    bodies = {title: "\n".join(entries.values()) for title, entries in shared.items() if entries}
    ordered = {"": own.pop(""), **bodies, **{t: b for t, b in own.items() if t not in bodies}}
    parts = [f"{t}\n{'-' * len(t)}\n{b.rstrip()}" if t else b for t, b in ordered.items()]
    cls.__doc__ = "\n\n".join(parts) + "\n"
