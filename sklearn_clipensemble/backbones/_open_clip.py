"""The one door to open_clip: imported late, and quiet."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
from types import ModuleType


@functools.cache
def open_clip() -> ModuleType:
    """Import open_clip; it takes seconds, so nothing imports it before it is needed."""
    with quiet():
        import open_clip
    return open_clip


@contextlib.contextmanager
def quiet():
    """Keep open_clip from writing to, and from installing a handler on, the root logger.

    It logs through ``logging.info``, which configures the root logger where the
    application has not: every later message of the application would then be
    printed twice.
    """
    root = logging.getLogger()
    handler, level = logging.NullHandler(), root.level
    installed = list(root.handlers)
    root.addHandler(handler)
    if level < logging.ERROR:
        root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(level)
        root.handlers[:] = installed


def offline() -> bool:
    """Whether the environment forbids the Hugging Face hub."""
    from huggingface_hub import constants

    return constants.HF_HUB_OFFLINE or os.environ.get("HF_HUB_OFFLINE", "").upper() in {
        "1",
        "ON",
        "YES",
        "TRUE",
    }
