"""Two to nine of the backbones: accuracy against cost, asked all at once or in a cascade."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pandas as pd

from benchmarks.paper.combiners import AVERAGE, BEST, NLC, ORACLE, SUPER, combiners
from benchmarks.paper.material import Material
from benchmarks.readers import only
from sklearn_clipensemble import ensembles, list_backbones

#: Of a size with more subsets than this, so many are drawn, and the cheapest.
_AT_MOST = 12


def gflops(backbones: list[str]) -> dict[str, float]:
    """Return what an image costs each backbone, cheapest first; NaN where that is not known, and last."""
    known = list_backbones().gflops
    ids = [b if "/" in b else f"{b}/openai" for b in backbones]
    costs = pd.Series(known.reindex(ids).to_numpy(float), backbones)
    return costs.sort_values(kind="stable").to_dict()


def subsets(material: Material, seed: int, n_test: int) -> list[dict]:
    """Score subsets of the backbones on the same sixteen labels per class, or fewer."""
    material.need_several()
    material.need_texts()
    learn, test = material.few(seed), material.tested(n_test)
    y, order = material.y, np.array(material.layout.classes)
    price = gflops(material.backbones)
    right = {
        b: order[material.layout.logits(material.X[test], b).argmax(axis=1)] == y[test]
        for b in material.backbones
    }
    rows = []
    for chosen in _choices(material.backbones, list(price), seed):
        X, layout = only(material.X, material.layout, chosen)
        cheapest = [b for b in price if b in chosen]
        hits = np.stack([right[b] for b in chosen])
        total = sum(price[b] for b in chosen)
        common = {
            "group": material.group,
            "draw": seed,
            "size": len(chosen),
            "backbones": " ".join(chosen),
            "cheapest": cheapest == list(price)[: len(chosen)],
            "gflops": total,
        }
        for name, accuracy in ((BEST, hits.mean(axis=1).max()), (ORACLE, hits.any(axis=0).mean())):
            rows.append({**common, "method": name, "accuracy": accuracy, "spent": total})
        for name, method in {
            AVERAGE: ensembles.ProbabilityAverage,
            SUPER: ensembles.SuperLearner,
            NLC: combiners(seed)[NLC],
        }.items():
            clf = method(layout=layout).fit(X[learn], y[learn])
            accuracy = np.mean(clf.predict(X[test]) == y[test])
            rows.append({**common, "method": name, "accuracy": accuracy, "spent": total})
        for name, cascade in {
            "confidence cascade": ensembles.ConfidenceCascade,
            "agreement cascade": ensembles.AgreementCascade,
        }.items():
            clf = cascade(order=cheapest, layout=layout).fit(X[learn], y[learn])
            spent = np.cumsum([price[b] for b in cheapest])[clf.n_asked(X[test]) - 1].mean()
            accuracy = np.mean(clf.predict(X[test]) == y[test])
            rows.append({**common, "method": name, "accuracy": accuracy, "spent": spent})
    return rows


def _choices(backbones, by_cost, seed):
    rng = np.random.default_rng(seed)
    for size in range(2, len(backbones) + 1):
        every = list(combinations(backbones, size))
        if len(every) > _AT_MOST:
            cheapest = every.index(tuple(b for b in backbones if b in by_cost[:size]))
            drawn = {cheapest, *rng.permutation(len(every))[:_AT_MOST]}
            every = [every[i] for i in sorted(drawn)]
        yield from map(list, every)
