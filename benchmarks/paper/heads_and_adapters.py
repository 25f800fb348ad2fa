"""A head on every backbone, learnt from labels, and the controller on top of them."""

from __future__ import annotations

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, StratifiedShuffleSplit
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks.few_shot import ScikitLearn, measure, reference
from benchmarks.paper.cells import Skipped
from benchmarks.paper.combiners import AVERAGE, BEST, NLC, ORACLE, OURS, SIGNED, SUPER, combiners
from benchmarks.paper.material import Material, words
from sklearn_clipensemble import Layout, ensembles, heads

ON_ALL = "one head on all backbones, all labels"
#: What is put on top of the heads.
_ON_TOP = ("best single (on the labels)", SUPER, "mixture of experts", NLC, SIGNED)


def _on_top(seed):
    chosen = {AVERAGE: ensembles.ProbabilityAverage}
    return chosen | {name: combiners(seed)[name] for name in _ON_TOP}


def linear_heads(material: Material, seed: int, n_test: int) -> list[dict]:
    """Nine tenths of the labels for a linear head on every backbone, one tenth for what combines them."""
    material.need_several()
    material.need_embeddings()
    learn, test = material.learn, material.tested(n_test)
    y = material.y[learn]
    n_classes, smallest = len(np.unique(y)), np.unique(y, return_counts=True)[1].min()
    n_top = max(len(learn) // 10, n_classes)
    if smallest < 2 or len(learn) - n_top < n_classes:
        raise Skipped("a class has one labelled image only: no tenth to set aside")
    split = StratifiedShuffleSplit(1, test_size=n_top, random_state=seed)
    for_heads, for_top = (learn[part] for part in next(split.split(y, y)))
    classes = np.unique(y)
    rows = np.concatenate([for_top, test])
    scores = {}
    for b in material.backbones:
        X = material.layout.embedding(material.X, b)
        head = make_pipeline(StandardScaler(), LogisticRegression(max_iter=200))
        scores[b] = head.fit(X[for_heads], material.y[for_heads]).predict_log_proba(X[rows])
    X, layout = _with_scores(material, scores, classes, rows)
    top, asked = np.arange(len(for_top)), np.arange(len(for_top), len(rows))
    found = _score(X, layout, material.y[rows], top, asked, _on_top(seed))
    whole = measure(ScikitLearn, material.X, material.layout, material.y, learn, test)
    found.append({"method": ON_ALL, **whole})
    return [_row(row, material, None, seed, len(learn), len(test)) for row in found]


def adapters(material: Material, shots: int, seed: int, n_test: int) -> list[dict]:
    """A Tip-Adapter on every backbone, and what combines them, from the same few labels.

    An adapter is trivially right about the images that it keeps. What is learnt on top sees answers to
    images held out in turn; with one label per class none can be, and it sees the zero-shot answers.
    """
    material.need_several()
    material.need_texts()
    material.need_embeddings()
    learn, test = material.draw(shots, seed), material.tested(n_test)
    y, classes = material.y[learn], np.array(material.layout.classes)
    fewest = np.unique(y, return_counts=True)[1].min()
    rows = np.concatenate([learn, test])
    scores = {}
    for b in material.backbones:
        head = heads.TipAdapterHead(backbone=b, layout=material.layout)
        X = material.X[learn]
        held_out = np.array(material.layout.logits(X, b))
        if fewest > 1:
            folds = StratifiedKFold(min(fewest, 5), shuffle=True, random_state=seed)
            for kept, out in folds.split(X, y):
                held_out[out] = head.fit(X[kept], y[kept]).predict_log_proba(X[out])
        asked = head.fit(X, y).predict_log_proba(material.X[test])
        scores[b] = np.concatenate([held_out, asked])
    X, layout = _with_scores(material, scores, classes, rows)
    top, asked = np.arange(len(learn)), np.arange(len(learn), len(rows))
    found = _score(X, layout, material.y[rows], top, asked, _on_top(seed))
    for name, method in {
        "zero-shot " + NLC: combiners(seed)[NLC],
        "Tip-Adapter, all backbones": heads.TipAdapterHead,
        OURS: ensembles.AdaptiveBackboneEnsemble,
    }.items():
        alone = measure(method, material.X, material.layout, material.y, learn, test)
        found.append({"method": name, **alone})
    return [_row(row, material, shots, seed, len(learn), len(test)) for row in found]


def _with_scores(material, scores, classes, rows):
    """Return the table with the heads' scores in place of the zero-shot logits."""
    widths = {b: material.layout.widths[b] for b in material.backbones}
    columns = []
    for b in material.backbones:
        columns += [material.layout.embedding(material.X[rows], b), np.maximum(scores[b], -50)]
    return np.hstack(columns).astype(np.float32), Layout(widths, [str(c) for c in classes])


def _score(X, layout, y, top, asked, methods):
    best, oracle = reference(X[asked], layout, np.array(layout.classes), y[asked])
    found = [{"method": BEST, "accuracy": best}, {"method": ORACLE, "accuracy": oracle}]
    for name, method in methods.items():
        found.append({"method": name, **measure(method, X, layout, y, top, asked)})
    return found


def _row(row, material, shots, seed, n_learn, n_test):
    common = {"group": material.group, "shots": words(shots), "draw": seed}
    return {**common, "n_learn": n_learn, "n_test": n_test, **row}
