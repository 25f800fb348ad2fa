"""The study's figures, by the package's own Displays where there is one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.paper import cells, decisions
from benchmarks.paper.combiners import BEST, HEAD, NLC, ORACLE, OURS, SIGNED, SUPER
from benchmarks.paper.study import Study
from benchmarks.paper.tables import answers_of, diversity_points, n_sets
from sklearn_clipensemble.inspection import (
    ContactSheetDisplay,
    DisagreementDisplay,
    OverlapDisplay,
    RobustnessDisplay,
    ShotCurveDisplay,
    WeightsDisplay,
)
from sklearn_clipensemble.inspection._plot import _style


def overlap(study: Study) -> dict[str, Any]:
    """Which images backbones are right about: circles for three, columns for more."""
    found = {}
    for name, answers in answers_of(study).items():
        if len(answers.backbones) > 1:
            found[f"overlap-{name}"] = OverlapDisplay.from_answers(answers, max_columns=16).figure_
    return found


def consistency(study: Study) -> dict[str, Any]:
    """Error consistency of every pair of backbones."""
    found = {}
    for name, answers in answers_of(study).items():
        if len(answers.backbones) > 2:
            display = DisagreementDisplay.from_answers(answers, measure="error_consistency")
            found[f"consistency-{name}"] = display.figure_
    return found


def shots(study: Study) -> dict[str, Any]:
    """Accuracy by labelled images per class."""
    scores = cells.read(study.out, "combine")
    if scores.empty:
        return {}
    scores = scores[scores.shots.astype(str) != "all"]
    scores = scores.assign(shots=scores.shots.astype(int), score=scores.accuracy)
    # Sets that have all numbers of labels: means over other sets are no points of one curve.
    counts = scores.groupby("set").shots.nunique()
    scores = scores[scores.set.map(counts == counts.max())]
    chosen = (BEST, SUPER, NLC, SIGNED, HEAD, OURS, ORACLE)
    scores = scores[scores.method.isin(chosen)]
    mean = scores.groupby(["method", "shots", "draw"], sort=False).score.mean().reset_index()
    display = ShotCurveDisplay.from_scores(mean, highlight=NLC)
    display.ax_.set_title(f"Mean over {n_sets(scores.set.nunique())}", loc="left", fontsize=10)
    return {"shots": display.figure_}


def diversity(study: Study) -> dict[str, Any]:
    """The gain of every set against the diversity of its backbones."""
    import matplotlib.pyplot as plt

    gains, measures = diversity_points(study)
    if len(gains) < 5:
        return {}
    fig, axes = plt.subplots(1, 2, figsize=(8, 3.4), layout="constrained", sharey=True)
    for ax, measure in zip(axes, ("disagreement", "error_consistency"), strict=True):
        for method, colour in _style.colours((NLC, OURS, ORACLE), [NLC]).items():
            look = {"color": colour, "marker": _style.markers((NLC, OURS, ORACLE))[method]}
            ax.plot(measures[measure], gains[method], linestyle="", label=method, **look)
        ax.axhline(0, color=_style.FAINT, linewidth=0.8)
        ax.set(xlabel=f"{measure.replace('_', ' ')}, mean over pairs".capitalize())
        _style.tidy(ax)
    axes[0].set_ylabel("Gain over the best single backbone, points")
    axes[1].legend(frameon=False, fontsize=8)
    return {"diversity": fig}


def subsets(study: Study) -> dict[str, Any]:
    """Accuracy against GFLOPs of all subsets of the backbones."""
    import matplotlib.pyplot as plt

    found = cells.read(study.out, "subsets")
    found = found[found.gflops.notna()] if len(found) else found
    if found.empty:
        return {}
    most = found["size"].max()
    sets = found[found["size"] == most].set.unique()
    found = found[found.set.isin(sets)]
    mean = found.groupby(["method", "backbones", "size"], sort=False)[["accuracy", "spent"]].mean()
    mean = mean.reset_index()
    methods = [BEST, SUPER, NLC, "confidence cascade", "agreement cascade"]
    fig, ax = plt.subplots(figsize=(6.4, 4), layout="constrained")
    for method, colour in _style.colours(methods, [NLC]).items():
        part = mean[mean.method == method]
        look = {"color": colour, "marker": _style.markers(methods)[method], "alpha": 0.75}
        ax.scatter(part.spent, part.accuracy, s=8 + 8 * part["size"], label=method, **look)
    ax.set(
        xscale="log", xlabel="GFLOPs per image (larger marks: more backbones)",
        ylabel=f"Accuracy, mean over {n_sets(len(sets))}",
    )  # fmt: skip
    ax.legend(frameon=False, fontsize=8)
    _style.tidy(ax)
    return {"subsets": fig}


def perturbed(study: Study) -> dict[str, Any]:
    """Accuracy by perturbation and severity."""
    found = cells.read(study.out, "perturb")
    if found.empty:
        return {}
    keys = ["corruption", "severity", "method"]
    mean = found.groupby(keys, sort=False).accuracy.mean().reset_index()
    mean = mean[~mean.method.isin((ORACLE, SUPER))]
    return {"perturbed": RobustnessDisplay.from_scores(mean, highlight=NLC).figure_}


def weights(study: Study) -> dict[str, Any]:
    """What the controller trusts, on the digits that come with scikit-learn."""
    if "digits" not in study.suite.names or not study.suite.image_sets:
        return {}
    material = study.material("digits")
    if len(material.backbones) < 2:
        return {}
    from sklearn_clipensemble.ensembles import NeuralLogitController
    from sklearn_clipensemble.inspection import Answers

    learn, test = material.few(0), material.tested(400)
    clf = NeuralLogitController(random_state=0, layout=material.layout)
    clf.fit(material.X[learn], material.y[learn])
    answers = Answers.from_estimator(clf, material.X[test], material.y[test])
    images, _y = study.image_set("digits").read(study.data, "test", None)
    shown = [images[i] for i in np.searchsorted(material.test, test)]
    sheet = ContactSheetDisplay.from_answers(answers, images=shown, show="disagreement", n_images=8)
    return {
        "weights": WeightsDisplay.from_answers(answers).figure_,
        "weights-images": sheet.figure_,
    }


def families(study: Study) -> dict[str, Any]:
    """What a second backbone adds: observed, as alike as in one family, and independent."""
    import matplotlib.pyplot as plt

    found = cells.read(study.out, "families")
    if found.empty:
        return {}
    wide = found.pivot_table(index="set", columns="measure", values="value", sort=False)
    names = {
        "if it erred independently": "if independent",
        "second of another adds, points": "observed",
        "if it were as alike as in one family": "if of one family",
    }
    if not set(names) <= set(wide):
        return {}
    order = [n for n in (*study.suite.names, *decisions.PANELS) if n in wide.index]
    wide = wide.loc[order].dropna(subset=list(names))[::-1]
    fig, ax = plt.subplots(figsize=(8, 0.6 + 0.28 * len(wide)), layout="constrained")
    colours, marks = (
        _style.colours(names, ["second of another adds, points"]),
        _style.markers(names),
    )
    for measure, label in names.items():
        look = {"color": colours[measure], "marker": marks[measure], "linestyle": ""}
        ax.plot(wide[measure], range(len(wide)), label=label, **look)
    ax.set_yticks(range(len(wide)), wide.index, fontsize=8)
    ax.set(xlabel="Points that a second backbone of another family adds", xlim=0)
    ax.legend(frameon=False, fontsize=8)
    _style.tidy(ax, grid="x")
    return {"families": fig}


FIGURES: tuple[Callable[[Study], dict[str, Any]], ...] = (
    overlap, consistency, families, shots, diversity, subsets, perturbed, weights,
)  # fmt: skip


def draw(study: Study) -> list[Path]:
    """Draw all figures for which there are results, into ``OUT/figures``."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    folder = study.out / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for make in FIGURES:
        for name, figure in make(study).items():
            file = folder / f"{cells.plain(name)}.png"
            figure.savefig(file, dpi=90)
            plt.close(figure)
            files.append(file)
    return files
