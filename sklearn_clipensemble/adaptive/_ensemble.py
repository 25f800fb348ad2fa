"""The default combiner: zero-shot evidence and a few-shot correction per backbone."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Integral
from typing import ClassVar

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.special import logsumexp

from sklearn_clipensemble._compat import Interval, VisualBlock
from sklearn_clipensemble._runtime import one_blas_thread
from sklearn_clipensemble.adaptive._few_shot import learn
from sklearn_clipensemble.adaptive._pool import zero_shot
from sklearn_clipensemble.adaptive._priors import Priors
from sklearn_clipensemble.table._classifier import TableClassifier
from sklearn_clipensemble.table._draws import draw_shots
from sklearn_clipensemble.table._features import distinct
from sklearn_clipensemble.table._layout import Layout, show
from sklearn_clipensemble.table._read import Table

# Added to every backbone's part, so that weights are positive where one adds nothing.
_SMALLEST = 1e-9


class AdaptiveBackboneEnsemble(TableClassifier):
    """Combine several backbones with weights that differ from image to image.

    The default combiner. Each backbone says two things about an image: its
    zero-shot logits, and what the labelled images near it (in that backbone's
    own embedding) suggest. The logits of the ensemble are the sum of both over
    the backbones; how much each counts is learnt from the labels, from one per
    class on: labels that are held out in turn tell, and nothing is left to tune.
    Without labels (``fit(X)``) what is left is a zero-shot ensemble that trusts
    the backbones that agree with the others.

    Parameters
    ----------
    n_shots : int or None, default=None
        Learn from this many labelled rows of each class, drawn from those given
        to ``fit``, in draws nested in each other; None takes all. A search over it
        tells what labels are worth, and refits on no more than it chose: use
        :func:`~sklearn_clipensemble.shot_curve`, or search with ``refit=False``.
    class_prior : array-like of shape (n_classes,), mapping or None, default=None
        How frequent every class will be among the images to be answered: an
        array in the order of ``classes_``, or a mapping (a pandas Series, too)
        from label to frequency. None is negative; their sum does not matter.
        None expects the frequencies of the labels. It is read at predict, so
        that ``set_params`` changes it without another fit.
    priors : Priors or None, default=None
        What is believed before any label, a :class:`~sklearn_clipensemble.adaptive.Priors`
        for trials of the method itself; None for the defaults.
    random_state : int, RandomState instance or None, default=None
        Decides the draw; nothing else is random.

    Attributes
    ----------
    labelled_ : ndarray of int
        Indices of the classes that have a labelled row.
    labels_ : ndarray of shape (n_labelled,)
        The labels that were learnt from.
    labelled_rows_ : ndarray of shape (n_labelled,)
        The names of their rows: as texts those of ``X``, where it is a DataFrame that
        has names, otherwise numbers.
    class_shares_ : ndarray of shape (n_classes,)
        The part of the labels that each class has, by weight, with which
        ``class_prior`` is compared; the others' mean for one without labels.
    zero_shot_ : object or None
        The weighted sum of zero-shot logits: arrays ``weights``, ``scales`` and
        ``biases``; None where the table has no logits.
    scale_ : float
        What that sum is multiplied by.
    lift_ : float
        What one labelled row, on its own, adds to the logit of its class; 0 with
        fewer than two labelled classes.
    few_shot_ : object or None
        The few-shot correction: every backbone's ``metrics`` and ``landmarks``,
        and arrays ``shares`` and ``coef``; None with fewer than two labelled
        classes.

    See Also
    --------
    sklearn_clipensemble.ensembles.ProbabilityAverage : What it is compared with where there are no labels.
    sklearn_clipensemble.heads.KernelRidgeHead : The same evidence by regression.

    Notes
    -----
    With standardised logits ``z_b`` and embeddings ``e_b`` the logit of class
    ``c`` is ``r (sum_b a_b z_bc(x) + d_c) + f_c(x)``. The weights ``a_b`` and
    biases ``d_c`` are the most probable ones given the labels, under a Gaussian
    prior around weights that follow the backbones' agreement, and no bias. Then
    ``f_c`` is the most probable function given the labels and the rest, under a
    Gaussian-process prior with the kernel ``sum_b s_b exp(cos(e_b, e_b') - 1)``
    on embeddings in a metric learnt from the covariance within classes.

    Labels held out in up to four folds choose the shares ``s_b``, the prior
    variance of ``f`` and the scales of both parts. With one label per class the
    variance follows from what the zero-shot logits leave unexplained. A class
    without labels keeps its zero-shot logit, and the labelled classes together
    their zero-shot probability. The documentation has the arguments for each
    step, and what else was tried.

    A backbone's combination weight is its share of the evidence for the image:
    the standard deviation over the classes of ``r a_b z_b + f_b``, as a part of
    the backbones' sum.

    References
    ----------
    Y. Miao et al., "Bayesian exploration of pre-trained models for low-shot image classification",
    CVPR 2024: the Gaussian process with the zero-shot classifier as its mean.
    Z. Wang et al., "A hard-to-beat baseline for training-free CLIP-based adaptation", ICLR 2024:
    the covariance within classes of CLIP embeddings.
    Y. Bendou et al., "ProKeR: a kernel perspective on few-shot adaptation of large vision-language
    models", CVPR 2025: the kernel around a zero-shot prior.
    C. E. Rasmussen and C. K. I. Williams, "Gaussian Processes for Machine Learning", MIT Press
    2006, chapter 3: the classification likelihood.

    Examples
    --------
    Any table of features will do; here the upper and the lower half of
    handwritten digits, four of each labelled:

    >>> from sklearn.datasets import load_digits
    >>> from sklearn_clipensemble import AdaptiveBackboneEnsemble, Layout
    >>> X, y = load_digits(return_X_y=True)
    >>> halves = Layout({"upper": 32, "lower": 32})
    >>> clf = AdaptiveBackboneEnsemble(n_shots=4, layout=halves, random_state=0)
    >>> clf.fit(X[:1000], y[:1000]).score(X[1000:], y[1000:])
    0.76...
    >>> clf.combination_weights(X[1000:]).round(2).head(2)
       upper  lower
    0   0.46   0.54
    1   0.26   0.74
    """

    _needs_labels = False
    _parameter_constraints: ClassVar[dict] = {
        "n_shots": [Interval(Integral, 1, None, closed="left"), None],
        **TableClassifier._parameter_constraints,
        "class_prior": ["array-like", Mapping, None],
        "priors": [Priors, None],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        *,
        n_shots: int | None = None,
        layout: Layout | None = None,
        unread_label: str | float | None = None,
        class_prior: ArrayLike | Mapping | None = None,
        priors: Priors | None = None,
        random_state: int | np.random.RandomState | None = None,
    ):
        super().__init__(layout=layout, unread_label=unread_label)
        self.n_shots = n_shots
        self.class_prior = class_prior
        self.priors = priors
        self.random_state = random_state

    @one_blas_thread()  # products are many, and not large
    def _fit(self, table: Table, codes, sample_weight):
        weight = np.ones(len(table)) if sample_weight is None else sample_weight
        rows = np.flatnonzero(weight > 0)
        if codes is not None:
            rows = rows[np.sort(draw_shots(codes[rows], self.n_shots, self.random_state))]
            codes = codes[rows]
        weight = weight[rows].astype(np.float64)
        if len(rows) < len(table):
            table = table.take(rows)
        self.labelled_ = np.unique([] if codes is None else codes)
        self.labels_ = self.classes_[np.array([], int) if codes is None else codes]
        names = table.index[: len(self.labels_)]
        # Plain arrays, which every way of saving an estimator knows.
        self.labelled_rows_ = names.to_numpy(int if names.dtype.kind in "iu" else str)
        mass = np.bincount([] if codes is None else codes, weight, len(self.classes_))
        mass[mass == 0] = mass[mass > 0].mean() if mass.any() else 1.0
        self.class_shares_ = mass / mass.sum()
        self._prior()
        priors = self.priors or Priors()
        self.few_shot_, self.scale_, self.lift_ = None, 1.0, 0.0
        if len(self.labelled_) > 1:
            first, weight = distinct(table.X, codes, weight)
            if len(first) < len(table):
                table, codes = table.take(first), codes[first]
            learnt = learn(table, _features(table), codes, weight, priors)
            self.zero_shot_, self.few_shot_, self.scale_, self.lift_, order = learnt
            self._learnt_from = first[order]
        else:
            self.zero_shot_ = zero_shot(table, codes, weight, priors)

    def _prior(self):
        """Return what ``class_prior`` adds to every class's logit; None where it is not given."""
        prior = self.class_prior
        if prior is None:
            return None
        if isinstance(prior, Mapping | pd.Series):
            if isinstance(prior, pd.Series) and prior.index.has_duplicates:
                twice = prior.index[prior.index.duplicated()][0]
                raise ValueError(f"class_prior names {show(twice)} twice: give it one frequency.")
            given, classes = dict(prior), self.classes_.tolist()
            missing = [label for label in classes if label not in given]
            unknown = [label for label in given if label not in classes]
            if missing or unknown:
                raise ValueError(
                    "class_prior must have a frequency for every class, and for nothing else. "
                    f"Classes without one: {missing[:5]}; labels that are no class: {unknown[:5]}."
                )
            prior = [given[label] for label in classes]
        try:
            prior = np.asarray(prior, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise ValueError(f"class_prior must hold numbers: {error}.") from error
        if prior.shape != self.classes_.shape:
            raise ValueError(
                f"class_prior has shape {prior.shape}, but there are {len(self.classes_)} classes: "
                "give one frequency for each, in the order of classes_, or a mapping."
            )
        wrong = ~np.isfinite(prior) | (prior < 0)
        if wrong.any() or not prior.any():
            where = wrong.argmax()
            raise ValueError(
                "class_prior must hold finite frequencies, none negative and not all zero; "
                f"that of class {show(self.classes_[where])} is {prior[where]}."
            )
        with np.errstate(divide="ignore"):  # a class that is never expected is never answered
            return np.log(prior / prior.sum() / self.class_shares_)

    def _log_proba(self, table: Table) -> np.ndarray:
        prior = self._prior()
        return self._logits(table) if prior is None else self._logits(table) + prior

    def _logits(self, table):
        """Return the sum of all evidence, for one batch of rows."""
        logits = np.zeros((len(table), len(self.classes_)), table.X.dtype)
        if self.zero_shot_ is not None:
            logits = self.zero_shot_(table) * logits.dtype.type(self.scale_)
        if self.few_shot_ is None:
            return logits
        correction = self.few_shot_(_features(table))
        if len(self.labelled_) < len(self.classes_):
            # Labels tell the labelled classes apart, not whether an image is of one of them.
            before = logits[:, self.labelled_]
            correction -= (logsumexp(before + correction, 1) - logsumexp(before, 1))[:, None]
        logits[:, self.labelled_] += correction
        return logits

    def _parts(self, table):
        """Return what zero-shot answers add to the logits and what labels do, by backbone.

        Of shape ``(2, n_backbones, n_samples, n_classes)``, for one batch of rows. Biases and the
        class prior are in neither.
        """
        parts = np.zeros((2, len(table.backbones), len(table), len(self.classes_)), table.X.dtype)
        if self.zero_shot_ is not None:
            answering = [b in table.with_logits for b in table.backbones]
            parts[0, answering] = self.zero_shot_.parts(table) * table.X.dtype.type(self.scale_)
        if self.few_shot_ is not None:
            corrections = self.few_shot_.parts(_features(table))
            for part, correction in zip(parts[1], corrections, strict=True):
                part[:, self.labelled_] = correction
        return parts

    def _neighbours(self, table):
        """Return how alike a row is to those learnt from, and what each of them adds to the logits.

        A list of ``(rows of labels_, similarity, ndarray of shape (n_classes,))``, the most alike first.
        """
        if self.few_shot_ is None:
            return []
        alike, added = (found[0] for found in self.few_shot_.influence(_features(table)))
        logits = np.zeros((len(alike), len(self.classes_)))
        logits[:, self.labelled_] = added
        rows = [self._learnt_from[self.few_shot_.of_landmark == i] for i in range(len(alike))]
        order = np.argsort(-alike, kind="stable")
        return [(rows[i], float(alike[i]), logits[i]) for i in order]

    def _weights(self, table):
        """Return how much every backbone adds, for one batch of rows."""
        parts = self._parts(table).sum(axis=0)
        spread = parts.std(axis=2, dtype=np.float64).T + _SMALLEST
        return spread / spread.sum(axis=1, keepdims=True)

    def _sk_visual_block_(self):
        words = None
        if hasattr(self, "labels_"):
            words = (
                f"{_count(len(self.backbones_), 'backbone')}, {len(self.classes_):,} classes, "
                f"{_count(len(self.labels_), 'labelled image')}"
            )
            if self.few_shot_ is not None:
                words += f"; one adds about {self.lift_:.1f} to its class"
        name = type(self).__name__
        return VisualBlock("single", self, names=name, name_details=str(self), name_caption=words)


def _count(n, what):
    return f"{n:,} {what}{'' if n == 1 else 's'}" if n else f"no {what}"


def _features(table):
    """Return every backbone's features, those made of logits free of a common constant."""
    return [
        f if table.layout.widths[b] else f - f.mean(axis=1, keepdims=True)
        for b, f in ((b, table.features(b)) for b in table.backbones)
    ]
