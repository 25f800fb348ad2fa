"""One tower of an open_clip model in memory, and not the other."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from sklearn_clipensemble.backbones._open_clip import open_clip

if TYPE_CHECKING:
    import torch

#: The parts of a model that no text goes through; CoCa has a decoder.
_NOT_FOR_TEXT = ("visual", "text_decoder")
#: The classes whose ``attn_mask``, which no file holds, hides from each word those behind it.
_CAUSAL = ("CLIP", "TextTransformer")


def load_tower(source: dict[str, Any], path: Path, *, text: bool) -> torch.nn.Module:
    """Return a model that open_clip makes of ``source``, with one tower's weights from its file.

    Only that tower gets memory. The model is made on the device "meta", which takes no time for
    random weights either. Where that cannot be, or a tower holds numbers that no file does, such as
    tables of positions, it is made as a whole, and loses the other tower then.
    """
    model = _without_weights(source)
    own = [] if model is None else [m for n, m in model.named_modules() if _belongs(n, text)]
    if model is None or not all(_is_filled_by_files(module) for module in own):
        model = open_clip().create_model_from_pretrained(**source, return_transform=False)
    else:
        for module in own:
            module.to_empty(device="cpu", recurse=False)
            if type(module).__name__ in _CAUSAL and module.attn_mask is not None:
                module.attn_mask.fill_(float("-inf")).triu_(1)
        _fill(model, path, text)
    if text:
        _drop_what_texts_do_not_need(model)
    return model


def _belongs(name: str, text: bool) -> bool:
    """Return whether a module or a tensor of this name is of the text tower, or of the image tower."""
    part = name.partition(".")[0]
    return part not in _NOT_FOR_TEXT if text else part == "visual"


def _without_weights(source: dict[str, Any]) -> Any:
    """Return the model on the device "meta"; None where it cannot be made there."""
    import torch

    bare = {"device": "meta", "load_weights": False, "pretrained_text": False}
    try:
        with torch.device("meta"):
            return open_clip().create_model(**source, **bare)
    except Exception:  # whatever an architecture does with its numbers when it is made
        return None


def _is_filled_by_files(module: torch.nn.Module) -> bool:
    """Return whether files of weights hold all numbers that a module itself has."""
    import torch

    beside = {n for n in module._non_persistent_buffers_set if getattr(module, n) is not None}
    beside |= {name for name, value in vars(module).items() if torch.is_tensor(value)}
    return beside <= ({"attn_mask"} if type(module).__name__ in _CAUSAL else set())


def _drop_what_texts_do_not_need(model: torch.nn.Module) -> None:
    for name in _NOT_FOR_TEXT:
        if hasattr(model, name):
            delattr(model, name)


def _fill(model: Any, path: Path, text: bool) -> None:
    """Load the weights of one tower; an error where the file has others."""

    def load(weights, strict=True):
        own = {name: tensor for name, tensor in weights.items() if _belongs(name, text)}
        if not text:
            own = {name.removeprefix("visual."): tensor for name, tensor in own.items()}
            return model.visual.load_state_dict(own, strict=strict)
        _drop_what_texts_do_not_need(model)
        return type(model).load_state_dict(model, own, strict=strict)

    # open_clip translates what others have saved, and hands over the result by this one call.
    model.load_state_dict = load
    try:
        open_clip().load_checkpoint(model, str(path))
    finally:
        del model.load_state_dict
