"""The command: ``python -m benchmarks.paper``."""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import time
from pathlib import Path

import pandas as pd
from joblib.externals.loky import get_reusable_executor

from benchmarks.paper import __doc__ as about
from benchmarks.paper import cells
from benchmarks.paper.figures import draw
from benchmarks.paper.plan import plan
from benchmarks.paper.report import write_report, write_tables
from benchmarks.paper.study import STEPS, Study
from benchmarks.paper.suites import SUITES
from benchmarks.paper.tables import PROMPTS, TABLES, markdown
from benchmarks.paper.verify import TOLERANCE, verify

#: What is made from the files of results.
_MADE = ("tables", "figures", "report")


def main(argv: list[str] | None = None) -> int:
    """Run what the arguments ask for; return the exit status."""
    args = _parse(argv)
    study = Study(args.suite, args.out, args.data)
    if args.command == "verify":
        return _verify(study)
    if args.dry_run:
        print(plan(study, [s for s in args.steps if s in STEPS]))
        return 0
    _same_settings(study)
    start = time.perf_counter()
    problems = []
    for step in (s for s in args.steps if s in STEPS):
        todo = STEPS[step](study)
        n_jobs = args.n_jobs if step != "embed" or study.suite.side_by_side else 1
        problems.append(cells.run(todo, study.out, n_jobs))
    if problems:
        found = pd.concat(problems, ignore_index=True)
        _keep_problems(found, study.out, args.steps)
        print(markdown(found) if len(found) else "Nothing was left out.")
    if "tables" in args.steps:
        write_tables(study)
    if "figures" in args.steps:
        draw(study)
    if "report" in args.steps:
        print(f"The report: {write_report(study)}")
    get_reusable_executor().shutdown(wait=True)  # its time counts once it is over
    used = sum(resource.getrusage(who).ru_utime for who in _WHO)
    print(f"{(time.perf_counter() - start) / 60:.1f} minutes, {used / 60:.1f} of CPU")
    return int(any((p.kind == "failed").any() for p in problems))


_WHO = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)


def _parse(argv):
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.paper",
        description=about,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="The reviewers' questions, each with its table in OUT/tables:\n"
        + "\n".join(
            f"  {t.question}  --steps {' '.join((*t.steps, 'tables'))}  ({name}.md)"
            for name, t in TABLES.items()
            if t.question
        ),
    )
    parser.add_argument(
        "command", nargs="?", default="run", choices=["run", "verify"],
        help="verify: zero-shot accuracies in OUT beside the published ones",
    )  # fmt: skip
    parser.add_argument("--suite", choices=list(SUITES), default="full")
    parser.add_argument(
        "--steps", nargs="+", choices=[*STEPS, *_MADE], default=[*STEPS, *_MADE], metavar="STEP",
        help=f"any of {' '.join([*STEPS, *_MADE])}; all by default",
    )  # fmt: skip
    parser.add_argument("--data", type=Path, default=os.environ.get("CLIPENSEMBLE_DATA"))
    parser.add_argument("--out", type=Path, required=True, help="folder of results")
    parser.add_argument("--n-jobs", type=int, default=max(os.cpu_count() or 1, 1))
    parser.add_argument("--dry-run", action="store_true", help="only say what would be done")
    return parser.parse_args(argv)


def _verify(study):
    found = verify(study)
    if found.empty:
        print(
            f"There are no zero-shot answers of published backbones in {study.out}: run "
            "--steps fetch embed answers first."
        )
        return 1
    print(markdown(found))
    off = (found.flag != "").sum()
    print(f"\n{off} of {len(found)} cells are off by more than {TOLERANCE:g} point.")
    print(f"\nHow the classes were asked for:\n\n{markdown(TABLES[PROMPTS].make(study))}")
    return int(off > 0)


def _same_settings(study):
    """Refuse to mix results of different suites in one folder."""
    suite = study.suite
    settings = {
        "suite": suite.name,
        "sets": suite.names,
        "backbones": list(suite.backbones),
        "n_test": suite.n_test,
        "n_train": suite.n_train,
    }
    file = study.out / "settings.json"
    if file.exists() and json.loads(file.read_text()) != settings:
        sys.exit(
            f"{study.out} holds results of other settings ({file}). Choose another folder with --out."
        )
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(settings, indent=1))


def _keep_problems(found, out, steps):
    """Keep what was left out; what other steps left out in earlier runs stays."""
    file = out / "skipped.csv"
    if file.exists():
        before = pd.read_csv(file)
        found = pd.concat([before[~before.step.isin(steps)], found], ignore_index=True)
    found.to_csv(file, index=False)


if __name__ == "__main__":
    sys.exit(main())
