"""What corrupted images do to the backbones and to their combination."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import pandas as pd
from numpy.typing import ArrayLike
from tqdm.auto import tqdm

from sklearn_clipensemble._compat import validate_params
from sklearn_clipensemble.corruptions import CORRUPTIONS, Corruption
from sklearn_clipensemble.inspection._answers import Answers, asked

#: One of each family, quick enough for a first look.
_DEFAULT = (
    *("gaussian_noise", "impulse_noise", "gaussian_blur", "motion_blur", "fog", "brightness"),
    *("contrast", "saturate", "pixelate", "jpeg_compression", "elastic_transform", "greyscale"),
)


@validate_params(
    {"corruptions": ["array-like"], "severities": ["array-like"]},
    prefer_skip_nested_validation=True,
)
def robustness(
    estimator: object | Answers,
    X: Sequence | None = None,
    y: ArrayLike | None = None,
    *,
    corruptions: Sequence[str] = _DEFAULT,
    severities: Sequence[int] = (1, 3, 5),
    random_state: int = 0,
    verbose: int = 0,
) -> pd.DataFrame:
    """Return the accuracy on corrupted images, of every backbone and of the combiner.

    Nothing is fitted. Interrupting (Ctrl-C) returns what is done so far.

    Parameters
    ----------
    estimator : fitted classifier or Answers
        A pipeline that starts with images and ends in a combiner of this
        package, or a search over one. Or its :class:`Answers`, alone.
    X, y : sequence of length n_samples or None, default=None
        Images to test on, not those it was fitted on, and the true labels.
    corruptions : sequence of str, default=twelve of them
        Names from ``sklearn_clipensemble.corruptions.CORRUPTIONS``.
    severities : sequence of int, default=(1, 3, 5)
        From 1 to 5.
    random_state : int, default=0
        Decides the draws.
    verbose : int, default=0
        Whether to show progress.

    Returns
    -------
    DataFrame
        One row per corruption, severity and method, with columns
        ``corruption``, ``severity``, ``method`` and ``accuracy``. The clean
        images are the corruption ``"none"`` of severity 0. Flips and
        ``"greyscale"`` have severity 1 only.

    Raises
    ------
    ValueError
        If there is no such corruption or severity.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn_clipensemble import CLIPEmbedder, ZeroShotLogits
    >>> from sklearn_clipensemble.ensembles import ProbabilityAverage
    >>> from sklearn_clipensemble.inspection import robustness
    >>> X, y = load_digits().images[:40] / 16, load_digits().target[:40].astype(str)
    >>> clf = make_pipeline(CLIPEmbedder("tiny"), ZeroShotLogits(), ProbabilityAverage())
    >>> found = robustness(clf.fit(X, y), X, y, corruptions=["pixelate"], severities=[5])
    >>> found["corruption"].unique().tolist()
    ['none', 'pixelate']
    """
    unknown = [name for name in corruptions if name not in CORRUPTIONS]
    if unknown:
        raise ValueError(f"Unknown corruption {unknown[0]!r}; there are {', '.join(CORRUPTIONS)}.")
    fixed = {"horizontal_flip", "vertical_flip", "greyscale"}
    conditions = [("none", 0)]
    for name in corruptions:
        conditions += [(name, severity) for severity in ([1] if name in fixed else severities)]
    for name, severity in conditions[1:]:
        Corruption(name, severity)._validate_params()
    clean, tables = asked(estimator, X, y), []
    # Corrupted images lie as the clean ones do for the estimator.
    parameters = clean.estimator.get_params()
    upright = next((v for k, v in parameters.items() if k.endswith("exif_transpose")), True)
    try:
        for name, severity in tqdm(conditions, desc="corruptions", disable=not verbose):
            answers = clean
            if severity:
                options: dict[str, Any] = {"random_state": random_state, "exif_transpose": upright}
                images = Corruption(name, severity, **options).fit_transform(clean.X)
                answers = Answers.from_estimator(clean.estimator, images, clean.y)
            table = answers.correct.mean().rename_axis("method").rename("accuracy").reset_index()
            tables.append(table.assign(corruption=name, severity=severity))
    except KeyboardInterrupt:
        if not tables:
            raise
        warnings.warn(
            f"Interrupted after {len(tables)} of {len(conditions)} conditions.", stacklevel=2
        )
    found = pd.concat(tables, ignore_index=True)
    return found[["corruption", "severity", "method", "accuracy"]]
