"""Answers: read once, predicted once, whatever is asked; and backbones without text among them."""

from collections import Counter

import numpy as np
import pandas as pd
import pytest
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from sklearn_clipensemble import Layout, ensembles, inspection
from sklearn_clipensemble.ensembles import AdaptiveBackboneEnsemble
from sklearn_clipensemble.inspection import Answers

CLASSES = ["cat", "dog", "fox"]


def make_table(layout, seed=0, n=60):
    """Embeddings and logits that see the classes through noise, rows with names."""
    rng = np.random.default_rng(seed)
    y = np.resize(CLASSES, n)
    blocks = {b: rng.normal(size=(n, width)) for b, width in layout.widths.items()}
    truth = np.equal.outer(y, CLASSES) * 2.0
    columns = {}
    for b, width in layout.widths.items():
        columns |= {f"{b}__embedding__{i}": blocks[b][:, i] + truth[:, i % 3] for i in range(width)}
        if b in layout.with_logits:
            logits = truth + rng.normal(size=truth.shape)
            columns |= {f"{b}__logit__{c}": logits[:, i] for i, c in enumerate(CLASSES)}
    return pd.DataFrame(columns, dtype=np.float32, index=[f"{i}.png" for i in range(n)]), y


X, Y = make_table(Layout({"a": 4, "b": 3, "c": 0}, CLASSES))
MIXED, _ = make_table(Layout({"a": 4, "dino": 5, "b": 0}, CLASSES, with_logits=["a", "b"]))


@pytest.fixture(scope="module")
def clf():
    return AdaptiveBackboneEnsemble().fit(X[:15], Y[:15])


@pytest.fixture
def calls(monkeypatch):
    """How often tables are read and an ensemble is asked."""
    calls = Counter()

    def count(owner, name):
        original = getattr(owner, name)

        def counted(*args, **kwargs):
            calls[name] += 1
            return original(*args, **kwargs)

        monkeypatch.setattr(owner, name, counted)

    for name in ("_read", "predict", "predict_proba", "predict_log_proba", "combination_weights"):
        count(AdaptiveBackboneEnsemble, name)
    return calls


FUNCTIONS = [
    *("oracle_score", "oracle_null", "overlap", "unique_correct", "disagreement", "double_fault"),
    *("q_statistic", "error_consistency", "calibration_table", "per_class_accuracy"),
]
DISPLAYS = ["Overlap", "Disagreement", "Weights", "Reliability", "ContactSheet"]
ONCE = {"_read": 1, "predict_log_proba": 1, "combination_weights": 1}


def test_a_report_reads_once_and_predicts_once(clf, calls, tmp_path):
    pytest.importorskip("matplotlib")
    images = [np.zeros((8, 8), dtype=np.uint8)] * len(X)

    def transform(_):
        calls["transform"] += 1
        return X

    pipeline = make_pipeline(FunctionTransformer(transform), clf)
    inspection.report(pipeline, images, Y, tmp_path / "report.html", shots=())
    assert calls == ONCE | {"transform": 1}


def test_any_number_of_questions_is_answered_by_one_reading(clf, calls):
    pytest.importorskip("matplotlib").use("Agg")
    answers = Answers.from_estimator(clf, X, Y)
    for name in FUNCTIONS:
        getattr(inspection, name)(answers)
    inspection.cka_matrix(answers)
    inspection.oracle_gap_closed(answers.y_pred, answers)
    inspection.gain_by_diversity({"one": answers})
    images = [np.zeros((8, 8), dtype=np.uint8)] * len(X)
    for name in DISPLAYS:
        options = {"images": images} if name == "ContactSheet" else {}
        getattr(inspection, f"{name}Display").from_answers(answers, **options)
    assert calls == ONCE


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_functions_say_the_same_of_answers(clf, name):
    function = getattr(inspection, name)
    for given, made in (
        ({"X": X, "y": Y}, Answers.from_predictions(X, Y)),
        ({"X": X, "y": Y, "estimator": clf}, Answers.from_estimator(clf, X, Y)),
    ):
        first, second = function(**given), function(made)
        same = first == second if np.isscalar(first) else first.equals(second)
        assert same


def test_what_is_asked_of_an_estimator_can_be_asked_of_its_answers(clf):
    answers = Answers.from_estimator(clf, X, Y)
    found = inspection.backbone_contributions(answers, cv=2)
    assert found.equals(inspection.backbone_contributions(clf, X, Y, cv=2))
    with pytest.raises(ValueError, match=r"make the answers with Answers\.from_estimator"):
        inspection.backbone_contributions(Answers.from_predictions(X, Y))


def test_answers_are_passed_alone(clf):
    answers = Answers.from_estimator(clf, X, Y)
    for given in ({"y": Y}, {"estimator": clf}):
        with pytest.raises(TypeError, match="pass them alone"):
            inspection.oracle_score(answers, **given)


def test_nothing_changes_them(clf):
    with pytest.raises(AttributeError):
        Answers.from_estimator(clf, X, Y).y = None


@pytest.mark.parametrize("name", ensembles.__all__)
def test_the_ensemble_says_what_it_predicts(name):
    clf = getattr(ensembles, name)()
    settings = {"random_state": 0, "n_steps": 5, "n_generations": 2, "population_size": 8}
    clf.set_params(**{k: v for k, v in settings.items() if k in clf.get_params()}).fit(X, Y)
    answers = Answers.from_estimator(clf, X, Y)
    assert answers.y_pred.tolist() == clf.predict(X).tolist()
    np.testing.assert_array_equal(answers.probabilities[name], clf.predict_proba(X))
    assert list(answers.correct) == ["a", "b", "c", name]
    assert answers.correct[name].mean() == pytest.approx(clf.score(X, Y))
    if hasattr(clf, "combination_weights"):
        assert answers.weights.equals(clf.combination_weights(X))
    else:
        assert answers.weights is None


def test_rows_keep_their_names(clf):
    answers = Answers.from_estimator(clf, X, Y)
    for frame in (answers.predictions, answers.correct, answers.weights):
        assert frame.index.equals(X.index)
    images = [np.zeros((8, 8), dtype=np.uint8)] * len(X)
    pipeline = make_pipeline(FunctionTransformer(lambda _: X), clf)
    assert Answers.from_estimator(pipeline, images).index.equals(X.index)


# What else can be given


def test_probabilities_by_backbone():
    proba = {"a": [[0.9, 0.1], [0.2, 0.8]], "b": [[0.4, 0.6], [0.3, 0.7]]}
    answers = Answers.from_predictions(proba, [3, 5])
    assert answers.predictions.to_numpy().tolist() == [[3, 5], [5, 5]]
    found = inspection.calibration_table(answers)
    assert found["accuracy"].tolist() == [1, 0.5]
    assert found.loc["a", "nll"] == pytest.approx(-np.log([0.9, 0.8]).mean())
    named = Answers.from_predictions(proba, classes=["x", "y"])
    assert named.predictions["b"].tolist() == ["y", "y"]


def test_an_ensemble_by_its_answers():
    given = {"a": ["x", "y"], "b": ["y", "y"]}
    weights = [[0.7, 0.3], [0.2, 0.8]]
    answers = Answers.from_predictions(given, ["x", "x"], y_pred=["x", "y"], weights=weights)
    assert answers.correct["ensemble"].tolist() == [True, False]
    assert answers.weights.loc[1].to_dict() == {"a": 0.2, "b": 0.8}
    assert inspection.gain_by_diversity({"": answers}).loc["", "combined"] == 0.5


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"X": {"a": [[0.5, 0.5]]}}, "Pass classes"),
        ({"X": {"a": [[0.5, 0.5]]}, "y": ["x"]}, r"'a' have the shape \(1, 2\); expected \(1, 1\)"),
        ({"X": {"a": ["x"]}, "y_pred": ["x", "y"]}, "1 rows and y_pred has 2 labels"),
        ({"X": {"a": ["x"]}, "weights": [[1], [1]]}, "1 rows and weights has 2 rows"),
    ],
)
def test_what_does_not_fit_is_named(given, message):
    with pytest.raises(ValueError, match=message):
        Answers.from_predictions(**given)


# Backbones without text


@pytest.mark.parametrize("with_estimator", [False, True])
def test_a_backbone_without_text_counts_where_it_can(with_estimator):
    clf = AdaptiveBackboneEnsemble().fit(MIXED[:15], Y[:15])
    options = {"estimator": clf} if with_estimator else {}
    textless = [c for c in MIXED if not c.startswith("dino")]
    for name in FUNCTIONS[:8]:
        found = getattr(inspection, name)(MIXED, Y, **options)
        expected = getattr(inspection, name)(MIXED[textless], Y)
        assert found == expected if np.isscalar(found) else found.equals(expected)
    assert inspection.cka_matrix(MIXED, **options).columns.tolist() == ["a", "dino", "b"]
    answers = Answers.from_estimator(clf, MIXED, Y)
    assert answers.backbones == ["a", "b"]
    assert list(answers.probabilities) == ["a", "b", "AdaptiveBackboneEnsemble"]
    assert list(answers.weights) == ["a", "dino", "b"]


def test_displays_and_the_report_do_without_their_answers(tmp_path):
    pytest.importorskip("matplotlib").use("Agg")
    clf = AdaptiveBackboneEnsemble().fit(MIXED[:15], Y[:15])
    images = [np.zeros((8, 8), dtype=np.uint8)] * len(MIXED)
    path = tmp_path / "report.html"
    inspection.report(clf, MIXED, Y, path, images=images, shots=[1], n_repeats=1)
    assert "2 backbones and 1 without text, combined by" in path.read_text(encoding="utf-8")
    display = inspection.WeightsDisplay.from_estimator(clf, MIXED, Y)
    assert list(display.frame()) == ["a", "dino", "b"]


def test_a_backbone_without_text_has_a_contribution():
    found = inspection.backbone_contributions(AdaptiveBackboneEnsemble(), MIXED, Y, cv=2)
    assert found.index.tolist() == ["a", "dino", "b"]
    assert found["alone"].notna().all()


def test_of_embeddings_alone_features_and_weights_are_known():
    embeddings = X.filter(like="embedding")
    clf = AdaptiveBackboneEnsemble().fit(embeddings[:15], Y[:15])
    answers = Answers.from_estimator(clf, embeddings, Y)
    assert answers.backbones == []
    assert list(answers.features) == list(answers.weights) == ["a", "b"]
    assert answers.y_pred.tolist() == clf.predict(embeddings).tolist()
    assert repr(answers) == "<Answers of AdaptiveBackboneEnsemble to 60 images>"
    with pytest.raises(ValueError, match=r"embeddings only.*of others there are y_pred"):
        inspection.oracle_score(answers)


def test_what_is_not_known_is_asked_for():
    answers = Answers.from_predictions(np.ones((3, 2), dtype=bool))
    for function, message in (
        (inspection.calibration_table, "true labels are needed"),
        (inspection.cka_matrix, "no columns of backbones"),
    ):
        with pytest.raises(ValueError, match=message):
            function(answers)
    with pytest.raises(TypeError, match="no combination_weights"):
        inspection.WeightsDisplay.from_answers(answers)
