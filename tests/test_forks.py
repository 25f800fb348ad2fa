"""A process is forked while its threads embed: no child hangs, and none works with its parent's files."""

import os
import subprocess
import sys
import textwrap

import pytest

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")

BEGINNING = """
    import itertools, multiprocessing, os, signal, sys, threading
    import numpy as np
    from sklearn_clipensemble import CLIPEmbedder

    DEADLINE = 150  # seconds in which a child that does not hang is done, whatever else runs here

    def pictures(seed, n=3):
        return np.random.RandomState(seed).randint(0, 256, (n, 8, 8), np.uint8)

    def fork(work):
        pid = os.fork()
        if pid == 0:
            signal.alarm(DEADLINE)
            try:
                work()
                os._exit(0)
            finally:
                os._exit(1)
        return pid

    def wait(pids):
        for pid in pids:
            code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            assert code == 0, "a child hung" if code == -signal.SIGALRM else "a child failed"

    def embedder(cache, n=3):
        names = ["tiny/RN-1221"]
        return CLIPEmbedder(names, precision="fp32", cache=cache).fit(pictures(0, n))
"""

UNDER_LOAD = """
    def embed_on_and_on(step, start, over):
        for seed in itertools.count(start, 3):
            if over.is_set():
                return
            step.transform(pictures(seed, 1 + seed % 7))

    def embed(step, seed):
        signal.alarm(DEADLINE)
        return np.asarray(step.transform(pictures(seed)))

    exact = embedder(False)
    for cache in (False, None, sys.argv[1]):
        print("cache:", cache, file=sys.stderr)
        step, over = embedder(cache), threading.Event()
        threads = [
            threading.Thread(target=embed_on_and_on, args=(step, start, over))
            for start in (1000, 1001, 1002)
        ]
        # The very first children are forked while the threads import torch and load the model.
        for thread in threads:
            thread.start()
        try:
            for first in range(0, 12, 3):
                wait([fork(lambda: embed(step, seed)) for seed in range(first, first + 3)])
            with multiprocessing.get_context("fork").Pool(5) as pool:
                tasks = [(step, seed) for seed in range(12, 32)]
                found = pool.starmap_async(embed, tasks).get(2 * DEADLINE)
        finally:
            over.set()
        for thread in threads:
            thread.join()
        same = np.concatenate([pictures(seed) for seed in range(12, 32)])
        np.testing.assert_allclose(np.concatenate(found), exact.transform(same), atol=1e-5)
"""

ITS_OWN = """
    folder = sys.argv[1]
    step = embedder(folder, n=30).set_params(batch_size=10)
    step.transform(pictures(1))
    batches = step.transform_batches(pictures(2, 30))
    first = next(batches)

    def look():
        files = [os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")
                 if os.path.islink(f"/proc/self/fd/{fd}")] if os.path.isdir("/proc/self/fd") else []
        assert not [f for f in files if f.startswith(folder)], files

    def go_on():
        assert [len(batch) for batch in batches] == [10, 10]

    wait([fork(look)])
    wait([fork(go_on), fork(go_on)])
    assert [len(batch) for batch in batches] == [10, 10]
"""


def run(script, *arguments):
    done = subprocess.run(
        [
            *(sys.executable, "-W", "error", "-W", "ignore:.*fork:DeprecationWarning", "-c"),
            textwrap.dedent(BEGINNING) + textwrap.dedent(script),
            *map(str, arguments),
        ],
        capture_output=True,
        text=True,
        timeout=900,
        # Threads that wait for work leave the cores to the children.
        env={**os.environ, "OMP_WAIT_POLICY": "passive"},
    )
    assert done.returncode == 0, done.stderr


def test_children_of_a_process_at_work_do_not_hang(tmp_path):
    """With each kind of cache 17 children: twelve plain forks, and the five workers of a pool."""
    run(UNDER_LOAD, tmp_path)


def test_a_child_has_files_and_threads_of_its_own(tmp_path):
    run(ITS_OWN, tmp_path)
