"""The one door to open_clip: imported late, and quiet."""

from __future__ import annotations

import contextlib
import contextvars
import functools
import importlib.metadata
import logging
import os
import sys
from collections.abc import Iterator
from types import ModuleType

from sklearn_clipensemble._runtime import unforked

_log = logging.getLogger("open_clip")
_quiet = contextvars.ContextVar("quiet", default=False)
_log.addFilter(lambda record: record.levelno >= logging.ERROR or not _quiet.get())


@contextlib.contextmanager
def importing(name: str) -> Iterator[None]:
    """Import what stands on torch and torchvision, with no fork in between."""
    try:
        with unforked():
            yield
    except (AttributeError, OSError, RuntimeError) as error:
        torch, torchvision = map(_version, ("torch", "torchvision"))
        raise ImportError(
            f"{name} cannot be imported: {error}. That happens where torch ({torch}) and torchvision "
            f"({torchvision}) are of different builds. Install both anew, from one place: "
            "pip install --force-reinstall torch torchvision."
        ) from error


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


@functools.cache
def open_clip() -> ModuleType:
    """Import open_clip; it takes seconds, so nothing imports it before it is needed."""
    with importing("open_clip"):
        import open_clip
    # Its ``logging.info`` would install a handler on the root logger, which is the application's: later
    # messages would be printed twice. So its modules get a ``logging`` that writes to a logger of their
    # own. To change the root logger for a while would be worse, since threads overlap.
    own = ModuleType("logging")
    own.__dict__.update(vars(logging))
    for name in ("debug", "info", "warning", "error", "exception", "critical", "log"):
        setattr(own, name, getattr(_log, name))
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] == "open_clip" and vars(module).get("logging") is logging:
            vars(module)["logging"] = own
    return open_clip


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Hold back what open_clip logs below errors, in this thread and while the block lasts."""
    token = _quiet.set(True)
    try:
        yield
    finally:
        _quiet.reset(token)


def offline() -> bool:
    """Whether the environment forbids the Hugging Face hub."""
    from huggingface_hub import constants

    now = os.environ.get("HF_HUB_OFFLINE", "").upper()
    return constants.HF_HUB_OFFLINE or now in ("1", "ON", "YES", "TRUE")
