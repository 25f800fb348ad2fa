"""A folder of images, one sub-folder per class."""

from __future__ import annotations

import glob
import warnings
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.utils import Bunch


def load_image_folder(path: str | Path) -> Bunch:
    """List the images of a folder and the classes they lie in.

    The counterpart of :func:`sklearn.datasets.load_files` for images: each
    sub-folder is a class and its name the label. Nothing is opened; what is an
    image is decided by the ending of its name. Hidden files are left out.

    Parameters
    ----------
    path : str or Path
        A folder with one sub-folder per class, searched to any depth; a folder
        of images without sub-folders; or a pattern such as
        ``"photos/*/*.jpg"``, where the class is the folder that an image lies
        in.

    Returns
    -------
    Bunch
        ``paths`` : ndarray of str, shape (n_images,), sorted by class and name;
        ``target`` : ndarray of str, shape (n_images,), the class of each image
        (None where the folder has no sub-folders); ``target_names`` : list of
        str, the classes, sorted.

    Raises
    ------
    FileNotFoundError
        If the folder does not exist, or if there are no images.
    NotADirectoryError
        If the path is a file.

    Warns
    -----
    UserWarning
        If images lie beside the sub-folders; they have no class and are left
        out.

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
    root = Path(path).expanduser()
    if root.is_dir():
        by_class = {
            f.name: _images(f.rglob("*"))
            for f in root.iterdir()
            if f.is_dir() and not f.name.startswith(".")
        }
        beside = _images(root.iterdir())
        if not any(by_class.values()) and beside:
            return Bunch(paths=np.array(beside), target=None, target_names=[])
        if beside:
            warnings.warn(
                f"{len(beside)} images lie beside the sub-folders of {str(path)!r} and have no class; they are "
                f"left out: {Path(beside[0]).name}{', ...' if len(beside) > 1 else ''}",
                UserWarning,
                stacklevel=2,
            )
    elif glob.has_magic(str(root)):
        by_class = {}
        for file in _images(Path(f) for f in glob.glob(str(root), recursive=True)):
            by_class.setdefault(Path(file).parent.name, []).append(file)
    elif root.exists():
        raise NotADirectoryError(f"{str(path)!r} is a file; expected a folder of images.")
    else:
        raise FileNotFoundError(f"There is no folder {str(path)!r}.")
    by_class = {name: by_class[name] for name in sorted(by_class) if by_class[name]}
    if not by_class:
        raise FileNotFoundError(
            f"There are no images in {str(path)!r} (known endings: .jpg, .png, .webp, ...). Expected one "
            "sub-folder per class, each with images."
        )
    return Bunch(
        paths=np.array([file for files in by_class.values() for file in files]),
        target=np.repeat(list(by_class), [len(files) for files in by_class.values()]),
        target_names=list(by_class),
    )


def _images(files) -> list[str]:
    """Return the paths of the images among some files, sorted."""
    # HEIC is listed with or without its plugin: reading says what to install, silence would lose the file.
    endings = {".heic", ".heif"}
    endings.update(e for e, kind in Image.registered_extensions().items() if kind in Image.OPEN)
    return sorted(
        str(f)
        for f in files
        if f.suffix.lower() in endings and not f.name.startswith(".") and f.is_file()
    )
