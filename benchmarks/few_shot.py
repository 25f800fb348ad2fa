"""Every combiner and head on equal terms: same backbones, prompts, labels and test images.

For every image set, shot count and draw, each method learns from the same
labelled rows and answers the same others. Draws are nested in the number of
shots; nothing is chosen on test images but the two reference lines that say so
(``best single (on test)`` and the oracle)::

    python -m benchmarks.few_shot --quick
    python -m benchmarks.few_shot --data DATA --out few_shot
    python -m benchmarks.few_shot --data DATA --out two_classes --tables few_shot/tables --classes 2

Half of every set's images are set aside: on them (``--half dev``) the
constants of the default ensemble were chosen. The tables report the other half.

``DATA`` holds the image sets as parquet files with the columns ``image``
(encoded bytes), ``label`` and ``split``; only scikit-learn's ``load_digits`` is
used without it. The tables of embeddings and zero-shot logits are kept in
``OUT/tables`` and every score in ``OUT/scores.csv``: a run that was stopped
goes on where it was. ``OUT/summary.md`` and ``OUT/few_shot.png`` are written at
the end.
"""

import argparse
import os
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.special import logsumexp
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks.readers import (
    LOGITS,
    REAL,
    REAL_SETS,
    SHOTS,
    draw,
    draw_real,
    half_of,
    image_sets,
    of_classes,
    only,
    real_features,
    real_logits,
    table_of,
)
from sklearn_clipensemble import ensembles, heads
from sklearn_clipensemble.adaptive import Priors
from sklearn_clipensemble.inspection import expected_calibration_error
from sklearn_clipensemble.table._classifier import TableClassifier
from sklearn_clipensemble.table._metric import MetricPriors
from sklearn_clipensemble.table._scores import fit_pool, log_softmax, weight_of_others

# --- methods ---------------------------------------------------------------------------


class StackedHeads(TableClassifier):
    """A Super Learner over one kernel-ridge head per backbone, on leave-one-out scores."""

    def __init__(self, *, layout=None):
        self.layout = layout

    def _fit(self, table, codes, sample_weight):
        weight = np.ones(len(codes))
        self.heads_ = [heads.KernelRidgeHead(backbone=b) for b in table.backbones]
        y, held_out = self.classes_[codes], []
        for head in self.heads_:
            head.layout = table.layout
            with_prior = head.fit(table.X, y)
            path = heads._ridge_path.RidgePath(
                with_prior._kernel(with_prior.labelled_, with_prior.labelled_)
            )
            prior = np.exp(with_prior._log_prior(table.only([head.backbone])))
            targets = np.eye(len(self.classes_))[codes] - prior
            correction = path.leave_one_out(targets, with_prior.ridge_)
            held_out.append(log_softmax((prior + correction) / with_prior.temperature_))
        known = weight_of_others(codes, weight) > 0
        self.weights_ = np.full(len(self.heads_), 1 / len(self.heads_))
        if known.any():
            self.weights_ = fit_pool(
                np.stack(held_out)[:, known], codes[known], weight[known], self.weights_
            )

    def _log_proba(self, table):
        parts = [head.predict_log_proba(table.X) for head in self.heads_]
        return np.einsum("b,bnc->nc", self.weights_, parts)


class LogisticWithPrior(TableClassifier):
    """Logistic regression on the concatenation plus the log of the probability average."""

    def __init__(self, *, layout=None):
        self.layout = layout

    def _fit(self, table, codes, sample_weight):
        self.head_ = heads.LogisticHead(layout=table.layout)
        self.head_.fit(table.X, self.classes_[codes])

    def _log_proba(self, table):
        log_proba = self.head_.predict_log_proba(table.X)
        if not table.has_logits:
            return log_proba
        zero_shot = log_softmax(np.stack([table.logits(b) for b in table.with_logits]))
        return log_proba + logsumexp(zero_shot, axis=0)


class ScikitLearn(TableClassifier):
    """Five lines of scikit-learn: standardised, concatenated embeddings, logistic regression.

    With ``prior``, the log-probabilities of the zero-shot average are added.
    """

    def __init__(self, prior=False, *, layout=None):
        self.prior = prior
        self.layout = layout

    def _fit(self, table, codes, sample_weight):
        clf = make_pipeline(StandardScaler(), LogisticRegression(max_iter=200))
        self.clf_ = clf.fit(self._side_by_side(table), codes)

    def _side_by_side(self, table):
        return np.hstack([table.features(b) for b in table.backbones])

    def _log_proba(self, table):
        log_proba = np.full((len(table), len(self.classes_)), -np.inf)
        log_proba[:, self.clf_.classes_] = self.clf_.predict_log_proba(self._side_by_side(table))
        if self.prior and table.has_logits:
            zero_shot = log_softmax(np.stack([table.logits(b) for b in table.with_logits]))
            log_proba = log_proba + logsumexp(zero_shot, axis=0)
        return log_proba


class Alone(ensembles.AdaptiveBackboneEnsemble):
    """The default on one backbone, the first, the second, ..."""

    def __init__(self, member, *, layout=None):
        super().__init__(layout=layout)
        self.member = member

    def fit(self, X, y):
        self.columns_ = self.layout, [self.layout.backbones[self.member]]
        X, self.layout = only(X, *self.columns_)
        return super().fit(X, y)

    def predict_log_proba(self, X):
        return super().predict_log_proba(only(X, *self.columns_)[0])


def ablated(**changes):
    """AdaptiveBackboneEnsemble with some of its priors changed."""
    priors = Priors(**changes)
    return lambda **kwargs: ensembles.AdaptiveBackboneEnsemble(priors=priors, **kwargs)


#: AdaptiveBackboneEnsemble with one part taken out.
ABLATIONS = {
    "no few-shot correction": ablated(lifts=(1e-6,), largest_lift=1e-6),
    "label-free weights": ablated(weight_precision=1e3, size_precision=1e3),
    "no class biases": ablated(bias_precision=1e4),
    "no metric": ablated(metric=MetricPriors(equal_rows=1e9, column_rows=1e9, rows_per_column=1e9)),
    "metric of columns alone": ablated(metric=MetricPriors(rows_per_column=1e9)),
    "equal kernel shares": ablated(share_precision=1e9),
    "dimensions by cosines alone": ablated(n_pairs=0),
    "lift not learnt": ablated(lift_precision=1e9),
    "scales not learnt": ablated(scale_precision=1e9),
    "nothing held out": ablated(n_held_out=0),
}

#: AdaptiveBackboneEnsemble on each of its members.
ALONE = {f"alone {i + 1}": lambda i=i, **kw: Alone(i, **kw) for i in range(9)}

#: Methods that only learn the class names: fitted once, the same at every shot count.
LABEL_FREE = {
    name: getattr(ensembles, name)
    for name in (
        "LogitAverage",
        "ProbabilityAverage",
        "MostConfident",
        "EntropyWeighted",
        "AgreementWeighted",
        "Vote",
    )
}
LABEL_FREE["Vote top 3"] = lambda **kw: ensembles.Vote(3, **kw)

METHODS = {
    **LABEL_FREE,
    "BestBackbone": ensembles.BestBackbone,
    "CalibratedAverage": ensembles.CalibratedAverage,
    "CalibratedConfidence": ensembles.CalibratedConfidence,
    "SuperLearner": ensembles.SuperLearner,
    "GeneticSearch": lambda **kw: ensembles.GeneticSearch(random_state=0, **kw),
    "GreedySelection": ensembles.GreedySelection,
    "NeuralLogitController": lambda **kw: ensembles.NeuralLogitController(random_state=0, **kw),
    "NeuralLogitController raw": lambda **kw: ensembles.NeuralLogitController(
        weight_map="raw", random_state=0, **kw
    ),
    "SoftmaxGate": lambda **kw: ensembles.SoftmaxGate(random_state=0, **kw),
    "MixtureOfExperts": lambda **kw: ensembles.MixtureOfExperts(random_state=0, **kw),
    "LocalAccuracy": ensembles.LocalAccuracy,
    "ConfidenceCascade": ensembles.ConfidenceCascade,
    "AgreementCascade": ensembles.AgreementCascade,
    "scikit-learn": ScikitLearn,
    "scikit-learn + prior": lambda **kw: ScikitLearn(True, **kw),
    "LogisticHead": heads.LogisticHead,
    "LogisticHead + prior": LogisticWithPrior,
    "GDAHead": heads.GDAHead,
    "TipAdapterHead": heads.TipAdapterHead,
    "AnchoredLinearHead": heads.AnchoredLinearHead,
    "KernelRidgeHead": heads.KernelRidgeHead,
    "MultiKernelHead": heads.MultiKernelHead,
    "StackedHeads": StackedHeads,
    "AdaptiveBackboneEnsemble": ensembles.AdaptiveBackboneEnsemble,
}
#: Those that have something to say where a table has no zero-shot logits.
WITHOUT_LOGITS = (
    *ABLATIONS,
    *ALONE,
    *("scikit-learn", "scikit-learn + prior", "LogisticHead", "LogisticHead + prior", "GDAHead"),
    *("TipAdapterHead", "AnchoredLinearHead", "KernelRidgeHead", "MultiKernelHead"),
    *("SuperLearner", "AdaptiveBackboneEnsemble"),
)
#: Trained by gradient descent for hundreds of epochs: left out of ``--quick``.
SLOW = (
    "GeneticSearch",
    "NeuralLogitController",
    "NeuralLogitController raw",
    "SoftmaxGate",
    "MixtureOfExperts",
)

# --- scores ----------------------------------------------------------------------------


def reference(X, layout, order, y):
    """Accuracy of the best single backbone and of the oracle, both with hindsight."""
    if not layout.classes:
        return np.nan, np.nan
    right = np.stack([order[layout.logits(X, b).argmax(axis=1)] == y for b in layout.backbones])
    return right.mean(axis=1).max(), right.any(axis=0).mean()


def measure(method, X, layout, y, train, test):
    # A method that needs no labels still learns what the classes are called.
    start = time.perf_counter()
    clf = method(layout=layout).fit(X[train], y[train])
    fitted = time.perf_counter()
    log_proba = clf.predict_log_proba(X[test])
    done = time.perf_counter()
    codes = np.searchsorted(clf.classes_, y[test])
    predicted = clf.classes_[log_proba.argmax(axis=1)]
    return {
        "accuracy": np.mean(predicted == y[test]),
        "balanced_accuracy": balanced_accuracy_score(y[test], predicted),
        "nll": -np.mean(log_proba[np.arange(len(test)), codes]),
        "ece": expected_calibration_error(y[test], np.exp(log_proba), classes=clf.classes_),
        "fit_s": fitted - start,
        "predict_s": done - fitted,
    }


def run(name, group, X, layout, y, train_rows=None, *, methods, args, scores, file):
    whole, every_class = (X, layout, y), np.unique(y)
    learnable = train_rows
    if args.classes and args.classes > len(every_class):
        return
    # The real logits come alone: methods on embeddings take them for features.
    n_alone = len(layout.backbones) if len(layout.backbones) > 1 else 0
    for seed in range(args.draws):
        if args.classes:
            some = np.random.default_rng(seed).choice(every_class, args.classes, replace=False)
            X, layout, y, rows = of_classes(*whole, some)
            train_rows = None if learnable is None else learnable[rows]
        order = np.array(layout.classes)
        for shots in SHOTS:
            if train_rows is None:
                train, test = draw(y, shots, seed, args.test)
            elif np.median(np.unique(y[train_rows], return_counts=True)[1]) < shots:
                continue
            else:
                train, test = draw_real(y, train_rows, args.half, shots, seed, args.test)
            common = {
                "set": name,
                "group": group,
                "shots": shots,
                "draw": seed,
                "n_train": len(train),
                "n_test": len(test),
            }
            best, oracle = reference(X[test], layout, order, y[test])
            rows = []
            for method, factory in methods.items():
                if not layout.classes and method not in WITHOUT_LOGITS:
                    continue
                if method in ALONE and list(ALONE).index(method) >= n_alone:
                    continue
                if (name, shots, seed, method) in scores:
                    continue
                row = measure(factory, X, layout, y, train, test)
                gap = (row["accuracy"] - best) / (oracle - best) if oracle > best else np.nan
                rows.append({**common, "method": method, **row, "gap_closed": gap})
            if layout.classes and (name, shots, seed, "oracle") not in scores:
                for method, accuracy in (("best single (on test)", best), ("oracle", oracle)):
                    rows.append({**common, "method": method, "accuracy": accuracy})
            if rows:
                pd.DataFrame(rows, columns=COLUMNS).to_csv(
                    file, mode="a", header=not file.exists(), index=False
                )
        print(f"{name}: draw {seed + 1} of {args.draws}", flush=True)


COLUMNS = [
    *["set", "group", "shots", "draw", "method", "n_train", "n_test"],
    *["accuracy", "balanced_accuracy", "nll", "ece", "gap_closed", "fit_s", "predict_s"],
]

# --- report ----------------------------------------------------------------------------

#: Known only with hindsight.
REFERENCES = ["oracle", "best single (on test)"]


def by_shots(scores, column):
    """Mean over draws, then over sets: one line per method, one column per shot count."""
    per_set = scores.groupby(["method", "shots", "set"])[column].mean()
    return per_set.groupby(["method", "shots"]).mean().unstack()


def summary(scores):
    """The tables of the report, as Markdown."""
    lines, alone = [], scores.method.isin(ALONE)
    if alone.any():
        lines = ["## Worth its members\n", worth_its_members(scores), ""]
        scores = scores[~alone]
    for title, part in groups(scores):
        lines += table_of_means(title, part)
    return "\n".join(lines)


def groups(scores):
    """Yield titles and scores of sets of one kind; apart, those methods that some sets are without."""
    for group in scores.group.unique():
        part = scores[scores.group == group]
        everywhere = part.groupby("method").set.nunique() == part.set.nunique()
        yield group, part[part.method.map(everywhere)]
        if not everywhere.all():
            with_texts = part[~part.method.map(everywhere)].set.unique()
            yield f"{group}, with texts", part[part.set.isin(with_texts)]


def table_of_means(title, part):
    """One group of sets: accuracy by labels, and how the methods compare over all shot counts."""
    draws, accuracy = part.groupby("set").draw.nunique(), by_shots(part, "accuracy")
    per_set = part.groupby(["method", "shots", "set"])[["accuracy", "nll", "ece", "fit_s"]].mean()
    learned = per_set.accuracy.unstack("method").drop(columns=REFERENCES, errors="ignore")
    rows = accuracy.map("{:.3f}".format)
    over_all = per_set.groupby("method")
    rows["rank"] = learned.rank(axis=1, ascending=False).mean().map("{:.1f}".format)
    rows["ECE"] = over_all.ece.mean().map("{:.3f}".format)
    rows["NLL"] = over_all.nll.mean().map("{:.2f}".format)
    if "ProbabilityAverage" in learned:
        to_average = learned.sub(learned["ProbabilityAverage"], axis=0).groupby("set").mean()
        rows["worst set"] = (100 * to_average.min()).map("{:+.1f}".format)
        rows["harmed"] = (to_average < 0).sum().map("{:.0f}".format)
    rows["fit, s"] = over_all.fit_s.mean().map("{:.2f}".format)
    rows["behind the default"] = pd.Series(paired_intervals(part))
    rows.loc[rows.index.isin(REFERENCES), "rank":] = ""
    rows = rows.fillna("").loc[accuracy.mean(axis=1).sort_values(ascending=False).index]
    lines = [
        f"## {title}: {part.set.nunique()} sets, {draws.min()} to {draws.max()} draws\n",
        "| method | " + " | ".join(str(column) for column in rows.columns) + " |",
        "|---" * (len(rows.columns) + 1) + "|",
    ]
    sets = part.groupby("shots").set.nunique()
    if sets.nunique() > 1:
        lines.append("| sets | " + " | ".join(f"{n}" for n in sets) + " |")
    lines += [f"| {method} | " + " | ".join(cells) + " |" for method, cells in rows.iterrows()]
    return [*lines, ""]


def worth_its_members(scores):
    """The default, itself on its best member (chosen on test), and the gain in points."""
    per_set = scores.groupby(["set", "shots", "method"]).accuracy.mean().unstack()
    per_set = per_set.dropna(subset=["alone 1"])
    rows = pd.DataFrame({"ensemble": per_set["AdaptiveBackboneEnsemble"]})
    rows["best member"] = per_set.filter(like="alone ").max(axis=1)
    rows["gain"] = 100 * (rows.ensemble - rows["best member"])
    oracle = per_set.reindex(columns=["oracle", "best single (on test)"])
    rows["oracle's gain"] = 100 * (oracle["oracle"] - oracle["best single (on test)"])
    gains = rows.gain.unstack()
    gains["oracle's gain"] = rows["oracle's gain"].groupby("set").mean()
    gains.loc["**mean**"] = gains.mean()
    head = " | ".join(str(c) for c in gains.columns)
    lines = [f"| set | {head} |", "|---" * (len(gains.columns) + 1) + "|"]
    for name, row in gains.iterrows():
        lines.append(
            f"| {name} | " + " | ".join("" if np.isnan(v) else f"{v:+.1f}" for v in row) + " |"
        )
    return "\n".join(lines)


def paired_intervals(part, name="AdaptiveBackboneEnsemble"):
    """Mean accuracy by which a method is behind, over sets and shots, and twice its standard error over draws."""
    wide = part.pivot_table(index=["draw", "set", "shots"], columns="method", values="accuracy")
    wide = wide.drop(columns=REFERENCES, errors="ignore")
    if name not in wide:
        return {}
    per_draw = wide.rsub(wide[name], axis=0).groupby("draw").mean().drop(columns=name)
    error = 2 * per_draw.std(ddof=1) / np.sqrt(len(per_draw))
    return {m: f"{per_draw[m].mean():.3f} ± {error[m]:.3f}" for m in per_draw}


def picture(scores, file):
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    panels = list(groups(scores[~scores.method.isin(ALONE)]))
    fig, axes = plt.subplots(
        1, len(panels), figsize=(4.2 * len(panels), 4.5), layout="constrained", squeeze=False
    )
    marked = {
        "AdaptiveBackboneEnsemble": "C3",
        "ProbabilityAverage": "C0",
        "scikit-learn": "C1",
        "scikit-learn + prior": "C5",
        "KernelRidgeHead": "C2",
        "GDAHead": "C4",
        "oracle": "black",
    }
    for ax, (title, part) in zip(axes[0], panels, strict=True):
        # Means over other sets are no points of one curve.
        sets = part.groupby("shots").set.nunique()
        part = part[part.shots.map(sets == sets.max())]
        for method, line in by_shots(part, "accuracy").iterrows():
            colour = marked.get(method, "0.8")
            ax.plot(
                line.index,
                line,
                color=colour,
                lw=2 if method in marked else 1,
                zorder=3 if method in marked else 1,
                label=method if method in marked else None,
            )
        ax.set(
            xscale="log",
            title=f"{title}: {sets.max()} sets" if sets.max() > 1 else title,
            xlabel="labelled images per class",
            ylabel="mean accuracy",
        )
        ticks = sorted(part.shots.unique())
        ax.set_xticks(ticks, [str(k) for k in ticks])
        ax.minorticks_off()
    fig.legend(
        *axes[0, min(1, len(panels) - 1)].get_legend_handles_labels(),
        loc="outside lower center",
        ncols=len(marked),
        frameon=False,
    )
    fig.savefig(file, dpi=100)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", default=os.environ.get("CLIPENSEMBLE_DATA"), type=Path)
    parser.add_argument(
        "--out", default="few_shot", type=Path, help="folder of tables, scores and report"
    )
    parser.add_argument("--tables", type=Path, help="folder of tables, OUT/tables by default")
    parser.add_argument(
        "--backbones",
        nargs="+",
        default=["tiny"],
        help="presets or names, as CLIPEmbedder takes them",
    )
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument(
        "--test", type=int, default=2000, help="test images per set and draw, at most"
    )
    parser.add_argument("--half", choices=["test", "dev"], default="test")
    parser.add_argument("--classes", type=int, help="only so many of a set, others for every draw")
    parser.add_argument("--sets", nargs="*", help="only these sets")
    parser.add_argument("--methods", nargs="*", help="only these methods")
    parser.add_argument("--ablation", action="store_true", help="only the default, part by part")
    parser.add_argument("--members", action="store_true", help="only the default, on each member")
    parser.add_argument(
        "--quick", action="store_true", help="load_digits, 2 draws, no slow methods"
    )
    args = parser.parse_args()
    if args.quick:
        args.data, args.draws, args.test = None, min(args.draws, 2), 600
    warnings.simplefilter("ignore", ConvergenceWarning)
    warnings.filterwarnings("ignore", message="y_pred contains classes not in y_true")
    args.out.mkdir(parents=True, exist_ok=True)
    chosen = args.methods or [m for m in METHODS if not (args.quick and m in SLOW)]
    chosen = list(dict.fromkeys([*chosen, "ProbabilityAverage"]))  # what all are compared with
    if args.ablation:
        chosen = ["ProbabilityAverage", *ABLATIONS, "AdaptiveBackboneEnsemble"]
    if args.members:
        chosen = ["ProbabilityAverage", *ALONE, "AdaptiveBackboneEnsemble"]
    methods = {m: {**METHODS, **ABLATIONS, **ALONE}[m] for m in chosen}
    file = args.out / ("scores.csv" if args.half == "test" else "scores-dev.csv")
    scores = set()
    if file.exists():
        known = pd.read_csv(file)
        scores = set(zip(known.set, known.shots, known.draw, known.method, strict=True))
    common = {"methods": methods, "args": args, "scores": scores, "file": file}
    for name, (group, load) in image_sets(args.data).items():
        if args.sets and name not in args.sets:
            continue
        table = table_of(name, load, args.backbones, args.tables or args.out / "tables")
        run(name, group, *half_of(*table, args.half), **common)
    if args.data is not None and (not args.sets or "cifar10 real logits" in args.sets):
        table = half_of(*real_logits(args.data), args.half)
        run("cifar10 real logits", LOGITS, *table, **common)
    for name in REAL_SETS if args.data is not None else ():
        if args.sets and name not in args.sets:
            continue
        X, layout, y, train = real_features(args.data, name)
        run(name, REAL, X, layout, y, train, **common)
    scores = pd.read_csv(file)
    report = summary(scores)
    (args.out / "summary.md").write_text(report + "\n")
    picture(scores, args.out / "few_shot.png")
    print(report)


if __name__ == "__main__":
    main()
