"""Which backbones to leave out: what BackboneSelector takes, against every other subset.

The default ensemble is fitted to every subset of the bundled backbones, and scored on test images. Of
each size stand side by side: the subset that BackboneSelector takes from the labels, one found in the
same way by ensembles that are fitted to every subset within the folds (dear, and what the selector is
to be as good as), the cheapest backbones, the mean of all subsets, and the best with hindsight::

    python -m benchmarks.selection --data DATA --tables few_shot/tables --out selection

Sets, draws and halves are those of ``few_shot.py``, whose tables of embeddings and logits are used
again. Every figure is kept in ``OUT/scores.csv``; ``OUT/summary.md`` is written at the end.
"""

import argparse
import itertools
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks import readers
from sklearn_clipensemble import AdaptiveBackboneEnsemble, Layout, list_backbones
from sklearn_clipensemble.cost import BackboneSelector
from sklearn_clipensemble.table._draws import balanced_folds


def part(X, layout, chosen):
    """The columns of some backbones, and what they are."""
    return readers.only(X, layout, [layout.backbones[b] for b in sorted(chosen)])


def fit(X, layout, y, chosen):
    rows, own = part(X, layout, chosen)
    return AdaptiveBackboneEnsemble(layout=own).fit(rows, y)


def held_out(X, layout, y, chosen):
    """The mean log-likelihood of labels held out from ensembles of some backbones."""
    codes = np.unique(y, return_inverse=True)[1]
    values = []
    for learn, out in balanced_folds(codes, 4, 1000):
        clf = fit(X[learn], layout, y[learn], chosen)
        log_proba = clf.predict_log_proba(part(X[out], layout, chosen)[0])
        values += list(log_proba[np.arange(len(out)), np.searchsorted(clf.classes_, y[out])])
    return np.mean(values)


def add_one_by_one(score, costs, start):
    """The backbones by gain per GFLOP, as the selector adds them."""
    path, before = [], start
    while len(path) < len(costs):
        left = [b for b in np.argsort(costs) if b not in path]
        gains = np.array([score([*path, b]) - before for b in left])
        path.append(left[int(np.where(gains > 0, gains / costs[left], gains).argmax())])
        before = score(path)
    return path


def compare(X, layout, y, train, test, costs):
    """Yield method, backbones chosen, their share of the GFLOPs, accuracy and seconds to choose."""
    n, known = len(costs), {}
    for size in range(1, n + 1):
        for chosen in itertools.combinations(range(n), size):
            rows, own = part(X, layout, chosen)
            clf = AdaptiveBackboneEnsemble(layout=own).fit(rows[train], y[train])
            known[chosen] = clf.score(rows[test], y[test])

    def row(method, chosen, seconds=np.nan):
        chosen = tuple(sorted(chosen))
        return method, len(chosen), costs[list(chosen)].sum() / costs.sum(), known[chosen], seconds

    yield row("all", range(n))
    start = time.perf_counter()
    by_id = dict(zip(layout.backbones, costs, strict=True))
    selector = BackboneSelector(layout=layout, costs=by_id).fit(X[train], y[train])
    seconds = time.perf_counter() - start
    path = [layout.backbones.index(b) for b in selector.path_["backbone"]]
    yield row("selector, as many as help", path[: len(selector.backbones_)], seconds)
    paths = {"selector": path, "cheapest": list(np.argsort(costs))}
    codes = np.unique(y[train], return_inverse=True)[1]
    if np.bincount(codes).max() > 1:
        memory = {}

        def score(chosen):
            key = frozenset(chosen)
            if key not in memory:
                memory[key] = held_out(X[train], layout, y[train], chosen)
            return memory[key]

        start = time.perf_counter()
        guess = -np.log(codes.max() + 1)
        paths["ensembles on folds"] = add_one_by_one(score, costs, guess)
        seconds = time.perf_counter() - start
    for size in range(1, n):
        for method, order in paths.items():
            yield row(method, order[:size], seconds if method == "ensembles on folds" else np.nan)
        same = [chosen for chosen in known if len(chosen) == size]
        yield row("best with hindsight", max(same, key=known.get))
        share = np.mean([costs[list(chosen)].sum() for chosen in same]) / costs.sum()
        yield "mean of all", size, share, np.mean([known[chosen] for chosen in same]), np.nan


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path)
    parser.add_argument("--tables", type=Path, default=Path("few_shot/tables"))
    parser.add_argument("--out", type=Path, default=Path("selection"))
    parser.add_argument("--shots", type=int, nargs="+", default=[1, 2, 4, 16])
    parser.add_argument("--draws", type=int, default=3)
    parser.add_argument("--half", choices=["dev", "test"], default="test")
    parser.add_argument("--sets", nargs="+")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    args.out.mkdir(parents=True, exist_ok=True)
    file = args.out / "scores.csv"
    rows = pd.read_csv(file) if file.exists() else pd.DataFrame()
    gflops = list_backbones("tiny")["gflops"]
    sets = readers.image_sets(args.data)
    for name in args.sets or sets:
        table = readers.table_of(name, sets[name][1], ["tiny"], args.tables)
        X, layout, y = readers.half_of(*table, args.half)
        layout = Layout(layout.widths, layout.classes)
        costs = gflops[list(layout.backbones)].to_numpy()
        for shots, draw in itertools.product(args.shots, range(args.draws)):
            key = {"set": name, "shots": shots, "draw": draw}
            if len(rows) and (rows[list(key)] == pd.Series(key)).all(axis=1).any():
                continue
            train, test = readers.draw(y, shots, draw, 1000)
            names = ["method", "size", "gflops", "accuracy", "seconds"]
            new = pd.DataFrame(compare(X, layout, y, train, test, costs), columns=names)
            rows = pd.concat([rows, new.assign(**key)], ignore_index=True)
            rows.to_csv(file, index=False)
            print(f"{name}, {shots} labels, draw {draw}")
    rows["loss"] = rows.groupby(["set", "shots", "draw"])["accuracy"].transform("first")
    rows["loss"] = 100 * (rows["loss"] - rows["accuracy"])
    text = [
        f"{rows.set.nunique()} sets, {rows.draw.nunique()} draws. Points lost against all five."
    ]
    by_size = rows.pivot_table(index=["size", "method"], columns="shots", values="loss")
    by_size.insert(0, "% GFLOPs", 100 * rows.groupby(["size", "method"])["gflops"].mean())
    helps = rows[rows.method == "selector, as many as help"]
    stop = helps.groupby("shots")[["size", "gflops", "loss", "seconds"]].mean()
    folds = rows[rows.method == "ensembles on folds"].groupby("shots")["seconds"].mean()
    for title, table in (
        ("Of one size", by_size[by_size.index.get_level_values(1) != "selector, as many as help"]),
        ("As many as help", stop),
        ("Seconds with ensembles on folds", folds.to_frame()),
    ):
        text.append(f"{title}\n\n```\n{table.round(2).to_string()}\n```")
    (args.out / "summary.md").write_text("\n\n".join(text) + "\n")
    print((args.out / "summary.md").read_text())


if __name__ == "__main__":
    main()
