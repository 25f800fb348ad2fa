"""Small models with random weights, for several test modules."""

import json
import sys

import timm
import torch
from PIL import Image

from sklearn_clipensemble.backbones import _weights
from sklearn_clipensemble.backbones._open_clip import open_clip, quiet

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


SMALL = {"depth": 1, "embed_dim": 32, "num_heads": 2, "img_size": 28}
KINDS = {
    "test_vit": {},
    "test_convnext": {},
    "test_resnet": {},
    "test_efficientnet": {},
    "eva02_tiny_patch14_224": SMALL,
    "vit_small_patch14_dinov2": SMALL,
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
    monkeypatch.setitem(sys.modules["open_clip.factory"]._MODEL_CONFIGS, "ViT-B-32", small)
    with quiet():
        weights = open_clip().create_model("ViT-B-32").state_dict()
    file = tmp_path / "open_clip_model.safetensors"
    save_file(dict(weights), file)
    monkeypatch.setattr(_weights, "_cached", lambda repo, name: file)
    return file
