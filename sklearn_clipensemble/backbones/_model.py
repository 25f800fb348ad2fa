"""What a process holds of a backbone: pixels and texts in, embeddings out."""

from __future__ import annotations

import contextlib
import copy
import functools
import math
import os
import warnings
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch

from sklearn_clipensemble._runtime import lock, return_memory, runtime, unforked
from sklearn_clipensemble.backbones._interface import BackboneLike, TextTower
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
    """What this process holds of a backbone: its towers, each from when it is needed.

    The image tower is kept on one device, in the precisions that are used; in fp32 on the CPU only
    where that is one of them. The text tower goes when nobody holds it any more.
    """

    def __init__(self, backbone: BackboneLike):
        self.backbone = backbone
        self._geometry = backbone.geometry
        self._largest_activation: int | None = None
        self._towers: dict[tuple[str, str], torch.nn.Module] = {}
        self._scaling: dict[str, list[torch.Tensor]] = {}
        self._takes_bf16: dict[str, bool] = {}
        self._text: Callable[[], TextTower | None] = lambda: None

    def _tower(self, device: str, precision: str) -> torch.nn.Module:
        """Return the image tower on a device in a precision, made once."""
        made = self._towers.get((device, precision))
        if made is not None:  # as for all images but the first
            return made
        with lock(self.backbone.id), unforked():
            key = device, precision
            if key not in self._towers:
                # What was embedded with on another device is not kept beside it.
                self._towers = {k: v for k, v in self._towers.items() if k[0] == device}
                tower = self._towers.get((device, "fp32"))
                if tower is None:
                    tower = self._load(device)
                if key != ("cpu", "fp32"):
                    tower = _converted(tower, device, _DTYPES[precision])
                for module in tower.modules():
                    # The running statistics of other families, which do not survive eight bits either.
                    if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
                        module.float()
                # channels_last doubles a ResNet's speed on a CPU and leaves transformers alone.
                self._towers[key] = tower.to(memory_format=torch.channels_last)
                return_memory()
            return self._towers[key]

    def _load(self, device: str) -> torch.nn.Module:
        """Return the image tower as it is loaded, and note what it takes to feed it on a device."""
        with _loading(self.backbone):
            towers = self.backbone.load()
        self._scaling[device] = [
            torch.tensor(values, device=device)[:, None, None]
            for values in (towers.mean, towers.std)
        ]
        if device == "cpu" and self._largest_activation is None:
            self._largest_activation = _largest_activation(towers.image, self._geometry)
        return towers.image

    def embed_images(self, pixels: np.ndarray, device: str, precision: str) -> np.ndarray:
        """Embed pixels, uint8 of shape (n, height, width, 3); float32 (n, width) of length 1."""
        tower, at_once = self._tower(device, precision), len(pixels)
        if device == "cpu" and self._largest_activation is not None:
            at_once = max(1, _CACHED * torch.get_num_threads() // self._largest_activation)
        if len(pixels) <= at_once:
            return self._embed_at_once(tower, pixels, device, precision)
        parts = np.array_split(pixels, -(-len(pixels) // at_once))
        return np.concatenate([self._embed_at_once(tower, p, device, precision) for p in parts])

    def _embed_at_once(self, tower, pixels, device, precision) -> np.ndarray:
        with unforked(), torch.inference_mode():
            x = torch.from_numpy(pixels).to(device).permute(0, 3, 1, 2)
            mean, std = self._scaling[device]
            x = x.to(torch.float32).div_(255).sub_(mean).div_(std).to(_DTYPES[precision])
            embedding = tower(x)
            if isinstance(embedding, tuple):  # CoCa's tower returns its tokens too
                embedding = embedding[0]
            embedding = embedding.float()
            length = torch.linalg.vector_norm(embedding, dim=-1, keepdim=True)
            finite = math.isfinite(length.sum())
            embedding = (embedding / length.clamp_min_(1e-12)).cpu().numpy()
        if not finite:  # NaN would pass for images that could not be read
            raise ValueError(
                f"The backbone {self.backbone.id!r} makes NaN or infinity in {precision} of one picture in "
                f"{len(pixels)}. Embed with precision='fp32', or look at its weights."
            )
        return embedding

    @property
    def text(self) -> TextTower:
        """The text tower, loaded unless somebody holds it: hold it while there are texts to embed."""
        with lock((self.backbone.id, "text")):  # who embeds images does not wait for it
            text = self._text()
            if text is None:
                with _loading(self.backbone):
                    text = self.backbone.load_text()
                self._text = weakref.ref(text)
            return text

    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        """Embed texts on the CPU in fp32; ndarray of float32 (n, embedding width), L2-normalised."""
        text = self.text
        with lock((self.backbone.id, "text")):
            tokens = text.tokenize(list(texts))
            self._warn_if_cut(texts, text.tokenize, tokens.shape[-1])
        with unforked(), torch.no_grad():
            embedding = text.encode(tokens).float()
            return torch.nn.functional.normalize(embedding, dim=-1).numpy()

    def _warn_if_cut(self, texts, tokenizer, context):
        encode = getattr(tokenizer, "encode", None)
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
        return_memory()
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


@contextlib.contextmanager
def _loading(backbone: BackboneLike) -> Iterator[None]:
    """Say which backbone could not be loaded."""
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:  # torch, safetensors, timm and the hub have each their own
        raise RuntimeError(
            f"The backbone {backbone.id!r} ({backbone!s}) could not be loaded: "
            f"{type(error).__name__}: {error}"
        ) from error


def load(backbone: BackboneLike, fingerprint: str | None = None) -> Model:
    """Return what this process holds of a backbone, afresh if its files have changed since.

    ``fingerprint`` is that of the files, where the caller has just looked.
    """
    with lock(backbone.id):
        fingerprint = fingerprint or backbone.fingerprint()
        model = runtime.model(backbone, fingerprint)
        if model is None:
            model = Model(backbone)
            runtime.keep(backbone, fingerprint, model)
        return model


def _converted(tower: torch.nn.Module, device: str, dtype: torch.dtype) -> torch.nn.Module:
    """Return a copy on a device in a precision; nothing is copied as it is before."""
    copies: dict[int, Any] = {}
    for tensor in [*tower.parameters(), *tower.buffers()]:
        numbers = tensor.is_floating_point() or tensor.is_complex()
        new = tensor.detach().to(device, dtype if numbers else tensor.dtype, copy=True)
        if isinstance(tensor, torch.nn.Parameter):
            new = torch.nn.Parameter(new, requires_grad=tensor.requires_grad)
        copies[id(tensor)] = new
    return copy.deepcopy(tower, copies).to(device, dtype)  # TorchScript copies all by itself


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


@functools.lru_cache(maxsize=1)  # backbones that preprocess alike often stand side by side
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
