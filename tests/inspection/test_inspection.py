"""The measures, against values computed by hand or published."""

import numpy as np
import pandas as pd
import pytest
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from sklearn_clipensemble import Layout, inspection
from sklearn_clipensemble.corruptions import Corruption
from sklearn_clipensemble.ensembles import ProbabilityAverage

Y = np.array(["cat", "cat", "dog", "dog", "fox", "fox"])
ANSWERS = {
    "RN50": ["cat", "cat", "dog", "cat", "dog", "dog"],
    "RN101": ["cat", "dog", "dog", "cat", "fox", "dog"],
    "ViT-B-32": ["dog", "dog", "dog", "cat", "dog", "fox"],
}
CORRECT = np.array(
    [
        [True, True, False],
        [True, False, False],
        [True, True, True],
        [False, False, False],
        [False, True, False],
        [False, False, True],
    ]
)


def as_table(answers, classes=("cat", "dog", "fox")):
    """Write answers as the zero-shot logits that lead to them."""
    layout = Layout(dict.fromkeys(answers, 0), classes)
    logits = [np.equal.outer(np.asarray(given), classes) * 5.0 for given in answers.values()]
    return pd.DataFrame(np.hstack(logits).astype(np.float32), columns=layout.names)


FORMS = {
    "mapping": (ANSWERS, Y),
    "frame": (pd.DataFrame(ANSWERS), Y),
    "table": (as_table(ANSWERS), Y),
    "table, classes in another order": (as_table(ANSWERS, ("fox", "cat", "dog")), Y),
    "array of labels": (np.array(list(ANSWERS.values())).T, Y),
    "logits": (as_table(ANSWERS).to_numpy().reshape(6, 3, 3), Y),
    "booleans": (CORRECT, None),
    "booleans and labels": (pd.DataFrame(CORRECT, columns=list(ANSWERS)), Y),
}


@pytest.mark.parametrize(("X", "y"), FORMS.values(), ids=FORMS)
def test_every_form_of_answers_is_read_alike(X, y):
    assert inspection.oracle_score(X, y) == pytest.approx(5 / 6)
    assert inspection.oracle_null(X, y) == pytest.approx(1 - 3 * 3 * 4 / 6**3)
    assert inspection.unique_correct(X, y).tolist() == [1, 1, 1]
    regions = inspection.overlap(X, y)
    assert regions.sum() == 6
    assert regions[True, True, False] == regions[False, False, False] == 1
    assert (True, False, True) not in regions


def test_numbers_and_their_names_are_the_same_labels():
    y = np.array([3, 4, 4])
    table = as_table({"a": ["3", "4", "3"], "b": ["4", "4", "4"]}, ("3", "4"))
    assert inspection.oracle_score(table, y) == 1
    assert inspection.oracle_score({"a": ["3", "4", "3"]}, y) == pytest.approx(2 / 3)


def test_null_inside_classes():
    # cat: 1/2 x 1 wrong for nobody else; computed class by class.
    X = CORRECT
    expected = np.mean([1 - 0 * 0.5 * 1, 1 - 0.5 * 0.5 * 0.5, 1 - 1 * 0.5 * 0.5])
    assert inspection.oracle_null(X, Y, by_class=True) == pytest.approx(expected)
    with pytest.raises(ValueError, match="true labels are needed"):
        inspection.oracle_null(X, by_class=True)


def test_null_is_the_mean_over_shuffles():
    rng = np.random.default_rng(0)
    correct = rng.random((200, 3)) < [0.5, 0.3, 0.2]
    shuffled = [
        inspection.oracle_score(np.stack([rng.permutation(c) for c in correct.T], axis=1))
        for _ in range(200)
    ]
    assert inspection.oracle_null(correct) == pytest.approx(np.mean(shuffled), abs=0.005)


def test_gap_closed():
    assert inspection.oracle_gap_closed(ANSWERS["RN50"], ANSWERS, Y) == 0
    oracle = ["cat", "cat", "dog", "cat", "fox", "fox"]
    assert inspection.oracle_gap_closed(oracle, ANSWERS, Y) == 1
    assert inspection.oracle_gap_closed(Y, ANSWERS, Y) == pytest.approx(1.5)
    assert inspection.oracle_gap_closed(oracle, ANSWERS, Y, best_single=2 / 6) == 1
    assert np.isnan(inspection.oracle_gap_closed(oracle, {"RN50": ANSWERS["RN50"]}, Y))


@pytest.mark.parametrize(
    ("X", "y", "message"),
    [
        (ANSWERS, Y[:4], "6 rows and y has 4 labels"),
        (ANSWERS, None, "pass y"),
        (np.zeros((4, 3)), Y[:4], "could be anything"),
        (np.zeros(4, dtype=bool), None, "1 dimensions"),
        (np.zeros((0, 2), dtype=bool), None, "no rows"),
        (as_table(ANSWERS), ["cow"] * 6, "cow.* in y has no logit column"),
        (as_table(ANSWERS) * np.nan, Y, "6 of 6 rows of X are NaN throughout"),
        (pd.DataFrame(np.ones((6, 2)), columns=Layout({"a": 2}).names), Y, "embeddings only"),
    ],
)
def test_bad_answers_are_named(X, y, message):
    with pytest.raises(ValueError, match=message):
        inspection.oracle_score(X, y)


def test_an_estimator_that_reads_no_tables():
    from sklearn.dummy import DummyClassifier

    estimator = DummyClassifier().fit(np.zeros((6, 1)), Y)
    with pytest.raises(TypeError, match="DummyClassifier does not read tables"):
        inspection.oracle_score(np.zeros((6, 1)), Y, estimator=estimator)


def test_pairs_by_hand():
    # RN50 and RN101: both right 2, only RN50 right 1, only RN101 right 1, both wrong 2.
    pair = "RN50", "RN101"
    assert inspection.disagreement(ANSWERS, Y).loc[pair] == pytest.approx(2 / 6)
    assert inspection.disagreement(ANSWERS).loc[pair] == pytest.approx(2 / 6)
    assert inspection.disagreement(CORRECT).loc["backbone0", "backbone1"] == pytest.approx(2 / 6)
    assert inspection.double_fault(ANSWERS, Y).loc[pair] == pytest.approx(2 / 6)
    assert inspection.q_statistic(ANSWERS, Y).loc[pair] == pytest.approx((4 - 1) / (4 + 1))
    assert inspection.error_consistency(ANSWERS, Y).loc[pair] == pytest.approx((4 / 6 - 0.5) / 0.5)
    # Two wrong answers may differ: only the answers show it, not right and wrong.
    both_wrong = {"a": ["dog"], "b": ["fox"]}
    assert inspection.disagreement(both_wrong).loc["a", "b"] == 1
    assert inspection.disagreement(both_wrong, ["cat"]).loc["a", "b"] == 0


def test_error_consistency_is_cohens_kappa():
    from sklearn.metrics import cohen_kappa_score

    correct = np.random.default_rng(0).random((500, 4)) < [0.2, 0.5, 0.7, 0.9]
    correct[:, 1] |= correct[:, 0]
    kappa = inspection.error_consistency(correct).to_numpy()
    for i in range(4):
        for j in range(4):
            assert kappa[i, j] == pytest.approx(cohen_kappa_score(correct[:, i], correct[:, j]))


def test_pairs_that_never_err_have_no_consistency():
    correct = np.ones((5, 2), dtype=bool)
    assert inspection.error_consistency(correct).isna().all(axis=None)
    assert inspection.q_statistic(correct).isna().all(axis=None)


def test_gain_by_diversity():
    best = ANSWERS["RN50"]
    found = inspection.gain_by_diversity({"same": (best, ANSWERS, Y), "all": (Y, ANSWERS, Y)})
    assert found.loc["same", "gain"] == 0
    assert found.loc["all", "gain"] == pytest.approx(3 / 6)
    assert found.loc["all", "oracle"] == pytest.approx(5 / 6)
    assert found.loc["all", "disagreement"] == pytest.approx((2 + 3 + 3) / 6 / 3)
    with pytest.raises(ValueError, match="'alone' has one backbone"):
        inspection.gain_by_diversity({"alone": (best, {"RN50": best}, Y)})


def centered(K):
    H = np.eye(len(K)) - 1 / len(K)
    return H @ K @ H


def song_et_al_2012(K, L):
    """Eq. 4 of Song et al. (2012), term by term."""
    n, one = len(K), np.ones(len(K))
    K, L = K - np.diag(np.diag(K)), L - np.diag(np.diag(L))
    terms = np.trace(K @ L) + (one @ K @ one) * (one @ L @ one) / ((n - 1) * (n - 2))
    return (terms - 2 / (n - 2) * (one @ K @ L @ one)) / (n * (n - 3))


def test_cka_is_that_of_the_kernels():
    rng = np.random.default_rng(0)
    A = rng.normal(size=(20, 7)) + 3
    B = A[:, :5] + rng.normal(size=(20, 5))
    K, L = A @ A.T, B @ B.T
    hsic = {(a, b): np.trace(centered(M) @ centered(N)) for a, M in zip("KL", [K, L], strict=True)
            for b, N in zip("KL", [K, L], strict=True)}  # fmt: skip
    expected = hsic["K", "L"] / np.sqrt(hsic["K", "K"] * hsic["L", "L"])
    assert inspection.linear_cka(A, B) == pytest.approx(expected)
    expected = song_et_al_2012(K, L) / np.sqrt(song_et_al_2012(K, K) * song_et_al_2012(L, L))
    assert inspection.linear_cka(A, B, debiased=True) == pytest.approx(expected)


def test_cka_debiased_is_zero_for_unrelated_features():
    A, B = np.random.default_rng(0).normal(size=(2, 100, 1000))
    assert inspection.linear_cka(A, B) > 0.9
    assert abs(inspection.linear_cka(A, B, debiased=True)) < 0.02


def test_cka_ignores_rotation_scale_and_shift():
    rng = np.random.default_rng(0)
    A = rng.normal(size=(30, 4))
    rotation = np.linalg.qr(rng.normal(size=(4, 4)))[0]
    for debiased in (False, True):
        assert inspection.linear_cka(A, 7 * A @ rotation + 1, debiased=debiased) == pytest.approx(1)
    assert np.isnan(inspection.linear_cka(A, np.ones((30, 2))))
    with pytest.raises(ValueError, match="at least 4 images"):
        inspection.linear_cka(A[:3], A[:3], debiased=True)


def test_cka_matrix_reads_tables():
    rng = np.random.default_rng(0)
    A, B = rng.normal(size=(30, 4)), rng.normal(size=(30, 3))
    table = pd.DataFrame(np.hstack([A, B]), columns=Layout({"a": 4, "b": 3}).names)
    for X in (table, {"a": A, "b": B}):
        matrix = inspection.cka_matrix(X)
        assert matrix.loc["a", "b"] == matrix.loc["b", "a"]
        assert matrix.loc["a", "b"] == pytest.approx(inspection.linear_cka(A, B))
    with pytest.raises(ValueError, match="could be anything"):
        inspection.cka_matrix(A)
    with pytest.raises(ValueError, match="no columns of backbones"):
        inspection.cka_matrix(A > 0)


def test_calibration_by_hand():
    y = ["cat", "cat", "dog", "dog"]
    proba = np.array([[0.95, 0.05], [0.85, 0.15], [0.65, 0.35], [0.0, 1.0]])
    bins = inspection.calibration_bins(y, proba, n_bins=5)
    assert bins.n_images.tolist() == [1, 3]
    assert bins.confidence.tolist() == pytest.approx([0.65, 2.8 / 3])
    assert bins.accuracy.tolist() == [0, 1]
    ece = inspection.expected_calibration_error(y, proba, n_bins=5)
    assert ece == pytest.approx((0.65 + 3 * (1 - 2.8 / 3)) / 4)
    brier = 2 * (0.05**2 + 0.15**2 + 0.65**2) / 4
    assert inspection.brier_score(y, proba) == pytest.approx(brier)
    nll = -np.log([0.95, 0.85, 0.35, 1]).mean()
    assert inspection.negative_log_likelihood(y, proba) == pytest.approx(nll)


def test_calibration_takes_columns_in_any_order():
    from sklearn.metrics import log_loss

    rng = np.random.default_rng(0)
    proba = rng.dirichlet(np.ones(3), size=50)
    y = rng.choice([3, 5, 8], size=50)
    scores = inspection.expected_calibration_error, inspection.brier_score
    for score in (*scores, inspection.negative_log_likelihood):
        assert score(y, proba[:, ::-1], classes=[8, 5, 3]) == pytest.approx(score(y, proba))
    assert inspection.negative_log_likelihood(y, proba) == pytest.approx(log_loss(y, proba))
    with pytest.raises(ValueError, match="3 columns for 2 classes"):
        inspection.brier_score(y, proba, classes=[3, 5])
    with pytest.raises(ValueError, match="'8' in y_true"):
        inspection.brier_score(y, proba, classes=[3, 5, 7])
    with pytest.raises(ValueError, match=r"y_proba must hold probabilities.*predict_proba"):
        inspection.brier_score(["cat", "dog"], ["cat", "cat"])


def test_calibration_table_asks_for_probabilities():
    found = inspection.calibration_table(as_table(ANSWERS), Y)
    assert found.accuracy.tolist() == pytest.approx([3 / 6, 3 / 6, 2 / 6])
    sure = np.exp(5) / (np.exp(5) + 2)
    assert found.loc["RN50", "nll"] == pytest.approx(-np.log([sure, (1 - sure) / 2]).mean())
    with pytest.raises(ValueError, match="Probabilities are needed"):
        inspection.calibration_table(ANSWERS, Y)


def test_per_class_accuracy():
    for X, y in FORMS.values():
        found = inspection.per_class_accuracy(X, Y if y is None else y)
        assert found.to_numpy().tolist() == [[1, 0.5, 0], [0.5, 0.5, 0.5], [0, 0.5, 0.5]]
        assert found.index.tolist() == ["cat", "dog", "fox"]


@pytest.fixture
def noisy_table():
    """Three backbones that see the truth through more and more noise."""
    rng = np.random.default_rng(0)
    y = np.repeat(["cat", "dog", "fox"], 20)
    truth = np.equal.outer(y, ["cat", "dog", "fox"]) * 1.0
    logits = [truth + sigma * rng.normal(size=truth.shape) for sigma in (0.3, 0.6, 3)]
    layout = Layout(dict.fromkeys("abc", 0), ["cat", "dog", "fox"])
    return pd.DataFrame(np.hstack(logits), columns=layout.names), y


def test_contributions_add_up(noisy_table):
    X, y = noisy_table
    found = inspection.backbone_contributions(ProbabilityAverage(), X, y, cv=2)

    def value(backbones):
        columns = [c for c in X if c.split("__")[0] in backbones]
        return cross_val_score(ProbabilityAverage(), X[columns], y, cv=2).mean()

    a, b, c, ab, ac, bc, abc = map(value, ["a", "b", "c", "ab", "ac", "bc", "abc"])
    assert found.alone.tolist() == [a, b, c]
    assert found.left_out.tolist() == pytest.approx([abc - bc, abc - ac, abc - ab])
    of_a = np.mean([a - 1 / 3, np.mean([ab - b, ac - c]), abc - bc])
    assert found.loc["a", "shapley"] == pytest.approx(of_a)
    assert found.shapley.sum() == pytest.approx(abc - 1 / 3)


def test_contributions_can_be_cut_short(noisy_table, monkeypatch):
    X, y = noisy_table
    whole = inspection.backbone_contributions(ProbabilityAverage(), X, y, cv=2)
    some = inspection.backbone_contributions(
        ProbabilityAverage(), X, y, cv=2, max_subsets=5, random_state=0
    )
    assert some.alone.equals(whole.alone)
    assert some.shapley.notna().all()

    fits = iter(range(8))
    fit = ProbabilityAverage.fit

    def interrupted(self, X, y=None):
        if next(fits, None) is None:
            raise KeyboardInterrupt
        return fit(self, X, y)

    monkeypatch.setattr(ProbabilityAverage, "fit", interrupted)
    with pytest.warns(UserWarning, match="Interrupted after 5 of 8 subsets"):
        some = inspection.backbone_contributions(ProbabilityAverage(), X, y, cv=2)
    assert some.alone.equals(whole.alone)


def test_an_estimator_adds_itself(noisy_table):
    X, y = noisy_table
    combiner = ProbabilityAverage().fit(X, y)
    accuracy = combiner.score(X, y)
    for estimator in (
        combiner,
        FrozenEstimator(combiner),
        make_pipeline(combiner),
        make_pipeline("passthrough", combiner),
    ):
        assert inspection.oracle_score(X, y, estimator=estimator) == inspection.oracle_score(X, y)
        found = inspection.per_class_accuracy(X, y, estimator=estimator)
        assert found["ProbabilityAverage"].mean() == pytest.approx(accuracy)
        found = inspection.calibration_table(X, y, estimator=estimator)
        assert found.loc["ProbabilityAverage", "accuracy"] == pytest.approx(accuracy)
        nll = inspection.negative_log_likelihood(y, combiner.predict_proba(X))
        assert found.loc["ProbabilityAverage", "nll"] == pytest.approx(nll)
        assert inspection.cka_matrix(X, estimator=estimator).shape == (3, 3)


def looks(images):
    """Two 'backbones' that see the mean colour of an image, and its upper left pixel."""
    layout = Layout({"mean": 0, "corner": 0}, ["blue", "green", "red"])
    rows = [np.r_[np.mean(i, axis=(0, 1))[::-1], np.asarray(i)[0, 0, ::-1]] for i in images]
    return pd.DataFrame(np.array(rows, dtype=np.float32) / 16, columns=layout.names)


@pytest.fixture
def colour_classifier():
    """A pipeline from images of one colour to its name."""
    images = [np.full((6, 6, 3), c, dtype=np.uint8) for c in 150 * np.eye(3, dtype=int) + 50] * 4
    y = np.array(["red", "green", "blue"] * 4)
    return make_pipeline(FunctionTransformer(looks), ProbabilityAverage()).fit(images, y), images, y


def test_robustness(colour_classifier):
    clf, images, y = colour_classifier
    found = inspection.robustness(
        clf, images, y, corruptions=["gaussian_noise", "greyscale"], severities=[2, 5]
    )
    assert found.columns.tolist() == ["corruption", "severity", "method", "accuracy"]
    scores = {
        condition: rows.set_index("method")["accuracy"]
        for condition, rows in found.groupby(["corruption", "severity"])
    }
    methods = ["mean", "corner", "ProbabilityAverage"]
    assert scores["none", 0].tolist() == [1, 1, 1]
    assert scores["greyscale", 1].index.tolist() == methods
    assert scores["greyscale", 1].max() < 0.5
    corrupted = Corruption("gaussian_noise", 5).transform(images)
    assert scores["gaussian_noise", 5]["ProbabilityAverage"] == clf.score(corrupted, y)
    # The mean of 36 pixels withstands noise, one pixel does not.
    assert scores["gaussian_noise", 5]["mean"] > scores["gaussian_noise", 5]["corner"]


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"corruptions": "fog"}, "'corruptions' parameter of robustness must be an array-like"),
        ({"severities": 3}, "'severities' parameter of robustness must be an array-like"),
        ({"severities": [0]}, r"'severity' .* \[1, 5\]. Got 0"),
        ({"severities": [1, 9]}, r"'severity' .* \[1, 5\]. Got 9"),
    ],
)
def test_robustness_says_what_is_wrong_before_it_begins(options, match):
    with pytest.raises(ValueError, match=match):
        inspection.robustness(None, **options)


def test_robustness_can_be_cut_short(colour_classifier, monkeypatch):
    clf, images, y = colour_classifier
    with pytest.raises(ValueError, match="Unknown corruption 'snow'"):
        inspection.robustness(clf, images, y, corruptions=["snow"])

    def interrupted(self, X):
        raise KeyboardInterrupt

    monkeypatch.setattr(Corruption, "transform", interrupted)
    with pytest.warns(UserWarning, match="Interrupted after 1 of 35 conditions"):
        found = inspection.robustness(clf, images, y)
    assert found["corruption"].unique().tolist() == ["none"]


def test_a_pipeline_from_images_is_read_like_its_table(colour_classifier):
    clf, images, y = colour_classifier
    noisy = Corruption("gaussian_noise", 5).transform(images)
    table = looks(noisy)
    for measure in (inspection.oracle_score, inspection.oracle_null):
        assert measure(noisy, y, estimator=clf) == measure(table, y)
    for measure in (inspection.error_consistency, inspection.overlap, inspection.unique_correct):
        assert measure(noisy, y, estimator=clf).equals(measure(table, y))
    search = GridSearchCV(clf, {"functiontransformer__validate": [False]}, cv=2).fit(images, y)
    assert inspection.oracle_score(noisy, y, estimator=search) == inspection.oracle_score(table, y)


def test_bins_of_equal_count():
    proba = np.linspace(0.5, 1, 10)
    proba = np.column_stack([proba, 1 - proba])
    y = ["cat"] * 5 + ["dog"] * 5
    bins = inspection.calibration_bins(y, proba, n_bins=3, strategy="quantile")
    assert bins["n_images"].tolist() == [4, 3, 3]
    np.testing.assert_allclose(np.average(bins["accuracy"], weights=bins["n_images"]), 0.5)
    # What is equally probable stays together.
    same = inspection.calibration_bins(y, [[0.9, 0.1]] * 10, n_bins=3, strategy="quantile")
    assert same["n_images"].tolist() == [10]
    with pytest.raises(ValueError, match="strategy='wide'"):
        inspection.calibration_bins(y, proba, strategy="wide")
