"""When an image may leave a cascade: what further stages are worth, as held-out images show."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from sklearn_clipensemble.table._scores import first_exit

# What is believed before any image is held out, chosen with half of the benchmark's images: an
# average of j members errs less than one of k by a part of the doubt that goes with 1/k - 1/j.
_GAIN = 0.6
# The total doubt of that many held-out images is as good as this belief.
_PRIOR_DOUBT = 20.0
#: Prices of accuracy, in accuracy per whole cost of the ensemble, from never to always leaving.
_PRICES = np.concatenate([[0.0], np.geomspace(1e-6, 1e2, 1000), [np.inf]])


def doubt(log_proba: np.ndarray) -> np.ndarray:
    """Return 1 minus the margin between the two most probable classes: 0 is sure, 1 is a tie."""
    two = np.partition(np.exp(log_proba), -2, axis=-1)[..., -2:]
    return 1 - (two[..., 1] - two[..., 0])


def fit_temperature(log_proba: np.ndarray, codes: np.ndarray) -> float:
    """Return what log-probabilities of held-out images are best divided by, believed to be about 1."""
    rows = np.arange(len(codes))

    def loss(log_temperature):
        scaled = log_softmax(log_proba / np.exp(log_temperature), axis=1)
        return log_temperature**2 - scaled[rows, codes].sum()

    return float(np.exp(minimize_scalar(loss, bounds=(-3, 3), method="bounded").x))


@dataclass(frozen=True)
class ExitRule:
    """What is known of the stages of a cascade, and the thresholds that follow from a wish.

    What a further stage is worth to an image is taken to go with the doubt that is left, so that one
    number tells it for two stages: the gain. An image leaves where its doubt, times the best gain per
    cost that lies ahead, is not worth the price; one price for all stages loses least for what is
    saved. The wish decides the price.

    Held-out images may all happen to be easy, the fewer they are the likelier. So a tolerance counts one
    more, the worst that thresholds let go (A. N. Angelopoulos et al., "Conformal risk control", ICLR 2024).
    """

    #: Accuracy that is gained from a stage to a later one, per doubt at the first, (n_stages, n_stages).
    gains: np.ndarray
    #: The doubt of held-out images at every stage, (n_stages, n_held_out).
    doubts: np.ndarray
    #: What one image costs up to each stage, (n_stages,).
    costs: np.ndarray

    @classmethod
    def learn(cls, log_proba: np.ndarray, costs: np.ndarray) -> ExitRule:
        """Learn from log-probabilities of held-out images, (n_stages, n_held_out, n_classes).

        An answer is worth the probability that the last stage, which knows most, gives it. That takes
        no label, and tells more than whether few answers are right or wrong.
        """
        n_stages, n_held, _ = log_proba.shape
        stage = np.arange(n_stages)
        doubts = doubt(log_proba)
        answers = log_proba.argmax(axis=2)
        worth = np.exp(log_proba[-1])[np.arange(n_held), answers].sum(axis=1)
        believed = _GAIN * (1 / (stage + 1)[:, None] - 1 / (stage + 1))
        gains = worth - worth[:, None] + _PRIOR_DOUBT * believed
        gains /= (doubts.sum(axis=1) + _PRIOR_DOUBT)[:, None]
        return cls(np.where(stage > stage[:, None], gains, 0), doubts, costs)

    def thresholds(self, tolerance: float, budget: float | None) -> np.ndarray:
        """Return the doubt up to which an image leaves each stage; below 0 where none does.

        ``tolerance`` is the accuracy that may be lost in the mean; ``budget``, where it is given, the
        mean cost that may be spent instead.
        """
        if budget is not None:
            prices = range(len(_PRICES) - 1)
            at = bisect_left(prices, -budget, key=lambda i: -self.expect(self._at_price(i)))
            leave = self._at_price(at)
        elif tolerance == 0:
            leave = np.full(len(self.costs), -1.0)
        else:
            prices = range(1, len(_PRICES))
            leave = self._at_price(
                bisect_right(prices, tolerance, key=lambda i: self._risk(self._at_price(i)))
            )
        leave[-1] = np.inf
        return leave

    def _at_price(self, i: int) -> np.ndarray:
        """Return the thresholds at a price of one unit of accuracy."""
        ahead = self.costs - self.costs[:, None]
        rates = np.divide(self.gains, ahead, out=np.zeros_like(ahead), where=ahead > 0)
        return _divide(_PRICES[i] / self.costs[-1], rates.max(axis=1))

    def _risk(self, leave: np.ndarray) -> float:
        """Return the accuracy that thresholds lose, in the mean of the held-out images and the worst."""
        lost = self.gains[:, -1].clip(0)
        stage = first_exit(self.doubts <= leave[:, None])
        of_held_out = lost[stage] * self.doubts[stage, np.arange(len(stage))]
        return float(np.append(of_held_out, (lost * leave.clip(0, 1)).max()).mean())

    def expect(self, leave: np.ndarray) -> float:
        """Return what thresholds cost, in the mean of the held-out images."""
        return float(self.costs[first_exit(self.doubts <= leave[:, None])].mean())


def _divide(a: float, b: np.ndarray) -> np.ndarray:
    """Return a / b, infinity where b is not positive: nothing is gained there by going on."""
    return np.divide(a, b, out=np.full(b.shape, np.inf), where=b > 0)
