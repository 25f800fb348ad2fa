"""Tell the classes of images, with probabilities and the backbones' weights.

One row for each image, in order: path, label, its probability, how much each backbone counted, and an
error in place of them where an image could not be read. --json writes one object a line, with the
probabilities of all classes.

A model is a pickle: loading one runs code that is in it. Load none that you do not trust.

For example:
  clipensemble predict model.joblib new_photos -o answers.csv
  clipensemble predict model.joblib photo.jpg
  find . -name '*.jpg' | clipensemble predict model.joblib - --json
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections.abc import Iterator

import numpy as np
import pandas as pd

from sklearn_clipensemble._command_line import files


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what this command takes."""
    parser.add_argument("model", metavar="MODEL", help="a file that 'clipensemble fit' wrote")
    parser.add_argument("images", metavar="IMAGES", help=files.IMAGES)
    parser.add_argument(
        "-o", "--output", metavar="FILE", help="where to write, in place of the standard output"
    )
    parser.add_argument(
        "--json", action="store_true", help="one JSON object a line, in place of CSV"
    )
    files.add_embedding_options(parser)


def run(args: argparse.Namespace) -> None:
    """Predict, and write one row per image."""
    model = files.load_model(args.model)
    images = files.list_images(args.images)
    write = _write_json if args.json else _write_csv
    if args.output in (None, "-"):
        write(model, images.paths, args, sys.stdout)
        return
    with files.draft(args.output) as name, files.create(name) as file:
        write(model, images.paths, args, file)


def _write_json(model, paths, args, file):
    classes = list(map(str, model.classes_.tolist()))
    for path, error, p, weights in _answers(model, paths, args):
        answer: dict = {"path": path, "label": None, "probability": None}
        if error is None:
            answer |= {"label": model.classes_[p.argmax()].item(), "probability": p.max()}
            answer["probabilities"] = dict(zip(classes, p.tolist(), strict=True))
            answer["weights"] = dict(zip(_weighted(model), weights.tolist(), strict=True))
        print(json.dumps(answer | {"error": error}), file=file)


def _write_csv(model, paths, args, file):
    writer = csv.writer(file, lineterminator="\n")
    weights = [f"{backbone}__weight" for backbone in _weighted(model)]
    writer.writerow(["path", "label", "probability", *weights, "error"])
    for path, error, p, weights in _answers(model, paths, args):
        answer = (model.classes_[p.argmax()], p.max(), *weights) if error is None else ()
        missing = [""] * (2 + len(_weighted(model)) - len(answer))
        numbers = [f"{x:.4f}" if isinstance(x, float) else x for x in answer]
        writer.writerow([path, *numbers, *missing, error])


def _weighted(model) -> list[str]:
    """Return the backbones that have weights, none where the last step gives them none."""
    return model[-1].backbones_ if hasattr(model[-1], "combination_weights") else []


def _answers(model, paths, args) -> Iterator[tuple[str, str | None, np.ndarray, np.ndarray]]:
    """Yield of one image after the other its path, why it could not be read, probabilities and weights."""
    embedder, steps, combiner = model[0], model.named_steps.values(), model[-1]
    embedder.set_params(**files.embedding_options(args))
    columns = embedder.get_feature_names_out()
    errors: dict[int, Exception] = {}
    start = 0
    for rows in files.read_rows(embedder, paths, errors, args.quiet):
        told = [errors.get(row) for row in range(start, start + len(rows))]
        read = np.array([error is None for error in told])
        probabilities = np.full((len(rows), len(model.classes_)), np.nan)
        weights = np.full((len(rows), len(_weighted(model))), np.nan)
        if read.any():
            table = pd.DataFrame(rows[read], columns=columns)
            for step in list(steps)[1:-1]:
                table = step.transform(table)
            probabilities[read] = combiner.predict_proba(table)
            if _weighted(model):
                weights[read] = combiner.combination_weights(table)
        for i, error in enumerate(told):
            reason = None if error is None else str(error) or type(error).__name__
            yield str(paths[start + i]), reason, probabilities[i], weights[i]
        start += len(rows)
