import numpy as np
import pandas as pd
import pytest


@pytest.fixture(scope="session")
def logits():
    """Logits of two noisy backbones for three classes, unequally many of each."""
    rng = np.random.default_rng(0)
    y = rng.permutation(np.repeat(["ant", "bee", "cat"], [50, 40, 30]))
    hit = np.eye(3)[np.unique(y, return_inverse=True)[1]]
    names = [f"m{b}__logit__{c}" for b in range(2) for c in ("ant", "bee", "cat")]
    X = rng.normal(size=(120, 2, 3)) + np.array([1.0, 2.0])[:, None] * hit[:, None]
    return pd.DataFrame(X.reshape(120, -1), columns=names), y
