"""Find the images of a table that are nearest to a sentence.

The score is how many standard deviations an image is nearer to the sentence than the mean of the
table, averaged over the backbones that read text.

For example:
  clipensemble search table.parquet "a dog on a beach"
  clipensemble search table.parquet "a red car" -n 50 --json
"""

from __future__ import annotations

import argparse
import json

import pandas as pd

from sklearn_clipensemble import ZeroShotLogits
from sklearn_clipensemble._command_line import files
from sklearn_clipensemble.distributed import read_embeddings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what this command takes."""
    parser.add_argument("table", metavar="TABLE", help="what 'clipensemble embed' wrote")
    parser.add_argument("words", metavar="WORDS", help="a sentence, in quotes")
    parser.add_argument("-n", type=int, default=10, metavar="N", help="how many images (10)")
    parser.add_argument(
        "--backbones",
        nargs="+",
        metavar="NAME",
        help="where the table's backbones lie, if they are folders: local-dir:PATH",
    )
    parser.add_argument("--json", action="store_true", help="write one object a line")
    files.add_cache(parser)


def run(args: argparse.Namespace) -> None:
    """Search, and write one line per image."""
    if args.n < 1:
        raise ValueError(f"-n is {args.n}; expected at least 1 image.")
    if not args.words.strip():
        raise ValueError("The sentence is empty; say what the images should show.")
    with files.naming(args.table):
        table = read_embeddings(args.table)
    table = table[table.notna().all(axis=1)]
    # Of the logits only the order and the spread count, so that any second class will do.
    steps = ZeroShotLogits(
        {"wanted": args.words, "other": "a photo"},
        templates="{}",
        passthrough=False,
        backbones=args.backbones,
        cache=args.cache,
    )
    logits = steps.fit_transform(table).filter(regex="__logit__wanted$")
    scores = ((logits - logits.mean()) / logits.std(ddof=0).replace(0, 1)).mean(axis=1)
    for row, score in scores.nlargest(args.n).items():
        described = _describe(table.index.names, row)
        if args.json:
            print(json.dumps(described | {"score": score}))
        else:
            print(f"{score:.2f}", *described.values(), sep="\t")


def _describe(names, row) -> dict:
    """Return what the index of a table says of one row."""
    if len(names) == 1:
        return {names[0] or "row": row}
    return {name: value for name, value in zip(names, row, strict=True) if not pd.isna(value)}
