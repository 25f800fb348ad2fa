"""Combiners that need no labels."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from sklearn_clipensemble._layout import Layout
from sklearn_clipensemble.ensembles._weighted import StaticCombiner


class SingleBackbone(StaticCombiner):
    """One backbone on its own.

    What every combination has to beat. The backbone is named; see
    :class:`BestBackbone` for the one that does best on the labelled examples.

    Parameters
    ----------
    backbone : str or None, default=None
        Id of the backbone, as in the table's columns; None takes the first.
    layout : Layout or None, default=None
        What the columns of a bare 2-D array are; a DataFrame says it itself.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The labels.
    backbones_ : list of str
        The backbones of the table.
    weights_ : ndarray of shape (n_backbones,)
        One for the chosen backbone, zero for the others.
    n_features_in_ : int
        Number of columns.

    Examples
    --------
    >>> import pandas as pd
    >>> from sklearn_clipensemble.ensembles import SingleBackbone
    >>> X = pd.DataFrame(
    ...     {"a__logit__cat": [2.0, 0.0], "a__logit__dog": [0.0, 1.0],
    ...      "b__logit__cat": [0.0, 3.0], "b__logit__dog": [1.0, 0.0]}
    ... )
    >>> SingleBackbone("b").fit(X).predict(X)
    array(['dog', 'cat'], dtype='<U3')
    """

    _needs_labels = False
    _parameter_constraints: ClassVar[dict] = {"backbone": [str, None], "layout": [Layout, None]}

    def __init__(self, backbone: str | None = None, *, layout: Layout | None = None):
        self.backbone = backbone
        self.layout = layout

    def _fit(self, table, codes, sample_weight):
        super()._fit(table, codes, sample_weight)
        if self.backbone is not None and self.backbone not in table.backbones:
            raise ValueError(
                f"The table has no backbone {self.backbone!r}; its backbones are: "
                f"{', '.join(table.backbones)}."
            )
        chosen = 0 if self.backbone is None else table.backbones.index(self.backbone)
        self.weights_ = np.eye(len(table.backbones))[chosen]


class _Average(StaticCombiner):
    """Equal weights."""

    _needs_labels = False

    def _fit(self, table, codes, sample_weight):
        super()._fit(table, codes, sample_weight)
        self.weights_ = np.full(len(table.backbones), 1 / len(table.backbones))


class LogitAverage(_Average):
    """The average of the backbones' logits.

    The plain ensemble: equal to the normalised geometric mean of the
    probabilities. A backbone with a larger logit scale weighs more, and one
    that is sure and wrong can outvote the others.

    Parameters
    ----------
    layout : Layout or None, default=None
        What the columns of a bare 2-D array are; a DataFrame says it itself.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The labels.
    backbones_ : list of str
        The backbones of the table.
    weights_ : ndarray of shape (n_backbones,)
        The equal weights.
    n_features_in_ : int
        Number of columns.

    See Also
    --------
    ProbabilityAverage : More robust to a bad member.

    Examples
    --------
    >>> import pandas as pd
    >>> from sklearn_clipensemble.ensembles import LogitAverage
    >>> X = pd.DataFrame(
    ...     {"a__logit__cat": [2.0, 0.0], "a__logit__dog": [0.0, 1.0],
    ...      "b__logit__cat": [0.0, 3.0], "b__logit__dog": [1.0, 0.0]}
    ... )
    >>> LogitAverage().fit(X).predict_proba(X).round(3)
    array([[0.622, 0.378],
           [0.731, 0.269]])
    """

    _of_logits = True


class ProbabilityAverage(_Average):
    """The average of the backbones' probabilities.

    The label-free combiner to start from: every backbone has the same say
    whatever its logit scale, and a bad member cannot veto the others.

    Parameters
    ----------
    layout : Layout or None, default=None
        What the columns of a bare 2-D array are; a DataFrame says it itself.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The labels.
    backbones_ : list of str
        The backbones of the table.
    weights_ : ndarray of shape (n_backbones,)
        The equal weights.
    n_features_in_ : int
        Number of columns.

    See Also
    --------
    LogitAverage : The average of the logits.

    Examples
    --------
    >>> import pandas as pd
    >>> from sklearn_clipensemble.ensembles import ProbabilityAverage
    >>> X = pd.DataFrame(
    ...     {"a__logit__cat": [2.0, 0.0], "a__logit__dog": [0.0, 1.0],
    ...      "b__logit__cat": [0.0, 3.0], "b__logit__dog": [1.0, 0.0]}
    ... )
    >>> ProbabilityAverage().fit(X).predict_proba(X).round(3)
    array([[0.575, 0.425],
           [0.611, 0.389]])
    """
