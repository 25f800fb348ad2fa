"""One broken photograph among many, from the file to the score."""

import warnings

import joblib
import numpy as np
import pandas as pd
import pytest
import sklearn
from instances import EMBEDDINGS, FRAME, LAYOUT, LOGITS, ROWS, Y, array_side, small
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, cross_val_predict, cross_val_score
from sklearn.pipeline import make_pipeline

from sklearn_clipensemble import AdaptiveBackboneEnsemble, CLIPEmbedder, ZeroShotLogits
from sklearn_clipensemble.ensembles import ConfidenceCascade, ProbabilityAverage
from sklearn_clipensemble.inspection import calibration_table, cka_matrix, oracle_score

BROKEN = np.array([1, 6])
KEPT = np.delete(np.arange(8), BROKEN)

every_classifier = pytest.mark.parametrize("cls", array_side(), ids=lambda cls: cls.__name__)
every_form = pytest.mark.parametrize(
    ("X", "layout"),
    [(FRAME, None), (FRAME[EMBEDDINGS.names], None), (ROWS, LAYOUT), (LOGITS, None)],
    ids=["table", "embeddings", "array", "3-D"],
)


def broken(X):
    """Return a copy with rows that are NaN throughout."""
    X = X.copy()
    if isinstance(X, pd.DataFrame):
        X.iloc[BROKEN] = np.nan
    else:
        X[BROKEN] = np.nan
    return X


def some(X, rows):
    return X.iloc[rows] if isinstance(X, pd.DataFrame) else X[rows]


def fit_with_a_warning(clf, X, y, **weights):
    with pytest.warns(
        UserWarning, match=r"2 of 8 rows of X are NaN throughout, first row 1"
    ) as caught:
        clf.fit(X, y, **weights)
    assert len(caught) == 1
    return clf


@every_classifier
@every_form
def test_fit_leaves_them_out(cls, X, layout):
    weight = np.arange(1.0, 9.0)
    for weights, kept in (({}, {}), ({"sample_weight": weight}, {"sample_weight": weight[KEPT]})):
        clf = small(cls).set_params(layout=layout)
        if "random_state" in clf.get_params():
            clf.set_params(random_state=0)
        expected = clone(clf).fit(some(X, KEPT), Y[KEPT], **kept)
        clf = fit_with_a_warning(clf, broken(X), Y, **weights)
        np.testing.assert_allclose(clf.predict_proba(X), expected.predict_proba(X), rtol=1e-6)


@every_classifier
@every_form
def test_predict_refuses_them_by_name(cls, X, layout):
    clf = small(cls).set_params(layout=layout).fit(X, Y)
    for method in ("predict", "predict_proba", "decision_function", "combination_weights"):
        if hasattr(clf, method):
            with pytest.raises(ValueError, match=r"2 of 8 rows, first in row 1.*unread_label="):
                getattr(clf, method)(broken(X))


@every_classifier
@every_form
def test_or_answers_with_a_label_of_choice(cls, X, layout):
    clf = small(cls).set_params(layout=layout, unread_label="unreadable").fit(X, Y)
    before = joblib.hash(vars(clf))
    given = broken(X)
    assert (clf.predict(given)[BROKEN] == "unreadable").all()
    assert clf.predict(given).dtype == clf.predict(X).dtype
    np.testing.assert_array_equal(clf.predict(given)[KEPT], clf.predict(X)[KEPT])
    for method in (
        "predict_proba",
        "predict_log_proba",
        "decision_function",
        "combination_weights",
    ):
        if hasattr(clf, method):
            answer = np.asarray(getattr(clf, method)(given))
            assert np.isnan(answer[BROKEN]).all(), method
            whole = np.asarray(getattr(clf, method)(X))
            np.testing.assert_allclose(answer[KEPT], whole[KEPT], rtol=1e-5)
    right = clf.predict(X)
    assert clf.score(given, right) == pytest.approx(6 / 8)
    right[BROKEN] = "unreadable"
    assert clf.score(given, right) == 1  # without a warning: it is a label like others
    nothing = some(given, BROKEN)
    assert clf.predict(nothing).tolist() == ["unreadable"] * 2
    assert np.isnan(clf.predict_proba(nothing)).all()
    assert joblib.hash(vars(clf)) == before


def test_a_cascade_asks_nobody():
    clf = ConfidenceCascade(unread_label="?").fit(FRAME)
    assert (clf.n_asked(broken(FRAME)) == 0).nonzero()[0].tolist() == BROKEN.tolist()


@pytest.mark.parametrize(
    ("y", "label", "match"),
    [
        (Y, -1, r"unread_label=-1 is not of the type of the labels, such as 'x'"),
        (Y, float("nan"), r"unread_label=nan is not of the type"),
        (
            np.arange(8) % 3,
            "?",
            r"unread_label='\?' is not of the type .* such as 0.*VotingClassifier",
        ),
        (np.arange(8) % 3, np.nan, r"unread_label=nan is not of the type"),
    ],
)
def test_a_label_that_no_metric_can_compare(y, label, match):
    with pytest.raises(ValueError, match=match):
        ProbabilityAverage(unread_label=label).fit(LOGITS, y)


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, float, bool])
def test_a_number_for_numbers(dtype):
    y = (np.arange(8) % 2).astype(dtype)
    clf = ProbabilityAverage(unread_label=-1).fit(LOGITS[:, :, :2], y)
    assert clf.predict(broken(LOGITS[:, :, :2]))[BROKEN].tolist() == [-1, -1]
    assert clf.predict(LOGITS[:, :, :2]).min() >= 0


@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
def test_what_is_no_broken_photograph_stays_an_error(bad):
    X = broken(FRAME)
    X.iloc[3, 2] = bad
    clf = AdaptiveBackboneEnsemble(unread_label="?")
    with pytest.raises(ValueError, match=r"1 of 8 rows, first in row 3, column 'a__embedding__2'"):
        clf.fit(X, Y)
    clf.fit(FRAME, Y)
    with pytest.raises(ValueError, match=r"1 of 8 rows, first in row 3, column 'a__embedding__2'"):
        clf.predict(X)
    X.iloc[3] = np.inf
    with pytest.raises(ValueError, match=r"1 of 8 rows, first in row 3"):
        clf.predict(X)


def test_no_photograph_at_all():
    with pytest.raises(ValueError, match=r"8 of 8 rows.*No image could be read"):
        AdaptiveBackboneEnsemble().fit(FRAME * np.nan, Y)
    with pytest.raises(ValueError, match="sample weights are zero"):
        AdaptiveBackboneEnsemble().fit(
            broken(FRAME), Y, sample_weight=np.isin(np.arange(8), BROKEN)
        )


def test_labels_of_broken_photographs_are_no_classes():
    y = Y.astype(object)
    y[BROKEN] = "unreadable"
    clf = fit_with_a_warning(ProbabilityAverage(unread_label="unreadable"), broken(FRAME), y)
    assert clf.classes_.tolist() == ["x", "y", "z"]
    assert clf.predict(broken(FRAME))[BROKEN].tolist() == ["unreadable"] * 2


def test_inspection_refuses_them():
    for clf in (None, ProbabilityAverage(unread_label="?").fit(FRAME, Y)):
        for inspect in (oracle_score, calibration_table):
            with pytest.raises(ValueError, match=r"2 of 8 rows"):
                inspect(broken(FRAME), Y, estimator=clf)
    with pytest.raises(ValueError, match=r"2 of 8 rows"):
        cka_matrix(broken(FRAME), estimator=clf)


# The whole way


@pytest.fixture(scope="module")
def photographs(digits):
    """Digits of three classes, among them three files that are no images."""
    images, labels = digits
    rows = np.flatnonzero(np.isin(labels, ["zero", "one", "two"]))[:60]
    X, y = list(images[rows]), labels[rows]
    for i in (4, 20, 41):
        X[i] = b"no image"
    return X, y


@pytest.fixture
def pipe():
    return make_pipeline(
        CLIPEmbedder(["tiny/RN-1221"], on_error="nan"),
        ZeroShotLogits(),
        AdaptiveBackboneEnsemble(unread_label="unreadable", random_state=0),
    )


@pytest.mark.filterwarnings("ignore:.* could not be read:UserWarning")
class TestWholeWay:
    def test_one_line_is_enough(self, pipe, photographs):
        X, y = photographs
        pipe.fit(X, y)
        predicted = pipe.predict(X)
        assert np.flatnonzero(predicted == "unreadable").tolist() == [4, 20, 41]
        assert pipe.score(X, y) > 0.9
        assert np.isnan(pipe.predict_proba(X)).any(axis=1).sum() == 3
        with pytest.raises(ValueError, match=r"row 4.*unread_label="):
            clone(pipe).set_params(adaptivebackboneensemble__unread_label=None).fit(X, y).predict(X)

    @pytest.mark.parametrize("scoring", [None, "accuracy", "f1_macro", "matthews_corrcoef"])
    def test_searches(self, pipe, photographs, scoring):
        X, y = photographs
        grid = {"adaptivebackboneensemble__n_shots": [1, 4]}
        search = GridSearchCV(pipe, grid, cv=3, scoring=scoring, error_score="raise").fit(X, y)
        assert np.isfinite(search.cv_results_["mean_test_score"]).all()
        assert search.predict(X)[4] == "unreadable"

    def test_cross_validation(self, pipe, photographs):
        X, y = photographs
        right = cross_val_predict(pipe, X, y, cv=3) == y
        assert not right[[4, 20, 41]].any()
        scores = cross_val_score(pipe, X, y, cv=3)
        assert scores.mean() == pytest.approx(right.mean())

    def test_metadata_and_output(self, pipe, photographs):
        X, y = photographs
        weight = np.arange(1.0, 61.0)
        good = np.delete(np.arange(60), [4, 20, 41])
        front = clone(pipe[:-1])
        expected = clone(pipe[-1]).fit(
            front.fit_transform(X, y).iloc[good], y[good], sample_weight=weight[good]
        )
        with sklearn.config_context(enable_metadata_routing=True):
            pipe[-1].set_fit_request(sample_weight=True)
            # polars keeps columns together: sums differ in their last digit, searches in where they end.
            for kind, atol in (("pandas", 0), ("polars", 1e-3)):
                clf = clone(pipe).set_output(transform=kind).fit(X, y, sample_weight=weight)
                proba = clf.predict_proba(X)
                wanted = expected.predict_proba(front.transform(X))
                np.testing.assert_allclose(proba[good], wanted[good], rtol=1e-5, atol=atol)
                assert np.isnan(proba[4]).all()


def test_a_warning_says_how_many_and_which(pipe, photographs):
    X, y = photographs
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        pipe.fit(X, y)
    assert [str(w.message).partition(":")[0] for w in caught] == [
        "3 of 60 images could not be read; their rows are NaN. Image 4",
        "3 of 60 rows of X are NaN throughout, first row 4",
    ]
