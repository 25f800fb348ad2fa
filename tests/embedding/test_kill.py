"""A process that embeds is killed ten times, at any moment: the cache stays whole."""

import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
from contextlib import closing

import numpy as np
import pytest

from sklearn_clipensemble import CLIPEmbedder

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs fork and SIGKILL")

N, BATCH = 1200, 10
SCRIPT = """
    import os, sys, time
    import numpy as np
    from sklearn_clipensemble import CLIPEmbedder
    from sklearn_clipensemble.backbones import resolve
    from sklearn_clipensemble.backbones._model import load

    # The parent imports and loads, so that each of its ten children starts at once.
    n, batch, folder, result = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
    X = np.random.RandomState(0).randint(0, 256, (n, 8, 8), np.uint8)
    load(resolve("tiny/RN-1221")[0])
    embedder = CLIPEmbedder(["tiny/RN-1221"], precision="fp32", cache=folder, batch_size=batch).fit(X)
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            table = embedder.transform(X)
            np.save(result, table)
            os._exit(0)
        print(pid, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""


def rows(folder):
    """The number of vectors that any process would see now."""
    files = list(folder.glob("*.sqlite"))
    if not files:
        return 0
    connection = sqlite3.connect(files[0], timeout=60)
    try:
        return connection.execute("SELECT count(*) FROM vectors").fetchone()[0]
    except sqlite3.OperationalError:  # the table is not there yet
        return 0
    finally:
        connection.close()


def test_kill_ten_times(tmp_path):
    cache, result = tmp_path / "cache", tmp_path / "result.npy"
    arguments = [str(N), str(BATCH), str(cache), str(result)]
    rng = np.random.default_rng(0)
    killed, before = 0, 0
    with subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(SCRIPT), *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as parent:

        def start():
            parent.stdin.write("\n")
            parent.stdin.flush()
            return int(parent.stdout.readline())

        for _ in range(10):
            pid = start()
            # At work, by what it has written, and then at a moment of its own.
            goal = before + int(rng.integers(1, N // 20))
            while rows(cache) < goal:
                os.kill(pid, 0)  # fails if it has ended
            os.kill(pid, signal.SIGKILL)
            killed += int(parent.stdout.readline()) == -signal.SIGKILL
            after = rows(cache)
            assert after >= goal > before  # nothing that was there is lost
            assert after % BATCH == 0  # batches are there whole or not at all
            before = after
        assert killed == 10
        assert before < N
        start()
        assert int(parent.stdout.readline()) == 0
        parent.stdin.close()
    assert rows(cache) == N
    (file,) = cache.glob("*.sqlite")
    with closing(sqlite3.connect(file)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    X = np.random.RandomState(0).randint(0, 256, (N, 8, 8), np.uint8)
    fresh = CLIPEmbedder(["tiny/RN-1221"], precision="fp32", cache=False).fit_transform(X)
    np.testing.assert_allclose(np.load(result), fresh, atol=1e-5)
