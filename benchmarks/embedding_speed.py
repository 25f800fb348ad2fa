"""How fast images become embeddings: CLIPEmbedder, a plain open_clip loop, and the ceiling.

    python -m benchmarks.embedding_speed --images FOLDER

Speed does not hang on what weights are: real architectures get random ones and
are saved as folders, so that nothing is downloaded. The photographs of FOLDER
(any number, at any depth) become 512 JPEG files of 500 x 375 pixels. All rows
of the table come from one run, and its ratios are what to trust.

- *plain loop*: per backbone, open_clip's own model and transform, a DataLoader
  with one worker per core, fp32. It decodes every image once per backbone.
- *forward only*: the same towers as CLIPEmbedder's on batches that lie ready in
  the right type and layout: the ceiling.
- *CLIPEmbedder*: from paths to the table, cold, then a second time from memory.
- *embetter*, with ``--peers``: its ClipEncoder (sentence-transformers) on the
  same architectures with random weights, fp32; it has the ViTs only.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import tempfile
import time
from pathlib import Path

import numpy as np
import open_clip
import torch
from PIL import Image, ImageOps
from safetensors.torch import save_file
from torch.utils.data import DataLoader, Dataset

from sklearn_clipensemble import CLIPEmbedder, clear, load_image_folder
from sklearn_clipensemble.backbones import resolve
from sklearn_clipensemble.backbones._model import load
from sklearn_clipensemble.images import Geometry, decode, read

BATCH = 64


def make_images(source: Path, target: Path, n: int) -> list[str]:
    """Write n different JPEGs of 500 x 375 from the photographs of a folder."""
    photos = [p for p in load_image_folder(source).paths if p.lower().endswith((".jpg", ".jpeg"))]
    paths = []
    for i in range(n):
        image = ImageOps.fit(Image.open(photos[i % len(photos)]).convert("RGB"), (500, 375))
        if i >= len(photos):  # another time around: the other way round, and further in
            image = ImageOps.fit(ImageOps.mirror(image).crop((i % 50, 0, 450, 375)), (500, 375))
        paths.append(str(target / f"{i:04}.jpg"))
        image.save(paths[-1], quality=90)
    return paths


def make_backbone(name: str, target: Path) -> str:
    """Save a real architecture with random weights as an open_clip folder."""
    folder = target / name
    folder.mkdir()
    config = {"model_cfg": open_clip.get_model_config(name), "preprocess_cfg": {}}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    torch.manual_seed(0)
    model = open_clip.create_model(name)
    for module in model.modules():  # residual branches start at zero: give them a say
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.5, 1)
    save_file(dict(model.state_dict()), folder / "open_clip_model.safetensors")
    return f"local-dir:{folder}"


class Files(Dataset):
    """Paths, through open_clip's own transform."""

    def __init__(self, paths, transform):
        self.paths, self.transform = paths, transform

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, index):
        return self.transform(Image.open(self.paths[index]))


def plain_loop(name: str, paths: list[str], device: str) -> tuple[float, np.ndarray]:
    """Embed as open_clip's documentation shows it; return seconds and the embeddings."""
    model, transform = open_clip.create_model_from_pretrained(name, device=device)
    model.eval()
    loader = DataLoader(Files(paths, transform), BATCH, num_workers=os.cpu_count())
    with torch.inference_mode():
        model.encode_image(torch.zeros(2, 3, 224, 224, device=device))
        start, rows = time.perf_counter(), []
        for x in loader:
            rows.append(model.encode_image(x.to(device), normalize=True).cpu())
    return time.perf_counter() - start, torch.cat(rows).numpy()


def forward_only(name: str, n: int, device: str, precision: str) -> float:
    """Return the seconds of the image tower alone on ready batches, of the best of three sizes."""
    tower = load(resolve(name)[0])._tower(device, precision)
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]
    x = torch.randn(BATCH, 3, 224, 224, device=device, dtype=dtype)
    x = x.to(memory_format=torch.channels_last)
    seconds = []
    with torch.no_grad():
        tower(x[:2]).float().cpu()
        for size in (8, 32, BATCH):
            start = time.perf_counter()
            for at in range(0, n, size):
                tower(x[: min(size, n - at)]).float().cpu()
            seconds.append(time.perf_counter() - start)
    return min(seconds)


def embedder(names, paths, device: str, precision: str) -> tuple[float, float, np.ndarray]:
    """Return the seconds of a cold and of a second pass, and the embeddings."""
    clear()
    step = CLIPEmbedder(names, device=device, precision=precision).fit(paths)
    step.transform([np.zeros((8, 8), np.uint8)])  # loads the models
    start = time.perf_counter()
    table = step.transform(paths)
    first = time.perf_counter() - start
    start = time.perf_counter()
    step.transform(paths)
    return first, time.perf_counter() - start, table.to_numpy()


def embetter(patch_size: int, paths: list[str], folder: Path, device: str) -> float:
    """Return the seconds that embetter's encoder takes for a ViT-B with random weights."""
    from embetter.multi import ClipEncoder
    from embetter.vision import ImageLoader
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor, CLIPTokenizer

    place = str(folder / f"embetter-{patch_size}")
    CLIPModel(CLIPConfig(vision_config={"patch_size": patch_size})).save_pretrained(place)
    vocabulary = {"<|startoftext|>": 0, "<|endoftext|>": 1}
    tokenizer = CLIPTokenizer(vocab=vocabulary, merges=[])
    CLIPProcessor(CLIPImageProcessor(), tokenizer).save_pretrained(place)
    encoder = ClipEncoder(place, device=device)
    encoder.transform(ImageLoader().transform(paths[:2]))
    start = time.perf_counter()
    encoder.transform(ImageLoader().transform(paths))
    return time.perf_counter() - start


def decode_shares(paths: list[str], **options) -> tuple[float, float]:
    """Return the seconds one thread takes to decode, and to resize, all images."""
    decoding = resizing = 0.0
    for path in paths:
        start = time.perf_counter()
        image = decode(read(path)[1], exif_transpose=False, **options)
        middle = time.perf_counter()
        Geometry().apply(image, fast=options["draft"] is not None)
        decoding += middle - start
        resizing += time.perf_counter() - middle
    return decoding, resizing


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=Path, required=True, help="a folder of photographs")
    parser.add_argument("--n", type=int, default=512)
    parser.add_argument("--backbones", nargs="+", default=["RN50", "RN101", "ViT-B-32", "ViT-B-16"])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--peers", action="store_true")
    options = parser.parse_args()
    n, device = options.n, options.device

    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        paths = make_images(options.images, folder, n)
        names = [make_backbone(name, folder) for name in options.backbones]
        rows, cosines = [], {}

        def report(what, seconds, per_backbone=()):
            rows.append((what, seconds, per_backbone))
            print(f"{what}: {seconds:.2f} s {[round(s, 1) for s in per_backbone]}", flush=True)

        plain = [plain_loop(name, paths, device) for name in names]
        report("plain open_clip loop, fp32", sum(p[0] for p in plain), [p[0] for p in plain])
        exact = np.hstack([p[1] for p in plain])
        for precision in ["fp32", "bf16"]:
            # Ready batches are all alike: a part of them tells the rate.
            part = min(n, 2 * BATCH)
            ceiling = [forward_only(name, part, device, precision) * n / part for name in names]
            report(f"forward only, {precision}", sum(ceiling), ceiling)
            first, second, table = embedder(names, paths, device, precision)
            report(f"CLIPEmbedder, {precision}", first)
            report(f"CLIPEmbedder, {precision}, a second time", second)
            at = np.cumsum([0, *(p[1].shape[1] for p in plain)])
            cosines[precision] = [
                float((table[:, a:b] * exact[:, a:b]).sum(1).min())
                for a, b in itertools.pairwise(at)
            ]
        peers = {}
        if options.peers:
            patches = {"ViT-B-32": 32, "ViT-B-16": 16}
            part = min(n, 2 * BATCH)
            peers = {
                name: embetter(patches[name], paths[:part], folder, device) * n / part
                for name in options.backbones
                if name in patches
            }
        decoding, resizing = decode_shares(paths, draft=None)
        fast_decoding, fast_resizing = decode_shares(paths, draft=448)

    cores = os.cpu_count()
    print(f"\n{platform.machine()}, {cores} cores, torch {torch.__version__}, device {device}")
    print(f"{n} JPEGs of 500 x 375, {', '.join(options.backbones)}\n")
    base = rows[0][1]
    ceilings = {"fp32": rows[1][1], "bf16": rows[4][1]}
    columns = ["", *options.backbones, "all: s", "images/s", "x plain", "of the ceiling"]
    print("| " + " | ".join(columns) + " |\n" + "|---" * len(columns) + "|")
    for what, seconds, per_backbone in rows:
        own = [f"{n / s:.1f}" for s in per_backbone] or [""] * len(options.backbones)
        share = ""
        if what.startswith("CLIPEmbedder") and "second" not in what:
            share = f"{ceilings[what[-4:]] / seconds:.2f}"
        cells = [what, *own, f"{seconds:.2f}", f"{n / seconds:.1f}", f"{base / seconds:.2f}", share]
        print("| " + " | ".join(cells) + " |")
    if peers:
        own = [f"{n / peers[b]:.1f}" if b in peers else "" for b in options.backbones]
        print("| " + " | ".join(["embetter, fp32", *own, "", "", "", ""]) + " |")
    print("\nLeast cosine to the plain loop's embedding, by backbone:")
    for precision, values in cosines.items():
        print(f"  {precision}: " + ", ".join(f"{v:.5f}" for v in values))
    print("Work per image and core, ms:")
    print(f"  decode {1000 * decoding / n:.2f}, resize {1000 * resizing / n:.2f}", end="; ")
    print(f'decode="fast": {1000 * fast_decoding / n:.2f}, {1000 * fast_resizing / n:.2f}')
    for precision, seconds in ceilings.items():
        print(f"  compute, {precision}: {1000 * cores * seconds / n:.1f}")


if __name__ == "__main__":
    main()
