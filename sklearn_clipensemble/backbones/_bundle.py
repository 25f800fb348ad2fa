"""Backbones inside a pickle: their files as bytes, and back into a folder."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path

from sklearn_clipensemble.backbones._spec import Backbone
from sklearn_clipensemble.backbones._weights import fingerprint, locate, obtain, settings

_CONFIG = "open_clip_config.json"


def pack(backbone: Backbone) -> dict[str, bytes]:
    """Return the files of an open_clip folder that holds a backbone, whatever form it has here."""
    path, cfg = obtain(backbone), settings(backbone)
    files = {}
    if backbone.tag is None:  # what a tokenizer may need beside the weights
        files = {
            f.name: f.read_bytes()
            for f in path.parent.iterdir()
            if f.suffix in (".json", ".txt", ".model") and f.is_file()
        }
    elif cfg["quick_gelu"]:
        cfg["model_cfg"]["quick_gelu"] = True
    config = {"model_cfg": cfg["model_cfg"], "preprocess_cfg": cfg["preprocess_cfg"]}
    files[_CONFIG] = json.dumps(config).encode()
    safe = path.suffix == ".safetensors"
    name = "open_clip_model.safetensors" if safe else "open_clip_pytorch_model.bin"
    return files | {name: path.read_bytes()}


def is_here(backbone: Backbone, expected: str) -> bool:
    """Return whether this machine has a backbone with a given fingerprint."""
    return locate(backbone) is not None and fingerprint(backbone) == expected


def unpack(backbone: Backbone, files: dict[str, bytes], digest: str) -> Backbone:
    """Write the files of a backbone into the user's cache, once, and return it under its old id."""
    home = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "sklearn_clipensemble"
    folder = home / digest
    if not folder.is_dir():
        home.mkdir(parents=True, exist_ok=True)
        # Whole or not at all, also when several processes load the same pickle.
        draft = Path(tempfile.mkdtemp(dir=home))
        for name, content in files.items():
            (draft / Path(name).name).write_bytes(content)
        try:
            draft.rename(folder)
        except OSError:
            shutil.rmtree(draft)
            if not folder.is_dir():
                raise
    return Backbone(backbone.id, f"local-dir:{folder}")
