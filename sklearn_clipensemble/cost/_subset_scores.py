"""How good an ensemble of some backbones would be, as labels that it has not seen show."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from scipy.special import log_softmax

from sklearn_clipensemble.adaptive import AdaptiveBackboneEnsemble, Priors
from sklearn_clipensemble.cost._exit_rule import fit_temperature
from sklearn_clipensemble.table._draws import balanced_folds
from sklearn_clipensemble.table._layout import Layout
from sklearn_clipensemble.table._read import Table

# Labels are held out in so many folds at least, and about so many labels at most.
_N_FOLDS, _N_HELD_OUT = 4, 1000
# What is learnt within a fold is the default ensemble of one backbone, which holds nothing out itself.
_PRIORS = Priors(n_held_out=0)


class SubsetScores:
    """What every backbone says of images whose labels it has not seen, and so what any of them would say.

    Labels are held out in balanced folds. Those of a class that has no other are not: the backbone's
    zero-shot answers, which know no label, stand for what it would say; without these it says nothing.
    The answer of several backbones is the mean of their log-probabilities, at the most likely
    temperature.

    Attributes
    ----------
    empty : bool
        Whether there is nothing to go by: one label per class, and no zero-shot logits.
    """

    def __init__(self, table: Table, codes: np.ndarray, classes: np.ndarray):
        labelled, codes = np.unique(codes, return_inverse=True)
        n_folds = max(_N_FOLDS, len(codes) // _N_HELD_OUT)
        folds = list(balanced_folds(codes, n_folds, _N_HELD_OUT))
        alone = np.flatnonzero(np.bincount(codes)[codes] == 1)[:_N_HELD_OUT]
        rows = np.concatenate([alone, *(out for _, out in folds)])
        self.empty = not folds and not table.has_logits
        self._codes = codes[rows]
        shape = len(table.backbones), len(rows), len(labelled)
        self._log_proba = np.zeros(shape, np.float32)
        self._answers = np.ones(shape[:2], dtype=bool)
        for backbone, answers in zip(table.backbones, self._log_proba, strict=True):
            if backbone in table.with_logits:
                answers[: len(alone)] = table.logits(backbone)[alone][:, labelled]
            else:
                self._answers[table.find(backbone), : len(alone)] = False
            X, layout, start = *_columns(table, backbone), len(alone)
            for learn, out in folds:
                clf = AdaptiveBackboneEnsemble(layout=layout, priors=_PRIORS)
                clf.fit(X[learn], classes[labelled][codes[learn]])
                columns = np.searchsorted(clf.classes_, classes[labelled])
                answers[start : start + len(out)] = clf.predict_log_proba(X[out])[:, columns]
                start += len(out)
        self._log_proba = log_softmax(self._log_proba, axis=2)
        self._known: dict[frozenset, tuple[float, float]] = {}

    @property
    def of_a_guess(self) -> float:
        """The mean log-likelihood of a guess."""
        return -float(np.log(self._log_proba.shape[2]))

    def score(self, backbones: Iterable[int]) -> tuple[float, float]:
        """Return the mean log-likelihood and the accuracy of some backbones, by their positions."""
        members = frozenset(backbones)
        if members not in self._known:
            chosen = sorted(members)
            n_answers = self._answers[chosen].sum(axis=0).clip(1)
            mean = self._log_proba[chosen].sum(axis=0) / n_answers[:, None]
            log_proba = log_softmax(mean / fit_temperature(mean, self._codes), axis=1)
            right = log_proba.argmax(axis=1) == self._codes
            of_label = log_proba[np.arange(len(mean)), self._codes]
            self._known[members] = float(of_label.mean(dtype=np.float64)), float(right.mean())
        return self._known[members]


def _columns(table: Table, backbone: str) -> tuple[np.ndarray, Layout]:
    """Return the columns of one backbone, and what they are, under a name that says no more."""
    layout, parts = table.layout, []
    classes: Sequence[Any] = ()
    if layout.widths[backbone]:
        parts.append(layout.embedding(table.X, backbone))
    if backbone in table.with_logits:
        parts.append(layout.logits(table.X, backbone))
        classes = layout.classes
    return np.hstack(parts), Layout({"backbone": layout.widths[backbone]}, classes)
