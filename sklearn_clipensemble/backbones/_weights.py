"""Where the weights of a backbone lie, whether they can be had, and their fingerprint."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import re
import shutil
import tempfile
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from stat import S_ISREG
from typing import Any, NamedTuple

from sklearn_clipensemble._runtime import lock, unforked
from sklearn_clipensemble.backbones._interface import BackboneLike, count_gflops
from sklearn_clipensemble.backbones._open_clip import offline

#: Seconds to wait for a sign of life before a download is called impossible.
_PATIENCE = 4.0


class Found(NamedTuple):
    """A file that is here, and what tells whether it was written since."""

    path: str
    size: int
    modified: int


class _Whereabouts:
    """Where weights lie; every image that is embedded asks whether they are what they were."""

    def find(self) -> Found | None:
        """Return the file, with one look at the disk, if it is on this machine."""
        return next(filter(None, map(_look, self._paths())), None)

    def _paths(self) -> Iterator[str]:
        """Yield where the file may be."""
        raise NotImplementedError

    def locate(self) -> Path | None:
        """Return the path of the file if it is on this machine."""
        found = self.find()
        return None if found is None else Path(found.path)


@dataclass(frozen=True)
class InFolder(_Whereabouts):
    """Weights in a folder of this machine: the first of some names."""

    folder: str
    names: tuple[str, ...]

    def _paths(self) -> Iterator[str]:
        return (f"{self.folder}{os.sep}{name}" for name in self.names)

    def require(self, id: str) -> None:
        """Raise a FileNotFoundError where there is no such file."""
        if not os.path.isdir(self.folder):
            raise FileNotFoundError(f"The folder of backbone {id!r} does not exist: {self.folder}.")
        if self.find() is None:
            path = os.path.join(self.folder, self.names[0])
            raise FileNotFoundError(f"The folder of backbone {id!r} holds no weights: {path}.")

    def fetch(self, id: str) -> Path:
        """Return the file."""
        path = self.locate()
        if path is None:
            self.require(id)
            return self.fetch(id)  # it has come meanwhile
        return path


@dataclass(frozen=True)
class OnHub(_Whereabouts):
    """Weights in a repository on the Hugging Face hub, or in the hub's cache on this machine."""

    repository: str
    names: tuple[str, ...]

    def _paths(self) -> Iterator[str]:
        return (path for name in self.names if (path := _cached(self.repository, name)))

    def require(self, id: str) -> None:
        """Raise a ConnectionError where the file is not here and the hub does not answer."""
        if self.locate() is None:
            _require_network(id, _hub_url())

    def fetch(self, id: str) -> Path:
        """Return the file, downloaded if need be."""
        path = self.locate()
        if path is not None:
            return path
        self.require(id)
        from huggingface_hub import hf_hub_download

        errors = []
        for name in self.names:
            try:
                return Path(hf_hub_download(self.repository, name, endpoint=_hub_url()))
            except (OSError, ValueError) as error:  # the hub's own errors are both
                errors.append(f"{name}: {str(error).strip().splitlines()[0]}")
        raise ConnectionError(
            f"The files of backbone {id!r} could not be downloaded from "
            f"{_hub_url()}/{self.repository}: " + "; ".join(errors)
        )


@dataclass(frozen=True)
class AtUrl(_Whereabouts):
    """Weights at an address, kept in a folder of this machine."""

    url: str
    folder: Path

    def _paths(self) -> Iterator[str]:
        yield os.path.join(self.folder, os.path.basename(self.url))

    def require(self, id: str) -> None:
        """Raise a ConnectionError where the file is not here and the address does not answer."""
        if self.locate() is None:
            _require_network(id, self.url)

    def fetch(self, id: str) -> Path:
        """Return the file, downloaded if need be; a digest in its name is checked."""
        path = self.folder / os.path.basename(self.url)
        if not path.is_file():
            self.require(id)
            with unforked():
                from torch.hub import download_url_to_file

            self.folder.mkdir(parents=True, exist_ok=True)
            digest = re.search(r"-([a-f0-9]{8,})\.", path.name)
            download_url_to_file(self.url, str(path), digest and digest[1], progress=False)
        return path


class WeightsFile(BackboneLike):
    """A backbone whose weights are a file.

    A family defines ``weights`` and, of :class:`BackboneLike`, ``id``, ``width``, ``geometry`` and
    ``load``; ``settings`` too, where they differ from backbone to backbone, and ``pack`` and
    ``in_folder``, where its weights shall travel in pickles.
    """

    has_text = False
    #: The file beside the weights that describes the model; empty where its library does.
    config_name = ""

    @classmethod
    def from_name(cls, name: str) -> BackboneLike:
        """Return the backbone that a user names; an error where there can be none."""
        return cls(name)  # type: ignore[call-arg]

    @property
    def weights(self) -> InFolder | OnHub | AtUrl:
        """Where the weights lie."""
        raise NotImplementedError

    def __str__(self):
        return self.id

    def settings(self) -> dict[str, Any]:
        """Return what beside the weights decides the embedding, as JSON can write it."""
        return {"geometry": str(self.geometry)}

    def in_folder(self, folder: Path) -> BackboneLike:
        """Return the same backbone with the files of a folder."""
        raise NotImplementedError

    @property
    def gflops(self) -> float:
        """Billions of floating-point operations for one image; a multiply-add is two."""
        return _gflops(self, json.dumps(self.settings(), sort_keys=True))

    def require(self) -> None:
        """Raise an error within five seconds where the weights cannot be had; fetch nothing."""
        self.weights.require(self.id)

    def file(self) -> Path:
        """Return the file of the weights, fetching it if need be."""
        with lock(self.id):  # what another thread is downloading is there in part only
            return self.weights.fetch(self.id)

    def fingerprint(self) -> str:
        """Return a digest of the file of the weights and one of the settings; fetches the file."""
        file = self.weights.find() or _fetched(self.file())
        return _fingerprint(self, file, self.config_file() if self.config_name else None)

    def config_file(self) -> Found:
        """Return the file that describes the model, fetched if need be."""
        weights: Any = self.weights
        weights = replace(weights, names=(self.config_name,))
        return weights.find() or _fetched(weights.fetch(self.id))

    def unpack(self, files: dict[str, bytes], fingerprint: str) -> BackboneLike:
        """Return this backbone where it is at hand, else one of files written to the user's cache."""
        if self.weights.locate() is not None and self.fingerprint() == fingerprint:
            return self
        folder = user_cache() / fingerprint
        if not folder.is_dir():
            folder.parent.mkdir(parents=True, exist_ok=True)
            # Whole or not at all, also when several processes load the same pickle.
            draft = Path(tempfile.mkdtemp(dir=folder.parent))
            for name, content in files.items():
                (draft / Path(name).name).write_bytes(content)
            try:
                draft.rename(folder)
            except OSError:
                shutil.rmtree(draft)
                if not folder.is_dir():
                    raise
        return self.in_folder(folder)


def user_cache() -> Path:
    """Return the folder of this package among the user's caches."""
    home = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser()
    return home / "sklearn_clipensemble"


def read_config(file: Found, id: str, whose: str, needs: str, *others: str) -> dict[str, Any]:
    """Return parts of a configuration file, of which one must be there."""
    try:
        config = _parsed(*file)
        return {needs: config[needs], **{name: dict(config.get(name) or {}) for name in others}}
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        form = ", ".join(f'"{name}": ...' for name in (needs, *others))
        raise ValueError(
            f"The file {file.path!r} of backbone {id!r} is no {whose} configuration "
            f"({{{form}}}): {error!r}."
        ) from error


def join_digests(weights: str, settings: str) -> str:
    """Return the fingerprint for a digest of the weights and a text of the settings."""
    return f"{weights[:32]}-{hashlib.sha256(settings.encode()).hexdigest()[:16]}"


@functools.lru_cache(maxsize=256)
def _fingerprint(backbone: WeightsFile, file: Found, config_file: Found | None) -> str:
    """Work a fingerprint out: once, unless one of the files is written again."""
    return join_digests(_digest(*file), json.dumps(backbone.settings(), sort_keys=True))


@functools.lru_cache(maxsize=256)
def _gflops(backbone: WeightsFile, settings: str) -> float:
    """Count; ``settings`` are those of the backbone, which a file may change."""
    return count_gflops(backbone.architecture(), backbone.geometry)


def _look(path: str) -> Found | None:
    """Return a file if there is one of this path."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None
    return Found(path, found.st_size, found.st_mtime_ns) if S_ISREG(found.st_mode) else None


def _fetched(path: Path) -> Found:
    """Return a file that was just fetched."""
    found = path.stat()
    return Found(str(path), found.st_size, found.st_mtime_ns)


@functools.lru_cache(maxsize=256)
def _parsed(path: str, size: int, modified: int) -> Any:
    return json.loads(Path(path).read_text(encoding="utf-8"))


@functools.lru_cache(maxsize=256)
def _digest(path: str, size: int, modified: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _cached(repo: str, name: str) -> str | None:
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(repo, name)
    return found if isinstance(found, str) else None


def _hub_url() -> str:
    from huggingface_hub import constants

    return constants.ENDPOINT


def _require_network(id: str, url: str) -> None:
    """Fail within five seconds where a download cannot work; the hub's own client tries for 46."""
    reason = "HF_HUB_OFFLINE is set" if offline() else _why_unreachable(url)
    if reason is not None:
        raise ConnectionError(
            f"The weights of backbone {id!r} are not on this machine and cannot be downloaded: "
            f"{reason}. Run once with network, point HF_HOME at a folder that holds them, or name a copy "
            "of yours: 'local-dir:PATH', 'timm:MODEL@FILE'. To try things out offline, use the bundled backbones: "
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
