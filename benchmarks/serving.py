"""What serving costs beside the bare towers: one picture at a time, threads, processes, the first answer.

    python -m benchmarks.serving

One JPEG of 300 x 200 goes through a fitted pipeline of the five bundled backbones, with one torch
thread, and through one of the architectures of ``openai-small`` with random weights. Every call gets
a file that no cache knows, unless the row says otherwise. What is compared is called in turns, in an
order drawn anew each time, so that all rows of a table come from the same minutes; medians, and their
ratios to the towers.

- *towers of open_clip*: the image towers as open_clip makes them, in the precision of the pipeline, on
  normalised tensors that lie ready: no decoding, no table, no classes.
- *towers as the pipeline runs them*: the same with batch norms folded and channels last.
- *one decode and these towers*: from the file to these tensors, once for each geometry, too.
- *plain open_clip*: what one writes by hand: open_clip's own transform and model, once per
  backbone, in fp32, from the file to the embeddings.
"""

from __future__ import annotations

import argparse
import copy
import io
import itertools
import multiprocessing
import os
import pickle
import platform
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from sklearn.datasets import load_sample_images
from sklearn.pipeline import make_pipeline

from benchmarks.embedding_speed import make_backbone
from sklearn_clipensemble import AdaptiveBackboneEnsemble, CLIPEmbedder, ZeroShotLogits
from sklearn_clipensemble.backbones import PRESETS

FIRST = """
import pickle, sys, time
path, folder, warm = sys.argv[1:]
content = open(path, "rb").read()
image = open(folder, "rb").read()
import torch
torch.set_num_threads(1)
start = time.perf_counter()
pipeline = pickle.loads(content)
at = time.perf_counter()
if int(warm):
    pipeline[0].warm_up()
    at = time.perf_counter()
pipeline.predict([image])
end = time.perf_counter()
pipeline.predict([image + b"again"])
print(at - start, end - at, time.perf_counter() - end)
"""
THEIRS, OURS = "towers of open_clip", "towers as the pipeline runs them"
OTHERS = ("one decode and these towers", "plain open_clip, by hand")
_serial = itertools.count()


def make_image() -> bytes:
    """Return a JPEG of 300 x 200 that no cache has seen: the same picture with another comment."""
    photo = Image.fromarray(load_sample_images().images[0]).resize((300, 200))
    file = io.BytesIO()
    photo.save(file, "JPEG", quality=90, comment=f"{next(_serial)} {time.time_ns()}".encode())
    return file.getvalue()


def fit(n_classes: int, backbones="tiny", **options):
    """Return a pipeline fitted to four pictures of noise of each class."""
    rng = np.random.default_rng(0)
    X = rng.integers(0, 256, (4 * n_classes, 32, 32, 3), np.uint8)
    y = np.repeat([f"object {i}" for i in range(n_classes)], 4)
    steps = CLIPEmbedder(backbones, **options), ZeroShotLogits(), AdaptiveBackboneEnsemble()
    return make_pipeline(*steps).fit(X, y)


def make_towers(embedder: CLIPEmbedder) -> dict[str, Callable]:
    """Return functions of the bytes of an image, by name: towers alone, with decoding, plain open_clip."""
    import open_clip
    import torch

    from sklearn_clipensemble.backbones import resolve
    from sklearn_clipensemble.backbones._model import load, multiplies_in_bf16
    from sklearn_clipensemble.backbones._open_clip import quiet
    from sklearn_clipensemble.images import decode, read

    def normalised(pixels, mean, std, dtype):
        x = torch.from_numpy(pixels[None].copy()).permute(0, 3, 1, 2).float().div_(255)
        return x.sub_(mean).div_(std).to(dtype)

    towers, own, plain = [], [], []
    for backbone in resolve(embedder.backbones):
        model = load(backbone)
        bf16 = multiplies_in_bf16("cpu") and model.takes_bf16("cpu")
        tower = model._tower("cpu", "bf16" if bf16 else "fp32")
        loaded = backbone.load()
        mean, std = (torch.tensor(values)[:, None, None] for values in (loaded.mean, loaded.std))
        dtype = torch.bfloat16 if bf16 else torch.float32
        towers.append((tower, backbone.geometry, mean, std, dtype))
        folder = f"local-dir:{backbone.file().parent}"
        with quiet():
            model, transform = open_clip.create_model_from_pretrained(folder)
        plain.append((model.eval().requires_grad_(False), transform))
        own.append(copy.deepcopy(model.visual).to(dtype))

    picture = decode(read(make_image())[1])
    inputs = [normalised(g.apply(picture), *rest) for _, g, *rest in towers]

    @torch.no_grad()
    def of_open_clip(image):
        for tower, x in zip(own, inputs, strict=True):
            tower(x)

    @torch.no_grad()
    def bare(image):
        for (tower, *_), x in zip(towers, inputs, strict=True):
            tower(x)

    @torch.no_grad()
    def decoded(image):
        picture = decode(read(image)[1])
        pixels = {geometry: geometry.apply(picture) for geometry in {g for _, g, *_ in towers}}
        for tower, geometry, *rest in towers:
            tower(normalised(pixels[geometry], *rest))

    @torch.no_grad()
    def by_hand(image):
        for model, transform in plain:
            model.encode_image(transform(Image.open(io.BytesIO(image)))[None], normalize=True)

    return dict(zip([THEIRS, OURS, *OTHERS], [of_open_clip, bare, decoded, by_hand], strict=True))


def in_turns(calls: dict[str, Callable], n: int, make=make_image) -> dict[str, float]:
    """Return the median milliseconds of each call; every call of a round gets an image of its own.

    In an order drawn for each round: what ran before decides what still lies in the processor's caches.
    """
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    rng = np.random.default_rng(0)
    for turn in range(n + 5):
        for name in rng.permutation(list(calls)):
            image, call = make(), calls[name]
            start = time.perf_counter()
            call(image)
            if turn >= 5:
                seconds[name].append(time.perf_counter() - start)
    return {name: 1000 * float(np.median(s)) for name, s in seconds.items()}


def at_once(call: Callable, n_threads: int, n: int) -> float:
    """Return milliseconds per image where threads call at once, ``n`` images each."""
    images = [[make_image() for _ in range(n)] for _ in range(n_threads)]
    barrier = threading.Barrier(n_threads + 1)

    def work(mine):
        barrier.wait()
        for image in mine:
            call(image)

    threads = [threading.Thread(target=work, args=(mine,)) for mine in images]
    for thread in threads:
        thread.start()
    barrier.wait()
    start = time.perf_counter()
    for thread in threads:
        thread.join()
    return 1000 * (time.perf_counter() - start) / (n_threads * n)


def _serve(content: bytes, what: str, n: int, barrier, answers):
    import torch

    torch.set_num_threads(1)
    pipeline = pickle.loads(content)
    call = make_towers(pipeline[0]).get(what) or (lambda image: pipeline.predict([image]))
    images = [make_image() for _ in range(n + 5)]
    for image in images[:5]:
        call(image)
    barrier.wait()
    start = time.perf_counter()
    for image in images[5:]:
        call(image)
    answers.put((start, time.perf_counter()))


def in_processes(pipeline, what: str, n_processes: int, n: int) -> float:
    """Return milliseconds per image where fresh processes serve at once, ``n`` images each."""
    spawn = multiprocessing.get_context("spawn")
    barrier, answers = spawn.Barrier(n_processes), spawn.Queue()
    arguments = (pickle.dumps(pipeline), what, n, barrier, answers)
    processes = [spawn.Process(target=_serve, args=arguments) for _ in range(n_processes)]
    for process in processes:
        process.start()
    starts, ends = zip(*[answers.get(timeout=600) for _ in processes], strict=True)
    for process in processes:
        process.join()
    return 1000 * (max(ends) - min(starts)) / (n_processes * n)


def first_answers(pipeline, n: int, warm: bool) -> np.ndarray:
    """Return median seconds in fresh processes: until it is ready, of the first and second answer."""
    with tempfile.TemporaryDirectory() as folder:
        path, image = Path(folder, "pipeline.pickle"), Path(folder, "image.jpg")
        path.write_bytes(pickle.dumps(pipeline))
        image.write_bytes(make_image())
        command = [sys.executable, "-c", FIRST, str(path), str(image), str(int(warm))]
        runs = [subprocess.run(command, capture_output=True, check=True).stdout for _ in range(n)]
    return np.median([[float(x) for x in run.split()] for run in runs], axis=0)


def show(title: str, milliseconds: dict[str, float], *bases: str) -> None:
    """Print one Markdown table; ratios to some of its rows."""
    print(f"\n| {title} | ms |" + "".join(f" x {base} |" for base in bases))
    print("|---" * (2 + len(bases)) + "|")
    for name, value in milliseconds.items():
        ratios = "".join(f" {value / milliseconds[base]:.2f} |" for base in bases)
        print(f"| {name} | {value:.2f} |{ratios}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=100, help="calls of each kind (default 100)")
    kinds = ["one", "real", "steps", "threads", "processes", "first"]
    parser.add_argument("--only", nargs="*", choices=kinds, help="only these tables")
    options = parser.parse_args()
    n, wanted = options.n, options.only or kinds
    import torch

    torch.set_num_threads(1)
    print(f"{platform.machine()}, torch {torch.__version__}, pandas {pd.__version__}, one thread")
    pipeline = fit(10)
    towers = make_towers(pipeline[0])

    def predict(image):
        return pipeline.predict([image])

    if "one" in wanted:
        with tempfile.TemporaryDirectory() as folder:
            uncached, on_disk = fit(10, cache=False), fit(10, cache=folder)
            exact, known = fit(10, precision="fp32"), make_image()
            calls = {
                **towers,
                "pipeline": predict,
                "pipeline, cache=False": lambda image: uncached.predict([image]),
                "pipeline, cache=FOLDER": lambda image: on_disk.predict([image]),
                "pipeline, an image it knows": lambda image: predict(known),
                "pipeline, embedding only": lambda image: pipeline[0].transform([image]),
                "pipeline, precision='fp32'": lambda image: exact.predict([image]),
            }
            show("one image, 10 classes", in_turns(calls, n), THEIRS, OURS)
    if "real" in wanted:
        with tempfile.TemporaryDirectory() as folder:
            names = [id.partition("/")[0] for id in PRESETS["openai-small"]]
            real = fit(10, [make_backbone(name, Path(folder)) for name in names])
            calls = {**make_towers(real[0]), "pipeline": lambda image: real.predict([image])}
            milliseconds = in_turns(calls, max(n // 10, 3))
            show("one image, architectures of openai-small", milliseconds, THEIRS, OURS)
    if "steps" in wanted:
        for n_classes in (10, 100, 1000):
            some = fit(n_classes)
            row = some[0].transform([make_image()])
            logits = some[1].transform(row)
            calls = {
                "ZeroShotLogits and the ensemble": lambda _, s=some, r=row: s[1:].predict(r),
                "ZeroShotLogits": lambda _, s=some, r=row: s[1].transform(r),
                "AdaptiveBackboneEnsemble": lambda _, s=some, x=logits: s[2].predict(x),
            }
            title = f"one row, 5 backbones, {n_classes} classes"
            show(title, in_turns(calls, n, make=bytes))
    if "threads" in wanted:
        at_once(predict, 8, 5)
        calls = {name: towers[name] for name in (THEIRS, OURS, OTHERS[0])} | {"pipeline": predict}
        runs = [{k: at_once(c, 8, max(n // 8, 1)) for k, c in calls.items()} for _ in range(5)]
        medians = {name: float(np.median([run[name] for run in runs])) for name in calls}
        torch.set_num_threads(os.cpu_count() or 1)
        wide = [at_once(predict, 8, max(n // 8, 1)) for _ in range(5)]
        torch.set_num_threads(1)
        medians["pipeline, a thread of torch per core"] = float(np.median(wide))
        show("8 threads at once, per image", medians, THEIRS, OURS)
    if "processes" in wanted:
        calls = [THEIRS, OURS, "pipeline"]
        runs = [[in_processes(pipeline, what, 2, n) for what in calls] for _ in range(3)]
        medians = dict(zip(calls, np.median(runs, axis=0), strict=True))
        show("2 processes at once, per image", medians, THEIRS, OURS)
    if "first" in wanted:
        cold = 1000 * first_answers(pipeline, 5, warm=False)
        rows = {"cold: pickle.loads": cold[0], "cold: first answer": cold[1]}
        rows |= {"cold: both": cold[0] + cold[1], "cold: second answer": cold[2]}
        if hasattr(CLIPEmbedder, "warm_up"):
            warm = 1000 * first_answers(pipeline, 5, warm=True)
            rows |= {"pickle.loads and warm_up()": warm[0], "then the first answer": warm[1]}
        show("a fresh process, beyond the import of torch", rows)


if __name__ == "__main__":
    main()
