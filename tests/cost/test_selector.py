"""Choosing backbones from the labelled images alone."""

import pickle

import joblib
import numpy as np
import pandas as pd
import polars as pl
import pytest
from instances import FORMS, LAYOUT, ROWS, Y, as_frame, make_table
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks

from sklearn_clipensemble import AdaptiveBackboneEnsemble, CLIPEmbedder, Layout, ZeroShotLogits
from sklearn_clipensemble.cost import BackboneSelector
from sklearn_clipensemble.ensembles import SingleBackbone

EQUAL = {"a": 1.0, "b": 1.0}


@pytest.mark.filterwarnings("ignore:X is an array without column names:UserWarning")
@parametrize_with_checks([BackboneSelector()])
def test_scikit_learn_checks(estimator, check):
    check(estimator)


def images(signals, n_per_class=8, n_classes=5, seed=0, width=12):
    """A table of the backbones a, b, ...: the more signal, the better they tell the classes apart."""
    rng = np.random.default_rng(seed)
    y = np.tile(np.arange(n_classes), n_per_class)
    parts = {}
    for name, signal in zip("abcdefgh", signals, strict=False):
        centres = signal * np.random.default_rng(ord(name)).normal(size=(n_classes, width))
        rows = centres[y] + rng.normal(size=(len(y), width))
        parts |= {f"{name}__embedding__{i}": rows[:, i] for i in range(width)}
        logits = signal * np.eye(n_classes)[y] + rng.normal(size=(len(y), n_classes))
        parts |= {f"{name}__logit__{c}": logits[:, c] for c in range(n_classes)}
    return pd.DataFrame(parts).astype(np.float32), y


def only(X, kind):
    return X[[name for name in X if f"__{kind}__" in name]]


def costs(*gflops):
    return dict(zip("abcdefgh", map(float, gflops), strict=False))


# What is chosen


@pytest.mark.parametrize("kind", ["all", "embedding", "logit"])
def test_the_better_of_two_that_cost_the_same(kind):
    X, y = images([0.3, 1.5])
    X = X if kind == "all" else only(X, kind)
    selector = BackboneSelector(1, costs=EQUAL).fit(X, y)
    assert selector.backbones_ == ["b"]
    assert selector.cost_ == 1


def test_cheap_ones_come_first_where_they_are_as_good():
    X, y = images([0.7, 0.7, 0.7])
    selector = BackboneSelector(costs=costs(100, 1, 10)).fit(X, y)
    assert selector.path_["backbone"][1] == "b"
    assert selector.path_["gflops"][1] == 1


def test_one_that_knows_nothing_is_left_out():
    X, y = images([1.0, 0.0, 1.0], n_per_class=16)
    selector = BackboneSelector(costs=costs(2, 1, 3)).fit(X, y)
    assert selector.backbones_ == ["a", "c"]
    assert selector.cost_ == 5
    assert list(selector.path_["backbone"]) == ["a", "c", "b"]


def test_nothing_is_spent_on_the_last_thousandth_of_a_nat():
    X, y = images([4.0, 4.0, 4.0, 4.0])
    selector = BackboneSelector(costs=costs(1, 10, 100, 1000)).fit(X, y)
    assert selector.cost_ <= 11


def test_the_path():
    X, y = images([0.4, 0.8, 0.6])
    selector = BackboneSelector(costs=costs(4, 2, 1)).fit(X, y)
    path = selector.path_
    assert list(path.columns) == ["backbone", "log_likelihood", "accuracy", "gflops"]
    assert path.index.name == "step"
    assert path.index.tolist() == [1, 2, 3]
    assert sorted(path["backbone"]) == ["a", "b", "c"]
    np.testing.assert_allclose(
        np.diff(path["gflops"], prepend=0), path["backbone"].map(costs(4, 2, 1))
    )
    assert (path["log_likelihood"] < 0).all()
    assert path["accuracy"].between(0, 1).all()
    n = len(selector.backbones_)
    assert selector.backbones_ == list(path["backbone"][:n])
    assert selector.cost_ == path["gflops"][n]
    assert path["log_likelihood"][n] == pytest.approx(path["log_likelihood"].max(), abs=0.003)


@pytest.mark.parametrize("n_per_class", [2, 8])
def test_labels_are_judged_by_what_has_not_seen_them(n_per_class):
    X, y = images([0.0, 0.0], n_per_class, n_classes=10, width=64)
    X = only(X, "embedding")
    path = BackboneSelector(costs=EQUAL).fit(X, y).path_
    assert (path["accuracy"] < 0.35).all()
    assert (path["log_likelihood"] < -2).all()  # a guess has -2.3


def test_number_of_backbones():
    X, y = images([0.5, 0.6, 0.7, 0.8])
    for n in (1, 2, 3, 4):
        selector = BackboneSelector(n, costs=costs(1, 1, 1, 1)).fit(X, y)
        assert len(selector.backbones_) == len(selector.path_) == n
    first = BackboneSelector(2, costs=costs(1, 1, 1, 1)).fit(X, y)
    assert selector.backbones_[:2] == first.backbones_
    within = BackboneSelector(3, budget=2.5, costs=costs(1, 1, 1, 1)).fit(X, y)
    assert within.backbones_ == first.backbones_


def test_budget():
    X, y = images([0.5, 0.6, 0.7, 0.8], n_per_class=16)
    spent = []
    for budget in (1, 3, 7, 15):
        selector = BackboneSelector(budget=budget, costs=costs(1, 2, 4, 8)).fit(X, y)
        assert selector.cost_ <= budget
        assert (selector.path_["gflops"] <= budget).all()
        spent.append(selector.path_["log_likelihood"].max())
    assert spent == sorted(spent)


def test_a_budget_is_not_frittered_away():
    X, y = images([0.15, 0.15, 0.15, 2.0])
    given = costs(1, 1, 1, 10)  # per GFLOP the three small ones are worth more
    selector = BackboneSelector(budget=10, costs=given).fit(X, y)
    assert selector.backbones_ == ["d"]


# Few labels


def test_one_label_of_each_class():
    X, y = images([0.3, 1.5, 0.5], n_per_class=1, n_classes=12)
    selector = BackboneSelector(1, costs=costs(1, 1, 1)).fit(X, y)
    assert selector.backbones_ == ["b"]
    assert selector.path_["accuracy"].between(0, 1).all()


def test_one_label_says_nothing_of_a_backbone_without_text():
    X, y = images([0.8, 2.0], n_per_class=1, n_classes=12)
    X = X.drop(columns=[name for name in X if name.startswith("b__logit__")])
    path = BackboneSelector(costs=costs(10, 1)).fit(X, y).path_
    assert path["backbone"].tolist() == ["a", "b"]
    assert path["log_likelihood"][2] <= path["log_likelihood"][1] + 1e-6


def test_one_label_and_no_text_at_all():
    X, y = images([0.8, 2.0], n_per_class=1, n_classes=12)
    with pytest.warns(UserWarning, match=r"nothing tells which.*ZeroShotLogits\(\)") as caught:
        selector = BackboneSelector(costs=costs(10, 1)).fit(only(X, "embedding"), y)
    assert caught[0].filename == __file__
    assert selector.backbones_ == ["b"]


def test_classes_with_one_label_beside_others():
    X, y = images([0.3, 1.5], n_per_class=3)
    kept = np.flatnonzero((y > 2) | (np.arange(len(y)) < 5))  # three classes have one label
    for part in (X, only(X, "embedding"), only(X, "logit")):
        selector = BackboneSelector(1, costs=EQUAL).fit(part.iloc[kept], y[kept])
        assert selector.backbones_ == ["b"]


def test_classes_without_labels():
    X, y = images([0.3, 1.5])
    kept = y != 2
    selector = BackboneSelector(1, costs=EQUAL).fit(X[kept], y[kept])
    assert selector.backbones_ == ["b"]
    assert list(selector.transform(X).columns) == [name for name in X if name.startswith("b__")]


@pytest.mark.parametrize("n_per_class", [1, 4])
def test_names_and_types_of_labels_do_not_matter(n_per_class):
    X, y = images([0.4, 0.8, 0.6], n_per_class)
    given = costs(3, 2, 1)
    expected = BackboneSelector(costs=given).fit(X, y).path_
    pd.testing.assert_frame_equal(
        BackboneSelector(costs=given).fit(X, y.astype(float)).path_, expected
    )
    words = np.array(["ant", "bee", "cat", "dog", "eel"])
    X.columns = [
        f"{name[:-1]}{words[int(name[-1])]}" if "__logit__" in name else name for name in X
    ]
    pd.testing.assert_frame_equal(BackboneSelector(costs=given).fit(X, words[y]).path_, expected)


# Tables in, tables out

NAMES = {
    "3-D": ["backbone0", "backbone1"],
    "3-D tensor": ["backbone0", "backbone1"],
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_a_table(form):
    X, layout = FORMS[form]
    first, second = NAMES.get(form, ["a", "b"])
    selector = BackboneSelector(1, costs={first: 9.0, second: 1.0}, layout=layout)
    selector.fit(X, Y)
    before = joblib.hash(vars(selector))
    kept = selector.transform(X)
    assert joblib.hash(vars(selector)) == before
    (chosen,) = selector.backbones_
    names = [str(name) for name in selector.layout_.names if name.startswith(f"{chosen}__")]
    assert list(selector.get_feature_names_out()) == names
    assert selector.get_support().sum() == selector.support_.sum() == len(names)
    assert selector.get_support(indices=True).tolist() == np.flatnonzero(selector.support_).tolist()
    if form in ("DataFrame", "embeddings"):
        pd.testing.assert_frame_equal(kept, X[names])
    elif form == "polars":
        assert isinstance(kept, pl.DataFrame)
        assert kept.columns == names
    elif "3-D" in form:
        np.testing.assert_array_equal(kept, np.asarray(X)[:, [int(chosen in (second, "b"))]])
    else:
        np.testing.assert_array_equal(kept, ROWS[:, selector.support_])


def test_order_of_columns_and_rows_stays():
    X, y = images([0.3, 1.5, 1.0])
    X.index = [f"photo {i}" for i in range(len(X))]
    shuffled = X[np.random.default_rng(0).permutation(X.columns)]
    selector = BackboneSelector(2, costs=costs(1, 1, 1)).fit(shuffled, y)
    assert selector.backbones_ == BackboneSelector(2, costs=costs(1, 1, 1)).fit(X, y).backbones_
    kept = selector.transform(shuffled)
    pd.testing.assert_frame_equal(
        kept, shuffled[[c for c in shuffled if c[0] in selector.backbones_]]
    )


@pytest.mark.parametrize(
    ("container", "frame"), [("pandas", pd.DataFrame), ("polars", pl.DataFrame)]
)
def test_set_output(container, frame):
    selector = BackboneSelector(1, costs={"a": 1, "b": 1}, layout=LAYOUT)
    kept = selector.set_output(transform=container).fit(ROWS, Y).transform(ROWS)
    assert isinstance(kept, frame)
    assert list(kept.columns) == list(selector.get_feature_names_out())
    table = pd.DataFrame(ROWS, columns=LAYOUT.names)
    kept = clone(selector).set_params(layout=None).fit(table, Y).transform(table)
    assert isinstance(kept, frame)


def test_clone_and_pickle():
    X, y = images([0.3, 1.5])
    selector = clone(BackboneSelector(1, costs=EQUAL)).fit(X, y)
    again = pickle.loads(pickle.dumps(selector))
    pd.testing.assert_frame_equal(again.transform(X), selector.transform(X))
    pd.testing.assert_frame_equal(again.path_, clone(selector).fit(X, y).path_)


def test_between_logits_and_ensemble():
    photos = np.random.default_rng(0).integers(0, 256, (12, 32, 32, 3), dtype=np.uint8)
    photos[::2, :16] = 0
    y = np.array(["cat", "dog"] * 6)
    pipeline = make_pipeline(
        CLIPEmbedder("tiny", precision="fp32"),
        ZeroShotLogits(),
        BackboneSelector(2),
        AdaptiveBackboneEnsemble(),
    ).fit(photos, y)
    chosen = pipeline[2].backbones_
    assert pipeline[-1].backbones_ == [b for b in pipeline[0].backbones_ if b in chosen]
    assert pipeline.predict(photos).shape == (12,)
    # New images need the chosen backbones only.
    few = CLIPEmbedder(chosen, precision="fp32").fit_transform(photos)
    assert {name.split("__")[0] for name in few} == set(chosen)


def test_grid_search():
    X, y = images([0.3, 1.0, 0.6], n_per_class=6)
    pipeline = make_pipeline(BackboneSelector(costs=costs(1, 2, 3)), AdaptiveBackboneEnsemble())
    grid = {"backboneselector__n_backbones": [1, 2, None], "backboneselector__budget": [None, 4.0]}
    search = GridSearchCV(pipeline, grid, cv=2, error_score="raise").fit(X, y)
    assert search.best_estimator_[0].backbones_
    assert search.predict(X).shape == y.shape
    stopped = make_pipeline(BackboneSelector(1, costs=costs(1, 2, 3)), SingleBackbone("b"))
    assert stopped.fit(X, y).predict(X).shape == y.shape


def test_what_is_known_costs_what_it_costs():
    X, y = make_table(4, widths=(6, 8))
    names = {"m0": "ViT-B-32/openai", "m1": "timm:resnet18.a1_in1k"}
    X.columns = [f"{names[c[:2]]}{c[2:]}" for c in X]
    selector = BackboneSelector(2).fit(X, y)
    assert selector.cost_ == pytest.approx(8.818 + 3.63, abs=0.01)
    selector = BackboneSelector(2, costs={"ViT-B-32/openai": 1.0}).fit(X, y)
    assert selector.cost_ == pytest.approx(1 + 3.63, abs=0.01)


# Bad input


def test_one_backbone_is_chosen():
    X, y = images([0.5])
    selector = BackboneSelector().fit(X, y)
    assert selector.backbones_ == ["a"]
    assert np.isnan(selector.cost_)
    assert selector.support_.all()
    assert BackboneSelector(costs={"a": 3}).fit(X, y).cost_ == 3
    with pytest.raises(ValueError, match="'a' costs is not known here"):
        BackboneSelector(budget=5).fit(X, y)


def test_rows_of_unread_images():
    X, y = images([0.3, 1.5])
    broken = X.copy()
    broken.iloc[[1, 6]] = np.nan
    with pytest.warns(
        UserWarning, match=r"2 of 40 rows of X are NaN throughout, first row 1"
    ) as caught:
        selector = BackboneSelector(1, costs=EQUAL).fit(broken, y)
    assert caught[0].filename == __file__
    rows = np.delete(np.arange(40), [1, 6])
    expected = BackboneSelector(1, costs=EQUAL).fit(X.iloc[rows], y[rows])
    pd.testing.assert_frame_equal(selector.path_, expected.path_)
    kept = selector.transform(broken)
    assert kept.isna().all(axis=1).to_numpy().nonzero()[0].tolist() == [1, 6]
    layout = Layout.from_names(X.columns)
    selector = BackboneSelector(1, costs=EQUAL, layout=layout).fit(X.to_numpy(), y)
    np.testing.assert_array_equal(selector.transform(broken.to_numpy()), kept)
    with pytest.raises(ValueError, match="No image could be read"):
        BackboneSelector(costs=EQUAL).fit(X * np.nan, y)
    broken.iloc[3, 0] = np.nan
    with pytest.raises(ValueError, match="row 3, column 'a__embedding__0'"):
        selector.fit(broken, y)


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"n_backbones": 3}, r"n_backbones=3, but the table has 2: a, b"),
        ({"n_backbones": 0}, "'n_backbones' parameter"),
        ({"budget": 0}, "'budget' parameter"),
        ({"budget": 0.5}, r"budget=0.5 .* less than the cheapest backbone costs: a, 1\."),
        ({"costs": None}, r"'a' costs is not known here.*Pass costs=\{'a': GFLOPs"),
        ({"costs": {"a": 1.0}}, r"'b' costs is not known here"),
        ({"costs": {"a": 1.0, "b": 0.0}}, r"costs\['b'\] is 0.0; expected GFLOPs"),
        ({"costs": {**EQUAL, "c": 1.0}}, r"costs names 'c', which is none of the backbones: a, b"),
    ],
)
def test_what_cannot_be(settings, match):
    X, y = images([0.5, 0.5])
    with pytest.raises(ValueError, match=match):
        BackboneSelector(**{"costs": EQUAL, **settings}).fit(X, y)


def test_bad_labels():
    X, y = images([0.5, 0.5])
    selector = BackboneSelector(costs=EQUAL)
    with pytest.raises(ValueError, match="BackboneSelector requires y"):
        selector.fit(X, None)
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        selector.fit(X, y[1:])
    with pytest.raises(ValueError, match="BackboneSelector needs at least 2 classes"):
        selector.fit(only(X, "embedding"), np.zeros(len(y)))
    with pytest.raises(ValueError, match="'7' in y has no logit column"):
        selector.fit(X, np.where(y == 2, 7, y))


def test_bad_tables():
    X, y = images([0.5, 0.5])
    selector = BackboneSelector(1, costs=EQUAL).fit(X, y)
    with pytest.raises(ValueError, match="not those seen at fit: missing"):
        selector.transform(X[[name for name in X if name.startswith("a__")]])
    with pytest.raises(ValueError, match=r"X is 'photo\.jpg'"):
        selector.fit("photo.jpg", y)
    logits = as_frame(np.random.default_rng(0).normal(size=(9, 2, 3)))
    with pytest.raises(ValueError, match="not those seen at fit"):
        selector.transform(logits)
    with pytest.raises(ValueError, match="as logits that would be"):
        selector.transform(np.zeros((9, 2, 3)))
