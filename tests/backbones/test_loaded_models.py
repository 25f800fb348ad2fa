"""Models in memory as backbones: open_clip's, timm's and any module."""

import copy
import pickle

import joblib
import numpy as np
import open_clip
import pandas as pd
import pytest
import timm
import torch
from instances import RESNET, TEXT, VIT, make_folder, make_timm, official
from PIL import Image
from sklearn.base import clone
from sklearn.datasets import load_digits, load_sample_images
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from test_timm_models import official as official_timm
from torch import nn
from torchvision import transforms
from torchvision.transforms import v2

from sklearn_clipensemble import (
    AdaptiveBackboneEnsemble,
    Backbone,
    CLIPEmbedder,
    ZeroShotLogits,
    clear,
)
from sklearn_clipensemble.backbones import _model
from sklearn_clipensemble.backbones._open_clip import quiet

PHOTOS = load_sample_images().images
PLAIN = {"size": 32, "mean": (0.5, 0.4, 0.3), "std": (0.2, 0.25, 0.3)}


class Net(nn.Module):
    """A small network that a user may have written."""

    def __init__(self, width=6, seed=0, scale=1.0):
        super().__init__()
        torch.manual_seed(seed)
        self.layers = nn.Sequential(
            nn.Conv2d(3, 8, 5, stride=4), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.5)
        )
        self.head = nn.Linear(8, width)
        self.scale = scale

    def forward(self, pixels):
        return self.head(self.layers(pixels).mean((2, 3)) ** self.scale)


class Odd(Net):
    """A network that makes something else of its vectors."""

    def __init__(self, make):
        super().__init__()
        self.make = make

    def forward(self, pixels):
        return self.make(super().forward(pixels))


def embed(backbone, images=PHOTOS, **options):
    options = {"precision": "fp32", "cache": False, **options}
    return CLIPEmbedder([backbone], **options).fit_transform(images)


def expected_of(net, transform, images=PHOTOS):
    with torch.no_grad():
        out = net.eval()(torch.stack([transform(Image.fromarray(i)) for i in images]))
    return nn.functional.normalize(out, dim=-1).numpy()


def steps(*resizing, mean=PLAIN["mean"], std=PLAIN["std"]):
    return transforms.Compose(
        [*resizing, transforms.ToTensor(), transforms.Normalize(mean=mean, std=std)]
    )


BICUBIC = transforms.InterpolationMode.BICUBIC
TRANSFORMS = {
    "shortest": steps(transforms.Resize(32, BICUBIC), transforms.CenterCrop(32)),
    "cropped": steps(transforms.Resize(40), transforms.CenterCrop(32)),
    "high": steps(transforms.Resize(50), transforms.CenterCrop((40, 32))),
    "squash": steps(transforms.Resize((32, 48), BICUBIC)),
    "squash, then crop": steps(transforms.Resize((40, 40)), transforms.CenterCrop(32)),
    "v2": v2.Compose(
        [
            v2.Resize(40),
            v2.CenterCrop(32),
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(PLAIN["mean"], PLAIN["std"]),
        ]
    ),
    "open_clip": open_clip.image_transform((32, 32), False, PLAIN["mean"], PLAIN["std"]),
    "open_clip, wide": open_clip.image_transform((32, 48), False, resize_mode="shortest"),
    "open_clip, padded": open_clip.image_transform(
        (32, 32), False, resize_mode="longest", fill_color=90
    ),
    "timm": timm.data.create_transform((3, 32, 32), crop_pct=0.8),
    "timm, padded": timm.data.create_transform((3, 32, 32), crop_mode="border", crop_pct=0.9),
    "of pretrained weights": transforms._presets.ImageClassification(crop_size=32, resize_size=40),
}


@pytest.mark.parametrize("name", TRANSFORMS)
def test_transforms_are_read(name):
    net, transform = Net(), TRANSFORMS[name]
    table = embed(Backbone(net, id="mine", preprocess=transform))
    assert list(table.columns) == [f"mine__embedding__{i}" for i in range(6)]
    np.testing.assert_allclose(table, expected_of(net, transform), atol=2e-6)


def test_parameters_of_preprocessing():
    given = {**PLAIN, "resized": 40, "interpolation": "bilinear"}
    got = embed(Backbone(Net(), id="mine", preprocess=given))
    pd.testing.assert_frame_equal(
        got, embed(Backbone(Net(), id="mine", preprocess=TRANSFORMS["cropped"]))
    )


@pytest.mark.parametrize(
    ("preprocess", "kind", "match"),
    [
        (None, TypeError, r"preprocess is a NoneType.*Pass the transform of open_clip"),
        (lambda image: image, TypeError, "which does not say what it does to a picture"),
        (steps(transforms.RandomHorizontalFlip()), ValueError, "RandomHorizontalFlip.*not known"),
        (steps(), ValueError, r"preprocess lacks \['size'\]"),
        (steps(transforms.CenterCrop(32)), ValueError, "no step of preprocess resizes"),
        (
            steps(transforms.Resize(32, max_size=40), transforms.CenterCrop(32)),
            ValueError,
            "max_size",
        ),
        ({**PLAIN, "size": (3, 32, 32)}, ValueError, r"size=\(3, 32, 32\); expected pixels"),
        ({**PLAIN, "size": 0}, ValueError, "size=0; expected pixels"),
        ({**PLAIN, "resized": "40"}, ValueError, "resized='40'; expected pixels"),
        ({"size": 32}, ValueError, r"preprocess lacks \['mean', 'std'\]"),
        ({**PLAIN, "crop": 1}, ValueError, r"has unknown \['crop'\]"),
        ({**PLAIN, "mean": 127.5}, ValueError, r"channels scaled to \[0, 1\]"),
        ({**PLAIN, "std": (1, 1)}, ValueError, r"expected three numbers each"),
        ({**PLAIN, "interpolation": "cubic"}, ValueError, "interpolation='cubic'"),
        ({**PLAIN, "resize_mode": "crop"}, ValueError, "resize_mode='crop'"),
    ],
)
def test_preprocessing_that_says_nothing(preprocess, kind, match):
    with pytest.raises(kind, match=match):
        Backbone(Net(), id="mine", preprocess=preprocess)


@pytest.mark.parametrize("id", ["", "a/b", "timm:x", "a__embedding__b", 3, None])
def test_ids_that_cannot_be(id):
    with pytest.raises(ValueError, match="cannot name the columns of a model in memory"):
        Backbone(Net(), id=id, preprocess=PLAIN)


@pytest.mark.parametrize(
    ("model", "kind", "match"),
    [
        ("RN50", TypeError, r"model is a str; expected a torch.nn.Module"),
        (nn.Identity(), ValueError, r"tensor of shape \(1, 3, 32, 32\) of one picture"),
        (nn.Linear(3, 3), ValueError, r"'mine' fails on pixels of the shape \(1, 3, 32, 32\)"),
        (nn.LSTM(32, 4), ValueError, "'mine' fails"),
        (Odd(lambda v: {"x": v}), ValueError, "makes dict of one picture"),
        (Odd(lambda v: v.numpy()), ValueError, "makes ndarray of one picture"),
        (Odd(lambda v: v[:, :0]), ValueError, r"a torch.float32 tensor of shape \(1, 0\)"),
        (Odd(torch.Tensor.int), ValueError, r"a torch.int32 tensor of shape \(1, 6\)"),
        (Odd(lambda v: v / 0), ValueError, "makes NaN or infinity of a picture"),
    ],
)
def test_models_that_are_none(model, kind, match):
    with pytest.raises(kind, match=match):
        Backbone(model, id="mine", preprocess=PLAIN)


def test_a_model_in_training_is_copied():
    net = Net().train()
    backbone = Backbone(net, id="mine", preprocess=PLAIN)
    assert net.training
    assert all(p.requires_grad for p in net.parameters())
    before = embed(backbone)
    with torch.no_grad():
        net.head.weight.add_(1)
    pd.testing.assert_frame_equal(embed(backbone), before)
    trained = Backbone(net, id="mine", preprocess=PLAIN)
    assert trained.fingerprint() != backbone.fingerprint()
    # Nor does the cache take one for the other.
    kept = embed(backbone, cache=None)
    assert np.abs(embed(trained, cache=None) - kept).max(axis=None) > 0.01


def test_fingerprint_follows_all_that_changes_the_vectors():
    def print_of(net, **preprocess):
        return Backbone(net, id="mine", preprocess={**PLAIN, **preprocess}).fingerprint()

    one = print_of(Net())
    assert one == print_of(Net())
    others = [Net(seed=1), Net(scale=2.0), Net().double()]
    others[2].head.weight.data += 0.5
    prints = {one, *map(print_of, others), print_of(Net(), size=40), print_of(Net(), mean=0.1)}
    assert len(prints) == 6


def test_half_precision_becomes_full():
    net = Net().to(torch.bfloat16)
    got = embed(Backbone(net, id="mine", preprocess=TRANSFORMS["cropped"]))
    np.testing.assert_allclose(got, expected_of(net.float(), TRANSFORMS["cropped"]), atol=2e-6)


def test_a_model_that_works_in_fp32_only(monkeypatch):
    monkeypatch.setattr(_model, "multiplies_in_bf16", lambda device: True)
    backbone = Backbone(Odd(lambda v: v @ torch.eye(6)), id="mine", preprocess=PLAIN)
    pd.testing.assert_frame_equal(embed(backbone, precision="auto"), embed(backbone))
    with pytest.raises(RuntimeError, match="dtype"):
        embed(backbone, precision="bf16")


def test_numbers_that_fp16_cannot_hold():
    backbone = Backbone(Odd(lambda v: v * 1e6), id="large", preprocess=PLAIN)
    assert np.isfinite(embed(backbone)).all(axis=None)
    with pytest.raises(ValueError, match=r"'large' makes NaN or infinity in fp16.*'fp32'"):
        embed(backbone, precision="fp16")


def test_vectors_whose_length_fp32_cannot_hold():
    backbone = Backbone(Odd(lambda v: v * 1e30), id="huge", preprocess=PLAIN)
    with pytest.raises(ValueError, match="'huge' makes NaN or infinity in fp32"):
        embed(backbone)


@pytest.mark.filterwarnings("ignore:.*torch.jit")
def test_a_traced_model():
    net = Net().eval()
    traced = torch.jit.trace(net, torch.zeros(1, 3, 32, 32))
    got = embed(Backbone(traced, id="traced", preprocess=PLAIN))
    np.testing.assert_allclose(got, embed(Backbone(net, id="mine", preprocess=PLAIN)), atol=1e-6)


def test_it_is_a_value():
    backbone = Backbone(Net(), id="mine", preprocess=PLAIN)
    assert repr(backbone) == "Backbone(Net(...), id='mine')"
    assert copy.deepcopy(backbone) is copy.copy(backbone) is backbone
    with pytest.raises(AttributeError, match="cannot be changed"):
        backbone.id = "other"
    same = pickle.loads(pickle.dumps(backbone))
    assert same == backbone
    assert hash(same) == hash(backbone)
    assert len({backbone, same, Backbone(Net(seed=1), id="mine", preprocess=PLAIN)}) == 2
    embedder = CLIPEmbedder([backbone, "tiny/ViT-4"])
    assert clone(embedder).backbones[0] is backbone
    assert "Backbone(Net(...), id='mine')" in repr(embedder)
    assert "mine" in embedder._repr_html_()
    assert backbone.gflops > 0
    with pytest.raises(ValueError, match="Two backbones have the id 'mine'"):
        CLIPEmbedder([backbone, same]).fit(PHOTOS)


def test_alone_or_in_a_list():
    backbone = Backbone(Net(), id="mine", preprocess=PLAIN)
    alone = CLIPEmbedder(backbone, precision="fp32").fit_transform(PHOTOS)
    pd.testing.assert_frame_equal(alone, embed(backbone))


def test_saved_and_loaded(tmp_path):
    backbone = Backbone(Net(), id="mine", preprocess=PLAIN)
    embedder = CLIPEmbedder([backbone], precision="fp32", cache=False)
    expected = embedder.fit_transform(PHOTOS)
    joblib.dump(embedder, tmp_path / "e.joblib")
    pd.testing.assert_frame_equal(joblib.load(tmp_path / "e.joblib").transform(PHOTOS), expected)


@pytest.mark.parametrize("n_jobs", [None, 2])
def test_grid_search(n_jobs):
    digits = load_digits()
    images, labels = digits.images[:60] / 16, digits.target[:60]
    few = Backbone(make_timm("test_resnet", num_classes=0), id="few")
    many = Backbone(make_timm("test_vit", num_classes=0), id="many")
    pipeline = make_pipeline(CLIPEmbedder(), LogisticRegression(max_iter=1000))
    grid = {"clipembedder__backbones": [[few], [few, many], many]}
    search = GridSearchCV(pipeline, grid, cv=3, n_jobs=n_jobs, error_score="raise")
    search.fit(images, labels)
    assert len(search.cv_results_["mean_test_score"]) == 3
    assert search.best_estimator_.predict(images[:2]).shape == (2,)


def test_a_timm_model_knows_its_preprocessing():
    model = make_timm("test_convnext", num_classes=0)
    got = embed(Backbone(model, id="mine"))
    np.testing.assert_allclose(got, official_timm(model, PHOTOS), atol=2e-6)


CLIPS = {
    "vit": {},
    "resnet": {"vision": RESNET},
    "siglip": {"init_logit_bias": -10, "init_logit_scale": 2.3, "custom_text": True},
    "coca": {
        "vision": {
            **VIT,
            "attentional_pool": True,
            "attn_pooler_heads": 2,
            "output_tokens": True,
        },
        "text_cfg": {**TEXT, "embed_cls": True, "output_tokens": True},
        "multimodal_cfg": {**TEXT, "dim_head": 8, "attn_pooler_heads": 2},
        "custom_text": True,
    },
}


@pytest.mark.parametrize("kind", CLIPS)
def test_open_clip_models(tmp_path, kind):
    """The same answers as the folder that the model came from."""
    name = make_folder(tmp_path / kind, preprocess={"mean": 0.4, "std": 0.3}, **CLIPS[kind])
    with quiet():
        model, transform = open_clip.create_model_from_pretrained(name)
    model.train()
    expected = CLIPEmbedder(name, precision="fp32", cache=False).fit_transform(PHOTOS)
    expected_logits = ZeroShotLogits(["cat", "dog"], cache=False).fit_transform(expected)
    np.testing.assert_allclose(expected, official(name, PHOTOS), atol=2e-6)
    for preprocess in (transform, None):
        clear()  # the test before had a model of this name
        backbone = Backbone(model, id="mine", preprocess=preprocess)
        assert backbone.has_text
        table = embed(backbone)
        np.testing.assert_allclose(table, expected, atol=2e-6)
        logits = ZeroShotLogits(["cat", "dog"], cache=False).fit_transform(table)
        np.testing.assert_allclose(logits, expected_logits, atol=1e-4)
        assert logits.columns[-1] == "mine__logit__dog"
    copied = pickle.loads(pickle.dumps(backbone))
    assert copied == backbone
    clear()  # as in another process
    with pytest.raises(ValueError, match=r"Unknown backbone 'mine'.*backbones=\[Backbone\("):
        ZeroShotLogits(["cat", "dog"]).fit(table)
    named = ZeroShotLogits(["cat", "dog"], cache=False, backbones=[copied]).fit_transform(table)
    pd.testing.assert_frame_equal(named, logits)


def test_two_models_of_one_name_are_not_taken_for_one_another(tmp_path):
    clear()
    with quiet():
        model = open_clip.create_model(make_folder(tmp_path / "folder"))
    first = Backbone(model, id="mine")
    table = embed(first)
    model.logit_scale.data += 1
    embed(Backbone(model, id="mine"))
    with pytest.raises(ValueError, match=r"Several folders or models named 'mine'.*of its own"):
        ZeroShotLogits(["cat", "dog"]).fit(table)
    step = ZeroShotLogits(["cat", "dog"], backbones=[first]).fit(table)
    assert step.logit_scales_["mine"] == pytest.approx(1 / 0.07, rel=1e-3)


def test_an_open_clip_model_whose_tokenizer_is_not_known(tmp_path):
    name = make_folder(tmp_path / "folder", text_cfg={**TEXT, "vocab_size": 60_000})
    with quiet():
        model = open_clip.create_model(name)
    silent = Backbone(model, id="silent")
    assert not silent.has_text
    with pytest.raises(ValueError, match="No backbone of the table has a text tower: silent"):
        ZeroShotLogits(["cat", "dog"]).fit(embed(silent))
    tokenizer = open_clip.SimpleTokenizer(context_length=8)
    speaking = Backbone(model, id="speaking", tokenizer=tokenizer)
    assert speaking.has_text
    assert ZeroShotLogits(["cat", "dog"]).fit_transform(embed(speaking)).shape == (2, 18)


def test_the_whole_way_with_an_embedding_only_backbone():
    digits = load_digits()
    names = np.array(
        ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    )
    images, labels = digits.images[:80] / 16, names[digits.target[:80]]
    backbone = Backbone(make_timm("test_resnet", num_classes=0), id="resnet")
    clf = make_pipeline(
        CLIPEmbedder(["tiny/RN-1221", backbone]), ZeroShotLogits(), AdaptiveBackboneEnsemble()
    )
    clf.fit(images[:40], labels[:40])
    assert clf[-1].backbones_ == ["tiny/RN-1221", "resnet"]
    assert clf.score(images[40:], labels[40:]) > 0.5
    again = pickle.loads(pickle.dumps(clf))
    np.testing.assert_allclose(again.predict_proba(images), clf.predict_proba(images), atol=1e-5)


def test_a_saved_table_of_a_model_that_is_not_here(tmp_path):
    backbones = ["tiny/ViT-4", Backbone(Net(), id="mine", preprocess=PLAIN)]
    CLIPEmbedder(backbones).fit_transform(PHOTOS).to_parquet(tmp_path / "table.parquet")
    clear()  # as in another process
    table = pd.read_parquet(tmp_path / "table.parquet")
    with pytest.raises(ValueError, match=r"Unknown backbone 'mine'.*backbones=\[Backbone"):
        ZeroShotLogits(["cat", "dog"]).fit(table)
    step = ZeroShotLogits(["cat", "dog"], backbones=["tiny/ViT-4"])
    with pytest.warns(
        UserWarning, match="'mine' is known neither here nor from backbones"
    ) as caught:
        logits = step.fit(table).transform(table)
    assert caught[0].filename == __file__
    assert [c for c in logits if "mine" in c] == [c for c in table if "mine" in c]
    assert logits.filter(like="__logit__").shape[1] == 2
