"""The image side's contract: our own check suite, on our estimators and on broken ones."""

import pickle

import numpy as np
import pytest
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.pipeline import make_pipeline
from sklearn.utils.validation import check_is_fitted

from sklearn_clipensemble import CLIPEmbedder, ZeroShotLogits
from sklearn_clipensemble.images import as_sources, decode, describe, read
from sklearn_clipensemble.utils.estimator_checks import (
    check_image_estimator,
    parametrize_with_image_checks,
)

BACKBONES = ["tiny/RN-1221"]
OTHERS = ["tiny/ConvNeXt-zepto"]


# Without the cache every row is computed each time; with it, as users have it.
@parametrize_with_image_checks(
    [CLIPEmbedder(BACKBONES, cache=False), CLIPEmbedder(BACKBONES)], {"backbones": OTHERS}
)
def test_embedder(estimator, check):
    check(estimator)


# ZeroShotLogits takes tables of known backbones only, which scikit-learn's checks do not make up.
@parametrize_with_image_checks(
    [make_pipeline(CLIPEmbedder(BACKBONES), ZeroShotLogits(["flower", "temple"]))],
    {
        "clipembedder__backbones": OTHERS,
        "zeroshotlogits__templates": "a drawing of a {}.",
        "zeroshotlogits__class_names": ["tulip", "tower", "flower", "temple"],
        "zeroshotlogits__passthrough": False,
    },
)
def test_zero_shot_logits(estimator, check):
    check(estimator)


class MeanColour(TransformerMixin, BaseEstimator):
    """A sound transformer that needs no torch, for breaking."""

    def __init__(self, factor=1):
        self.factor = factor

    def fit(self, X, y=None):
        as_sources(X)
        self.factor_ = self.factor
        return self

    def transform(self, X):
        check_is_fitted(self)
        rows = []
        for i, source in enumerate(as_sources(X)):
            try:
                picture = decode(read(source)[1], exif_transpose=False, draft=None)
            except (OSError, ValueError) as error:
                raise type(error)(f"{describe(source, i)}: {error}") from error
            rows.append(self.factor_ * np.asarray(picture.convert("RGB")).mean(axis=(0, 1)) / 255)
        return np.array(rows)

    def get_feature_names_out(self, input_features=None):
        return np.array(["red", "green", "blue"], dtype=object)


class IgnoresSetParams(MeanColour):
    """embetter's bug: what counts is decided in ``__init__``."""

    def __init__(self, factor=1):
        super().__init__(factor)
        self._factor = factor

    def fit(self, X, y=None):
        self.factor_ = self._factor
        return self


class RewritesParameter(MeanColour):
    def fit(self, X, y=None):
        super().fit(X)
        self.factor = float(self.factor)
        return self


class NormalisesOverTheBatch(MeanColour):
    def transform(self, X):
        table = super().transform(X)
        return table / table.max()


class SortsRows(MeanColour):
    def transform(self, X):
        table = super().transform(X)
        return table[np.argsort(table[:, 0])]


class WritesToImages(MeanColour):
    def transform(self, X):
        table = super().transform(X)
        for image in X:
            if isinstance(image, np.ndarray) and image.flags.writeable:
                image[:] = 0
        return table


class ScalesFloatsInPlace(MeanColour):
    def transform(self, X):
        table = super().transform(X)
        for image in X:
            if isinstance(image, np.ndarray) and image.dtype.kind == "f" and image.flags.writeable:
                image *= 255
        return table


class AddsToAParameter(MeanColour):
    def __init__(self, factor=1, seen=()):
        super().__init__(factor)
        self.seen = seen

    def fit(self, X, y=None):
        if isinstance(self.seen, list):
            self.seen.append(len(X))
        return super().fit(X)


class NeedsWriteableImages(MeanColour):
    def transform(self, X):
        for image in X:
            if isinstance(image, np.ndarray):
                image[0, 0] = image[0, 0]
        return super().transform(X)


class RemembersTheFirstFit(MeanColour):
    def fit(self, X, y=None):
        if not hasattr(self, "factor_"):
            self.factor_ = self.factor * len(X)
        return self


class WorksUnfitted(MeanColour):
    def transform(self, X):
        self.factor_ = 1
        return super().transform(X)


class DoubledNames(MeanColour):
    def get_feature_names_out(self, input_features=None):
        return np.array(["colour"] * 3, dtype=object)


class LeakingOutput(MeanColour):
    """The trap: a configuration on the class that ``set_output`` changes in place."""

    _sklearn_output_config = {"transform": "default"}


class LosesFitInPickles(MeanColour):
    def __getstate__(self):
        return {"factor": self.factor}


class TakesFloatsForBytes(MeanColour):
    def transform(self, X):
        images = as_sources(X)
        if getattr(images[0], "dtype", None) == np.float64:
            images = [image.astype(np.uint8) for image in images]
        return super().transform(images)


class LooksAtLabels(MeanColour):
    def fit(self, X, y=None):
        self.factor_ = 1 if y is None else len(set(y))
        return self


class AcceptsGenerators(MeanColour):
    def transform(self, X):
        return super().transform(X if isinstance(X, str) or hasattr(X, "__len__") else list(X))


BROKEN = {
    IgnoresSetParams: "makes no difference|set after a fit",
    RewritesParameter: "factor was 1 and is now 1.0",
    NormalisesOverTheBatch: "images alone change row",
    SortsRows: "images alone change row",
    WritesToImages: "Arrays are not equal|change row",
    ScalesFloatsInPlace: "Arrays are not equal",
    NeedsWriteableImages: "read-only",
    RemembersTheFirstFit: "change row",
    WorksUnfitted: "before fit must raise NotFittedError",
    DoubledNames: "names are not unique",
    LeakingOutput: "set_output reaches others",
    LosesFitInPickles: "not fitted",
    TakesFloatsForBytes: "images as floats change row",
    LooksAtLabels: "labels change row",
    AcceptsGenerators: "must raise <class 'TypeError'>",
}


def test_a_sound_transformer_passes():
    check_image_estimator(MeanColour(), {"factor": 2})


@pytest.mark.parametrize(
    ("cls", "message"), BROKEN.items(), ids=lambda cls: getattr(cls, "__name__", "")
)
def test_a_broken_transformer_fails(cls, message):
    with pytest.raises((AssertionError, ValueError), match=message):
        check_image_estimator(cls(), {"factor": 2})


def test_a_parameter_changed_in_place_is_found():
    with pytest.raises(AssertionError, match=r"seen was \[\] and is now \[6\]"):
        check_image_estimator(AddsToAParameter(seen=[]), {"factor": 2})


def test_a_parameter_without_effect_is_found():
    with pytest.raises(AssertionError, match=r"cache=False makes no difference"):
        check_image_estimator(CLIPEmbedder(BACKBONES), {"cache": False})


def test_the_estimator_handed_over_stays_as_it_is():
    transformer = MeanColour()
    before = pickle.dumps(transformer)
    check_image_estimator(transformer)
    assert pickle.dumps(transformer) == before
