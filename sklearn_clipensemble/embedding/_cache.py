"""Vectors that were computed once: a bounded store in memory, or a file that processes share."""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
import sqlite3
import threading
import time
import warnings
import weakref
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Protocol

import numpy as np

from sklearn_clipensemble._runtime import before_fork, runtime, unforked

#: Bytes that the store in memory may hold.
_MEMORY_LIMIT = 512 * 2**20
_FILE_NAME = "clip-embeddings-1.sqlite"
_CHECKSUM = 8
#: Seconds for which a process may keep others from computing what it has begun to compute.
_LEASE = 30.0


def vector_key(content: bytes, computation: str) -> bytes:
    """Return the key of a vector: what was embedded, and everything that changes how."""
    return hashlib.blake2b(content + computation.encode(), digest_size=20).digest()


class Store(Protocol):
    """Where vectors are kept. A store may forget, and never returns what was not put in."""

    def get(self, keys: Iterable[bytes]) -> dict[bytes, np.ndarray]:
        """Return the vectors that are known."""

    def claim(self, keys: Iterable[bytes]) -> list[bytes]:
        """Return what the caller is to compute: not known, and not being computed by others."""

    def put(self, vectors: Mapping[bytes, np.ndarray]) -> None:
        """Keep vectors."""

    def close(self) -> None:
        """Free what is held of this process."""


class NoStore:
    """Keeps nothing."""

    def get(self, keys):
        """Return no vector."""
        return {}

    def claim(self, keys):
        """Return all keys."""
        return list(keys)

    def put(self, vectors):
        """Forget at once."""

    def close(self):
        """Do nothing."""


class MemoryStore:
    """Keeps the vectors used last, up to a limit in bytes."""

    def __init__(self, limit: int = _MEMORY_LIMIT):
        self._limit, self._size = limit, 0
        self._vectors: OrderedDict[bytes, np.ndarray] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, keys):
        """Return the vectors that are known."""
        with unforked(), self._lock:
            found = {key: self._vectors[key] for key in keys if key in self._vectors}
            for key in found:
                self._vectors.move_to_end(key)
            return found

    def claim(self, keys):
        """Return the keys that are not known."""
        return [key for key in keys if key not in self._vectors]

    def put(self, vectors):
        """Keep vectors; those not used for longest make room."""
        with unforked(), self._lock:
            for key, vector in vectors.items():
                if key not in self._vectors:
                    # A copy: a row of a batch would keep the whole batch alive.
                    self._vectors[key] = vector.copy()
                    self._size += vector.nbytes
            while self._size > self._limit:
                self._size -= self._vectors.popitem(last=False)[1].nbytes

    def close(self):
        """Forget everything."""
        with unforked(), self._lock:
            self._vectors.clear()
            self._size = 0


class FileStore:
    """Keeps vectors in an SQLite file that several processes may use at once.

    SQLite's write-ahead log makes a batch visible whole or not at all, also when the process is killed.
    A row that does not match its checksum counts as missing. A store that cannot be used (a foreign
    file, no right to write, a full disk) costs a warning and nothing else.

    A process claims the vectors that it begins to compute, so that others wait for them. A claim ends
    with its vector, with the process or after half a minute.
    """

    def __init__(self, folder: str | os.PathLike):
        self._connection, self._owner = None, None
        self.path = Path(folder) / _FILE_NAME
        self._lock = threading.RLock()
        self._complained = False

    def _connect(self):
        if self._connection is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            connection = sqlite3.connect(
                self.path, timeout=60, check_same_thread=False, isolation_level=None
            )
            try:
                _use_log(connection)
                connection.execute("PRAGMA synchronous=NORMAL")
                for table in (
                    "vectors (key BLOB PRIMARY KEY, value BLOB)",
                    "claims (key BLOB PRIMARY KEY, owner TEXT, until REAL)",
                ):
                    connection.execute(f"CREATE TABLE IF NOT EXISTS {table} WITHOUT ROWID")
            except BaseException:
                connection.close()
                raise
            self._connection, self._owner = connection, _this_process()
            _connected.add(self)
        return self._connection

    def _select(self, query, keys):
        """Return the rows of a query whose keys are among some."""
        keys, rows = list(keys), []
        for start in range(0, len(keys), 500):
            some = keys[start : start + 500]
            marks = ",".join("?" * len(some))
            rows += self._connect().execute(f"{query} WHERE key IN ({marks})", some)
        return rows

    def get(self, keys):
        """Return the vectors that are known and whole."""
        try:
            with unforked(), self._lock:
                rows = self._select("SELECT key, value FROM vectors", keys)
        except (sqlite3.Error, OSError) as error:
            self._warn(error)
            return {}
        return {
            key: np.frombuffer(value, dtype="<f4", offset=_CHECKSUM)
            for key, value in rows
            if isinstance(value, bytes) and value[:_CHECKSUM] == _checksum(key, value[_CHECKSUM:])
        }

    def claim(self, keys):
        """Return the keys that are not known and that no other living process has claimed."""
        keys = list(keys)

        def claim(connection):
            taken = set(self.get(keys))
            for key, owner, until in self._select("SELECT key, owner, until FROM claims", keys):
                if owner != self._owner and until > time.time() and _may_live(owner):
                    taken.add(key)
            mine = [key for key in keys if key not in taken]
            connection.executemany(
                "INSERT OR REPLACE INTO claims VALUES (?, ?, ?)",
                [(key, self._owner, time.time() + _LEASE) for key in mine],
            )
            return mine

        mine = self._transaction(claim)
        return keys if mine is None else mine

    def put(self, vectors):
        """Keep vectors, all of them or, if the file cannot be written, none."""
        rows = []
        for key, vector in vectors.items():
            value = vector.astype("<f4").tobytes()
            rows.append((key, _checksum(key, value) + value))

        def put(connection):
            connection.executemany("INSERT OR REPLACE INTO vectors VALUES (?, ?)", rows)
            connection.executemany("DELETE FROM claims WHERE key = ?", [row[:1] for row in rows])

        self._transaction(put)

    def _transaction(self, write):
        """Call a function with the connection, all of its writing or none; None if the file fails."""
        try:
            with unforked(), self._lock:
                connection = self._connect()
                connection.execute("BEGIN IMMEDIATE")
                try:
                    result = write(connection)
                    connection.execute("COMMIT")
                    return result
                except BaseException:
                    if connection.in_transaction:
                        connection.execute("ROLLBACK")
                    raise
        except (sqlite3.Error, OSError) as error:
            self._warn(error)
            return None

    def close(self):
        """Close the file, until it is used again."""
        with unforked(), self._lock:
            self._close()

    def __del__(self):
        self._close()  # Python warns of connections that are left open, from 3.13 on

    def _close(self):
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(sqlite3.Error):
                connection.close()

    def _warn(self, error):
        self.close()
        if self._complained:
            return
        self._complained = True
        warnings.warn(
            f"The cache {str(self.path)!r} cannot be used ({error}); embeddings are computed again. If the "
            "file is damaged or foreign, move it away.",
            UserWarning,
            stacklevel=2,
        )


def _use_log(connection):
    """Switch a file to the write-ahead log: the one step for which SQLite does not wait for others."""
    patience = time.monotonic() + _LEASE
    while True:
        try:
            return connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > patience:
                raise
            time.sleep(0.01)


def _checksum(key: bytes, value: bytes) -> bytes:
    return hashlib.blake2b(key + value, digest_size=_CHECKSUM).digest()


def _this_process() -> str:
    return f"{socket.gethostname()}/{os.getpid()}"


def _may_live(process: str) -> bool:
    """Return False only if a process is known to have ended: one of this machine, where it can be asked."""
    host, _, pid = process.rpartition("/")
    if host != socket.gethostname() or os.name != "posix":
        return True
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass
    return True


_connected: weakref.WeakSet[FileStore] = weakref.WeakSet()


@before_fork
def _disconnect():
    """Close all files: SQLite forbids to carry a connection across a fork, even to close it there."""
    for store in _connected:
        store._close()


def open_store(cache: str | os.PathLike | bool | None) -> Store:
    """Return the store that a ``cache`` parameter names, shared by all estimators of this process."""
    if cache is None:
        return runtime.stores.setdefault(None, MemoryStore())
    if isinstance(cache, bool):
        return NoStore()
    if not os.fspath(cache) or "://" in os.fspath(cache):
        raise ValueError(
            f"cache={os.fspath(cache)!r} is no folder of this machine. Pass the path of one, None to "
            "keep embeddings in memory, or False to keep none."
        )
    path = Path(cache).expanduser().absolute()
    return runtime.stores.setdefault(path, FileStore(path))
