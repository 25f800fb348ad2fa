"""Models of open_clip: by name and tag, in a folder, on the hub, and those that come along here."""

from __future__ import annotations

import functools
import json
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sklearn_clipensemble._runtime import unforked
from sklearn_clipensemble.backbones._interface import TextTower, Towers
from sklearn_clipensemble.backbones._one_tower import load_tower
from sklearn_clipensemble.backbones._open_clip import open_clip, quiet
from sklearn_clipensemble.backbones._published import published_costs
from sklearn_clipensemble.backbones._weights import AtUrl, InFolder, OnHub, WeightsFile, read_config
from sklearn_clipensemble.images import Geometry

if TYPE_CHECKING:
    import torch

_HERE = Path(__file__).parent
_CONFIG = "open_clip_config.json"
#: The names that open_clip looks for in a folder, in its order.
_FOLDER_FILES = (
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "open_clip_pytorch_model.bin",
    "open_clip_pytorch_model.pth",
    "model.safetensors",
    "pytorch_model.bin",
    "pytorch_model.pth",
    "model.pth",
)
_HUB_FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
#: The paper's nine, cheapest first, and where the hub keeps them: known here so that a default that
#: cannot be downloaded fails before open_clip and torch are imported.
OPENAI = {
    "ViT-B-32": "timm/vit_base_patch32_clip_224.openai",
    "RN50": "timm/resnet50_clip.openai",
    "RN101": "timm/resnet101_clip.openai",
    "ViT-B-16": "timm/vit_base_patch16_clip_224.openai",
    "RN50x4": "timm/resnet50x4_clip.openai",
    "RN50x16": "timm/resnet50x16_clip.openai",
    "ViT-L-14": "timm/vit_large_patch14_clip_224.openai",
    "ViT-L-14-336": "timm/vit_large_patch14_clip_336.openai",
    "RN50x64": "timm/resnet50x64_clip.openai",
}
#: The bundled ones, cheapest first.
TINY = (
    "tiny/EdgeNeXt-xxs",
    "tiny/RN-1221",
    "tiny/RN-2222",
    "tiny/ConvNeXt-zepto",
    "tiny/ViT-4",
)
#: The same weights in the format of transformers, which open_clip does not read.
_IN_TRANSFORMERS = {
    "openai/clip-vit-base-patch32": "ViT-B-32/openai",
    "openai/clip-vit-base-patch16": "ViT-B-16/openai",
    "openai/clip-vit-large-patch14": "ViT-L-14/openai",
    "openai/clip-vit-large-patch14-336": "ViT-L-14-336/openai",
}


class _ClipModel(WeightsFile):
    """What all models of open_clip share."""

    has_text = True
    config_name = _CONFIG

    def config(self) -> dict[str, Any]:
        """Return ``model_cfg`` and ``preprocess_cfg``, as open_clip means them."""
        parts = ("model_cfg", "preprocess_cfg")
        return read_config(self.config_file(), self.id, "open_clip", *parts)

    def settings(self) -> dict[str, Any]:
        return self.config()

    @property
    def width(self) -> int:
        return int(self.config()["model_cfg"]["embed_dim"])

    @property
    def geometry(self) -> Geometry:
        config = self.config()
        size = config["model_cfg"]["vision_cfg"].get("image_size", 224)
        return preprocessing({"size": size, **config["preprocess_cfg"]})[0]

    def architecture(self) -> torch.nn.Module:
        model_cfg, clip = self.config()["model_cfg"], open_clip().CLIP
        vision = {**model_cfg["vision_cfg"], "timm_model_pretrained": False}
        import torch

        # With the least text tower that there can be: some need files from the hub.
        with quiet(), unforked(), torch.device("meta"):
            return clip(
                model_cfg["embed_dim"],
                vision,
                {"context_length": 1, "vocab_size": 1, "width": 64, "heads": 1, "layers": 1},
                model_cfg.get("quick_gelu", False),
            ).visual.eval()

    def load(self) -> Towers:
        path = self.file()
        with quiet(), unforked():
            model = load_tower(self._source(path), path, text=False)
            return image_tower(model, *preprocessing(self.config()["preprocess_cfg"])[1:])

    def load_text(self) -> TextTower:
        path = self.file()
        with quiet(), unforked():
            return text_tower(load_tower(self._source(path), path, text=True), self._tokenizer)

    def _source(self, path: Path) -> dict[str, Any]:
        """Return what open_clip makes the model of."""
        return {"model_name": f"local-dir:{path.parent}"}

    def _tokenizer(self):
        return open_clip().get_tokenizer(f"local-dir:{self.file().parent}")

    def pack(self) -> dict[str, bytes]:
        path = self.file()
        safe = path.suffix == ".safetensors"
        name = "open_clip_model.safetensors" if safe else "open_clip_pytorch_model.bin"
        config = json.dumps(self.config()).encode()
        return {**self._beside(path), _CONFIG: config, name: path.read_bytes()}

    def _beside(self, path: Path) -> dict[str, bytes]:
        """Return what a tokenizer may need beside the weights."""
        return {
            f.name: f.read_bytes()
            for f in path.parent.iterdir()
            if f.suffix in (".json", ".txt", ".model") and f.is_file()
        }

    def in_folder(self, folder: Path) -> FolderClip:
        return FolderClip(self.id, str(folder))


@dataclass(frozen=True)
class FolderClip(_ClipModel):
    """An open_clip folder: a configuration and weights. Its id is the folder's name."""

    id: str
    path: str

    def __str__(self):
        return f"local-dir:{self.path}"

    @classmethod
    def from_name(cls, name: str) -> FolderClip:
        folder = Path(name.removeprefix("local-dir:")).expanduser().resolve()
        if not folder.is_dir():
            raise FileNotFoundError(f"The folder of backbone {name!r} does not exist: {folder}.")
        if not (folder / _CONFIG).is_file():
            is_timm = (folder / "config.json").is_file()
            raise FileNotFoundError(
                f"The folder of backbone {name!r} holds no {_CONFIG}. An open_clip folder has that "
                'file ({"model_cfg": ..., "preprocess_cfg": ...}) and open_clip_model.safetensors.'
                + (f" A folder of timm's is named 'timm:{name}'." if is_timm else "")
            )
        return cls(folder.name, str(folder))

    @property
    def weights(self) -> InFolder:
        return InFolder(self.path, _FOLDER_FILES)


@dataclass(frozen=True)
class TinyClip(_ClipModel):
    """A backbone that comes with the package, ``tiny/NAME``."""

    id: str

    @classmethod
    def from_name(cls, name: str) -> TinyClip:
        if name not in TINY:
            raise ValueError(f"There is no bundled backbone {name!r}; there are {', '.join(TINY)}.")
        return cls(name)

    @property
    def weights(self) -> InFolder:
        return InFolder(f"{_HERE}{os.sep}{self.id}", _FOLDER_FILES)

    @property
    def gflops(self) -> float:
        return published_costs(self.id)["gflops"]

    def pack(self) -> dict[str, bytes]:
        return {}


@dataclass(frozen=True)
class HubClip(_ClipModel):
    """A repository on the Hugging Face hub in open_clip's format, ``hf-hub:REPOSITORY``."""

    id: str

    @property
    def weights(self) -> OnHub:
        return OnHub(self.id.removeprefix("hf-hub:"), _HUB_FILES)

    def _tokenizer(self):
        return open_clip().get_tokenizer(self.id)


@dataclass(frozen=True)
class PublishedClip(_ClipModel):
    """A model that open_clip knows by name, and published weights by tag: ``MODEL/TAG``."""

    id: str
    model: str
    tag: str

    config_name = ""

    @classmethod
    def from_name(cls, name: str, tag: str | None = None) -> PublishedClip:
        known = name.removesuffix("/openai")
        if known in OPENAI and tag in (None, "openai"):
            return cls(f"{known}/openai", known, "openai")

        models = set(open_clip().list_models())
        candidates = [(_clean(name), tag)]
        if tag is None and "/" in name:
            head, _, tail = name.rpartition("/")
            candidates.insert(0, (_clean(head), tail))
        model, tag = next(((m, t) for m, t in candidates if m in models), (None, None))
        if model is None:
            raise ValueError(_unknown(name, models))
        tags = open_clip().list_pretrained_tags_by_model(model)
        if tag is None:
            if "openai" not in tags:
                raise ValueError(
                    f"The backbone {name!r} needs the tag of its weights, one of: "
                    + (", ".join(f"'{model}/{t}'" for t in tags) or "none are published")
                    + "."
                )
            tag = "openai"
        if tag not in tags:
            raise ValueError(
                f"The backbone {model!r} has no weights tagged {tag!r}; it has {', '.join(tags) or 'none'}."
            )
        return cls(f"{model}/{tag}", model, tag)

    @property
    def _published(self) -> dict[str, Any]:
        return open_clip().get_pretrained_cfg(self.model, self.tag)

    @property
    def weights(self) -> OnHub | AtUrl:
        if self.tag == "openai" and self.model in OPENAI:
            return OnHub(OPENAI[self.model], _HUB_FILES)
        published = self._published
        if not published.get("hf_hub"):
            return AtUrl(published["url"], Path("~/.cache/clip").expanduser())
        repository, name = os.path.split(published["hf_hub"])
        safe = str(Path(name).with_suffix(".safetensors")) if name else ""
        return OnHub(repository, (safe, name) if name else _HUB_FILES)

    def config(self) -> dict[str, Any]:
        """Return ``model_cfg`` and ``preprocess_cfg``; whether QuickGELU is used, the tag says."""
        model, settings = open_clip().get_model_config(self.model), self.settings()
        if settings.pop("quick_gelu"):
            model = {**model, "quick_gelu": True}
        return {"model_cfg": model, **settings}

    def settings(self) -> dict[str, Any]:
        # Not the architecture: open_clip may reword it, and weights fit one only.
        published = self._published
        beside = ("url", "hf_hub", "quick_gelu")
        return {
            "preprocess_cfg": {k: v for k, v in published.items() if k not in beside},
            "quick_gelu": bool(published.get("quick_gelu")),
        }

    @property
    def gflops(self) -> float:
        known = published_costs(self.id)
        return known["gflops"] if known else super().gflops

    def _source(self, path: Path) -> dict[str, Any]:
        # open_clip only warns where the activation of the weights is not the architecture's.
        quick = self.settings()["quick_gelu"]
        return {"model_name": self.model, "pretrained": str(path), "force_quick_gelu": quick}

    def _tokenizer(self):
        return open_clip().get_tokenizer(self.model)

    def _beside(self, path: Path) -> dict[str, bytes]:
        return {}


def image_tower(model: Any, mean: Sequence[float], std: Sequence[float]) -> Towers:
    """Return the image tower of an open_clip model, which is changed for that."""
    # Models arrive in training mode, in which batch norm and dropout spoil the embedding.
    model.eval().requires_grad_(False)
    _fold_batch_norms(model.visual)
    return Towers(model.visual, mean, std)


def text_tower(model: Any, tokenizer: Callable) -> TextTower:
    """Return the text tower of an open_clip model; ``tokenizer`` makes what its texts go through."""
    model.eval().requires_grad_(False)

    def quiet_tokenizer():
        with quiet():
            return tokenizer()

    bias = getattr(model, "logit_bias", None)
    return TextTower(
        functools.partial(model.encode_text, normalize=False),
        quiet_tokenizer,
        float(model.logit_scale.exp()),
        0.0 if bias is None else float(bias),
    )


def preprocessing(config: dict) -> tuple[Geometry, tuple[float, ...], tuple[float, ...]]:
    """Return what pixels go through by open_clip's ``preprocess_cfg``: geometry, mean and std."""
    given = {k: v for k, v in config.items() if v is not None}
    size = given.get("size", 224)
    height, width = (size, size) if isinstance(size, int) else size
    mode = given.get("resize_mode", "shortest")
    # open_clip forgets the interpolation where it keeps the ratio for a target that is no square.
    bilinear = given.get("interpolation") == "bilinear" and (mode != "shortest" or width == height)
    geometry = Geometry(
        height, width, mode, "bilinear" if bilinear else "bicubic", given.get("fill_color", 0)
    )
    constants = open_clip()
    mean, std = (
        tuple(v) if isinstance(v, list | tuple) else (float(v),) * 3
        for v in (
            given.get("mean", constants.OPENAI_DATASET_MEAN),
            given.get("std", constants.OPENAI_DATASET_STD),
        )
    )
    return geometry, mean, std


def _fold_batch_norms(tower: torch.nn.Module) -> None:
    """Make each batch norm of a CLIP ResNet part of the convolution before it, to be a sixth faster.

    In bf16 a quarter, and running statistics would not survive eight bits there.
    """
    if type(tower).__name__ != "ModifiedResNet":
        return
    import torch

    convolution_of = {"bn1": "conv1", "bn2": "conv2", "bn3": "conv3", "1": "0"}
    for block in tower.modules():
        for name, child in list(block.named_children()):
            if isinstance(child, torch.nn.BatchNorm2d):
                convolution = getattr(block, convolution_of[name])
                folded = torch.nn.utils.fusion.fuse_conv_bn_eval(convolution, child)
                setattr(block, convolution_of[name], folded.requires_grad_(False))
                setattr(block, name, torch.nn.Identity())


def _clean(name: str) -> str:
    return name.replace("/", "-").replace("@", "-").removesuffix("px")


def _unknown(name: str, models: set[str]) -> str:
    """Say what a name may have meant."""
    import difflib

    from sklearn_clipensemble.backbones._registry import PRESETS

    near = difflib.get_close_matches(_clean(name), sorted(models | set(PRESETS)), n=4)
    return (
        f"Unknown backbone {name!r}. "
        + (f"Did you mean {', '.join(near)}? " if near else "")
        + _other_name(name)
        + "A backbone is an open_clip name such as 'ViT-B-32/openai', 'local-dir:PATH', 'hf-hub:ID', "
        f"'timm:NAME' or a preset ({', '.join(PRESETS)})."
    )


def _other_name(name: str) -> str:
    """Say what to write for a folder or a repository on the Hugging Face hub; empty for others."""
    if os.path.isdir(os.path.expanduser(name)) or name.startswith((".", "~", os.sep)):
        return f"A folder is named 'local-dir:{name}'. "
    repository = re.sub(r"^(https?://)?(www\.)?(huggingface\.co|hf\.co)/", "", name).rstrip("/")
    if repository in _IN_TRANSFORMERS:
        return (
            f"The weights of {repository!r} on the Hugging Face hub, which are there for transformers, are "
            f"{_IN_TRANSFORMERS[repository]!r} here; a repository in open_clip's format would be named "
            f"'hf-hub:{repository}'. "
        )
    if re.fullmatch(r"[\w.-]+/[\w.-]+", repository):
        return (
            f"A repository on the Hugging Face hub is named 'hf-hub:{repository}'; it must be in "
            "open_clip's format. "
        )
    return ""
