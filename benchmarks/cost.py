"""What a cascade and subsets of backbones save, and what they lose.

For every image set, shot count and draw, all methods learn from the same labelled
rows of the same backbones and answer the same others; the sets, draws and the half
of the rows that is reported are those of ``few_shot.py``::

    python -m benchmarks.cost --data DATA --out cost
    python -m benchmarks.cost --data DATA --out cost --few-classes
    python -m benchmarks.cost --speed FOLDER --data DATA

- *all backbones*: AdaptiveBackboneEnsemble on the whole table.
- *cascade*: CascadeClassifier around it, at several tolerances and a budget of half
  the cost; one fit.
- *cheapest k*: AdaptiveBackboneEnsemble on the k cheapest backbones, for all images.
- *selected k*: the same on the k that BackboneSelector takes, from the labels alone.
- *best single (on test)*: the same on the one backbone that does best on test.
- *scikit-learn*: standardised embeddings of all backbones, logistic regression.
- *agreement cascade*: the paper's kind, on zero-shot answers.

Every score is kept in ``OUT/scores.csv``: a run that was stopped goes on where it
was. ``OUT/summary.md`` and ``OUT/cost.png`` are written at the end.

``--few-classes`` asks what the cascade's promise is worth where there is least to learn
from: two, three and five classes, drawn at random from each set of photographs or digits and
from the real logits, with one, two and four labels.

``--speed`` times a cascade beside the pipeline that it is made of, in one run: on the
photographs of FOLDER (a folder for every class) the bundled backbones, and the
architectures of ``openai-small`` with random weights, which answer at random, so that a
budget says how many images go on; and on CIFAR-10, which needs no decoding, the bundled
ones by their GFLOPs and by the seconds that they take on this machine.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import accuracy_score
from sklearn.pipeline import make_pipeline

from benchmarks import few_shot, readers
from benchmarks.embedding_speed import make_backbone
from sklearn_clipensemble import (
    AdaptiveBackboneEnsemble,
    CascadeClassifier,
    CLIPEmbedder,
    Layout,
    ZeroShotLogits,
    load_image_folder,
)
from sklearn_clipensemble.backbones import PRESETS
from sklearn_clipensemble.cost import BackboneSelector, measure_throughput
from sklearn_clipensemble.cost._gflops import gflops_of
from sklearn_clipensemble.ensembles import AgreementCascade

SHOTS = (1, 4, 16)
TOLERANCES = (0.0, 0.0025, 0.005, 0.0075, 0.01, 0.02, 0.05)
#: GFLOPs of the models of the real logits, whose columns do not bear names that open_clip knows.
CLIPS = {
    "ViT-B-32 (CLIP)": 8.8,
    "ViT-B-16 (SigLIP)": 35.1,
    "ViT-B-16 (SigLIP 2)": 35.1,
    "ViT-B-16 (BiomedCLIP)": 35.1,
}
CORRUPTIONS = ("gaussian_noise", "gaussian_blur", "contrast", "pixelate")
COLUMNS = ["set", "group", "shots", "draw", "method", "accuracy", "gflops", "share", "n_test"]


def methods_of(X, y):
    """Yield the name of each method, and a function of a table: its answers, and its mean GFLOPs."""
    layout = Layout.from_names(X.columns)
    backbones = layout.backbones
    costs = gflops_of(dict.fromkeys(backbones), {b: CLIPS[b] for b in backbones if b in CLIPS})
    whole = sum(costs.values())
    cascade = CascadeClassifier(AdaptiveBackboneEnsemble(), costs=costs).fit(X, y)

    def at(**params):
        def answer(T):
            cascade.set_params(**{"tolerance": 0.0075, "budget": None, **params})
            return cascade.predict(T), cascade.cost(T).mean()

        return answer

    for tolerance in TOLERANCES:
        yield f"cascade, tolerance {tolerance:g}", at(tolerance=tolerance)
    if whole / 2 >= cascade.costs_[0]:
        yield "cascade, budget 50 %", at(budget=whole / 2)

    def prefix(k):
        columns = cascade.estimators_[k - 1].feature_names_in_
        return lambda T: (cascade.estimators_[k - 1].predict(T[columns]), cascade.costs_[k - 1])

    for k in range(1, len(backbones)):
        yield f"cheapest {k}", prefix(k)
    yield "all backbones", prefix(len(backbones))
    for k in range(1, len(backbones)):
        selector = BackboneSelector(n_backbones=k, costs=costs).fit(X, y)
        clf = AdaptiveBackboneEnsemble().fit(selector.transform(X), y)
        yield (
            f"selected {k}",
            lambda T, s=selector, c=clf: (c.predict(s.transform(T)), s.cost_),
        )
    for b in backbones:
        columns = [c for c in X if c.startswith(f"{b}__")]
        clf = AdaptiveBackboneEnsemble().fit(X[columns], y)
        yield f"alone {b}", lambda T, c=clf, k=columns, b=b: (c.predict(T[k]), costs[b])
    line = few_shot.ScikitLearn(layout=layout).fit(X.to_numpy(), y)
    yield "scikit-learn", lambda T: (line.predict(T.to_numpy()), whole)
    if len(layout.with_logits) == len(backbones):
        order = sorted(costs, key=costs.get)
        clf = AgreementCascade(order=order).fit(X)
        spent = np.append(np.cumsum([costs[b] for b in order]), 0)
        yield (
            "agreement cascade",
            lambda T: (clf.predict(T), spent[clf.n_asked(T) - 1].mean()),
        )


def run(name, group, X, layout, y, args, file, train_rows=None):
    """Score all methods on one set, and write them down draw by draw."""
    known = set()
    if file.exists():
        rows = pd.read_csv(file)
        known = set(zip(rows.set, rows.shots, rows.draw, strict=True))
    X = pd.DataFrame(X, columns=layout.names)
    for seed in range(args.draws):
        for shots in SHOTS:
            if (name, shots, seed) in known:
                continue
            if train_rows is None:
                train, test = readers.draw(y, shots, seed, args.test)
            else:  # one set has no more than ten labels of a class to learn from
                train, test = readers.draw_real(y, train_rows, args.half, shots, seed, args.test)
            rows, T = [], X.iloc[test]
            for method, answer in methods_of(X.iloc[train], y[train]):
                predicted, gflops = answer(T)
                accuracy = accuracy_score(y[test], predicted)
                rows.append([name, group, shots, seed, method, accuracy, gflops, np.nan, len(test)])
            rows = pd.DataFrame(rows, columns=COLUMNS)
            rows["share"] = rows.gflops / rows.gflops.max()
            alone = rows[rows.method.str.startswith("alone ")]
            best = alone.loc[alone.accuracy.idxmax()].copy()
            best["method"] = "best single (on test)"
            rows = pd.concat([rows.drop(alone.index), best.to_frame().T])
            rows.to_csv(file, mode="a", header=not file.exists(), index=False)
        print(f"{name}: draw {seed + 1} of {args.draws}", flush=True)


# --- report ----------------------------------------------------------------------------


def relative(scores):
    """Add to the scores what each loses against all backbones, in points, on the same draw."""
    whole = scores[scores.method == "all backbones"].set_index(["set", "shots", "draw"]).accuracy
    at = pd.MultiIndex.from_frame(scores[["set", "shots", "draw"]])
    return scores.assign(lost=100 * (whole.reindex(at).to_numpy() - scores.accuracy))


def table_of_means(scores):
    """Accuracy lost and share of the cost, by labels: means over sets, and the draws' standard error."""
    per_draw = scores.groupby(["method", "shots", "draw"])[["accuracy", "lost", "share"]].mean()
    means = per_draw.groupby(["method", "shots"]).mean()
    errors = per_draw.lost.groupby(["method", "shots"]).sem().unstack()
    order = means.share.unstack().mean(axis=1).sort_values().index
    lines = [
        "| method | " + " | ".join(f"{k} labels: accuracy, lost, cost" for k in SHOTS) + " |",
        "|---" * (len(SHOTS) + 1) + "|",
    ]
    for method in order:
        cells = [
            f"{100 * means.accuracy[method, k]:.1f}, {means.lost[method, k]:.2f} ± "
            f"{2 * errors.loc[method, k]:.2f}, {means.share[method, k]:.0%}"
            if (method, k) in means.index
            else ""
            for k in SHOTS
        ]
        lines.append(f"| {method} | " + " | ".join(cells) + " |")
    return lines


def promise(scores, tolerance=0.0075):
    """Set by set, what the cascade loses at its default tolerance, and whether it kept its promise."""
    part = scores[scores.method == f"cascade, tolerance {tolerance:g}"]
    by_set = part.groupby(["set", "shots"])
    lost, error, share = by_set.lost.mean(), by_set.lost.sem(), by_set.share.mean()
    kept = lost <= 100 * tolerance + 2 * error
    lines = [
        "| set | " + " | ".join(f"{k} labels: lost, cost" for k in SHOTS) + " |",
        "|---" * (len(SHOTS) + 1) + "|",
    ]
    for name in part.set.unique():
        cells = [
            f"{lost[name, k]:.2f} ± {2 * error[name, k]:.2f}{'' if kept[name, k] else ' **!**'}, "
            f"{share[name, k]:.0%}"
            for k in SHOTS
        ]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    kept = kept.unstack()
    lines.append(
        "| **kept** | " + " | ".join(f"{kept[k].sum()} of {len(kept)} sets" for k in SHOTS) + " |"
    )
    return lines


def summary(scores):
    lines = []
    for group in scores.group.unique():
        part = scores[scores.group == group]
        n_draws = part.groupby("set").draw.nunique()
        lines += [
            f"## {group}: {part.set.nunique()} sets, {n_draws.min()} to {n_draws.max()} draws\n"
        ]
        lines += [*table_of_means(part), ""]
    several = [
        m for m, n in scores.groupby("method").set.nunique().items() if n == scores.set.nunique()
    ]
    lines += ["## All sets\n", *table_of_means(scores[scores.method.isin(several)]), ""]
    return "\n".join([*lines, "## The promise\n", *promise(scores)])


def picture(scores, file):
    """Accuracy lost against the share of the cost, in the mean over the sets of the bundled backbones."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    scores = scores[scores.group.isin([readers.SEEN, readers.TRANSFER])]
    means = scores.groupby(["shots", "method"])[["lost", "share"]].mean()
    fig, axes = plt.subplots(1, len(SHOTS), figsize=(12, 3.8), layout="constrained", sharey=True)
    for ax, shots in zip(axes, SHOTS, strict=True):
        part = means.loc[shots]
        for start, colour, marker in (
            ("cheapest", "C7", "s"),
            ("selected", "C0", "D"),
            ("cascade, tolerance", "C3", "o"),
        ):
            line = part[part.index.str.startswith(start)]
            if start != "cascade, tolerance":
                line = pd.concat([line, part.loc[["all backbones"]]])
            line = line.sort_values("share")
            ax.plot(100 * line.share, -line.lost, color=colour, marker=marker, label=start)
        for name, marker in (("best single (on test)", "^"), ("scikit-learn", "x")):
            point = part.loc[name]
            ax.plot(100 * point.share, -point.lost, f"{marker}k", label=name)
        ax.axhline(0, color="0.8", zorder=0)
        ax.set(
            xscale="log",
            xlabel="GFLOPs, % of all backbones",
            title=f"{shots} label{'s' * (shots > 1)} per class",
        )
        ax.set_xticks([10, 20, 50, 100], ["10", "20", "50", "100"])
        ax.minorticks_off()
    axes[0].set_ylabel("accuracy against all backbones, points")
    fig.legend(
        *axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=5, frameon=False
    )
    fig.savefig(file, dpi=100)


# --- few classes -----------------------------------------------------------------------


def few_classes(sets, n_draws):
    """The table of ``--few-classes``, as Markdown; ``sets`` are tables, layouts and labels by name."""
    rows = []
    for name, (X, layout, y) in sets.items():
        costs = {b: CLIPS[b] for b in layout.backbones if b in CLIPS}
        classes, counts = np.unique(y, return_counts=True)
        classes = classes[counts >= 30]
        if len(classes) < 5:
            print(f"{name}: left out, {len(classes)} classes have 30 images")
            continue
        for n_classes in (2, 3, 5):
            for draw in range(n_draws):
                some = np.random.default_rng(draw).choice(classes, n_classes, replace=False)
                part, names, labels, _ = readers.of_classes(X, layout, y, some)
                part = pd.DataFrame(part, columns=names.names)
                for shots in (1, 2, 4):
                    train, test = readers.draw(labels, shots, draw, 300)
                    clf = CascadeClassifier(AdaptiveBackboneEnsemble(), costs=costs)
                    clf.fit(part.iloc[train], labels[train])
                    T = part.iloc[test]
                    score, cost = clf.score(T, labels[test]), clf.cost(T).mean()
                    whole = clf.set_params(tolerance=0).score(T, labels[test])
                    lost = 100 * (whole - score)
                    rows.append([name, n_classes, shots, lost, 100 * cost / clf.costs_[-1]])
        print(f"{name}: {n_draws} draws", flush=True)
    rows = pd.DataFrame(rows, columns=["set", "classes", "shots", "lost", "share"])
    by_set = rows.groupby(["classes", "shots", "set"])
    lost, error, share = by_set.lost.mean(), by_set.lost.sem(), by_set.share.mean()
    kept = lost <= 0.75 + 2 * error
    lines = [
        "| classes | labels per class | points lost | part of the GFLOPs, % | sets kept | most lost |",
        "|---" * 6 + "|",
    ]
    for at in kept.groupby(level=[0, 1]).groups:
        worst = lost[at].idxmax()
        lines.append(
            f"| {at[0]} | {at[1]} | {lost[at].mean():.2f} | {share[at].mean():.0f} | "
            f"{kept[at].sum()} of {len(kept[at])} | {lost[at][worst]:.2f} ± "
            f"{2 * error[at][worst]:.2f}, {worst} |"
        )
    return "\n".join(lines)


# --- speed -----------------------------------------------------------------------------


def time_both(pipeline, images, labels, test, **params):
    """Images per second of a pipeline and of its cascade, by turns; and what the cascade promises."""
    cascade = CascadeClassifier(pipeline, **params).fit(images, labels)
    pipeline.fit(images, labels)
    seconds = {"pipeline": [], "cascade": []}
    for clf in (pipeline, cascade):
        clf.predict(test[:2])
    for _ in range(3):
        for name, clf in (("pipeline", pipeline), ("cascade", cascade)):
            start = time.perf_counter()
            clf.predict(test)
            seconds[name].append(time.perf_counter() - start)
    promised = cascade.costs_[-1] / cascade.cost(test).mean()
    both = {name: len(test) / np.median(s) for name, s in seconds.items()}
    return {**both, "promised": promised, "faster": both["cascade"] / both["pipeline"]}


def speed(folder, data):
    """The table of ``--speed``, as Markdown."""
    found = load_image_folder(folder)
    photos = readers.draw_shots(found.target, 8, 0)
    rest = np.setdiff1d(np.arange(len(found.target)), photos)
    cifar10, classes = readers.image_sets(data)["cifar10"][1]()
    labelled = readers.draw_shots(np.asarray(classes), 8, 0)
    others = np.setdiff1d(np.arange(len(classes)), labelled)
    of_photos = (found.paths, found.target, photos)
    of_cifar10 = (cifar10, classes, labelled)
    seconds = (1 / measure_throughput("tiny").images_per_second).to_dict()
    rows = {}
    with tempfile.TemporaryDirectory() as scratch:
        small = [make_backbone(n.split("/")[0], Path(scratch)) for n in PRESETS["openai-small"]]
        for name, backbones, params, images, test in (
            ("openai-small, half the GFLOPs", small, {"budget": 37.8}, of_photos, rest[:128]),
            ("openai-small, a quarter", small, {"budget": 19.0}, of_photos, rest[:128]),
            ("tiny, photographs", "tiny", {}, of_photos, rest),
            ("tiny, CIFAR-10", "tiny", {}, of_cifar10, others),
            ("tiny, CIFAR-10, by seconds", "tiny", {"costs": seconds}, of_cifar10, others),
        ):
            X, y, train = images
            pipeline = make_pipeline(
                CLIPEmbedder(backbones, cache=False), ZeroShotLogits(), AdaptiveBackboneEnsemble()
            )
            fit = [X[i] for i in train], [y[i] for i in train]
            rows[name] = time_both(pipeline, *fit, [X[i] for i in test], **params)
    lines = ["| backbones | pipeline, images/s | cascade | promised | measured | of that |"]
    lines.append("|---" * 6 + "|")
    for name, r in rows.items():
        lines.append(
            f"| {name} | {r['pipeline']:.1f} | {r['cascade']:.1f} | {r['promised']:.2f} x | "
            f"{r['faster']:.2f} x | {r['faster'] / r['promised']:.2f} |"
        )
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", default=os.environ.get("CLIPENSEMBLE_DATA"), type=Path)
    parser.add_argument("--out", default="cost", type=Path, help="folder of scores and report")
    parser.add_argument("--tables", type=Path, help="folder of tables, OUT/tables by default")
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--test", type=int, default=1000, help="test images per set and draw")
    parser.add_argument("--half", choices=["test", "dev"], default="test")
    parser.add_argument("--sets", nargs="*", help="only these sets")
    parser.add_argument("--few-classes", action="store_true", help="only few classes and labels")
    parser.add_argument("--speed", type=Path, metavar="FOLDER", help="only time, on photographs")
    args = parser.parse_args()
    if args.speed:
        if args.data is None:
            parser.error("--speed needs --data, for CIFAR-10")
        print(speed(args.speed, args.data))
        return
    warnings.simplefilter("ignore", ConvergenceWarning)
    args.out.mkdir(parents=True, exist_ok=True)
    file = args.out / ("scores.csv" if args.half == "test" else "scores-dev.csv")

    def wanted(name):
        return not args.sets or name in args.sets

    if args.few_classes:
        sets = {}
        for name, (_, load) in readers.image_sets(args.data).items():
            if wanted(name) and not any(kind in name for kind in CORRUPTIONS):
                table = readers.table_of(name, load, ["tiny"], args.tables or args.out / "tables")
                sets[name] = readers.half_of(*table, args.half)
        if args.data is not None and wanted("cifar10 real logits"):
            logits = readers.real_logits(args.data)
            sets["cifar10 real logits"] = readers.half_of(*logits, args.half)
        report = few_classes(sets, args.draws)
        (args.out / "few_classes.md").write_text(report + "\n")
        print(report)
        return

    for name, (group, load) in readers.image_sets(args.data).items():
        if wanted(name):
            table = readers.table_of(name, load, ["tiny"], args.tables or args.out / "tables")
            run(name, group, *readers.half_of(*table, args.half), args, file)
    if args.data is not None:
        if wanted("cifar10 real logits"):
            table = readers.half_of(*readers.real_logits(args.data), args.half)
            run("cifar10 real logits", readers.REAL, *table, args, file)
        for name in filter(wanted, ("caltech101", "mini_imagenet")):  # those of several backbones
            X, layout, y, train = readers.real_features(args.data, name)
            run(name, readers.REAL, X, layout, y, args, file, train)
    scores = relative(pd.read_csv(file))
    report = summary(scores)
    (args.out / "summary.md").write_text(report + "\n")
    picture(scores, args.out / "cost.png")
    print(report)


if __name__ == "__main__":
    main()
