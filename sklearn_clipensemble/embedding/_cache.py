"""Vectors that were computed once: a bounded store in memory, or a file that processes share."""

from __future__ import annotations

import hashlib
import os
import sqlite3
import threading
import warnings
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Protocol

import numpy as np

#: Bytes that the store in memory may hold.
_MEMORY_LIMIT = 512 * 2**20
_FILE_NAME = "clip-embeddings-1.sqlite"
_CHECKSUM = 8


def vector_key(content: bytes, computation: str) -> bytes:
    """Return the key of a vector: what was embedded, and everything that changes how."""
    return hashlib.blake2b(content + computation.encode(), digest_size=20).digest()


class Store(Protocol):
    """Where vectors are kept. A store may forget, and never returns what was not put in."""

    def get(self, keys: Iterable[bytes]) -> dict[bytes, np.ndarray]:
        """Return the vectors that are known."""

    def put(self, vectors: Mapping[bytes, np.ndarray]) -> None:
        """Keep vectors."""


class NoStore:
    """Keeps nothing."""

    def get(self, keys):
        """Return no vector."""
        return {}

    def put(self, vectors):
        """Forget at once."""


class MemoryStore:
    """Keeps the vectors used last, up to a limit in bytes."""

    def __init__(self, limit: int = _MEMORY_LIMIT):
        self._limit, self._size = limit, 0
        self._vectors: OrderedDict[bytes, np.ndarray] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, keys):
        """Return the vectors that are known."""
        with self._lock:
            found = {key: self._vectors[key] for key in keys if key in self._vectors}
            for key in found:
                self._vectors.move_to_end(key)
            return found

    def put(self, vectors):
        """Keep vectors; those not used for longest make room."""
        with self._lock:
            for key, vector in vectors.items():
                if key not in self._vectors:
                    # A copy: a row of a batch would keep the whole batch alive.
                    self._vectors[key] = vector.copy()
                    self._size += vector.nbytes
            while self._size > self._limit:
                self._size -= self._vectors.popitem(last=False)[1].nbytes

    def clear(self):
        """Forget everything."""
        with self._lock:
            self._vectors.clear()
            self._size = 0


class FileStore:
    """Keeps vectors in an SQLite file that several processes may use at once.

    SQLite's write-ahead log makes a batch visible whole or not at all, also
    when the process is killed while it writes. Every row carries a checksum of
    its key and content; a row that does not match counts as missing. A store
    that cannot be used (a foreign file, no right to write, a full disk) costs a
    warning and nothing else.
    """

    def __init__(self, folder: str | os.PathLike):
        self.path = Path(folder) / _FILE_NAME
        self._lock = threading.Lock()
        self._connection, self._owner = None, None

    def _connect(self):
        # A connection must not cross a fork.
        if self._connection is None or self._owner != os.getpid():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            connection = sqlite3.connect(
                self.path, timeout=60, check_same_thread=False, isolation_level=None
            )
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=NORMAL")
            connection.execute(
                "CREATE TABLE IF NOT EXISTS vectors (key BLOB PRIMARY KEY, value BLOB) WITHOUT ROWID"
            )
            self._connection, self._owner = connection, os.getpid()
        return self._connection

    def get(self, keys):
        """Return the vectors that are known and whole."""
        keys, rows = list(keys), []
        try:
            with self._lock:
                for start in range(0, len(keys), 500):
                    some = keys[start : start + 500]
                    marks = ",".join("?" * len(some))
                    rows += self._connect().execute(
                        f"SELECT key, value FROM vectors WHERE key IN ({marks})", some
                    )
        except (sqlite3.Error, OSError) as error:
            self._warn(error)
        return {
            key: np.frombuffer(value, dtype="<f4", offset=_CHECKSUM)
            for key, value in rows
            if isinstance(value, bytes) and value[:_CHECKSUM] == _checksum(key, value[_CHECKSUM:])
        }

    def put(self, vectors):
        """Keep vectors, all of them or, if the file cannot be written, none."""
        rows = []
        for key, vector in vectors.items():
            value = vector.astype("<f4").tobytes()
            rows.append((key, _checksum(key, value) + value))
        try:
            with self._lock:
                connection = self._connect()
                connection.execute("BEGIN IMMEDIATE")
                try:
                    connection.executemany("INSERT OR REPLACE INTO vectors VALUES (?, ?)", rows)
                    connection.execute("COMMIT")
                except BaseException:
                    connection.execute("ROLLBACK")
                    raise
        except (sqlite3.Error, OSError) as error:
            self._warn(error)

    def _warn(self, error):
        self._connection = None
        warnings.warn(
            f"The cache {str(self.path)!r} cannot be used ({error}); embeddings are computed again. If the "
            "file is damaged or foreign, move it away.",
            UserWarning,
            stacklevel=2,
        )


def _checksum(key: bytes, value: bytes) -> bytes:
    return hashlib.blake2b(key + value, digest_size=_CHECKSUM).digest()


_memory = MemoryStore()
_files: dict[Path, FileStore] = {}


def open_store(cache: str | os.PathLike | bool | None) -> Store:
    """Return the store that a ``cache`` parameter names.

    Parameters
    ----------
    cache : None, False or path
        None is the store in memory that all estimators of this process share;
        False keeps nothing; a path is a folder on disk.
    """
    if cache is None:
        return _memory
    if cache is False:
        return NoStore()
    path = Path(cache).expanduser().absolute()
    return _files.setdefault(path, FileStore(path))


def clear_memory() -> None:
    """Forget the embeddings that this process keeps in memory."""
    _memory.clear()
