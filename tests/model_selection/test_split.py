"""FewShotSplit: k labelled examples per class, nested in k."""

import numpy as np
import pandas as pd
import pytest
import sklearn
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score, cross_validate, learning_curve

from sklearn_clipensemble import AdaptiveBackboneEnsemble, FewShotSplit
from sklearn_clipensemble.ensembles import LogitAverage, ProbabilityAverage

LABELS = {
    "str": np.repeat(["ant", "bee", "cat"], [9, 6, 8]),
    "object": np.repeat(["ant", "bee", "cat"], [9, 6, 8]).astype(object),
    "int": np.repeat([3, -1, 20], [9, 6, 8]),
    "float": np.repeat([0.0, 1.0, 2.0], [9, 6, 8]),
    "bool": np.repeat([True, False], [9, 14]),
    "list": ["b", "a"] * 8,
    "series": pd.Series(["b", "a"] * 8, index=range(50, 66)),
}


@pytest.mark.parametrize("y", LABELS.values(), ids=LABELS)
@pytest.mark.parametrize("n_shots", [1, 3])
def test_exactly_k_per_class(y, n_shots):
    split = FewShotSplit(n_shots, n_repeats=4, random_state=0)
    assert split.get_n_splits() == 4
    draws = list(split.split(np.zeros(len(y)), y))
    assert len(draws) == 4
    for train, test in draws:
        _, counts = np.unique(np.asarray(y)[train], return_counts=True)
        assert set(counts) == {n_shots}
        assert len(counts) == len(np.unique(y))
        assert sorted([*train, *test]) == list(range(len(y)))
        assert np.array_equal(test, np.sort(test))
    assert len({tuple(train) for train, _ in draws}) > 1


def test_deterministic():
    y = LABELS["str"]

    def draws(random_state, split=None):
        split = split or FewShotSplit(2, random_state=random_state)
        return [train.tolist() for train, _ in split.split(y, y)]

    assert draws(0) == draws(0)
    assert draws(0) != draws(1)
    assert draws(np.random.RandomState(0)) == draws(np.random.RandomState(0))
    split = FewShotSplit(2, random_state=5)
    assert draws(None, split) == draws(None, split)
    shared = FewShotSplit(2, random_state=np.random.RandomState(0))
    assert draws(None, shared) != draws(None, shared)


@pytest.mark.parametrize("max_shots", [None, 5])
def test_nested_in_k(max_shots):
    y = LABELS["str"]
    before = [set()] * 5
    for k in range(1, 6):
        split = FewShotSplit(k, max_shots=max_shots, random_state=0).split(y, y)
        drawn = [set(train.tolist()) for train, _ in split]
        assert all(small < large for small, large in zip(before, drawn, strict=True))
        before = drawn


def test_max_shots_gives_all_shot_counts_one_test_set():
    y = LABELS["str"]
    splits = [FewShotSplit(k, max_shots=5, random_state=0).split(y, y) for k in (1, 2, 5)]
    pools = FewShotSplit(5, random_state=0).split(y, y)
    for (pool, rest), *draws in zip(pools, *splits, strict=True):
        for train, test in draws:
            assert set(train) <= set(pool)
            assert np.array_equal(test, rest)


def test_order_of_the_draw():
    y = LABELS["str"]
    for train, _ in FewShotSplit(4, random_state=0).split(y, y):
        assert y[train].tolist() == ["ant", "bee", "cat"] * 4


def test_the_draw_is_uniform():
    y = np.repeat([0, 1], [4, 12])
    times = np.zeros(16)
    for train, _ in FewShotSplit(2, n_repeats=4000, random_state=0).split(y, y):
        times[train] += 1
    expected = np.repeat([1 / 2, 1 / 6], [4, 12])
    assert np.abs(times / 4000 - expected).max() < 4 * np.sqrt(0.25 / 4000)


def test_rare_classes():
    y = np.array(["many"] * 9 + ["two"] * 2 + ["one"])
    with pytest.raises(ValueError, match=r"class 'one' has 1 examples; drawing 1 .* at least 2"):
        next(FewShotSplit(1).split(y, y))
    for train, test in FewShotSplit(3, rare="take", random_state=0).split(y, y):
        assert y[train].tolist() == ["many", "one", "two", "many", "many"]
        assert np.unique(y[test], return_counts=True)[1].tolist() == [6, 1]
    # A small pool of one class does not make the others' draws smaller.
    for train, test in FewShotSplit(2, max_shots=3, rare="take").split(y, y):
        assert sorted(y[train]) == ["many", "many", "one", "two"]
        assert len(test) == 7
    y = np.repeat(["a", "b"], 4)
    assert sum(1 for _ in FewShotSplit(3).split(y, y)) == 5
    with pytest.raises(ValueError, match=r"class 'a' has 4 examples.*pass rare='take'"):
        next(FewShotSplit(1, max_shots=4).split(y, y))


def test_groups_do_not_leak():
    rng = np.random.default_rng(0)
    y = np.repeat(["a", "b"], 30)
    groups = rng.integers(12, size=60)
    for max_shots in (None, 3):
        split = FewShotSplit(2, max_shots=max_shots, random_state=0)
        for train, test in split.split(y, y, groups):
            assert not set(groups[train]) & set(groups[test])
            assert set(y[test]) == {"a", "b"}
    same = np.where(y == "a", -1, groups)
    with pytest.raises(ValueError, match="'a' has no example to test on: all share a group"):
        next(FewShotSplit(2).split(y, y, same))
    _, test = next(FewShotSplit(2, rare="take", random_state=0).split(y, y, same))
    assert set(y[test]) == {"b"}


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"n_shots": 0}, r"The 'n_shots' parameter of FewShotSplit must be an int in .*Got 0"),
        ({"n_shots": 1.5}, "The 'n_shots' parameter of FewShotSplit must be an int"),
        ({"n_repeats": 0}, "The 'n_repeats' parameter of FewShotSplit must be"),
        ({"rare": "drop"}, "The 'rare' parameter of FewShotSplit must be a str among"),
        ({"random_state": "x"}, "The 'random_state' parameter of FewShotSplit must be"),
        ({"n_shots": 4, "max_shots": 2}, "max_shots=2 is smaller than n_shots=4"),
    ],
)
def test_bad_parameters(params, message):
    with pytest.raises(ValueError, match=message):
        FewShotSplit(**params)


def test_bad_labels():
    split = FewShotSplit()
    with pytest.raises(ValueError, match="y must be the labels, got None"):
        next(split.split(np.zeros(4), None))
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        next(split.split(np.zeros(5), ["a", "a", "b", "b"]))
    with pytest.raises(ValueError, match="continuous"):
        next(split.split(np.zeros(4), [0.5, 1.5, 2.5, 0.5]))
    with pytest.raises(TypeError, match="mixed types"):
        next(split.split(np.zeros(4), [1, 1, "b", "b"]))


def test_repr():
    split = FewShotSplit(2, random_state=0)
    assert eval(repr(split)).__dict__ == split.__dict__


def test_in_scikit_learn_tools(logits):
    X, y = logits
    split = FewShotSplit(1, n_repeats=3, random_state=0)
    assert cross_val_score(ProbabilityAverage(), X, y, cv=split).shape == (3,)
    result = cross_validate(ProbabilityAverage(), X, y, cv=split, scoring=["accuracy", "f1_macro"])
    assert result["test_f1_macro"].shape == (3,)
    grid = {"n_shots": [1, None]}
    search = GridSearchCV(AdaptiveBackboneEnsemble(random_state=0), grid, cv=split).fit(X, y)
    assert search.n_splits_ == 3
    # One label per class: all there is, drawn or not.
    np.testing.assert_array_equal(*search.cv_results_["mean_test_score"])


def test_learning_curve_adds_one_example_of_each_class(logits):
    X, y = logits
    seen = []

    class Spy(LogisticRegression):
        def fit(self, X, y):
            seen.append(sorted(y))
            return super().fit(X, y)

    cv = FewShotSplit(4, n_repeats=2, random_state=0)
    sizes, *_ = learning_curve(Spy(), X, y, cv=cv, train_sizes=[3, 6, 12])
    assert sizes.tolist() == [3, 6, 12]
    assert seen == [sorted(["ant", "bee", "cat"] * k) for k in (1, 2, 4)] * 2


def test_groups_are_routed(logits):
    X, y = logits
    groups = np.arange(120) % 30
    split = FewShotSplit(1, n_repeats=3, random_state=0)
    with sklearn.config_context(enable_metadata_routing=True):
        routed = cross_validate(LogitAverage(), X, y, cv=split, params={"groups": groups})
    scores = cross_val_score(LogitAverage(), X, y, cv=list(split.split(X, y, groups)))
    np.testing.assert_array_equal(routed["test_score"], scores)


def test_nothing_to_draw_from():
    with pytest.raises(ValueError, match="y is empty"):
        next(FewShotSplit(1).split([], np.array([], int)))
