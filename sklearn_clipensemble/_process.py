"""What the threads of a process share: locks by name, and work that no fork may cut through."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Hashable, Iterator

with contextlib.suppress(ImportError):
    # It comes with torch and has handlers of forks too. Were it imported while a fork waits for
    # that import, only those for afterwards would be called.
    import filelock  # noqa: F401

#: Folders of backbones that this process has used, by id: ids do not say where they lie.
seen_folders: dict[str, set[str]] = {}

# A forked child has the one thread that forked. Whatever lock another thread held then stays
# locked in it for ever. Python's locks can be made anew there; those inside of torch (oneDNN's
# cache of primitives), SQLite and Python's imports cannot. So a fork waits until no thread is
# inside of those, as long as a batch or the loading of a model takes.
_gate = threading.Condition()
_inside: set[int] = set()  # threads that are in the midst of such work
_forks = 0  # threads that wait to fork, for which new work waits in turn
_before: list[Callable[[], None]] = []
_locks: dict[Hashable, threading.RLock] = {}


@contextlib.contextmanager
def unforked() -> Iterator[None]:
    """Let no other thread fork until the block is left: for short work in torch, SQLite or imports.

    Nothing that waits for long, or for a lock of :func:`lock` that is not held
    already, belongs into the block: forks would wait with it.
    """
    me = threading.get_ident()
    if me in _inside:
        yield
        return
    with _gate:
        _gate.wait_for(lambda: not _forks)
        _inside.add(me)
    try:
        yield
    finally:
        with _gate:
            _inside.discard(me)
            _gate.notify_all()


def before_fork(function: Callable[[], None]) -> Callable[[], None]:
    """Have a function called before each fork, when no other thread is in an ``unforked`` block."""
    _before.append(function)
    return function


def lock(key: Hashable) -> threading.RLock:
    """Return the lock of this name, which may be held for long; a forked child has a free one."""
    return _locks.setdefault(key, threading.RLock())


def _prepare():
    global _forks
    _gate.acquire()  # until the fork is over
    _forks += 1
    _gate.wait_for(lambda: _inside <= {threading.get_ident()})
    for function in _before:
        function()


def _go_on():
    global _forks
    _forks -= 1
    _gate.notify_all()
    _gate.release()


def _begin():
    global _gate, _forks
    _gate, _forks = threading.Condition(), 0
    _inside.intersection_update([threading.get_ident()])
    _locks.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_prepare, after_in_parent=_go_on, after_in_child=_begin)
