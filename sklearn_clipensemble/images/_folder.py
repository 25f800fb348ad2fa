"""A folder of images, one sub-folder per class."""

from __future__ import annotations

import glob
import os
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageFile
from sklearn.utils import Bunch

from sklearn_clipensemble.images._paths import locate
from sklearn_clipensemble.images._sources import is_heic

#: What file managers and systems leave behind; as little worth a word as hidden files.
_JUNK = {"thumbs.db", "ehthumbs.db", "desktop.ini", "__macosx", "@eadir"}


def load_image_folder(path: str | os.PathLike) -> Bunch:
    """List the images of a folder and the classes they lie in.

    The counterpart of :func:`sklearn.datasets.load_files` for images: each sub-folder is a class and
    its name the label. Images are the files with an ending that Pillow opens as pictures; one without
    an ending is looked into. Hidden files and folders are left out, links are followed.

    Parameters
    ----------
    path : str or Path
        A folder with one sub-folder per class, searched to any depth; a folder of images; or a
        pattern such as ``"photos/*/*.jpg"``, where the class is the folder an image lies in.

    Returns
    -------
    Bunch
        ``paths`` : ndarray of str, shape (n_images,), sorted by class and name;
        ``target`` : ndarray of str, shape (n_images,), the class of each image (None where the folder
        has no sub-folders); ``target_names`` : list of str, the classes, sorted.

    Raises
    ------
    FileNotFoundError
        If the folder does not exist, or if there are no images.
    NotADirectoryError
        If the path is a file.
    ValueError
        If the path is empty or a URL.

    Warns
    -----
    UserWarning
        If anything that is not hidden was left out, with the number of each kind: no pictures, images
        beside the sub-folders, sub-folders without images, links to nowhere, in a circle or to a folder of the same class, and
        folders that may not be read.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from PIL import Image
    >>> folder = Path(tempfile.mkdtemp())
    >>> for name in ["cat", "dog"]:
    ...     (folder / name).mkdir()
    ...     Image.new("RGB", (8, 8)).save(folder / name / "1.png")
    >>> load_image_folder(folder).target_names
    ['cat', 'dog']
    >>> load_image_folder(folder / "*" / "*.png").target.tolist()
    ['cat', 'dog']
    """
    return list_folder(path)


def list_folder(path: str | os.PathLike, *, labelled: bool = True) -> Bunch:
    """List a folder as :func:`load_image_folder` does.

    Where classes are of no matter (``labelled=False``), images beside the sub-folders come along, with None
    for a class.
    """
    root, left_out = locate(path), _LeftOut()
    beside: list[str] = []
    if root.is_dir():
        folders, files = _list(root, left_out)
        beside = _images(files, left_out)
        by_class = {
            folder.name: _images(
                (f for _, below in _walk(folder, left_out) for f in below), left_out
            )
            for folder in folders
        }
        if not any(by_class.values()) and beside:
            left_out.warn(path)
            return Bunch(paths=np.array(beside), target=None, target_names=[])
        if labelled:
            left_out.beside, beside = beside, []
            told = {*left_out.unreadable, *left_out.circular}
            left_out.empty = [
                str(f) for f in folders if not by_class[f.name] and str(f) not in told
            ]
    elif glob.has_magic(str(root)):
        by_class = {}
        for file in _images(_matches(root, left_out), left_out):
            by_class.setdefault(Path(file).parent.name, []).append(file)
    elif root.exists():
        raise NotADirectoryError(f"{str(path)!r} is a file; expected a folder of images.")
    else:
        raise FileNotFoundError(f"There is no folder {str(path)!r}.")
    by_class = {
        name: _once(by_class[name], left_out) for name in sorted(by_class) if by_class[name]
    }
    if not by_class:
        raise FileNotFoundError(
            f"There are no images in {str(path)!r} (known endings: .jpg, .png, .webp, ...). Expected one "
            f"sub-folder per class, each with images.{left_out.report(' Left out: ')}"
        )
    left_out.warn(path)
    target = np.repeat(list(by_class), [len(files) for files in by_class.values()])
    if beside:
        target = np.array([None] * len(beside) + target.tolist(), dtype=object)
    return Bunch(
        paths=np.array([*beside, *(file for files in by_class.values() for file in files)]),
        target=target,
        target_names=list(by_class),
    )


class _LeftOut:
    """What was not listed, so that nothing is lost in silence."""

    def __init__(self):
        self.kinds: Counter[str] = Counter()  # of files, by ending
        self.beside: list[str] = []
        self.empty: list[str] = []
        self.dangling: list[str] = []
        self.circular: list[str] = []
        self.double: list[str] = []
        self.unreadable: list[str] = []

    def report(self, intro: str) -> str:
        """Return what was left out, in words, after an introduction; nothing, if nothing was."""
        kinds = ", ".join(f"{n} {kind}" for kind, n in sorted(self.kinds.items()))
        parts = [
            *_count(self.beside, "image", "beside the sub-folders, without a class"),
            *_count(self.empty, "sub-folder", "without images"),
            *([f"files that are no pictures: {kinds}"] if kinds else []),
            *_count(self.dangling, "link", "to nowhere"),
            *_count(self.circular, "link", "back to a folder on the way to it"),
            *_count(self.double, "folder", "that the class has already"),
            *_count(self.unreadable, "folder", "that may not be read"),
        ]
        return intro + "; ".join(parts) + "." if parts else ""

    def warn(self, path) -> None:
        """Warn, if anything was left out, from the public function."""
        if message := self.report(f"Left out of {str(path)!r}: "):
            warnings.warn(message, UserWarning, stacklevel=4)


def _count(paths: list[str], noun: str, what: str) -> Iterator[str]:
    if paths := list(dict.fromkeys(paths)):
        names = ", ".join(Path(p).name for p in paths[:3]) + (", ..." if len(paths) > 3 else "")
        yield f"{len(paths)} {noun}{'s' if len(paths) > 1 else ''} {what} ({names})"


def _list(folder: Path, left_out: _LeftOut) -> tuple[list[Path], list[Path]]:
    """Return the folders and the files in a folder, sorted, without what is hidden; links count as their aim."""
    folders, files = [], []
    try:
        with os.scandir(folder) as found:
            entries = sorted(found, key=lambda entry: entry.name)
    except OSError:
        left_out.unreadable.append(str(folder))
        return [], []
    for entry in entries:
        path = folder / entry.name
        if _is_hidden(entry.name):
            continue
        # Not by the entry itself, which raises where a link points to itself.
        if os.path.isdir(path):
            folders.append(path)
        elif os.path.isfile(path):
            files.append(path)
        elif entry.is_symlink():
            left_out.dangling.append(str(path))
        else:  # a pipe or a device: opening it may hang
            left_out.kinds["special"] += 1
    return folders, files


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name.lower() in _JUNK


def _above(folder: Path) -> set[str]:
    """Return the real folders on the way to a folder: where a link among them leads, nothing new lies."""
    as_written, real = Path(os.path.abspath(folder)), Path(os.path.realpath(folder))
    return {os.path.realpath(p) for p in as_written.parents} | {str(p) for p in real.parents}


def _walk(top: Path, left_out: _LeftOut) -> Iterator[tuple[Path, list[Path]]]:
    """Yield a folder and all below it, each with its files; links are followed, but not in circles."""
    todo = [(top, _above(top))]
    while todo:
        folder, above = todo.pop()
        real = os.path.realpath(folder)
        if real in above:
            left_out.circular.append(str(folder))
            continue
        folders, files = _list(folder, left_out)
        todo += [(f, above | {real}) for f in reversed(folders)]
        yield folder, files


def _matches(pattern: Path, left_out: _LeftOut) -> Iterable[Path]:
    """Return the files that match a pattern: as :func:`glob.glob`, but links cannot lead in circles."""
    *parts, last = pattern.parts[bool(pattern.anchor) :]
    folders = [Path(pattern.anchor)]
    for part in parts:
        found = _below(folders, part, left_out)
        folders = []
        for folder in found:
            if folder.is_symlink() and os.path.realpath(folder) in _above(folder):
                left_out.circular.append(str(folder))
            elif folder.is_dir():
                folders.append(folder)
    if last == "**":
        found = [file for top in folders for _, files in _walk(top, left_out) for file in files]
    else:
        found = _below(folders, last, left_out)
    return [file for file in dict.fromkeys(found) if file.is_file()]


def _below(folders: list[Path], part: str, left_out: _LeftOut) -> list[Path]:
    """Return what matches one part of a pattern in some folders."""
    if part == "**":
        return list(dict.fromkeys(f for top in folders for f, _ in _walk(top, left_out)))
    names = ((top, name) for top in folders for name in glob.glob(part, root_dir=top))
    return [top / name for top, name in names if name.lower() not in _JUNK]


def _images(files: Iterable[Path], left_out: _LeftOut) -> list[str]:
    """Return the paths of the images among some files, sorted."""
    endings, found = _endings(), []
    for file in files:
        if _is_hidden(file.name):
            continue
        ending = file.suffix.lower().rstrip(".")
        if ending in endings or (not ending and _is_picture(file)):
            found.append(str(file))
        else:
            left_out.kinds[ending or "without an ending"] += 1
    return sorted(found)


def _once(images: list[str], left_out: _LeftOut) -> list[str]:
    """Return the images of a class, those of a folder that links lead to by one way only."""
    ways: dict[str, str] = {}  # to each real folder, the first
    real = {folder: os.path.realpath(folder) for folder in {os.path.dirname(i) for i in images}}
    kept = []
    for image in images:
        folder = os.path.dirname(image)
        if ways.setdefault(real[folder], folder) == folder:
            kept.append(image)
        else:
            left_out.double.append(folder)
    return kept


def _kinds() -> set[str]:
    """Return the names of the formats that Pillow opens as pictures."""
    Image.init()
    # Stubs know a file by its head and cannot read it. Of the others one is a film, one a page that
    # Ghostscript would have to draw.
    return {
        kind
        for kind, (factory, _) in Image.OPEN.items()
        if not (isinstance(factory, type) and issubclass(factory, ImageFile.StubImageFile))
    } - {"MPEG", "EPS"}


def _endings() -> set[str]:
    kinds = _kinds()
    # HEIC is listed with or without its plugin: reading says what to install, silence would lose the file.
    return {".heic", ".heif"} | {
        ending for ending, kind in Image.registered_extensions().items() if kind in kinds
    }


def _is_picture(file: Path) -> bool:
    """Return whether a file that does not say so by its name is a picture."""
    # Of kinds that are known by their first bytes; the others take much for a picture.
    kinds = [kind for kind in _kinds() if Image.OPEN[kind][1] is not None]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of huge pictures and odd metadata: reading tells
            with Image.open(file, formats=kinds):
                return True
    except Image.DecompressionBombError:
        return True
    except Exception:
        try:
            with open(file, "rb") as opened:
                return is_heic(opened.read(12))
        except OSError:
            return False
