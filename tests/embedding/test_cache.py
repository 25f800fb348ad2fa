"""Where embeddings are kept: bounded, shared by processes, and never wrong."""

import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import textwrap
import threading
import time
import warnings
from contextlib import closing

import numpy as np
import pytest

from sklearn_clipensemble import clear
from sklearn_clipensemble.embedding._cache import (
    FileStore,
    MemoryStore,
    NoStore,
    open_store,
    vector_key,
)


def some(n, width=8, start=0):
    return {
        vector_key(b"%d" % i, "test"): np.full(width, i, np.float32)
        for i in range(start, start + n)
    }


def check(found, expected):
    assert found.keys() <= expected.keys()
    for key, vector in found.items():
        np.testing.assert_array_equal(vector, expected[key])


@pytest.mark.parametrize("kind", ["memory", "file"])
def test_gives_back_what_was_put_in(kind, tmp_path):
    store = MemoryStore() if kind == "memory" else FileStore(tmp_path)
    vectors = some(1200)
    assert store.get(vectors) == {}
    assert store.claim(vectors) == list(vectors)
    store.put(vectors)
    found = store.get([*vectors, b"unknown"])
    assert len(found) == 1200
    check(found, vectors)
    assert store.claim([*vectors, b"unknown"]) == [b"unknown"]
    assert next(iter(found.values())).dtype == np.float32


def test_no_store_forgets():
    store = NoStore()
    vectors = some(2)
    store.put(vectors)
    assert store.get(vectors) == {}
    assert store.claim(vectors) == list(vectors)


def test_memory_is_bounded_and_keeps_what_was_used_last():
    store = MemoryStore(limit=10 * 8 * 4)
    first, second = some(10), some(5, start=10)
    store.put(first)
    used = list(first)[:5]
    store.get(used)
    store.put(second)
    assert set(store.get([*first, *second])) == {*used, *second}


def test_memory_does_not_keep_whole_batches_alive():
    batch = np.zeros((1000, 8), np.float32)
    store = MemoryStore()
    store.put({b"one": batch[0]})
    assert store.get([b"one"])[b"one"].base is None


def test_open_store(tmp_path):
    assert open_store(None) is open_store(None)
    assert isinstance(open_store(False), NoStore)
    assert open_store(tmp_path) is open_store(str(tmp_path))
    open_store(None).put(some(1))
    clear()
    assert open_store(None).get(some(1)) == {}


@pytest.mark.parametrize("cache", ["", "s3://bucket/cache", "https://example.org/cache"])
def test_open_store_refuses_what_is_no_folder(cache):
    with pytest.raises(ValueError, match="is no folder of this machine"):
        open_store(cache)


def test_file_outlives_the_process_that_wrote_it(tmp_path):
    FileStore(tmp_path / "new" / "folder").put(some(10))
    check(found := FileStore(tmp_path / "new" / "folder").get(some(20)), some(20))
    assert len(found) == 10


def test_a_store_that_is_dropped_closes_its_file(tmp_path):
    store = FileStore(tmp_path)
    store.put(some(1))
    connection = store._connection
    del store
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        connection.execute("SELECT 1")


# Damage


def closed(tmp_path, n=300):
    """The file of a store that was used and left, all of it in one file."""
    store = FileStore(tmp_path)
    store.put(some(n, width=64))
    store._connection.close()
    assert os.listdir(tmp_path) == [store.path.name]
    return store.path


@pytest.mark.parametrize("cut", [0.02, 0.3, 0.6, 0.99])
def test_truncated_file_is_never_wrong(tmp_path, cut):
    path = closed(tmp_path)
    with open(path, "r+b") as file:
        file.truncate(int(path.stat().st_size * cut))
    store, expected = FileStore(tmp_path), some(300, width=64)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        check(found := store.get(expected), expected)
        assert set(store.claim(expected)) | set(found) == set(expected)
        store.put(expected)
        again = store.get(expected)
    check(again, expected)
    # A newer SQLite may go on with a file that has lost its very end.
    goes_on = cut == 0.99 and len(again) == 300
    assert goes_on or "cannot be used" in str(told[0].message)


def test_bytes_that_rot_are_never_wrong(tmp_path):
    path = closed(tmp_path)
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    expected, lost = some(300, width=64), 0
    for _ in range(30):
        rotten = bytearray(whole)
        for at in rng.integers(4096, len(whole), 20):
            rotten[at] ^= 1 << int(rng.integers(8))
        path.write_bytes(rotten)
        for leftover in tmp_path.glob(f"{path.name}-*"):
            leftover.unlink()
        store = FileStore(tmp_path)
        store._complained = True  # one warning for all of them is enough, and tested above
        found = store.get(expected)
        check(found, expected)
        lost += len(expected) - len(found)
    assert lost > 30  # the damage was real


def test_row_with_the_content_of_another_counts_as_missing(tmp_path):
    store = FileStore(tmp_path)
    store.put(some(2))
    one, two = some(2)
    with closing(sqlite3.connect(store.path)) as other, other:
        other.execute(
            "UPDATE vectors SET value = (SELECT value FROM vectors WHERE key = ?) WHERE key = ?",
            (one, two),
        )
    assert list(store.get([one, two])) == [one]
    assert store.claim([one, two]) == [two]
    store.put(some(2))
    assert len(store.get([one, two])) == 2


@pytest.mark.parametrize(
    "content", [b"Dear reader, I am no database.", b"", b"SQLite format 3\x00" + bytes(2000)]
)
def test_foreign_file(tmp_path, content):
    path = FileStore(tmp_path).path
    path.write_bytes(content)
    store = FileStore(tmp_path)
    if not content:  # an empty file is a fresh start
        store.put(some(3))
        assert len(store.get(some(3))) == 3
        return
    with pytest.warns(UserWarning, match="move it away"):
        assert store.get(some(3)) == {}
    assert store.claim(some(3)) == list(some(3))
    store.put(some(3))
    assert path.read_bytes() == content  # whatever it is, it is not ours to change


def test_database_of_someone_else(tmp_path):
    with closing(sqlite3.connect(FileStore(tmp_path).path)) as other, other:
        other.execute("CREATE TABLE vectors (something TEXT)")
    store = FileStore(tmp_path)
    with pytest.warns(UserWarning, match="cannot be used"):
        store.put(some(3))
    assert store.get(some(3)) == {}


def test_folder_that_is_a_file(tmp_path):
    path = tmp_path / "file"
    path.write_text("x")
    store = FileStore(path)
    with pytest.warns(UserWarning, match="cannot be used"):
        store.put(some(3))
    assert store.get(some(3)) == {}


def test_complains_once(tmp_path):
    FileStore(tmp_path).path.write_bytes(b"no database" * 100)
    store = FileStore(tmp_path)
    with pytest.warns(UserWarning, match="cannot be used"):
        store.put(some(1))
    store.put(some(1))  # a second warning would be an error here
    store.get(some(1))


def test_full_disk(tmp_path):
    """All or nothing of a batch, and what was there before stays."""
    store = FileStore(tmp_path)
    store.put(some(10))
    pages = store._connection.execute("PRAGMA page_count").fetchone()[0]
    store._connection.execute(f"PRAGMA max_page_count = {pages + 2}")
    with pytest.warns(UserWarning, match="full"):
        store.put(some(1000, width=512, start=10))
    found = store.get(some(1010))
    check(found, some(10))
    assert len(found) == 10


SCRIPT_FULL = """
    import resource, signal, sys, warnings
    import numpy as np
    from sklearn_clipensemble.embedding._cache import FileStore, vector_key
    warnings.simplefilter("ignore")
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
    store = FileStore(sys.argv[1])
    for i in range(40):
        store.put({vector_key(b"%d" % (100 * i + j), "test"): np.full(64, 100 * i + j, np.float32)
                   for j in range(100)})
    print(len(store.get(vector_key(b"%d" % i, "test") for i in range(4000))))
"""


@pytest.mark.skipif(os.name != "posix", reason="limits of POSIX")
def test_no_room_for_the_file(tmp_path):
    """The operating system refuses to let the file grow; the process goes on, the file stays whole."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(SCRIPT_FULL), str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert 100 <= int(done.stdout) < 4000
    expected = some(4000, width=64)
    found = FileStore(tmp_path).get(expected)
    check(found, expected)
    assert len(found) % 100 == 0
    with closing(sqlite3.connect(FileStore(tmp_path).path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


# Several at once


SCRIPT_MANY = """
    import os, sys
    import numpy as np
    from sklearn_clipensemble.embedding._cache import FileStore, vector_key
    children = []
    for child in range(4):
        pid = os.fork()
        if pid:
            children.append(pid)
            continue
        store, computed = FileStore(sys.argv[1]), 0
        keys = {vector_key(b"%d" % i, "test"): i for i in range(400)}
        order = list(keys)
        for start in range(0, 400, 20):
            missing = order[start:start + 20]
            while missing:
                mine = store.claim(missing)
                computed += len(mine)
                store.put({k: np.full(64, keys[k], np.float32) for k in mine})
                found = store.get(missing)
                assert all((v == keys[k]).all() for k, v in found.items())
                missing = [k for k in missing if k not in found]
        os.write(1, b"%d\\n" % computed)
        os._exit(0)
    sys.exit(sum(os.waitpid(pid, 0)[1] for pid in children))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_several_processes_compute_each_vector_once(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(SCRIPT_MANY), str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
    )
    computed = [int(line) for line in done.stdout.split()]
    assert len(computed) == 4
    assert sum(computed) == 400
    assert len(FileStore(tmp_path).get(some(400))) == 400


SCRIPT_NEW = """
    import os, sys, warnings
    from sklearn_clipensemble.embedding._cache import FileStore
    failed = 0
    for folder in range(40):
        gate, starter = os.pipe()
        children = []
        for _ in range(4):
            children.append(os.fork())
            if not children[-1]:
                warnings.simplefilter("error")
                os.close(starter)
                os.read(gate, 1)  # until the gate is closed
                FileStore(f"{sys.argv[1]}/{folder}").claim([b"key"])
                os._exit(0)
        os.close(gate)
        os.close(starter)
        failed += sum(os.waitpid(pid, 0)[1] != 0 for pid in children)
    sys.exit(failed)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_several_processes_make_the_file_at_once(tmp_path):
    script = textwrap.dedent(SCRIPT_NEW)
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_threads_of_one_process(tmp_path):
    store, expected = FileStore(tmp_path), some(200)

    def work(part):
        for key in list(expected)[part::4]:
            store.put({key: expected[key]})
            check(store.get([key]), expected)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(store.get(expected)) == 200


def claimed_by(store, owner, until):
    (key,) = some(1)
    store.get([key])
    store._connection.execute("INSERT OR REPLACE INTO claims VALUES (?, ?, ?)", (key, owner, until))
    return store.claim([key])


def test_claims_end(tmp_path):
    """With the vector, with the process, or in time: nobody waits for ever."""
    store = FileStore(tmp_path)
    (key,) = some(1)
    soon, host = time.time() + 20, socket.gethostname()
    assert claimed_by(store, f"{host}/{os.getppid()}", soon) == []
    assert claimed_by(store, f"{host}/{os.getppid()}", time.time() - 1) == [key]
    assert claimed_by(store, f"{host}/{os.getpid()}", soon) == [key]
    assert claimed_by(store, "another-host/1", soon) == []
    if os.name == "posix":
        ended = subprocess.Popen([sys.executable, "-c", ""])
        ended.wait()
        assert claimed_by(store, f"{host}/{ended.pid}", soon) == [key]
    store.put(some(1))
    assert store._connection.execute("SELECT count(*) FROM claims").fetchone() == (0,)
    assert store.claim([key]) == []


def test_folder_can_be_copied_and_moved(tmp_path):
    closed(tmp_path / "one")
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    check(found := FileStore(tmp_path / "two").get(some(300)), some(300, width=64))
    assert len(found) == 300
