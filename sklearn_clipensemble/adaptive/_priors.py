"""What the adaptive ensemble believes before it has seen a label, and how far it looks."""

from __future__ import annotations

from dataclasses import dataclass, field

from sklearn_clipensemble.table._metric import MetricPriors


@dataclass(frozen=True, kw_only=True)
class Priors:
    """What :class:`AdaptiveBackboneEnsemble` believes before it has seen a label.

    The defaults were chosen on the development halves of the benchmark's sets.
    They suit tables of every kind that was measured, so there is seldom a reason
    to change one; other values are for trials of the method itself. A *lift*
    is what one labelled row, on its own, adds to the logit of its class.

    Parameters
    ----------
    metric : MetricPriors, default=MetricPriors()
        How the metric of each embedding is shrunk.
    zero_shot_sharpness : float, default=2.5
        The standard deviation over the classes of the label-free zero-shot
        logits, in nats.
    weight_precision : float, default=10.0
        The precision of the zero-shot weights about the label-free ones, as far
        as their proportions go.
    size_precision : float, default=2.0
        The same of their common size.
    bias_precision : float, default=1.0
        The precision of the classes' biases about zero, where zero-shot answers
        know nothing. Where they leave a share u of the labels' uncertainty it is
        divided by u squared.
    unexplained_without_logits : float, default=0.1
        The share of the labels' uncertainty that is left where a table has no
        zero-shot logits.
    lifts : tuple of float, default=(0.3, 1.0, 3.0, 10.0)
        The lifts that are tried on held-out labels, in nats, in ascending order.
    n_dimensions : float, default=30.0
        In how many dimensions labelled rows of different classes are expected to lie.
    n_pairs : float, default=5.0
        How many pairs of rows that expectation is worth beside what their cosines
        say; 0 goes by them alone.
    largest_lift : float, default=12.0
        The largest lift that is expected, in nats.
    largest_lift_alone : float, default=3.0
        The largest lift at which backbones are compared with each other, in
        nats. What each is worth shows as well as at larger ones, in less time.
    lift_precision : float, default=2.0
        How firmly the lift is believed to be the expected one, in nats per
        squared logarithm.
    scale_precision : float, default=5.0
        How firmly the scales of the zero-shot answers and of the correction are
        believed to be 1, in nats per squared logarithm.
    share_precision : float, default=2.0
        How firmly the backbones' shares are believed to be equal, in nats per
        squared logarithm.
    negligible_evidence : float, default=8.0
        A lift whose evidence is so many nats below the best counts for nothing,
        and no lift beyond it is tried.
    n_folds : int, default=4
        Labels are held out in at most so many folds.
    n_held_out : int, default=512
        No further fold is made once so many rows have been held out; 0 holds
        none out.
    n_classes_held_out : int, default=256
        Of more classes, so many are held out.
    sharpness : float, default=1.15
        What all logits are multiplied by where nothing is held out.
    sharpness_without_logits : float, default=1.8
        The same for tables without zero-shot logits.
    max_rows : int, default=1024
        With more rows, means of rows span the correction's functions.
    n_means : int, default=512
        About how many means; at least one of every class.
    n_functions : int, default=512
        At most so many functions, those that vary most, where means span them.
    tolerance : float, default=1e-4
        The part of the loss without a correction that may be left to gain.

    Examples
    --------
    >>> from sklearn_clipensemble import AdaptiveBackboneEnsemble
    >>> from sklearn_clipensemble.adaptive import Priors
    >>> AdaptiveBackboneEnsemble(priors=Priors(n_held_out=0)).priors.n_held_out
    0
    """

    metric: MetricPriors = field(default_factory=MetricPriors)
    zero_shot_sharpness: float = 2.5
    weight_precision: float = 10.0
    size_precision: float = 2.0
    bias_precision: float = 1.0
    unexplained_without_logits: float = 0.1
    lifts: tuple[float, ...] = (0.3, 1.0, 3.0, 10.0)
    n_dimensions: float = 30.0
    n_pairs: float = 5.0
    largest_lift: float = 12.0
    largest_lift_alone: float = 3.0
    lift_precision: float = 2.0
    scale_precision: float = 5.0
    share_precision: float = 2.0
    negligible_evidence: float = 8.0
    n_folds: int = 4
    n_held_out: int = 512
    n_classes_held_out: int = 256
    sharpness: float = 1.15
    sharpness_without_logits: float = 1.8
    max_rows: int = 1024
    n_means: int = 512
    n_functions: int = 512
    tolerance: float = 1e-4
