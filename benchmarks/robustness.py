"""Which architecture family withstands which corruption, and what the ensembles make of it.

The ensembles learn from 16 clean images per class of the train split; all
methods answer the same corrupted test images, at the size at which the
backbones see them. Reads ``cifar10.parquet`` and ``caltech101_64px.parquet`` from
``--data``; writes a long table, a Markdown table and a picture to ``--out``.
A run that was cut short goes on where it stopped::

    python -m benchmarks.robustness --data FOLDER --out runs/robustness
    python -m benchmarks.robustness --data FOLDER --out runs/quick --quick
"""

import argparse
import io
import os
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from sklearn.base import clone
from sklearn.pipeline import make_pipeline
from tqdm.auto import tqdm

from sklearn_clipensemble import (
    AdaptiveBackboneEnsemble,
    CLIPEmbedder,
    FewShotSplit,
    Layout,
    ZeroShotLogits,
)
from sklearn_clipensemble.corruptions import CORRUPTIONS, Corruption
from sklearn_clipensemble.ensembles import ProbabilityAverage, SingleBackbone, SuperLearner
from sklearn_clipensemble.heads import LogisticHead
from sklearn_clipensemble.inspection import RobustnessDisplay, oracle_score

SETS = {"cifar10": "cifar10.parquet", "caltech101": "caltech101_64px.parquet"}
COMBINERS = {
    "probability average": ProbabilityAverage(),
    "Super Learner": SuperLearner(),
    "logistic regression": LogisticHead(),
    "adaptive": AdaptiveBackboneEnsemble(),
}
SIZE, SHOTS = 32, 16
ONE_STRENGTH = ("horizontal_flip", "vertical_flip", "greyscale")
FAMILIES = {
    "noise": ("gaussian_noise", "shot_noise", "impulse_noise", "speckle_noise"),
    "blur": ("gaussian_blur", "defocus_blur", "motion_blur", "zoom_blur"),
    "light and weather": ("fog", "brightness", "contrast", "saturate", "greyscale"),
    "digital": ("pixelate", "jpeg_compression"),
    "geometry": ("elastic_transform", "rotate", "horizontal_flip", "vertical_flip"),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, default=os.environ.get("CLIPENSEMBLE_DATA"))
    parser.add_argument("--out", type=Path, default=Path("runs/robustness"))
    parser.add_argument("--backbones", default="tiny")
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--n-test", type=int, default=1000, help="test images per set")
    parser.add_argument("--severities", type=int, nargs="+", default=[1, 3, 5])
    parser.add_argument("--quick", action="store_true", help="100 images, three corruptions")
    args = parser.parse_args()
    if args.data is None:
        parser.error("say where the parquet files are: --data FOLDER")
    names = list(CORRUPTIONS)
    if args.quick:
        args.n_test, args.severities, names = 100, [3], ["gaussian_noise", "fog", "greyscale"]
    args.out.mkdir(parents=True, exist_ok=True)
    scores = pd.concat([measure(args, name, names) for name in args.sets], ignore_index=True)
    scores.to_csv(args.out / "robustness.csv", index=False)
    text = summarise(scores)
    (args.out / "robustness.md").write_text(text)
    print(text)
    draw(scores, args.out / "robustness.png")


def crop(image, size):
    """The middle of an image, as pixels: its shorter side at the size at which a backbone sees it."""
    image = image.convert("RGB")
    scale = size / min(image.size)
    image = image.resize([max(size, round(s * scale)) for s in image.size], Image.BICUBIC)
    left, top = ((s - size) // 2 for s in image.size)
    return np.asarray(image.crop((left, top, left + size, top + size)))


def load(path, n_test):
    """Images at the backbones' size: sixteen per class to learn from, and the test images."""
    data = pd.read_parquet(path)

    train, test = (data[data["split"] == split] for split in ("train", "test"))
    shots, _ = next(
        FewShotSplit(SHOTS, 1, rare="take", random_state=0).split(train["label"], train["label"])
    )
    train = train.iloc[shots]
    test = test.sample(min(n_test, len(test)), random_state=0)
    parts = [
        [crop(Image.open(io.BytesIO(row)), SIZE) for row in part["image"]] for part in (train, test)
    ]
    return parts[0], train["label"].to_numpy(str), parts[1], test["label"].to_numpy(str)


def measure(args, set_name, names):
    """Score every method under every condition of one set; finished conditions are read back."""
    conditions = [("none", 0)] + [
        (name, severity)
        for name in names
        for severity in ([1] if name in ONE_STRENGTH else args.severities)
    ]
    stem = args.out / "parts" / f"{args.backbones}-{set_name}-{args.n_test}"
    parts = {c: stem.with_name(f"{stem.name}-{c[0]}-{c[1]}.csv") for c in conditions}
    missing = [condition for condition in conditions if not parts[condition].exists()]
    if missing:
        stem.parent.mkdir(exist_ok=True)
        images, y, test, y_test = load(args.data / SETS[set_name], args.n_test)
        front = make_pipeline(CLIPEmbedder(args.backbones, cache=False), ZeroShotLogits())
        table = front.fit_transform(images, y)
        backbones = Layout.from_names(table.columns).backbones
        methods = {backbone: SingleBackbone(backbone) for backbone in backbones} | COMBINERS
        methods = {name: clone(method).fit(table, y) for name, method in methods.items()}
    for name, severity in tqdm(missing, desc=set_name):
        corrupted = Corruption(name, severity).transform(test) if severity else test
        answers = front.transform(corrupted)
        row = {method: fitted.score(answers, y_test) for method, fitted in methods.items()}
        row["oracle"] = oracle_score(answers, y_test)
        finished = pd.DataFrame({"method": list(row), "accuracy": list(row.values())})
        finished.insert(0, "severity", severity)
        finished.insert(0, "corruption", name)
        finished.insert(0, "set", set_name)
        # Written aside first, so that a run that is cut short leaves no half of a file.
        aside = parts[name, severity].with_suffix(".part")
        finished.to_csv(aside, index=False)
        aside.rename(parts[name, severity])
    return pd.concat([pd.read_csv(part, keep_default_na=False) for part in parts.values()])


def summarise(scores):
    """Mean accuracy over sets and severities, by family of corruptions and by corruption."""
    methods = list(dict.fromkeys(scores["method"]))
    mean = scores.groupby(["corruption", "method"])["accuracy"].mean().unstack()[methods]
    lines = ["| corruption | " + " | ".join(methods) + " |", "|---" * (len(methods) + 1) + "|"]

    def line(name, values):
        backbones = values[: methods.index("probability average")]
        others = values[methods.index("probability average") : -1]
        cells = []
        for i, value in enumerate(values):
            best = value == (max(backbones) if i < len(backbones) else max(others))
            text = f"{100 * value:.1f}"
            cells.append(f"**{text}**" if best and i < len(methods) - 1 else text)
        return f"| {name} | " + " | ".join(cells) + " |"

    lines.append(line("none", mean.loc["none"].tolist()))
    for family, members in FAMILIES.items():
        present = [name for name in members if name in mean.index]
        if present:
            lines.append(line(f"*{family}*", mean.loc[present].mean().tolist()))
            lines += [line(name.replace("_", " "), mean.loc[name].tolist()) for name in present]
    corrupted = mean.drop(index="none")
    lines.append(line("*all corruptions*", corrupted.mean().tolist()))
    return "\n".join(lines) + "\n"


def draw(scores, path):
    import matplotlib

    matplotlib.use("Agg")
    mean = scores.groupby(["corruption", "severity", "method"], sort=False)["accuracy"].mean()
    shown = mean.reset_index()
    left_out = ("oracle", "Super Learner", "logistic regression")
    shown = shown[~shown["method"].isin(left_out)]
    RobustnessDisplay.from_scores(shown, highlight="adaptive").figure_.savefig(path, dpi=100)


if __name__ == "__main__":
    main()
