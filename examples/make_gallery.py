"""Run every ``plot_*.py`` beside this file and save its pictures to ``docs/gallery``."""

import runpy
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

HERE = Path(__file__).parent


def main(target=HERE.parent / "docs" / "gallery"):
    target.mkdir(parents=True, exist_ok=True)
    plt.show = lambda: None  # pictures go to files here
    for script in sorted(HERE.glob("plot_*.py")):
        print(script.name)
        runpy.run_path(str(script))
        for i, number in enumerate(plt.get_fignums()):
            path = target / f"{script.stem.removeprefix('plot_')}_{i}.png"
            plt.figure(number).savefig(path, dpi=90)
        plt.close("all")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
