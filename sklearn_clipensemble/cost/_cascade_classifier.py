"""Backbones asked one after another, and only while an answer is in doubt."""

from __future__ import annotations

import warnings
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from functools import partial
from numbers import Real
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.special import log_softmax
from sklearn import config_context
from sklearn.base import BaseEstimator, ClassifierMixin, MetaEstimatorMixin, clone
from sklearn.pipeline import Pipeline
from sklearn.utils import get_tags
from sklearn.utils.validation import check_is_fitted, validate_data

from sklearn_clipensemble._compat import (
    Interval,
    check_sample_weight,
    documented,
    feature_names,
    take_rows,
)
from sklearn_clipensemble.backbones import from_id
from sklearn_clipensemble.cost._exit_rule import ExitRule, doubt, fit_temperature
from sklearn_clipensemble.cost._gflops import gflops_of
from sklearn_clipensemble.cost._stages import (
    Rows,
    block_of_columns,
    blocks_of_images,
    in_stages,
)
from sklearn_clipensemble.embedding import CLIPEmbedder, ZeroShotLogits
from sklearn_clipensemble.table._draws import balanced_folds
from sklearn_clipensemble.table._labelled import labels_of
from sklearn_clipensemble.table._layout import Layout, part_of, refuse_what_is_no_table, show
from sklearn_clipensemble.table._read import read

# Labels are held out in so many folds at most, and about so many labels.
_N_FOLDS, _N_HELD_OUT = 4, 1000
#: The least probability of a class.
_LEAST = 1e-30


@documented
class CascadeClassifier(MetaEstimatorMixin, ClassifierMixin, BaseEstimator):
    """Ask backbones in order of cost, and leave off where the answer is sure.

    Takes a pipeline that begins with :class:`~sklearn_clipensemble.CLIPEmbedder` and makes it cheaper:
    the first stage, the cheapest backbone, embeds every image; only images whose answer is in doubt
    are embedded by the next. Each stage answers with the pipeline's other steps, fitted to the
    embeddings of the backbones so far; the last is the pipeline itself.

    Parameters
    ----------
    estimator : Pipeline or classifier
        A classifier of images: a pipeline of :class:`~sklearn_clipensemble.CLIPEmbedder`, any steps,
        and a classifier with ``predict_proba``. Or a classifier of tables, to see on a finished table
        of embeddings what a cascade would save.
    stages : sequence of sequences of str or None, default=None
        The ids of the backbones that each stage adds, every one once. None makes each backbone a
        stage, the cheapest first; where the classes' names are read, those without a text tower wait
        for the first that has one.
    tolerance : float, default=0.0075
        How much accuracy may be lost, in the mean over images, against the whole ensemble; 0 never
        leaves off early. It is read at predict: ``set_params`` changes it without another fit.
    budget : float or None, default=None
        What an image may cost in the mean, in GFLOPs; in place of ``tolerance``. It is read at predict,
        too.
    costs : mapping of str to float or None, default=None
        GFLOPs per image of backbones by id, where a table names some that are not known here.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The labels.
    stages_ : list of list of str
        The ids of the backbones that each stage adds.
    costs_ : ndarray of shape (n_stages,)
        GFLOPs per image up to each stage.
    embedder_ : CLIPEmbedder or None
        What embeds the images; None where a table was fitted.
    estimators_ : list of estimator
        What answers at each stage.
    temperatures_ : ndarray of shape (n_stages,)
        What every stage's log-probabilities are divided by, so that they mean the same.
    thresholds_ : ndarray of shape (n_stages,)
        The margin between the two most probable classes from which an image leaves each stage.
    expected_cost_ : float
        Mean GFLOPs per image of the images held out in ``fit``; NaN where none were.

    See Also
    --------
    sklearn_clipensemble.cost.BackboneSelector : Leaves out backbones for all images.
    sklearn_clipensemble.ensembles.ConfidenceCascade : The paper's cascade, on finished tables.

    Notes
    -----
    Labels held out in up to four balanced folds show what each stage says of new images. What going on
    is worth is taken to go with an image's doubt, one minus its margin. One number for each two stages
    tells how much, shrunk towards what an average of as many members would gain. An image leaves where
    its doubt, times the best gain per GFLOP ahead, is below a price; ``tolerance`` or ``budget`` decides
    the price. A label that is the only one of its class is held out with its class, if there are four
    classes or more, and teaches no temperature.

    What is promised is the tolerance: where images are hard, more is spent. The images held out may all
    happen to be easy, the fewer they are the likelier, so the tolerance also counts one that is as doubtful
    as any that may leave.

    An answer is the most probable class, also where the last step's own ``predict`` would say another.

    References
    ----------
    X. Wang et al., "Wisdom of committees: an overlooked approach to faster and more accurate models",
    ICLR 2022.
    A. N. Angelopoulos, S. Bates, A. Fisch, L. Lei and T. Schuster, "Conformal risk control", ICLR 2024:
    the image more that is counted.
    C. Rodriguez-Opazo et al., "Synergy and diversity in CLIP", ICLR 2025 (arXiv 2405.17139).

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn_clipensemble import (
    ...     AdaptiveBackboneEnsemble, CascadeClassifier, CLIPEmbedder, ZeroShotLogits)
    >>> digits = load_digits()
    >>> images, labels = digits.images / 16, digits.target.astype(str)
    >>> pipeline = make_pipeline(CLIPEmbedder("tiny"), ZeroShotLogits(), AdaptiveBackboneEnsemble())
    >>> clf = CascadeClassifier(pipeline).fit(images[:100], labels[:100])
    >>> clf.score(images[100:400], labels[100:400])
    0.99
    >>> whole = pipeline.fit(images[:100], labels[:100])
    >>> whole.score(images[100:400], labels[100:400])
    0.99...
    >>> print(f"{clf.cost(images[100:400]).mean() / clf.costs_[-1]:.0%} of the cost")
    10% of the cost
    """

    _parameter_constraints: ClassVar[dict] = {
        "estimator": [BaseEstimator],
        "stages": ["array-like", None],
        "tolerance": [Interval(Real, 0, 1, closed="both")],
        "budget": [Interval(Real, 0, None, closed="neither"), None],
        "costs": [Mapping, None],
    }

    def __init__(
        self,
        estimator: BaseEstimator,
        *,
        stages: Sequence[Sequence[str]] | None = None,
        tolerance: float = 0.0075,
        budget: float | None = None,
        costs: Mapping[str, float] | None = None,
    ):
        self.estimator = estimator
        self.stages = stages
        self.tolerance = tolerance
        self.budget = budget
        self.costs = costs

    def fit(self, X: Any, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Fit every stage, and learn when an image may leave.

        Parameters
        ----------
        X : sequence of images, or DataFrame
            What ``estimator`` takes. All images are embedded by all backbones. Images that could not be
            read, where the embedder has ``on_error="nan"``, are left out.
        y : array-like of shape (n_images,)
            The labels.
        sample_weight : array-like of shape (n_images,) or None, default=None
            Weights of the images, for the last step. Images of no weight are left out; when an image
            may leave, the others count alike.

        Returns
        -------
        self : object
            The fitted classifier.

        Raises
        ------
        TypeError
            If ``estimator`` is a pipeline of images that has no classifier with ``predict_proba``, or
            ``X`` is a table without names.
        ValueError
            If ``stages`` does not hold every backbone once, a cost is not known, ``budget`` is below
            what the first stage costs, or there is one class alone; and for what any of the steps
            refuses.
        """
        self._validate_params()
        if y is None:
            raise ValueError(
                f"{type(self).__name__} requires y to be passed, but the target y is None."
            )
        answerer, table = self._begin(X)
        labels = labels_of(y, len(table))
        weight = sample_weight
        if weight is not None:
            weight = check_sample_weight(weight, np.empty((len(table), 1)))
        unread = np.isnan(table.to_numpy()).all(axis=1)
        if unread.all():
            raise ValueError(f"None of the {len(table)} images could be read.")
        if unread.any():
            warnings.warn(
                f"{unread.sum()} of {len(table)} images could not be read, first image "
                f"{unread.argmax()}. They are left out of fit.",
                UserWarning,
                stacklevel=2,
            )
        kept = ~unread if weight is None else ~unread & (weight != 0)
        if not kept.any():
            raise ValueError(
                "All sample weights of images that could be read are zero: none is left to learn from."
            )
        labels, table = labels[kept], table[kept]
        weight = None if weight is None else weight[kept]
        ends = np.cumsum([layout.n_features for layout in self._layouts])
        columns = [name for layout in self._layouts for name in layout.names]
        table = table[columns].reset_index(drop=True)
        tables = [table[columns[:end]] for end in ends]
        self.estimators_ = [_fit(clone(answerer), table, labels, weight) for table in tables]
        self.classes_ = self._common_classes()
        if len(self.classes_) < 2:
            raise ValueError(
                f"{type(self).__name__} needs at least 2 classes; the data has 1 class: "
                f"{show(self.classes_[0])}."
            )
        codes = np.searchsorted(self.classes_, labels)
        held_out, held_codes = self._hold_out(answerer, tables, labels, codes, weight)
        self.temperatures_ = np.ones(len(tables))
        if len(held_codes):
            known = held_out[:, : len(held_codes)]
            self.temperatures_ = np.array([fit_temperature(p, held_codes) for p in known])
        held_out = log_softmax(held_out / self.temperatures_[:, None, None], axis=2)
        self._rule = ExitRule.learn(held_out, self.costs_)
        self._leave()
        return self

    def _begin(self, X):
        """Find the stages and what they cost; return what is to answer in each, and the whole table."""
        embedder, answerer = _split(self.estimator)
        reads_names = any(isinstance(step, ZeroShotLogits) for step in _steps(answerer))
        if embedder is not None:
            self.embedder_ = clone(embedder).fit(X)
            table = self.embedder_.set_output(transform="default").transform(X)
            backbones = {b.id: b for b in self.embedder_._backbones}
            layout, answering = self.embedder_._layout, list(backbones)
            if reads_names:
                answering = [id for id, b in backbones.items() if b.has_text]
        else:
            self.embedder_, table = None, self._check_table(X, reset=True)
            layout = Layout.from_names(table.columns)
            answering = list(layout.with_logits or layout.backbones)
            if reads_names:
                answering = [
                    id for id in layout.backbones if from_id(id, may_be_unknown=True) is not None
                ]
            backbones = dict.fromkeys(layout.backbones)
        costs = gflops_of(backbones, self.costs)
        self.stages_ = in_stages(list(backbones), costs, answering, self.stages)
        self.costs_ = np.cumsum([sum(costs[id] for id in stage) for stage in self.stages_])
        self._layouts = [part_of(layout, stage) for stage in self.stages_]
        return answerer, table

    def _check_table(self, X, *, reset=False):
        """Return a finished table of named columns as a DataFrame of numbers."""
        name = type(self).__name__
        refuse_what_is_no_table(X, name)
        names = feature_names(X)
        if names is None or Layout.from_names(names) is None:
            raise TypeError(
                f"X is a {type(X).__name__} that does not say whose columns are whose. Pass images to a "
                "pipeline that begins with CLIPEmbedder, or the DataFrame that CLIPEmbedder or "
                "ZeroShotLogits returns."
            )
        dtypes = [np.float32, np.float64]
        check = partial(validate_data, self, reset=reset, dtype=dtypes, ensure_all_finite=False)
        table = read(X, None, None, check, name)
        if table.unread is not None:
            table.X[table.unread] = np.nan
        return pd.DataFrame(table.X, columns=names)

    def _blocks(self, X) -> Generator[tuple[int, Rows], None, None]:
        """Yield the sizes of parts of X, and what gives the rows of each at a stage."""
        if self.embedder_ is not None:
            yield from blocks_of_images(X, self.embedder_, self._layouts)
        else:
            yield from block_of_columns(self._check_table(X), self._layouts)

    def _common_classes(self):
        classes = [e.classes_ for e in self.estimators_]
        odd = [stage for stage, c in enumerate(classes) if not np.array_equal(c, classes[-1])]
        if odd:
            raise ValueError(
                f"Stage {odd[0]} of the cascade ({', '.join(self.stages_[odd[0]])}) knows "
                f"{len(classes[odd[0]])} classes, and the last {len(classes[-1])}: its backbones have no "
                "zero-shot logits. Put one that has into the first stage, with stages=[...]."
            )
        return classes[-1]

    def _hold_out(self, answerer, tables, labels, codes, weight):
        """Return what every stage says of images held out, and the labels of those whose classes were not.

        Log-probabilities of shape (n_stages, n_held_out, n_classes); the latter images come first. A
        label that is the only one of its class is held out with it, where there are classes enough.
        """
        folds = list(balanced_folds(codes, _N_FOLDS, _N_HELD_OUT))
        held = np.concatenate([np.array([], int), *(out for _, out in folds)])
        alone = np.flatnonzero(np.bincount(codes)[codes] == 1)
        if len(np.unique(codes)) < _N_FOLDS:
            alone = alone[:0]
        parts = [alone[i::_N_FOLDS] for i in range(min(_N_FOLDS, len(alone)))]
        folds_of_classes = [(np.setdiff1d(np.arange(len(codes)), out), out) for out in parts]
        n_held = len(held) + len(alone)
        answers = np.full((len(tables), n_held, len(self.classes_)), np.log(_LEAST))
        for stage, (table, fitted) in enumerate(zip(tables, self.estimators_, strict=True)):
            ways = [(answerer, table, folds)]
            if parts:
                # What is known of a class but its images, its name above all, may stay.
                several = isinstance(fitted, Pipeline) and len(fitted) > 1
                ready = fitted[:-1].transform(table) if several else table
                ways.append((_steps(fitted)[-1], ready, folds_of_classes))
            start = 0
            for model, data, its_folds in ways:
                for learn, out in its_folds:
                    part = None if weight is None else weight[learn]
                    clf = _fit(clone(model), take_rows(data, learn), labels[learn], part)
                    columns = np.searchsorted(self.classes_, clf.classes_)
                    rows = np.arange(start, start + len(out))
                    answers[stage][rows[:, None], columns] = _log_proba(clf, take_rows(data, out))
                    start += len(out)
        return answers, codes[held]

    def _leave(self):
        """Return the doubt up to which an image leaves each stage."""
        self._validate_params()
        if self.budget is not None:
            if self.budget < self.costs_[0]:
                raise ValueError(
                    f"budget={self.budget:g} GFLOPs per image is less than the first stage costs: "
                    f"{', '.join(self.stages_[0])}, {self.costs_[0]:.3g}. Give more, or use smaller backbones."
                )
            if not self._rule.doubts.size:
                raise ValueError(
                    f"budget={self.budget:g}: with one label of each of fewer than {_N_FOLDS} classes, "
                    "none can be held out to see how many go on. Give two labels of a class, or set "
                    "tolerance instead."
                )
        return self._rule.thresholds(self.tolerance, self.budget)

    def _leave_if_any(self):
        """Return the thresholds; an AttributeError where ``set_params`` asked for what cannot be."""
        check_is_fitted(self)
        try:
            return self._leave()
        except ValueError as error:
            raise AttributeError(str(error)) from error

    @property
    def thresholds_(self) -> np.ndarray:
        """The margin from which an image leaves each stage, more than 1 where none does."""
        return np.maximum(1 - self._leave_if_any(), 0)

    @property
    def expected_cost_(self) -> float:
        """Mean GFLOPs per image of the images held out; NaN where none were."""
        leave = self._leave_if_any()
        return self._rule.expect(leave) if self._rule.doubts.size else float("nan")

    def _ask(self, X) -> tuple[np.ndarray, np.ndarray]:
        """Return log-probabilities, and the number of stages asked; NaN and 0 for unread images."""
        check_is_fitted(self)
        leave = self._leave()
        parts = []
        with closing(self._blocks(X)) as blocks:  # ended also where a step fails
            for n, rows in blocks:  # no comprehension: frames are counted for the warning
                parts.append(self._ask_block(n, rows, leave))
        log_proba, asked = map(np.concatenate, zip(*parts, strict=True))
        return log_proba, asked

    def _ask_block(self, n, rows, leave):
        log_proba = np.full((n, len(self.classes_)), np.nan)
        asked = np.zeros(n, dtype=int)
        values, columns = rows(0, np.arange(n)), []
        at = np.flatnonzero(~np.isnan(values).all(axis=1))
        values = values[at]
        for stage, clf in enumerate(self.estimators_):
            if not len(at):
                break
            if stage:
                values = np.hstack([values, rows(stage, at)])
            columns += self._layouts[stage].names
            # One block of numbers: a frame of several would be looked at column by column.
            table = pd.DataFrame(values, columns=columns, copy=False)
            answers = log_softmax(_log_proba(clf, table) / self.temperatures_[stage], axis=1)
            log_proba[at], asked[at] = answers, stage + 1
            goes_on = doubt(answers) > leave[stage]
            at, values = at[goes_on], values[goes_on]
        return log_proba, asked

    def predict(self, X: Any) -> np.ndarray:
        """Return the most probable class of every image.

        Parameters
        ----------
        X : sequence of images, or DataFrame
            What ``fit`` was given.

        Returns
        -------
        ndarray of shape (n_images,)
            The labels, in the order of the images; the last step's ``unread_label`` for an image that
            could not be read.
        """
        log_proba, asked = self._ask(X)
        answers, unread = log_proba.argmax(axis=1), asked == 0
        if not unread.any():
            return self.classes_[answers]
        label = getattr(_steps(self.estimators_[-1])[-1], "unread_label", None)
        if label is None:
            raise ValueError(
                f"{unread.sum()} of {len(asked)} images could not be read, first image "
                f"{unread.argmax()}. Leave them out, or say what to answer for them: "
                "AdaptiveBackboneEnsemble(unread_label=...)."
            )
        answers[unread] = len(self.classes_)
        return np.append(self.classes_, label)[answers]

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return the probability of every class.

        Parameters
        ----------
        X : sequence of images, or DataFrame
            What ``fit`` was given.

        Returns
        -------
        ndarray of shape (n_images, n_classes)
            Probabilities in the order of ``classes_``, by the stage that each image left; NaN for an
            image that could not be read.
        """
        return np.exp(self._ask(X)[0])

    def exit_stages(self, X: Any) -> np.ndarray:
        """Return how many stages were asked about every image.

        Parameters
        ----------
        X : sequence of images, or DataFrame
            What ``fit`` was given.

        Returns
        -------
        ndarray of int, shape (n_images,)
            From 1 to the number of stages; 0 for an image that could not be read.
        """
        return self._ask(X)[1]

    def cost(self, X: Any) -> np.ndarray:
        """Return what the backbones that are asked about every image cost.

        Parameters
        ----------
        X : sequence of images, or DataFrame
            What ``fit`` was given.

        Returns
        -------
        ndarray of shape (n_images,)
            GFLOPs; 0 for an image that could not be read.
        """
        return np.append(self.costs_, 0.0)[self._ask(X)[1] - 1]

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags = get_tags(self.estimator).input_tags
        tags.no_validation = True
        return tags


def _split(estimator) -> tuple[CLIPEmbedder | None, BaseEstimator]:
    """Return the embedder and the other steps of a pipeline of images; None and the whole for tables."""
    steps = _steps(estimator)
    embedder, answerer = None, estimator
    if isinstance(steps[0], CLIPEmbedder):
        embedder, answerer = steps[0], estimator[1:] if len(steps) > 1 else None
    elif any(isinstance(step, CLIPEmbedder) for step in steps):
        raise TypeError(
            "CLIPEmbedder is not the first step of the pipeline. Put what comes before it before the "
            "cascade: make_pipeline(step, CascadeClassifier(make_pipeline(CLIPEmbedder(), ...)))."
        )
    if not hasattr(answerer, "predict_proba"):
        raise TypeError(
            f"estimator must be a classifier with predict_proba, or a pipeline that ends in one; "
            f"{type(steps[-1]).__name__} has none. Write CascadeClassifier(make_pipeline(CLIPEmbedder(), "
            "ZeroShotLogits(), AdaptiveBackboneEnsemble()))."
        )
    return embedder, answerer


def _steps(estimator) -> list:
    return [step for _, step in estimator.steps] if isinstance(estimator, Pipeline) else [estimator]


def _fit(estimator, table, y, weight):
    if weight is None:
        return estimator.fit(table, y)
    to = f"{estimator.steps[-1][0]}__" if isinstance(estimator, Pipeline) else ""
    # The weights are for the last step, whether or not the steps route what they are given.
    with config_context(enable_metadata_routing=False):
        return estimator.fit(table, y, **{f"{to}sample_weight": weight})


def _log_proba(clf, table) -> np.ndarray:
    return np.log(np.maximum(clf.predict_proba(table), _LEAST))
