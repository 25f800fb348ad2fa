"""What a user calls an image -> a digest of its content and its plain pixels.

One image at a time, in threads, and without torch.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image, UnidentifiedImageError

from sklearn_clipensemble.images._paths import locate

_ACCEPTED = (
    "a path, encoded bytes, a binary file object, a PIL image, a uint8 array (H, W), (H, W, 1), (H, W, 3) "
    "or (H, W, 4), a float array in [0, 1], or a torch tensor (C, H, W)"
)
_ORIENTATION = 0x0112
#: What to do with a picture of each EXIF orientation, so that it stands upright.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class StoredFile:
    """A file on an fsspec filesystem, which threads read when its turn comes; then its size is known."""

    def __init__(self, filesystem: Any, path: str):
        self.filesystem, self.path = filesystem, path
        self.n_bytes: int | None = None

    def fetch(self) -> bytes:
        """Return the whole content."""
        content = self.filesystem.cat_file(self.path)
        self.n_bytes = len(content)
        return content


def describe(source, index: int) -> str:
    """Return how an error names an image: its index, and its path where it has one."""
    if isinstance(source, dict):
        source = source.get("path")
    path = source if isinstance(source, str | os.PathLike) else None
    try:
        for attribute in ("filename",) if isinstance(source, Image.Image) else ("name", "path"):
            path = path or getattr(source, attribute, None)
    except Exception:  # a remote file may have to ask for its name
        path = None
    if not isinstance(path, str | os.PathLike) or not os.fspath(path):
        return f"Image {index}"
    path = str(os.fspath(path))  # numpy's strings would show their type
    return f"Image {index} ({path if len(path) <= 200 else path[:200] + '...'!r})"


def named(error: Exception, name: str) -> Exception:
    """Return an exception of the same kind with a message that names the image."""
    kinds = (FileNotFoundError, IsADirectoryError, PermissionError, OSError, TypeError, MemoryError)
    kind = type(error).__name__
    try:
        text = str(error)
    except Exception:  # zipfile's path to a missing member cannot always write itself
        text = ""
    # The messages of these are sentences; "BadZipFile" or "KeyError" says more than their text alone.
    if not text or type(error) not in (*kinds, ValueError):
        text = f"{kind}: {text}" if text else kind
    return next((k for k in kinds if isinstance(error, k)), ValueError)(f"{name}: {text}")


def load(sources: Sequence, index: int, *, exif_transpose: bool = True) -> tuple:
    """Return the digest and the picture of one image of a sequence; an error names it."""
    name = f"Image {index}"
    try:
        source = sources[index]
        name = describe(source, index)
        digest, content = read(source, exif_transpose=exif_transpose)
        return digest, decode(content, exif_transpose=exif_transpose)
    except Exception as error:
        raise named(error, name) from error


def settle(source):
    """Return an image, or the content of its open file, in a form that threads may read at once.

    To be called in one thread: members of one archive share its position, and rows may hold the same
    file twice. The file is left where it stood, and a PIL image that was opened and not loaded stays
    so: a list of them must not fill the memory.
    """
    if isinstance(source, Image.Image):
        return _settle_picture(source)
    if isinstance(source, str | bytes | bytearray | os.PathLike | np.ndarray) or is_tensor(source):
        return source
    if callable(getattr(source, "read", None)):
        return _read_file(source)
    if callable(getattr(source, "read_bytes", None)):  # zipfile.Path and its relatives
        return source.read_bytes()
    if opens_when_entered(source):
        with source as file:
            return _read_file(file)
    return source


def opens_when_entered(source) -> bool:
    """Return whether this is a place that fsspec has not opened yet."""
    return type(source).__module__.startswith("fsspec.") and hasattr(source, "__enter__")


def _settle_picture(image: Image.Image):
    file, pixels = getattr(image, "fp", None), vars(image).get("_im", vars(image).get("im"))
    if file is None or (pixels is not None and not getattr(image, "tile", None)):
        try:
            # What Pillow works out late and keeps: threads would get in each other's way.
            image.load()
        except Exception as error:
            raise ValueError(
                "the file of this PIL image was closed before its pixels were loaded. Call image.load() while "
                "it is open, or pass the path."
            ) from error
        _orientation(image)
        return image
    if getattr(file, "closed", False):
        raise ValueError(
            "the file that this PIL image was opened from is closed. Call image.load() before closing it, or "
            "pass the path."
        )
    content = _read_file(file)
    try:
        again: Image.Image = Image.open(io.BytesIO(content))
        frame = image.tell()
        if frame:
            again.seek(frame)
        if (again.size, again.mode) != (image.size, image.mode):
            again = image  # a draft, or an icon's other size: as it was asked for, which is small
        elif not frame:
            return content
        again.load()
        _orientation(again)
        return again
    except Exception as error:
        raise _damaged(error) from error


def read(source, *, exif_transpose: bool = True) -> tuple[bytes, bytes | np.ndarray]:
    """Return an image's digest and its content: the encoded file, or uint8 (H, W) or (H, W, 3).

    Two images share a digest only if they hold the same content and are turned alike. A PIL image is
    turned here as its EXIF orientation says, an encoded file by :func:`decode`.
    """
    source = settle(source)
    if isinstance(source, np.str_ | np.bytes_):
        source = source.item()
    if isinstance(source, dict) and set(source) >= {"bytes", "path"}:  # an undecoded datasets.Image
        source = source["bytes"] if source["bytes"] is not None else source["path"]
    if isinstance(source, str | os.PathLike):
        content: bytes | np.ndarray = _read_path(source)
    elif isinstance(source, StoredFile):
        content = source.fetch()
    elif isinstance(source, bytes | bytearray | memoryview):
        content = bytes(source)
    elif isinstance(source, Image.Image):
        content = np.asarray(_turned(source) if exif_transpose else to_plain(source))
    elif is_tensor(source):
        content = _array_to_pixels(tensor_to_array(source, batch=False))
    elif isinstance(source, np.ndarray):
        content = _array_to_pixels(source)
    elif pd.api.types.is_scalar(source) and pd.isna(source):
        raise ValueError(
            f"there is no image here ({source!r}). Drop the row, or use CLIPEmbedder(on_error='nan')."
        )
    else:
        hint = ""
        if isinstance(source, list) and source and isinstance(source[0], list):
            hint = " Numbers in lists are an image as np.asarray(image, np.uint8)."
        elif isinstance(source, tuple | list):
            hint = " Of pairs of an image and its label pass the images: [image for image, label in X]."
        elif isinstance(source, dict):
            hint = f" Of dictionaries with the keys {list(source)[:5]} pass the images' values."
        raise TypeError(
            f"cannot read an image from {type(source).__name__}; expected {_ACCEPTED}.{hint}"
        )
    if isinstance(content, bytes):
        if not content:
            raise ValueError("the file is empty (zero bytes).")
        turned = exif_transpose and _may_be_turned(content)
        person = b"turned" if turned else b"file"
        return hashlib.blake2b(content, digest_size=16, person=person).digest(), content
    content = np.ascontiguousarray(content)
    digest = hashlib.blake2b(repr(content.shape).encode(), digest_size=16, person=b"pixels")
    digest.update(content.data)
    return digest.digest(), content


def decode(
    content: bytes | np.ndarray, *, exif_transpose: bool = True, draft: int | None = None
) -> Image.Image:
    """Decode an image's content, from :func:`read`, into a PIL image of mode L or RGB.

    With ``draft``, JPEG shrinks while it is decoded, to no less than that on the shorter side.
    """
    if isinstance(content, np.ndarray):
        return Image.fromarray(content)
    try:
        image = Image.open(io.BytesIO(content))
    except UnidentifiedImageError:
        raise ValueError(_unknown_format(content)) from None
    except Exception as error:
        raise _damaged(error) from error
    try:
        if draft is not None and image.format == "JPEG":
            image.draft(None, (draft, draft))
        image.load()
    except Exception as error:
        raise _damaged(error) from error
    return _turned(image) if exif_transpose else to_plain(image)


def _orientation(image: Image.Image) -> int:
    """Return a picture's EXIF orientation; 1, upright, where its EXIF data cannot be read."""
    try:
        return image.getexif().get(_ORIENTATION, 1)
    except Exception:
        return 1


def _turned(image: Image.Image) -> Image.Image:
    """Return a picture as :func:`to_plain` does, upright."""
    turn = _TURNS.get(_orientation(image))
    image = to_plain(image)
    return image if turn is None else image.transpose(turn)


def _may_be_turned(content: bytes) -> bool:
    """Return whether a file's EXIF orientation turns it, as far as can be told without decoding it."""
    try:
        image = Image.open(io.BytesIO(content))
    except Exception:
        return True  # an error by the time it is decoded
    # PNG may say so behind the pixels.
    return image.format == "PNG" or _orientation(image) in _TURNS


def to_plain(image: Image.Image) -> Image.Image:
    """Return an image as eight-bit grey (mode L) or colour (mode RGB), transparency on white.

    Before any resizing: open_clip's own order (resize, crop, then convert) would take nearest
    neighbours of palettes, saturate 16-bit greys and turn what is transparent black.
    """
    mode, transparent = image.mode, image.info.get("transparency")
    if mode in ("L", "RGB") and transparent is None:
        return image
    if mode.startswith("I"):
        values = np.asarray(image).astype(np.float64)
        if values.min() < 0 or values.max() > 65535:
            raise ValueError(
                f"a 32-bit image with values from {values.min():.0f} to {values.max():.0f}; expected 0 to "
                "65535. Scale it to eight bits first."
            )
        if isinstance(transparent, int):
            values[values == transparent] = 65535
        return Image.fromarray(np.round(values * (255 / 65535)).astype(np.uint8))
    if mode == "F":
        return Image.fromarray(_array_to_pixels(np.asarray(image)))
    if transparent is not None or mode in ("RGBA", "LA", "PA", "La", "RGBa"):
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("L" if mode == "1" else "RGB")


def _read_path(path) -> bytes:
    path = locate(path)
    try:
        return path.read_bytes()
    except OSError as error:
        # The message names the path already; errno and a second path would only lengthen it.
        reason = error.strerror or str(error)
        if os.path.isdir(path):
            reason += "; the images of a folder are load_image_folder(path).paths"
        raise type(error)(f"{reason}.") from error


def _read_file(file) -> bytes:
    """Return the whole content of a file object and leave it where it stood."""
    if isinstance(file, io.TextIOBase):
        content = ""  # reading it may fail with an error that says less
    elif not (hasattr(file, "seekable") and file.seekable()):
        content = file.read()
    else:
        position = file.tell()
        try:
            file.seek(0)
            content = file.read()
        finally:
            file.seek(position)
    if not isinstance(content, bytes | bytearray | memoryview):
        raise TypeError(
            f"reading the file object gave {type(content).__name__}, not bytes; open it with mode 'rb'."
        )
    return bytes(content)


def _damaged(error: Exception) -> ValueError:
    """Return what to say of a file that Pillow fails on, with whatever error its decoders have."""
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return ValueError(
            f"{error} Raise PIL.Image.MAX_IMAGE_PIXELS if you trust this file, or shrink it first."
        )
    what = type(error).__name__ + (f": {error}" if str(error) else "")
    return ValueError(f"the file is damaged or truncated ({what}).")


def _array_to_pixels(array: np.ndarray) -> np.ndarray:
    """Return one image's array as uint8 (H, W) or (H, W, 3)."""
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if (
        array.ndim not in (2, 3)
        or (array.ndim == 3 and array.shape[2] not in (3, 4))
        or not array.size
    ):
        hint = ""
        if array.ndim == 3 and array.shape[0] in (1, 3, 4):
            hint = " If its channels come first: np.moveaxis(array, 0, -1)."
        elif array.ndim == 4:
            hint = " A stack of pictures is passed by itself, not in a list; of a stack of one pass image[0]."
        elif array.ndim == 1:
            hint = " If it holds the bytes of a file, pass image.tobytes()."
        raise ValueError(
            f"an array of shape {array.shape} is no image; expected (H, W), (H, W, 1), (H, W, 3) or (H, W, 4)."
            + hint
        )
    if array.dtype == bool:
        array = array.astype(np.uint8) * 255
    elif array.dtype.kind == "f":
        _check_scale(array)
        array = np.round(array * 255).astype(np.uint8)
    elif array.dtype != np.uint8:
        raise ValueError(
            f"an array of {array.dtype}; expected uint8, or floats in [0, 1]. If its values go from 0 to "
            "255, pass array.astype(np.uint8); otherwise divide it by its largest possible value."
        )
    if array.ndim == 3 and array.shape[2] == 4:
        return np.asarray(to_plain(Image.fromarray(array)))
    return array


def _check_scale(array: np.ndarray) -> None:
    """Refuse floats outside of [0, 1], with what to do about them."""
    low, high = float(np.min(array)), float(np.max(array))
    if low >= 0 and high <= 1:
        return
    if not (np.isfinite(low) and np.isfinite(high)):
        advice = "It holds values that are no numbers: replace them, or leave the image out."
    elif low < 0 or high < 4:
        advice = (
            "If it was normalised (a mean subtracted, divided by a standard deviation, or scaled to [-1, 1]), pass "
            "the picture as it was before: every backbone normalises by itself. If resizing has overshot, pass "
            "np.clip(image, 0, 1)."
        )
    else:
        advice = "Divide it by its largest possible value (255 for 8-bit images, 16 for load_digits), or pass uint8."
    raise ValueError(
        f"a float array must be scaled to [0, 1]; this one goes from {low:g} to {high:g}. {advice}"
    )


def is_tensor(source) -> bool:
    """Return whether this is a torch tensor, or of a class made of it, without importing torch."""
    return hasattr(source, "detach") and any(
        kind.__module__.partition(".")[0] == "torch" for kind in type(source).__mro__
    )


def tensor_to_array(tensor, *, batch: bool) -> np.ndarray:
    """Return a tensor, channels first or grey, as an array with channels last."""
    array = tensor.detach().cpu()
    array = (array.float() if array.is_floating_point() else array).numpy()
    if array.ndim == 3 + batch and array.shape[batch] in (1, 3, 4):
        array = np.moveaxis(array, batch, -1)
    return array


def is_heic(content: bytes) -> bool:
    """Return whether a file begins as a phone's HEIC pictures do, which Pillow may not know."""
    return content[4:12] in (b"ftypheic", b"ftypheix", b"ftypmif1", b"ftyphevc")


def _unknown_format(content: bytes) -> str:
    if is_heic(content):
        return (
            "a HEIC image, which Pillow reads only with a plugin: pip install pillow-heif, then "
            "pillow_heif.register_heif_opener()."
        )
    try:
        start = content[:40].decode("ascii")
    except UnicodeDecodeError:
        return "not an image in a format that Pillow knows, or damaged at its start."
    hint = ""
    if re.fullmatch(rb"[^\0\n]+\.\w{2,5}", content):
        hint = " Bytes are the content of a file; a path is os.fsdecode(path)."
    return f"not an image; it starts with the text {start!r}.{hint}"
