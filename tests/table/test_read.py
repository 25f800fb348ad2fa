"""Reading a table, and backbones without text in it."""

import numpy as np
import pandas as pd
import pytest
import torch
from instances import ODD_TABLES, outcome
from sklearn.base import clone

from sklearn_clipensemble import AdaptiveBackboneEnsemble, Layout, ensembles, heads, read_table
from sklearn_clipensemble.ensembles import NeuralLogitController, ProbabilityAverage
from sklearn_clipensemble.table import _classifier

LAYOUT = Layout({"clip": 3, "dino": 4}, ["cat", "dog", "fox"], with_logits=["clip"])
LABELS = np.array(LAYOUT.classes)


def mixed(n_per_class, seed=0, noise=0.6):
    """A backbone whose words mislead, and one without words that sees the classes well."""
    rng = np.random.default_rng(seed)
    codes = np.repeat(np.arange(3), n_per_class)
    X = pd.DataFrame(rng.normal(size=(len(codes), 10)), columns=LAYOUT.names, dtype=np.float32)
    seen = np.eye(3, 4)[codes] + noise * rng.normal(size=(len(codes), 4)) / 2
    X[[f"dino__embedding__{i}" for i in range(4)]] = seen.astype(np.float32)
    return X, LABELS[codes]


def test_a_table_says_what_it_holds():
    X, _ = mixed(2)
    X.index = list("abcdef")
    table = read_table(X)
    assert table.layout == LAYOUT
    assert table.backbones == ("clip", "dino")
    assert table.with_logits == ("clip",)
    assert list(table.index) == list("abcdef")
    np.testing.assert_array_equal(table.features("dino"), X.filter(like="dino"))
    np.testing.assert_array_equal(table.logits("clip"), X.filter(like="logit"))
    assert list(table.take(slice(1, 3)).index) == ["b", "c"]


def test_the_same_from_names_an_array_and_a_tensor():
    X, _ = mixed(2)
    for given in (X.to_numpy(), torch.tensor(X.to_numpy())):
        table = read_table(given, layout=LAYOUT)
        np.testing.assert_array_equal(table.X, read_table(X).X)
        assert table.layout == LAYOUT


def test_logits_in_three_dimensions():
    logits = np.arange(12.0).reshape(2, 2, 3)
    table = read_table(logits)
    np.testing.assert_array_equal(table.logits("backbone1"), logits[:, 1])
    classes, table = table.name_classes(np.array([3, 1, 2])).align(np.array([3, 1, 2]))
    assert classes.tolist() == [1, 2, 3]


def test_images_that_could_not_be_read_are_marked():
    X, _ = mixed(2)
    X.iloc[[1, 4]] = np.nan
    table = read_table(X)
    assert np.flatnonzero(table.unread).tolist() == [1, 4]
    assert not table.X[[1, 4]].any()
    assert X.iloc[1].isna().all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda X: X.assign(dino__embedding__0=np.nan), "6 of 6 rows.*row 0.*dino__embedding__0"),
        (lambda X: X[X.columns[::-1]], "another order"),
        (
            lambda X: X.rename(columns=lambda c: c.replace("__logit__", "__logit__new ")),
            "X has 'clip__logit__new cat' where the earlier table has 'clip__logit__cat'",
        ),
        (lambda X: X.drop(columns=X.filter(like="dino").columns), r"missing \['dino'\]"),
        (lambda X: X.to_numpy()[:, :4], "describes 10 columns, but X has 4"),
        (lambda X: X.to_numpy()[0], "Expected 2D array"),
    ],
)
def test_a_table_that_is_not_the_earlier_one(change, message):
    X, _ = mixed(2)
    with pytest.raises(ValueError, match=message):
        read_table(change(X), seen=LAYOUT)


@pytest.mark.parametrize("X", ["table.parquet", None, read_table(mixed(2)[0])])
def test_what_is_no_table(X):
    with pytest.raises(
        ValueError, match=r"make_pipeline\(CLIPEmbedder\(\), ZeroShotLogits\(\)\)\."
    ):
        read_table(X)


def test_no_rows():
    with pytest.raises(ValueError, match=r"0 sample\(s\)"):
        read_table(np.empty((0, 2, 3)))


ALL = [
    AdaptiveBackboneEnsemble(),
    *(getattr(heads, name)() for name in heads.__all__ if name != "Head"),
]


@pytest.mark.parametrize("clf", ALL, ids=repr)
def test_a_backbone_without_text_counts(clf):
    X, y = mixed(6)
    X_new, y_new = mixed(40, seed=1)
    alone = clone(clf).fit(X.filter(like="clip"), y).score(X_new.filter(like="clip"), y_new)
    assert clone(clf).fit(X, y).score(X_new, y_new) > alone + 0.1


def test_it_counts_from_one_label_per_class():
    X_new, y_new = mixed(40, seed=1)
    clf = AdaptiveBackboneEnsemble().fit(*mixed(1))
    assert clf.score(X_new, y_new) > 0.45  # chance, as without it, is a third
    assert (clf.combination_weights(X_new)["dino"] > 0).all()


def test_it_has_a_combination_weight():
    X, y = mixed(6)
    clf = AdaptiveBackboneEnsemble().fit(X, y)
    weights = clf.combination_weights(X)
    assert list(weights) == ["clip", "dino"]
    np.testing.assert_allclose(weights.sum(axis=1), 1)
    assert weights["dino"].mean() > 0.5
    assert clf.score(*mixed(40, seed=1)) > 0.8


def test_without_labels_the_others_answer():
    X, _ = mixed(4)
    clf = AdaptiveBackboneEnsemble().fit(X)
    alone = AdaptiveBackboneEnsemble().fit(X.filter(like="clip"))
    np.testing.assert_allclose(
        clf.predict_proba(X), alone.predict_proba(X.filter(like="clip")), rtol=1e-6
    )
    assert (clf.combination_weights(X)["clip"] > 0.99).all()


@pytest.mark.parametrize("columns", [[0, 1], [1, 0]])
def test_the_order_of_the_backbones_does_not_matter(columns):
    X, y = mixed(6)
    turned = X[[c for b in np.array(["clip", "dino"])[columns] for c in X if c.startswith(b)]]
    np.testing.assert_allclose(
        AdaptiveBackboneEnsemble().fit(turned, y).predict_proba(turned),
        AdaptiveBackboneEnsemble().fit(X, y).predict_proba(X),
        atol=1e-4,
    )


@pytest.mark.parametrize("name", [n for n in ensembles.__all__ if "Adaptive" not in n])
def test_combiners_of_zero_shot_answers_leave_it_out(name):
    X, y = mixed(6)
    clf = getattr(ensembles, name)()
    settings = {"random_state": 0, "n_steps": 5, "n_generations": 2, "population_size": 8}
    clf.set_params(**{k: v for k, v in settings.items() if k in clf.get_params()})
    with pytest.warns(UserWarning, match="have none: dino. They are left out"):
        clf.fit(X, y)
    assert clf.backbones_ == ["clip"]
    alone = clone(clf).fit(X.filter(like="clip"), y)
    np.testing.assert_allclose(
        clf.predict_proba(X), alone.predict_proba(X.filter(like="clip")), rtol=1e-6
    )


def test_where_none_has_text_all_take_part():
    X, y = mixed(6)
    X = X.drop(columns=X.filter(like="logit").columns)
    for clf in (ProbabilityAverage(), NeuralLogitController(n_steps=5, random_state=0)):
        assert clf.fit(X, y).backbones_ == ["clip", "dino"]


@pytest.mark.parametrize("odd", ODD_TABLES)
def test_the_short_way_leads_where_the_long_way_does(odd, monkeypatch):
    X, y = mixed(4)
    clf = AdaptiveBackboneEnsemble().fit(X, y)
    by_array = AdaptiveBackboneEnsemble(layout=LAYOUT).fit(X.to_numpy(), y)
    foreign = X.set_axis([f"x{i}" for i in range(X.shape[1])], axis=1)
    by_other_names = AdaptiveBackboneEnsemble(layout=LAYOUT).fit(foreign, y)
    calls = [c.predict_proba for c in (clf, by_array, by_other_names)]
    given = ODD_TABLES[odd](X)
    short = [outcome(call, given) for call in calls]
    monkeypatch.setattr(_classifier, "numbers_as_seen", lambda *args: None)
    assert short == [outcome(call, given) for call in calls]
