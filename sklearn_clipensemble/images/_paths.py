"""What a user writes for a path -> a path, or what to write instead."""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.parse import unquote

# One slash: pathlib makes "s3:/bucket" of "s3://bucket". Two letters: "C:/" is a drive.
_URL = re.compile(r"([a-z][a-z0-9+.-]+):/|(data):", re.IGNORECASE)


def locate(path: str | os.PathLike) -> Path:
    """Return a path with ``~`` as the user's folder, unless a file is really called so."""
    text = os.fsdecode(path)
    if not text:
        raise ValueError("the path is empty (''); expected that of a file or folder.")
    if text.startswith("~") and not os.path.lexists(text):
        text = os.path.expanduser(text)
    url = _URL.match(text)
    if url and not os.path.lexists(text):
        raise ValueError(_instead(text, (url[1] or url[2]).lower()))
    return Path(text)


def _instead(url: str, scheme: str) -> str:
    if scheme == "file":
        local = "/" + unquote(url.partition(":")[2]).lstrip("/")
        return f"this is a URL; pass the path itself: {local!r}."
    if scheme == "data":
        return "this is a data: URL; pass its bytes: base64.b64decode(url.partition(',')[2])."
    return (
        f"this is a URL ({scheme}:), and nothing is downloaded here. Download it first, or open it with "
        "fsspec: fsspec.open_files(urls) can be passed in place of paths."
    )
