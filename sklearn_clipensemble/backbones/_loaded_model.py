"""A model in memory as a backbone."""

from __future__ import annotations

import copy
import hashlib
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from sklearn_clipensemble._runtime import cached_property, unforked
from sklearn_clipensemble.backbones._clip_models import image_tower, text_tower
from sklearn_clipensemble.backbones._interface import BackboneLike, TextTower, Towers, count_gflops
from sklearn_clipensemble.backbones._open_clip import open_clip
from sklearn_clipensemble.backbones._preprocess import read_preprocess
from sklearn_clipensemble.backbones._weights import join_digests
from sklearn_clipensemble.images import Geometry

if TYPE_CHECKING:
    import torch

#: The number of words of CLIP's own tokenizer.
_CLIP_WORDS = 49408


class Backbone(BackboneLike):
    """A model in memory, to embed images with like any other backbone.

    The model is copied: training it further changes nothing here. Pickles hold its weights.

    Parameters
    ----------
    model : torch.nn.Module
        An open_clip model, or any module from pixels (n, 3, height, width), normalised, to vectors
        (n, width). Of a timm model, leave out the classifier (``num_classes=0``).
    id : str
        What names its columns; without ``/`` and ``:``, which mark backbones that anybody can find.
    preprocess : transform, dict or None, default=None
        What a picture goes through before the model: the transform of open_clip or timm for
        evaluation, a Compose of torchvision's ``Resize``, ``CenterCrop``, ``ToTensor`` and
        ``Normalize``, torchvision's transforms of pretrained weights, or a dict with ``size``
        (pixels, or height and width), ``mean``, ``std`` (of channels in [0, 1]) and, optionally,
        ``interpolation`` (default "bicubic"), ``resize_mode`` ("shortest", the default: shorter side
        to size, then the middle; "squash"; "longest": padded), ``fill_color`` and ``resized`` (resize
        to this, then cut out the middle). None asks a model of open_clip or timm.
    tokenizer : callable or None, default=None
        From a list of texts to tokens, for an open_clip model. None takes CLIP's own where the model
        has its vocabulary; of another vocabulary, the model then has no text tower here.

    Attributes
    ----------
    id : str
        What names its columns.
    width : int
        The number of columns of its embedding.
    has_text : bool
        Whether it has a text tower, and so zero-shot logits.

    Raises
    ------
    TypeError
        If the model is no module, or ``preprocess`` of no known kind.
    ValueError
        If the id cannot name columns, a step of ``preprocess`` is unknown, or the model does not
        turn pixels into vectors.

    See Also
    --------
    CLIPEmbedder : Embeds images with backbones.

    Examples
    --------
    >>> import torch
    >>> from sklearn.datasets import load_sample_images
    >>> from sklearn_clipensemble import Backbone, CLIPEmbedder
    >>> colours = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(2), torch.nn.Flatten())
    >>> backbone = Backbone(colours, id="colours", preprocess={"size": 32, "mean": 0, "std": 1})
    >>> table = CLIPEmbedder([backbone, "tiny/ViT-4"]).fit_transform(load_sample_images().images)
    >>> table.shape, table.columns[0]
    ((2, 140), 'colours__embedding__0')
    """

    # Values, since the properties of BackboneLike would hide what __init__ finds out.
    width: int = 0
    geometry: Geometry = Geometry()
    _model: Any
    _is_clip: bool
    _normalise: tuple[tuple[float, ...], tuple[float, ...]]
    _tokenizer: Any
    _fingerprint: str

    def __init__(
        self,
        model: torch.nn.Module,
        *,
        id: str,
        preprocess: Callable | Mapping | None = None,
        tokenizer: Callable | None = None,
    ):
        import torch

        if not isinstance(model, torch.nn.Module):
            raise TypeError(
                f"Backbone: model is a {type(model).__name__}; expected a torch.nn.Module. A model that has "
                "a name is named: 'ViT-B-32/openai', 'timm:NAME', 'hf-hub:ID'."
            )
        _check_id(id)
        is_clip = all(hasattr(model, name) for name in ("visual", "encode_text", "logit_scale"))
        geometry, mean, std = read_preprocess(preprocess, model)
        if is_clip and tokenizer is None:
            tokenizer = _clip_tokenizer(model)
        with unforked(), torch.no_grad():
            model = _copy(model)
            digest = _digest_weights(model)
            text = re.sub("0x[0-9a-f]+", "", f"{model} {geometry} {mean} {std}")
            self.__dict__.update(
                id=str(id),
                has_text=is_clip and tokenizer is not None,
                geometry=geometry,
                _model=model,
                _is_clip=is_clip,
                _normalise=(mean, std),
                _tokenizer=tokenizer if is_clip else None,
            )
            vector = self._try()
            # What neither the weights nor their names tell shows in what the model does.
            text += f"{(100 * vector).round().int().tolist()}"
            if tokenizer is not None and self.has_text:
                text += f"{tokenizer(['a photo of a cat.']).tolist()}"
        self.__dict__.update(width=len(vector), _fingerprint=join_digests(digest, text))

    def __setattr__(self, name, value):
        raise AttributeError(f"{self!r} cannot be changed. Make another Backbone.")

    def __repr__(self):
        return f"Backbone({type(self._model).__name__}(...), id={self.id!r})"

    def __eq__(self, other):
        return isinstance(other, Backbone) and hash(self) == hash(other)

    def __hash__(self):
        return hash((self.id, self._fingerprint))

    def __copy__(self):
        return self

    def __deepcopy__(self, memo):
        return self  # it never changes; scikit-learn's clone copies what is in lists

    @cached_property
    def gflops(self) -> float:
        """Billions of floating-point operations for one image; a multiply-add is two."""
        return count_gflops(self.architecture(), self.geometry)

    def fingerprint(self) -> str:
        """Return what tells the model from others.

        Returns
        -------
        str
            A digest of the weights, and one of all else.
        """
        return self._fingerprint

    def load(self) -> Towers:
        """Return the image tower.

        Returns
        -------
        Towers
            The image tower, which is not to be changed: nothing else has its weights.
        """
        mean, std = self._normalise
        if not self._is_clip:
            return Towers(self._model, mean, std)
        return image_tower(self._model, mean, std)

    def load_text(self) -> TextTower:
        """Return the text tower.

        Returns
        -------
        TextTower
            The text tower of a model that has one.
        """
        return text_tower(self._model, lambda: self._tokenizer)

    def _try(self) -> torch.Tensor:
        """Return the vector of a made-up picture, of length 1."""
        import torch

        size = (1, 3, self.geometry.height, self.geometry.width)
        pixels = torch.linspace(0, 40, 3 * size[2] * size[3]).sin().reshape(size)
        try:
            vector = self.load().image(pixels)
        except Exception as error:
            raise ValueError(
                f"The model of backbone {self.id!r} fails on pixels of the shape {size}: {error}"
            ) from error
        if isinstance(vector, tuple) and self._is_clip:  # CoCa's tokens come too
            vector = vector[0]
        is_tensor = isinstance(vector, torch.Tensor)
        shape = tuple(vector.shape) if is_tensor else ()
        if len(shape) != 2 or shape[0] != 1 or not shape[1] or not vector.is_floating_point():
            got = (
                f"a {vector.dtype} tensor of shape {shape}" if is_tensor else type(vector).__name__
            )
            raise ValueError(
                f"The model of backbone {self.id!r} makes {got} of one picture; expected vectors, a tensor "
                "of shape (1, width). Wrap it in a module that returns them, pooled."
            )
        if not vector.isfinite().all():
            raise ValueError(
                f"The model of backbone {self.id!r} makes NaN or infinity of a picture."
            )
        return torch.nn.functional.normalize(vector[0].float(), dim=0)


def _check_id(id):
    bad = [part for part in ("/", ":", "__embedding__", "__logit__") if part in str(id)]
    if not isinstance(id, str) or not id or bad:
        raise ValueError(
            f"Backbone: id={id!r} cannot name the columns of a model in memory; expected a text such as "
            "'my-model', without '/', ':', '__embedding__' and '__logit__'."
        )


def _copy(model: torch.nn.Module) -> torch.nn.Module:
    """Return a copy on the CPU in fp32; the device of the original need not hold it too."""
    import torch

    copies: dict[int, Any] = {
        id(t): torch.nn.Parameter(t.detach().to("cpu", copy=True), requires_grad=False)
        for t in model.parameters()
    }
    copies |= {id(t): t.detach().to("cpu", copy=True) for t in model.buffers()}
    return copy.deepcopy(model, copies).float().eval()


def _digest_weights(model) -> str:
    digest = hashlib.sha256()
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        digest.update(f"{name} {tuple(tensor.shape)}".encode())
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()


def _clip_tokenizer(model) -> Callable | None:
    """Return CLIP's own tokenizer where a model has its vocabulary."""
    text = getattr(model, "text", model)
    if getattr(text, "vocab_size", None) != _CLIP_WORDS:
        return None
    return open_clip().SimpleTokenizer(context_length=text.context_length)
