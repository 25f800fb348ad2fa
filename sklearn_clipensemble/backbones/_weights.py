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

from sklearn_clipensemble._process import lock
from sklearn_clipensemble.backbones._open_clip import offline, open_clip
from sklearn_clipensemble.backbones._spec import Backbone
from sklearn_clipensemble.images import Geometry

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
#: Seconds to wait for a sign of life before a download is called impossible.
_PATIENCE = 4.0


def settings(backbone: Backbone) -> dict:
    """Return everything but the weights that makes a backbone, without loading weights.

    Returns
    -------
    dict
        ``model_cfg``, ``preprocess_cfg`` and ``quick_gelu``, as open_clip means
        them. The configuration of a hub id is fetched if it has to be.

    Raises
    ------
    ValueError
        If the configuration of a folder or hub id is not open_clip's.
    ConnectionError
        If the configuration of a hub id cannot be had.
    """
    if backbone.tag is not None:
        published = open_clip().get_pretrained_cfg(backbone.source, backbone.tag)
        return {
            "model_cfg": open_clip().get_model_config(backbone.source),
            "preprocess_cfg": {
                k: v for k, v in published.items() if k not in ("url", "hf_hub", "quick_gelu")
            },
            "quick_gelu": bool(published.get("quick_gelu")),
        }
    folder = backbone.folder or _download(backbone, backbone.hub_id, [_CONFIG]).parent
    try:
        config = json.loads((folder / _CONFIG).read_text(encoding="utf-8"))
        return {
            "model_cfg": config["model_cfg"],
            "preprocess_cfg": config.get("preprocess_cfg", {}),
            "quick_gelu": bool(config["model_cfg"].get("quick_gelu")),
        }
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise ValueError(
            f"The file {str(folder / _CONFIG)!r} of backbone {backbone.id!r} is no open_clip configuration "
            f'({{"model_cfg": ..., "preprocess_cfg": ...}}): {error!r}.'
        ) from error


def width(backbone: Backbone) -> int:
    """Return the width of a backbone's embedding without loading weights."""
    return int(settings(backbone)["model_cfg"]["embed_dim"])


def preprocessing(backbone: Backbone) -> tuple[Geometry, tuple[float, ...], tuple[float, ...]]:
    """Return what a backbone's pixels go through, without loading weights.

    Returns
    -------
    geometry : Geometry
        How pictures are resized and cropped.
    mean, std : tuple of three floats
        What is taken from, and what divides, the channels scaled to [0, 1].
    """
    cfg = settings(backbone)
    size = cfg["model_cfg"]["vision_cfg"].get("image_size", 224)
    height, width = (size, size) if isinstance(size, int) else size
    given = {k: v for k, v in cfg["preprocess_cfg"].items() if v is not None}
    geometry = Geometry(
        height,
        width,
        given.get("resize_mode", "shortest"),
        given.get("interpolation", "bicubic"),
        given.get("fill_color", 0),
    )
    constants = open_clip()
    mean = given.get("mean", constants.OPENAI_DATASET_MEAN)
    std = given.get("std", constants.OPENAI_DATASET_STD)
    return geometry, *(
        tuple(v) if isinstance(v, list | tuple) else (float(v),) * 3 for v in (mean, std)
    )


def require(backbone: Backbone) -> None:
    """Make sure that a backbone's weights are here or can be fetched; quickly, fetching nothing.

    Raises
    ------
    FileNotFoundError
        If a folder lacks its weights.
    ConnectionError
        If the weights are not on this machine and the network does not answer
        within five seconds, or is forbidden. The message says what to do.
    """
    if locate(backbone) is not None:
        return
    if backbone.folder is not None:
        raise FileNotFoundError(
            f"The folder of backbone {backbone.id!r} holds no weights: "
            f"{backbone.folder / _FOLDER_FILES[0]}."
        )
    _require_network(backbone, _published(backbone)[1])


def locate(backbone: Backbone) -> Path | None:
    """Return the file of a backbone's weights if it is on this machine."""
    if backbone.folder is not None:
        return next((p for name in _FOLDER_FILES if (p := backbone.folder / name).is_file()), None)
    repo, url, names = _published(backbone)
    if repo is not None:
        return next((p for name in names if (p := _cached(repo, name))), None)
    path = Path("~/.cache/clip").expanduser() / os.path.basename(url)
    return path if path.is_file() else None


def obtain(backbone: Backbone) -> Path:
    """Return the file of a backbone's weights, fetching it if need be."""
    with lock(backbone):  # what another thread is downloading is there in part only
        path = locate(backbone)
        if path is not None:
            return path
        require(backbone)
        repo, _, names = _published(backbone)
        if repo is not None:
            return _download(backbone, repo, names)
        published = open_clip().get_pretrained_cfg(backbone.source, backbone.tag)
        return Path(open_clip().download_pretrained(published))


def fingerprint(backbone: Backbone) -> str:
    """Return a digest of a backbone's weights and one of its settings, ``weights-settings``.

    Of the content of the file; the model is not loaded. A backbone that is
    still to be downloaded is downloaded.
    """
    path = obtain(backbone)
    stat = path.stat()
    cfg = settings(backbone)
    if backbone.tag is not None:
        # The library's description of the architecture may be reworded; weights fit one architecture.
        del cfg["model_cfg"]
    text = json.dumps(cfg, sort_keys=True)
    weights = _digest(path, stat.st_size, stat.st_mtime_ns)
    return f"{weights[:32]}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"


@functools.lru_cache(maxsize=256)
def _digest(path: Path, size: int, modified: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _published(backbone: Backbone) -> tuple[str | None, str, tuple[str, ...]]:
    """Return where weights are published: the hub's repository if any, an address, names of files."""
    if backbone.hub_repository is not None:
        return backbone.hub_repository, _hub_url(), _HUB_FILES
    published = open_clip().get_pretrained_cfg(backbone.source, backbone.tag)
    if not published.get("hf_hub"):
        return None, published["url"], ()
    repo, name = os.path.split(published["hf_hub"])
    names = (str(Path(name).with_suffix(".safetensors")), name) if name else _HUB_FILES
    return repo, _hub_url(), names


def _cached(repo: str, name: str) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(repo, name)
    return Path(found) if isinstance(found, str) else None


def _download(backbone: Backbone, repo: str, names) -> Path:
    """Return the first of some files of a hub repository, from its cache or the network."""
    for name in names:
        if path := _cached(repo, name):
            return path
    _require_network(backbone, _hub_url())
    from huggingface_hub import hf_hub_download

    errors = []
    for name in names:
        try:
            return Path(hf_hub_download(repo, name, endpoint=_hub_url()))
        except (OSError, ValueError) as error:  # the hub's own errors are both
            errors.append(f"{name}: {str(error).strip().splitlines()[0]}")
    raise ConnectionError(
        f"The files of backbone {backbone.id!r} could not be downloaded from {_hub_url()}/{repo}: "
        + "; ".join(errors)
    )


def _hub_url() -> str:
    from huggingface_hub import constants

    return constants.ENDPOINT


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
        except urllib.error.HTTPError as error:
            error.close()
            outcome[0] = None  # it answered; the download will say what is wrong with the file
        except (OSError, ValueError) as error:
            outcome[0] = f"{url} cannot be reached ({getattr(error, 'reason', error)})"

    # In a thread, since looking up a name may hang for longer than any timeout says.
    thread = threading.Thread(target=knock, daemon=True)
    thread.start()
    thread.join(_PATIENCE)
    return outcome[0]
