"""Combiners that need no labels."""

from __future__ import annotations

from numbers import Integral
from typing import ClassVar

import numpy as np
from scipy.special import softmax

from sklearn_clipensemble._compat import Interval
from sklearn_clipensemble.baselines._combiner import ZeroShotCombiner
from sklearn_clipensemble.table._layout import Layout
from sklearn_clipensemble.table._scores import mean_log_proba


def equal_weights(n_backbones: int) -> np.ndarray:
    """Return the same weight for all, summing to one."""
    return np.full(n_backbones, 1 / n_backbones)


def surest(log_probas: np.ndarray) -> np.ndarray:
    """Return the weights of the backbones that are surest of their answer, shared where several are."""
    confidence = log_probas.max(axis=2).T
    chosen = confidence == confidence.max(axis=1, keepdims=True)
    return chosen / chosen.sum(axis=1, keepdims=True)


class SingleBackbone(ZeroShotCombiner):
    """One backbone on its own, by name: what every combination has to beat.

    Parameters
    ----------
    backbone : str or None, default=None
        Its id, as in the table's columns; None takes the first.

    Attributes
    ----------
    weights_ : ndarray of shape (n_backbones,)
        One for the chosen backbone, zero for the others.

    References
    ----------
    C. Rodriguez-Opazo et al., "Synergy and Diversity in CLIP", ICLR 2025.

    Examples
    --------
    >>> from sklearn_clipensemble import datasets, ensembles
    >>> X, y = datasets.load_cats_and_dogs()
    >>> ensembles.SingleBackbone("small").fit(X).predict(X)
    array(['cat', 'dog', 'cat', 'dog', 'dog', 'dog'], dtype='<U3')
    """

    _needs_labels = False
    _parameter_constraints: ClassVar[dict] = {
        "backbone": [str, None],
        **ZeroShotCombiner._parameter_constraints,
    }

    def __init__(
        self,
        backbone: str | None = None,
        *,
        layout: Layout | None = None,
        unread_label: str | float | None = None,
    ):
        super().__init__(layout=layout, unread_label=unread_label)
        self.backbone = backbone

    def _learn(self, log_probas, table, codes, weight):
        chosen = 0 if self.backbone is None else table.find(self.backbone)
        self.weights_ = np.eye(len(table.backbones))[chosen]


class LogitAverage(ZeroShotCombiner):
    """The average of the backbones' logits.

    The same as the normalised geometric mean of the probabilities. A backbone
    with a larger logit scale counts more, and one that is sure and wrong can
    outvote the others; not so in :class:`ProbabilityAverage`.

    Attributes
    ----------
    weights_ : ndarray of shape (n_backbones,)
        The equal weights.

    References
    ----------
    J. Kittler et al., "On combining classifiers", IEEE TPAMI 20(3), 1998: the product rule.

    Examples
    --------
    >>> from sklearn_clipensemble import datasets, ensembles
    >>> X, y = datasets.load_cats_and_dogs()
    >>> ensembles.LogitAverage().fit(X).predict_proba(X[:2]).round(2)
    array([[0.88, 0.12],
           [0.62, 0.38]])
    """

    _needs_labels = False
    _of_logits = True

    def _learn(self, log_probas, table, codes, weight):
        self.weights_ = equal_weights(len(table.backbones))


class ProbabilityAverage(ZeroShotCombiner):
    """The average of the backbones' probabilities.

    The label-free combiner to start from: every backbone has the same say,
    whatever its logit scale.

    Attributes
    ----------
    weights_ : ndarray of shape (n_backbones,)
        The equal weights.

    References
    ----------
    J. Kittler et al., "On combining classifiers", IEEE TPAMI 20(3), 1998: the sum rule.

    Examples
    --------
    >>> from sklearn_clipensemble import datasets, ensembles
    >>> X, y = datasets.load_cats_and_dogs()
    >>> ensembles.ProbabilityAverage().fit(X).predict_proba(X[:2]).round(2)
    array([[0.84, 0.16],
           [0.57, 0.43]])
    """

    _needs_labels = False

    def _learn(self, log_probas, table, codes, weight):
        self.weights_ = equal_weights(len(table.backbones))


class Vote(ZeroShotCombiner):
    """Every backbone votes for its ``n_best`` classes.

    A vote counts one, whatever its rank. The probability of a class is
    proportional to its votes plus half its average probability over the
    backbones, which breaks ties.

    Parameters
    ----------
    n_best : int, default=1
        Number of classes each backbone votes for, 1 and 3 in the paper; at most
        all but the worst.

    References
    ----------
    C. Rodriguez-Opazo et al., "Synergy and Diversity in CLIP", ICLR 2025.

    Examples
    --------
    >>> from sklearn_clipensemble import datasets, ensembles
    >>> X, y = datasets.load_cats_and_dogs()
    >>> ensembles.Vote().fit(X).predict_proba(X[:2]).round(2)
    array([[0.97, 0.03],
           [0.51, 0.49]])
    """

    _needs_labels = False
    _weights = None  # type: ignore[assignment]  # votes are not weights
    _parameter_constraints: ClassVar[dict] = {
        "n_best": [Interval(Integral, 1, None, closed="left")],
        **ZeroShotCombiner._parameter_constraints,
    }

    def __init__(
        self,
        n_best: int = 1,
        *,
        layout: Layout | None = None,
        unread_label: str | float | None = None,
    ):
        super().__init__(layout=layout, unread_label=unread_label)
        self.n_best = n_best

    def _combine(self, log_probas, table):
        n_classes = log_probas.shape[2]
        n_best = min(self.n_best, n_classes - 1)
        best = np.argpartition(-log_probas, n_best - 1, axis=2)[:, :, :n_best]
        votes = np.zeros(log_probas.shape[1:])
        rows = np.arange(len(votes))[:, None]
        for chosen in best:
            votes[rows, chosen] += 1
        with np.errstate(divide="ignore"):
            return np.logaddexp(np.log(votes), mean_log_proba(log_probas) - np.log(2))


class MostConfident(ZeroShotCombiner):
    """For every row, the backbone that is surest of its answer.

    That is the one with the highest probability of its best class, or the
    average of several. An overconfident backbone wins often;
    :class:`CalibratedConfidence` calibrates them first.

    References
    ----------
    C. Rodriguez-Opazo et al., "Synergy and Diversity in CLIP", ICLR 2025.

    Examples
    --------
    >>> from sklearn_clipensemble import datasets, ensembles
    >>> X, y = datasets.load_cats_and_dogs()
    >>> ensembles.MostConfident().fit(X).combination_weights(X[1:3])
       large  small
    1    1.0    0.0
    2    0.0    1.0
    """

    _needs_labels = False

    def _weigh(self, log_probas, table):
        return surest(log_probas)


class EntropyWeighted(ZeroShotCombiner):
    """Probabilities averaged with weights inverse to their entropy, row by row.

    Entropies below 0.001 nats count as 0.001, so that of two backbones that are
    quite sure one cannot take all the weight.

    References
    ----------
    H. Misra et al., "New entropy based combination rules in HMM/ANN multi-stream ASR", ICASSP 2003.

    Examples
    --------
    >>> from sklearn_clipensemble import datasets, ensembles
    >>> X, y = datasets.load_cats_and_dogs()
    >>> ensembles.EntropyWeighted().fit(X).combination_weights(X[1:3]).round(2)
       large  small
    1   0.61   0.39
    2   0.36   0.64
    """

    _needs_labels = False

    def _weigh(self, log_probas, table):
        entropy = -np.einsum("bnc,bnc->nb", np.exp(log_probas), log_probas)
        weights = 1 / np.maximum(entropy, 1e-3)
        return weights / weights.sum(axis=1, keepdims=True)


class AgreementWeighted(ZeroShotCombiner):
    """Logits averaged with weights by agreement with the others (CaFo).

    Each backbone's logits are standardised over the classes; its weight on a
    row is the softmax of the inner product with a reference.

    Notes
    -----
    In CaFo the reference is CLIP's zero-shot prediction and the members are
    few-shot heads; here it is the mean of the other backbones. The sum is brought
    back to the backbones' own spread. With many classes one backbone takes all,
    as in the released code.

    References
    ----------
    R. Zhang et al., "Prompt, generate, then cache", CVPR 2023.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_clipensemble.ensembles import AgreementWeighted
    >>> logits = np.array([[[3.0, 0.0, 0.0], [2.0, 0.5, 0.0], [0.0, 0.0, 1.0]]])
    >>> AgreementWeighted().fit(logits).combination_weights(logits).round(2)
       backbone0  backbone1  backbone2
    0       0.55       0.41       0.05
    """

    _needs_labels = False

    def _weigh(self, log_probas, table):
        return _agreement(_standardise(log_probas)[0])

    def _combine(self, log_probas, table):
        scores, spread = _standardise(log_probas)
        weights = _agreement(scores)
        scale = np.einsum("nb,bn->n", weights, spread)
        return np.einsum("nb,bnc->nc", weights, scores) * scale[:, None]


def _standardise(log_probas):
    """Return log-probabilities with mean 0 and deviation 1 over the classes, and the deviation."""
    centred = log_probas - log_probas.mean(axis=2, keepdims=True)
    # In units of the largest, whose square is finite whatever the scale.
    largest = np.abs(centred).max(axis=2, keepdims=True)
    centred /= np.where(largest > 0, largest, 1)
    spread = centred.std(axis=2, keepdims=True)
    return centred / np.where(spread > 0, spread, 1), (spread * largest)[:, :, 0]


def _agreement(scores):
    """Return the softmax over backbones of the inner product with the mean of the others."""
    others = (scores.sum(axis=0) - scores) / max(len(scores) - 1, 1)
    return softmax(np.einsum("bnc,bnc->nb", scores, others), axis=1)
