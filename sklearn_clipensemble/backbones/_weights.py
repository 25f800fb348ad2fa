"""Where a backbone's weights lie, whether they can be had, and their fingerprint."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import threading
import urllib.error
import urllib.request
from pathlib import Path

from sklearn_clipensemble.backbones._open_clip import offline, open_clip
from sklearn_clipensemble.backbones._spec import Backbone

_HUB_FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
_FOLDER_FILES = (
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "open_clip_pytorch_model.bin",
    "model.safetensors",
    "pytorch_model.bin",
)
#: Seconds to wait for a sign of life before a download is called impossible.
_PATIENCE = 4.0


def config(backbone: Backbone) -> dict:
    """Return open_clip's ``model_cfg`` of a backbone without loading weights."""
    if backbone.folder is not None:
        path = backbone.folder / "open_clip_config.json"
    elif backbone.hub_id is not None:
        path = _cached(backbone.hub_id, "open_clip_config.json") or _cached(
            backbone.hub_id, "config.json"
        )
        if path is None:
            _require_network(backbone, _hub_url())
            from huggingface_hub import hf_hub_download

            path = Path(hf_hub_download(backbone.hub_id, "open_clip_config.json"))
    else:
        return open_clip().get_model_config(backbone.source)
    try:
        return json.loads(path.read_text(encoding="utf-8"))["model_cfg"]
    except (ValueError, KeyError) as error:
        raise ValueError(
            f"The file {str(path)!r} of backbone {backbone.id!r} is no open_clip configuration "
            f'({{"model_cfg": ..., "preprocess_cfg": ...}}): {error!r}.'
        ) from error


def width(backbone: Backbone) -> int:
    """Return the width of a backbone's embedding without loading weights."""
    return int(config(backbone)["embed_dim"])


def require(backbone: Backbone) -> Path | None:
    """Make sure that a backbone's weights are here or can be fetched.

    Returns
    -------
    Path or None
        The file, or None where it is still to be downloaded.

    Raises
    ------
    FileNotFoundError
        If a folder lacks its weights.
    ConnectionError
        If the weights are not on this machine and the network does not answer
        within five seconds, or is forbidden. The message says what to do.
    """
    path = locate(backbone)
    if path is not None:
        return path
    if backbone.folder is not None:
        raise FileNotFoundError(
            f"The folder of backbone {backbone.id!r} holds no weights: {backbone.folder / _FOLDER_FILES[0]}."
        )
    _require_network(backbone, _source_url(backbone))
    return None


def locate(backbone: Backbone) -> Path | None:
    """Return the file of a backbone's weights if it is on this machine."""
    if backbone.folder is not None:
        return next((p for name in _FOLDER_FILES if (p := backbone.folder / name).is_file()), None)
    if backbone.hub_repository is not None:
        return next(
            (p for name in _HUB_FILES if (p := _cached(backbone.hub_repository, name))), None
        )
    published = open_clip().get_pretrained_cfg(backbone.source, backbone.tag)
    if published.get("hf_hub"):
        repo, name = os.path.split(published["hf_hub"])
        names = (str(Path(name).with_suffix(".safetensors")), name) if name else _HUB_FILES
        return next((p for n in names if (p := _cached(repo, n))), None)
    path = Path("~/.cache/clip").expanduser() / os.path.basename(published.get("url", ""))
    return path if path.is_file() else None


def fingerprint(backbone: Backbone) -> str:
    """Return a digest of a backbone's weights, 32 hexadecimal digits.

    Of the file's content; the model is not loaded. A backbone that is still to
    be downloaded is downloaded.
    """
    path = require(backbone)
    if path is None:
        from sklearn_clipensemble.backbones._model import load

        load(backbone)
        path = locate(backbone)
    stat = path.stat()
    return _digest(path, stat.st_size, stat.st_mtime_ns)


@functools.lru_cache(maxsize=256)
def _digest(path: Path, size: int, modified: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:32]


def _cached(repo: str, name: str) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(repo, name)
    return Path(found) if isinstance(found, str) else None


def _hub_url() -> str:
    return os.environ.get("HF_ENDPOINT", "https://huggingface.co")


def _source_url(backbone: Backbone) -> str:
    if backbone.hub_repository is not None:
        return _hub_url()
    published = open_clip().get_pretrained_cfg(backbone.source, backbone.tag)
    return _hub_url() if published.get("hf_hub") else published["url"]


def _require_network(backbone: Backbone, url: str) -> None:
    """Fail within five seconds where a download cannot work; the hub's own client tries for 46."""
    reason = "HF_HUB_OFFLINE is set" if offline() else _why_unreachable(url)
    if reason is not None:
        raise ConnectionError(
            f"The weights of backbone {backbone.id!r} are not on this machine and cannot be downloaded: "
            f"{reason}. Run once with network, point HF_HOME at a folder that holds them, or name a folder "
            "with 'local-dir:PATH'. To try things out offline, use the bundled backbones: "
            "CLIPEmbedder('tiny')."
        )


def _why_unreachable(url: str) -> str | None:
    outcome: list[str | None] = [f"{url} did not answer within {_PATIENCE:g} seconds"]

    def knock():
        try:
            request = urllib.request.Request(url, method="HEAD")
            urllib.request.urlopen(request, timeout=_PATIENCE).close()
            outcome[0] = None
        except urllib.error.HTTPError:
            outcome[0] = None  # it answered; open_clip will say what is wrong with the file
        except (OSError, ValueError) as error:
            outcome[0] = f"{url} cannot be reached ({getattr(error, 'reason', error)})"

    # In a thread, since looking up a name may hang for longer than any timeout says.
    thread = threading.Thread(target=knock, daemon=True)
    thread.start()
    thread.join(_PATIENCE)
    return outcome[0]
