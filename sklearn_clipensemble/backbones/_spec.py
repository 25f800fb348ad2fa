"""Names of backbones: what a user may write, and what it stands for."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sklearn_clipensemble._process import seen_folders
from sklearn_clipensemble.table._ids import without_prefix

_TINY_FOLDER = Path(__file__).parent / "tiny"
_TINY = ("RN-1221", "RN-2222", "ViT-4", "ConvNeXt-zepto", "EdgeNeXt-xxs")
#: The paper's nine, cheapest first, and where the hub keeps them: known here so that a
#: default that cannot be downloaded fails before open_clip and torch are imported.
_OPENAI = {
    "RN50": "timm/resnet50_clip.openai",
    "RN101": "timm/resnet101_clip.openai",
    "ViT-B-32": "timm/vit_base_patch32_clip_224.openai",
    "ViT-B-16": "timm/vit_base_patch16_clip_224.openai",
    "RN50x4": "timm/resnet50x4_clip.openai",
    "RN50x16": "timm/resnet50x16_clip.openai",
    "RN50x64": "timm/resnet50x64_clip.openai",
    "ViT-L-14": "timm/vit_large_patch14_clip_224.openai",
    "ViT-L-14-336": "timm/vit_large_patch14_clip_336.openai",
}

#: The same weights in the format of transformers, which open_clip does not read.
_IN_TRANSFORMERS = {
    "openai/clip-vit-base-patch32": "ViT-B-32/openai",
    "openai/clip-vit-base-patch16": "ViT-B-16/openai",
    "openai/clip-vit-large-patch14": "ViT-L-14/openai",
    "openai/clip-vit-large-patch14-336": "ViT-L-14-336/openai",
}

#: Preset name -> ids of its backbones.
PRESETS: dict[str, tuple[str, ...]] = {
    "tiny": tuple(f"tiny/{name}" for name in _TINY),
    "openai": tuple(f"{name}/openai" for name in _OPENAI),
    "openai-small": tuple(f"{name}/openai" for name in list(_OPENAI)[:4]),
}

_BUNDLED = "tiny/"
_LOCAL = "local-dir:"
_HUB = "hf-hub:"


@dataclass(frozen=True)
class Backbone:
    """One CLIP model by name; nothing is loaded.

    Parameters
    ----------
    id : str
        What names its columns, such as ``"ViT-B-32/openai"``.
    source : str
        Where it comes from: an open_clip model name, ``local-dir:PATH``,
        ``hf-hub:ID`` or, for a bundled one, its id.
    tag : str or None
        open_clip's tag of the pretrained weights; None for folders and hub ids.
    """

    id: str
    source: str
    tag: str | None = None

    @property
    def folder(self) -> Path | None:
        """The folder that holds the weights; None where open_clip knows the way."""
        if self.source.startswith(_BUNDLED):
            return _TINY_FOLDER / self.source.removeprefix(_BUNDLED)
        return Path(self.source.removeprefix(_LOCAL)) if self.source.startswith(_LOCAL) else None

    @property
    def open_clip_name(self) -> str:
        """What open_clip's functions take as the name of the model."""
        return self.source if self.folder is None else f"{_LOCAL}{self.folder}"

    @property
    def hub_repository(self) -> str | None:
        """The repository on the Hugging Face hub, where it is known without asking open_clip."""
        return _OPENAI.get(self.source) if self.tag == "openai" else self.hub_id

    @property
    def hub_id(self) -> str | None:
        """The id on the Hugging Face hub, for ``hf-hub:`` names."""
        return self.source.removeprefix(_HUB) if self.source.startswith(_HUB) else None


def resolve(backbones: str | os.PathLike | Sequence) -> list[Backbone]:
    """Turn what a user wrote into backbones.

    Parameters
    ----------
    backbones : str, path or sequence of them
        Each a preset (``"tiny"``, ``"openai"``, ``"openai-small"``), an
        open_clip name with or without tag (``"ViT-B-32/laion2b_s34b_b79k"``,
        ``("ViT-B-32", "openai")``; without one ``openai``), ``local-dir:PATH``,
        ``hf-hub:ID`` or an id that :func:`list_backbones` shows.

    Returns
    -------
    list of Backbone

    Raises
    ------
    ValueError
        If a name is unknown (the error lists near ones), if there is none, or
        if two backbones have the same id.
    FileNotFoundError
        If a folder is not an open_clip folder.
    TypeError
        If an entry is neither a name nor a (name, tag) pair.
    """
    if isinstance(backbones, str | os.PathLike):
        backbones = [backbones]
    found: list[Backbone] = []
    for entry in backbones:
        if isinstance(entry, str) and entry in PRESETS:
            found += [_resolve_one(id) for id in PRESETS[entry]]
        else:
            found.append(_resolve_one(entry))
    if not found:
        raise ValueError(
            "backbones is empty; name at least one, or a preset such as 'openai-small'."
        )
    ids = [b.id for b in found]
    twice = next((i for i in ids if ids.count(i) > 1), None)
    if twice is not None:
        raise ValueError(
            f"Two backbones have the id {twice!r}. Name each once; two folders of the same name must be renamed."
        )
    return found


def from_id(id: str) -> Backbone:
    """Return the backbone that a table's columns name: a folder that this process has used, or a name.

    Raises
    ------
    ValueError
        If the id is unknown, or if several folders of this name were used.
    """
    folders = sorted(f for f in tuple(seen_folders.get(id, ())) if os.path.isdir(f))
    if len(folders) > 1:
        raise ValueError(
            f"Several folders named {id!r} were used in this process: {folders}. Say which one with "
            f"backbones=['local-dir:PATH']."
        )
    if folders:
        return Backbone(id, _LOCAL + folders[0])
    named = without_prefix(id)
    if named != id:
        raise ValueError(
            f"The columns of backbone {named!r} bear the prefix {id.removesuffix(named)!r}, as "
            "ColumnTransformer and FeatureUnion put it before names. Build those with "
            "verbose_feature_names_out=False."
        )
    try:
        return _resolve_one(id)
    except ValueError as error:
        raise ValueError(
            f"{error} A folder that another process used is named by backbones=['local-dir:PATH']."
        ) from None


def _resolve_one(entry) -> Backbone:
    if isinstance(entry, Backbone):
        return _check_folder(entry) if entry.source.startswith(_LOCAL) else entry
    if (
        isinstance(entry, tuple | list)
        and len(entry) == 2
        and all(isinstance(e, str) for e in entry)
    ):
        return _resolve_open_clip(*map(str, entry))
    if isinstance(entry, os.PathLike):
        entry = _LOCAL + os.fspath(entry)
    if not isinstance(entry, str):
        raise TypeError(
            f"A backbone is named by a string, a folder or a (name, tag) pair, got {type(entry).__name__}. A "
            "model in memory is saved as a folder first: its weights as open_clip_model.safetensors beside an "
            "open_clip_config.json, then 'local-dir:PATH'."
        )
    entry = str(entry)  # NumPy's texts are written otherwise than Python's
    if entry.startswith(_BUNDLED):
        if entry not in PRESETS["tiny"]:
            raise ValueError(
                f"There is no bundled backbone {entry!r}; there are {', '.join(PRESETS['tiny'])}."
            )
        return Backbone(entry, entry)
    if entry.startswith(_LOCAL):
        return _resolve_folder(entry)
    if entry.startswith(_HUB):
        return Backbone(entry, entry)
    return _resolve_open_clip(entry, None)


def _resolve_folder(entry: str) -> Backbone:
    folder = Path(entry.removeprefix(_LOCAL)).expanduser().resolve()
    return _check_folder(Backbone(folder.name, f"{_LOCAL}{folder}"))


def _check_folder(backbone: Backbone) -> Backbone:
    """Return the backbone of a folder, if the folder is one of open_clip's."""
    entry, folder = backbone.source, backbone.folder
    if not folder.is_dir():
        raise FileNotFoundError(f"The folder of backbone {entry!r} does not exist: {folder}.")
    if not (folder / "open_clip_config.json").is_file():
        raise FileNotFoundError(
            f"The folder of backbone {entry!r} holds no open_clip_config.json. An open_clip folder has that "
            'file ({"model_cfg": ..., "preprocess_cfg": ...}) and open_clip_model.safetensors.'
        )
    return remember(backbone)


def remember(backbone: Backbone) -> Backbone:
    """Note where the id of a folder's backbone leads in this process; return the backbone."""
    if backbone.source.startswith(_LOCAL):
        seen_folders.setdefault(backbone.id, set()).add(str(backbone.folder))
    return backbone


def _resolve_open_clip(name: str, tag: str | None) -> Backbone:
    known = name.removesuffix("/openai")
    if known in _OPENAI and tag in (None, "openai"):
        return Backbone(f"{known}/openai", known, "openai")

    from sklearn_clipensemble.backbones._open_clip import open_clip

    models = set(open_clip().list_models())

    def clean(text):
        return text.replace("/", "-").replace("@", "-").removesuffix("px")

    candidates = [(clean(name), tag)]
    if tag is None and "/" in name:
        head, _, tail = name.rpartition("/")
        candidates.insert(0, (clean(head), tail))
    model, tag = next(((m, t) for m, t in candidates if m in models), (None, None))
    if model is None:
        import difflib

        near = difflib.get_close_matches(clean(name), sorted(models | set(PRESETS)), n=4)
        raise ValueError(
            f"Unknown backbone {name!r}. "
            + (f"Did you mean {', '.join(near)}? " if near else "")
            + _other_name(name)
            + "A backbone is an open_clip name such as 'ViT-B-32/openai', 'local-dir:PATH', 'hf-hub:ID' or a "
            f"preset ({', '.join(PRESETS)})."
        )
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
    return Backbone(f"{model}/{tag}", model, tag)


def _other_name(name: str) -> str:
    """Say what to write for a folder or a repository on the Hugging Face hub; empty for others."""
    if os.path.isdir(os.path.expanduser(name)) or name.startswith((".", "~", os.sep)):
        return f"A folder is named '{_LOCAL}{name}'. "
    repository = re.sub(r"^(https?://)?(www\.)?(huggingface\.co|hf\.co)/", "", name).rstrip("/")
    if repository in _IN_TRANSFORMERS:
        return (
            f"The weights of {repository!r} on the Hugging Face hub, which are there for transformers, are "
            f"{_IN_TRANSFORMERS[repository]!r} here; a repository in open_clip's format would be named "
            f"'{_HUB}{repository}'. "
        )
    if re.fullmatch(r"[\w.-]+/[\w.-]+", repository):
        return (
            f"A repository on the Hugging Face hub is named '{_HUB}{repository}'; it must be in "
            "open_clip's format. "
        )
    return ""
