"""What the commands read and write: lists of images, models, files that are whole or not there."""

from __future__ import annotations

import argparse
import csv
import io
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import joblib
import numpy as np
from sklearn.pipeline import Pipeline
from sklearn.utils import Bunch

from sklearn_clipensemble import CLIPEmbedder
from sklearn_clipensemble.backbones._weights import user_cache
from sklearn_clipensemble.images._folder import list_folder

IMAGES = (
    "a folder with one sub-folder per class, or of images; a pattern in quotes ('photos/*/*.jpg'); one image; a "
    "CSV file with a column 'path' and perhaps one 'label'; or a text file (.txt, or - for the standard input) "
    "with one path a line"
)


def add_embedding_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of all commands that embed images."""
    parser.add_argument(
        "--device", default="auto", help="a torch device; by default CUDA or MPS where there is one"
    )
    add_cache(parser)
    parser.add_argument("-q", "--quiet", action="store_true", help="show no progress")


def add_cache(parser: argparse.ArgumentParser) -> None:
    """Add the options that say where embeddings are kept."""
    parser.add_argument(
        "--cache",
        default=user_cache(),
        metavar="FOLDER",
        help="where embeddings are kept, so that none is computed twice (%(default)s)",
    )
    parser.add_argument(
        "--no-cache",
        dest="cache",
        action="store_const",
        const=None,
        help="keep them in memory only",
    )


def embedding_options(args: argparse.Namespace) -> dict[str, Any]:
    """Return the parameters of CLIPEmbedder that the options stand for."""
    return {
        "device": args.device,
        "cache": args.cache,
        "on_error": "nan",
        "verbose": int(not args.quiet and sys.stderr.isatty()),
    }


def list_images(source: str, *, labelled: bool = False) -> Bunch:
    """Return ``paths`` and ``target``, the labels, None where there are none and none are needed."""
    kind = Path(source).suffix.lower()
    name = "the standard input" if source == "-" else source
    if source == "-" or kind == ".txt":
        with naming(name):
            lines = io.StringIO(_read(source), newline=None)
        paths = [line.rstrip("\n") for line in lines if line.strip()]
        images = Bunch(paths=np.array(paths, str), target=None)
    elif kind == ".csv":
        with naming(name):
            images = _read_csv(source, labelled)
    elif os.path.isfile(source):
        images = Bunch(paths=np.array([source]), target=None)
    else:
        images = list_folder(source, labelled=labelled)
    if not len(images.paths):
        raise ValueError(f"{name}: it lists no images.")
    if labelled and images.target is None:
        raise ValueError(
            f"{name}: no classes. Put the images of each class into a sub-folder that bears its name, or pass "
            "a CSV file with the columns path and label."
        )
    return images


def _read(source: str) -> str:
    """Return a text; paths in it may hold bytes that are no text."""
    if source == "-":
        text = sys.stdin.read()
    else:
        with open(source, encoding="utf-8", errors="surrogateescape", newline="") as file:
            text = file.read()
    if "\0" in text:
        raise ValueError(
            "it has zero bytes; expected lines of UTF-8, neither UTF-16 nor what 'find -print0' writes."
        )
    return text.removeprefix("\ufeff")  # the mark that Windows puts first


def _read_csv(source: str, labelled: bool) -> Bunch:
    """Return what a CSV file has in its columns ``path`` and ``label``."""
    lines = csv.reader(io.StringIO(_read(source), newline=""))
    names = next(lines, [])
    for name in ("path", "label") if labelled else ("path",):
        if name not in names:
            raise ValueError(f"it has no column {name!r}; its columns are {names}.")
    if labelled and "probability" in names:
        raise ValueError("it holds answers of 'predict', which are no true labels.")
    rows = []
    for row in lines:
        if row and len(row) != len(names):
            raise ValueError(
                f"line {lines.line_num} has {len(row)} value{'s' * (len(row) > 1)}, the first line {len(names)}. "
                "Values that hold a comma belong in quotes."
            )
        if row and labelled and not _is_utf8(label := row[names.index("label")]):
            raise ValueError(
                f"the label {label!r} in line {lines.line_num} is no UTF-8. Save the file as UTF-8."
            )
        rows += [row] if row else []
    columns = dict(zip(names, zip(*rows, strict=True), strict=True)) if rows else {"path": ()}
    target = np.array(columns["label"], str) if "label" in columns else None
    return Bunch(paths=np.array(columns["path"], str), target=target)


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def load_model(path: str) -> Pipeline:
    """Return the pipeline of a file that ``fit`` wrote."""
    if not os.path.exists(path):
        raise FileNotFoundError(f"There is no file {path!r}.")
    with naming(path):
        if os.path.isfile(path) and not os.path.getsize(path):
            raise ValueError("no model that can be loaded (the file is empty).")
        try:
            model = joblib.load(path)
        except OSError:
            raise
        except Exception as error:
            raise ValueError(
                f"no model that can be loaded ({type(error).__name__}: {error})."
            ) from error
        model = getattr(model, "best_estimator_", model)
        if not isinstance(model, Pipeline) or not isinstance(model[0], CLIPEmbedder):
            raise ValueError(
                f"it holds {type(model).__name__}; expected a pipeline that begins with CLIPEmbedder, as "
                "'clipensemble fit' writes it."
            )
    return model


def read_rows(
    embedder: CLIPEmbedder, paths: np.ndarray, errors: dict[int, Exception], quiet: bool
) -> Iterator[np.ndarray]:
    """Yield the embeddings of one batch of images after the other, and tell at the end how it went."""
    n_first, began = 0, 0.0
    for rows in embedder._rows(paths, errors):
        if not n_first:  # torch and the models are loaded by now, which says nothing of speed
            n_first, began = len(rows), time.monotonic()
        yield rows
    n, n_failed = len(paths), len(errors)
    if n_failed == n:
        raise ValueError(f"None of the {n} images could be read. The first: {_why(paths, errors)}.")
    if n_failed:
        note(f"{n_failed} of {n} images could not be read. The first: {_why(paths, errors)}")
    if not quiet:
        speed = (n - n_first) / max(time.monotonic() - began, 1e-9)
        note(f"{n} images" + (f", {speed:.1f} images/s" if speed else ""))


def _why(paths, errors):
    row, error = min(errors.items(), key=lambda item: item[0])
    return f"{paths[row]}: {' '.join(str(error).split()).rstrip('.') or type(error).__name__}"


def note(text: str) -> None:
    """Write a line to the standard error."""
    print(text, file=sys.stderr, flush=True)


@contextmanager
def naming(path: str) -> Iterator[None]:
    """Put a path before the message of an error that does not name it."""
    try:
        yield
    except Exception as error:
        if path in str(error):
            raise
        kind = type(error) if type(error) in (OSError, ValueError, ImportError) else ValueError
        raise kind(f"{path}: {' '.join(str(error).split())}") from error


def create(path: str) -> Any:
    """Open a text file to write, in which paths may hold bytes that are no text."""
    return open(path, "w", encoding="utf-8", errors="surrogateescape", newline="")


@contextmanager
def draft(path: str) -> Iterator[str]:
    """Give a file to write beside the one that is meant, whose place it takes once it is whole.

    What is no file, such as a device or a pipe, is written to and never replaced, and what a link leads to is
    meant, not the link.
    """
    folder = os.path.dirname(path) or "."
    if not os.path.isdir(folder):
        raise FileNotFoundError(f"{path}: there is no folder {folder!r} to write it to.")
    if os.path.isdir(path):
        raise IsADirectoryError(f"{path}: it is a folder; expected the name of a file to write.")
    if os.path.exists(path) and not os.path.isfile(path):
        yield path
        return
    path = os.path.realpath(path)
    folder = os.path.dirname(path)
    descriptor, name = tempfile.mkstemp(dir=folder, prefix=".clipensemble-")
    os.close(descriptor)
    try:
        yield name
        # Temporary files are read by their owner only; others have the user's own rights, or keep theirs.
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(name, os.stat(path).st_mode & 0o777 if os.path.exists(path) else 0o666 & ~mask)
        os.replace(name, path)
    finally:
        with suppress(FileNotFoundError):
            os.unlink(name)
