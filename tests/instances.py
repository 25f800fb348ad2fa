"""What several test modules use: tables, combiners, heads and small backbones."""

import inspect
import json
import sys
import warnings

import numpy as np
import pandas as pd
import polars as pl
import pytest
import timm
import torch
from PIL import Image
from sklearn.base import BaseEstimator
from sklearn.utils import get_tags

from sklearn_clipensemble import Layout, ensembles, heads
from sklearn_clipensemble.backbones import _weights
from sklearn_clipensemble.backbones._open_clip import open_clip, quiet
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


# What may be handed over in place of a table seen at fit.
ODD_TABLES = {
    "the same": lambda X: X,
    "in float64": lambda X: X.astype(np.float64),
    "in two types": lambda X: X.astype({X.columns[0]: np.float64}),
    "in whole numbers": lambda X: X.round().astype(int),
    "one column of whole numbers": lambda X: X.assign(**{X.columns[0]: 1}),
    "in pandas' own type": lambda X: X.astype("Float32"),
    "as objects": lambda X: X.astype(object),
    "sparse": lambda X: X.astype(pd.SparseDtype(np.float32)),
    "one sparse column": lambda X: X.astype({X.columns[0]: pd.SparseDtype(np.float32)}),
    "in another order": lambda X: X[X.columns[::-1]],
    "one column too few": lambda X: X.iloc[:, 1:],
    "one column twice": lambda X: X[[*X.columns, X.columns[0]]],
    "with a renamed column": lambda X: X.rename(columns={X.columns[0]: "a__embedding__0"}),
    "with numbers for names": lambda X: X.set_axis(range(X.shape[1]), axis=1),
    "without names": lambda X: X.to_numpy(),
    "with names as objects": lambda X: X.set_axis(X.columns.astype(object), axis=1),
    "with infinity": lambda X: X.mask(np.arange(len(X))[:, None] == np.arange(X.shape[1]), np.inf),
    "with a gap": lambda X: X.mask(np.arange(len(X))[:, None] == np.arange(X.shape[1])),
    "with an unread row": lambda X: X.mask(np.arange(len(X))[:, None] == np.zeros(X.shape[1])),
    "too large to add up": lambda X: X * 0 + np.finfo(np.float32).max,
    "without rows": lambda X: X.iloc[:0],
}


def outcome(call, X):
    """What a call gives: its table or array, or its error; and its warnings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            result = call(X)
            result = pd.DataFrame(result).to_dict()
        except Exception as error:
            result = repr(error)
    return repr(result), [str(w.message) for w in caught]


# Backbones with random weights

VIT = {"image_size": 32, "layers": 1, "width": 32, "patch_size": 16, "head_width": 16}
RESNET = {"image_size": 32, "layers": [1, 1, 1, 1], "width": 8, "head_width": 16}
TEXT = {"context_length": 8, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}


def make_folder(path, *, vision=VIT, preprocess=None, seed=0, **model_cfg):
    """Write an open_clip folder of a small architecture with random weights."""
    from safetensors.torch import save_file

    path.mkdir(parents=True, exist_ok=True)
    model_cfg = {"embed_dim": 16, "vision_cfg": vision, "text_cfg": TEXT, **model_cfg}
    config = {"model_cfg": model_cfg, "preprocess_cfg": preprocess or {}}
    (path / "open_clip_config.json").write_text(json.dumps(config))
    (path / "open_clip_model.safetensors").unlink(missing_ok=True)
    torch.manual_seed(seed)
    with quiet():
        model = open_clip().create_model(f"local-dir:{path}")
    with torch.no_grad():
        for name, buffer in model.named_buffers():  # a trained batch norm has seen something
            if name.endswith(("running_mean", "running_var")):
                buffer.copy_(0.5 + 0.3 * torch.rand_like(buffer))
    save_file(dict(model.state_dict()), path / "open_clip_model.safetensors")
    return f"local-dir:{path}"


def official(name, images, *, normalize=True, **options):
    """What open_clip's own recipe gives, from its own transform."""
    with quiet():
        model, transform = open_clip().create_model_from_pretrained(name, **options)
        model.eval()
        with torch.no_grad():
            x = torch.stack([transform(Image.fromarray(i)) for i in images])
            out = model.encode_image(x, normalize=normalize)
    return out.numpy()


SMALL_VIT = {"depth": 1, "embed_dim": 32, "num_heads": 2, "img_size": 28}
KINDS = {
    "test_vit": {},
    "test_convnext": {},
    "test_resnet": {},
    "test_efficientnet": {},
    "eva02_tiny_patch14_224": SMALL_VIT,
    "vit_small_patch14_dinov2": SMALL_VIT,
    "vit_small_patch16_dinov3": {"depth": 1, "embed_dim": 32, "num_heads": 2, "img_size": 32},
}


def make_timm(name, seed=0, **options):
    """A small model of timm, with a classifier of three classes."""
    torch.manual_seed(seed)
    return timm.create_model(name, **{"num_classes": 3, **KINDS.get(name, {}), **options})


def small_vit_b_32(tmp_path, monkeypatch):
    """Have ('ViT-B-32', 'openai') be a small model whose weights lie in the hub's cache."""
    from safetensors.torch import save_file

    small = {"embed_dim": 16, "vision_cfg": VIT, "text_cfg": TEXT}
    open_clip()
    monkeypatch.setitem(sys.modules["open_clip.factory"]._MODEL_CONFIGS, "ViT-B-32", small)
    with quiet():
        weights = open_clip().create_model("ViT-B-32").state_dict()
    file = tmp_path / "open_clip_model.safetensors"
    save_file(dict(weights), file)
    monkeypatch.setattr(_weights, "_cached", lambda repo, name: file)
    return file
