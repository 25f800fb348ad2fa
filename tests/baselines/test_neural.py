"""Networks that weight the backbones for every image.

The batches are tested by themselves: what a network has learnt does not show which rows it saw.
"""

import pickle
import subprocess
import sys
from itertools import islice

import numpy as np
import pytest
from instances import assert_is_distribution, local_table, make_table
from sklearn.base import clone

from sklearn_clipensemble.baselines._neural import _batches
from sklearn_clipensemble.ensembles import MixtureOfExperts, NeuralLogitController, SoftmaxGate


def test_neural_combiners_start_at_equal_weights():
    X, y = make_table()
    slow = {"learning_rate": 1e-12, "n_steps": 1, "random_state": 0}
    for weight_map, weight in [("softplus", 1), ("exp", 1), ("raw", 1), ("softmax", 0.5)]:
        clf = NeuralLogitController(weight_map=weight_map, **slow).fit(X, y)
        np.testing.assert_allclose(clf.combination_weights(X), weight, rtol=1e-5)
    divided = NeuralLogitController(weight_map="softmax", temperature="divide", **slow).fit(X, y)
    np.testing.assert_allclose(divided.combination_weights(X), 2, rtol=1e-5)


@pytest.mark.parametrize(
    "clf",
    [
        NeuralLogitController(learning_rate=1e-2, n_steps=100, random_state=0),
        SoftmaxGate(n_steps=300, random_state=0),
        MixtureOfExperts(n_steps=300, random_state=0),
    ],
    ids=repr,
)
def test_neural_combiners_learn_which_backbone_to_ask(clf):
    X, y = local_table()
    clf.fit(X, y)
    weights = clf.combination_weights(X).to_numpy()
    assert (weights[:3, 0] > weights[:3, 1]).all()
    assert (weights[3:, 1] > weights[3:, 0]).all()
    assert clf.score(X, y) == 1


def test_controller_computes_what_its_arrays_say():
    X, y = make_table()
    clf = NeuralLogitController(n_steps=20, random_state=0).fit(X, y)
    parts = [X[[n for n in X if n.startswith(f"m{b}__emb")]].to_numpy() for b in range(2)]
    inputs = np.hstack([p / np.linalg.norm(p, axis=1, keepdims=True) for p in parts])
    assert [coef.shape for coef in clf.coefs_] == [(14, 128), (128, 2)]
    hidden = np.maximum(inputs @ clf.coefs_[0] + clf.intercepts_[0], 0)
    weights = np.log1p(np.exp(hidden @ clf.coefs_[1] + clf.intercepts_[1]))
    np.testing.assert_allclose(clf.combination_weights(X), weights, rtol=1e-5)


def test_controller_trains_in_batches():
    X, y = make_table(n_per_class=10)
    whole = NeuralLogitController(n_steps=20, random_state=0).fit(X, y)
    batches = clone(whole).set_params(batch_size=7).fit(X, y)
    again = clone(batches).fit(X, y)
    np.testing.assert_array_equal(batches.coefs_[0], again.coefs_[0])
    assert not np.allclose(batches.coefs_[0], whole.coefs_[0])
    other = clone(batches).set_params(random_state=1).fit(X, y)
    assert not np.allclose(batches.coefs_[0], other.coefs_[0])


def test_batches_take_every_row_once_in_a_pass():
    batches = list(islice(_batches(10, 4, np.random.RandomState(0)), 6))
    assert [len(rows) for rows in batches] == [4, 4, 2] * 2
    for each_pass in (batches[:3], batches[3:]):
        assert sorted(np.concatenate(each_pass)) == list(range(10))
    assert np.concatenate(batches[:3]).tolist() != np.concatenate(batches[3:]).tolist()


@pytest.mark.parametrize("weight_map", ["softplus", "softmax", "exp"])
@pytest.mark.parametrize("temperature", ["multiply", "divide"])
def test_no_temperature_overflows(weight_map, temperature):
    X, y = make_table()
    clf = NeuralLogitController(
        weight_map=weight_map, temperature=temperature, feature_norm="none", learning_rate=0.1
    )
    clf.set_params(n_steps=20, random_state=0).fit(X, y)
    X[[name for name in X if "__embedding__" in name]] *= 1e6
    assert_is_distribution(clf.predict_proba(X))
    assert (clf.combination_weights(X).to_numpy() > 0).all()


def test_raw_weights_cannot_divide():
    X, y = make_table()
    with pytest.raises(ValueError, match="weight_map='raw' can be zero"):
        NeuralLogitController(weight_map="raw", temperature="divide").fit(X, y)


def test_predicting_needs_no_torch():
    X, y = make_table()
    fitted = NeuralLogitController(n_steps=1, random_state=0).fit(X, y)
    code = (
        "import sys, pickle\n"
        "clf, X = pickle.load(sys.stdin.buffer)\n"
        "print(*clf.predict(X), sep='\\n')\n"
        "assert 'torch' not in sys.modules\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code],
        input=pickle.dumps((fitted, X)),
        capture_output=True,
        check=True,
    )
    assert ran.stdout.decode().splitlines() == fitted.predict(X).astype(str).tolist()
