"""The command ``clipensemble``: one module for each subcommand, whose docstring is its help."""

from __future__ import annotations

import argparse
import inspect
import os
import sys
import warnings
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from sklearn_clipensemble import __version__
from sklearn_clipensemble._command_line import backbones, embed, fit, predict, report, search

_COMMANDS = (backbones, embed, fit, predict, report, search)
_DESCRIPTION = """\
Several CLIP backbones as one image classifier.

  clipensemble fit photos -o model.joblib          one sub-folder of photos per class
  clipensemble predict model.joblib new_photos     their classes, with probabilities
"""
_EPILOG = """\
Data goes to the standard output or to the file of -o, all else to the standard error.
Exit codes: 0 done, 1 failed (one line says why), 2 wrong usage, 130 interrupted.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line, and return its exit code."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # it was closed, as for some services
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115
    # Paths may hold bytes that are no text.
    as_bytes, shown = "surrogateescape", "backslashreplace"
    stream: Any
    for stream, errors in ((sys.stdin, as_bytes), (sys.stdout, as_bytes), (sys.stderr, shown)):
        with suppress(AttributeError):
            stream.reconfigure(encoding="utf-8", errors=errors)
    args = _parse(argv)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _warn
            args.run(args)
            sys.stdout.flush()
        return 0
    except KeyboardInterrupt:
        kept = getattr(args, "cache", None) is not None
        _say("interrupted" + (": the same command goes on from there" * kept))
        return 130
    except BrokenPipeError:  # whoever read has seen enough, as with "| head"
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if args.debug:
            raise
        _say(f"error: {_in_one_line(error)}")
        return 1


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = _parser()
    args, more = parser.parse_known_args(argv)
    if more:
        hint = ". IMAGES is one argument: put a pattern in quotes, or pass a list of paths"
        several = hasattr(args, "images") and os.path.exists(more[-1])
        parser.error(f"unrecognized arguments: {' '.join(more)}{hint if several else ''}")
    return args


class _PositionsFirst(argparse.RawDescriptionHelpFormatter):
    """Show what is needed, and in an order that works: ``--backbones A B`` takes all names after it."""

    def add_usage(self, usage, actions, groups, prefix=None):
        """Write the usage, unless it is given."""
        needed = [str(a.metavar) for a in actions if not a.option_strings and a.required]
        asked = [
            f"{a.option_strings[0]} {a.metavar}" for a in actions if a.option_strings and a.required
        ]
        maybe = [f"[{a.metavar} ...]" for a in actions if not a.option_strings and not a.required]
        words = ["%(prog)s", *needed, *maybe, *asked, "[options]"]
        super().add_usage(usage or " ".join(words), actions, groups, prefix)


def _parser() -> argparse.ArgumentParser:
    plain = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        "clipensemble", description=_DESCRIPTION, epilog=_EPILOG, formatter_class=plain
    )
    parser.add_argument("--version", action="version", version=f"clipensemble {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for module in _COMMANDS:
        name = module.__name__.rpartition(".")[2]
        text = inspect.getdoc(module) or ""
        summary = text.partition("\n")[0]
        command = commands.add_parser(
            name, help=summary, description=text, formatter_class=_PositionsFirst
        )
        module.add_arguments(command)
        command.add_argument("--debug", action="store_true", help="show where an error came from")
        command.set_defaults(run=module.run)
    return parser


def _warn(message, category, filename, lineno, file=None, line=None):
    """Show a warning in one line, without where in the code it came from."""
    _say(f"warning: {_in_one_line(message)}")


def _say(text: str) -> None:
    print(f"clipensemble: {text}", file=sys.stderr, flush=True)


def _in_one_line(error) -> str:
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        text = f"{os.fsdecode(error.filename)}: {error.strerror}"
    else:
        text = " ".join(str(error).split())
    kind = type(error).__name__
    # What is expected to go wrong is told in sentences; of the rest the kind is half the message.
    told = (OSError, ValueError, TypeError, ImportError, RuntimeError, MemoryError, Warning)
    return text if text and isinstance(error, told) else f"{kind}: {text}".rstrip(": ")
