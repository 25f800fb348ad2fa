"""The study's tables, from the files of results: in the paper's shape, and the reviewers' questions."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.paper import cells, decisions
from benchmarks.paper.combiners import (
    AVERAGE,
    BEST,
    HEAD,
    HEAD_ON_ONE,
    NLC,
    ORACLE,
    OURS,
    SIGNED,
    SUPER,
)
from benchmarks.paper.heads_and_adapters import ON_ALL
from benchmarks.paper.study import Study
from benchmarks.paper.verify import published
from benchmarks.robustness import FAMILIES
from sklearn_clipensemble import list_backbones
from sklearn_clipensemble.inspection import (
    Answers,
    disagreement,
    double_fault,
    error_consistency,
    oracle_null,
    oracle_score,
    q_statistic,
)

#: The table that says how classes were asked for; all others point to it.
PROMPTS = "prompts"
#: Fewer sets than this say too little of all sets for an interval.
_LEAST_SETS = 5
SHOT_ORDER = ("1", "2", "4", "8", "16", "all")


# --- small helpers ---------------------------------------------------------------------


def interval(values: pd.Series, unit: str = "{:+.1f}") -> str:
    """Return a mean and the 95 % of means of resampled values; of fewer than five, none."""
    values = values.dropna().to_numpy(float)
    if not len(values):
        return ""
    mean = unit.format(values.mean())
    if len(values) < _LEAST_SETS:
        return mean
    rng = np.random.default_rng(0)
    means = values[rng.integers(len(values), size=(2000, len(values)))].mean(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return f"{mean} [{unit.format(low)}, {unit.format(high)}]"


def n_sets(n: int) -> str:
    """Return how many sets a figure is of."""
    return f"{n} set" if n == 1 else f"{n} sets"


def markdown(table: pd.DataFrame) -> str:
    """Return a table as Markdown."""
    head = [str(c) for c in table.columns]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for row in table.itertuples(index=False):
        written = ("" if v is None or v != v else str(v) for v in row)
        lines.append("| " + " | ".join(written) + " |")
    return "\n".join(lines)


def _scores(study: Study, step: str) -> pd.DataFrame:
    """Return accuracies of a step and their gains over the best single backbone, in points."""
    found = cells.read(study.out, step)
    if found.empty:
        return found
    found["shots"] = found.shots.astype(str)
    key = ["set", "shots", "draw"]
    best = found[found.method == BEST].set_index(key).accuracy
    found["gain"] = 100 * (found.accuracy - found.set_index(key).index.map(best))
    return found


def _per_set(scores: pd.DataFrame, value: str) -> pd.DataFrame:
    """Return the mean over draws: sets down, methods across."""
    return scores.groupby(["set", "method"], sort=False)[value].mean().unstack(sort=False)


def answers_of(study: Study) -> dict[str, Answers]:
    """Return which backbones are right about the test images of every set."""
    found = {}
    for file in sorted((study.out / "cells" / "answers").glob("*/*.csv")):
        table = pd.read_csv(file)
        (name,) = table.set.unique()
        right = table.drop(columns=["set", "y"])
        found[name] = Answers.from_predictions(right.astype(bool), table.y.astype(str).to_numpy())
    return {name: found[name] for name in study.suite.names if name in found}


# --- in the paper's shape --------------------------------------------------------------


def zero_shot(study: Study) -> pd.DataFrame:
    """Every backbone alone, the oracle, and what an oracle of independent backbones would reach."""
    rows = []
    for name, answers in answers_of(study).items():
        accuracy = 100 * answers.correct.mean()
        best, oracle = accuracy.max(), 100 * oracle_score(answers)
        row = {"set": name, "images": len(answers)}
        row["best single"] = f"{best:.1f} ({accuracy.idxmax()})"
        row["worst single"] = f"{accuracy.min():.1f}"
        if len(accuracy) > 1:
            row["oracle"] = f"{oracle:.1f}"
            row["its gain"] = f"{oracle - best:+.1f}"
            row["independent"] = f"{100 * oracle_null(answers):.1f}"
            row["independent in each class"] = f"{100 * oracle_null(answers, by_class=True):.1f}"
        rows.append(row)
    return pd.DataFrame(rows)


def backbones(study: Study) -> pd.DataFrame:
    """The zero-shot accuracy of every backbone on every set."""
    rows = {name: 100 * a.correct.mean() for name, a in answers_of(study).items()}
    table = pd.DataFrame(rows).T.map(lambda v: "" if np.isnan(v) else f"{v:.1f}")
    return table.rename_axis("set").reset_index()


def by_set(study: Study) -> pd.DataFrame:
    """All methods on all sets, learnt from all labels, as the paper's main table has them."""
    scores = _scores(study, "combine")
    if scores.empty:
        return scores
    scores = scores[scores.shots == "all"]
    accuracy, gain = _per_set(scores, "accuracy"), _per_set(scores, "gain")
    table = accuracy.T.map(lambda v: "" if np.isnan(v) else f"{100 * v:.1f}")
    everywhere = gain.loc[:, gain.notna().all()]
    for method in everywhere:
        values = everywhere[method]
        table.loc[method, "gain, mean [95 %]"] = interval(values)
        table.loc[method, "worst"] = f"{values.min():+.1f}"
        table.loc[method, "best"] = f"{values.max():+.1f}"
    return table.rename_axis("method").reset_index()


def by_shots(study: Study) -> pd.DataFrame:
    """The mean gain over the best single backbone, by labelled images per class."""
    scores = _scores(study, "combine")
    if scores.empty:
        return scores
    # Means over other sets are no points of one curve.
    counts = scores.groupby("shots").set.nunique()
    shots = [s for s in SHOT_ORDER if s in counts.index]
    rows = []
    for method in dict.fromkeys(scores.method):
        row = {"method": method}
        part = scores[scores.method == method]
        if part.set.nunique() < scores.set.nunique():
            continue
        for s in shots:
            mean = part[part.shots == s].groupby("set").gain.mean()
            row[f"{s} ({n_sets(counts[s])})"] = interval(mean)
        rows.append(row)
    return pd.DataFrame(rows)


def linear(study: Study) -> pd.DataFrame:
    """Linear heads on nine tenths of the labels, and what combines them, on the last tenth."""
    return _stacked(_scores(study, "linear"))


def adapters(study: Study) -> pd.DataFrame:
    """Tip-Adapters and what combines them, by labelled images per class."""
    scores = _scores(study, "adapt")
    if scores.empty:
        return scores
    rows = []
    counts = scores.groupby("shots").set.nunique()
    for method in dict.fromkeys(scores.method):
        row = {"method": method}
        for s in (s for s in SHOT_ORDER if s in counts.index):
            part = scores[(scores.shots == s) & (scores.method == method)]
            row[f"{s} ({n_sets(counts[s])})"] = (
                f"{100 * part.groupby('set').accuracy.mean().mean():.1f}"
            )
        rows.append(row)
    return pd.DataFrame(rows)


def _stacked(scores):
    if scores.empty:
        return scores
    accuracy, gain = _per_set(scores, "accuracy"), _per_set(scores, "gain")
    return pd.DataFrame(
        {
            "method": list(accuracy),
            "accuracy, mean": [f"{100 * accuracy[m].mean():.1f}" for m in accuracy],
            "gain over the best head [95 %]": [interval(gain[m]) for m in accuracy],
            "worst set": [f"{gain[m].min():+.1f} ({gain[m].idxmin()})" for m in accuracy],
            "best set": [f"{gain[m].max():+.1f} ({gain[m].idxmax()})" for m in accuracy],
            "sets": [gain[m].notna().sum() for m in accuracy],
        }
    )


def subsets(study: Study) -> pd.DataFrame:
    """How accuracy and cost grow with the number of backbones; means over all subsets of a size."""
    found = cells.read(study.out, "subsets")
    if found.empty:
        return found
    # Sets with the same number of backbones, so that a column is of the same sets throughout.
    of_set = found.groupby("set")["size"].max()
    most = of_set.mode().max()
    found = found[found.set.map(of_set) == most]
    mean = found.groupby(["method", "size", "set"], sort=False)[["accuracy", "spent"]].mean()
    mean = mean.groupby(["method", "size"], sort=False).mean()
    known = found.groupby("size").gflops.apply(lambda cost: cost.notna().all())
    rows = []
    for method in dict.fromkeys(found.method):
        row = {"method": method}
        for size in range(2, most + 1):
            accuracy, spent = mean.loc[(method, size)]
            cost = f" at {spent:.3g}" if known[size] else ""
            row[f"{size} backbones"] = f"{100 * accuracy:.1f}{cost}"
        rows.append(row)
    table = pd.DataFrame(rows)
    table.insert(1, "sets", found.set.nunique())
    return table


def families(study: Study) -> pd.DataFrame:
    """Pairs of two families beside pairs of one: odds ratios, and what a second backbone adds."""
    found = cells.read(study.out, "families")
    if found.empty:
        return found
    columns = {
        "log odds ratio, one family": "one family",
        "log odds ratio, two families": "two families",
        "difference": "difference",
        "second of another adds, points": "another family adds",
        "if it were as alike as in one family": "if of one family",
        "if it erred independently": "if independent",
        "another beyond one family, points": "beyond one family",
    }
    rows = []
    order = [n for n in (*study.suite.names, *decisions.PANELS) if n in set(found.set)]
    for name in order:
        values = found[found.set == name].set_index("measure")
        row = {"models": name, "images": int(values.n_images.iloc[0])}
        for measure, title in columns.items():
            value, low, high = values.loc[measure, ["value", "low", "high"]]
            row[title] = f"{value:.1f}"
            if measure == "difference" or "beyond" in measure:
                row[title] = f"{value:+.2f} [{low:.2f}, {high:.2f}]"
        p, least = values.loc["difference", ["p", "least p"]]
        row["p (least)"] = f"{p:.3f} ({least:.3f})"
        rows.append(row)
    return pd.DataFrame(rows)


def same_backbone(study: Study) -> pd.DataFrame:
    """One backbone asked twice: what is no diversity of backbones at all."""
    found = cells.read(study.out, "families")
    if found.empty or "one backbone" not in set(found.set):
        return pd.DataFrame()
    found = found[found.set == "one backbone"]
    return pd.DataFrame({"measure": found.measure, "value": found.value.map("{:.2f}".format)})


def pairs(study: Study) -> pd.DataFrame:
    """Measures of diversity: means over pairs, and the pairs that are least and most alike."""
    rows = []
    for name, answers in answers_of(study).items():
        if len(answers.backbones) < 2:
            continue
        upper = np.triu_indices(len(answers.backbones), k=1)
        row = {"set": name}
        for measure in (disagreement, double_fault, q_statistic, error_consistency):
            row[measure.__name__] = f"{measure(answers).to_numpy()[upper].mean():.2f}"
        kappa = error_consistency(answers).to_numpy()[upper]
        for title, i in (("least alike", kappa.argmin()), ("most alike", kappa.argmax())):
            a, b = (answers.backbones[index[i]] for index in upper)
            row[title] = f"{a}, {b} ({kappa[i]:.2f})"
        rows.append(row)
    return pd.DataFrame(rows)


def similarity(study: Study) -> pd.DataFrame:
    """How alike embeddings are (debiased linear CKA): pairs of one family and of two."""
    found = cells.read(study.out, "similar")
    if found.empty:
        return found
    found["pairs"] = np.where(found["one family"], "one family", "two families")
    table = found.groupby(["set", "pairs"], sort=False).cka.mean().unstack()
    return table.map(lambda v: "" if np.isnan(v) else f"{v:.2f}").rename_axis("set").reset_index()


def diversity(study: Study) -> pd.DataFrame:
    """Whether methods gain more where the backbones are more diverse: rank correlation over sets."""
    gains, measures = diversity_points(study)
    if gains.empty:
        return pd.DataFrame()
    rows = []
    for method in (m for m in (AVERAGE, SUPER, NLC, SIGNED, OURS, ORACLE) if m in gains):
        row = {"method": method, "sets": len(gains)}
        for measure in measures:
            row[measure] = _correlation(measures[measure], gains[method])
        rows.append(row)
    return pd.DataFrame(rows)


def diversity_points(study: Study) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return, set by set, the gains with all labels and the mean diversity of pairs."""
    scores = _scores(study, "combine")
    if scores.empty:
        return scores, scores
    gains = _per_set(scores[scores.shots == "all"], "gain")
    rows = {}
    for name, answers in answers_of(study).items():
        upper = np.triu_indices(len(answers.backbones), k=1)
        if name in gains.index and len(upper[0]):
            rows[name] = {
                f.__name__: f(answers).to_numpy()[upper].mean()
                for f in (disagreement, double_fault, q_statistic, error_consistency)
            }
    measures = pd.DataFrame.from_dict(rows, orient="index")
    return gains.reindex(measures.index), measures


def _correlation(x, y):
    """Spearman's correlation, and the 95 % of it over resampled sets."""
    if len(x) < _LEAST_SETS:
        return "too few sets"
    table = pd.DataFrame({"x": x, "y": y})
    rng, drawn = np.random.default_rng(0), []
    for _ in range(1000):
        part = table.iloc[rng.integers(len(table), size=len(table))]
        if part.x.nunique() > 2:
            drawn.append(part.corr("spearman").iloc[0, 1])
    low, high = np.nanpercentile(drawn, [2.5, 97.5])
    return f"{table.corr('spearman').iloc[0, 1]:+.2f} [{low:+.2f}, {high:+.2f}]"


def perturbed(study: Study) -> pd.DataFrame:
    """Accuracy on perturbed images by kind of perturbation: backbones, families, combinations."""
    found = cells.read(study.out, "perturb")
    if found.empty:
        return found
    found = _with_families(found)
    mean = found.groupby(["corruption", "method"], sort=False).accuracy.mean().unstack(sort=False)
    methods = list(dict.fromkeys(found.method))
    rows = [("as they are", mean.loc["none", methods])] if "none" in mean.index else []
    for kind, members in FAMILIES.items():
        present = [m for m in members if m in mean.index]
        if present:
            rows.append((kind, mean.loc[present, methods].mean()))
    rows.append(("all perturbations", mean.drop(index="none", errors="ignore")[methods].mean()))
    table = pd.DataFrame([values for _, values in rows])
    table = table.map(lambda v: f"{100 * v:.1f}")
    table.insert(0, "perturbation", [kind for kind, _ in rows])
    return table


def _with_families(found):
    """Add the mean of every family of which there are several backbones."""
    backbones = found[found.family.notna() & (found.family != "")]
    several = backbones.groupby("family").method.nunique()
    backbones = backbones[backbones.family.isin(several.index[several > 1])]
    keys = ["set", "corruption", "severity", "family"]
    means = backbones.groupby(keys, sort=False).accuracy.mean().reset_index()
    means = means.assign(method="mean of " + means.family.astype(str) + "s")
    return pd.concat([found, means], ignore_index=True)


# --- the reviewers' questions ----------------------------------------------------------


def synergy(study: Study) -> pd.DataFrame:
    """Where the gain over the best single backbone comes from: points, by labels per class."""
    scores = _scores(study, "combine")
    if scores.empty or HEAD_ON_ONE not in set(scores.method):
        return pd.DataFrame()
    embedded = scores[scores.method == HEAD_ON_ONE].set.unique()
    scores = scores[scores.set.isin(embedded)]
    rows = []
    for s in (s for s in SHOT_ORDER if s in set(scores.shots)):
        gain = _per_set(scores[scores.shots == s], "gain")
        rows.append(
            {
                "labels per class": s,
                "sets": len(gain),
                "combining: NLC": interval(gain[NLC]),
                "signed weights: NLC": interval(gain[SIGNED]),
                "labels alone: a head on the best backbone": interval(gain[HEAD_ON_ONE]),
                "more backbones in the head": interval(gain[HEAD] - gain[HEAD_ON_ONE]),
                "the head on all over NLC": interval(gain[HEAD] - gain[NLC]),
                "ours over NLC": interval(gain[OURS] - gain[NLC]),
            }
        )
    return pd.DataFrame(rows)


def super_learner(study: Study) -> pd.DataFrame:
    """What the image condition adds to global weights: NLC less Super Learner, points."""
    scores = _scores(study, "combine")
    if scores.empty:
        return scores
    rows = []
    for s in (s for s in SHOT_ORDER if s in set(scores.shots)):
        part = scores[scores.shots == s]
        wide = part.pivot_table(index=["set", "draw"], columns="method", values="accuracy")
        difference = 100 * (wide[NLC] - wide[SUPER])
        per_set = difference.groupby("set").mean()
        error = 2 * difference.groupby("draw").mean().std() / np.sqrt(wide.index.levels[1].size)
        rows.append(
            {
                "labels per class": s,
                "sets": len(per_set),
                "mean over sets [95 %]": interval(per_set, "{:+.2f}"),
                "± over draws": f"{error:.2f}" if error == error else "",
                "NLC ahead": (per_set > 0).sum(),
                "most ahead": f"{per_set.max():+.1f} ({per_set.idxmax()})",
                "most behind": f"{per_set.min():+.1f} ({per_set.idxmin()})",
            }
        )
    return pd.DataFrame(rows)


def seeds(study: Study) -> pd.DataFrame:
    """How much chance decides: deviation over draws of the labels, the mean over sets, in points."""
    scores = _scores(study, "combine")
    if scores.empty:
        return scores
    deviation = 100 * scores.groupby(["method", "shots", "set"], sort=False).accuracy.std()
    table = deviation.groupby(["method", "shots"], sort=False).mean().unstack()
    table = table[[s for s in SHOT_ORDER if s in table]]
    chosen = [m for m in (SUPER, "mixture of experts", NLC, SIGNED, HEAD, OURS) if m in table.index]
    table = table.loc[chosen].map(lambda v: "" if np.isnan(v) else f"{v:.1f}")
    draws = scores.draw.nunique()
    return table.rename_axis(f"method ({draws} draws)").reset_index()


def unseen(study: Study) -> pd.DataFrame:
    """Learnt from half of the classes: accuracy on both halves, in points over the plain average."""
    found = cells.read(study.out, "unseen")
    if found.empty:
        return found
    columns = [c for c in found if c.startswith(("seen", "unseen"))]
    mean = found.groupby(["set", "method"], sort=False)[columns].mean()
    average = mean.xs(AVERAGE, level="method")
    rows = []
    for method in dict.fromkeys(found.method):
        own = mean.xs(method, level="method")
        row = {"method": method, "sets": len(own)}
        for column in columns:
            if method == AVERAGE:
                row[column] = f"{100 * own[column].mean():.1f} (accuracy)"
            else:
                row[column] = interval(100 * (own[column] - average[column].reindex(own.index)))
        rows.append(row)
    return pd.DataFrame(rows)


def cost(study: Study) -> pd.DataFrame:
    """What an image costs: backbones by themselves, and what is learnt on top."""
    scores = _scores(study, "combine")
    if scores.empty:
        return scores
    scores = scores[scores.method.isin((SUPER, NLC, HEAD, OURS))]
    grouped = scores.groupby(["method", "shots"], sort=False)
    each = grouped[["fit_s", "predict_s", "n_test"]].mean().reset_index()
    each["µs per image"] = (1e6 * each.predict_s / each.n_test).map("{:.0f}".format)
    wide = each.pivot(index="method", columns="shots", values="fit_s")
    table = wide[[s for s in SHOT_ORDER if s in wide]].map("{:.2f}".format)
    table.columns = [f"fit with {s}, s" for s in table]
    table["predict, µs per image"] = each.groupby("method")["µs per image"].last()
    return table.reset_index()


def gflops(study: Study) -> pd.DataFrame:
    """GFLOPs per image of the study's backbones, or of the paper's nine, cheapest first."""
    known = list_backbones().gflops
    ids = list(study.suite.backbones) or [b for b in known.index if b.endswith("/openai")]
    costs = known.reindex(ids).sort_values()
    table = pd.DataFrame({"backbone": costs.index, "GFLOPs": costs.map("{:.4g}".format).to_numpy()})
    table["all so far"] = costs.cumsum().map("{:.4g}".format).to_numpy()
    table["all backbones cost, in this one"] = (costs.sum() / costs).map("{:.1f}".format).to_numpy()
    return table


def published_families(study: Study) -> pd.DataFrame:
    """The best ResNet and the best ViT of every set, by the accuracies that open_clip publishes."""
    if study.suite.image_sets and study.name != "full":
        return pd.DataFrame()
    known = 100 * published()
    families = list_backbones().family.reindex(known.columns)
    rows = []
    for name, accuracy in known.iterrows():
        best = {f: accuracy[families == f] for f in ("ResNet", "ViT")}
        row = {"set": name}
        for family, part in best.items():
            row[f"best {family}"] = f"{part.max():.1f} ({part.idxmax().removesuffix('/openai')})"
        row["ResNet less ViT, points"] = f"{best['ResNet'].max() - best['ViT'].max():+.1f}"
        row["best less worst"] = f"{accuracy.max() - accuracy.min():.1f}"
        rows.append(row)
    return pd.DataFrame(rows)


# --- beside the published figures ------------------------------------------------------


def claims(study: Study) -> pd.DataFrame:
    """The paper's figures, and what was measured here: on other backbones and sets but for ``full``."""
    text = (Path(__file__).parent / "published.toml").read_text(encoding="utf-8")
    measured = _measured(study)
    return pd.DataFrame(
        {
            "figure": claim["says"],
            "published": claim["published"] + ("" if claim.get("sure") else " ?"),
            f"measured here ({study.name})": measured.get(claim["id"], "not measured"),
        }
        for claim in tomllib.loads(text)["claim"]
    )


def _measured(study: Study) -> dict[str, str]:
    found: dict[str, str] = {}
    answers = {n: a for n, a in answers_of(study).items() if len(a.backbones) > 1}
    if answers:
        oracle = pd.Series(
            {n: 100 * (oracle_score(a) - a.correct.mean().max()) for n, a in answers.items()}
        )
        found["oracle_max"] = f"{oracle.max():+.1f} ({oracle.idxmax()})"
        found["early_oracle"] = found["oracle_max"]
    scores = _scores(study, "combine")
    if not scores.empty and (scores.shots == "all").any():
        gain = _per_set(scores[scores.shots == "all"], "gain")
        nlc, experts = gain[NLC], gain["mixture of experts"]
        found["gain_max"] = f"{nlc.max():+.1f} ({nlc.idxmax()})"
        found["gain_mean"] = f"{interval(nlc)}, {n_sets(len(nlc))}"
        found["gain_min"] = f"{nlc.min():+.1f} ({nlc.idxmin()}); below 0 on {(nlc < 0).sum()}"
        found["early_gain"] = found["gain_max"]
        found["experts"] = f"{experts.min():+.1f} to {experts.max():+.1f}"
        few = {s: _per_set(scores[scores.shots == s], "accuracy") for s in ("1", "16")}
        if all(len(f) for f in few.values()):
            found["more_shots"] = interval(100 * (few["16"][NLC] - few["1"][NLC]))
    heads = _scores(study, "linear")
    if not heads.empty:
        gain = _per_set(heads, "gain")
        for key, method in (("linear_nlc", NLC), ("linear_super", SUPER)):
            found[key] = f"{interval(gain[method])}, {n_sets(len(gain))}"
        found["linear_nlc"] += f"; {ON_ALL}: {interval(gain[ON_ALL])}"
    adapted = _scores(study, "adapt")
    if not adapted.empty and (adapted.shots == "1").any():
        one = 100 * _per_set(adapted[adapted.shots == "1"], "accuracy").mean()
        found["one_shot"] = (
            f"{one['zero-shot ' + NLC]:.1f} against {one['Tip-Adapter, all backbones']:.1f} "
            f"on the same backbones (best single adapter {one[BEST]:.1f})"
        )
    found |= _cheapest(study)
    return found


def _cheapest(study: Study) -> dict[str, str]:
    """What the four cheapest backbones do against the best single one of all."""
    costs = list_backbones().gflops
    found = {}
    ids = list(study.suite.backbones) or [b for b in costs.index if b.endswith("/openai")]
    costs = costs.reindex(ids).sort_values()
    ratio = costs.sum() / costs
    found["cost"] = f"{ratio.min():.1f} to {ratio.max():.1f} times"
    if not study.suite.backbones:
        found["cost"] += " (by GFLOPs, the paper's nine)"
        best = costs["ViT-L-14-336/openai"]
        found["cheap_gflops"] = f"{best - costs[:4].sum():.0f} (by GFLOPs, against ViT-L-14-336)"
    rows = cells.read(study.out, "subsets")
    if rows.empty:
        return found
    most = rows.groupby("set")["size"].transform("max")
    rows = rows[most > 4].assign(whole=rows["size"] == most)
    best = rows[rows.whole & (rows.method == BEST)].groupby("set").accuracy.mean()
    nlc = rows[(rows.method == NLC) & (rows["size"] == 4) & rows.cheapest]
    if len(best):
        gain = 100 * (nlc.groupby("set").accuracy.mean() - best)
        found["cheap_accuracy"] = f"{interval(gain)}, {n_sets(len(gain))}"
    if len(best) and study.suite.backbones:
        accuracy = pd.DataFrame({n: a.correct.mean() for n, a in answers_of(study).items()})
        saved = accuracy.idxmax().map(costs) - costs.iloc[:4].sum()
        found["cheap_gflops"] = f"{saved.mean():.3g} in the mean"
    return found


def prompts(study: Study) -> pd.DataFrame:
    """How the classes of every set were put to the text towers."""
    rows = []
    for name in study.suite.names:
        try:
            rows.append({"set": name, "prompts": study.material(name).prompts})
        except (cells.Skipped, OSError) as error:
            rows.append({"set": name, "prompts": f"skipped: {error}"})
    return pd.DataFrame(rows)


@dataclass(frozen=True)
class Table:
    """A table of the report: its title, the steps that make it, and the function that reads them."""

    title: str
    steps: tuple[str, ...]
    make: Callable[[Study], pd.DataFrame]
    #: The reviewers' question it answers.
    question: str = ""


TABLES: dict[str, Table] = {
    "published": Table(
        "Beside the published figures",
        ("combine", "linear", "adapt", "subsets", "answers"), claims,
    ),
    "zero_shot": Table("Zero-shot answers and their oracle", ("answers",), zero_shot),
    "backbones": Table("Every backbone, zero-shot", ("answers",), backbones),
    "published_families": Table(
        "What open_clip publishes: the best of each family", (), published_families,
    ),
    "by_set": Table(
        "Zero-shot heads, all labels: accuracy by set, gain over the best single backbone",
        ("combine",), by_set,
    ),
    "by_shots": Table(
        "Zero-shot heads: gain over the best single backbone by labels per class",
        ("combine",), by_shots, "Does it grow with the number of labels?",
    ),
    "linear": Table("Linear heads, and what combines them", ("linear",), linear),
    "adapters": Table("Tip-Adapters, and what combines them: accuracy", ("adapt",), adapters),
    "subsets": Table(
        "Two to all backbones: accuracy, at GFLOPs per image", ("subsets",), subsets,
    ),
    "families": Table("Two families beside one", ("families",), families),
    "same_backbone": Table("One backbone, asked twice", ("families",), same_backbone),
    "pairs": Table("Diversity of pairs", ("answers",), pairs),
    "similarity": Table("Likeness of embeddings", ("similar",), similarity),
    "diversity": Table(
        "Gain against diversity, over sets", ("answers", "combine"), diversity,
    ),
    "perturbed": Table("Perturbed images", ("perturb",), perturbed),
    "synergy": Table(
        "Synergy or supervision: gain over the best single backbone, points",
        ("combine",), synergy, "Is the gain synergy, or just supervision?",
    ),
    "super_learner": Table(
        "NLC less Super Learner, points",
        ("combine",), super_learner, "How close are global weights?",
    ),
    "seeds": Table(
        "Deviation over draws, points", ("combine",), seeds, "What do seeds decide?",
    ),
    "unseen": Table(
        "Labels of half of the classes: points over the plain average",
        ("unseen",), unseen, "Which methods still know classes without labels?",
    ),
    "gflops": Table("Cost of the backbones", (), gflops, "What does it cost?"),
    "cost": Table(
        "Cost of what is learnt on top", ("combine",), cost, "What does it cost?",
    ),
    PROMPTS: Table("How the classes were asked for", (), prompts),
}  # fmt: skip
