"""Learn to tell the classes of a folder apart, from a few images of each.

The names of the sub-folders are the classes, and their words are read by the backbones: "golden_retriever",
not "class_7"; --class-names gives words to others. All images are learnt from, or with --shots a few of
each class, drawn at random; --rest lists the others, to judge the model by.

For example:
  clipensemble fit photos -o model.joblib
  clipensemble fit photos -o model.joblib --shots 16 --rest rest.csv
  clipensemble report model.joblib rest.csv -o report.html
  clipensemble fit labels.csv -o model.joblib --backbones ViT-L-14 timm:vit_small_patch14_dinov2.lvd142m
"""

from __future__ import annotations

import argparse
import csv
import json
import os

import joblib
from sklearn.pipeline import make_pipeline

from sklearn_clipensemble import (
    AdaptiveBackboneEnsemble,
    CLIPEmbedder,
    FewShotSplit,
    ZeroShotLogits,
)
from sklearn_clipensemble._command_line import files
from sklearn_clipensemble._command_line.embed import add_backbones
from sklearn_clipensemble.backbones import resolve


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what this command takes."""
    parser.add_argument("images", metavar="IMAGES", help=files.IMAGES + ". Classes are needed")
    parser.add_argument("-o", "--output", required=True, metavar="MODEL", help="the file to write")
    add_backbones(parser)
    parser.add_argument(
        "--shots",
        type=int,
        metavar="K",
        help="learn from K images of each class; of a class with no more, from all but one",
    )
    parser.add_argument(
        "--rest",
        metavar="CSV",
        help="where to list the images that --shots left, with their classes",
    )
    parser.add_argument("--seed", type=int, default=0, help="decides which are drawn (0)")
    parser.add_argument(
        "--class-names", metavar="JSON", help='a file such as {"n01440764": "tench", ...}'
    )
    parser.add_argument(
        "--templates",
        nargs="+",
        default=["a photo of a {}."],
        metavar="TEXT",
        help="sentences that the words are put into; openai-80 and openai-7 are CLIP's own ('a photo of a {}.')",
    )
    files.add_embedding_options(parser)


def run(args: argparse.Namespace) -> None:
    """Fit a pipeline and save it."""
    if args.shots is not None and args.shots < 1:
        raise ValueError(f"--shots is {args.shots}; expected at least 1 image of each class.")
    if args.rest and args.shots is None:
        raise ValueError("--rest lists what --shots leaves: say how many images with --shots.")
    images = files.list_images(args.images, labelled=True)
    paths, labels = images.paths, images.target
    if args.shots is not None:
        split = FewShotSplit(args.shots, 1, rare="take", random_state=args.seed)
        drawn, rest = next(split.split(labels, labels))
        if args.rest:
            with files.draft(args.rest) as name, files.create(name) as file:
                writer = csv.writer(file, lineterminator="\n")
                writer.writerow(["path", "label"])
                writer.writerows(zip(paths[rest], labels[rest], strict=True))
        paths, labels = paths[drawn], labels[drawn]
    clf = _pipeline(args)
    with files.draft(args.output) as name:
        clf.fit(paths, labels)
        # What belongs to this machine and this run stays here.
        clf[0].set_params(device="auto", cache=None, verbose=0)
        for step in clf[1:-1]:
            step.set_params(cache=None)
        joblib.dump(clf, name)
        size = os.path.getsize(name)
    if not args.quiet:
        files.note(
            f"{args.output}: {len(clf.classes_)} classes from {len(paths)} images, "
            f"{len(clf[0].backbones_)} backbones, {size / 1e6:.1f} MB"
        )


def _pipeline(args):
    """Return the steps, unfitted."""
    steps = [CLIPEmbedder(args.backbones, **files.embedding_options(args))]
    if any(backbone.has_text for backbone in resolve(args.backbones)):
        names = None
        if args.class_names:
            with files.naming(args.class_names), open(args.class_names, encoding="utf-8") as file:
                names = json.load(file)
        templates = args.templates[0] if len(args.templates) == 1 else args.templates
        steps.append(ZeroShotLogits(names, templates=templates, cache=args.cache))
    return make_pipeline(*steps, AdaptiveBackboneEnsemble())
