"""Prompt templates: the sentences that class names are put into."""

from __future__ import annotations

import re
from collections.abc import Sequence

from sklearn_clipensemble.backbones._open_clip import open_clip

_OPENAI_7 = (
    "itap of a {}.",
    "a bad photo of the {}.",
    "a origami {}.",
    "a photo of the large {}.",
    "a {} in a video game.",
    "art of the {}.",
    "a photo of the small {}.",
)


def resolve_templates(templates: str | Sequence[str]) -> tuple[str, ...]:
    """Turn a template, a list of them or the name of a set into a tuple of templates.

    The sets are CLIP's own (Radford et al. 2021).
    """
    if isinstance(templates, str):
        if templates == "openai-7":
            return _OPENAI_7
        if templates == "openai-80":
            # open_clip keeps functions, which do not pickle; the text around the name is what counts.
            return tuple(template("{}") for template in open_clip().OPENAI_IMAGENET_TEMPLATES)
        templates = [templates]
    # NumPy's texts are written otherwise than Python's, in messages and in the keys of the cache.
    templates = tuple(str(t) if isinstance(t, str) else t for t in templates)
    if not templates:
        raise ValueError("templates is empty; give at least one, such as 'a photo of a {}.'.")
    for template in templates:
        if not isinstance(template, str):
            raise TypeError(
                f"A template is a string with a place for the class name, got {template!r}."
            )
        if template.count("{}") != 1 or re.search("[{}]", template.replace("{}", "")):
            raise ValueError(
                f"The template {template!r} must have exactly one '{{}}', the place of the class name, and no "
                "other brace. Named sets are 'openai-7' and 'openai-80'."
            )
    return templates
