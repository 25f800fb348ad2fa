"""Write a page that shows what the backbones and their ensemble answer, beside the true classes.

One HTML file: who gets what right, accuracy against the number of labels and against cost, weights,
calibration, the worst classes, images on which backbones disagree. Show it images that the model has
not learnt from: those that 'fit --rest' lists.

A model is a pickle: loading one runs code that is in it. Load none that you do not trust.

For example:
  clipensemble report model.joblib rest.csv -o report.html
  clipensemble report model.joblib test_photos -o report.html
"""

from __future__ import annotations

import argparse

import numpy as np

from sklearn_clipensemble._command_line import files


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what this command takes."""
    parser.add_argument("model", metavar="MODEL", help="a file that 'clipensemble fit' wrote")
    parser.add_argument("images", metavar="IMAGES", help=files.IMAGES + ". Classes are needed")
    parser.add_argument("-o", "--output", required=True, metavar="HTML", help="the file to write")
    files.add_embedding_options(parser)


def run(args: argparse.Namespace) -> None:
    """Write the report."""
    from sklearn_clipensemble.inspection import report

    model = files.load_model(args.model)
    images = files.list_images(args.images, labelled=True)
    options = files.embedding_options(args)
    model[0].set_params(**options)
    errors: dict[int, Exception] = {}
    for _ in files.read_rows(model[0], images.paths, errors, args.quiet):
        pass  # embedded once, and kept: what follows knows which images can be read
    read = np.array([row not in errors for row in range(len(images.paths))])
    with files.draft(args.output) as name:
        report(
            model, images.paths[read], images.target[read], path=name, verbose=options["verbose"]
        )
    if not args.quiet:
        files.note(f"{args.output}: {read.sum()} images of {len(np.unique(images.target))} classes")
