"""shot_curve: scores against the number of labelled examples."""

import numpy as np
import pytest
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from sklearn_clipensemble import AdaptiveBackboneEnsemble, FewShotSplit, shot_curve
from sklearn_clipensemble.ensembles import LogitAverage, ProbabilityAverage


def test_shot_curve_is_cross_validation(logits):
    X, y = logits
    curve = shot_curve(
        AdaptiveBackboneEnsemble(),
        X,
        y,
        shots=(4, 1),
        n_repeats=3,
        random_state=7,
        baselines={"average": ProbabilityAverage()},
    )
    assert list(curve) == ["method", "shots", "repeat", "score", "fit_time", "score_time"]
    assert curve["shots"].tolist() == [1, 1, 1, 4, 4, 4] * 2
    assert curve["repeat"].tolist() == [0, 1, 2] * 4
    for (method, k), rows in curve.groupby(["method", "shots"]):
        cv = FewShotSplit(k, 3, max_shots=4, random_state=7)
        methods = {"average": ProbabilityAverage()}
        scores = cross_val_score(methods.get(method, AdaptiveBackboneEnsemble()), X, y, cv=cv)
        assert rows["score"].tolist() == scores.tolist()


def test_shot_curve_is_a_search_over_n_shots(logits):
    X, y = logits
    shots = [1, 2, 4, 8]
    curve = shot_curve(AdaptiveBackboneEnsemble(), X, y, shots, n_repeats=4, random_state=3)
    search = GridSearchCV(
        AdaptiveBackboneEnsemble(random_state=3),
        {"n_shots": shots},
        cv=FewShotSplit(8, n_repeats=4, random_state=3),
    ).fit(X, y)
    of_search = np.array([search.cv_results_[f"split{r}_test_score"] for r in range(4)]).T
    of_curve = curve.pivot(index="shots", columns="repeat", values="score").to_numpy()
    np.testing.assert_array_equal(of_curve, of_search)
    assert len(np.unique(of_curve)) > 4


def test_shot_curve_scoring(logits):
    X, y = logits
    curve = shot_curve(
        LogitAverage(), X, y, [1], n_repeats=2, scoring=["balanced_accuracy", "neg_log_loss"]
    )
    assert list(curve)[3:5] == ["balanced_accuracy", "neg_log_loss"]
    assert (curve["neg_log_loss"] < 0).all()
    one = shot_curve(LogitAverage(), X, y, [1], n_repeats=2, scoring="neg_log_loss")
    assert (one["score"] < 0).all()


def test_shot_curve_draws_differ_without_a_seed(logits):
    X, y = logits
    first, second = (
        shot_curve(LogitAverage(), X, y, [1], scoring="neg_log_loss") for _ in range(2)
    )
    assert first["score"].tolist() != second["score"].tolist()


class Counting(TransformerMixin, BaseEstimator):
    """Counts its fits; learns nothing if so tagged."""

    fits = 0

    def __init__(self, stateless=True):
        self.stateless = stateless

    def fit(self, X, y=None):
        type(self).fits += 1
        assert y is None or not self.stateless
        return self

    def transform(self, X):
        return X

    def __sklearn_is_fitted__(self):
        return True

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.requires_fit = not self.stateless
        return tags


@pytest.mark.parametrize(("stateless", "fits"), [(True, 1), (False, 6)])
def test_shot_curve_fits_once_what_learns_nothing(logits, stateless, fits):
    X, y = logits
    Counting.fits = 0
    pipe = make_pipeline(Counting(stateless), PCA(2, random_state=0), LogisticRegression())
    assert len(shot_curve(pipe, X, y, (1, 4), n_repeats=3)) == 6
    assert Counting.fits == fits
    Counting.fits = 0
    shot_curve(pipe, X, y, (1, 4), n_repeats=3, baselines={"other": LogisticRegression(C=0.1)})
    assert Counting.fits == (1 if stateless else 2 * fits)


def test_shot_curve_of_a_pipeline_is_cross_validation_of_it(logits):
    X, y = logits
    frozen = FrozenEstimator(PCA(3, random_state=0).fit(X))
    pipe = make_pipeline("passthrough", FunctionTransformer(np.tanh), frozen, LogisticRegression())
    curve = shot_curve(pipe, X, y, [2], n_repeats=3, random_state=0)
    assert curve["method"].unique().tolist() == ["LogisticRegression"]
    cv = FewShotSplit(2, 3, max_shots=2, random_state=0)
    assert curve["score"].tolist() == cross_val_score(pipe, X, y, cv=cv).tolist()


def test_baselines_take_the_place_of_the_last_step(logits):
    X, y = logits
    pipe = make_pipeline(FunctionTransformer(lambda X: -X), LogitAverage())
    curve = shot_curve(pipe, X, y, [1], baselines=[ProbabilityAverage()], random_state=0)
    means = curve.groupby("method")["score"].mean()
    assert means.index.tolist() == ["LogitAverage", "ProbabilityAverage"]
    assert (means < 0.3).all()  # both saw the logits turned round


def test_shot_curve_in_parallel(logits):
    X, y = logits
    serial, parallel = (
        shot_curve(LogitAverage(), X, y, [1, 2], n_repeats=2, random_state=0, n_jobs=n_jobs)
        for n_jobs in (None, 2)
    )
    assert serial["score"].tolist() == parallel["score"].tolist()


@pytest.mark.parametrize("shots", [4, None, ["4"], [1.5], "16"])
def test_shot_curve_names_what_shots_should_be(logits, shots):
    with pytest.raises(
        TypeError, match=r"shots is .*; expected numbers of examples per class, such as \[1, 4\]"
    ):
        shot_curve(ProbabilityAverage(), *logits, shots=shots)


def test_shot_curve_bad_input(logits):
    X, y = logits
    with pytest.raises(ValueError, match="shots is empty"):
        shot_curve(LogitAverage(), X, y, [])
    with pytest.raises(ValueError, match="Two methods are called 'LogitAverage'"):
        shot_curve(LogitAverage(), X, y, [1], baselines=[LogitAverage()])
    with pytest.raises(ValueError, match="class 'cat' has 30 examples"):
        shot_curve(LogitAverage(), X, y, [1, 30])
    assert len(shot_curve(LogitAverage(), X, y, [40], n_repeats=1, rare="take")) == 1


def test_shot_curve_groups(logits):
    X, y = logits
    groups = np.arange(120) % 30
    curve = shot_curve(LogitAverage(), X, y, [1], groups=groups, random_state=0, n_repeats=3)
    cv = FewShotSplit(1, 3, max_shots=1, random_state=0)
    scores = cross_val_score(LogitAverage(), X, y, cv=list(cv.split(X, y, groups)))
    assert curve["score"].tolist() == scores.tolist()


def test_one_label_per_class_of_real_digits():
    X, y = load_digits(return_X_y=True)
    curve = shot_curve(LogisticRegression(), X / 16, y, (1, 16), n_repeats=2, random_state=0)
    means = curve.groupby("shots")["score"].mean()
    assert means[16] > means[1] > 0.3


def test_shot_curve_refuses_a_method_that_draws_by_itself():
    X, y = np.random.default_rng(0).normal(size=(30, 2, 3)), np.arange(30) % 3
    with pytest.raises(ValueError, match=r"AdaptiveBackboneEnsemble draws .* n_shots=1"):
        shot_curve(AdaptiveBackboneEnsemble(n_shots=1), X, y, shots=(1, 4))
