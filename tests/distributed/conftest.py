"""A Ray cluster of two nodes on this machine, in a network of its own."""

import contextlib
import ctypes
import gc
import os
import socket
import struct
import sys
import warnings

import pytest

NEW_NETWORK, SET_FLAGS, UP = 0x40000000, 0x8914, 0x1 | 0x40


@pytest.fixture(scope="module")
def network():
    """Move this thread, and what it starts, to a network with nothing but loopback.

    Ray binds to the machine's own address unless there is none. Threads that run already stay where they are.
    """
    if not sys.platform.startswith("linux"):
        pytest.skip("network namespaces, in which Ray's ports stay closed to others, need Linux")
    import fcntl

    libc = ctypes.CDLL(None, use_errno=True)
    with open("/proc/thread-self/ns/net") as before:
        if [name for _, name in socket.if_nameindex()] != ["lo"] and libc.unshare(NEW_NETWORK):
            pytest.skip(
                f"no network namespace is allowed here ({os.strerror(ctypes.get_errno())}): run as root, or "
                "within `unshare --map-root-user --net`"
            )
        with socket.socket() as any_socket, contextlib.suppress(PermissionError):
            fcntl.ioctl(any_socket, SET_FLAGS, struct.pack("16sh", b"lo", UP))
        yield
        libc.setns(before.fileno(), NEW_NETWORK)


@contextlib.contextmanager
def quiet():
    """Let Ray warn of itself: each version has warnings of its own, and files that it leaves open."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
        gc.collect()


@pytest.fixture(scope="module")  # while Ray is there, its end would be that of this process
def cluster(network):
    """Two nodes of two CPUs; ``cluster.second`` may be lost, and ``cluster.mend()`` brings another."""
    pytest.importorskip("pyarrow")
    ray = pytest.importorskip("ray")
    # Workers find what tests pass to them, and a lost node is known to be lost within seconds.
    here, given = os.path.dirname(__file__), dict(os.environ)
    path = [here, os.path.dirname(here), given.get("PYTHONPATH", "")]
    os.environ["PYTHONPATH"] = os.pathsep.join(path).rstrip(os.pathsep)
    for name in ("RAY_health_check_period_ms", "RAY_health_check_initial_delay_ms"):
        os.environ[name] = "500"
    node = {"num_cpus": 2, "object_store_memory": 100 * 2**20}
    with quiet():
        from ray.cluster_utils import Cluster

        cluster = Cluster(True, head_node_args={**node, "include_dashboard": False})
        ray.init(cluster.address, logging_level="error", log_to_driver=False)

    def mend():
        if len(cluster.list_all_nodes()) < 2:
            with quiet():
                cluster.second = cluster.add_node(**node)
                cluster.wait_for_nodes()

    cluster.mend = mend
    yield cluster
    with quiet():
        ray.shutdown()
        cluster.shutdown()
    os.environ.clear()
    os.environ.update(given)


@pytest.fixture
def two_nodes(cluster):
    """The cluster, whatever an earlier test has done to it."""
    cluster.mend()
    return cluster
