"""A small table to try things on."""

from __future__ import annotations

import numpy as np
import pandas as pd

from sklearn_clipensemble.table._layout import Layout

__all__ = ["load_cats_and_dogs"]


def load_cats_and_dogs() -> tuple[pd.DataFrame, np.ndarray]:
    """Return a made-up table of six images of cats and dogs, as two backbones see them.

    Returns
    -------
    X : DataFrame of shape (6, 8)
        An embedding of width 2 and the zero-shot logits of the backbones
        ``large`` and ``small``, each wrong on one image, float32.
    y : ndarray of shape (6,)
        The labels, ``"cat"`` or ``"dog"``.

    Examples
    --------
    >>> from sklearn_clipensemble.datasets import load_cats_and_dogs
    >>> X, y = load_cats_and_dogs()
    >>> X.filter(like="logit").head(2)
       large__logit__cat  large__logit__dog  small__logit__cat  small__logit__dog
    0                3.0                0.0                1.0                0.0
    1                2.0                0.0                0.0                1.0
    >>> y
    array(['cat', 'cat', 'cat', 'dog', 'dog', 'dog'], dtype='<U3')
    """
    layout = Layout({"large": 2, "small": 2}, ["cat", "dog"])
    rows = [
        [1.0, 0.0, 3.0, 0.0, 0.8, 0.6, 1.0, 0.0],
        [0.8, 0.6, 2.0, 0.0, 0.6, 0.8, 0.0, 1.0],
        [0.6, 0.8, 0.0, 0.5, 1.0, 0.0, 2.0, 0.0],
        [0.0, 1.0, 0.0, 4.0, 0.6, 0.8, 0.0, 1.0],
        [0.6, 0.8, 0.0, 2.0, 0.0, 1.0, 0.0, 1.5],
        [0.0, 1.0, 0.0, 1.0, 0.0, 1.0, 0.0, 2.0],
    ]
    X = pd.DataFrame(rows, columns=layout.names, dtype=np.float32)
    return X, np.repeat(["cat", "dog"], 3)
