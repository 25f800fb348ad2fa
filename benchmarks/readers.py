"""What the benchmarks read: image sets, features and logits of real models, and draws of labels."""

import io

import numpy as np
import pandas as pd
from sklearn.datasets import load_digits

from sklearn_clipensemble import CLIPEmbedder, Layout, ZeroShotLogits
from sklearn_clipensemble.table._draws import draw_shots

SHOTS = (1, 2, 4, 8, 16)
REAL, SEEN, TRANSFER, LOGITS = "real features", "seen", "transfer", "real logits"


def read_images(data, name, splits, limit=None):
    from PIL import Image

    table = pd.read_parquet(data / f"{name}.parquet")
    table = table[table.split.isin(splits)]
    if limit and len(table) > limit:
        table = table.sample(limit, random_state=0)
    images = [Image.open(io.BytesIO(content)).convert("RGB") for content in table.image]
    return images, table.label.astype(str).to_numpy(dtype=str)


def corrupted(images, kind, severity):
    from sklearn_clipensemble.corruptions import Corruption

    return Corruption(kind, severity=severity, random_state=0).fit_transform(images)


def digits():
    data = load_digits()
    return list(np.round(data.images * 255 / 16).astype(np.uint8)), data.target.astype(str)


def image_sets(data):
    """Name -> (group, how to load it)."""
    sets = {"load_digits": (TRANSFER, digits)}
    for kind, severity in (("gaussian_noise", 3), ("contrast", 3)):
        sets[f"load_digits {kind}"] = (
            TRANSFER,
            lambda k=kind, s=severity: (corrupted(digits()[0], k, s), digits()[1]),
        )
    if data is None:
        return sets
    seen = {"cifar10": 4000, "caltech101_64px": None, "mnist": None, "tiny_imagenet_32px": 6000}
    for name, limit in seen.items():
        sets[name] = (SEEN, lambda n=name, m=limit: read_images(data, n, ["test"], m))
    for style in ("photo", "art_painting", "cartoon", "sketch"):
        sets[f"pacs {style}"] = (TRANSFER, lambda s=style: read_images(data, "pacs_64px", [s]))
    sets["flowers5"] = (TRANSFER, lambda: read_images(data, "flowers5_64px", ["train", "test"]))
    for name, kind, severity in (
        ("cifar10", "gaussian_noise", 2),
        ("cifar10", "contrast", 3),
        ("cifar10", "pixelate", 3),
        ("caltech101_64px", "gaussian_blur", 2),
    ):

        def load(n=name, k=kind, s=severity):
            images, labels = read_images(data, n, ["test"], seen[n] and 2000)
            return corrupted(images, k, s), labels

        sets[f"{name} {kind}"] = (TRANSFER, load)
    return sets


def words_of(label):
    return label.partition(",")[0].replace("_", " ")


def table_of(name, load, backbones, folder):
    """Embeddings and zero-shot logits of a set, and its labels; kept on disk."""
    file = folder / f"{name.replace(' ', '-')}.parquet"
    if not file.exists():
        images, labels = load()
        backbones = backbones if len(backbones) > 1 else backbones[0]
        embeddings = CLIPEmbedder(backbones).fit_transform(images)
        classes = {label: words_of(label) for label in np.unique(labels)}
        table = ZeroShotLogits(class_names=classes).fit(embeddings, labels).transform(embeddings)
        file.parent.mkdir(parents=True, exist_ok=True)
        table.assign(label=labels).to_parquet(file)
    table = pd.read_parquet(file)
    labels = table.pop("label").to_numpy(dtype=str)
    return table.to_numpy(np.float32), Layout.from_names(table.columns), labels


def real_logits(data):
    """Zero-shot logits of four real models; no embeddings."""
    table = pd.read_parquet(data / "cifar10_clip_logits.parquet")
    labels = table.pop("label").astype(str).to_numpy(dtype=str)
    names = [column.replace("|", "__logit__", 1) for column in table.columns]
    return table.to_numpy(np.float32), Layout.from_names(names), labels


def real_features(data, name):
    """Embeddings by real CLIP models, with zero-shot logits where texts are known.

    Returns the table, its layout, the labels, and which rows may be learnt from.
    """
    arrays = np.load(data / "real_features" / f"{name}.npz", allow_pickle=False)
    backbones = [key[3:] for key in arrays.files if key.startswith("X__")]
    y, split = arrays["y"].astype(int), arrays["split"]
    texts = {b: arrays[f"W__{b}"] for b in backbones if f"W__{b}" in arrays.files}
    classes = np.unique(y)
    if texts:  # only the classes that have one for every backbone
        classes = np.flatnonzero(~np.any([np.isnan(t[:, 0]) for t in texts.values()], axis=0))
    kept = np.isin(y, classes)
    y, split, parts = y[kept], split[kept], []
    for b in backbones:
        embedding = unit(arrays[f"X__{b}"][kept].astype(np.float32))
        parts.append(embedding)
        if texts:
            parts.append(100 * embedding @ unit(texts[b][classes].astype(np.float32)).T)
    names = [f"{c:03}" for c in classes]
    layout = Layout({b: arrays[f"X__{b}"].shape[1] for b in backbones}, names if texts else [])
    if (split == "all").all():  # ten of each class to learn from
        rank = pd.Series(y).groupby(y).cumcount().to_numpy()
        split = np.where(rank < 10, "train", "test")
    return np.hstack(parts), layout, np.array([f"{c:03}" for c in y]), split == "train"


REAL_SETS = (
    "stanford_cars",
    "sun71",
    "imagenet150",
    "caltech101",
    "dtd",
    "oxford_flowers",
    "mini_imagenet",
)


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def half_of(X, layout, y, half):
    """The rows that are reported, or those for choosing constants; at random, the same every time."""
    kept = (np.random.default_rng(0).random(len(y)) < 0.5) == (half == "test")
    return X[kept], layout, y[kept]


def only(X, layout, backbones):
    """The columns of some backbones, and what they are."""
    parts = []
    for b in backbones:
        parts += [layout.embedding(X, b)] if layout.widths[b] else []
        parts += [layout.logits(X, b)] if layout.classes else []
    return np.hstack(parts), Layout({b: layout.widths[b] for b in backbones}, layout.classes)


def of_classes(X, layout, y, classes):
    """The rows and the logits of some classes, and which rows they are."""
    rows, columns, parts = np.isin(y, classes), np.isin(layout.classes, classes), []
    for b in layout.backbones:
        parts += [layout.embedding(X, b)[rows]] if layout.widths[b] else []
        parts += [layout.logits(X, b)[rows][:, columns]] if layout.classes else []
    layout = Layout(layout.widths, np.array(layout.classes)[columns] if layout.classes else [])
    return np.hstack(parts), layout, y[rows], rows


def draw_real(y, train, half, shots, seed, n_test):
    """The same of a set with training rows of its own; the half is of its test rows."""
    learn, rest = np.flatnonzero(train), np.flatnonzero(~train)
    rest = rest[(np.random.default_rng(0).random(len(rest)) < 0.5) == (half == "test")]
    test = np.random.default_rng(seed).permutation(rest)[:n_test]
    return learn[draw_shots(y[learn], shots, seed)], np.sort(test)


def draw(y, shots, seed, n_test):
    """Rows to learn from, nested in ``shots``, and rows to test on, the same for all shots."""
    held = draw_shots(y, max(SHOTS), seed)
    rest = np.setdiff1d(np.arange(len(y)), held)
    # A small class keeps at least a fifth of its images for testing.
    classes, counts = np.unique(y, return_counts=True)
    spare = []
    for label in classes[counts <= max(SHOTS) * 1.25]:
        of_class = held[y[held] == label]
        few = draw_shots(y, int(counts[classes == label][0] * 0.8), seed)
        spare.append(np.setdiff1d(of_class, few))
    spare = np.concatenate(spare) if spare else np.array([], int)
    test = np.random.default_rng(seed).permutation(np.concatenate([rest, spare]))[:n_test]
    return np.setdiff1d(draw_shots(y, shots, seed), spare), np.sort(test)
