"""Fewer backbones for the same answers: stages, thresholds, and images that are embedded once."""

import pickle
import threading
from collections import Counter, UserDict
from typing import ClassVar

import numpy as np
import pandas as pd
import pytest
import sklearn
import torch
from instances import CLASSES, as_frame, make_table
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression, Perceptron
from sklearn.model_selection import GridSearchCV
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from threadpoolctl import threadpool_info, threadpool_limits

from sklearn_clipensemble import (
    AdaptiveBackboneEnsemble,
    Backbone,
    CascadeClassifier,
    CLIPEmbedder,
    ZeroShotLogits,
    clear,
)
from sklearn_clipensemble.utils.estimator_checks import parametrize_with_image_checks

TINY = ["tiny/RN-1221", "tiny/ViT-4", "tiny/EdgeNeXt-xxs"]  # not in the order of their costs
ORDER = ["tiny/EdgeNeXt-xxs", "tiny/RN-1221", "tiny/ViT-4"]
COSTS = {"m0": 1.0, "m1": 3.0}

SEEN = Counter()


class Pooled(torch.nn.Module):
    """The mean colours of a grid of fields; it counts the pictures that it sees."""

    def __init__(self, id, fields):
        super().__init__()
        self.id, self.pool = id, torch.nn.AdaptiveAvgPool2d(fields)

    def forward(self, x):
        SEEN[self.id] += int(x.flatten(1).any(dim=1).sum()) if x.device.type == "cpu" else 0
        return self.pool(x).flatten(1) + 1e-3


def pooled(**changes):
    """A pipeline of images with two models: a coarse one, and a fine one that costs ten times as much."""
    backbones = [  # of two sizes: an image that goes on is decoded again
        Backbone(
            Pooled(id, fields), id=id, preprocess={"size": 2 * fields + 4, "mean": 0, "std": 1}
        )
        for id, fields in (("fine", 8), ("coarse", 2))
    ]
    pipeline = make_pipeline(
        CLIPEmbedder(backbones, precision="fp32"), StandardScaler(), LogisticRegression()
    )
    clear()
    SEEN.clear()
    return CascadeClassifier(pipeline, costs={"coarse": 1.0, "fine": 10.0}, **changes)


@pytest.fixture
def pipeline():
    return make_pipeline(CLIPEmbedder(TINY), ZeroShotLogits(), AdaptiveBackboneEnsemble())


@pytest.fixture
def shots(digits):
    """Eight labelled images of each digit, class by class, and 220 others."""
    images, labels = digits
    place = pd.Series(labels).groupby(labels).cumcount().to_numpy()
    rows = np.argsort(labels, kind="stable")
    rows, others = rows[place[rows] < 8], np.flatnonzero(place >= 8)
    return images[rows], labels[rows], images[others], labels[others]


def test_most_images_need_few_backbones(pipeline, shots):
    X, y, others, answers = shots
    whole = pipeline.fit(X, y).score(others, answers)
    clf = CascadeClassifier(pipeline).fit(X, y)
    assert clf.stages_ == [[id] for id in ORDER]
    assert clf.score(others, answers) >= whole - 0.02
    assert clf.cost(others).mean() < clf.costs_[-1] / 2
    proba = clf.predict_proba(others)
    np.testing.assert_allclose(proba.sum(axis=1), 1)
    assert (clf.classes_[proba.argmax(axis=1)] == clf.predict(others)).all()
    # What was expected from the few that were held out.
    assert clf.expected_cost_ == pytest.approx(clf.cost(others).mean(), rel=0.5)


def test_stages_and_costs_agree(pipeline, shots):
    X, y, others, _ = shots
    clf = CascadeClassifier(pipeline).fit(X, y)
    stages = clf.exit_stages(others)
    assert set(stages) <= {1, 2, 3}
    np.testing.assert_array_equal(clf.cost(others), clf.costs_[stages - 1])
    np.testing.assert_allclose(np.diff(clf.costs_, prepend=0), [0.008097, 0.01162, 0.06461])
    sure = np.sort(clf.predict_proba(others), axis=1)
    margin = sure[:, -1] - sure[:, -2]
    for stage in (1, 2):
        assert (margin[stages == stage] >= clf.thresholds_[stage - 1] - 1e-9).all()


def test_a_tolerance_of_zero_is_the_pipeline_itself(pipeline, shots):
    X, y, others, _ = shots
    clf = CascadeClassifier(pipeline, tolerance=0).fit(X, y)
    assert (clf.exit_stages(others) == 3).all()
    assert (clf.predict(others) == pipeline.fit(X, y).predict(others)).all()
    assert (clf.thresholds_[:-1] > 1).all()


def test_tolerance_and_budget_count_without_another_fit(pipeline, shots):
    X, y, others, _ = shots
    clf = CascadeClassifier(pipeline).fit(X, y)
    costs = [clf.set_params(tolerance=t).cost(others).mean() for t in (0, 0.002, 0.01, 0.1, 1)]
    assert costs == sorted(costs, reverse=True)
    assert costs[0] == pytest.approx(clf.costs_[-1])
    assert costs[-1] == pytest.approx(clf.costs_[0])
    clf.set_params(tolerance=0.01)
    for budget in (0.009, 0.02, 0.04):
        clf.set_params(budget=budget)
        assert clf.costs_[0] <= clf.expected_cost_ <= budget
        assert clf.cost(others).mean() < 1.3 * budget
        fresh = CascadeClassifier(pipeline, budget=budget).fit(X, y)
        np.testing.assert_array_equal(fresh.exit_stages(others), clf.exit_stages(others))
    clf.set_params(budget=100)
    assert clf.expected_cost_ <= clf.costs_[-1] * (1 + 1e-9)


def test_only_doubtful_images_are_embedded_by_the_next_stage(shots):
    X, y, others, answers = shots
    clf = pooled(tolerance=0.05).fit(X, y)
    assert {"fine": len(X), "coarse": len(X)} == SEEN
    SEEN.clear()
    stages = clf.exit_stages(others)
    assert SEEN["coarse"] == len(others)
    assert 0 < SEEN["fine"] == (stages == 2).sum() < len(others)
    clf.predict(others)  # of which all is known by now
    assert SEEN.total() == len(others) + (stages == 2).sum()
    whole = clone(clf.estimator).fit(X, y)
    assert clf.score(others, answers) >= whole.score(others, answers) - 0.07


def test_a_search_embeds_every_image_once(digits):
    images, labels = digits[0][:120], digits[1][:120]
    search = GridSearchCV(pooled(), {"tolerance": [0, 0.01, 0.1, 0.5]}, cv=3).fit(images, labels)
    assert SEEN["coarse"] == len(images)
    assert SEEN["fine"] == len(images)
    scores = search.cv_results_["mean_test_score"]
    assert scores[0] > scores[-1]
    assert search.best_estimator_.tolerance == search.best_params_["tolerance"]


def blas_threads():
    """The numbers of threads of the libraries that NumPy and SciPy multiply with."""
    return {lib["num_threads"] for lib in threadpool_info() if lib["user_api"] == "blas"}


class Counting(LogisticRegression):
    """Notes how many threads a product has where it is asked for its answers, and may fail."""

    seen: ClassVar[list] = []
    pauses: ClassVar[dict] = {}
    fails = False

    def predict_proba(self, X):
        self.seen.append(blas_threads())
        Counting.pauses.get(threading.current_thread().name, bool)()
        if Counting.fails:
            raise ValueError("no answer")
        return super().predict_proba(X)


def predict_side_by_side(clf, X, monkeypatch):
    """Predict in two threads, of which the one that began first ends first."""
    first_in, second_in, first_out = (threading.Event() for _ in range(3))
    pauses = {
        "first": lambda: first_in.set() or second_in.wait(60),
        "second": lambda: second_in.set() or first_out.wait(60),
    }
    monkeypatch.setattr(Counting, "pauses", pauses)
    first = threading.Thread(target=clf.predict, args=(X,), name="first")
    second = threading.Thread(target=clf.predict, args=(X,), name="second")
    first.start()
    assert first_in.wait(60)
    second.start()
    first.join()
    first_out.set()
    second.join()


@pytest.fixture
def two_blas_threads():
    """Two threads for every product, set by nobody who is still there."""
    if not blas_threads():
        pytest.skip("no BLAS here that says how many threads it has")
    before = max(blas_threads())
    limit_blas(2)
    yield
    limit_blas(before)


def limit_blas(n_threads):
    setter = threading.Thread(target=threadpool_limits, args=(n_threads, "blas"))
    setter.start()
    setter.join()


def test_numpy_keeps_out_of_the_way_of_torch(shots, two_blas_threads, monkeypatch):
    X, y, others, _ = shots
    clf = pooled(tolerance=0.05)
    clf.estimator.steps[-1] = ("last", Counting())
    clf.fit(X, y)
    assert blas_threads() == {2}
    Counting.seen.clear()
    clf.predict(others)
    assert Counting.seen
    assert all(seen == {1} for seen in Counting.seen)
    assert blas_threads() == {2}
    with pytest.raises(ValueError, match="Image 1"):
        clf.predict([others[0], b"no image"])
    assert blas_threads() == {2}
    predict_side_by_side(clf, others, monkeypatch)
    assert blas_threads() == {2}
    monkeypatch.setattr(Counting, "fails", True)
    with pytest.raises(ValueError, match="no answer") as error:
        clf.predict(others)
    assert blas_threads() == {2}, error.value


class Watching(UserDict):
    """Frequencies of classes that know how many BLAS threads there are when they are read."""

    def __getitem__(self, key):
        self.seen = blas_threads()
        return super().__getitem__(key)


def test_the_ensemble_learns_in_one_thread_of_blas(two_blas_threads):
    X, y = make_table()
    prior = Watching(dict.fromkeys(np.unique(y), 1.0))
    AdaptiveBackboneEnsemble(class_prior=prior).fit(X, y)
    assert prior.seen == {1}
    assert blas_threads() == {2}
    with pytest.raises(ValueError, match="class_prior"):
        AdaptiveBackboneEnsemble(class_prior=[1.0]).fit(X, y)
    assert blas_threads() == {2}


def test_answers_do_not_depend_on_the_other_images(shots):
    X, y, others, _ = shots
    clf = pooled(tolerance=0.05).fit(X, y)
    expected = clf.predict_proba(others)
    order = np.random.default_rng(0).permutation(len(others))
    np.testing.assert_allclose(clf.predict_proba(others[order]), expected[order], atol=1e-6)
    np.testing.assert_allclose(clf.predict_proba(others[:1]), expected[:1], atol=1e-6)


@parametrize_with_image_checks(
    [
        CascadeClassifier(make_pipeline(CLIPEmbedder(TINY[:2], cache=cache), LogisticRegression()))
        for cache in (None, False)
    ],
    {"estimator__clipembedder__backbones": TINY[1:], "tolerance": 1.0},
)
def test_contract(estimator, check):
    check(estimator)


def test_unreadable_images_cost_nothing_and_keep_their_row(shots, tmp_path):
    X, y, others, _ = shots
    (tmp_path / "broken.png").write_bytes(b"no picture")
    broken = str(tmp_path / "broken.png")
    embedder = CLIPEmbedder(TINY, on_error="nan")
    clf = CascadeClassifier(
        make_pipeline(embedder, ZeroShotLogits(), AdaptiveBackboneEnsemble(unread_label="?"))
    )
    with pytest.warns(UserWarning, match=r"1 of 81 images could not be read"):
        clf.fit([broken, *X], ["one", *y])
    mixed = [others[0], broken, others[1]]
    with pytest.warns(UserWarning, match=r"Image 1 \("):
        answers = clf.predict(mixed)
    assert list(answers[[0, 2]]) == list(clf.predict(others[:2]))
    assert answers[1] == "?"
    with pytest.warns(UserWarning, match="broken.png"):
        assert list(clf.exit_stages(mixed) == 0) == [False, True, False]
    with pytest.warns(UserWarning, match="broken.png"):
        assert clf.cost(mixed)[1] == 0
    with pytest.warns(UserWarning, match="broken.png"):
        proba = clf.predict_proba([broken])
    assert proba.shape == (1, 10)
    assert np.isnan(proba).all()
    clf.estimators_[-1][-1].unread_label = None
    with pytest.warns(UserWarning, match="broken.png"):  # only a label may be wanting
        assert clf.exit_stages(mixed)[1] == clf.cost(mixed)[1] == 0
    with pytest.warns(UserWarning, match="broken.png"):
        assert np.isnan(clf.predict_proba(mixed)[1]).all()
    with (
        pytest.warns(UserWarning, match="broken.png"),
        pytest.raises(ValueError, match=r"first image 1.*unread_label"),
    ):
        clf.predict(mixed)
    with (
        pytest.warns(UserWarning, match="broken.png"),
        pytest.raises(ValueError, match="None of the 2 images"),
    ):
        clf.fit([broken, broken], ["one", "two"])


def test_a_warning_of_unread_images_names_the_callers_line(shots):
    X, y, others, _ = shots
    steps = CLIPEmbedder(TINY, on_error="nan"), AdaptiveBackboneEnsemble(unread_label="?")
    clf = CascadeClassifier(make_pipeline(steps[0], ZeroShotLogits(), steps[1])).fit(X, y)
    mixed = [others[0], "missing.png"]
    for ask in (clf.predict, clf.predict_proba, clf.exit_stages, clf.cost, clf.embedder_.transform):
        with pytest.warns(UserWarning, match=r"missing.png") as caught:
            ask(mixed)
        assert [warning.filename for warning in caught] == [__file__]


def test_one_label_per_class(pipeline, shots):
    X, y, others, answers = shots
    one = np.arange(0, len(X), 8)
    clf = CascadeClassifier(pipeline).fit(X[one], y[one])
    whole = pipeline.fit(X[one], y[one])
    assert clf.score(others, answers) >= whole.score(others, answers) - 0.03
    assert clf.cost(others).mean() < clf.costs_[-1]
    assert (clf.temperatures_ == 1).all()  # nothing tells
    clf.set_params(budget=0.03)
    assert clf.cost(others).mean() < 0.045


def test_three_labelled_images_judge_each_image_by_itself(pipeline, shots):
    X, y, others, answers = shots
    few, rest = [0, 8, 16], np.isin(answers, y[[0, 8, 16]])
    clf = CascadeClassifier(pipeline).fit(X[few], y[few])
    assert np.isnan(clf.expected_cost_)
    assert clf.thresholds_[0] > 0.9
    whole = pipeline.fit(X[few], y[few])
    assert clf.score(others[rest], answers[rest]) >= whole.score(others[rest], answers[rest]) - 0.03
    assert clf.cost(others[rest]).mean() < clf.costs_[-1]
    with pytest.raises(ValueError, match=r"none can be held out.*two labels"):
        clf.set_params(budget=5.0).predict(others)


def test_one_label_more_is_no_reason_to_trust_the_first_stage(pipeline, shots):
    X, y, others, _ = shots
    one = np.arange(0, len(X), 8)
    clf = CascadeClassifier(pipeline).fit(X[one], y[one])
    more = CascadeClassifier(pipeline).fit(X[[*one, 1]], y[[*one, 1]])
    assert more.cost(others).mean() > clf.cost(others).mean() / 2
    assert more.expected_cost_ > clf.expected_cost_ / 2


def test_steps_may_write_polars(pipeline, shots):
    pytest.importorskip("polars")
    X, y, others, _ = shots
    one = np.arange(0, len(X), 8)
    expected = CascadeClassifier(pipeline).fit(X[one], y[one])
    clf = CascadeClassifier(pipeline.set_output(transform="polars")).fit(X[one], y[one])
    np.testing.assert_allclose(clf.thresholds_, expected.thresholds_, atol=1e-6)
    assert clf.expected_cost_ == pytest.approx(expected.expected_cost_)
    np.testing.assert_array_equal(clf.exit_stages(others), expected.exit_stages(others))


def test_a_budget_that_cannot_be_is_refused_by_predict_and_not_by_a_notebook(pipeline, shots):
    X, y, others, _ = shots
    clf = CascadeClassifier(pipeline).fit(X, y).set_params(budget=1e-9)
    assert not hasattr(clf, "thresholds_")
    assert not hasattr(clf, "expected_cost_")
    assert "CascadeClassifier" in clf._repr_html_()
    with pytest.raises(ValueError, match="less than the first stage costs"):
        clf.predict(others)


def test_pickle_and_clone(pipeline, shots):
    X, y, others, _ = shots
    clf = CascadeClassifier(pipeline).fit(X, y)
    again = pickle.loads(pickle.dumps(clf))
    np.testing.assert_array_equal(again.predict_proba(others), clf.predict_proba(others))
    assert (again.set_params(tolerance=1).exit_stages(others) == 1).all()
    with pytest.raises(NotFittedError):
        clone(clf).predict(others)


def test_stages_are_what_they_are_said_to_be(pipeline, shots):
    X, y, others, _ = shots
    given = [["tiny/ViT-4", "tiny/EdgeNeXt-xxs"], ["tiny/RN-1221"]]
    clf = CascadeClassifier(pipeline, stages=given, tolerance=0.02).fit(X, y)
    assert clf.stages_ == given
    np.testing.assert_allclose(clf.costs_, [0.072707, 0.084327])
    assert set(clf.exit_stages(others)) <= {1, 2}
    one = CascadeClassifier(pipeline, stages=[TINY]).fit(X, y)
    assert (one.exit_stages(others) == 1).all()
    assert (one.predict(others) == pipeline.fit(X, y).predict(others)).all()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"stages": [[TINY[0]], [TINY[0]], TINY[1:]]}, "'tiny/RN-1221' is in two"),
        ({"stages": [[TINY[0]], [TINY[1]]]}, "'tiny/EdgeNeXt-xxs' is in none"),
        ({"stages": [[*TINY, "RN50"]]}, "'RN50' is no backbone of the estimator"),
        ({"stages": [TINY, []]}, "a stage is empty"),
        ({"stages": TINY}, "one list of backbones for every stage"),
        ({"budget": 0.008}, "less than the first stage costs: tiny/EdgeNeXt-xxs, 0.0081"),
        ({"budget": -1.0}, "budget"),
        ({"tolerance": 1.5}, "tolerance"),
        ({"costs": {"RN50": 12.0}}, "costs names 'RN50'"),
        ({"costs": {TINY[0]: -1}}, "costs.'tiny/RN-1221'. is -1; expected GFLOPs"),
    ],
)
def test_what_cannot_be_is_refused(pipeline, shots, changes, words):
    X, y, *_ = shots
    with pytest.raises(ValueError, match=words):
        CascadeClassifier(pipeline, **changes).fit(X, y)


def test_estimators_that_do_not_fit_are_refused(shots):
    X, y, *_ = shots
    with pytest.raises(TypeError, match="Perceptron has none"):
        CascadeClassifier(make_pipeline(CLIPEmbedder(TINY), Perceptron())).fit(X, y)
    with pytest.raises(TypeError, match="CLIPEmbedder has none"):
        CascadeClassifier(make_pipeline(CLIPEmbedder(TINY))).fit(X, y)
    late = make_pipeline(FunctionTransformer(), CLIPEmbedder(TINY), LogisticRegression())
    with pytest.raises(TypeError, match="not the first step"):
        CascadeClassifier(late).fit(X, y)
    clf = CascadeClassifier(make_pipeline(CLIPEmbedder(TINY), LogisticRegression()))
    with pytest.raises(ValueError, match="requires y"):
        clf.fit(X, None)
    with pytest.raises(ValueError, match="80 rows and y has 79 labels"):
        clf.fit(X, y[1:])


def test_one_class_is_refused(shots):
    X, y, *_ = shots
    clf = CascadeClassifier(make_pipeline(CLIPEmbedder(TINY), GaussianNB()))
    with pytest.raises(ValueError, match=r"at least 2 classes.*1 class: 'eight'"):
        clf.fit(X[:8], y[:8])


def test_images_of_no_weight_are_no_images():
    X, y = make_table(12, noise=0.8)
    wrong = np.arange(0, len(y), 3)
    labels, weight = y.copy(), np.ones(len(y))
    labels[wrong], weight[wrong] = (y[wrong] + 1) % 4, 0
    kept = weight > 0
    clf = CascadeClassifier(AdaptiveBackboneEnsemble(), costs=COSTS)
    clf.fit(X, labels, sample_weight=weight)
    without = clone(clf).fit(X[kept], y[kept])
    np.testing.assert_allclose(clf.temperatures_, without.temperatures_, rtol=1e-4)
    np.testing.assert_allclose(clf.thresholds_, without.thresholds_, rtol=1e-4)
    with pytest.raises(ValueError, match=r"(?i)sample weights .*zero"):
        clf.fit(X, y, sample_weight=np.zeros(len(y)))


def test_weights_reach_the_last_step(shots):
    X, y, others, _ = shots
    weight = np.where(np.isin(y, ["zero", "one"]), 1.0, 1e-12)
    clf = pooled().fit(X, y, sample_weight=weight)
    assert set(clf.predict(others)) <= {"zero", "one"}
    with pytest.raises(ValueError, match="sample_weight"):
        clf.fit(X, y, sample_weight=weight[1:])
    with sklearn.config_context(enable_metadata_routing=True):
        clf = pooled().set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
        routed = GridSearchCV(clf, {"tolerance": [0.0]}, cv=2).fit(X, y, sample_weight=weight)
    assert set(routed.predict(others)) <= {"zero", "one"}


def test_backbones_without_text_wait_for_one_that_reads(shots):
    X, y, others, _ = shots
    colours = Backbone(
        Pooled("colours", 2), id="colours", preprocess={"size": 8, "mean": 0, "std": 1}
    )
    embedder = CLIPEmbedder([*TINY, colours], precision="fp32")
    with_text = make_pipeline(embedder, ZeroShotLogits(), AdaptiveBackboneEnsemble())
    clf = CascadeClassifier(with_text, costs={"colours": 0.001}).fit(X, y)
    assert clf.stages_ == [["colours", "tiny/EdgeNeXt-xxs"], ["tiny/RN-1221"], ["tiny/ViT-4"]]
    assert clf.predict(others[:3]).shape == (3,)
    without = make_pipeline(embedder, LogisticRegression())
    clf = CascadeClassifier(without, costs={"colours": 0.001}).fit(X, y)
    assert clf.stages_[0] == ["colours"]


# On finished tables


def test_a_table_shows_what_would_be_saved():
    X, y = make_table(8, noise=0.8)
    others, answers = make_table(50, noise=0.8, seed=1)
    clf = CascadeClassifier(AdaptiveBackboneEnsemble(), costs=COSTS, tolerance=0.02).fit(X, y)
    assert clf.stages_ == [["m0"], ["m1"]]
    assert set(clf.exit_stages(others)) == {1, 2}
    whole = AdaptiveBackboneEnsemble().fit(X, y)
    assert clf.score(others, answers) >= whole.score(others, answers) - 0.04
    assert clf.cost(others).mean() < 4
    np.testing.assert_array_equal(
        clf.set_params(tolerance=0).predict(others), whole.predict(others)
    )
    by_cost = CascadeClassifier(AdaptiveBackboneEnsemble(), costs={"m0": 5, "m1": 3}).fit(X, y)
    assert by_cost.stages_ == [["m1"], ["m0"]]


def test_a_few_sure_images_do_not_let_all_the_others_go():
    sure = {"n_classes": 2, "noise": 0.05, "signal": 20.0}
    clf = CascadeClassifier(AdaptiveBackboneEnsemble(), costs=COSTS)
    few = clf.fit(*make_table(2, **sure)).thresholds_[0]
    some = clf.fit(*make_table(8, **sure)).thresholds_[0]
    many = clf.fit(*make_table(200, **sure)).thresholds_[0]
    assert 1 > few > 0.8
    assert few > some > 0.2
    assert many == 0


def test_a_table_is_read_as_it_is_elsewhere():
    X, y = make_table(8, noise=0.8)
    clf = CascadeClassifier(AdaptiveBackboneEnsemble(), costs=COSTS).fit(X, y)
    expected = clf.predict_proba(X)
    for column in ("m0__embedding__0", "m1__embedding__0"):
        for number in (np.nan, np.inf):
            broken = X.copy()
            broken.loc[5, column] = number
            with pytest.raises(
                ValueError, match=f"1 of 32 rows, first in row 5, column '{column}'"
            ):
                clf.predict(broken)
    np.testing.assert_allclose(clf.predict_proba(X.astype(object)), expected, atol=1e-5)
    unread = X.copy()
    unread.loc[5] = np.nan
    assert clf.cost(unread)[5] == 0
    assert np.isnan(clf.predict_proba(unread)[5]).all()
    np.testing.assert_array_equal(np.isnan(unread).sum(axis=1) > 0, np.arange(32) == 5)
    with pytest.raises(ValueError, match=r"0 sample\(s\)"):
        clf.predict(X[:0])


@pytest.mark.parametrize("id", ["openai", "tiny", "hf-hub:nobody/nothing"])
def test_a_name_of_several_backbones_or_of_none_here_has_no_cost(id):
    X, y = make_table()
    X = X.rename(columns=lambda name: name.replace("m0__", f"{id}__"))
    clf = CascadeClassifier(AdaptiveBackboneEnsemble(), costs={"m1": 3.0})
    with pytest.raises(ValueError, match=rf"'{id}' costs is not known here.*costs="):
        clf.fit(X, y)


def test_a_table_of_backbones_that_nobody_knows_needs_their_costs():
    X, y = make_table()
    clf = CascadeClassifier(AdaptiveBackboneEnsemble())
    with pytest.raises(ValueError, match=r"'m0' costs is not known here.*costs="):
        clf.fit(X, y)
    clf.set_params(costs=COSTS).fit(X, y)
    with pytest.raises(TypeError, match="does not say whose columns"):
        clf.predict(X.to_numpy())
    with pytest.raises(ValueError, match="is missing"):
        clf.predict(X.iloc[:, 1:])
    with pytest.raises(TypeError, match="does not say whose columns"):
        clf.fit(X.to_numpy(), y)


def test_every_stage_must_know_the_classes():
    logits = np.random.default_rng(0).normal(size=(12, 2, 3))
    X = as_frame(logits, embeddings=[logits[:, 0], logits[:, 1]])
    X = X[[c for c in X if not c.startswith("m0__logit")]]
    y = np.repeat(CLASSES[:2], 6)  # nobody has seen the third
    clf = CascadeClassifier(AdaptiveBackboneEnsemble(), costs=COSTS)
    assert clf.fit(X, y).stages_ == [["m0", "m1"]]
    with pytest.raises(ValueError, match=r"Stage 0.*no zero-shot logits"):
        clf.set_params(stages=[["m0"], ["m1"]]).fit(X, y)


def test_stages_that_are_too_sure_are_cooled():
    X, y = make_table(8, noise=1.2)
    clf = CascadeClassifier(
        make_pipeline(StandardScaler().set_output(transform="pandas"), LogisticRegression(C=1e6)),
        costs=COSTS,
    ).fit(X, y)
    assert (clf.temperatures_ > 1).all()
