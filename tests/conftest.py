import atexit
import os
import shutil
import tempfile

import numpy as np
import pytest

# Before anything that reads them is imported: the tests use no network, no caches that are there
# already, and no screen.
_CACHES = tempfile.mkdtemp()
atexit.register(shutil.rmtree, _CACHES, ignore_errors=True)
os.environ |= {
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_CACHE": os.path.join(_CACHES, "hub"),
    "XDG_CACHE_HOME": _CACHES,
    "MPLBACKEND": "Agg",
}


@pytest.fixture(scope="session")
def digits():
    """Real handwritten digits, 30 of each class: images in [0, 1] and labels as words."""
    from sklearn.datasets import load_digits

    data = load_digits()
    names = np.array(
        ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    )
    rows = np.sort(np.concatenate([np.flatnonzero(data.target == c)[:30] for c in range(10)]))
    return data.images[rows] / 16, names[data.target[rows]]


@pytest.fixture(scope="session")
def digits_table(digits):
    """The digits as the first two steps hand them to the third."""
    from sklearn_clipensemble import CLIPEmbedder, ZeroShotLogits

    images, labels = digits
    embeddings = CLIPEmbedder("tiny").fit_transform(images)
    return ZeroShotLogits().fit_transform(embeddings, labels), labels
