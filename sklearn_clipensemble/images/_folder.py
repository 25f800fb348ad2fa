"""A folder of images, one sub-folder per class."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.utils import Bunch


def load_image_folder(path: str | Path) -> Bunch:
    """List the images of a folder and the classes they lie in.

    The counterpart of :func:`sklearn.datasets.load_files` for images: each
    sub-folder is a class and its name the label. Nothing is opened; what is an
    image is decided by the file name's extension.

    Parameters
    ----------
    path : str or Path
        A folder with one sub-folder per class, or with images and no
        sub-folders.

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
        If the folder does not exist or holds no images.
    NotADirectoryError
        If the path is a file.

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
    """
    root = Path(path)
    if not root.exists():
        raise FileNotFoundError(f"There is no folder {str(path)!r}.")
    if not root.is_dir():
        raise NotADirectoryError(f"{str(path)!r} is a file; expected a folder of images.")
    known = Image.registered_extensions()

    def images(folder):
        return sorted(
            str(f)
            for f in folder.rglob("*")
            if f.suffix.lower() in known and f.is_file() and not f.name.startswith(".")
        )

    by_class = {
        f.name: images(f)
        for f in sorted(root.iterdir())
        if f.is_dir() and not f.name.startswith(".")
    }
    by_class = {name: files for name, files in by_class.items() if files}
    if by_class:
        paths = [p for files in by_class.values() for p in files]
        target = np.repeat(list(by_class), [len(files) for files in by_class.values()])
        return Bunch(paths=np.array(paths), target=target, target_names=list(by_class))
    paths = images(root)
    if not paths:
        raise FileNotFoundError(
            f"The folder {str(path)!r} holds no images (known endings: .jpg, .png, .webp, ...). Expected "
            "one sub-folder per class, each with images."
        )
    return Bunch(paths=np.array(paths), target=None, target_names=[])
