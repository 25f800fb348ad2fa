"""Odd labels, arrays and layouts."""

import numpy as np
import pandas as pd
import pytest

from sklearn_clipensemble import Layout
from sklearn_clipensemble.ensembles import ProbabilityAverage, SuperLearner


def named(keys, n_rows=6, dtype=np.float64):
    rng = np.random.default_rng(0)
    names = [f"{b}__logit__{k}" for b in "ab" for k in keys]
    return pd.DataFrame(rng.normal(size=(n_rows, len(names))), columns=names, dtype=dtype)


def test_boolean_labels():
    clf = ProbabilityAverage().fit(named(["False", "True"]), [True] * 6)
    assert clf.classes_.tolist() == [False, True]
    with pytest.raises(ValueError, match="'Maybe'"):
        ProbabilityAverage().fit(named(["False", "True", "Maybe"]), [True, False] * 3)


@pytest.mark.parametrize("keys", [["1", "01"], ["10", "1_0"]])
def test_two_keys_that_read_as_one_number(keys):
    with pytest.raises(ValueError, match=f"'{keys[1]}'.* not of the type"):
        ProbabilityAverage().fit(named(keys), [int(keys[0])] * 6)


@pytest.mark.parametrize("key", ["nan", "inf", "cat"])
def test_a_key_that_is_no_number(key):
    with pytest.raises(ValueError, match=f"'{key}'.* not of the type"):
        ProbabilityAverage().fit(named(["1", key]), [1.0] * 6)


def test_labels_of_a_type_too_narrow_for_the_classes():
    X = named([str(i) for i in range(300)])
    clf = ProbabilityAverage().fit(X, np.arange(6, dtype=np.uint8))
    assert clf.classes_.tolist() == list(range(300))
    few = ProbabilityAverage().fit(named(["1", "2", "3"]), np.array([1, 2] * 3, dtype=np.uint8))
    assert few.classes_.dtype == np.uint8


def test_missing_labels_of_pandas_are_named():
    for y in (pd.Series(["a", "b", pd.NA] * 2, dtype="string"), pd.Series([1, 2, pd.NA] * 2)):
        with pytest.raises(ValueError, match="label at index 2 is missing"):
            ProbabilityAverage().fit(named(["a", "b"]), y)


def test_objects_that_are_numbers():
    X = named(["1", "2"])
    for y in (pd.Series([1, 2] * 3, dtype="Int64"), np.array([1, 2] * 3, dtype=object)):
        assert ProbabilityAverage().fit(X, y).classes_.tolist() == [1, 2]


def test_logits_with_their_axes_swapped():
    logits = np.random.default_rng(0).normal(size=(8, 2, 3))
    clf = ProbabilityAverage().fit(logits)
    with pytest.raises(ValueError, match=r"2 backbones and 3 classes.* \(8, 3, 2\)"):
        clf.predict(logits.transpose(0, 2, 1))


@pytest.mark.parametrize("labels", [[0, 1, 2], [1, 2, 3], [0, 2, 4], ["x", "y", "z"]], ids=str)
def test_no_subset_of_the_rows_moves_a_class_of_an_array(labels):
    logits = np.random.default_rng(0).normal(size=(9, 2, 3))
    y = np.tile(labels, 3)
    whole = ProbabilityAverage().fit(logits, y)
    assert whole.classes_.tolist() == labels
    for absent in labels:
        kept = y != absent
        with pytest.raises(ValueError, match=r"logits of 3 classes but y has 2 .*layout=Layout\("):
            ProbabilityAverage().fit(logits[kept], y[kept])
        weighted = SuperLearner().fit(logits, y, sample_weight=kept)
        assert weighted.classes_.tolist() == labels
        layout = Layout({"left": 0, "right": 0}, list(map(str, labels)))
        named = ProbabilityAverage(layout=layout).fit(logits[kept], y[kept])
        np.testing.assert_array_equal(named.predict(logits), whole.predict(logits))


def test_a_layout_for_a_frame_of_other_names():
    X = pd.DataFrame(np.random.default_rng(0).normal(size=(8, 4)), columns=list("pqrs"))
    clf = SuperLearner(layout=Layout({"a": 2, "b": 2})).fit(X, [0, 1] * 4)
    assert clf.backbones_ == ["a", "b"]
    with pytest.warns(UserWarning, match="no column of X is named like a backbone's"):
        SuperLearner().fit(X, [0, 1] * 4)


def test_a_layout_for_logits():
    logits = np.random.default_rng(0).normal(size=(8, 2, 3))
    layout = Layout({"left": 0, "right": 0}, ["cat", "cow", "dog"])
    clf = SuperLearner(layout=layout).fit(logits, ["cat", "dog"] * 4)
    assert clf.backbones_ == ["left", "right"]
    assert clf.classes_.tolist() == ["cat", "cow", "dog"]
    with pytest.raises(ValueError, match="layout describes"):
        SuperLearner(layout=Layout({"left": 0}, ["cat", "cow", "dog"])).fit(logits, ["cat"] * 8)


def test_nan_in_logits_is_named():
    logits = np.zeros((4, 2, 3))
    logits[3, 1, 2] = np.nan
    with pytest.raises(ValueError, match="row 3, column 'backbone1__logit__2'"):
        ProbabilityAverage().fit(logits)
