"""Image models of timm: the embeddings are those that timm's own recipe gives."""

import json
import pickle

import numpy as np
import pandas as pd
import pytest
import timm
import torch
from instances import KINDS, make_timm
from PIL import Image
from sklearn.datasets import load_sample_images

from sklearn_clipensemble import CLIPEmbedder, ZeroShotLogits, clear
from sklearn_clipensemble.backbones import _weights, resolve

PHOTOS = load_sample_images().images


def save(model, folder, **pretrained_cfg):
    """Write a timm folder as timm does, with other preprocessing where it is asked for."""
    name = model.pretrained_cfg["architecture"]
    args = KINDS.get(name) or None
    if args:
        pretrained_cfg = {"input_size": (3, args["img_size"], args["img_size"]), **pretrained_cfg}
    timm.models.save_for_hf(model, folder, safe_serialization=True, model_args=args)
    config = json.loads((folder / "config.json").read_text())
    config["pretrained_cfg"] |= pretrained_cfg
    (folder / "config.json").write_text(json.dumps(config))
    return f"timm:local-dir:{folder}"


def official(model, images, **pretrained_cfg):
    """What timm's own recipe gives: its transform, its model without classifier."""
    cfg = {**model.pretrained_cfg, **pretrained_cfg}
    transform = timm.data.create_transform(**timm.data.resolve_data_config({}, pretrained_cfg=cfg))
    model.reset_classifier(0)
    with torch.no_grad():
        out = model.eval()(torch.stack([transform(Image.fromarray(i)) for i in images]))
    return torch.nn.functional.normalize(out, dim=-1).numpy()


def embed(name, **options):
    return CLIPEmbedder(name, precision="fp32", cache=False, **options).fit_transform(PHOTOS)


@pytest.mark.parametrize("name", KINDS)
def test_a_folder_that_timm_wrote(tmp_path, name):
    model = make_timm(name)
    spelled = save(model, tmp_path / "mine")
    size = KINDS[name].get("img_size")
    table = embed(spelled)
    cfg = {"input_size": (3, size, size)} if size else {}
    expected = official(model, PHOTOS, **cfg)
    np.testing.assert_allclose(table, expected, atol=2e-6)
    assert table.columns[0] == "timm:mine__embedding__0"
    (backbone,) = resolve(spelled)
    assert backbone.width == table.shape[1]
    assert not backbone.has_text
    assert backbone.gflops > 0
    fast = CLIPEmbedder(spelled, precision="bf16", cache=False).fit_transform(PHOTOS)
    assert (fast.to_numpy() * expected).sum(1).min() > 0.999


@pytest.mark.parametrize(
    "cfg",
    [
        {"crop_pct": 0.875, "interpolation": "bilinear"},
        {"crop_mode": "squash", "crop_pct": 0.9},
        {"crop_mode": "border", "crop_pct": 1.0},
        {"crop_mode": "border", "crop_pct": 0.8, "mean": (0.1, 0.5, 0.9)},
        {"input_size": (3, 128, 96), "interpolation": "bilinear", "crop_pct": 0.9},
        {"interpolation": "lanczos", "std": (0.2, 0.3, 0.4)},
    ],
)
def test_every_way_to_preprocess(tmp_path, cfg):
    model = make_timm("test_resnet")
    spelled = save(model, tmp_path / "mine", **cfg)
    np.testing.assert_allclose(embed(spelled), official(model, PHOTOS, **cfg), atol=2e-6)


@pytest.mark.parametrize("form", ["safetensors", "pth", "checkpoint"])
def test_weights_of_a_file(tmp_path, form):
    from safetensors.torch import save_file

    model = make_timm("test_vit", num_classes=7)
    path = tmp_path / f"best.{'safetensors' if form == 'safetensors' else 'pth'}"
    if form == "safetensors":
        save_file(model.state_dict(), path)
    else:
        state = model.state_dict()
        torch.save({"state_dict": state, "epoch": 3} if form == "checkpoint" else state, path)
    table = embed(f"timm:test_vit@{path}")
    assert table.columns[0] == "timm:test_vit@best__embedding__0"
    np.testing.assert_allclose(table, official(model, PHOTOS), atol=2e-6)


def test_published_weights_from_the_hubs_cache(tmp_path, monkeypatch):
    from huggingface_hub import constants
    from safetensors.torch import save_file

    (backbone,) = resolve("timm:test_vit")
    assert backbone.id == "timm:test_vit.r160_in1k"
    assert backbone == resolve("timm:test_vit.r160_in1k")[0]
    with pytest.raises(ConnectionError, match=r"'timm:test_vit\.r160_in1k' are not on this"):
        CLIPEmbedder("timm:test_vit").fit(PHOTOS)
    model = make_timm("test_vit", num_classes=1000)
    cached = tmp_path / "models--timm--test_vit.r160_in1k"
    (cached / "refs").mkdir(parents=True)
    (cached / "refs" / "main").write_text("0")
    (cached / "snapshots" / "0").mkdir(parents=True)
    save_file(model.state_dict(), cached / "snapshots" / "0" / "model.safetensors")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    np.testing.assert_allclose(embed("timm:test_vit"), official(model, PHOTOS), atol=2e-6)
    # The same repository by its name on the hub, with a configuration of its own.
    save(model, tmp_path / "saved")
    (tmp_path / "saved" / "config.json").rename(cached / "snapshots" / "0" / "config.json")
    again = embed("timm:hf-hub:timm/test_vit.r160_in1k")
    assert again.columns[0] == "timm:hf-hub:timm/test_vit.r160_in1k__embedding__0"
    np.testing.assert_allclose(again, embed("timm:test_vit"), atol=2e-6)


def test_published_weights_from_an_address(tmp_path, monkeypatch):
    """A few models are not on the hub."""
    (backbone,) = resolve("timm:gcvit_xxtiny")
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    assert backbone.weights.locate() is None
    with pytest.raises(ConnectionError, match="HF_HUB_OFFLINE is set"):
        backbone.require()
    monkeypatch.setattr(_weights, "_require_network", lambda *args: None)

    def download(url, path, digest, progress):
        assert f"-{digest}." in url
        torch.save(make_timm("gcvit_xxtiny", num_classes=1000).state_dict(), path)

    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    assert backbone.file().parent == tmp_path / "checkpoints"
    expected = official(make_timm("gcvit_xxtiny", num_classes=1000), PHOTOS[:1])
    got = CLIPEmbedder("timm:gcvit_xxtiny", precision="fp32").fit_transform(PHOTOS[:1])
    np.testing.assert_allclose(got, expected, atol=2e-6)


@pytest.mark.parametrize(
    ("name", "kind", "match"),
    [
        ("timm:resnet_18", ValueError, r"timm has no model 'resnet_18'\. Did you mean resnet18"),
        ("timm:resnet18.x", ValueError, "no weights tagged 'x'; it has a1_in1k, a2_in1k"),
        ("timm:vit_tiny_patch16_18x2_224", ValueError, "Unknown backbone"),
        ("timm:resnet18@missing.pth", FileNotFoundError, r"'timm:resnet18@missing.pth' does not"),
        ("timm:local-dir:missing", FileNotFoundError, "holds no config.json"),
    ],
)
def test_names_that_mean_nothing(name, kind, match):
    with pytest.raises(kind, match=match):
        resolve(name)


def test_a_model_without_published_weights():
    with pytest.raises(ValueError, match="'timm:botnet50ts_256@FILE'"):
        resolve("timm:botnet50ts_256")


def test_an_open_clip_folder_and_a_timm_folder_are_told_apart(tmp_path):
    save(make_timm("test_vit"), tmp_path / "mine")
    with pytest.raises(FileNotFoundError, match=r"folder of timm's is named 'timm:local-dir:"):
        resolve(f"local-dir:{tmp_path / 'mine'}")
    (tmp_path / "mine" / "config.json").write_text("[]")
    with pytest.raises(ValueError, match=r"'timm:mine' is no timm configuration"):
        CLIPEmbedder(f"timm:local-dir:{tmp_path / 'mine'}").fit(PHOTOS)


def test_weights_that_do_not_fit(tmp_path):
    state = make_timm("test_vit").state_dict()
    del state["blocks.0.attn.qkv.weight"]
    torch.save(state, tmp_path / "part.pth")
    with pytest.raises(
        RuntimeError,
        match=r"(?s)'timm:test_vit@part' \(timm:test_vit@/.*lacks 1 of the weights of 'test_vit'",
    ):
        embed(f"timm:test_vit@{tmp_path / 'part.pth'}")
    torch.save(make_timm("test_resnet").state_dict(), tmp_path / "other.pth")
    with pytest.raises(RuntimeError, match=r"'timm:test_vit@other'.*could not be loaded"):
        embed(f"timm:test_vit@{tmp_path / 'other.pth'}")
    torch.save({f"net.{name}": w for name, w in state.items()}, tmp_path / "net.pth")
    with pytest.raises(RuntimeError, match=r"such as 'cls_token'; it holds 'net.cls_token'"):
        embed(f"timm:test_vit@{tmp_path / 'net.pth'}")
    (tmp_path / "text.pth").write_text("hello")
    with pytest.raises(RuntimeError, match="could not be loaded: KeyError: 101"):
        embed(f"timm:test_vit@{tmp_path / 'text.pth'}")


def test_a_model_that_does_not_pool(tmp_path):
    model = make_timm("test_vit", global_pool="")
    spelled = save(model, tmp_path / "tokens")
    config = json.loads((tmp_path / "tokens" / "config.json").read_text())
    config["model_args"] = {"global_pool": ""}
    (tmp_path / "tokens" / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"'test_vit' makes vectors of shape .*Backbone"):
        CLIPEmbedder(spelled).fit(PHOTOS)


def test_fingerprint_follows_weights_and_preprocessing(tmp_path):
    names = [
        save(make_timm("test_vit"), tmp_path / "one"),
        save(make_timm("test_vit", seed=1), tmp_path / "seed"),
        save(make_timm("test_vit"), tmp_path / "crop", crop_pct=0.5),
    ]
    prints = [resolve(name)[0].fingerprint() for name in names]
    assert len(set(prints)) == 3
    again = save(make_timm("test_vit"), tmp_path / "copy" / "one")
    assert resolve(again)[0].fingerprint() == prints[0]


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_a_pickle_with_weights(tmp_path, monkeypatch, kind):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user-cache"))
    spelled = save(make_timm("test_vit", num_classes=0), tmp_path / "mine")
    if kind == "file":
        spelled = f"timm:test_vit@{tmp_path / 'mine' / 'model.safetensors'}"
    embedder = CLIPEmbedder(spelled, precision="fp32", store_weights=True)
    expected = embedder.fit_transform(PHOTOS)
    heavy = pickle.dumps(embedder)
    (tmp_path / "mine").rename(tmp_path / "gone")
    clear()
    pd.testing.assert_frame_equal(pickle.loads(heavy).transform(PHOTOS), expected)


def test_beside_clip_it_has_an_embedding_only(tmp_path):
    spelled = save(make_timm("test_vit"), tmp_path / "mine")
    table = CLIPEmbedder(["tiny/RN-1221", spelled], precision="fp32").fit_transform(PHOTOS)
    step = ZeroShotLogits(["cat", "dog"]).fit(table)
    both = step.transform(table)
    logits = [c for c in both if "__logit__" in c]
    assert logits == ["tiny/RN-1221__logit__cat", "tiny/RN-1221__logit__dog"]
    pd.testing.assert_frame_equal(both[table.columns], table)
    assert list(step.text_heads_) == ["tiny/RN-1221"]
    bare = ZeroShotLogits(["cat", "dog"], passthrough=False).fit_transform(table)
    assert list(bare.columns) == logits
    # Its name says so by itself, in any process and without the folder.
    clear()
    (tmp_path / "mine").rename(tmp_path / "gone")
    pd.testing.assert_frame_equal(ZeroShotLogits(["cat", "dog"]).fit_transform(table), both)
    alone = table[[c for c in table if c.startswith("timm:")]]
    with pytest.raises(ValueError, match=r"No backbone of the table has a text tower: timm:mine"):
        ZeroShotLogits(["cat", "dog"]).fit(alone)
    named = ZeroShotLogits(["cat", "dog"], backbones=["tiny/RN-1221", "timm:test_vit"])
    columns = both.columns.str.replace("timm:mine", "timm:test_vit.r160_in1k")
    values = named.fit_transform(table.to_numpy())
    pd.testing.assert_frame_equal(values, both.set_axis(columns, axis=1))
