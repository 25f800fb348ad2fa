"""Train the bundled ``"tiny"`` backbones: small CLIPs, one data mix, one objective.

Five open_clip models that differ in nothing but the architecture of their
image tower learn from the ``train`` splits of four public image sets whose
labels become captions. Everything is real and small: 32-pixel images, a text
tower of two layers, a contrastive loss. The result is written as open_clip
``local-dir:`` folders::

    python -m benchmarks.train_tiny_zoo --data DATA --out runs RN-1221 ViT-4
    python -m benchmarks.train_tiny_zoo --data DATA --out runs --evaluate
    python -m benchmarks.train_tiny_zoo --data DATA --out runs --export sklearn_clipensemble/backbones/tiny

``DATA`` holds ``tiny_imagenet_32px.parquet``, ``cifar10.parquet``,
``mnist.parquet`` and ``caltech101_64px.parquet`` with the columns ``image``
(encoded bytes), ``label`` and ``split``. A run that was stopped goes on from
its last checkpoint when the same command is given again. On one CPU core a
ResNet sees about 1,500 images per second; use one process per core.
"""

import argparse
import io
import json
import math
import os
import time
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
import open_clip
import pandas as pd
import torch
import torch.nn.functional as F
from open_clip.model import CLIP
from PIL import Image
from torch.nn.attention import SDPBackend, sdpa_kernel

IMAGE_SIZE = 32
EMBED_DIM = 128
TEXT = {"context_length": 24, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 2}

#: name -> (image tower in open_clip's terms, peak learning rate)
TOWERS = {
    "RN-1221": ({"layers": [1, 2, 2, 1], "width": 16, "head_width": 32}, 2e-3),
    "RN-2222": ({"layers": [2, 2, 2, 2], "width": 16, "head_width": 32}, 2e-3),
    "ViT-4": ({"layers": 4, "width": 96, "patch_size": 4, "head_width": 48}, 1.5e-3),
    "ConvNeXt-zepto": (
        {"timm_model_name": "convnext_zepto_rms_ols", "timm_pool": "avg", "timm_proj": "linear"},
        1.5e-3,
    ),
    "EdgeNeXt-xxs": (
        {"timm_model_name": "edgenext_xx_small", "timm_pool": "avg", "timm_proj": "linear"},
        1.5e-3,
    ),
}

#: Training-time settings of the image tower that the exported model does not keep.
TRAIN_ONLY = {"ViT-4": {"patch_dropout": 0.5}}

#: Images of each set in a batch of 256.
MIX = {"tiny_imagenet_32px": 88, "cifar10": 90, "caltech101_64px": 46, "mnist": 32}
DIGITS = {
    str(i): w
    for i, w in enumerate(
        ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    )
}
SYNONYMS = {
    "automobile": ["car"],
    "airplane": ["plane"],
    "airplanes": ["airplane"],
    "motorbikes": ["motorbike"],
    "faces": ["face"],
}
TEMPLATES = [
    *["a photo of a {}."] * 4,
    *[
        "a photo of the {}.",
        "a picture of a {}.",
        "an image of a {}.",
        "{}",
        "a blurry photo of a {}.",
        "a drawing of a {}.",
    ],
    # CLIP's seven-template ensemble
    *[
        "itap of a {}.",
        "a bad photo of the {}.",
        "a origami {}.",
        "a photo of the large {}.",
        "a {} in a video game.",
    ],
    *["art of the {}.", "a photo of the small {}."],
]
DIGIT_TEMPLATES = [
    "a photo of a {}.",
    "a photo of the number {}.",
    'a photo of the number: "{}".',
    "the digit {}",
    "{}",
    "a handwritten {}.",
    "a drawing of a {}.",
]


# --- data ------------------------------------------------------------------


def shrink(image, position=0.5):
    """Resize the shorter side to 32 (bicubic, as open_clip does) and crop a square."""
    image = image.convert("RGB")
    scale = IMAGE_SIZE / min(image.size)
    image = image.resize(
        [max(IMAGE_SIZE, round(s * scale)) for s in image.size], Image.Resampling.BICUBIC
    )
    left, top = (round((s - IMAGE_SIZE) * position) for s in image.size)
    return np.asarray(image.crop((left, top, left + IMAGE_SIZE, top + IMAGE_SIZE)))


def read_split(data, name, split, positions=(0.5,)):
    table = pd.read_parquet(Path(data) / f"{name}.parquet")
    table = table[table.split == split]
    images, labels = [], []
    for content, label in zip(table.image, table.label, strict=True):
        with Image.open(io.BytesIO(content)) as image:
            image.load()
            for position in positions if image.width != image.height else (0.5,):
                images.append(shrink(image, position))
                labels.append(label)
    return np.stack(images), np.array(labels, dtype=object)


class TrainingData:
    """All training images in memory, with one caption set per class.

    Labels of two sets that share a word ("umbrella") are one class, so that
    no caption is ever its own negative.
    """

    def __init__(self, data, cache):
        cache = Path(cache)
        if not cache.exists():
            parts = {n: read_split(data, n, "train", (0.0, 0.5, 1.0)) for n in MIX}
            arrays = {
                f"{n}/{k}": v.astype(str) if k == "y" else v
                for n, p in parts.items()
                for k, v in zip("xy", p, strict=True)
            }
            partial = cache.with_suffix(f".{os.getpid()}.npz")
            np.savez(partial, **arrays)
            partial.replace(cache)
        arrays = np.load(cache)
        names_of, class_of, classes = {}, {}, []
        for name in MIX:
            for label in sorted(set(arrays[f"{name}/y"].tolist())):
                words = [w.strip() for w in label.split(", ")]
                words += SYNONYMS.get(label, []) + ([DIGITS[label]] if label in DIGITS else [])
                found = next((names_of[w] for w in words if w in names_of), len(classes))
                if found == len(classes):
                    classes.append([])
                classes[found] += [w for w in words if w not in classes[found]]
                for w in words:
                    names_of.setdefault(w, found)
                class_of[name, label] = found
        self.classes = classes
        self.is_digit_class = [any(w in DIGITS for w in c) for c in classes]
        self.images, self.targets = {}, {}
        for name in MIX:
            self.images[name] = (
                torch.from_numpy(arrays[f"{name}/x"]).permute(0, 3, 1, 2).contiguous()
            )
            self.targets[name] = torch.tensor(
                [class_of[name, label] for label in arrays[f"{name}/y"].tolist()]
            )

    def batch(self, generator):
        x, y, digit = [], [], []
        for name, count in MIX.items():
            rows = torch.randint(len(self.images[name]), (count,), generator=generator)
            x.append(self.images[name][rows])
            y.append(self.targets[name][rows])
            digit.append(torch.full((count,), name == "mnist"))
        digit = torch.cat(digit)
        return augment(torch.cat(x).float() / 255, digit, generator), torch.cat(y)

    def captions(self, targets, generator):
        """One caption for each class of the batch and for 64 others; returns (captions, index of each target)."""
        present = torch.unique(targets)
        others = torch.randperm(len(self.classes), generator=generator)[:64]
        chosen = torch.unique(torch.cat([present, others]))
        texts = []
        for c in chosen.tolist():
            templates = DIGIT_TEMPLATES if self.is_digit_class[c] else TEMPLATES
            r = torch.randint(1 << 30, (2,), generator=generator).tolist()
            texts.append(
                templates[r[0] % len(templates)].format(
                    self.classes[c][r[1] % len(self.classes[c])]
                )
            )
        return texts, torch.searchsorted(chosen, targets)


def augment(x, digit, generator):
    """Zoom, shift, tilt, flips (no digits), light, colour and lower resolutions."""
    n = len(x)

    def uniform(low, high):
        return torch.rand(n, generator=generator) * (high - low) + low

    low = torch.where(digit, 0.6, 0.65)
    high = torch.where(digit, 1.5, 1.15)
    zoom = torch.exp(uniform(0, 1) * (high / low).log() + low.log())  # < 1 looks closer
    # A digit's zoom is of the object, a photograph's of the window.
    window = torch.where(digit, 1 / zoom, zoom)
    aspect = torch.exp(uniform(-0.15, 0.15))
    angle = uniform(-0.15, 0.15)
    flip = torch.where(digit | (uniform(0, 1) < 0.5), 1.0, -1.0)
    room = (1 - window).abs()
    shift = torch.where(digit, 0.15, room + 0.1)
    theta = torch.zeros(n, 2, 3)
    theta[:, 0, 0] = window * aspect * angle.cos() * flip
    theta[:, 0, 1] = -window * angle.sin()
    theta[:, 1, 0] = window * angle.sin() * flip
    theta[:, 1, 1] = window / aspect * angle.cos()
    theta[:, 0, 2] = uniform(-1, 1) * shift
    theta[:, 1, 2] = uniform(-1, 1) * shift
    grid = F.affine_grid(theta, list(x.shape), align_corners=False)
    out = torch.empty_like(x)
    out[digit] = F.grid_sample(x[digit], grid[digit], padding_mode="zeros", align_corners=False)
    out[~digit] = F.grid_sample(
        x[~digit], grid[~digit], padding_mode="reflection", align_corners=False
    )
    x = out
    # Lower resolution: digits as coarse as 8 pixels, photographs as coarse as 16.
    coarse = uniform(0, 1) < torch.where(digit, 0.5, 0.1)
    for kind, sizes in ((digit, (8, 10, 12, 16)), (~digit, (16, 20, 24))):
        rows = (coarse & kind).nonzero().squeeze(1)
        if len(rows):
            size = sizes[int(torch.randint(len(sizes), (1,), generator=generator))]
            small = F.interpolate(x[rows], size=(size, size), mode="area")
            x[rows] = F.interpolate(small, size=(IMAGE_SIZE, IMAGE_SIZE), mode="bicubic").clamp(
                0, 1
            )
    grey = (uniform(0, 1) < 0.1)[:, None, None, None]
    x = torch.where(grey, x.mean(1, keepdim=True), x)
    contrast, light = (
        uniform(0.7, 1.3)[:, None, None, None],
        uniform(-0.15, 0.15)[:, None, None, None],
    )
    tint = (torch.rand(n, 3, 1, 1, generator=generator) - 0.5) * 0.1
    centre = x.mean((1, 2, 3), keepdim=True)
    return ((x - centre) * contrast + centre + light + tint).clamp(0, 1)


# --- model and loss ---------------------------------------------------------


def used_tokens(data):
    """The token ids that any caption of ours can hold, end-of-text last."""
    tokenizer = open_clip.SimpleTokenizer(context_length=TEXT["context_length"])
    texts = [t.format(w) for c in data.classes for w in c for t in TEMPLATES + DIGIT_TEMPLATES]
    return tokenizer, torch.unique(tokenizer(texts))


def contrastive_loss(image, text, scale, own):
    """Image-to-text with smoothing, and text-to-image in which all images of a caption count as right."""
    logits = scale * image @ text.T
    to_text = F.cross_entropy(logits, own, label_smoothing=0.05)
    positive = F.one_hot(own, len(text)).T.float()
    has_image = positive.sum(1) > 0
    positive = positive[has_image] / positive[has_image].sum(1, keepdim=True)
    to_image = -(positive * logits.T[has_image].log_softmax(1)).sum(1).mean()
    return (to_text + to_image) / 2


def train(name, data, out, samples, seed, threads):
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)  # without it Adam's tiny moments make a CPU crawl
    torch.manual_seed(seed)
    folder = Path(out) / name
    folder.mkdir(parents=True, exist_ok=True)
    tower, peak = TOWERS[name]
    tokenizer, tokens = used_tokens(data)
    mean = torch.tensor(open_clip.OPENAI_DATASET_MEAN)[:, None, None]
    std = torch.tensor(open_clip.OPENAI_DATASET_STD)[:, None, None]
    # The vocabulary is compact during training; export puts the rows back in place.
    model = CLIP(
        EMBED_DIM,
        {"image_size": IMAGE_SIZE, **tower, **TRAIN_ONLY.get(name, {})},
        {**TEXT, "vocab_size": len(tokens)},
    )
    model = model.train().to(memory_format=torch.channels_last)
    decay = [p for p in model.parameters() if p.ndim > 1]
    rest = [p for p in model.parameters() if p.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": decay, "weight_decay": 0.1}, {"params": rest, "weight_decay": 0.0}],
        lr=peak,
        betas=(0.9, 0.98),
        fused=True,
    )
    batch_size = sum(MIX.values())
    steps, warmup = samples // batch_size, 250
    done, checkpoint = 0, folder / "checkpoint.pt"
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        done = state["step"]
    start, first, mean_loss = time.time(), done, 0.0
    for step in range(done, steps):
        generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
        rate = peak * min(
            (step + 1) / warmup,
            0.5 * (1 + math.cos(math.pi * max(0, step - warmup) / (steps - warmup))),
        )
        for group in optimizer.param_groups:
            group["lr"] = rate
        x, targets = data.batch(generator)
        texts, own = data.captions(targets, generator)
        ids = torch.searchsorted(tokens, tokenizer(texts))
        # Padding is token 0 and must stay the smallest id: it is, being in `tokens`.
        x = ((x - mean) / std).contiguous(memory_format=torch.channels_last)
        # The fused CPU attention is fast forwards but slow backwards.
        with torch.autocast("cpu", dtype=torch.bfloat16), sdpa_kernel(SDPBackend.MATH):
            image = model.encode_image(x, normalize=True)
            text = model.encode_text(ids, normalize=True)
        loss = contrastive_loss(image.float(), text.float(), model.logit_scale.exp(), own)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        with torch.no_grad():
            model.logit_scale.clamp_(0, math.log(100))
        mean_loss += (loss.item() - mean_loss) / min(step - first + 1, 100)
        if (step + 1) % 250 == 0 or step + 1 == steps:
            speed = (step + 1 - first) * batch_size / (time.time() - start)
            print(
                f"{name} {step + 1}/{steps} loss {mean_loss:.3f} scale {model.logit_scale.exp():.1f} {speed:.0f} img/s",
                flush=True,
            )
            partial = checkpoint.with_suffix(".tmp")
            torch.save(
                {
                    "model": model.state_dict(),
                    "optimizer": optimizer.state_dict(),
                    "step": step + 1,
                    "tokens": tokens,
                },
                partial,
            )
            partial.replace(checkpoint)
    export(name, out, folder / "export")
    evaluate(folder / "export", Path(data.source))


# --- export and evaluation --------------------------------------------------


def export(name, out, target):
    """Write a run's weights as an open_clip ``local-dir:`` folder, in half precision."""
    from safetensors.torch import save_file

    state = torch.load(Path(out) / name / "checkpoint.pt", weights_only=True)
    weights = dict(state["model"])
    embedding = torch.zeros(TEXT["vocab_size"], TEXT["width"])
    embedding[state["tokens"]] = weights["token_embedding.weight"]
    weights["token_embedding.weight"] = embedding
    weights = {
        k: (v.half() if v.is_floating_point() else v).contiguous() for k, v in weights.items()
    }
    target = Path(target)
    target.mkdir(parents=True, exist_ok=True)
    save_file(weights, target / "open_clip_model.safetensors")
    config = {
        "model_cfg": {
            "embed_dim": EMBED_DIM,
            "vision_cfg": {"image_size": IMAGE_SIZE, **TOWERS[name][0]},
            "text_cfg": TEXT,
        },
        "preprocess_cfg": {
            "mean": open_clip.OPENAI_DATASET_MEAN,
            "std": open_clip.OPENAI_DATASET_STD,
            "interpolation": "bicubic",
            "resize_mode": "shortest",
            "size": IMAGE_SIZE,
        },
    }
    (target / "open_clip_config.json").write_text(json.dumps(config, indent=2) + "\n")


def held_out(data):
    from sklearn.datasets import load_digits

    for name in MIX:
        yield name, *read_split(data, name, "test")
    digits = load_digits()
    images = [
        shrink(Image.fromarray(np.round(i * 255 / 16).astype(np.uint8))) for i in digits.images
    ]
    yield "load_digits", np.stack(images), digits.target.astype(str)


@torch.no_grad()
def evaluate(folder, data):
    """Zero-shot accuracy on the held-out splits with the template ``a photo of a {}.``; returns {set: right or wrong}."""
    model, _ = open_clip.create_model_from_pretrained(f"local-dir:{folder}")
    tokenizer = open_clip.get_tokenizer(f"local-dir:{folder}")
    model.eval()
    mean, std = (
        torch.tensor(v)[:, None, None]
        for v in (open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD)
    )
    right = {}
    for name, images, labels in held_out(data):
        classes = sorted(set(labels))
        text = model.encode_text(
            tokenizer([f"a photo of a {c.split(', ')[0]}." for c in classes]), normalize=True
        )
        predicted = []
        for start in range(0, len(images), 500):
            x = torch.from_numpy(images[start : start + 500]).permute(0, 3, 1, 2).float() / 255
            predicted.append(
                (model.encode_image((x - mean) / std, normalize=True) @ text.T).argmax(1)
            )
        right[name] = np.array(classes, dtype=object)[torch.cat(predicted).numpy()] == labels
    print(folder, {k: round(float(v.mean()), 4) for k, v in right.items()}, flush=True)
    return right


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", help=f"which to train, of {list(TOWERS)}")
    parser.add_argument("--data", default=os.environ.get("CLIPENSEMBLE_DATA"))
    parser.add_argument("--out", default="runs")
    parser.add_argument("--samples", type=int, default=1_500_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--evaluate", action="store_true", help="print every model's accuracy and the oracle's"
    )
    parser.add_argument("--export", help="copy all finished models to this folder")
    args = parser.parse_args()
    if args.data is None:
        parser.error("say where the parquet files are: --data FOLDER, or set CLIPENSEMBLE_DATA")
    Path(args.out).mkdir(parents=True, exist_ok=True)
    if args.names:
        data = TrainingData(args.data, Path(args.out) / "training_images.npz")
        data.source = args.data
        for name in args.names:
            train(name, data, args.out, args.samples, args.seed, args.threads)
    if args.export:
        for name in TOWERS:
            export(name, args.out, Path(args.export) / name)
    if args.evaluate:
        right = {
            n: evaluate(Path(args.out) / n / "export", args.data)
            for n in TOWERS
            if (Path(args.out) / n / "export").exists()
        }
        for name in next(iter(right.values())):
            single = np.array([r[name] for r in right.values()])
            print(
                f"{name}: best single {single.mean(1).max():.4f}, oracle {single.any(0).mean():.4f}"
            )


if __name__ == "__main__":
    main()
