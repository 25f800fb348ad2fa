"""The only module that knows Ray: the workers a cluster has room for, and one pass of the rows to them."""

from __future__ import annotations

import logging
import pickle
import time
from collections.abc import Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

from sklearn_clipensemble.distributed._worker import Report, Worker

#: Seconds without news for which, after a node was lost, a batch may wait until there is room to start
#: its worker again; twice the longest wait before that, if it is more.
_PATIENCE = 20.0
#: The most CPUs of a worker, unless it is told otherwise.
_MOST_CPUS = 16


def load() -> ModuleType:
    """Return Ray, or say how to get it."""
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise ImportError(
            f"distributed.embed runs on Ray, which cannot be imported ({error}). Install it with pip install "
            "pyarrow 'ray[data]', or use EmbedBatch with another engine."
        ) from error
    return ray


def connect(ray: ModuleType) -> None:
    """Connect to the cluster that the environment names, or start one here, unless that was done before."""
    if not ray.is_initialized():
        ray.init(logging_level=logging.WARNING, log_to_driver=False)


@dataclass(frozen=True)
class Pool:
    """How many workers there are, and what each has to itself."""

    least: int
    most: int
    num_cpus: int
    num_gpus: float

    @classmethod
    def fit(
        cls,
        nodes: list[dict],
        n_workers: int | None,
        num_cpus: int | None,
        num_gpus: float | None,
        reads: bool,
    ) -> Pool:
        """Return the pool that a cluster has room for.

        Where data are read by tasks of Ray, these need a CPU: workers that take all would wait for ever.
        """
        alive = [node["Resources"] for node in nodes if node["Alive"]]
        cpus = np.array([int(node.get("CPU", 0)) for node in alive])
        gpus = np.array([node.get("GPU", 0) for node in alive])
        if num_gpus is None:
            num_gpus = float(gpus.max(initial=0) >= 1)
        places = np.floor(gpus / num_gpus).astype(int) if num_gpus else (cpus > 0).astype(int)
        spare = int(num_cpus is None and (reads or cpus.max(initial=0) > 1))
        if num_cpus is None:
            shares = (cpus - spare)[places > 0] // places[places > 0]
            num_cpus = int(np.clip(shares.min(initial=_MOST_CPUS), 1, _MOST_CPUS))
        room = (cpus - spare).clip(0) // num_cpus
        if num_gpus:
            room = np.minimum(room, places)
        n_room = int(room.sum())
        if reads and n_room and n_room * num_cpus >= cpus.sum():
            n_room -= 1
        if not n_room:
            for_reading = ", with one CPU more for reading the data" if reads else ""
            raise ValueError(
                f"The cluster has no room for a worker with num_cpus={num_cpus} and num_gpus={num_gpus:g}"
                f"{for_reading}: its nodes have {cpus.tolist()} CPUs and {gpus.tolist()} GPUs."
            )
        most = n_room if n_workers is None else n_workers
        return cls(min(most, n_room), most, num_cpus, num_gpus)


class Pass:
    """One pass of all rows through the workers, led by a process of its own.

    That process has Ray Data's log and progress to itself, and when it is killed, its workers go with
    it: Ray Data waits for ever where a worker is lost that nothing has room to start again.
    """

    def __init__(
        self,
        ray: ModuleType,
        rows: Any,
        listed: Any,
        pool: Pool,
        rows_per_part: int,
        worker: dict,
    ):
        self._ray = ray
        here = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(
            ray.get_runtime_context().get_node_id(), soft=True
        )
        leader = ray.remote(num_cpus=0, scheduling_strategy=here)(_Leader)
        self.lost: str | None = None
        self._leader = leader.remote()
        # In a list, a reference is handed on as it is: only workers load models, and the list of rows.
        self._worker = [ray.put(worker), listed]
        self._begun = self._leader.begin.remote(rows, pool, rows_per_part, self._worker)

    def reports(self) -> Iterator[Report]:
        """Yield what the workers report; ``lost`` then says why it ended early, if it did."""
        ray, nodes = self._ray, self._nodes()
        longest, last, news = 0.0, time.monotonic(), self._begun
        try:
            while True:
                while not ray.wait([news], timeout=2)[0]:
                    waited = time.monotonic() - last
                    if nodes - self._nodes() and waited > max(_PATIENCE, 2 * longest):
                        self.lost = (
                            "a node was lost, and there is no room to start its worker again"
                        )
                        return
                longest, last = max(longest, time.monotonic() - last), time.monotonic()
                try:
                    reports = ray.get(news)
                except ray.exceptions.RayError as error:
                    self.lost = _describe(error, ray.exceptions)
                    return
                if reports is None:
                    return
                yield from reports
                news = self._leader.next.remote()
        finally:
            ray.kill(self._leader)

    def _nodes(self) -> set[str]:
        return {node["NodeID"] for node in self._ray.nodes() if node["Alive"]}


def _describe(error: Any, kinds: ModuleType) -> str:
    """Return what Ray says has gone; raise what is no loss, such as an error in reading a dataset."""
    cause = error
    while isinstance(cause, kinds.RayTaskError):
        cause = cause.cause
    # A system error is one of unpickling: a worker lacks a module.
    if not isinstance(cause, kinds.RayError) or isinstance(cause, kinds.RaySystemError):
        raise cause from error
    return f"{type(cause).__name__}: {str(cause).strip().splitlines()[0]}"


class _Leader:
    """Runs Ray Data, in an actor, which must exist before anything can fail: or it only dies."""

    def begin(self, rows, pool: Pool, rows_per_part: int, worker: list) -> list[Report]:
        """Begin; there is nothing to report yet."""
        self._reports = self._run(rows, pool, rows_per_part, worker)
        return []

    def next(self) -> list[Report] | None:
        """Return the next reports, None after the last."""
        return next(self._reports, None)

    def _run(self, rows, pool, rows_per_part, worker) -> Iterator[list[Report]]:
        import ray.data

        logging.getLogger("ray.data").setLevel(logging.CRITICAL)
        ray.data.DataContext.get_current().enable_progress_bars = False
        batch_size = rows_per_part
        if isinstance(rows, int):
            # Workers share the list, and are told from where to where: a block of Ray's for every few rows
            # would cost its leader 40 kB each.
            spans = [(at, min(at + rows_per_part, rows)) for at in range(0, rows, rows_per_part)]
            items = [{"start": start, "stop": stop} for start, stop in spans]
            rows, batch_size = ray.data.from_items(items, override_num_blocks=len(items)), 1
        else:
            rows.context.enable_progress_bars = False
            rows = rows.repartition(target_num_rows_per_block=rows_per_part)
        done = rows.map_batches(
            _Worker,
            fn_constructor_args=worker,
            batch_size=batch_size,
            batch_format="pyarrow",
            compute=ray.data.ActorPoolStrategy(min_size=pool.least, max_size=pool.most),
            num_cpus=pool.num_cpus,
            num_gpus=pool.num_gpus or None,
        )
        for batch in done.iter_batches(batch_size=None, batch_format="numpy"):
            yield [pickle.loads(report) for report in batch["report"]]


class _Worker(Worker):
    """A worker that fetches what it is made of."""

    def __init__(self, kwargs: Any, listed: Any):
        import ray

        super().__init__(**ray.get(kwargs), listed=None if listed is None else ray.get(listed))
