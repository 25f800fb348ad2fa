import pickle

import numpy as np
import pytest

from sklearn_clipensemble import Layout
from sklearn_clipensemble.ensembles import ProbabilityAverage


def test_names_and_columns_of_two_backbones():
    layout = Layout({"a": 2, "b/x": 1}, ["cat", "dog"])
    X = np.arange(14.0).reshape(2, 7)
    assert layout.names == [
        "a__embedding__0",
        "a__embedding__1",
        "a__logit__cat",
        "a__logit__dog",
        "b/x__embedding__0",
        "b/x__logit__cat",
        "b/x__logit__dog",
    ]
    assert layout.n_features == 7
    np.testing.assert_array_equal(layout.embedding(X, "a"), X[:, :2])
    np.testing.assert_array_equal(layout.logits(X, "b/x"), X[:, 5:])


def test_names_lead_back_to_the_layout_whatever_their_order():
    layout = Layout({"a": 3, "b": 2}, ["cat", "dog"])
    X = np.arange(18.0).reshape(2, 9)
    order = np.random.default_rng(0).permutation(9)
    shuffled = Layout.from_names([layout.names[i] for i in order])
    for backbone in "ab":
        np.testing.assert_array_equal(
            shuffled.embedding(X[:, order], backbone), layout.embedding(X, backbone)
        )
    a, b = shuffled.classes, layout.classes
    np.testing.assert_array_equal(
        shuffled.logits(X[:, order], "b")[:, [a.index(c) for c in b]], layout.logits(X, "b")
    )


def test_pickles_hold_no_names():
    layout = Layout({"a": 1000}, ["cat", "dog"])
    size = len(pickle.dumps(layout))
    names = layout.names
    assert names is not layout.names  # what is done to the list leaves no trace
    assert len(pickle.dumps(layout)) == size < 1000
    again = pickle.loads(pickle.dumps(layout))
    assert again == layout
    assert again.names == names


def test_adjoining_columns_are_read_without_a_copy():
    layout = Layout.from_names(Layout({"a": 3, "b": 2}, ["x", "y"]).names)
    X = np.zeros((4, 9))
    assert np.shares_memory(layout.embedding(X, "b"), X)
    assert np.shares_memory(layout.logits(X, "a"), X)


@pytest.mark.parametrize("odd", ["a__b", "with space", "ünï", "1", "__logit__"])
def test_any_class_name_survives(odd):
    layout = Layout({"hf-hub:org/a__b": 1, "local": 1}, [odd, "other"])
    back = Layout.from_names(layout.names)
    assert back.backbones == layout.backbones
    assert back.classes == layout.classes


def test_a_table_of_other_columns_has_no_layout():
    assert Layout.from_names(["height", "width"]) is None


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["a__embedding__0", "price"], "'price' is not a backbone's"),
        (["a__embedding__0", "a__embedding__2"], "'a__embedding__1' is missing"),
        (["a__logit__cat", "a__logit__cat"], "twice"),
        (["a__logit__cat", "a__logit__dog", "b__logit__cat"], "'b__logit__dog' is missing"),
        (["a__logit__cat", "b__logit__cat", "b__logit__dog"], "'b__logit__dog' has no counterpart"),
    ],
)
def test_a_broken_table_is_refused_by_naming_the_column(names, message):
    with pytest.raises(ValueError, match=message):
        Layout.from_names(names)


def test_some_backbones_without_logits():
    layout = Layout({"clip": 1, "dino": 2}, ["cat", "dog"], with_logits=["clip"])
    assert layout.names == [
        "clip__embedding__0",
        "clip__logit__cat",
        "clip__logit__dog",
        "dino__embedding__0",
        "dino__embedding__1",
    ]
    assert Layout.from_names(layout.names) == layout
    X = np.arange(10.0).reshape(2, 5)
    np.testing.assert_array_equal(layout.logits(X, "clip"), X[:, 1:3])
    np.testing.assert_array_equal(layout.embedding(X, "dino"), X[:, 3:])
    assert "with_logits=('clip',)" in repr(layout)
    with pytest.raises(ValueError, match="'dino' has no zero-shot logits"):
        layout.logits(X, "dino")


@pytest.mark.parametrize(
    ("widths", "classes", "with_logits", "message"),
    [
        ({"a": 1}, ["cat", "dog"], ["b"], "'b', which is none of the backbones: a"),
        ({"a": 1}, ["cat", "dog"], [], "give both or neither"),
        ({"a": 1}, (), ["a"], "give both or neither"),
        ({"a": 1, "b": 0}, ["cat", "dog"], ["a"], "'b' has no columns"),
    ],
)
def test_backbones_with_logits_that_cannot_be(widths, classes, with_logits, message):
    with pytest.raises(ValueError, match=message):
        Layout(widths, classes, with_logits)


def test_a_backbone_whose_name_could_not_be_read_back_is_refused():
    with pytest.raises(ValueError, match="cannot be called 'my__logit__net'"):
        Layout({"my__logit__net": 4})


def test_repr_is_short():
    names = Layout({f"b{i}": 512 for i in range(9)}, [str(c) for c in range(1000)]).names
    layout = Layout.from_names(names[::-1])
    assert len(repr(layout)) < 200
    assert repr(Layout({"a": 2}, ["x"])) == "Layout({'a': 2}, ('x',))"


@pytest.mark.parametrize(
    "classes", [[0, 1, 2], [0.0, 1.0, 2.0], np.arange(3), np.array(["0", "1", "2"]), range(3)]
)
def test_classes_are_labels_or_their_keys(classes):
    layout = Layout({"a": 0, "b": 0}, classes)
    assert layout.classes == ("0", "1", "2")
    assert [type(key) for key in layout.classes] == [str] * 3
    X = np.random.default_rng(0).normal(size=(6, 6))
    clf = ProbabilityAverage(layout=layout).fit(X, [0, 1, 2] * 2)
    assert clf.classes_.tolist() == [0, 1, 2]
    assert Layout({"a": 0}, [False, True]).classes == ("False", "True")


@pytest.mark.parametrize(
    ("widths", "classes", "kind", "message"),
    [
        ({"a": 0}, "cat", TypeError, r"got one text, 'cat'. Pass a list"),
        ({"a": 0}, {"cat", "dog"}, TypeError, "got a set, which has no order"),
        ({"a": 0}, ["cat", "dog", "cat"], ValueError, "class 'cat' is given twice"),
        ({"a": 0}, [1, 1.0, 2], ValueError, "class '1' is given twice"),
        ({"a": 0}, ["cat", ""], ValueError, "class at index 1 has no name"),
        ({"a": -1}, (), ValueError, "width of backbone 'a' is -1; expected a whole number"),
        ({"a": 2.0}, (), ValueError, r"width of backbone 'a' is 2\.0"),
        ({"a": "2"}, (), ValueError, "width of backbone 'a' is '2'"),
        ({1: 2}, (), ValueError, "backbone cannot be called 1"),
        ([2, 2], (), TypeError, "expected a mapping from backbone to width, got list"),
        ("a", (), TypeError, "expected a mapping from backbone to width, got str"),
        ({"a": 0}, (), ValueError, "has no columns"),
    ],
)
def test_layouts_that_make_no_sense(widths, classes, kind, message):
    with pytest.raises(kind, match=message):
        Layout(widths, classes)
