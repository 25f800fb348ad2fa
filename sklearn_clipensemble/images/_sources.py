"""What a user calls an image -> a digest of its content and its plain pixels.

No torch here, and one image at a time: a function of this module runs in a
thread and knows nothing of the images beside it.
"""

from __future__ import annotations

import hashlib
import io
import os
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, ImageOps, UnidentifiedImageError

_ACCEPTED = (
    "a path, encoded bytes, a binary file object, a PIL image, a uint8 array (H, W), (H, W, 1), (H, W, 3) "
    "or (H, W, 4), a float array in [0, 1], or a torch tensor (C, H, W)"
)
# Two rows may hold one file object or one PIL image that is not loaded yet, and their reading must not
# be interleaved. Locks are shared by identity: few of them suffice.
_locks = [threading.RLock() for _ in range(61)]


class _ArrowColumn(Sequence):
    """A pyarrow array whose values become Python objects one at a time, as they are read."""

    def __init__(self, array):
        self._array = array

    def __len__(self):
        return len(self._array)

    def __getitem__(self, index):
        return self._array[index].as_py()


def as_sources(X) -> Sequence:
    """Return X as a sequence of single images, or say why it is none.

    Raises
    ------
    TypeError
        If X is a generator, one bare image or path, or no sequence at all.
    ValueError
        If X is empty, a table of several columns, or an array whose shape is not that of a stack of
        images.
    """
    if isinstance(X, str | bytes | os.PathLike):
        hint = ""
        if not isinstance(X, bytes) and os.path.isdir(X):
            hint = f" For a folder of images use load_image_folder({os.fspath(X)!r}).paths."
        raise TypeError(
            f"Expected a sequence of images, got one {type(X).__name__}: {str(X)[:80]!r}. Wrap it in a "
            f"list: [image].{hint}"
        )
    if isinstance(X, Image.Image):
        raise TypeError(
            "Expected a sequence of images, got one PIL image. Wrap it in a list: [image]."
        )
    columns = getattr(X, "column_names", None)  # datasets, pyarrow
    columns = getattr(X, "columns", None) if columns is None else columns  # pandas, polars
    if columns is not None and hasattr(X, "__len__"):
        if len(columns) != 1:
            raise ValueError(
                f"Expected one column of images, got a table of {len(columns)} columns: "
                f"{list(columns)[:5]}. Select the column of images: X[column]."
            )
        X = X[columns[0]]
    if _is_tensor(X):
        X = _tensor_to_array(X, batch=True)
    elif isinstance(X, pd.Series | pd.Index):
        X = X.to_list()
    elif type(X).__module__.startswith("pyarrow"):
        X = _ArrowColumn(X)
    if not hasattr(X, "__len__") or not hasattr(X, "__getitem__") or isinstance(X, dict):
        raise TypeError(
            f"Expected a sequence of images with a length, got {type(X).__name__}. A generator can be "
            "read only once and has no length to check labels against: pass list(X), or paths."
        )
    if isinstance(X, np.ndarray):
        X = _check_array(X)
    if len(X) == 0:
        raise ValueError("Found no images: X is empty. At least one image is required.")
    return X


def _check_array(X: np.ndarray) -> np.ndarray:
    """Return an array that holds one image per entry of its first axis."""
    if X.dtype.kind in "OUS":
        if X.ndim == 2 and X.shape[1] == 1:  # what a ColumnTransformer makes of one column
            X = X[:, 0]
        if X.ndim != 1:
            raise ValueError(
                f"Expected one column of images, got an array of {X.dtype} and shape {X.shape}. Select the "
                "column of images: X[:, column]."
            )
    elif X.ndim not in (3, 4):
        raise ValueError(
            f"An array of images must have shape (n, H, W) or (n, H, W, C), got {X.shape}. Reshape your "
            "data, X.reshape(n, H, W), or wrap a single image in a list: [image]."
        )
    return X


def describe(source, index: int) -> str:
    """Return how an error names an image: its index, and its path where it has one."""
    if isinstance(source, dict):
        source = source.get("path")
    name = getattr(source, "name", None) or getattr(source, "filename", None)
    path = source if isinstance(source, str | os.PathLike) else name
    if not isinstance(path, str | os.PathLike) or not os.fspath(path):
        return f"Image {index}"
    path = str(os.fspath(path))  # numpy's strings would show their type
    return f"Image {index} ({path if len(path) <= 200 else path[:200] + '...'!r})"


def read(source, *, exif_transpose: bool = False) -> tuple[bytes, bytes | np.ndarray]:
    """Return an image's content and the content's digest, without decoding it.

    Parameters
    ----------
    source : object
        One image in any form.
    exif_transpose : bool, default=False
        Whether to turn a PIL image as its EXIF orientation says; encoded files
        are turned by :func:`decode`.

    Returns
    -------
    digest : bytes
        16 bytes that two images share only if they hold the same content.
    content : bytes or ndarray
        The encoded file, or plain uint8 pixels of shape (H, W) or (H, W, 3).

    Raises
    ------
    FileNotFoundError, IsADirectoryError, PermissionError
        If a path cannot be read.
    TypeError, ValueError
        If the source is no image; the message says what would be one.
    """
    if isinstance(source, np.str_ | np.bytes_):
        source = source.item()
    if isinstance(source, dict) and set(source) >= {"bytes", "path"}:  # an undecoded datasets.Image
        source = source["bytes"] if source["bytes"] is not None else source["path"]
    if isinstance(source, str | os.PathLike):
        content = _read_path(source)
    elif isinstance(source, bytes | bytearray | memoryview):
        content = bytes(source)
    elif isinstance(source, Image.Image):
        with _locks[id(source) % len(_locks)]:
            _load(source)
        content = np.asarray(to_plain(_turned(source) if exif_transpose else source))
    elif hasattr(source, "read"):
        with _locks[id(source) % len(_locks)]:
            content = _read_file(source)
    elif _is_tensor(source):
        content = _array_to_pixels(_tensor_to_array(source, batch=False))
    elif isinstance(source, np.ndarray):
        content = _array_to_pixels(source)
    elif pd.api.types.is_scalar(source) and pd.isna(source):
        raise ValueError(
            f"there is no image here ({source!r}). Drop the row, or use on_error='nan'."
        )
    else:
        raise TypeError(f"cannot read an image from {type(source).__name__}; expected {_ACCEPTED}.")
    if isinstance(content, bytes):
        if not content:
            raise ValueError("the file is empty (zero bytes).")
        return hashlib.blake2b(content, digest_size=16, person=b"file").digest(), content
    content = np.ascontiguousarray(content)
    digest = hashlib.blake2b(repr(content.shape).encode(), digest_size=16, person=b"pixels")
    digest.update(content)
    return digest.digest(), content


def decode(content: bytes | np.ndarray, *, exif_transpose: bool, draft: int | None) -> Image.Image:
    """Decode an image's content into a PIL image of mode L or RGB.

    Parameters
    ----------
    content : bytes or ndarray
        As :func:`read` returns it.
    exif_transpose : bool
        Whether to turn the picture as its EXIF orientation says.
    draft : int or None
        Let the JPEG decoder shrink while it decodes, to no less than this many
        pixels on the shorter side; None decodes in full.

    Raises
    ------
    ValueError
        If the content is no image that Pillow knows, is truncated, or is so
        large that Pillow takes it for a decompression bomb.
    """
    if isinstance(content, np.ndarray):
        return Image.fromarray(content)

    try:
        image = Image.open(io.BytesIO(content))
    except UnidentifiedImageError:
        raise ValueError(_unknown_format(content)) from None
    except Exception as error:
        raise _damaged(error) from error
    _load(image, draft)
    return to_plain(_turned(image) if exif_transpose else image)


def to_plain(image: Image.Image) -> Image.Image:
    """Return an image as eight-bit grey (mode L) or colour (mode RGB).

    Palettes are looked up and bilevel images turned into grey before any
    resizing, 16-bit greys are scaled to eight bits, and transparency is laid on
    white: where open_clip's own order (resize, crop, then convert) would take
    nearest neighbours, saturate to white or turn what is transparent black.
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
    try:
        return Path(path).read_bytes()
    except OSError as error:
        # The message names the path already; errno and a second path would only lengthen it.
        raise type(error)(error.strerror or str(error)) from error


def _read_file(file) -> bytes:
    """Return the whole content of a file object and leave it where it stood."""
    if not (hasattr(file, "seekable") and file.seekable()):
        content = file.read()
    else:
        position = file.tell()
        file.seek(0)
        content = file.read()
        file.seek(position)
    if not isinstance(content, bytes | bytearray | memoryview):
        raise TypeError(
            f"reading the file object gave {type(content).__name__}, not bytes; open it with mode 'rb'."
        )
    return bytes(content)


def _turned(image: Image.Image) -> Image.Image:
    """Turn a picture as its EXIF orientation says; one whose EXIF data cannot be read stays as it is."""
    try:
        return ImageOps.exif_transpose(image)
    except Exception:
        return image


def _load(image: Image.Image, draft: int | None = None) -> None:
    """Decode an image that was opened."""
    try:
        if draft is not None and image.format == "JPEG":
            image.draft(None, (draft, draft))
        image.load()
    except Exception as error:
        raise _damaged(error) from error


def _damaged(error: Exception) -> ValueError:
    """Return what to say of a file that Pillow fails on.

    Its decoders raise OSError and SyntaxError by design, and struct.error,
    zlib.error, IndexError and many more besides.
    """
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
        raise ValueError(
            f"an array of shape {array.shape} is no image; expected (H, W), (H, W, 1), (H, W, 3) or (H, W, 4)."
        )
    if array.dtype == bool:
        array = array.astype(np.uint8) * 255
    elif array.dtype.kind == "f":
        low, high = float(np.min(array)), float(np.max(array))
        if not (low >= 0 and high <= 1):
            raise ValueError(
                f"a float array must be scaled to [0, 1]; this one goes from {low:g} to {high:g}. Divide it "
                "by its largest possible value (255 for 8-bit images, 16 for load_digits), or pass uint8."
            )
        array = np.round(array * 255).astype(np.uint8)
    elif array.dtype != np.uint8:
        raise ValueError(
            f"an array of {array.dtype}; expected uint8, or floats in [0, 1]. If its values go from 0 to "
            "255, pass array.astype(np.uint8)."
        )
    if array.ndim == 3 and array.shape[2] == 4:
        return np.asarray(to_plain(Image.fromarray(array)))
    return array


def _is_tensor(source) -> bool:
    return type(source).__module__.partition(".")[0] == "torch" and hasattr(source, "detach")


def _tensor_to_array(tensor, *, batch: bool) -> np.ndarray:
    """Return a tensor, channels first or grey, as an array with channels last."""
    array = tensor.detach().cpu()
    array = (array.float() if array.is_floating_point() else array).numpy()
    if array.ndim == 3 + batch and array.shape[batch] in (1, 3, 4):
        array = np.moveaxis(array, batch, -1)
    return array


def _unknown_format(content: bytes) -> str:
    if content[4:12] in (b"ftypheic", b"ftypheix", b"ftypmif1", b"ftyphevc"):
        return (
            "a HEIC image, which Pillow reads only with a plugin: pip install pillow-heif, then "
            "pillow_heif.register_heif_opener()."
        )
    try:
        start = content[:40].decode("ascii")
    except UnicodeDecodeError:
        return "not an image in a format that Pillow knows, or damaged at its start."
    return f"not an image; it starts with the text {start!r}."
