"""What decode="fast" and exif_transpose change: pixels, embeddings, and milliseconds.

    python -m benchmarks.decoding_options --images FOLDER

Each photograph of FOLDER is enlarged to the size of a camera's file and saved
as JPEG. Pixels are compared at 224 x 224, embeddings with the bundled backbones
(32 x 32, so that the draft is the harsher one).
"""

from __future__ import annotations

import argparse
import io
import time
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from sklearn_clipensemble import CLIPEmbedder, load_image_folder
from sklearn_clipensemble.images import Geometry, decode, read


def encode(image: Image.Image, orientation: int = 1) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=90, exif=exif)
    return buffer.getvalue()


def pixels(files, *, fast: bool) -> tuple[np.ndarray, float]:
    """Return the pixels at 224 x 224 and the milliseconds per image on one core."""
    start = time.process_time()
    out = [
        Geometry().apply(
            decode(read(f)[1], exif_transpose=False, draft=448 if fast else None), fast=fast
        )
        for f in files
    ]
    return np.stack(out).astype(float), 1000 * (time.process_time() - start) / len(files)


def cosines(one, other, embedder) -> str:
    """Return the mean and the least cosine of two tables, by backbone."""
    parts = []
    for backbone in embedder.backbones_:
        columns = [c for c in one.columns if c.startswith(f"{backbone}__")]
        cosine = (one[columns].to_numpy() * other[columns].to_numpy()).sum(1)
        parts.append(f"{backbone} {cosine.mean():.4f} (least {cosine.min():.4f})")
    return ", ".join(parts)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=Path, required=True, help="a folder of photographs")
    parser.add_argument("--n", type=int, default=30)
    parser.add_argument("--backbones", nargs="+", default=["tiny"])
    options = parser.parse_args()
    paths = load_image_folder(options.images).paths
    photos = [Image.open(p).convert("RGB") for p in paths[:: max(1, len(paths) // options.n)]]
    photos = photos[: options.n]

    def embedder(**params):
        return CLIPEmbedder(options.backbones, precision="fp32", cache=False, **params)

    for width, height in [(500, 375), (1600, 1200), (4000, 3000)]:
        files = [encode(ImageOps.fit(p, (width, height))) for p in photos]
        exact, slow = pixels(files, fast=False)
        near, quick = pixels(files, fast=True)
        step = embedder().fit(files)
        print(f'{width} x {height}, decode="fast":')
        print(f"  {slow:.1f} -> {quick:.1f} ms per image and core")
        print(f"  pixels differ by {np.abs(exact - near).mean():.2f} of 255 on average")
        table = embedder(decode="fast").fit_transform(files)
        print(f"  cosine to the exact embedding: {cosines(step.transform(files), table, step)}")
    for orientation, name in [(6, "a quarter turn"), (3, "upside down")]:
        files = [encode(ImageOps.fit(p, (500, 375)), orientation) for p in photos]
        step = embedder().fit(files)
        table = embedder(exif_transpose=True).fit_transform(files)
        print(f"exif_transpose, {name}: cosine {cosines(step.transform(files), table, step)}")


if __name__ == "__main__":
    main()
