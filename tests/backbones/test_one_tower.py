"""Only the tower that is asked for is in memory, and it is that of the whole model, to the last bit."""

import gc
import pickle
import weakref

import numpy as np
import pytest
import torch
from instances import RESNET, TEXT, VIT, make_folder
from safetensors.torch import load_file, save_file
from sklearn.datasets import load_sample_images

from sklearn_clipensemble import Backbone, CLIPEmbedder, ZeroShotLogits, clear
from sklearn_clipensemble.backbones import _model, resolve
from sklearn_clipensemble.backbones._clip_models import TinyClip
from sklearn_clipensemble.backbones._model import load
from sklearn_clipensemble.backbones._one_tower import load_tower
from sklearn_clipensemble.backbones._open_clip import open_clip, quiet

PHOTOS = load_sample_images().images
KINDS = {
    "vit": {},
    "resnet": {"vision": RESNET},
    "siglip": {"init_logit_bias": -10, "text_cfg": {**TEXT, "no_causal_mask": True}},
    "custom text": {"custom_text": True},
    "coca": {
        "vision": {**VIT, "attentional_pool": True, "attn_pooler_heads": 2, "output_tokens": True},
        "text_cfg": {**TEXT, "embed_cls": True, "output_tokens": True},
        "multimodal_cfg": {**TEXT, "dim_head": 8, "attn_pooler_heads": 2},
        "custom_text": True,
    },
    # Its rotary positions are in no file.
    "eva": {"vision": {"timm_model_name": "eva02_tiny_patch14_224", "image_size": 224}},
}


@pytest.fixture(autouse=True)
def fresh():
    clear()
    yield
    clear()


@pytest.fixture
def alive(monkeypatch):
    """The towers of bundled backbones that were loaded and are in memory."""
    towers, load_image, load_text = [], TinyClip.load, TinyClip.load_text

    def image(self):
        loaded = load_image(self)
        towers.append((f"{self.id} image", weakref.ref(loaded.image)))
        return loaded

    def text(self):
        loaded = load_text(self)
        towers.append((f"{self.id} text", weakref.ref(loaded.encode.func.__self__)))
        return loaded

    monkeypatch.setattr(TinyClip, "load", image)
    monkeypatch.setattr(TinyClip, "load_text", text)

    def look():
        gc.collect()
        return [name for name, ref in towers if ref() is not None]

    return look


@pytest.mark.parametrize("kind", KINDS)
def test_a_tower_alone_is_that_of_the_whole_model(tmp_path, kind):
    name = make_folder(tmp_path / "model", **KINDS[kind])
    path = tmp_path / "model" / "open_clip_model.safetensors"
    with quiet(), torch.no_grad():
        whole = open_clip().create_model_from_pretrained(name, return_transform=False).eval()
        image = load_tower({"model_name": name}, path, text=False).eval()
        text = load_tower({"model_name": name}, path, text=True).eval()
        pixels = torch.rand(2, 3, *[KINDS[kind].get("vision", VIT)["image_size"]] * 2)
        tokens = torch.tensor([[49406, 320, 2368, 49407, 0, 0, 0, 0], [49406, *[7] * 6, 49407]])
        torch.testing.assert_close(
            image.encode_image(pixels), whole.encode_image(pixels), rtol=0, atol=0
        )
        torch.testing.assert_close(
            text.encode_text(tokens), whole.encode_text(tokens), rtol=0, atol=0
        )
        assert text.logit_scale == whole.logit_scale
    assert not hasattr(text, "visual")
    if kind != "eva":  # of which the whole had to be made
        assert {
            name.partition(".")[0] for name, p in image.named_parameters() if not p.is_meta
        } == {"visual"}


def test_a_file_without_some_weights(tmp_path):
    name = make_folder(tmp_path / "torn")
    path = tmp_path / "torn" / "open_clip_model.safetensors"
    weights = load_file(path)
    save_file({k: v for k, v in weights.items() if k != "ln_final.bias"}, path)
    table = CLIPEmbedder(name, precision="fp32", cache=False).fit_transform(PHOTOS)
    with pytest.raises(RuntimeError, match=r"(?s)'torn'.*could not be loaded.*Missing.*ln_final"):
        ZeroShotLogits(["cat", "dog"], cache=False).fit(table)
    save_file({k: v for k, v in weights.items() if k != "visual.proj"}, path)
    with pytest.raises(RuntimeError, match=r"(?s)'torn'.*could not be loaded.*Missing.*proj"):
        CLIPEmbedder(name, precision="fp32", cache=False).fit_transform(PHOTOS)
    save_file({**weights, "visual.more": torch.zeros(1)}, path)
    with pytest.raises(RuntimeError, match=r"(?s)'torn'.*could not be loaded.*Unexpected.*more"):
        CLIPEmbedder(name, precision="fp32", cache=False).fit_transform(PHOTOS)


def test_what_is_in_memory(alive, monkeypatch):
    """The image tower in the precision that is used; the text tower while prompts are embedded."""
    names = ["tiny/RN-1221", "tiny/ViT-4"]
    monkeypatch.setattr(_model, "multiplies_in_bf16", lambda device: True)
    table = CLIPEmbedder(names, cache=False).fit_transform(PHOTOS)
    for backbone in resolve(names):
        assert list(load(backbone)._towers) == [("cpu", "bf16")]
    assert alive() == []  # those in fp32 were replaced
    exact = CLIPEmbedder(names, precision="fp32", cache=False).fit_transform(PHOTOS)
    assert alive() == [f"{name} image" for name in names]
    np.testing.assert_array_equal(CLIPEmbedder(names, cache=False).fit_transform(PHOTOS), table)
    clear()
    again = CLIPEmbedder(names, precision="fp32", cache=False).fit_transform(PHOTOS)
    np.testing.assert_array_equal(again, exact)
    clear()
    ZeroShotLogits(["cat", "dog"]).fit(table)
    assert alive() == []
    with_text = [load(b).text for b in resolve(names)]
    assert alive() == [f"{name} text" for name in names]
    del with_text
    assert alive() == []


@pytest.mark.parametrize("kind", ["vit", "resnet"])
def test_a_model_in_memory_is_left_as_it_is(tmp_path, kind):
    with quiet():
        model = open_clip().create_model(make_folder(tmp_path / "model", **KINDS[kind])).eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    backbone = Backbone(model, id="mine")
    results = {}
    for precision in ("fp32", "bf16", "fp32", "bf16"):
        table = CLIPEmbedder(backbone, precision=precision, cache=False).fit_transform(PHOTOS)
        logits = ZeroShotLogits(["cat", "dog"], cache=False).fit_transform(table)
        np.testing.assert_array_equal(results.setdefault(precision, logits), logits)
    copied = pickle.loads(pickle.dumps(backbone))
    clear()
    table = CLIPEmbedder(copied, precision="fp32", cache=False).fit_transform(PHOTOS)
    logits = ZeroShotLogits(["cat", "dog"], cache=False, backbones=[copied]).fit_transform(table)
    np.testing.assert_array_equal(logits, results["fp32"])
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(tensor, before[name], rtol=0, atol=0)
