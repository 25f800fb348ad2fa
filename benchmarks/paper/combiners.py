"""Zero-shot answers of all backbones, combined: the paper's comparison, on equal labels."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from benchmarks.few_shot import ScikitLearn, measure, reference
from benchmarks.paper.material import Material, words
from benchmarks.readers import only
from sklearn_clipensemble import ensembles, heads

NLC = "NLC (the paper's)"
SIGNED = "NLC, signed weights"
LONG = "NLC, signed weights, trained longer"
BEST = "best single (on test)"
ORACLE = "oracle"
SUPER = "Super Learner"
HEAD = "linear head + zero-shot"
HEAD_ON_ONE = "the same on the best single backbone"
OURS = "adaptive (ours)"
AVERAGE = "probability average"
#: Steps of all that is trained by gradients; how long the paper trains is not known.
N_STEPS, MANY_STEPS = 500, 2500


class OnBestBackbone:
    """Another method, given only the backbone whose zero-shot answers fit the labels best."""

    def __init__(self, method, *, layout):
        self.method = method
        self.layout = layout

    def fit(self, X, y):
        """Choose the backbone, then fit."""
        best = ensembles.BestBackbone(layout=self.layout).fit(X, y).best_backbone_
        self.columns_ = self.layout, [best]
        X, layout = only(X, *self.columns_)
        self.clf_ = self.method(layout=layout).fit(X, y)
        self.classes_ = self.clf_.classes_
        return self

    def predict_log_proba(self, X):
        """Answer from that backbone's columns."""
        return self.clf_.predict_log_proba(only(X, *self.columns_)[0])


def label_free() -> dict[str, Callable]:
    """Return what needs no labels."""
    return {
        "logit average": ensembles.LogitAverage,
        AVERAGE: ensembles.ProbabilityAverage,
        "vote": ensembles.Vote,
        "vote, three best": lambda **kw: ensembles.Vote(3, **kw),
        "most confident": ensembles.MostConfident,
        "confidence cascade": ensembles.ConfidenceCascade,
    }


def combiners(seed: int) -> dict[str, Callable]:
    """Return what learns how to combine zero-shot answers."""
    trained = {"n_steps": N_STEPS, "random_state": seed}
    return {
        "best single (on the labels)": ensembles.BestBackbone,
        "calibrated average": ensembles.CalibratedAverage,
        "calibrated confidence": ensembles.CalibratedConfidence,
        "genetic search (GAC)": partial(ensembles.GeneticSearch, random_state=seed),
        SUPER: ensembles.SuperLearner,
        "mixture of experts": partial(ensembles.MixtureOfExperts, **trained),
        "softmax gate": partial(ensembles.SoftmaxGate, **trained),
        NLC: partial(ensembles.NeuralLogitController, **trained),
        SIGNED: partial(ensembles.NeuralLogitController, weight_map="raw", **trained),
    }


def controls() -> dict[str, Callable]:
    """Return what learns the task itself from the same labels."""
    head = partial(ScikitLearn, True)
    return {
        "linear head": ScikitLearn,
        HEAD: head,
        HEAD_ON_ONE: lambda *, layout: OnBestBackbone(head, layout=layout),
        "Tip-Adapter, all backbones": heads.TipAdapterHead,
        OURS: ensembles.AdaptiveBackboneEnsemble,
    }


def combine(material: Material, shots: int | None, seed: int, n_test: int) -> list[dict]:
    """Score every method with so many labelled images per class."""
    material.need_several()
    material.need_texts()
    learn, test = material.draw(shots, seed), material.tested(n_test)
    methods = {**label_free(), **combiners(seed), **controls()}
    if shots is None and seed == 0:
        methods[LONG] = partial(methods[SIGNED], n_steps=MANY_STEPS)
    if not material.embedded:  # nothing to learn the task from but the answers themselves
        for name in set(controls()) - {HEAD, OURS}:
            del methods[name]
    common = {
        "group": material.group,
        "shots": words(shots),
        "draw": seed,
        "n_learn": len(learn),
        "n_test": len(test),
    }
    order = np.array(material.layout.classes)
    best, oracle = reference(material.X[test], material.layout, order, material.y[test])
    rows = [{"method": BEST, "accuracy": best}, {"method": ORACLE, "accuracy": oracle}]
    for name, method in methods.items():
        scores = measure(method, material.X, material.layout, material.y, learn, test)
        rows.append({"method": name, **scores})
    return [{**common, **row} for row in rows]
