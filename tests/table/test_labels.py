"""Labels, and what is no table: what is refused says what it is and what to do."""

import datetime
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from PIL import Image
from scipy import sparse

from sklearn_clipensemble import AdaptiveBackboneEnsemble, FewShotSplit, Layout, ZeroShotLogits
from sklearn_clipensemble.ensembles import ProbabilityAverage, SuperLearner
from sklearn_clipensemble.inspection import brier_score, oracle_score, per_class_accuracy

LOGITS = Layout({"a": 0, "b": 0}, ["cat", "dog"])
X = pd.DataFrame(np.random.default_rng(0).normal(size=(6, 4)), columns=LOGITS.names)
Y = ["cat", "dog"] * 3
# NumPy 1 has strings of fixed width only.
VARIABLE_WIDTH = np.dtypes.StringDType() if hasattr(np.dtypes, "StringDType") else object

takes_labels = pytest.mark.parametrize(
    "take",
    [
        lambda y: ProbabilityAverage().fit(X, y),
        lambda y: ProbabilityAverage().fit(X, Y).score(X, y),
        lambda y: list(FewShotSplit().split(X, y)),
        lambda y: oracle_score(X, y),
        lambda y: brier_score(y, np.full((6, 2), 0.5)),
    ],
    ids=["fit", "score", "split", "oracle", "brier"],
)


@takes_labels
@pytest.mark.parametrize("gap", [None, np.nan, pd.NA, "", "  "])
@pytest.mark.parametrize(
    "form",
    [list, pd.Series, lambda y: pd.DataFrame({"label": y}), lambda y: np.array([y], object).T],
)
def test_a_gap_is_named(take, gap, form):
    with pytest.raises(ValueError, match=r"label at index 2 is (missing|an empty text)"):
        take(form([*Y[:2], gap, *Y[3:]]))


@takes_labels
@pytest.mark.parametrize(
    ("y", "what"),
    [
        ([["cat", "dog"], ["cat"]] * 3, "label at index 0 is a list"),
        ([("cat",), ("cat", "dog")] * 3, "label at index 0 is a tuple"),
        ([{"cat", "dog"}, {"cat"}] * 3, "label at index 0 is a set"),
        ([["cat", "dog"]] * 6, r"y has the shape \(6, 2\)"),
        (np.eye(6), r"y has the shape \(6, 6\)"),
        (pd.DataFrame(np.eye(6, 2)), r"y has the shape \(6, 2\)"),
        (sparse.csr_array(np.eye(6, 2)), r"y has the shape \(6, 2\)"),
    ],
)
def test_several_labels_per_image(take, y, what):
    with pytest.raises(ValueError, match=rf"{what}.*[Oo]ne label for each image.*MultiOutput"):
        take(y)


@pytest.mark.parametrize(
    ("y", "kind", "match"),
    [
        ("cat", ValueError, "y is 'cat', not one label for each image"),
        (
            [datetime.date(2020, 1, 1)] * 6,
            TypeError,
            "index 0 is of type date.* a text or a number",
        ),
        ([np.str_("cat"), 3] * 3, TypeError, r"'cat' \(str_\) at index 0 and 3 \(int\) at index 1"),
        (np.array(["cow"] * 6), ValueError, "label 'cow' in y"),
        ([1.0, np.float32("inf")] * 3, ValueError, r"index 1 is infinite \(inf\)"),
        (
            [1, 2**70] * 3,
            TypeError,
            rf"index 1 is of type int, {2**70}\. A label is a text or a number",
        ),
        ([Decimal(1), Decimal(2)] * 3, TypeError, "index 0 is of type Decimal, Decimal"),
        ([Fraction(1, 2)] * 6, TypeError, "index 0 is of type Fraction"),
        ([1, 2j] * 3, TypeError, "index 1 is of type complex"),
        (np.array(["2020-01-01"] * 6, dtype="M8[D]"), TypeError, "index 0 is of type date"),
        ([b"cat", b"dog"] * 3, TypeError, "index 0 is bytes, b'cat'. .*label.decode"),
        (np.array([b"cat", b"dog"] * 3), TypeError, "index 0 is bytes, b'cat'. .*label.decode"),
        ([], ValueError, "y is empty"),
        (
            {"cat", "dog"},
            ValueError,
            r"y is a set.*one label for each image.*Pass a list or an array",
        ),
        (dict(enumerate(Y)).values(), ValueError, "y is a dict_values.*Pass a list or an array"),
        ((label for label in Y), ValueError, "y is a generator.*Pass a list or an array"),
    ],
)
def test_labels_that_are_none(y, kind, match):
    with pytest.raises(kind, match=match):
        ProbabilityAverage().fit(X, y)


def test_numpy_writes_no_message():
    numbers = X.set_axis(Layout({"a": 0, "b": 0}, ["1", "2"]).names, axis=1)
    for table, y in (
        (X.iloc[:, ::2], np.array(Y[::2] * 2)),
        (numbers, np.array([3] * 6)),
        (numbers.rename(columns=lambda c: c.replace("2", "cat")), np.array([1] * 6)),
        (X.to_numpy().reshape(6, 2, 2), np.array(["a", "b", "c"] * 2)),
    ):
        with pytest.raises(ValueError, match=r"class|label") as caught:
            SuperLearner().fit(table, y)
        assert "np." not in str(caught.value)


def test_labels_of_new_string_types():
    for y in (
        np.array(Y, dtype=VARIABLE_WIDTH),
        pd.Series(Y, dtype="string"),
        pd.Categorical(Y),
        pl.Series(Y),
    ):
        clf = ProbabilityAverage().fit(X, y)
        assert clf.classes_.dtype.kind == "U"
        assert 0 <= clf.score(X, y) <= 1


@pytest.mark.parametrize(
    "form", [pd.Series, pd.array, lambda y, dtype: pd.DataFrame({"y": pd.array(y, dtype)})]
)
@pytest.mark.parametrize(
    ("labels", "dtype", "kind"),
    [
        ([0, 1], "Int64", "i"),
        ([3, 7], "UInt8", "iu"),
        ([False, True], "boolean", "b"),
        ([0.0, 1.0], "Float64", "f"),
        ([0, 1], "int64[pyarrow]", "i"),
        (["cat", "dog"], "string", "U"),
    ],
)
@pytest.mark.filterwarnings("ignore:A column-vector y was passed")
def test_nullable_labels_keep_their_kind(form, labels, dtype, kind):
    y = form(labels * 3, dtype=dtype)
    clf = ProbabilityAverage().fit(X.to_numpy().reshape(6, 2, 2), y)
    assert clf.classes_.tolist() == labels
    assert clf.classes_.dtype.kind in kind
    assert clf.predict(X.to_numpy().reshape(6, 2, 2)).dtype == clf.classes_.dtype


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.uint64, np.float32, bool])
def test_labels_of_numpy_types_keep_theirs(dtype):
    table = X.set_axis(Layout({"a": 0, "b": 0}, np.array([1, 0], dtype)).names, axis=1)
    for given in (table, X.to_numpy().reshape(6, 2, 2)):
        clf = ProbabilityAverage().fit(given, np.array([0, 1] * 3, dtype))
        assert clf.classes_.dtype == clf.predict(given).dtype == dtype
    for y in (np.array([0, 1] * 3), np.array([0.0, 1.0] * 3), np.array([False, True] * 3)):
        assert clf.score(given, y) == clf.score(given, np.array([0, 1] * 3, dtype))


# Labels that were never seen


@pytest.mark.parametrize(
    ("seen", "given", "match"),
    [
        (
            Y,
            [0, 1] * 3,
            r"labels in y are numbers, such as 0, and the classes texts, such as 'cat'",
        ),
        (Y, np.array([True, False] * 3), r"are numbers, such as True, .* texts"),
        (
            [0, 1] * 3,
            Y,
            r"labels in y are texts, such as 'cat', and the classes numbers, such as 0",
        ),
        ([0, 1] * 3, ["0", "1"] * 3, r"labels in y are texts, such as '0', .* numbers"),
    ],
)
def test_score_refuses_labels_of_another_type(seen, given, match):
    clf = ProbabilityAverage().fit(X.to_numpy().reshape(6, 2, 2), seen)
    with pytest.raises(ValueError, match=match):
        clf.score(X.to_numpy().reshape(6, 2, 2), given)


def test_score_names_labels_that_were_never_seen():
    clf = AdaptiveBackboneEnsemble().fit(X, Y)
    right = clf.score(X, clf.predict(X))
    assert right == 1
    strange = clf.predict(X).astype(object)
    strange[[1, 4]] = "zebra"
    with pytest.warns(
        UserWarning, match=r"2 of 6 labels are none of the classes .* 'zebra'.* 'cat', 'dog'"
    ) as caught:
        assert clf.score(X, strange) == pytest.approx(4 / 6)
    assert len(caught) == 1
    with pytest.warns(UserWarning, match="'zebra'"):
        assert clf.score(X, strange, sample_weight=[0, 1, 1, 1, 0, 0]) == pytest.approx(2 / 3)


def test_inspection_refuses_labels_that_were_never_seen():
    clf = ProbabilityAverage().fit(X, Y)
    y = [*Y[:5], "zebra"]
    for inspect in (oracle_score, per_class_accuracy):
        with pytest.raises(
            ValueError, match=r"1 of 6 labels in y are none of the classes.*'zebra'"
        ):
            inspect(X, y, estimator=clf)
    with pytest.raises(
        ValueError, match=r"answers, such as 'cat', .* such as 3, are of different types"
    ):
        oracle_score({"a": Y, "b": Y}, [3, 4] * 3)


# What is no table


PICTURE = np.zeros((8, 8, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    "images",
    [
        ["a.jpg"] * 6,
        "photos",
        [Path("a.jpg")] * 6,
        [b"JFIF"] * 6,
        np.array(["a.jpg"] * 6),
        np.array([["a.jpg"]] * 6),
        np.array(["a.jpg"] * 6, dtype=VARIABLE_WIDTH),
        pd.Series(["a.jpg"] * 6),
        pd.DataFrame({"path": ["a.jpg"] * 6}),
        pd.DataFrame({"size": range(6), "path": ["a.jpg"] * 6}),
        pl.Series(["a.jpg"] * 6),
        pl.DataFrame({"path": ["a.jpg"] * 6}),
        [Image.fromarray(PICTURE)] * 6,
        [PICTURE] * 6,
        [PICTURE, PICTURE[:4]] * 3,
        [PICTURE[:, :, 0] / 255.0, PICTURE[:4, :, 0] / 255.0] * 3,
        np.stack([PICTURE] * 6),
        np.stack([PICTURE[:, :, 0]] * 6),
        [torch.zeros(3, 8, 8)] * 6,
        torch.zeros(6, 3, 8, 8),
        (path for path in ["a.jpg"]),
    ],
    ids=lambda images: f"{type(images).__name__}",
)
def test_images_belong_into_the_embedder(images):
    fitted = SuperLearner().fit(X, Y)
    way_out = r"takes a table of numbers.*make_pipeline\(CLIPEmbedder\(\), ZeroShotLogits\(\)"
    for take in (lambda: AdaptiveBackboneEnsemble().fit(images, Y), lambda: fitted.predict(images)):
        with pytest.raises(ValueError, match=way_out) as caught:
            take()
        assert "np.str_" not in str(caught.value)
    with pytest.raises(ValueError, match=way_out):
        ZeroShotLogits(["cat", "dog"], backbones="tiny/RN-1221").fit(images)


@pytest.mark.parametrize(
    ("given", "way_out"),
    [
        (sparse.csr_array(X), r"X\.toarray\(\)"),
        (sparse.coo_matrix(X), r"X\.toarray\(\)"),
        (X.astype(pd.SparseDtype(float, 0.0)), r"X\.sparse\.to_dense\(\)"),
        (torch.tensor(X.to_numpy()).to_sparse(), r"X\.to_dense\(\)"),
    ],
    ids=["csr", "coordinates", "frame", "torch"],
)
def test_sparse_tables(given, way_out):
    for step in (AdaptiveBackboneEnsemble(), ZeroShotLogits(["cat", "dog"])):
        with pytest.raises(TypeError, match=f"X is sparse data.*{way_out}"):
            step.fit(given, Y)


def test_what_else_is_no_table():
    datasets = pytest.importorskip("datasets")
    images = datasets.Dataset.from_dict({"image": ["a.jpg"] * 6})
    for data in (images, datasets.DatasetDict({"train": images}), [X] * 6, {"a": X}):
        with pytest.raises(ValueError, match=r"takes a table of numbers.*make_pipeline"):
            AdaptiveBackboneEnsemble().fit(data, Y)


@pytest.mark.parametrize("step", [AdaptiveBackboneEnsemble(), ZeroShotLogits(["cat", "dog"])])
def test_a_column_that_is_there_twice(step):
    twice = pd.concat([X, X.iloc[:, :1]], axis=1)
    with pytest.raises(ValueError, match=r"column 'a__logit__cat' is in the table twice"):
        step.fit(twice, Y)
