"""The measures, against values computed by hand or published."""

import numpy as np
import pandas as pd
import pytest

from sklearn_clipensemble import Layout, inspection

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
        (as_table(ANSWERS) * np.nan, Y, "NaN or infinity"),
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
