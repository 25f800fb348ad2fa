"""The stand-in where there are no zero-shot logits.

Its leave-one-out scores are compared with refits where they are computed: combiners only learn from
them.
"""

import numpy as np
from instances import make_table

from sklearn_clipensemble import read_table
from sklearn_clipensemble.baselines._class_means import ClassMeans
from sklearn_clipensemble.ensembles import SuperLearner


def test_class_means_leave_one_out_is_a_refit():
    X, y = make_table(n_per_class=3)
    X = X[[name for name in X if "__embedding__" in name]].astype(np.float64)
    codes = np.searchsorted(np.unique(y), y)
    _, table = read_table(X).align(y)
    weight = np.ones(len(y))
    means = ClassMeans(table, codes, weight)
    held_out = means.leave_one_out(table, codes, weight)
    for i in range(len(y)):
        rest = np.delete(np.arange(len(y)), i)
        for b, name in enumerate(["m0", "m1"]):
            rows = X[[n for n in X if n.startswith(name)]].to_numpy()
            centre = rows.mean(axis=0)
            refit = [rows[rest][codes[rest] == c].mean(axis=0) for c in range(4)]
            distance = [np.sum((rows[i] - m) ** 2) - np.sum((rows[i] - centre) ** 2) for m in refit]
            np.testing.assert_allclose(held_out[b, i], -means.scales[b] * np.array(distance))


def test_class_means_know_nothing_of_a_class_without_its_only_row():
    X, y = make_table(n_per_class=1)
    X = X[[name for name in X if "__embedding__" in name]]
    clf = SuperLearner().fit(X, y)
    np.testing.assert_allclose(clf.weights_, [0.5, 0.5])  # where the search starts
    np.testing.assert_array_equal(clf.predict(X), y)
