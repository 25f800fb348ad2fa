"""Image models of timm: published ones by name, your own weights, folders and hub repositories."""

from __future__ import annotations

import functools
import json
import math
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sklearn_clipensemble._runtime import unforked
from sklearn_clipensemble.backbones._interface import Towers
from sklearn_clipensemble.backbones._weights import AtUrl, InFolder, OnHub, WeightsFile, read_config
from sklearn_clipensemble.images import Geometry

if TYPE_CHECKING:
    import torch

_FILES = ("model.safetensors", "pytorch_model.bin", "model.bin", "model.pth", "model.npz")
_NO_HEAD: dict[str, Any] = {"num_classes": 0}


class TimmModel(WeightsFile):
    """What all models of timm share: an architecture, its arguments and timm's description of it."""

    config_name = "config.json"

    def config(self) -> dict[str, Any]:
        """Return ``architecture``, ``pretrained_cfg`` and, where there are any, ``model_args``."""
        parts = ("architecture", "pretrained_cfg", "model_args")
        return read_config(self.config_file(), self.id, "timm", *parts)

    def settings(self) -> dict[str, Any]:
        config = self.config()
        data = import_timm().data.resolve_data_config({}, pretrained_cfg=config["pretrained_cfg"])
        return {"model": [config["architecture"], config.get("model_args", {})], "data": data}

    @property
    def geometry(self) -> Geometry:
        return preprocessing(self.settings()["data"])[0]

    @property
    def width(self) -> int:
        return _width(self, json.dumps(self.settings()))

    def architecture(self) -> torch.nn.Module:
        timm, (architecture, args) = import_timm(), self.settings()["model"]
        import torch

        with unforked(), torch.device("meta"):
            return timm.create_model(architecture, **args | _NO_HEAD).eval()

    def load(self) -> Towers:
        path = self.file()
        with unforked():
            model = self._make(path).eval().requires_grad_(False)
        return Towers(model, *preprocessing(self.settings()["data"])[1:])

    def _make(self, path: Path) -> torch.nn.Module:
        """Return the model with the weights of a file, every one of which must be there."""
        timm, config = import_timm(), self.config()
        model = timm.create_model(config["architecture"], **config.get("model_args", {}) | _NO_HEAD)
        # Most of timm's modules have a function that reads weights as their authors published them.
        read = getattr(sys.modules[type(model).__module__], "checkpoint_filter_fn", None)
        found = timm.models.load_checkpoint(
            model, str(path), strict=False, filter_fn=read, weights_only=True
        )
        if found is not None and found.missing_keys:
            raise ValueError(
                f"the file {str(path)!r} lacks {len(found.missing_keys)} of the weights of "
                f"{config['architecture']!r}, such as {found.missing_keys[0]!r}"
                + (f"; it holds {found.unexpected_keys[0]!r}." if found.unexpected_keys else ".")
            )
        return model

    def pack(self) -> dict[str, bytes]:
        path, config = self.file(), json.dumps(self.config()).encode()
        return {"config.json": config, f"model{path.suffix}": path.read_bytes()}

    def in_folder(self, folder: Path) -> FolderTimm:
        return FolderTimm(self.id, str(folder))


@dataclass(frozen=True)
class PublishedTimm(TimmModel):
    """A model that timm knows by name, ``MODEL.TAG``, with published weights."""

    id: str
    model: str

    config_name = ""

    @classmethod
    def from_name(cls, name: str) -> PublishedTimm:
        model, at, path = name.removeprefix("timm:").partition("@")
        cfg = _pretrained_cfg(model)
        if at:
            file = Path(path).expanduser().resolve()
            if not file.is_file():
                raise FileNotFoundError(f"The file of backbone {name!r} does not exist: {file}.")
            return FileTimm(f"timm:{model}@{file.stem}", model, str(file))
        if not (cfg.hf_hub_id or cfg.url):
            raise ValueError(
                f"timm publishes no weights of {model!r}. Name your own: 'timm:{model}@FILE'."
            )
        model = f"{cfg.architecture}.{cfg.tag}" if cfg.tag else cfg.architecture
        return cls(f"timm:{model}", model)

    @property
    def weights(self) -> OnHub | AtUrl | InFolder:
        cfg = _pretrained_cfg(self.model)
        if cfg.hf_hub_id:
            named = (cfg.hf_hub_filename,) if cfg.hf_hub_filename else _FILES[:2]
            return OnHub(cfg.hf_hub_id, named)
        from torch.hub import get_dir

        return AtUrl(cfg.url, Path(get_dir(), "checkpoints"))

    def config(self) -> dict[str, Any]:
        cfg = _pretrained_cfg(self.model)
        return {"architecture": cfg.architecture, "pretrained_cfg": cfg.to_dict()}

    def _make(self, path: Path) -> torch.nn.Module:
        overlay = {"file": str(path), "custom_load": path.suffix == ".npz"}
        return import_timm().create_model(
            self.model, pretrained=True, pretrained_cfg_overlay=overlay, **_NO_HEAD
        )


@dataclass(frozen=True)
class FileTimm(PublishedTimm):
    """A model that timm knows by name, with the weights of a file: ``timm:MODEL@STEM``.

    ``MODEL.TAG`` preprocesses as the published weights of that tag want it.
    """

    path: str

    _make = TimmModel._make

    def __str__(self):
        return f"timm:{self.model}@{self.path}"

    @property
    def weights(self) -> InFolder:
        return InFolder(os.path.dirname(self.path), (os.path.basename(self.path),))


@dataclass(frozen=True)
class FolderTimm(TimmModel):
    """A folder that timm wrote, ``config.json`` and weights: ``timm:`` and the folder's name."""

    id: str
    path: str

    def __str__(self):
        return f"timm:local-dir:{self.path}"

    @classmethod
    def from_name(cls, name: str) -> FolderTimm:
        folder = Path(name.removeprefix("timm:local-dir:")).expanduser().resolve()
        if not (folder / "config.json").is_file():
            raise FileNotFoundError(
                f"The folder of backbone {name!r} holds no config.json: {folder}. A timm "
                "folder, as timm.models.save_for_hf writes it, has that file and model.safetensors."
            )
        return cls(f"timm:{folder.name}", str(folder))

    @property
    def weights(self) -> InFolder:
        return InFolder(self.path, _FILES)


@dataclass(frozen=True)
class HubTimm(TimmModel):
    """A repository on the Hugging Face hub in timm's format, ``timm:hf-hub:REPOSITORY``."""

    id: str

    @property
    def weights(self) -> OnHub:
        return OnHub(self.id.removeprefix("timm:hf-hub:"), _FILES[:2])


def preprocessing(data: dict[str, Any]) -> tuple[Geometry, tuple[float, ...], tuple[float, ...]]:
    """Return what pixels go through by timm's data configuration: geometry, mean and std."""
    _, height, width = data["input_size"]
    resized = math.floor(height / data["crop_pct"]), math.floor(width / data["crop_pct"])
    mean, std = (tuple(map(float, data[key])) for key in ("mean", "std"))
    mode = {"squash": "squash", "border": "longest"}.get(data["crop_mode"], "shortest")
    fill: Any = tuple(round(255 * v) for v in mean) if mode == "longest" else 0
    return Geometry(height, width, mode, data["interpolation"], fill, resized), mean, std


@functools.cache
def import_timm() -> Any:
    """Import timm, and torch with it, late and with no fork in between."""
    with unforked():
        import timm.data
    return timm


@functools.cache
def _pretrained_cfg(model: str) -> Any:
    """Return timm's description of a model, with tag or without."""
    models = import_timm().models
    name, tag = models.split_model_name_tag(model)
    if not models.is_model(name):
        import difflib

        near = difflib.get_close_matches(name, models.list_models(), n=4)
        raise ValueError(
            f"Unknown backbone 'timm:{model}': timm has no model {name!r}. "
            + (f"Did you mean {', '.join(near)}? " if near else "")
            + "Another file is named 'timm:MODEL@FILE', a folder 'timm:local-dir:PATH', a repository on "
            "the Hugging Face hub 'timm:hf-hub:ID'."
        )
    tags = [m.partition(".")[2] for m in models.list_pretrained(f"{name}.*")]
    if tag and tag not in tags:
        raise ValueError(
            f"The backbone 'timm:{name}' has no weights tagged {tag!r}; it has "
            f"{', '.join(tags) or 'none'}."
        )
    return models.get_pretrained_cfg(model) or models.PretrainedCfg(architecture=name)


@functools.lru_cache(maxsize=256)
def _width(backbone: TimmModel, settings: str) -> int:
    """Return the width by trying; ``settings`` are those of the backbone, which a file may change."""
    model, geometry = backbone.architecture(), backbone.geometry
    import torch

    with unforked(), torch.no_grad():
        shape = model(torch.zeros(1, 3, geometry.height, geometry.width, device="meta")).shape
    if len(shape) != 2:
        raise ValueError(
            f"The timm model {json.loads(settings)['model'][0]!r} makes vectors of shape "
            f"{tuple(shape[1:])} of a picture; expected one vector. Pool them in a module of your own, "
            "and pass it as sklearn_clipensemble.Backbone."
        )
    return shape[1]
