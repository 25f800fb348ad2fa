"""What memory models take: while they are loaded, and after; images alone, and new prompts too.

    python -m benchmarks.model_memory --presets openai-small openai

Memory does not hang on what weights are: the architectures of a preset get random ones and are
saved as folders (10 GB for the nine of ``openai``; ``--folder`` keeps them), so that nothing is
downloaded. Each row is a fresh process that embeds two photographs with all of them, and the
prompts of ten classes where it says so. *Peak* is the most that the process ever held (``VmHWM``
of Linux), *at rest* what it holds afterwards (``VmRSS``), both without what it held once torch and
open_clip were imported.
"""

from __future__ import annotations

import argparse
import gc
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def make_backbone(name: str, folder: Path) -> str:
    """Save an architecture with random weights as an open_clip folder, unless it is there."""
    import open_clip
    import torch
    from safetensors.torch import save_file

    place = folder / name
    if not (place / "open_clip_model.safetensors").is_file():
        place.mkdir(parents=True, exist_ok=True)
        config = {"model_cfg": open_clip.get_model_config(name), "preprocess_cfg": {}}
        (place / "open_clip_config.json").write_text(json.dumps(config))
        torch.manual_seed(0)
        weights = open_clip.create_model(name).state_dict()
        save_file(dict(weights), place / "open_clip_model.safetensors")
    return f"local-dir:{place}"


def held(key: str) -> float:
    """Return a figure of this process's memory in megabytes (Linux)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(f"{key}:"))


def measure(names: list[str], precision: str, prompts: bool) -> dict:
    """Embed in this process, and return what it took in megabytes and seconds."""
    import open_clip  # noqa: F401
    from sklearn.datasets import load_sample_images

    from sklearn_clipensemble import CLIPEmbedder, ZeroShotLogits

    photos = load_sample_images().images
    before, start = held("VmRSS"), time.perf_counter()
    embedder = CLIPEmbedder(names, precision=precision)
    table = embedder.fit_transform(photos)
    if prompts:
        ZeroShotLogits([f"object {i}" for i in range(10)]).fit(table)
    gc.collect()
    peak, rest = held("VmHWM") - before, held("VmRSS") - before
    return {"peak": peak, "rest": rest, "seconds": time.perf_counter() - start}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--presets", nargs="+", default=["openai-small"])
    parser.add_argument("--precisions", nargs="+", default=["auto", "fp32"])
    parser.add_argument("--folder", type=Path, help="where the models are kept; else a passing one")
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        precision, prompts, *names = options.child
        print(json.dumps(measure(names, precision, prompts == "prompts")))
        return
    with tempfile.TemporaryDirectory() as passing:
        folder = options.folder or Path(passing)
        print("| backbones | precision | embedded | peak, MB | at rest, MB | seconds |")
        print("|---|---|---|---|---|---|", flush=True)
        for preset in options.presets:
            architectures = subprocess.check_output(
                [
                    sys.executable,
                    "-c",
                    f"from sklearn_clipensemble.backbones import PRESETS as P; "
                    f"print(*(id.partition('/')[0] for id in P[{preset!r}]))",
                ],
                text=True,
            ).split()
            for name in architectures:  # each in a process of its own, to return its memory
                code = (
                    "from benchmarks import model_memory as m; "
                    f"m.make_backbone({name!r}, m.Path({str(folder)!r}))"
                )
                subprocess.run([sys.executable, "-c", code], check=True)
            names = [f"local-dir:{folder / name}" for name in architectures]
            for precision in options.precisions:
                for what in ("images", "prompts"):
                    command = [sys.executable, "-m", "benchmarks.model_memory", "--child"]
                    command += [precision, what, *names]
                    found = json.loads(subprocess.check_output(command))
                    cells = [preset, precision, what if what == "images" else "images and prompts"]
                    cells += [f"{found[key]:.0f}" for key in ("peak", "rest", "seconds")]
                    print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
