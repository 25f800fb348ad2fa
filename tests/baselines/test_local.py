"""Backbones chosen by how they do on the labelled rows nearby.

The search for the nearest rows is tested by itself: its short cut must keep the order of ties.
"""

import numpy as np
import pytest
from instances import local_table

from sklearn_clipensemble.baselines._local import _nearest
from sklearn_clipensemble.ensembles import LocalAccuracy


@pytest.mark.parametrize("selection", ["ola", "knora-u", "knora-e"])
def test_local_accuracy_picks_the_backbone_that_is_right_nearby(selection):
    X, y = local_table()
    clf = LocalAccuracy(3, selection=selection).fit(X, y)
    assert clf.combination_weights(X).to_numpy().tolist() == [[1, 0]] * 3 + [[0, 1]] * 3
    assert clf.score(X, y) == 1


def test_local_accuracy_rules():
    X, y = local_table()

    # Of the five neighbours of the first image, nearest first, m0 gets the first three.
    def weights(n_neighbors, selection):
        clf = LocalAccuracy(n_neighbors, selection=selection).fit(X, y)
        return clf.combination_weights(X.iloc[[0]]).to_numpy()[0].tolist()

    assert weights(5, "knora-u") == pytest.approx([0.6, 0.4])
    assert weights(5, "ola") == [1, 0]
    assert weights(6, "ola") == [0.5, 0.5]
    assert weights(6, "knora-e") == [1, 0]
    assert weights(100, "knora-u") == [0.5, 0.5]


def test_local_accuracy_where_nobody_is_right():
    X, _ = local_table()
    wrong = np.array(["bee", "ant", "bee"])
    X = X.iloc[:3].copy()
    X[["m1__logit__ant", "m1__logit__bee"]] = X[["m0__logit__ant", "m0__logit__bee"]].to_numpy()
    for selection in ("ola", "knora-u", "knora-e"):
        clf = LocalAccuracy(3, selection=selection).fit(X, wrong)
        assert clf.combination_weights(X).to_numpy().tolist() == [[0.5, 0.5]] * 3


def test_nearest_columns():
    similarity = np.random.default_rng(0).normal(size=(20, 9)).round(1)
    everything = np.argsort(-similarity, axis=1, kind="stable")
    np.testing.assert_array_equal(_nearest(similarity, 100), everything)
    few = np.take_along_axis(similarity, _nearest(similarity, 2.5), axis=1)
    np.testing.assert_array_equal(few, np.take_along_axis(similarity, everything[:, :3], axis=1))
