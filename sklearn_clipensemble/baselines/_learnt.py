"""Combiners with one weight or temperature per backbone, learnt from labels."""

from __future__ import annotations

from numbers import Integral
from typing import ClassVar

import numpy as np
from sklearn.utils import check_random_state

from sklearn_clipensemble._compat import Interval
from sklearn_clipensemble.baselines._combiner import ZeroShotCombiner
from sklearn_clipensemble.baselines._label_free import equal_weights, surest
from sklearn_clipensemble.table._layout import Layout
from sklearn_clipensemble.table._scores import (
    fit_pool,
    fit_temperature,
    log_softmax,
    smooth_log_likelihood,
    spreads,
)


def _accuracy_then_likelihood(scores, codes, weight):
    """Return what to compare combiners by: their accuracy, and their likelihood among equals."""
    accuracy = np.average(scores.argmax(axis=1) == codes, weights=weight)
    return round(accuracy, 12), smooth_log_likelihood(log_softmax(scores), codes, weight)


class BestBackbone(ZeroShotCombiner):
    """The one backbone that does best on the labelled rows.

    The most accurate; among equals, the one that makes the labels most likely,
    each at its own best temperature. Papers often choose it on the test set.

    Attributes
    ----------
    weights_ : ndarray of shape (n_backbones,)
        One for the chosen backbone, zero for the others.
    best_backbone_ : str
        Its id.

    References
    ----------
    C. Rodriguez-Opazo et al., "Synergy and Diversity in CLIP", ICLR 2025.

    Examples
    --------
    >>> from sklearn_clipensemble import datasets, ensembles
    >>> X, y = datasets.load_cats_and_dogs()
    >>> ensembles.BestBackbone().fit(X, y).best_backbone_
    'large'
    """

    def _learn(self, log_probas, table, codes, weight):
        merits = []
        for scores in log_probas:
            temperature = fit_temperature(scores, codes, weight)
            merits.append(_accuracy_then_likelihood(scores / temperature, codes, weight))
        best = max(range(len(merits)), key=merits.__getitem__)
        self.best_backbone_ = table.backbones[best]
        self.weights_ = np.eye(len(merits))[best]


class _CalibrationMixin:
    """Divides every backbone's logits by a temperature of its own before they are combined.

    Attributes
    ----------
    temperatures_ : ndarray of shape (n_backbones,)
        What each backbone's logits are divided by.
    """

    def _learn(self, log_probas, table, codes, weight):
        self.temperatures_ = np.array([fit_temperature(s, codes, weight) for s in log_probas])

    def _log_probas(self, table):
        return log_softmax(super()._log_probas(table) / self.temperatures_[:, None, None])


class CalibratedAverage(_CalibrationMixin, ZeroShotCombiner):
    """The average of the backbones' probabilities, each calibrated on the labels.

    Every backbone's logits are divided by the temperature that makes the
    labels most likely. One more label that may be any class is added, spread
    over all rows (Platt's smoothing for many classes): else the temperature
    would be zero where a few rows are all right.

    Attributes
    ----------
    weights_ : ndarray of shape (n_backbones,)
        The equal weights.

    References
    ----------
    C. Guo, G. Pleiss, Y. Sun and K. Q. Weinberger, "On calibration of modern
    neural networks", ICML 2017.

    Examples
    --------
    >>> from sklearn_clipensemble import datasets, ensembles
    >>> X, y = datasets.load_cats_and_dogs()
    >>> ensembles.CalibratedAverage().fit(X, y).temperatures_.round(2)
    array([1.1 , 0.95])
    """

    def _learn(self, log_probas, table, codes, weight):
        super()._learn(log_probas, table, codes, weight)
        self.weights_ = equal_weights(len(log_probas))


class CalibratedConfidence(_CalibrationMixin, ZeroShotCombiner):
    """For every row, the backbone that is surest of its answer, once calibrated.

    :class:`MostConfident` at the temperatures of :class:`CalibratedAverage`.

    References
    ----------
    C. Rodriguez-Opazo et al., "Synergy and Diversity in CLIP", ICLR 2025.

    Examples
    --------
    >>> from sklearn_clipensemble import datasets, ensembles
    >>> X, y = datasets.load_cats_and_dogs()
    >>> ensembles.CalibratedConfidence().fit(X, y).combination_weights(X[1:3])
       large  small
    1    1.0    0.0
    2    0.0    1.0
    """

    def _weigh(self, log_probas, table):
        return surest(log_probas)


class SuperLearner(ZeroShotCombiner):
    """The most likely log-linear pool of the backbones: one weight each.

    The scores are the weighted sum of the backbones' zero-shot
    log-probabilities. The weights are not negative and make the labels most
    likely; they need not sum to one, so that they calibrate as well.

    Attributes
    ----------
    weights_ : ndarray of shape (n_backbones,)
        One for each backbone.

    Notes
    -----
    The source cross-validates predictions, which zero-shot ones need not be, and
    leaves the loss and the form open. Here they are the log-likelihood, with the
    smoothing of :class:`CalibratedAverage`, of a log-linear pool.

    References
    ----------
    M. J. van der Laan, E. C. Polley and A. E. Hubbard, "Super learner",
    Statistical Applications in Genetics and Molecular Biology 6 (2007).

    Examples
    --------
    >>> from sklearn_clipensemble import datasets, ensembles
    >>> X, y = datasets.load_cats_and_dogs()
    >>> ensembles.SuperLearner().fit(X, y).weights_.round(2)
    array([0.84, 0.8 ])
    """

    _of_logits = True

    def _learn(self, log_probas, table, codes, weight):
        start = equal_weights(len(log_probas))
        self.weights_ = fit_pool(log_probas, codes, weight, start)


class GeneticSearch(ZeroShotCombiner):
    """One factor per backbone's logits, by a genetic search for accuracy (GAC).

    The scores are the sum of the logits, each backbone's times its factor. The
    fittest is the most accurate; among equals, the one that makes the labels
    most likely.

    Parameters
    ----------
    population_size : int, default=32
        Candidates per generation.
    n_generations : int, default=40
        Number of generations.
    random_state : int, RandomState instance or None, default=None
        Decides the search.

    Attributes
    ----------
    weights_ : ndarray of shape (n_backbones,)
        The factors.

    Notes
    -----
    The paper names the method and no settings. Here genes are the logarithms of
    the factors, in units of each backbone's spread of logits: zero at first, and
    standard normal. The better half survives; children mix the genes of two
    survivors and move by a normal step of 0.3.

    References
    ----------
    C. Rodriguez-Opazo et al., "Synergy and Diversity in CLIP", ICLR 2025.

    Examples
    --------
    >>> from sklearn_clipensemble import datasets, ensembles
    >>> X, y = datasets.load_cats_and_dogs()
    >>> ensembles.GeneticSearch(random_state=0).fit(X, y).predict(X)
    array(['cat', 'cat', 'cat', 'dog', 'dog', 'dog'], dtype='<U3')
    """

    _of_logits = True
    _parameter_constraints: ClassVar[dict] = {
        "population_size": [Interval(Integral, 4, None, closed="left")],
        "n_generations": [Interval(Integral, 1, None, closed="left")],
        **ZeroShotCombiner._parameter_constraints,
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        population_size: int = 32,
        n_generations: int = 40,
        *,
        layout: Layout | None = None,
        unread_label: str | float | None = None,
        random_state: int | np.random.RandomState | None = None,
    ):
        super().__init__(layout=layout, unread_label=unread_label)
        self.population_size = population_size
        self.n_generations = n_generations
        self.random_state = random_state

    def _learn(self, log_probas, table, codes, weight):
        rng = check_random_state(self.random_state)
        unit = 1 / spreads(log_probas, weight)

        def fitness(genes):
            scores = np.einsum("b,bnc->nc", np.exp(genes) * unit, log_probas)
            return _accuracy_then_likelihood(scores, codes, weight)

        genes = rng.normal(size=(self.population_size, len(log_probas)))
        genes[0] = 0.0
        merits = [fitness(candidate) for candidate in genes]
        n_children = self.population_size // 2
        for _ in range(self.n_generations):
            order = sorted(range(len(genes)), key=merits.__getitem__, reverse=True)
            genes, merits = genes[order], [merits[i] for i in order]
            survivors = genes[:-n_children]
            parents = survivors[rng.randint(len(survivors), size=(2, n_children))]
            from_first = rng.uniform(size=parents.shape[1:]) < 0.5
            children = np.where(from_first, parents[0], parents[1])
            children = children + rng.normal(scale=0.3, size=children.shape)
            genes[-n_children:] = children
            merits[-n_children:] = [fitness(candidate) for candidate in children]
        best = max(range(len(genes)), key=merits.__getitem__)
        self.weights_ = np.exp(genes[best]) * unit


class GreedySelection(ZeroShotCombiner):
    """An average of probabilities that grows by the backbone that helps most (Caruana).

    Starting from the best backbone, the one whose addition makes the labels
    most likely joins the average, again and again, with replacement. The best
    average on the way is kept.

    Parameters
    ----------
    n_rounds : int, default=25
        Size up to which the average grows.

    Attributes
    ----------
    weights_ : ndarray of shape (n_backbones,)
        How often each backbone is in the average, as a share.

    Notes
    -----
    The source leaves the metric open (here the log-likelihood), and adds a sorted
    start and bags of members, which a handful of backbones does not need.

    References
    ----------
    R. Caruana, A. Niculescu-Mizil, G. Crew and A. Ksikes, "Ensemble selection
    from libraries of models", ICML 2004.

    Examples
    --------
    >>> from sklearn_clipensemble import datasets, ensembles
    >>> X, y = datasets.load_cats_and_dogs()
    >>> ensembles.GreedySelection().fit(X, y).weights_.round(2)
    array([0.87, 0.13])
    """

    _parameter_constraints: ClassVar[dict] = {
        "n_rounds": [Interval(Integral, 1, None, closed="left")],
        **ZeroShotCombiner._parameter_constraints,
    }

    def __init__(
        self,
        n_rounds: int = 25,
        *,
        layout: Layout | None = None,
        unread_label: str | float | None = None,
    ):
        super().__init__(layout=layout, unread_label=unread_label)
        self.n_rounds = n_rounds

    def _learn(self, log_probas, table, codes, weight):
        # Only the label's own probability counts for the likelihood.
        own = log_probas[:, np.arange(len(codes)), codes].astype(np.float64)
        counts = np.zeros(len(own))
        total, best_merit = np.full(own.shape[1], -np.inf), -np.inf
        for size in range(1, self.n_rounds + 1):
            grown = np.logaddexp(total, own)
            merits = np.average(grown, axis=1, weights=weight) - np.log(size)
            chosen = merits.argmax()
            counts[chosen] += 1
            total = grown[chosen]
            if merits[chosen] > best_merit + 1e-12:
                best_merit, self.weights_ = merits[chosen], counts / size
