"""One decision: what every backbone said, how much it counted, and which labelled images spoke for it."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.special import softmax

from sklearn_clipensemble.adaptive import AdaptiveBackboneEnsemble
from sklearn_clipensemble.images import as_sources, load
from sklearn_clipensemble.inspection._answers import unwrap


def combination_weights(estimator: Any, X: ArrayLike) -> pd.DataFrame:
    """Return the weight of every backbone for every image, of a whole pipeline.

    Parameters
    ----------
    estimator : fitted classifier
        A combiner with ``combination_weights``, or a pipeline or search that ends in one.
    X : array-like of shape (n_samples, ...)
        Whatever the estimator predicts from: images, or a table.

    Returns
    -------
    DataFrame of shape (n_samples, n_backbones)
        The weights; those of an image sum to one.

    Raises
    ------
    TypeError
        If the combiner has no weights.

    Examples
    --------
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn_clipensemble import AdaptiveBackboneEnsemble
    >>> from sklearn_clipensemble.datasets import load_cats_and_dogs
    >>> from sklearn_clipensemble.inspection import combination_weights
    >>> X, y = load_cats_and_dogs()
    >>> clf = make_pipeline("passthrough", AdaptiveBackboneEnsemble()).fit(X, y)
    >>> combination_weights(clf, X[:1]).sum(axis=1)
    0    1.0
    dtype: float64
    """
    combiner, table = unwrap(estimator, X)
    if not hasattr(combiner, "combination_weights"):
        raise TypeError(
            f"{type(combiner).__name__} has no combination_weights: it does not weight backbones."
        )
    return combiner.combination_weights(table)


def explain(
    estimator: Any, X: Any, *, images: Sequence | None = None, n_nearest: int = 6
) -> Explanation:
    """Show how an :class:`~sklearn_clipensemble.AdaptiveBackboneEnsemble` came to one answer.

    Parameters
    ----------
    estimator : fitted classifier
        An AdaptiveBackboneEnsemble, or a pipeline or search that ends in one.
    X : image, or DataFrame of one row
        The image, in any form that the pipeline takes; one row, where it takes a table.
    images : sequence of images or None, default=None
        The images given to ``fit``, to show the nearest of them; a Series where rows
        have names.
    n_nearest : int, default=6
        Number of labelled images to name.

    Returns
    -------
    Explanation
        The answer and its parts, which a notebook shows as a page.

    Raises
    ------
    TypeError
        If the classifier is no AdaptiveBackboneEnsemble.
    ValueError
        If ``X`` is more than one image, or ``images`` are not as many as were given to ``fit``.

    Examples
    --------
    >>> from sklearn_clipensemble import AdaptiveBackboneEnsemble
    >>> from sklearn_clipensemble.datasets import load_cats_and_dogs
    >>> from sklearn_clipensemble.inspection import explain
    >>> X, y = load_cats_and_dogs()
    >>> explanation = explain(AdaptiveBackboneEnsemble().fit(X, y), X[2:3])
    >>> explanation.answer
    'cat'
    >>> explanation.backbones["answer"].tolist()
    ['dog', 'cat']
    """
    sources = [X] if _is_one(X) else X
    if len(sources) != 1:
        raise ValueError(f"Expected one image, got {len(sources)}. Explain them one by one.")
    combiner, given = unwrap(estimator, sources)
    if not isinstance(combiner, AdaptiveBackboneEnsemble):
        raise TypeError(
            f"{type(combiner).__name__} cannot be explained: expected an AdaptiveBackboneEnsemble, or "
            "a pipeline or search that ends in one."
        )
    table: Any = combiner._table(given)
    labelled = combiner.labelled_rows_.tolist()
    if images is not None:
        _check_images(images, labelled)
    classes, names = combiner.classes_.tolist(), list(table.backbones)
    log_proba = combiner.predict_log_proba(table)[0]
    order = np.argsort(-log_proba, kind="stable")
    first, second = order[:2]

    parts = combiner._parts(table)[:, :, 0].astype(np.float64)
    rest = log_proba - parts.sum(axis=(0, 1))
    index = [*((b, what) for b in names for what in ("zero-shot", "labels")), ("all", "bias")]
    values = np.vstack([parts.swapaxes(0, 1).reshape(-1, len(classes)), rest - rest.max()])
    logits = {b: table.logits(b)[0].astype(np.float64) for b in table.with_logits}
    backbones = pd.DataFrame(
        {
            "answer": [classes[logits[b].argmax()] if b in logits else None for b in names],
            "probability": [softmax(logits[b]).max() if b in logits else np.nan for b in names],
            "weight": combiner.combination_weights(table).iloc[0].to_numpy(),
            "zero-shot": parts[0, :, first] - parts[0, :, second],
            "labels": parts[1, :, first] - parts[1, :, second],
        },
        index=names,
    )
    near, pictures = [], []
    for rows, alike, added in combiner._neighbours(table)[:n_nearest]:
        row = labelled[rows[0]]
        name = row if len(rows) == 1 else f"mean of {len(rows)}: {row}, ..."
        near.append((name, combiner.labels_[rows[0]], alike, added[first] - added[second]))
        if images is not None:
            pictures.append(_picture(images, row))
    frame = pd.DataFrame(near, columns=["row", "label", "similarity", "labels"]).set_index("row")
    return Explanation(
        answer=classes[first],
        probabilities=pd.Series(np.exp(log_proba[order]), [classes[i] for i in order]),
        backbones=backbones,
        parts=pd.DataFrame(values, pd.MultiIndex.from_tuples(index), classes),
        nearest=frame,
        picture="" if given is sources else _picture(sources, 0),
        nearest_pictures=pictures,
    )


@dataclass(frozen=True, repr=False)
class Explanation:
    """How one answer came about; :func:`explain` makes it.

    "Zero-shot" is what a backbone's own answer adds to the logits, "labels" what the labelled
    images do, as that backbone sees them. In ``backbones`` and ``nearest`` these are given for the
    answer ahead of the second best class: positive where they speak for the answer.

    Parameters
    ----------
    answer : object
        The label.
    probabilities : Series of length n_classes
        The probability of every class, the largest first.
    backbones : DataFrame of shape (n_backbones, 5)
        ``answer`` and ``probability``, zero-shot, None and NaN without text; ``weight``;
        ``zero-shot`` and ``labels``.
    parts : DataFrame of shape (2 n_backbones + 1, n_classes)
        All that is added up, by backbone and kind, and the classes' biases; the sums are the logits.
    nearest : DataFrame of shape (n_nearest, 3)
        The labelled images that are most like this one, by their rows' names: ``label``,
        ``similarity`` (1 for the same image) and ``labels``. Of more than 1,024 labelled images,
        means of a few of one class each.
    picture : str, default=""
        The image, as a data URL; empty where only a table was given.
    nearest_pictures : list of str, default=[]
        The same of the nearest labelled images; empty without ``images``.
    """

    answer: Any
    probabilities: pd.Series
    backbones: pd.DataFrame
    parts: pd.DataFrame
    nearest: pd.DataFrame
    picture: str = ""
    nearest_pictures: list[str] = field(default_factory=list)

    def _summary(self) -> str:
        (first, p), (second, q) = self.probabilities.iloc[:2].items()
        return f"{first} ({p:.1%}), before {second} ({q:.1%})"

    def __repr__(self):
        tables = [self.backbones, self.nearest] if len(self.nearest) else [self.backbones]
        return "\n\n".join([self._summary(), *(t.to_string(float_format=_number) for t in tables)])

    def _repr_html_(self):
        blocks = [f"<p><strong>{html.escape(self._summary())}</strong></p>"]
        if self.picture:
            blocks.append(f'<img src="{self.picture}" alt="The image that is explained">')
        look = {"float_format": _number, "border": 0, "na_rep": "–", "justify": "right"}
        second = html.escape(str(self.probabilities.index[1]))
        blocks.append(
            f"<p>Backbones. Zero-shot and labels: what they add to the answer's logit, less what they "
            f"add to that of {second}.</p>{self.backbones.to_html(**look)}"
        )
        if len(self.nearest):
            frame = self.nearest
            if self.nearest_pictures:
                shown = zip(self.nearest_pictures, frame.label, strict=True)
                frame = frame.reset_index().rename(columns={"row": "image"})
                captions = [
                    f'<img src="{picture}" alt="{html.escape(str(label))}"><br>{html.escape(str(row))}'
                    for (picture, label), row in zip(shown, frame["image"], strict=True)
                ]
                frame["image"] = captions
                frame["label"] = [html.escape(str(label)) for label in frame.label]
                look |= {"escape": False, "index": False}
            blocks.append(f"<p>Nearest labelled images.</p>{frame.to_html(**look)}")
        return "\n".join(blocks)


def _number(value: float) -> str:
    return f"{value:.2f}"


def _check_images(images, rows: list) -> None:
    if isinstance(images, pd.Series):
        missing = [row for row in rows if row not in images.index]
    elif isinstance(rows[0] if rows else 0, str):
        raise ValueError(
            f"The rows given to fit have names, such as {rows[0]!r}: pass images as a Series with these "
            "names as its index."
        )
    else:
        missing = [row for row in rows if row >= len(images)]
    if len(missing):
        raise ValueError(
            f"images has {len(images)} entries, and none for row {missing[0]!r}, which was learnt from. "
            "Pass all images that were given to fit."
        )


def _picture(images, row) -> str:
    """Return a small copy of an image as a data URL."""
    source = images.loc[row] if isinstance(images, pd.Series) else images[row]
    _, picture = load(as_sources([source]), 0)
    picture.thumbnail((160, 160))
    file = io.BytesIO()
    picture.convert("RGB").save(file, format="JPEG", quality=88)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"


def _is_one(X) -> bool:
    """Return whether this is an image, not a sequence of one or a table."""
    if hasattr(X, "ndim"):  # NumPy's texts have none
        return X.ndim in (0, 2, 3) and not hasattr(X, "columns")
    return not isinstance(X, list | tuple | pd.Series | pd.DataFrame)
