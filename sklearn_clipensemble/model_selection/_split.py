"""Few-shot draws: k labelled examples per class, nested in k."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from numbers import Integral
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike
from sklearn.model_selection import BaseCrossValidator
from sklearn.utils import check_consistent_length, check_random_state

from sklearn_clipensemble._compat import Interval, StrOptions, validate_parameter_constraints
from sklearn_clipensemble.table._draws import draw_shots
from sklearn_clipensemble.table._labels import check_labels


class FewShotSplit(BaseCrossValidator):
    """Cross-validator that trains on k examples per class and tests on the rest.

    The draws are nested: for one integer ``random_state``, the training
    examples of a split with fewer shots are among those of the same split with
    more.

    Parameters
    ----------
    n_shots : int, default=1
        Labelled examples per class in each training set.
    n_repeats : int, default=5
        Number of draws.
    max_shots : int or None, default=None
        Draw the training sets from the draws of this many examples per class,
        and test on what those leave, so that all shot counts up to
        ``max_shots`` are tested on the same examples. None means ``n_shots``:
        every example that is not trained on is tested.
    rare : {"raise", "take"}, default="raise"
        What to do with a class of no more than ``max_shots`` examples: raise
        an error that names it, or train on all of them but one. The only
        example of a class is then trained on, and the class is not tested.
    random_state : int, RandomState instance or None, default=None
        Decides the draws. Pass an int for the same draws at every call.

    Notes
    -----
    Training indices come in the order of the draw, the first example of every
    class before the second of any: with ``train_sizes`` that are multiples of
    the number of classes, :func:`sklearn.model_selection.learning_curve` adds
    one example of each class after the other.

    A search over an estimator's own ``n_shots`` inside ``FewShotSplit(k, random_state=seed)``
    trains on the examples of ``FewShotSplit(n_shots, max_shots=k, random_state=seed)``, where
    the estimator has the same integer ``random_state``.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_clipensemble import FewShotSplit
    >>> y = np.array(["cat"] * 5 + ["dog"] * 3)
    >>> for train, test in FewShotSplit(n_shots=2, n_repeats=2, random_state=0).split(y, y):
    ...     print(y[train], len(test))
    ['cat' 'dog' 'cat' 'dog'] 4
    ['cat' 'dog' 'cat' 'dog'] 4
    """

    _parameter_constraints: ClassVar[dict] = {
        "n_shots": [Interval(Integral, 1, None, closed="left")],
        "n_repeats": [Interval(Integral, 1, None, closed="left")],
        "max_shots": [Interval(Integral, 1, None, closed="left"), None],
        "rare": [StrOptions({"raise", "take"})],
        "random_state": ["random_state"],
    }
    # Groups reach split through searches and pipelines with metadata routing.
    __metadata_request__split: ClassVar[dict] = {"groups": True}

    def __init__(
        self,
        n_shots: int = 1,
        n_repeats: int = 5,
        *,
        max_shots: int | None = None,
        rare: str = "raise",
        random_state: int | np.random.RandomState | None = None,
    ):
        self.n_shots = n_shots
        self.n_repeats = n_repeats
        self.max_shots = max_shots
        self.rare = rare
        self.random_state = random_state
        validate_parameter_constraints(self._parameter_constraints, vars(self), type(self).__name__)
        if max_shots is not None and max_shots < n_shots:
            raise ValueError(f"max_shots={max_shots} is smaller than n_shots={n_shots}.")

    def get_n_splits(self, X: object = None, y: object = None, groups: object = None) -> int:
        """Return the number of draws.

        Parameters
        ----------
        X, y, groups : object
            Ignored.

        Returns
        -------
        int
            The number of draws.
        """
        return self.n_repeats

    def split(
        self, X: Sequence | ArrayLike, y: ArrayLike, groups: ArrayLike | None = None
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Draw training and test indices.

        Parameters
        ----------
        X : sequence of length n_samples
            Only its length matters.
        y : array-like of shape (n_samples,)
            The class labels.
        groups : array-like of shape (n_samples,) or None, default=None
            What belongs together, such as the frames of one film: no example
            is tested whose group has one in the draw.

        Yields
        ------
        train : ndarray of int
            The drawn examples, in the order of the draw.
        test : ndarray of int
            The examples to test on, ascending.

        Raises
        ------
        ValueError
            If ``y`` is missing or of another length than ``X``, or if
            ``rare="raise"`` and a class is too small to draw from and to test.
        """
        if y is None:
            raise ValueError(
                f"{type(self).__name__} draws by class: y must be the labels, got None."
            )
        y = check_labels(y)
        check_consistent_length(X, y, groups)
        held = self.n_shots if self.max_shots is None else self.max_shots
        if not len(y):
            raise ValueError("y is empty: there is nothing to draw from.")
        classes, counts = np.unique(y, return_counts=True)
        rarest = counts.argmin()
        if self.rare == "raise" and counts[rarest] <= held:
            raise ValueError(
                f"The class {classes[rarest].item()!r} has {counts[rarest]} examples; drawing {held} "
                f"and testing on the rest takes at least {held + 1}. Draw fewer, or pass rare='take'."
            )
        limits = np.clip(counts - 1, 1, held)
        rng = check_random_state(self.random_state)
        for _ in range(self.n_repeats):
            train = pool = draw_shots(y, limits, rng)
            if self.max_shots is not None:
                train = pool[draw_shots(y[pool], self.n_shots, self.random_state)]
            tested = np.ones(len(y), dtype=bool)
            tested[pool] = False
            if groups is not None:
                tested &= ~np.isin(groups, np.asarray(groups)[pool])
                untested = np.setdiff1d(classes, y[tested])
                if self.rare == "raise" and len(untested):
                    raise ValueError(
                        f"The class {untested[0].item()!r} has no example to test on: all share a group "
                        "with a drawn one. Draw fewer, or pass rare='take'."
                    )
            yield train, np.flatnonzero(tested)
