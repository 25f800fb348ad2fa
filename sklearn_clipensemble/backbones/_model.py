"""Loaded backbones: pixels and texts in, embeddings out; once per process."""

from __future__ import annotations

import copy
import os
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from sklearn_clipensemble._runtime import lock, runtime, unforked
from sklearn_clipensemble.backbones._interface import BackboneLike
from sklearn_clipensemble.images import Geometry

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
#: The least cosine between a backbone's own fp32 embedding and a faster one.
_FAITHFUL = 0.999
#: How many numbers of the largest activation each thread of a CPU has at once. More of them leave
#: its cache: a ViT-B-16 takes a quarter longer in batches of 64 in fp32, half as long again in bf16.
_CACHED = 3_000_000

if hasattr(os, "register_at_fork"):
    # The OpenMP threads that torch multiplies with do not survive a fork: a child that counts on them hangs.
    os.register_at_fork(after_in_child=lambda: torch.set_num_threads(1))


class Model:
    """A loaded backbone and what it takes to feed it.

    The model stays on the CPU in fp32 and embeds texts; images are embedded with a copy of its tower.
    """

    def __init__(self, backbone: BackboneLike):
        self.backbone = backbone
        self._geometry = backbone.geometry
        towers = backbone.load()
        self._image, self._mean, self._std = towers.image, towers.mean, towers.std
        self.text: Any = towers.text
        self._tokenizer: Any = None
        self._largest_activation: int | None = None
        self._towers: dict[tuple[str, str], torch.nn.Module] = {}
        self._takes_bf16: dict[str, bool] = {}

    def _tower(self, device: str, precision: str) -> torch.nn.Module:
        """Return the image tower on a device in a precision, made once."""
        with lock(self.backbone.id), unforked():
            key = device, precision
            if key not in self._towers:
                # What was embedded with on another device is not kept beside it.
                self._towers = {k: v for k, v in self._towers.items() if k[0] == device}
                tower = self._image
                if key != ("cpu", "fp32"):
                    tower = copy.deepcopy(tower).to(device, _DTYPES[precision])
                for module in tower.modules():
                    # The running statistics of other families, which do not survive eight bits either.
                    if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
                        module.float()
                # channels_last doubles a ResNet's speed on a CPU and leaves transformers alone.
                self._towers[key] = tower.to(memory_format=torch.channels_last)
            return self._towers[key]

    def _at_once(self) -> int:
        """Return how many images of a batch stay in a CPU's cache."""
        with lock(self.backbone.id), unforked():
            if self._largest_activation is None:
                self._largest_activation = _largest_activation(self._image, self._geometry)
        return max(1, _CACHED * torch.get_num_threads() // self._largest_activation)

    def embed_images(self, pixels: np.ndarray, device: str, precision: str) -> np.ndarray:
        """Embed pixels, uint8 of shape (n, height, width, 3); float32 (n, width) of length 1."""
        tower = self._tower(device, precision)
        parts = [pixels]
        if device == "cpu":
            parts = np.array_split(pixels, max(1, -(-len(pixels) // self._at_once())))
        return np.concatenate([self._embed_at_once(tower, p, device, precision) for p in parts])

    def _embed_at_once(self, tower, pixels, device, precision) -> np.ndarray:
        with unforked(), torch.no_grad():
            x = torch.from_numpy(pixels).to(device).permute(0, 3, 1, 2)
            x = x.to(torch.float32).div_(255)
            mean, std = (
                torch.tensor(v, device=device)[:, None, None] for v in (self._mean, self._std)
            )
            x = x.sub_(mean).div_(std).to(_DTYPES[precision])
            embedding = tower(x)
            if isinstance(embedding, tuple):  # CoCa's tower returns its tokens too
                embedding = embedding[0]
            embedding = torch.nn.functional.normalize(embedding.float(), dim=-1).cpu().numpy()
        if not np.isfinite(embedding).all():  # NaN would pass for images that could not be read
            raise ValueError(
                f"The backbone {self.backbone.id!r} makes NaN or infinity in {precision} of one picture in "
                f"{len(pixels)}. Embed with precision='fp32', or look at its weights."
            )
        return embedding

    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        """Embed texts on the CPU in fp32; ndarray of float32 (n, embedding width), L2-normalised."""
        with lock(self.backbone.id):
            if self._tokenizer is None:
                self._tokenizer = self.text.tokenizer()
            tokens = self._tokenizer(list(texts))
            self._warn_if_cut(texts, tokens.shape[-1])
        with unforked(), torch.no_grad():
            embedding = self.text.encode(tokens).float()
            return torch.nn.functional.normalize(embedding, dim=-1).numpy()

    def _warn_if_cut(self, texts, context):
        encode = getattr(self._tokenizer, "encode", None)
        if encode is None:
            return
        for text in texts:
            if len(encode(text)) + 2 > context:
                warnings.warn(
                    f"The text {text!r} is longer than the {context} tokens that {self.backbone.id} reads; "
                    "its end is cut off. Shorten the class name or the template.",
                    UserWarning,
                    stacklevel=3,
                )
                return

    def is_faithful(self, device: str, precision: str) -> bool:
        """Return whether eight photographs keep a cosine above 0.999 to their fp32 embedding."""
        probe = _probe_images(self._geometry)
        exact = self.embed_images(probe, device, "fp32")
        fast = self.embed_images(probe, device, precision)
        # Only one of the two is used from here on.
        faithful = float((exact * fast).sum(1).min()) > _FAITHFUL
        with lock(self.backbone.id):
            self._towers.pop((device, "fp32" if faithful else precision), None)
        return faithful

    def takes_bf16(self, device: str) -> bool:
        """Return whether bf16 is faithful on a device; tried once."""
        with lock(self.backbone.id):
            if device not in self._takes_bf16:
                try:
                    self._takes_bf16[device] = self.is_faithful(device, "bf16")
                except (RuntimeError, ValueError, TypeError) as error:
                    # A model may hold numbers that stay fp32; want of memory says nothing of bf16.
                    if "memory" in str(error).lower():
                        raise
                    self._takes_bf16[device] = False
                    self._towers.pop((device, "bf16"), None)
            return self._takes_bf16[device]


def _largest_activation(tower: torch.nn.Module, geometry: Geometry) -> int:
    """Return how many numbers the widest layer of a tower makes of one image."""
    sizes = []

    def note(module, inputs, output):
        if isinstance(output, torch.Tensor):
            sizes.append(output.numel())

    # Other threads embed with the tower meanwhile: the hooks go to a copy that has the same weights.
    weights = {id(tensor): tensor for tensor in [*tower.parameters(), *tower.buffers()]}
    tower = copy.deepcopy(tower, weights)
    for module in tower.modules():
        if not isinstance(module, torch.jit.ScriptModule):  # which takes no hooks
            module.register_forward_hook(note)
    pixels = torch.zeros(1, 3, geometry.height, geometry.width)
    with torch.no_grad():
        tower(pixels)
    return max([pixels.numel(), *sizes])


def load(backbone: BackboneLike) -> Model:
    """Load a backbone, unless this process has done so and its files have not changed since."""
    with lock(backbone.id):
        fingerprint = backbone.fingerprint()
        model = runtime.model(backbone, fingerprint)
        if model is None:
            try:
                model = Model(backbone)
            except MemoryError:
                raise
            except Exception as error:  # torch, safetensors, timm and the hub have each their own
                raise RuntimeError(
                    f"The backbone {backbone.id!r} ({backbone!s}) could not be loaded: "
                    f"{type(error).__name__}: {error}"
                ) from error
            runtime.keep(backbone, fingerprint, model)
        return model


def resolve_device(device: str, *, fitted: bool = False) -> str:
    """Turn ``"auto"`` into the best device that is here; check any other.

    What was fitted where a device is goes on with the CPU where it is missing, and warns.
    """
    if device == "auto":
        device = "mps" if torch.backends.mps.is_available() else "cpu"
        if torch.cuda.is_available():
            device = "cuda"
    try:
        kind, index = torch.device(device).type, torch.device(device).index or 0
    except RuntimeError as error:
        raise ValueError(
            f"device={device!r} is not a torch device: {str(error).splitlines()[0]}"
        ) from None
    if kind == "cuda" and torch.cuda._is_in_bad_fork():
        raise RuntimeError(
            "This process was forked from one that uses CUDA, and CUDA does not survive a fork. Start workers "
            "with 'spawn' or loky (joblib's default), or pass device='cpu'."
        )
    available: dict[str, Callable[[], bool]] = {
        "cuda": lambda: torch.cuda.is_available() and index < torch.cuda.device_count(),
        "mps": torch.backends.mps.is_available,
    }
    if not available.get(kind, lambda: _works(device))():
        if not fitted:
            raise ValueError(
                f"device={device!r} is not available here. Use device='auto' or 'cpu'."
            )
        warnings.warn(
            f"device={device!r} is not available here; the images are embedded on the CPU. Set "
            "device='auto' or 'cpu' to do so without this warning.",
            UserWarning,
            stacklevel=6,
        )
        return "cpu"
    return device


def _works(device: str) -> bool:
    """Return whether a tensor can be made on a device."""
    try:
        torch.empty(1, device=device)
    except (AssertionError, NotImplementedError, RuntimeError):
        return False
    return True


def multiplies_in_bf16(device: str) -> bool:
    """Return whether a device's hardware has bf16 multiplication, not an emulation."""
    if device.startswith("cuda"):
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device == "cpu":
        checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
        return any(getattr(torch.cpu, name, lambda: False)() for name in checks)
    return False


@unforked()
def _probe_images(geometry: Geometry) -> np.ndarray:
    """Return eight real photographs to compare precisions on: crops of scikit-learn's two."""
    from PIL import Image
    from sklearn.datasets import load_sample_images

    crops = []
    for photo in load_sample_images().images:
        image = Image.fromarray(photo)
        for left in (0, 213):
            for side in (427, 160):
                crops.append(geometry.apply(image.crop((left, 0, left + side, side))))
    return np.stack(crops)
