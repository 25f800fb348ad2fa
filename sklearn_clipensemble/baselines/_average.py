"""Combiners that need no labels."""

from __future__ import annotations

from numbers import Integral
from typing import ClassVar

import numpy as np
from scipy.special import softmax

from sklearn_clipensemble._compat import Interval
from sklearn_clipensemble.baselines._weighted import (
    StaticCombiner,
    WeightedCombiner,
    ZeroShotCombiner,
)
from sklearn_clipensemble.table._layout import Layout
from sklearn_clipensemble.table._scores import mean_log_proba


class SingleBackbone(StaticCombiner):
    """One backbone on its own.

    What every combination has to beat. The backbone is named; see
    :class:`BestBackbone` for the one that does best on the labelled examples.

    Parameters
    ----------
    backbone : str or None, default=None
        Id of the backbone, as in the table's columns; None takes the first.
    layout : Layout or None, default=None
        What the columns of a bare 2-D array are; a DataFrame says it itself.
    unread_label : str, number or None, default=None
        What to answer for an image that could not be read, a row that is NaN
        throughout; its probabilities are NaN. None refuses such rows.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The labels.
    backbones_ : list of str
        The backbones of the table.
    weights_ : ndarray of shape (n_backbones,)
        One for the chosen backbone, zero for the others.
    n_features_in_ : int
        Number of columns.

    References
    ----------
    C. Rodriguez-Opazo et al., "Synergy and Diversity in CLIP", ICLR 2025,
    arXiv:2405.17139: what every combination is compared with.

    Examples
    --------
    >>> import pandas as pd
    >>> from sklearn_clipensemble.ensembles import SingleBackbone
    >>> X = pd.DataFrame(
    ...     {"a__logit__cat": [2.0, 0.0], "a__logit__dog": [0.0, 1.0],
    ...      "b__logit__cat": [0.0, 3.0], "b__logit__dog": [1.0, 0.0]}
    ... )
    >>> SingleBackbone("b").fit(X).predict(X)
    array(['dog', 'cat'], dtype='<U3')
    """

    _needs_labels = False
    _parameter_constraints: ClassVar[dict] = {
        "backbone": [str, None],
        **StaticCombiner._parameter_constraints,
    }

    def __init__(
        self,
        backbone: str | None = None,
        *,
        layout: Layout | None = None,
        unread_label: str | float | None = None,
    ):
        self.backbone = backbone
        self.layout = layout
        self.unread_label = unread_label

    def _fit(self, table, codes, sample_weight):
        super()._fit(table, codes, sample_weight)
        if self.backbone is not None and self.backbone not in table.backbones:
            raise ValueError(
                f"The table has no backbone {self.backbone!r}; its backbones are: "
                f"{', '.join(table.backbones)}."
            )
        chosen = 0 if self.backbone is None else table.backbones.index(self.backbone)
        self.weights_ = np.eye(len(table.backbones))[chosen]


class _Average(StaticCombiner):
    """Equal weights."""

    _needs_labels = False

    def _fit(self, table, codes, sample_weight):
        super()._fit(table, codes, sample_weight)
        self.weights_ = np.full(len(table.backbones), 1 / len(table.backbones))


class LogitAverage(_Average):
    """The average of the backbones' logits.

    The plain ensemble: equal to the normalised geometric mean of the
    probabilities. A backbone with a larger logit scale weighs more, and one
    that is sure and wrong can outvote the others.

    Parameters
    ----------
    layout : Layout or None, default=None
        What the columns of a bare 2-D array are; a DataFrame says it itself.
    unread_label : str, number or None, default=None
        What to answer for an image that could not be read, a row that is NaN
        throughout; its probabilities are NaN. None refuses such rows.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The labels.
    backbones_ : list of str
        The backbones of the table.
    weights_ : ndarray of shape (n_backbones,)
        The equal weights.
    n_features_in_ : int
        Number of columns.

    See Also
    --------
    ProbabilityAverage : More robust to a bad member.

    References
    ----------
    J. Kittler, M. Hatef, R. P. W. Duin and J. Matas, "On combining classifiers",
    IEEE Transactions on Pattern Analysis and Machine Intelligence 20(3), 1998:
    the product rule.

    Examples
    --------
    >>> import pandas as pd
    >>> from sklearn_clipensemble.ensembles import LogitAverage
    >>> X = pd.DataFrame(
    ...     {"a__logit__cat": [2.0, 0.0], "a__logit__dog": [0.0, 1.0],
    ...      "b__logit__cat": [0.0, 3.0], "b__logit__dog": [1.0, 0.0]}
    ... )
    >>> LogitAverage().fit(X).predict_proba(X).round(3)
    array([[0.622, 0.378],
           [0.731, 0.269]])
    """

    _of_logits = True


class ProbabilityAverage(_Average):
    """The average of the backbones' probabilities.

    The label-free combiner to start from: every backbone has the same say
    whatever its logit scale, and a bad member cannot veto the others.

    Parameters
    ----------
    layout : Layout or None, default=None
        What the columns of a bare 2-D array are; a DataFrame says it itself.
    unread_label : str, number or None, default=None
        What to answer for an image that could not be read, a row that is NaN
        throughout; its probabilities are NaN. None refuses such rows.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The labels.
    backbones_ : list of str
        The backbones of the table.
    weights_ : ndarray of shape (n_backbones,)
        The equal weights.
    n_features_in_ : int
        Number of columns.

    See Also
    --------
    LogitAverage : The average of the logits.

    References
    ----------
    J. Kittler, M. Hatef, R. P. W. Duin and J. Matas, "On combining classifiers",
    IEEE Transactions on Pattern Analysis and Machine Intelligence 20(3), 1998:
    the sum rule.

    Examples
    --------
    >>> import pandas as pd
    >>> from sklearn_clipensemble.ensembles import ProbabilityAverage
    >>> X = pd.DataFrame(
    ...     {"a__logit__cat": [2.0, 0.0], "a__logit__dog": [0.0, 1.0],
    ...      "b__logit__cat": [0.0, 3.0], "b__logit__dog": [1.0, 0.0]}
    ... )
    >>> ProbabilityAverage().fit(X).predict_proba(X).round(3)
    array([[0.575, 0.425],
           [0.611, 0.389]])
    """


class Vote(ZeroShotCombiner):
    """Every backbone votes for its ``n_best`` classes.

    The votes of a class count one each, whatever their rank. Ties go to the
    class with the higher average probability, which has half a vote to give
    away: the probability of a class is proportional to its votes plus half its
    average probability.

    Parameters
    ----------
    n_best : int, default=1
        Number of classes each backbone votes for. The paper (see References)
        compares with 1 and 3; it must be smaller than the number of classes to
        say anything, and with fewer classes each backbone votes for all but the
        worst.
    layout : Layout or None, default=None
        What the columns of a bare 2-D array are; a DataFrame says it itself.
    unread_label : str, number or None, default=None
        What to answer for an image that could not be read, a row that is NaN
        throughout; its probabilities are NaN. None refuses such rows.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The labels.
    backbones_ : list of str
        The backbones of the table.
    n_features_in_ : int
        Number of columns.

    References
    ----------
    C. Rodriguez-Opazo et al., "Synergy and Diversity in CLIP", ICLR 2025,
    arXiv:2405.17139: a baseline there.

    Examples
    --------
    >>> import pandas as pd
    >>> from sklearn_clipensemble.ensembles import Vote
    >>> X = pd.DataFrame(
    ...     {"a__logit__cat": [2.0, 0.0], "a__logit__dog": [0.0, 1.0],
    ...      "b__logit__cat": [0.0, 3.0], "b__logit__dog": [1.0, 0.0]}
    ... )
    >>> Vote().fit(X).predict(X)
    array(['cat', 'cat'], dtype='<U3')
    """

    _needs_labels = False
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
        self.n_best = n_best
        self.layout = layout
        self.unread_label = unread_label

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


class MostConfident(WeightedCombiner):
    """For every row, the backbone that is surest of its answer.

    The surest is the one with the highest probability of its best class; where
    several are equally sure, their average. Probabilities are as sharp as a
    backbone's logit scale makes them, so an overconfident one wins often:
    :class:`CalibratedConfidence` calibrates them first.

    Parameters
    ----------
    layout : Layout or None, default=None
        What the columns of a bare 2-D array are; a DataFrame says it itself.
    unread_label : str, number or None, default=None
        What to answer for an image that could not be read, a row that is NaN
        throughout; its probabilities are NaN. None refuses such rows.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The labels.
    backbones_ : list of str
        The backbones of the table.
    n_features_in_ : int
        Number of columns.

    References
    ----------
    C. Rodriguez-Opazo et al., "Synergy and Diversity in CLIP", ICLR 2025,
    arXiv:2405.17139: a baseline there.

    Examples
    --------
    >>> import pandas as pd
    >>> from sklearn_clipensemble.ensembles import MostConfident
    >>> X = pd.DataFrame(
    ...     {"a__logit__cat": [2.0, 0.0], "a__logit__dog": [0.0, 1.0],
    ...      "b__logit__cat": [0.0, 3.0], "b__logit__dog": [1.0, 0.0]}
    ... )
    >>> MostConfident().fit(X).combination_weights(X)
         a    b
    0  1.0  0.0
    1  0.0  1.0
    """

    _needs_labels = False

    def _weights(self, log_probas, table):
        confidence = log_probas.max(axis=2).T
        surest = confidence == confidence.max(axis=1, keepdims=True)
        return surest / surest.sum(axis=1, keepdims=True)


class EntropyWeighted(WeightedCombiner):
    """Probabilities averaged with weights inverse to their entropy.

    A backbone that hesitates between classes counts less on that row.

    Parameters
    ----------
    layout : Layout or None, default=None
        What the columns of a bare 2-D array are; a DataFrame says it itself.
    unread_label : str, number or None, default=None
        What to answer for an image that could not be read, a row that is NaN
        throughout; its probabilities are NaN. None refuses such rows.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The labels.
    backbones_ : list of str
        The backbones of the table.
    n_features_in_ : int
        Number of columns.

    Notes
    -----
    Entropies below 0.001 nats count as 0.001, so that one backbone that is
    quite sure cannot take all of the weight from another that is too.

    References
    ----------
    H. Misra, H. Bourlard and V. Tyagi, "New entropy based combination rules in
    HMM/ANN multi-stream ASR", ICASSP 2003.

    Examples
    --------
    >>> import pandas as pd
    >>> from sklearn_clipensemble.ensembles import EntropyWeighted
    >>> X = pd.DataFrame(
    ...     {"a__logit__cat": [2.0, 0.0], "a__logit__dog": [0.0, 1.0],
    ...      "b__logit__cat": [0.0, 3.0], "b__logit__dog": [1.0, 0.0]}
    ... )
    >>> EntropyWeighted().fit(X).combination_weights(X).round(2)
          a     b
    0  0.61  0.39
    1  0.25  0.75
    """

    _needs_labels = False

    def _weights(self, log_probas, table):
        entropy = -np.einsum("bnc,bnc->nb", np.exp(log_probas), log_probas)
        weights = 1 / np.maximum(entropy, 1e-3)
        return weights / weights.sum(axis=1, keepdims=True)


class AgreementWeighted(WeightedCombiner):
    """Logits averaged with weights by agreement with the others (CaFo).

    Each backbone's logits are standardised over the classes; its weight on a
    row is the softmax of the inner product with a reference.

    Parameters
    ----------
    layout : Layout or None, default=None
        What the columns of a bare 2-D array are; a DataFrame says it itself.
    unread_label : str, number or None, default=None
        What to answer for an image that could not be read, a row that is NaN
        throughout; its probabilities are NaN. None refuses such rows.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The labels.
    backbones_ : list of str
        The backbones of the table.
    n_features_in_ : int
        Number of columns.

    Notes
    -----
    In CaFo the reference is CLIP's zero-shot prediction and the others are
    few-shot heads. Here all members are alike, so each one's reference is the
    mean of the others. The weights apply to standardised logits, which are
    brought back to the weighted average of the members' own spread to give
    probabilities. The inner product is a sum over classes, as in the released
    code, so that with many classes the weights become a choice.

    References
    ----------
    R. Zhang et al., "Prompt, generate, then cache: cascade of foundation models
    makes strong few-shot learners", CVPR 2023.

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

    def _weights(self, log_probas, table):
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
