"""Embeddings -> zero-shot logits, by one text head per backbone."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from sklearn_clipensemble._compat import Options, documented, feature_names
from sklearn_clipensemble._runtime import return_memory, unforked
from sklearn_clipensemble.backbones import Backbone, BackboneLike, from_id, resolve
from sklearn_clipensemble.backbones._templates import resolve_templates
from sklearn_clipensemble.embedding._cache import Store, open_store, vector_key
from sklearn_clipensemble.embedding._embedder import CLIPEmbedder
from sklearn_clipensemble.table._labels import NUMBERED, check_labels, list_some
from sklearn_clipensemble.table._layout import (
    Layout,
    as_frame,
    check_backbones,
    class_key,
    numbers_as_seen,
    refuse_what_is_no_table,
    show,
)


@documented
class ZeroShotLogits(TransformerMixin, BaseEstimator):
    """Turn each backbone's embeddings into zero-shot logits.

    Each backbone embeds the names of the classes with its own text tower; a logit is the cosine to the
    image's embedding, times the backbone's logit scale, plus its bias where it has one (SigLIP). Labels
    only tell which classes there are. Embeddings of backbones without a text tower are handed on.

    Parameters
    ----------
    class_names : mapping, sequence of str or None, default=None
        What the classes are called. A mapping goes from label to words (``{0: "zero", 1: "one"}``; a
        pandas Series maps its index). A list holds the labels themselves where those in ``y`` are
        texts; where they are numbers, the names of the sorted labels, each of which must occur in
        ``y``. None takes the labels in ``y``, which must be texts. Underscores are read as spaces. Two
        labels may share words.
    templates : str or sequence of str, default="a photo of a {}."
        Sentences that the words are put into; the embeddings of several are averaged. ``"openai-7"``
        and ``"openai-80"`` are CLIP's own sets.
    passthrough : bool, default=True
        Whether to keep the embeddings beside the logits. Without, backbones that have no text tower
        are left out.
    backbones : sequence of str or Backbone, or None, default=None
        The backbones of the table, where their ids do not lead to their text towers: folders that
        another process embedded with, models in memory, or arrays without column names. Others
        that nobody knows are then taken for backbones without a text tower, with a warning.
    cache : path, None or False, default=None
        Where the embeddings of the prompts are kept; see :class:`CLIPEmbedder`.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The labels, sorted.
    prompts_ : dict
        Label -> the words that are put into the templates.
    backbones_ : list of str
        The ids of the backbones.
    text_heads_ : dict of str to ndarray of float32, shape (n_classes, width)
        The embedded classes of every backbone with a text tower; predicting loads no text tower.
    logit_scales_ : dict of str to float
        The backbones' own logit scales.
    logit_biases_ : dict of str to float
        The backbones' own biases, 0 where there is none.

    See Also
    --------
    CLIPEmbedder : Makes the table of embeddings.
    AdaptiveBackboneEnsemble : Learns from the logits and embeddings.

    References
    ----------
    A. Radford et al., "Learning Transferable Visual Models From Natural
    Language Supervision", ICML 2021 (arXiv 2103.00020).

    Examples
    --------
    >>> from sklearn.datasets import load_sample_images
    >>> from sklearn_clipensemble import CLIPEmbedder, ZeroShotLogits
    >>> table = CLIPEmbedder(["tiny/RN-1221"]).fit_transform(load_sample_images().images)
    >>> logits = ZeroShotLogits(["flower", "temple"], passthrough=False).fit_transform(table)
    >>> list(logits.columns)
    ['tiny/RN-1221__logit__flower', 'tiny/RN-1221__logit__temple']
    """

    _parameter_constraints: dict = {
        "class_names": [dict, Mapping, "array-like", None],
        "templates": [str, "array-like"],
        "passthrough": ["boolean"],
        "backbones": [str, "array-like", Backbone, None],
        "cache": [str, os.PathLike, None, Options(bool, {False})],
    }

    def __init__(
        self,
        class_names: Mapping | Sequence[str] | None = None,
        *,
        templates: str | Sequence[str] = "a photo of a {}.",
        passthrough: bool = True,
        backbones: Sequence | None = None,
        cache: str | os.PathLike | bool | None = None,
    ):
        self.class_names = class_names
        self.templates = templates
        self.passthrough = passthrough
        self.backbones = backbones
        self.cache = cache

    def fit(self, X: pd.DataFrame, y: ArrayLike | None = None) -> Self:
        """Learn the classes and embed their names.

        Parameters
        ----------
        X : DataFrame of shape (n_images, n_columns)
            A table of embeddings, as :class:`CLIPEmbedder` returns it. Only its columns are looked at.
        y : array-like of shape (n_images,) or None, default=None
            The labels; needed where ``class_names`` does not say what the classes are.

        Returns
        -------
        self : object
            The fitted step.

        Raises
        ------
        ValueError
            If the classes are not known or fewer than two, if names and labels do not match, if the
            table does not hold a backbone's embedding, or if no backbone has a text tower.
        TypeError
            If labels of different types are mixed.
        ConnectionError, FileNotFoundError
            If the weights of a backbone cannot be had.
        """
        self._validate_params()
        refuse_what_is_no_table(X, type(self).__name__)
        templates = resolve_templates(self.templates)
        names = feature_names(X)
        backbones, layout = self._find_backbones(X, names)
        validate_data(self, X, dtype=[np.float32, np.float64], ensure_all_finite="allow-nan")
        if layout.n_features != self.n_features_in_:
            raise ValueError(
                f"The backbones {list(layout.backbones)} have embeddings of {layout.n_features} columns together, "
                f"but X has {self.n_features_in_}."
            )
        prompts = self._name_classes(y)
        if len(prompts) < 2:
            raise ValueError(
                f"Zero-shot classification needs at least 2 classes, got 1 class: {show(next(iter(prompts)))}. Pass "
                "examples of more classes, or all of them as class_names."
            )
        labels = list(prompts)
        self.classes_ = np.array(labels)
        self.prompts_ = prompts
        self.backbones_ = list(layout.backbones)
        self.text_heads_, self.logit_scales_, self.logit_biases_ = {}, {}, {}
        store = open_store(self.cache)
        for backbone in backbones:
            backbone.require()
            head, scale, bias = _text_head(backbone, list(prompts.values()), templates, store)
            self.text_heads_[backbone.id] = head
            self.logit_scales_[backbone.id] = scale
            self.logit_biases_[backbone.id] = bias
        return_memory()  # of the text towers
        self._layout_in = layout
        widths = layout.widths if self.passthrough else dict.fromkeys(self.text_heads_, 0)
        self._layout = Layout(widths, tuple(map(class_key, labels)), tuple(self.text_heads_))
        return self

    def _find_backbones(self, X, names):
        """Return the backbones of a table that have text towers, and its layout."""
        layout = None if names is None else Layout.from_names(names)
        if layout is None:
            if self.backbones is None:
                raise ValueError(
                    "X does not say whose embeddings it holds. Pass the DataFrame that CLIPEmbedder returns "
                    "(columns '{backbone}__embedding__{i}'; FeatureUnion and ColumnTransformer keep them "
                    "with .set_output(transform='pandas')), or name its backbones in order with "
                    "ZeroShotLogits(backbones=[...])."
                )
            backbones = resolve(self.backbones)
            layout = Layout({b.id: b.width for b in backbones})
        elif layout.classes:
            raise ValueError(
                "The table holds zero-shot logits already; pass the embeddings of CLIPEmbedder alone."
            )
        else:
            known = {} if self.backbones is None else {b.id: b for b in resolve(self.backbones)}
            if known and known.keys().isdisjoint(layout.backbones):
                raise ValueError(
                    f"The table has none of backbones={list(known)}; those of the table are: "
                    f"{', '.join(layout.backbones)}."
                )
            backbones = []
            for id in layout.backbones:  # no comprehension: frames are counted for the warning
                backbones.append(known.get(id) or from_id(id, may_be_unknown=bool(known)))
        with_text = [b for b in backbones if b is not None and b.has_text]
        if not with_text:
            raise ValueError(
                f"No backbone of the table has a text tower: {', '.join(layout.backbones)}. Leave "
                "ZeroShotLogits out, and learn from labels alone, or add a CLIP backbone such as "
                "'ViT-B-32/openai'."
            )
        for id, backbone in zip(layout.backbones, backbones, strict=True):
            if backbone not in with_text:
                continue
            if backbone.id != id:
                raise ValueError(f"The table's backbone {id!r} is called {backbone.id!r} here.")
            if backbone.width != layout.widths[id]:
                raise ValueError(
                    f"The table's embedding of backbone {id!r} has {layout.widths[id]} columns; the "
                    f"backbone's has {backbone.width}. Is it another backbone of the same name?"
                )
        return with_text, layout

    def _name_classes(self, y) -> dict:
        """Return label -> words, sorted by label."""
        labels: Any = None if y is None else np.unique(check_labels(y))
        names = labels if self.class_names is None else self.class_names
        if names is None:
            raise ValueError(
                "The classes are not known: pass y with their names as labels, or class_names=[...]."
            )
        if self.class_names is None and labels.dtype.kind != "U":
            raise ValueError(
                f"The labels are of type {labels.dtype}, such as {show(labels[0])}, and say nothing to a "
                f"text tower. Name them: class_names={{{show(labels[0])}: 'cat', ...}}. {NUMBERED}"
            )
        names = _as_mapping(names, labels)
        plain = check_labels(list(names), "in class_names").tolist()
        for label, words in names.items():
            _check_words(label, words)
        # NumPy's texts and numbers become Python's, which read better in prompts_.
        names = dict(zip(plain, map(str, names.values()), strict=True))
        keys = {class_key(label) for label in names}
        unnamed = [] if labels is None else [x for x in labels if class_key(x) not in keys]
        if unnamed:
            hint = NUMBERED if labels.dtype.kind in "iu" else ""
            if isinstance(self.class_names, pd.Series):
                hint = "A pandas Series maps its index to names; pass a list if it is one."
            elif not isinstance(self.class_names, Mapping):
                hint = "Where the labels are texts, a list holds the labels; a mapping gives them names."
            raise ValueError(
                f"The label {show(unnamed[0])} in y has no name in class_names (one of {len(unnamed)}), which "
                f"has {list_some(names)}. {hint}".rstrip()
            )
        return {label: names[label].replace("_", " ") for label in sorted(names)}

    def transform(self, X: pd.DataFrame) -> pd.DataFrame:
        """Compute the zero-shot logits.

        Parameters
        ----------
        X : DataFrame
            A table with the columns seen at fit. Rows of NaN (unreadable images) stay NaN.

        Returns
        -------
        DataFrame of float32, shape (n_images, n_columns)
            For every backbone its embedding (with ``passthrough``) and, where it has a text tower, its
            logits, ``{backbone}__logit__{class}``.

        Raises
        ------
        ValueError
            If the table's columns are not those seen at fit.
        """
        check_is_fitted(self)
        values = numbers_as_seen(X, self, self._layout_in)
        if values is None:
            names = feature_names(X)
            if names is not None:
                check_backbones(Layout.from_names(names), self._layout_in)
            values = validate_data(
                self, X, reset=False, dtype=[np.float32, np.float64], ensure_all_finite="allow-nan"
            )
        out = np.empty((len(values), self._layout.n_features), dtype=np.float32)
        for id, head in self.text_heads_.items():
            logits = self._layout.logits(out, id)
            logits[:] = self._layout_in.embedding(values, id) @ head.T
            logits *= self.logit_scales_[id]
            logits += self.logit_biases_[id]
        for id in self.backbones_ if self.passthrough else ():
            self._layout.embedding(out, id)[:] = self._layout_in.embedding(values, id)
        index = X.index if isinstance(X, pd.DataFrame) else None
        return as_frame(out, self._layout, index)

    get_feature_names_out = CLIPEmbedder.get_feature_names_out

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.target_tags.required = self.class_names is None
        return tags


def _as_mapping(names, labels: np.ndarray | None) -> Mapping:
    """Return the mapping from label to words that names of any form stand for."""
    columns = getattr(names, "column_names", getattr(names, "columns", None))  # pyarrow; others
    if columns is not None:
        raise ValueError(
            f"class_names is a table of the columns {list(columns)[:5]}. Pass a mapping from label to "
            "name: dict(zip(table[labels], table[names]))."
        )
    if len(names) == 0:
        raise ValueError(
            "class_names is empty. Name the classes, or pass None for the labels in y."
        )
    if isinstance(names, pd.Series):
        if not names.index.is_unique:
            raise ValueError(
                "class_names is a pandas Series, which maps its index to names, and its index has "
                f"{show(names.index[names.index.duplicated()][0])} twice. Pass a list if it is one."
            )
        return names.to_dict()
    return names if isinstance(names, Mapping) else _pair(names, labels)


def _check_words(label: object, words: object) -> None:
    """Refuse what no text tower can read, and a label that no column can be called by."""
    if not isinstance(words, str) or not words.strip():
        raise ValueError(
            f"The name of class {show(label)} must be a text that a text tower can read, got "
            f"{show(words)}."
        )
    text = f"{words}{label}"
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"The class {show(label)} holds {text[error.start]!r}, half of a character that UTF-8 "
            "cannot write, as in file names of another encoding. Rename it, or map it: "
            "class_names={label: 'words', ...}."
        ) from None


def _pair(names: Iterable, labels: np.ndarray | None) -> dict:
    """Pair a list of names with labels: texts by value, numbers in their order.

    That takes all numbers: 1 to 9 may be the first nine of 1 to 10, or indices that begin at 1.
    """
    # The items of pyarrow's columns are no texts.
    ordered = names.to_pylist() if hasattr(names, "to_pylist") else list(names)
    for index, name in enumerate(ordered):
        if not isinstance(name, str):
            raise ValueError(
                f"The name at index {index} of class_names must be a text, got {show(name)}."
            )
    if labels is None or labels.dtype.kind == "U":
        return {name: name for name in ordered}
    if isinstance(names, Set):
        raise ValueError(
            f"class_names is a {type(names).__name__}, which has no order, and the labels in y are numbers, "
            f"such as {show(labels[0])}. Pass a mapping from label to name: {{{show(labels[0])}: 'cat', ...}}."
        )
    if len(ordered) != len(labels):
        raise ValueError(
            f"class_names is a list of {len(ordered)} names, but y has {len(labels)} different labels "
            f"({list_some(labels)}): which name is whose cannot be told. Some rows may lack a class, as in "
            "a fold of a cross-validation. Pass a mapping from label to name: class_names="
            f"{{{show(labels[0])}: 'cat', ...}}, or dict(enumerate(names)) if the labels count from 0. {NUMBERED}"
        )
    return dict(zip(labels.tolist(), ordered, strict=True))


def _text_head(
    backbone: BackboneLike, words: list[str], templates: tuple[str, ...], store: Store
) -> tuple[np.ndarray, float, float]:
    """Return the mean embedding of every class over the templates, normalised, and the logits' scale and bias."""
    with unforked():
        from sklearn_clipensemble.backbones._model import load

    weights = backbone.fingerprint()
    keys = {w: vector_key(w.encode(), f"text {weights} {templates!r}") for w in words}
    scale_key = vector_key(b"", f"scale {weights}")
    known = store.get([scale_key, *keys.values()])
    missing = [w for w, key in keys.items() if key not in known]
    # The text tower is loaded only for what is not known, and stays no longer than this call.
    if missing or scale_key not in known:
        model = load(backbone)
        text = model.text
        known[scale_key] = np.array([text.logit_scale, text.logit_bias], np.float32)
        store.put({scale_key: known[scale_key]})
    at_once = max(1, 256 // len(templates))
    for start in range(0, len(missing), at_once):
        some = missing[start : start + at_once]
        prompts = [t.format(w) for w in some for t in templates]
        mean = model.embed_texts(prompts).reshape(len(some), len(templates), -1).mean(1)
        mean /= np.linalg.norm(mean, axis=1, keepdims=True)
        new = {keys[w]: v for w, v in zip(some, mean, strict=True)}
        store.put(new)
        known |= new
    scale, bias = map(float, known[scale_key])
    return np.stack([known[keys[w]] for w in words]), scale, bias
