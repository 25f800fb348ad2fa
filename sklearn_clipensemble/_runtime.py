"""What a process holds: locks and forks, and the models, files and folders that it uses."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import sys
import threading
from collections.abc import Callable, Hashable, Iterable, Iterator
from typing import Any, Generic, TypeVar

from threadpoolctl import ThreadpoolController

with contextlib.suppress(ImportError):
    # It comes with torch and has handlers of forks too. Were it imported while a fork waits for
    # that import, only those for afterwards would be called.
    import filelock  # noqa: F401

# A forked child has the one thread that forked. Whatever lock another thread held then stays
# locked in it for ever. Python's locks can be made anew there; those inside of torch (oneDNN's
# cache of primitives), SQLite and Python's imports cannot. So a fork waits until no thread is
# inside of those, as long as a batch or the loading of a model takes.
_gate = threading.Condition()
_inside: set[int] = set()  # threads that are in the midst of such work
_forks = 0  # threads that wait to fork, for which new work waits in turn
_before: list[Callable[[], None]] = []
_locks: dict[Hashable, threading.RLock] = {}


_Value = TypeVar("_Value")


class cached_property(Generic[_Value]):
    """A property that is worked out once, with no lock.

    That of functools, in Python 3.11, has one for all objects: a child forked meanwhile would wait for it for ever.
    """

    def __init__(self, function: Callable[[Any], _Value]):
        self._function, self.__doc__ = function, function.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, instance: Any, owner: type | None = None) -> _Value:
        if instance is None:
            return self  # type: ignore[return-value]
        value = vars(instance)[self._name] = self._function(instance)
        return value


class unforked:
    """Let no other thread fork until the block is left: for short work in torch, SQLite or imports.

    In the block, do not wait for long, nor for a :func:`lock` not held already: forks would wait too.
    A class, since it is entered a hundred times for an image.
    """

    def __enter__(self) -> None:
        me = threading.get_ident()
        self._outermost = me not in _inside
        if self._outermost:
            # No lock, which every image would take a score of times: who enters is inside before it looks
            # for forks, and who forks says so before it looks inside, so that one of them sees the other.
            _inside.add(me)
            if _forks:
                with _gate:
                    _inside.discard(me)
                    _gate.notify_all()
                    _gate.wait_for(lambda: not _forks)
                    _inside.add(me)

    def __exit__(self, *exception: object) -> None:
        if self._outermost:
            _inside.discard(threading.get_ident())
            if _forks:
                with _gate:
                    _gate.notify_all()

    def __call__(self, function: Callable) -> Callable:
        """Decorate a function: all of it is such a block."""

        @functools.wraps(function)
        def wrapped(*args, **kwargs):
            with unforked():
                return function(*args, **kwargs)

        return wrapped


def before_fork(function: Callable[[], None]) -> Callable[[], None]:
    """Have a function called before each fork, when no other thread is in an ``unforked`` block."""
    _before.append(function)
    return function


def lock(key: Hashable) -> threading.RLock:
    """Return the lock of this name, which may be held for long; a forked child has a free one."""
    return _locks.setdefault(key, threading.RLock())


@contextlib.contextmanager
def one_blas_thread() -> Iterator[None]:
    """Let NumPy and SciPy multiply in one thread.

    The others of OpenBLAS, of which either has its own, spin on after a product, in each other's way and in
    that of torch. That holds for the whole process, so one caller at a time sees to it: two would each take
    the other's limit for what there was before, and leave it behind.
    """
    turn = lock("threads of BLAS")
    if not turn.acquire(blocking=False):
        yield
        return
    try:
        with _libraries().limit(limits=1, user_api="blas"):
            yield
    finally:
        turn.release()


@functools.lru_cache
def _libraries() -> ThreadpoolController:
    return ThreadpoolController()  # which looks at every library of the process


class Runtime:
    """What this process has loaded, opened and seen. There is one: ``runtime``."""

    def __init__(self):
        self.stores: dict[Hashable, Any] = {}  # of vectors, by folder; None is the one in memory
        self._models: dict[Any, tuple[str | None, Any]] = {}  # used last comes last
        self._in_use: dict[object, tuple] = {}  # by who uses them
        self._seen: dict[str, set] = {}
        self.begin()

    def begin(self) -> None:
        """Begin in a forked child: nobody waits or works here but the thread that forked."""
        # A generator that is dropped may end, and so leave ``using``, in the midst of anything.
        self._lock = threading.RLock()
        self._in_use.clear()

    def note(self, backbone: Any) -> None:
        """Remember what an id stands for in this process."""
        if backbone in self._seen.get(backbone.id, ()):
            return  # as for all images but the first
        with unforked(), self._lock:
            self._seen.setdefault(backbone.id, set()).add(backbone)

    def seen(self, id: str) -> list[Any]:
        """Return the backbones of an id that this process knows."""
        with unforked(), self._lock:
            return list(self._seen.get(id, set()) | {b for b in list(self._models) if b.id == id})

    def model(self, backbone: Any, fingerprint: str) -> Any:
        """Return a loaded model, or None where there is none with this fingerprint."""
        with unforked(), self._lock:
            then, model = self._models.pop(backbone, (None, None))
            if then != fingerprint:
                return None
            self._models[backbone] = then, model
            return model

    def keep(self, backbone: Any, fingerprint: str, model: Any) -> None:
        """Keep a loaded model; one that nobody uses may have to go."""
        most = _most_models()
        with unforked(), self._lock:
            self._models.pop(backbone, None)
            self._models[backbone] = fingerprint, model
            self._make_room(most, spare=backbone)

    @contextlib.contextmanager
    def using(self, backbones: Iterable[Any]) -> Iterator[None]:
        """Let the models of some backbones stay until the block is left."""
        user, most = object(), _most_models()
        with unforked(), self._lock:
            self._in_use[user] = tuple(backbones)
        try:
            yield
        finally:
            with unforked(), self._lock:
                self._in_use.pop(user, None)  # which is not there in a child forked since
                self._make_room(most)

    def _make_room(self, most, spare=None):
        if len(self._models) <= most:
            return
        kept = {b for backbones in list(self._in_use.values()) for b in backbones} | {spare}
        idle = [b for b in list(self._models) if b not in kept]
        for backbone in idle[: len(self._models) - most]:
            self._models.pop(backbone, None)

    def clear(self) -> None:
        """Forget everything."""
        with unforked(), self._lock:
            stores = list(self.stores.values())
            self.stores.clear()
            self._models.clear()
            self._seen.clear()
        for store in stores:
            store.close()


def _most_models() -> int:
    """Return how many models a process keeps loaded: ``CLIPENSEMBLE_MAX_MODELS``, or 16."""
    given = os.environ.get("CLIPENSEMBLE_MAX_MODELS", "16")
    if not given.isdecimal() or int(given) < 1:
        raise ValueError(
            f"The environment variable CLIPENSEMBLE_MAX_MODELS is {given!r}; expected how many models a "
            "process keeps loaded, a whole number from 1."
        )
    return int(given)


runtime = Runtime()


def return_memory() -> None:
    """Give the system the memory that was freed: glibc keeps what lies between other numbers.

    After a model in fp32 was replaced by its half as large copy, that is the model's whole size.
    """
    with contextlib.suppress(AttributeError, OSError, TypeError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)


def clear() -> None:
    """Forget all that this process keeps: loaded models, embeddings in memory, seen folders.

    Files of a cache are closed and stay on disk. Fitted estimators load again what they need. What a
    folder, file or model in memory is called has to be said again for tables that name it, with
    ``ZeroShotLogits(backbones=[...])``.

    See Also
    --------
    CLIPEmbedder : Loads models and keeps embeddings.

    Examples
    --------
    >>> import sklearn_clipensemble
    >>> sklearn_clipensemble.clear()
    """
    runtime.clear()
    return_memory()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()


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
    runtime.begin()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_prepare, after_in_parent=_go_on, after_in_child=_begin)
