"""What several test modules use: tables, combiners and heads."""

import inspect

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from sklearn.base import BaseEstimator
from sklearn.utils import get_tags

from sklearn_clipensemble import Layout, ensembles, heads
from sklearn_clipensemble.ensembles import LocalAccuracy, NeuralLogitController, Vote

# Small settings for what is slow with its defaults; nothing else differs from them.
SMALL = {
    "GeneticSearch": {"population_size": 8, "n_generations": 5},
    "MixtureOfExperts": {"n_steps": 20},
    "NeuralLogitController": {"n_steps": 5},
    "SoftmaxGate": {"n_steps": 20},
}


def array_side():
    """Find every public estimator that takes a table."""
    found = {
        cls
        for module in (ensembles, heads)
        for cls in vars(module).values()
        if inspect.isclass(cls) and issubclass(cls, BaseEstimator) and not inspect.isabstract(cls)
    }
    return sorted(found, key=lambda cls: cls.__name__)


def small(cls, **settings):
    clf = cls(**SMALL.get(cls.__name__, {}), **settings)
    return clf.set_params(random_state=0) if "random_state" in clf.get_params() else clf


HEADS = [small(cls) for cls in array_side() if issubclass(cls, heads.Head)]
COMBINERS = [
    *(small(cls) for cls in array_side() if cls.__module__.split(".")[1] == "baselines"),
    Vote(3),
    LocalAccuracy(3, selection="ola"),
    LocalAccuracy(3, selection="knora-e"),
    small(NeuralLogitController, weight_map="exp", temperature="divide", feature_norm="standard"),
]
LEARNT = [clf for clf in COMBINERS if get_tags(clf).target_tags.required]
LABEL_FREE = [clf for clf in COMBINERS if not get_tags(clf).target_tags.required]
EVERYONE = COMBINERS + HEADS

every_classifier = pytest.mark.parametrize("clf", EVERYONE, ids=repr)

CLASSES = ["ant", "bee", "cat"]


def as_frame(logits, classes=CLASSES, embeddings=()):
    """Name the columns of logits (n_samples, n_backbones, n_classes)."""
    columns = {}
    for b in range(logits.shape[1]):
        for i in range(embeddings[b].shape[1] if len(embeddings) else 0):
            columns[f"m{b}__embedding__{i}"] = embeddings[b][:, i]
        for c, key in enumerate(classes):
            columns[f"m{b}__logit__{key}"] = logits[:, b, c]
    return pd.DataFrame(columns)


def make_table(
    n_per_class=4,
    n_classes=4,
    *,
    widths=(6, 8),
    noise=0.5,
    signal=1.5,
    scales=None,
    seed=0,
):
    """Embeddings around class centres in a cone, and logits that are right more often than not.

    The classes are 0, 1, ..., and the same for every seed.
    """
    rng = np.random.default_rng(seed)
    codes = np.tile(np.arange(n_classes), n_per_class)
    embeddings, logits = [], []
    for b, width in enumerate(widths):
        centres = np.random.default_rng(100 + b).normal(size=(n_classes, width))
        rows = 3 + centres[codes] + noise * rng.normal(size=(len(codes), width))
        embeddings.append(rows / np.linalg.norm(rows, axis=1, keepdims=True))
        scale = 1.0 if scales is None else scales[b]
        right = signal * np.eye(n_classes)[codes]
        logits.append(scale * (right + rng.normal(size=(len(codes), n_classes))))
    return as_frame(np.stack(logits, axis=1), range(n_classes), embeddings), codes


def local_table():
    """Two groups of images far apart; m0 is right in the first, m1 in the second."""
    embedding = np.array([[1.0, 0.0], [0.95, 0.1], [0.9, 0.2], [0.0, 1.0], [0.1, 0.95], [0.2, 0.9]])
    codes = np.array([0, 1, 0, 0, 1, 0])
    good = 2.0 * np.eye(2)[codes]
    bad = good[:, ::-1]
    first = np.arange(6)[:, None] < 3
    logits = np.stack([np.where(first, good, bad), np.where(first, bad, good)], axis=1)
    X = as_frame(logits, classes=["ant", "bee"], embeddings=[embedding, embedding])
    return X, np.array(["ant", "bee"])[codes]


def assert_is_distribution(proba):
    assert np.isfinite(proba).all()
    assert (proba >= 0).all()
    np.testing.assert_allclose(proba.sum(axis=1), 1, rtol=1e-6)


# Every form of one table: eight images, two backbones, three classes.
LAYOUT = Layout({"a": 4, "b": 5}, ["x", "y", "z"])
Y = np.array(list("xyzxyzxy"))
ROWS = np.random.default_rng(0).normal(size=(8, LAYOUT.n_features)).astype(np.float32)
FRAME = pd.DataFrame(ROWS, columns=LAYOUT.names)
EMBEDDINGS = Layout({"a": 4, "b": 5})
LOGITS = ROWS[:, :6].reshape(8, 2, 3)
FORMS = {
    "DataFrame": (FRAME, None),
    "polars": (pl.DataFrame(ROWS, schema=LAYOUT.names), None),
    "array": (ROWS, LAYOUT),
    "tensor": (torch.from_numpy(ROWS), LAYOUT),
    "embeddings": (FRAME[EMBEDDINGS.names], None),
    "3-D": (LOGITS, None),
    "3-D tensor": (torch.from_numpy(LOGITS), None),
    "3-D with layout": (LOGITS, Layout({"a": 0, "b": 0}, ["x", "y", "z"])),
    "list": (ROWS.tolist(), LAYOUT),
}
