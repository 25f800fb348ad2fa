"""Embed images with several backbones, into one table.

The table has a row for each image: its path, its label where images lie in sub-folders, why it
could not be read if so, and one column of numbers for each backbone. Interrupted, the same command goes
on where it was. sklearn_clipensemble.distributed.read_embeddings reads the table in Python.

For example:
  clipensemble embed photos -o table.parquet
  clipensemble embed 'archive/**/*.jpg' -o table.parquet --backbones openai
  find . -name '*.jpg' | clipensemble embed - -o table.parquet
  clipensemble embed list.txt -o embeddings/ --ray
"""

from __future__ import annotations

import argparse
import os
import time
from typing import Any

import numpy as np
import pandas as pd

from sklearn_clipensemble import CLIPEmbedder
from sklearn_clipensemble._command_line import files

#: Rows that are held in memory until they are written.
_ROWS = 4096
#: Endings of tables that are not parquet.
_OTHER_TABLES = {".arrow", ".csv", ".feather", ".h5", ".json", ".npy", ".npz", ".tsv", ".xlsx"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what this command takes."""
    parser.add_argument("images", metavar="IMAGES", help=files.IMAGES)
    parser.add_argument(
        "-o", "--output", required=True, metavar="TABLE", help="the file to write, parquet"
    )
    add_backbones(parser)
    parser.add_argument(
        "--ray",
        action="store_true",
        help="on a Ray cluster: that of RAY_ADDRESS, or one on this machine; TABLE is a folder then, which "
        "remembers by itself what was embedded",
    )
    files.add_embedding_options(parser)


def add_backbones(parser: argparse.ArgumentParser) -> None:
    """Add the option that names backbones."""
    parser.add_argument(
        "--backbones",
        nargs="+",
        default=["openai-small"],
        metavar="NAME",
        help="presets (openai-small, openai, tiny) or names, see 'clipensemble backbones' (openai-small)",
    )


def run(args: argparse.Namespace) -> None:
    """Embed images."""
    name, ending = os.path.splitext(args.output)
    if ending.lower() in _OTHER_TABLES:
        raise ValueError(f"{args.output}: tables are parquet; name it {name}.parquet.")
    images = files.list_images(args.images)
    (_embed_on_ray if args.ray else _embed_here)(images, args)


def _embed_here(images, args):
    try:
        import pyarrow.parquet as pq
    except ImportError as error:
        raise ImportError(
            "Tables are parquet, for which pyarrow is missing: pip install pyarrow."
        ) from error
    embedder = CLIPEmbedder(args.backbones, **files.embedding_options(args)).fit(images.paths)
    errors: dict[int, Exception] = {}
    writer: Any = None
    start = 0
    with files.draft(args.output) as name:
        try:
            for rows in _in_chunks(files.read_rows(embedder, images.paths, errors, args.quiet)):
                part = _as_arrow(embedder, rows, images, start, errors)
                writer = writer or pq.ParquetWriter(name, part.schema, compression="zstd")
                writer.write_table(part)
                start += len(rows)
        finally:
            if writer is not None:
                writer.close()


def _in_chunks(batches):
    waiting: list[np.ndarray] = []
    for rows in batches:
        waiting.append(rows)
        if sum(map(len, waiting)) >= _ROWS:
            yield np.concatenate(waiting)
            waiting = []
    if waiting:
        yield np.concatenate(waiting)


def _as_arrow(embedder, rows, images, start, errors) -> Any:
    """Return some rows as a pyarrow table."""
    import pyarrow as pa

    here = slice(start, start + len(rows))
    columns = {"path": pa.array(_as_texts(images.paths[here]), pa.string())}
    if images.target is not None:
        columns["label"] = pa.array(_as_texts(images.target[here]), pa.string())
    told = [str(errors[i]) if i in errors else None for i in range(here.start, here.stop)]
    columns["error"] = pa.array(told, pa.string())
    for column, vectors in embedder._layout.pack(rows).items():
        flat = pa.array(np.ascontiguousarray(vectors).ravel())
        columns[column] = pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1])
    return pa.table(columns)


def _as_texts(names) -> list[str | None]:
    """Return names of files and folders; they may hold bytes that are no text, which parquet cannot."""
    return [
        None if name is None else os.fsencode(name).decode("utf-8", "backslashreplace")
        for name in names
    ]


def _embed_on_ray(images, args):
    from sklearn_clipensemble.distributed import embed

    columns = {"path": images.paths}
    if images.target is not None:
        columns["label"] = _as_texts(images.target)
    began = time.monotonic()
    options = files.embedding_options(args)
    done = embed(
        pd.DataFrame(columns, dtype=object),
        args.output,
        backbones=args.backbones,
        column="path",
        on_error="nan",
        verbose=options["verbose"],
    )
    if not args.quiet:
        seconds = time.monotonic() - began
        files.note(
            f"{done.n_new} new images, {done.n_rows} in {args.output}, {done.n_unreadable} of them "
            f"unreadable, {done.n_new / seconds:.1f} images/s"
        )
