"""List backbones and what they cost, the cheapest first.

Without names: the bundled ones, and OpenAI's nine. GFLOPs are those of one image, parameters
millions of the image tower, downloads megabytes; accuracy is the published zero-shot one on ImageNet.

For example:
  clipensemble backbones
  clipensemble backbones openai-small timm:vit_small_patch14_dinov2.lvd142m
  clipensemble backbones --all --json
"""

from __future__ import annotations

import argparse
import json

from sklearn_clipensemble import list_backbones


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what this command takes."""
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help="presets, names of backbones, folders"
    )
    parser.add_argument(
        "--all", action="store_true", help="all that open_clip publishes weights for"
    )
    parser.add_argument("--json", action="store_true", help="write a list of objects")


def run(args: argparse.Namespace) -> None:
    """List backbones."""
    table = list_backbones(args.names or None, all=args.all).reset_index()
    if args.json:
        print(json.dumps(json.loads(table.to_json(orient="records")), indent=2))
    else:
        print(table.to_string(index=False, na_rep="-"))
