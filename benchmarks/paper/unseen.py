"""Labels for half of the classes only: which methods still know the others?"""

from __future__ import annotations

import numpy as np

from benchmarks.few_shot import ScikitLearn
from benchmarks.paper.cells import Skipped
from benchmarks.paper.combiners import AVERAGE, HEAD, NLC, OURS, SIGNED, SUPER, combiners
from benchmarks.paper.material import Material
from sklearn_clipensemble import ensembles, heads

_LEAST_CLASSES = 4


def unseen_classes(material: Material, seed: int, n_test: int) -> list[dict]:
    """Learn from half of the classes; test on both halves, among all classes and among the half's own."""
    material.need_several()
    material.need_texts()
    order = np.array(material.layout.classes)
    if len(order) < _LEAST_CLASSES:
        raise Skipped(f"{len(order)} classes only")
    # Each class is unseen in one of two draws.
    halves = np.random.default_rng(seed // 2).permutation(len(order))
    halves = halves[: len(order) // 2], halves[len(order) // 2 :]
    seen, unseen = halves if seed % 2 == 0 else halves[::-1]
    pool = material.learn[np.isin(material.y[material.learn], order[seen])]
    learn, test = material.few(seed, pool), material.tested(n_test)
    methods = {
        AVERAGE: ensembles.ProbabilityAverage,
        **{name: combiners(seed)[name] for name in (SUPER, "mixture of experts", NLC, SIGNED)},
        OURS: ensembles.AdaptiveBackboneEnsemble,
    }
    if material.embedded:
        methods |= {
            HEAD: lambda **kw: ScikitLearn(True, **kw),
            "Tip-Adapter, all backbones": heads.TipAdapterHead,
            "GDAHead": heads.GDAHead,
        }
    truth = np.searchsorted(np.sort(order), material.y[test])
    rows = []
    for name, method in methods.items():
        clf = method(layout=material.layout).fit(material.X[learn], material.y[learn])
        scores = clf.predict_log_proba(material.X[test])
        found = {"group": material.group, "draw": seed, "method": name}
        for half, classes in (("seen", seen), ("unseen", unseen)):
            own = np.flatnonzero(np.isin(np.sort(order), order[classes]))
            of_half = np.isin(truth, own)
            found[f"{half}, among all"] = np.mean(scores[of_half].argmax(axis=1) == truth[of_half])
            among = own[scores[np.ix_(of_half, own)].argmax(axis=1)]
            found[f"{half}, among its own"] = np.mean(among == truth[of_half])
        rows.append(found)
    return rows
