"""What a backbone is: the names to write for a family of models, so that everything else works."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from sklearn_clipensemble._runtime import cached_property, unforked
from sklearn_clipensemble.images import Geometry

if TYPE_CHECKING:
    import torch


class BackboneLike(Protocol):
    """A model that turns pixels into a vector: what is known of it, and how to load it.

    A small value that can be hashed, compared and pickled. Nothing is loaded before ``load``.
    The methods with a body here suit what is at hand anyway.
    """

    #: What names its columns.
    id: str
    #: Whether it has a text tower, and so zero-shot logits.
    has_text: bool

    @property
    def width(self) -> int:
        """The number of columns of its embedding."""

    @property
    def geometry(self) -> Geometry:
        """How a picture becomes its pixels."""

    @property
    def gflops(self) -> float:
        """Billions of floating-point operations for one image; a multiply-add is two."""

    def architecture(self) -> torch.nn.Module:
        """Return the image tower; without weights, on the device "meta", where that is quicker."""
        return self.load().image

    def fingerprint(self) -> str:
        """Return a digest of the weights and one of the settings, ``weights-settings``."""

    def load(self) -> Towers:
        """Return the image tower, in evaluation mode on the CPU; fetch its weights if need be."""

    def load_text(self) -> TextTower:
        """Return the text tower, in evaluation mode on the CPU in fp32, where there is one."""
        raise TypeError(f"The backbone {self.id!r} has no text tower.")

    def require(self) -> None:
        """Raise an error at once where its weights are not here and cannot be fetched."""

    def pack(self) -> dict[str, bytes]:
        """Return the files to take along in a pickle, by name."""
        return {}

    def unpack(self, files: dict[str, bytes], fingerprint: str) -> BackboneLike:
        """Return this backbone where it is at hand, else the one that packed files make."""
        return self


@dataclass(frozen=True)
class TextTower:
    """The half of a CLIP model that embeds texts."""

    #: Tokens (n, context) to embeddings (n, width).
    encode: Callable[[torch.Tensor], torch.Tensor]
    #: Makes the tokenizer, late: it may need files that embedding images does not.
    tokenizer: Callable[[], Callable[[list[str]], torch.Tensor]]
    #: A logit is the cosine times the scale, plus the bias.
    logit_scale: float = 1.0
    logit_bias: float = 0.0

    @cached_property
    def tokenize(self) -> Callable[[list[str]], torch.Tensor]:
        """Return the tokenizer, made once."""
        return self.tokenizer()


@dataclass(frozen=True)
class Towers:
    """An image tower that was loaded, and what it takes to feed it."""

    #: Pixels (n, 3, height, width) to embeddings (n, width), or a tuple of these and more.
    image: torch.nn.Module
    #: What is taken from, and what divides, the channels scaled to [0, 1].
    mean: Sequence[float]
    std: Sequence[float]


def count_gflops(tower: torch.nn.Module, geometry: Geometry) -> float:
    """Count what one image costs a tower; a multiply-add is two operations.

    The tower lies on the device "meta" or is copied there: nothing is computed, unless it looks at its
    own numbers or is TorchScript. A ValueError where it fails both ways.
    """
    for device in ("meta", "cpu"):
        try:
            return _count(tower, geometry, device)
        except Exception as error:  # whatever a stranger's module raises
            problem = error
    raise ValueError(
        f"The operations of the image tower, a {type(tower).__name__}, cannot be counted: {problem}"
    ) from problem


def _count(tower, geometry, device):
    import torch
    from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

    tower = copy.deepcopy(tower).to(device).eval()
    # Without gradients a CPU takes fused layers of transformers, which the counter does not know; nor
    # does it know attention as it is there.
    fused = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    unknown = {fused: lambda q, k, v, *args, out_shape, **kwargs: sdpa_flop_count(q, k, v)}
    gradients = device == "cpu"
    for parameter in tower.parameters():
        parameter.requires_grad_(gradients and parameter.is_floating_point())
    with (
        unforked(),
        torch.device(device),
        torch.set_grad_enabled(gradients),
        FlopCounterMode(display=False, custom_mapping=unknown) as counter,
    ):
        tower(torch.zeros(1, 3, geometry.height, geometry.width))
    return counter.get_total_flops() / 1e9


def count_parameters(tower: torch.nn.Module) -> float:
    """Count the parameters of a tower, in millions."""
    return sum(p.numel() for p in tower.parameters()) / 1e6
