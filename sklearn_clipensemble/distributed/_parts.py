"""The folder that a run writes: parquet files, each whole or not there."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
import json
import os
import uuid
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from sklearn_clipensemble.distributed._batches import is_path
from sklearn_clipensemble.images import read
from sklearn_clipensemble.table._layout import packed_backbone

#: Beside the embeddings and the columns of the user: which row it is (a digest), the size of its file
#: (null where there is none), and why its image could not be read (null where it could).
KEY, SIZE, ERROR = "row_key", "n_bytes", "error"
#: How keys are held: 120 bits of a digest, as base64.
KEY_TYPE = "S20"
#: How often the rows of a part may have died with their worker before they are given up.
_TRIES = 2
#: How files begin that are of no use when no run is on.
_HIDDEN = (".begun-", ".new-")
_UNREADABLE = "_unreadable.csv"  # readers of parquet skip what begins with "_" or "."
_SETTINGS = b"sklearn_clipensemble"
#: Files that are read at once.
THREADS = 16


@dataclass(frozen=True)
class Known:
    """The rows that are in a folder, sorted by key."""

    keys: np.ndarray
    sizes: np.ndarray  # -1 where the image is no file
    n_unreadable: int

    def __len__(self):
        return len(self.keys)

    def find(self, keys: np.ndarray) -> np.ndarray:
        """Return the positions of some keys, -1 where they are not there."""
        if not len(self):
            return np.full(len(keys), -1)
        at = np.searchsorted(self.keys, keys).clip(max=len(self) - 1)
        return np.where(self.keys[at] == keys, at, -1)

    def n_new(self, before: Known) -> int:
        """Return how many rows were not there before, or have another size now."""
        if not len(before):
            return len(self)
        at = before.find(self.keys)
        return int(((at < 0) | (self.sizes != before.sizes[at])).sum())


class Parts:
    """The parts of one output folder, on any filesystem of fsspec.

    A part is written under a hidden name and then renamed, so that whoever lists the folder sees whole
    parts only. Its name says in which run it was written and which rows it holds: a batch that is
    embedded twice is one file.
    """

    def __init__(self, folder: str | os.PathLike):
        from fsspec.core import url_to_fs

        self.url = os.fspath(folder)
        self.filesystem, self.path = url_to_fs(self.url)

    def name(self, run: int, keys: np.ndarray) -> str:
        """Return the name of the part of some rows."""
        digest = hashlib.blake2b(np.sort(keys).tobytes(), digest_size=12).hexdigest()
        return f"part-{run:05}-{digest}.parquet"

    def names(self) -> list[str]:
        """Return the names of all parts, those written last at the end."""
        names = self._files()
        return sorted(n for n in names if n.startswith("part-") and n.endswith(".parquet"))

    def _files(self) -> list[str]:
        try:
            paths = self.filesystem.ls(self.path, detail=False, refresh=True)
        except FileNotFoundError:
            return []
        return [os.path.basename(path) for path in paths]

    def last_run(self) -> int:
        """Return the number of the run that wrote last, 0 where none has."""
        return max((int(name.split("-")[1]) for name in self.names()), default=0)

    def has(self, name: str) -> bool:
        """Return whether a part is there."""
        return self.filesystem.exists(f"{self.path}/{name}")

    def try_once_more(self, name: str) -> bool:
        """Note that a part is begun; False where it was begun so often that its images seem to kill.

        The notes are gone when the part is written, or the folder settled.
        """
        for mark in self._marks(name):
            if not self.has(mark):
                self.filesystem.makedirs(self.path, exist_ok=True)
                self.filesystem.pipe_file(f"{self.path}/{mark}", b"")
                return True
        return False

    def _marks(self, name) -> list[str]:
        return [f"{_HIDDEN[0]}{n}-{name}" for n in range(_TRIES)]

    def read(self, name: str, columns: list[str] | None = None) -> Any:
        """Return some columns of a part, a pyarrow table."""
        import pyarrow.parquet as pq

        with self.filesystem.open(f"{self.path}/{name}", "rb") as file:
            return pq.read_table(file, columns=columns)

    def _schema(self, name):
        import pyarrow.parquet as pq

        with self.filesystem.open(f"{self.path}/{name}", "rb") as file:
            return pq.read_schema(file)

    def write(self, name: str, table: Any) -> None:
        """Write a pyarrow table as a part, whole or not at all."""
        import pyarrow.parquet as pq

        vectors = [c for c in table.column_names if packed_backbone(c)]
        buffer = io.BytesIO()
        # Embeddings repeat nothing, so that dictionaries cost and do not save; of their bytes, the
        # exponents' are alike, and shrink where they stand together.
        pq.write_table(
            table,
            buffer,
            compression="zstd",
            use_dictionary=[c for c in table.column_names if c not in vectors],
            use_byte_stream_split=[f"{c}.list.element" for c in vectors],
        )
        self._put(name, buffer.getvalue())
        self._remove(filter(self.has, self._marks(name)))

    def _put(self, name, content: bytes):
        self.filesystem.makedirs(self.path, exist_ok=True)
        hidden = f"{_HIDDEN[1]}{uuid.uuid4().hex}-{name}"
        try:
            self.filesystem.pipe_file(f"{self.path}/{hidden}", content)
            self.filesystem.mv(f"{self.path}/{hidden}", f"{self.path}/{name}")
        except BaseException:
            with contextlib.suppress(Exception):
                self._remove([hidden])
            raise

    def _remove(self, names: Iterable[str]) -> None:
        for name in names:
            self.filesystem.rm_file(f"{self.path}/{name}")

    def settle(self) -> Known:
        """Return the rows that are there, once each; of those there twice, the one written last stays.

        A file that has changed since it was embedded has two rows by then, and so may what was written by
        a worker that was given up and went on.
        """
        self._remove(name for name in self._files() if name.startswith(_HIDDEN))
        names = self.names()
        with ThreadPoolExecutor(THREADS) as pool:
            columns = list(pool.map(self._bookkeeping, names))
        lengths = [len(keys) for keys, _, _ in columns]
        nothing = (np.empty(0, KEY_TYPE), np.empty(0, np.int64), np.empty(0, bool))
        keys, sizes, unread = map(np.concatenate, zip(nothing, *columns, strict=True))
        order = np.argsort(keys, kind="stable")
        last = np.ones(len(keys), bool)
        last[:-1] = keys[order][:-1] != keys[order][1:]
        order = order[last]
        stays = np.zeros(len(keys), bool)
        stays[order] = True
        unreadable = []
        rows = np.split(np.arange(len(keys)), np.cumsum(lengths)[:-1]) if names else []
        for name, mine in zip(names, rows, strict=True):
            if not stays[mine].all():
                self._keep(name, stays[mine])
            if (stays & unread)[mine].any():
                unreadable.append(name)
        self._list_unreadable(unreadable)
        return Known(keys[order], sizes[order], int(unread[order].sum()))

    def _bookkeeping(self, name) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the keys of a part, the sizes of their files, and which could not be read."""
        table = self.read(name, [KEY, SIZE, ERROR])
        return (
            table.column(KEY).to_numpy().astype(KEY_TYPE),
            table.column(SIZE).fill_null(-1).to_numpy(),
            table.column(ERROR).is_valid().to_numpy(),
        )

    def _keep(self, name, rows):
        """Keep some rows of a part."""
        if rows.any():
            self.write(name, self.read(name).filter(rows))
        else:
            self._remove([name])

    def _list_unreadable(self, names: list[str]) -> None:
        """Write the list of unreadable images beside the parts, or take it away where there are none."""
        if not names:
            self._remove(filter(self.has, [_UNREADABLE]))
            return
        tables = []
        for name in names:
            stored = self._schema(name).names
            columns = [c for c in stored if c != SIZE and not packed_backbone(c)]
            tables.append(self.read(name, columns).to_pandas())
        table = pd.concat(tables)
        table = table[table[ERROR].notna()]
        if len(table.columns) > 2:  # the columns of the user tell which row it is
            table = table.drop(columns=KEY)
        self._put(_UNREADABLE, table.to_csv(index=False, lineterminator="\n").encode())

    def require(self, names: Iterable[str | None]) -> None:
        """Refuse to go on where parts that workers wrote are not to be seen from here."""
        unseen = {name for name in names if name is not None} - set(self.names())
        if unseen:
            raise RuntimeError(
                f"Workers wrote {len(unseen)} parts to {self.url!r}, such as {min(unseen)!r}, that are not in it "
                "as seen from here. All nodes must share the folder: take one on a network disk or an object "
                "store."
            )

    def check(self, settings: Mapping[str, Any]) -> None:
        """Refuse to go on with other backbones or settings than those of the parts that are there."""
        names = self.names()
        if not names:
            return
        written = (self._schema(names[0]).metadata or {}).get(_SETTINGS)
        then = json.loads(written) if written else {}
        differ = [key for key, value in settings.items() if then.get(key) != value]
        if differ:
            raise ValueError(
                f"The parts in {self.url!r} were written with other settings: {differ[0]} was "
                f"{then.get(differ[0])!r} and is {settings[differ[0]]!r}. Take another folder, or embed with what "
                "it was begun with."
            )


def as_part(
    rows: Any,
    vectors: Mapping[str, np.ndarray],
    keys: np.ndarray,
    sizes: list[int | None],
    errors: list[str | None],
    settings: Mapping[str, Any],
) -> Any:
    """Return rows, a pyarrow table of the user's columns, as a part: with what was made of them."""
    import pyarrow as pa

    taken = [name for name in rows.column_names if name in (KEY, SIZE, ERROR) or name in vectors]
    if taken:
        raise ValueError(
            f"The column {taken[0]!r} has a name that the output gives to one of its own. Rename it first."
        )
    arrays = dict(zip(rows.column_names, rows.columns, strict=True))
    arrays[KEY] = pa.array(keys.astype(str).tolist(), pa.string())
    arrays[SIZE] = pa.array(sizes, pa.int64())
    arrays[ERROR] = pa.array(errors, pa.string())
    for name, values in vectors.items():
        flat = pa.array(np.ascontiguousarray(values).ravel())
        arrays[name] = pa.FixedSizeListArray.from_arrays(flat, values.shape[1])
    return pa.table(arrays).replace_schema_metadata({_SETTINGS: json.dumps(settings)})


def row_keys(images: list, others: Any) -> np.ndarray:
    """Return what tells each row from all others: its image, by path or content, and its other columns."""
    columns = [others.column(name).to_pylist() for name in sorted(others.column_names)]
    rows = zip(*columns, strict=True) if columns else [()] * len(images)
    return np.array([_row_key(*row) for row in zip(images, rows, strict=True)], KEY_TYPE)


def _row_key(image, others: tuple) -> bytes:
    if is_path(image):
        content = b"path " + os.fsencode(image)
    else:
        try:
            content = b"image " + read(image)[0]
        except Exception:  # it will be told when the image is embedded
            content = b"unreadable " + repr(image).encode()
    digest = hashlib.blake2b(content + b"\0" + repr(others).encode(), digest_size=15).digest()
    return base64.urlsafe_b64encode(digest)
