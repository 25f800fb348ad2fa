"""Embedding on Ray: how fast, in which files, and what Ray itself costs.

    python -m benchmarks.distributed speed --images FOLDER
    python -m benchmarks.distributed files
    python -m benchmarks.distributed paper --images FOLDER
    python -m benchmarks.distributed overhead

- *speed*: images per second of one worker and of two, against CLIPEmbedder in one process with as many
  threads as they have CPUs together. The photographs of FOLDER become JPEG files of 500 x 375 pixels; the
  backbone is a real architecture with random weights. All rows come from one run, and its ratios are what
  to trust. Workers take seconds to start, whatever there is to do: they are timed from the first part
  that is written to the last.
- *files*: a table of the paper's nine backbones in parquet, as one column for each number and as one
  column of lists for each backbone: seconds to write and to read, and the size.
- *paper*: what 100 million photographs and the paper's nine backbones would take, from their
  GFLOPs, from what reading one costs here, and from what a GPU is assumed to sustain.
- *overhead*: 100,000 batches of one tiny picture and a tiny model through the same code: milliseconds for
  each, and the memory of all processes as the run goes on.

``speed`` and ``overhead`` start a cluster of one node on this machine. Ray listens on the machine's own
address; ``unshare --map-root-user --net`` gives it a network of its own.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import platform
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from fsspec import AbstractFileSystem
from PIL import Image

from sklearn_clipensemble import Backbone, CLIPEmbedder, clear, list_backbones
from sklearn_clipensemble.distributed import embed, read_embeddings
from sklearn_clipensemble.images import Geometry, decode, read


@contextlib.contextmanager
def local_cluster(n_cpus: int):
    import ray
    from ray.cluster_utils import Cluster

    # Workers unpickle what this file defines.
    os.environ["PYTHONPATH"] = f"{Path(__file__).parents[1]}:{os.environ.get('PYTHONPATH', '')}"
    node = {"num_cpus": n_cpus, "object_store_memory": 200 * 2**20, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=node)
    ray.init(cluster.address, logging_level="error", log_to_driver=False)
    yield
    ray.shutdown()
    cluster.shutdown()


def speed(options):
    from benchmarks.embedding_speed import make_backbone, make_images

    with local_cluster(4), tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        paths = make_images(options.images, folder, options.n)
        name = make_backbone(options.backbone, folder)
        rates = {}

        def alone(threads: int) -> float:
            clear()
            torch.set_num_threads(threads)
            step = CLIPEmbedder(name, precision="fp32", n_jobs=threads, cache=False).fit(paths)
            step.transform(paths[:8])
            start = time.perf_counter()
            step.transform(paths)
            return len(paths) / (time.perf_counter() - start)

        def on_ray(n_workers: int, num_cpus: int) -> float:
            output = folder / f"out-{time.time()}"
            settings = {"n_workers": n_workers, "num_cpus": num_cpus, "rows_per_part": 64}
            embed(paths, output, backbones=name, precision="fp32", **settings)
            written = sorted(part.stat().st_mtime for part in output.glob("part-*"))
            # What lies between the first n parts, one of each worker, and the last.
            rows = 64 * (len(written) - n_workers)
            return rows / (written[-1] - written[n_workers - 1])

        ways = {
            "CLIPEmbedder, 1 thread": lambda: alone(1),
            "1 worker of 1 CPU": lambda: on_ray(1, 1),
            "CLIPEmbedder, 2 threads": lambda: alone(2),
            "2 workers of 1 CPU": lambda: on_ray(2, 1),
            "1 worker of 2 CPUs": lambda: on_ray(1, 2),
        }
        for repeat in range(options.repeats):
            for way, run in ways.items():
                rates.setdefault(way, []).append(run())
                print(f"{repeat}: {way}: {rates[way][-1]:.1f} images/s", flush=True)
    print(
        f"\n{platform.machine()}, {os.cpu_count()} cores, {options.n} JPEGs, {options.backbone}, fp32"
    )
    one, two = rates["CLIPEmbedder, 1 thread"], rates["CLIPEmbedder, 2 threads"]
    print(
        "| | images/s, median | x CLIPEmbedder, 1 thread | x CLIPEmbedder, 2 threads |\n|---|---|---|---|"
    )
    for way, rate in rates.items():
        ratios = [float(np.median(np.divide(rate, base))) for base in (one, two)]
        print(f"| {way} | {np.median(rate):.1f} | {ratios[0]:.2f} | {ratios[1]:.2f} |")


def files(options):
    widths = list_backbones().query("presets.str.contains('openai')")["width"]
    rng = np.random.default_rng(0)
    lists, wide = {}, {}
    for id, width in widths.items():
        vectors = rng.standard_normal((options.n, width)).astype(np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        flat = pa.array(vectors.ravel())
        lists[f"{id}__embedding"] = pa.FixedSizeListArray.from_arrays(flat, width)
        wide |= {f"{id}__embedding__{i}": vectors[:, i] for i in range(width)}
    lean = {"compression": "zstd", "use_dictionary": False, "use_byte_stream_split": True}
    print(f"{options.n} rows, {sum(widths)} numbers each, one thread; medians of {options.repeats}")
    print("| | write, s | read as a table, s | size / numbers |\n|---|---|---|---|")
    for form, columns in (
        ("a column for each number", wide),
        ("a column of lists for each backbone", lists),
    ):
        for how, settings in (
            ("as pyarrow has it", {}),
            ("zstd, bytes split, no dictionary", lean),
        ):
            seconds = []
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder, "a.parquet")
                for _ in range(options.repeats):
                    start = time.perf_counter()
                    pq.write_table(pa.table(columns), path, **settings)
                    middle = time.perf_counter()
                    read_embeddings(path)
                    seconds.append((middle - start, time.perf_counter() - middle))
                size = path.stat().st_size / (options.n * sum(widths) * 4)
            write, read = np.median(seconds, axis=0)
            print(f"| {form}, {how} | {write:.3f} | {read:.3f} | {size:.2f} |")


def paper(options):
    from benchmarks.embedding_speed import make_images

    nine = list_backbones().query("presets.str.contains('openai')")
    geometries = [Geometry(size, size) for size in sorted(set(nine["image_size"]))]
    with tempfile.TemporaryDirectory() as folder:
        paths = make_images(options.images, Path(folder), options.n)
        n_bytes = np.mean([os.path.getsize(path) for path in paths])
        start = time.process_time()
        for path in paths:
            image = decode(read(path)[1])
            for geometry in geometries:
                geometry.apply(image)
        reading = (time.process_time() - start) / len(paths)
    gflops, stored = nine["gflops"].sum(), 0.84 * 4 * nine["width"].sum()
    n, rate = options.images_in_all, 1000 * options.tflops / gflops
    parts = n / 1024
    for what, value in {
        "computing an image, GFLOP": f"{gflops:.0f}",
        f"a GPU at {options.tflops:g} TFLOP/s, images/s": f"{rate:.0f}",
        f"{n:.0e} images, GPU hours": f"{n / rate / 3600:.0f}",
        "reading and resizing an image, ms of one core": f"{1000 * reading:.1f}",
        "cores that keep a GPU busy": f"{rate * reading:.1f}",
        "an image, kB": f"{n_bytes / 1e3:.0f}",
        "its embeddings in parquet, kB": f"{stored / 1e3:.0f}",
        "a GPU reads, MB/s": f"{rate * n_bytes / 1e6:.1f}",
        "a GPU writes, MB/s": f"{rate * stored / 1e6:.1f}",
        "images in all, TB": f"{n * n_bytes / 1e12:.1f}",
        "embeddings in all, TB": f"{n * stored / 1e12:.1f}",
        "parts of 1024 rows": f"{parts:.0f}",
        "a part, MB": f"{1024 * stored / 1e6:.0f}",
        "seconds of a GPU for a part": f"{1024 / rate:.1f}",
        "keys and sizes of all rows, GB": f"{n * 28 / 1e9:.1f}",
        "images of a batch in Ray's object store, if they are in the dataset, MB": f"{1024 * n_bytes / 1e6:.0f}",
    }.items():
        print(f"| {what} | {value} |")


class Pictures(AbstractFileSystem):
    """A filesystem on which every path leads to the same tiny picture."""

    def cat_file(self, path, **kwargs):
        buffer = io.BytesIO()
        Image.new("RGB", (8, 8)).save(buffer, "PNG")
        return buffer.getvalue()


def overhead(options):
    model = torch.nn.Sequential(torch.nn.AvgPool2d(4), torch.nn.Flatten())
    tiny = Backbone(model, id="pooled", preprocess={"size": 8, "mean": 0.5, "std": 0.25})
    settings = {"filesystem": _importable().Pictures(), "precision": "fp32", "rows_per_part": 1}
    with local_cluster(2), tempfile.TemporaryDirectory() as folder:
        output = Path(folder, "out")
        paths = [f"{row}.png" for row in range(options.n)]
        seen: list[tuple] = []
        over = threading.Event()
        watcher = threading.Thread(target=watch, args=(output, seen, over, options.n // 10))
        watcher.start()
        start = time.perf_counter()
        embed(paths, output, backbones=tiny, n_workers=options.workers, num_cpus=1, **settings)
        seconds = time.perf_counter() - start
        over.set()
        watcher.join()
        print(
            f"{options.n} batches of 1 in {seconds:.0f} s: {1000 * seconds / options.n:.1f} ms each"
        )
        print(
            "| parts written | seconds | this process, MB | leader, MB | workers, MB |\n"
            + "|---" * 5
            + "|"
        )
        for n_parts, at, driver, leader, workers in seen:
            print(f"| {n_parts} | {at - start:.0f} | {driver:.0f} | {leader:.0f} | {workers} |")
        start = time.perf_counter()
        embed(
            paths,
            output,
            backbones=tiny,
            n_workers=options.workers,
            num_cpus=1,
            **settings | {"rows_per_part": 1024},
        )
        print(f"a second call, which finds all there: {time.perf_counter() - start:.0f} s")
        start = time.perf_counter()
        read_embeddings(output)
        print(f"reading {options.n} files: {time.perf_counter() - start:.0f} s")


def _importable():
    """This file as workers know it: not as a script."""
    from benchmarks import distributed

    return distributed


def watch(output, seen, over, every):
    """Note the memory of all processes whenever some more parts are there."""
    due = every
    while not over.wait(1):
        n_parts = (
            sum(entry.name.startswith("part-") for entry in os.scandir(output))
            if output.exists()
            else 0
        )
        if n_parts >= due:
            due = (n_parts // every + 1) * every
            leader = memory_of("ray::_Leader")
            workers = memory_of("ray::MapWorker")
            row = (
                n_parts,
                time.perf_counter(),
                resident("self"),
                sum(leader),
                [round(m) for m in workers],
            )
            seen.append(row)
            print(row, flush=True)


def memory_of(title: str) -> list[float]:
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if Path("/proc", pid, "cmdline").read_bytes().startswith(title.encode()):
                found.append(resident(pid))
        except OSError:  # it has ended
            continue
    return found


def resident(pid: str) -> float:
    """Return the memory that a process holds, in MB, without what it shares."""
    lines = Path("/proc", pid, "status").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1024


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True)
    one = commands.add_parser("speed")
    one.add_argument("--images", type=Path, required=True, help="a folder of photographs")
    one.add_argument("--n", type=int, default=1024)
    one.add_argument("--backbone", default="ViT-B-32")
    one.add_argument("--repeats", type=int, default=3)
    one.set_defaults(run=speed)
    one = commands.add_parser("files")
    one.add_argument("--n", type=int, default=1024)
    one.add_argument("--repeats", type=int, default=5)
    one.set_defaults(run=files)
    one = commands.add_parser("paper")
    one.add_argument("--images", type=Path, required=True, help="a folder of photographs")
    one.add_argument("--n", type=int, default=256)
    one.add_argument("--images-in-all", type=float, default=1e8)
    one.add_argument("--tflops", type=float, default=200, help="what a GPU is assumed to sustain")
    one.set_defaults(run=paper)
    one = commands.add_parser("overhead")
    one.add_argument("--n", type=int, default=100_000)
    one.add_argument("--workers", type=int, default=2)
    one.set_defaults(run=overhead)
    options = parser.parse_args()
    options.run(options)


if __name__ == "__main__":
    main()
