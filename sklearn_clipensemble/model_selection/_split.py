"""Few-shot draws: k labelled examples per class, nested in k."""

from __future__ import annotations

from collections.abc import Iterator
from numbers import Integral

import numpy as np
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions, validate_params

from sklearn_clipensemble._labels import check_labels


def draw_shots(y: np.ndarray, n_shots: int | None, random_state=None) -> np.ndarray:
    """Draw up to ``n_shots`` examples of every class.

    Every class is shuffled on its own and its first ``n_shots`` examples are
    taken: for one ``random_state``, the draw of k examples is a part of the
    draw of k + 1.

    Parameters
    ----------
    y : ndarray of shape (n_samples,)
        The labels.
    n_shots : int or None
        Examples per class; None takes all.
    random_state : int, RandomState instance or None, default=None
        Decides the draw.

    Returns
    -------
    ndarray of int
        Indices of the drawn examples, ascending.
    """
    if n_shots is None:
        return np.arange(len(y))
    rng = check_random_state(random_state)
    _, codes = np.unique(y, return_inverse=True)
    order = rng.permutation(len(y))
    order = order[np.argsort(codes[order], kind="stable")]
    starts = np.searchsorted(codes[order], np.arange(codes.max() + 1))
    rank = np.arange(len(y)) - starts[codes[order]]
    return np.sort(order[rank < n_shots])


class FewShotSplit:
    """Cross-validator that trains on k examples per class and tests on the rest.

    The draws are nested: for one ``random_state``, the training examples of a
    split with fewer shots are among those of the same split with more. Every
    image that is not drawn is tested, so the test sets of two shot counts
    differ by the images drawn in addition; use ``max_shots`` to test both on
    the same images.

    Parameters
    ----------
    n_shots : int, default=1
        Labelled examples per class in each training set.
    n_repeats : int, default=5
        Number of draws.
    max_shots : int or None, default=None
        Leave the examples that the same draw with ``max_shots`` would take out
        of the test set, so that all shot counts up to it share one test set.
        None means ``n_shots``.
    rare : {"raise", "take"}, default="raise"
        What to do with a class that has no more than ``max_shots`` examples:
        raise an error that names it, or take all of its examples but one for
        training (and the only one of a class of one).
    random_state : int, RandomState instance or None, default=None
        Decides the draws. Pass an int for the same draws at every call.

    See Also
    --------
    sklearn.model_selection.StratifiedShuffleSplit : Keeps the classes' shares
        instead of drawing equally many of each.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_clipensemble.model_selection import FewShotSplit
    >>> y = np.array(["cat"] * 5 + ["dog"] * 3)
    >>> for train, test in FewShotSplit(n_shots=2, n_repeats=2, random_state=0).split(y, y):
    ...     print(y[train], len(test))
    ['cat' 'cat' 'dog' 'dog'] 4
    ['cat' 'cat' 'dog' 'dog'] 4
    """

    @validate_params(
        {
            "n_shots": [Interval(Integral, 1, None, closed="left")],
            "n_repeats": [Interval(Integral, 1, None, closed="left")],
            "max_shots": [Interval(Integral, 1, None, closed="left"), None],
            "rare": [StrOptions({"raise", "take"})],
            "random_state": ["random_state"],
        },
        prefer_skip_nested_validation=True,
    )
    def __init__(
        self,
        n_shots: int = 1,
        n_repeats: int = 5,
        *,
        max_shots: int | None = None,
        rare: str = "raise",
        random_state=None,
    ):
        self.n_shots = n_shots
        self.n_repeats = n_repeats
        self.max_shots = max_shots
        self.rare = rare
        self.random_state = random_state

    def __repr__(self):
        names = ("n_shots", "n_repeats", "max_shots", "rare", "random_state")
        shown = ", ".join(f"{name}={getattr(self, name)!r}" for name in names)
        return f"{type(self).__name__}({shown})"

    def get_n_splits(self, X=None, y=None, groups=None) -> int:
        """Return the number of draws."""
        return self.n_repeats

    def split(self, X, y, groups=None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Draw training and test indices.

        Parameters
        ----------
        X : object
            Ignored; its length is that of ``y``.
        y : array-like of shape (n_samples,)
            The class labels.
        groups : object
            Ignored.

        Yields
        ------
        train : ndarray of int
            The drawn examples, ascending.
        test : ndarray of int
            The examples to test on, ascending.

        Raises
        ------
        ValueError
            If ``rare="raise"`` and a class is too small to draw from and test
            on, or if ``max_shots`` is smaller than ``n_shots``.
        """
        held = self.n_shots if self.max_shots is None else self.max_shots
        if held < self.n_shots:
            raise ValueError(f"max_shots={held} is smaller than n_shots={self.n_shots}.")
        y = check_labels(y)
        classes, codes, counts = np.unique(y, return_inverse=True, return_counts=True)
        rarest = counts.argmin()
        if self.rare == "raise" and counts[rarest] <= held:
            raise ValueError(
                f"The class {classes[rarest].item()!r} has {counts[rarest]} examples; drawing {held} and "
                f"testing on the rest takes at least {held + 1}. Lower n_shots, or pass rare='take'."
            )
        rng = check_random_state(self.random_state)
        for _ in range(self.n_repeats):
            seed = rng.randint(np.iinfo(np.int32).max)
            kept = draw_shots(y, held, seed)
            train = draw_shots(y, self.n_shots, seed)
            # A rare class keeps one example to test on, the last of its draw.
            for code in np.flatnonzero((counts <= held) & (counts > 1)):
                inside = draw_shots(y, counts[code] - 1, seed)
                spare = np.setdiff1d(np.flatnonzero(codes == code), inside)
                kept, train = np.setdiff1d(kept, spare), np.setdiff1d(train, spare)
            yield train, np.setdiff1d(np.arange(len(y)), kept)
