"""Embeddings -> zero-shot logits."""

import contextlib
import pickle
import shutil
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from instances import ODD_TABLES, outcome
from sklearn.base import clone
from sklearn.datasets import load_sample_images
from sklearn.exceptions import NotFittedError

from sklearn_clipensemble import CLIPEmbedder, ZeroShotLogits, clear
from sklearn_clipensemble.backbones import _model, resolve, tiny
from sklearn_clipensemble.backbones._model import Model
from sklearn_clipensemble.backbones._open_clip import open_clip, quiet
from sklearn_clipensemble.embedding import _zero_shot

TINY = ["tiny/RN-1221"]
DIGITS = ["zero", "one", "two", "three"]


@pytest.fixture(scope="module")
def table():
    return CLIPEmbedder(TINY, precision="fp32").fit_transform(load_sample_images().images)


def official_head(words, templates):
    """Text heads by open_clip's own classes: embed each prompt, average, normalise."""
    (backbone,) = resolve(TINY)
    with quiet():
        model, _ = open_clip().create_model_from_pretrained(f"local-dir:{backbone.weights.folder}")
        tokenizer = open_clip().get_tokenizer(f"local-dir:{backbone.weights.folder}")
    rows = []
    for word in words:
        tokens = tokenizer([t.format(word) for t in templates])
        mean = model.eval().encode_text(tokens, normalize=True).detach().numpy().mean(0)
        rows.append(mean / np.linalg.norm(mean))
    return np.stack(rows), float(model.logit_scale.exp().detach())


@pytest.mark.parametrize(
    "templates", ["a photo of a {}.", ["a {}", "the {}!"], "openai-7", "openai-80"]
)
def test_logits_are_scaled_cosines_to_averaged_prompts(table, templates):
    from sklearn_clipensemble.backbones._templates import resolve_templates

    step = ZeroShotLogits(DIGITS, templates=templates, passthrough=False).fit(table)
    head, scale = official_head(sorted(DIGITS), resolve_templates(templates))
    np.testing.assert_allclose(step.text_heads_[TINY[0]], head, atol=1e-5)
    assert step.logit_scales_[TINY[0]] == pytest.approx(scale, rel=1e-6)
    assert step.logit_biases_[TINY[0]] == 0
    logits = step.transform(table)
    np.testing.assert_allclose(logits, table.to_numpy() @ head.T * scale, atol=1e-3)
    assert list(logits.columns) == [f"{TINY[0]}__logit__{c}" for c in sorted(DIGITS)]


def test_named_sets():
    from sklearn_clipensemble.backbones._templates import resolve_templates

    assert len(resolve_templates("openai-7")) == 7
    eighty = resolve_templates("openai-80")
    assert len(set(eighty)) == 80
    assert set(resolve_templates("openai-7")) < set(eighty)
    assert pickle.loads(pickle.dumps(eighty)) == eighty


def test_passthrough_keeps_the_embeddings(table):
    both = ZeroShotLogits(DIGITS).fit_transform(table)
    assert both.shape == (2, 132)
    np.testing.assert_array_equal(both[table.columns], table)
    assert both.index.equals(table.index)
    assert set(both.dtypes) == {np.dtype("float32")}


def test_images_that_could_not_be_read_stay_nan(table):
    table = table.copy()
    table.iloc[0] = np.nan
    logits = ZeroShotLogits(DIGITS, passthrough=False).fit_transform(table)
    np.testing.assert_array_equal(logits.isna().all(axis=1), [True, False])


# Which classes there are


def classes(table, class_names=None, y=None):
    step = ZeroShotLogits(class_names).fit(table, y)
    return dict(zip(step.classes_.tolist(), step.prompts_.values(), strict=True))


def test_classes(table):
    expected = {"polar_bear": "polar bear", "zebra": "zebra"}
    assert classes(table, y=["zebra", "polar_bear"]) == expected
    assert classes(table, ["zebra", "polar_bear"]) == expected
    assert classes(table, {0: "zero", 1: "one", 2: "two"}, [0, 1]) == {
        0: "zero",
        1: "one",
        2: "two",
    }
    assert classes(table, ["low", "high"], [10, 20]) == {10: "low", 20: "high"}
    assert classes(table, {"a": "missile", "b": "missile"}) == {"a": "missile", "b": "missile"}
    assert classes(table, {1: "one", 2: "two"}, [1.0, 2.0]) == {1: "one", 2: "two"}


@pytest.mark.parametrize(
    "labels",
    [
        [0, 1, 2, 3],
        [1, 2, 3, 4],
        [0, 2, 4, 6],
        [-1, 0, 1, 2],
        [0.0, 1.0, 2.0, 3.0],
        ["three", "two", "one", "zero"],
        ["a", "b", "c", "d"],
    ],
    ids=str,
)
@pytest.mark.parametrize("kind", [list, tuple, np.array, "mapping", "Series"])
def test_no_subset_of_the_rows_changes_a_name(table, labels, kind):
    words = ["zero", "one", "two", "three"]
    if kind == "mapping":
        named = dict(zip(labels, words, strict=True))
    elif kind == "Series":
        named = pd.Series(words, labels)[::-1]
    else:
        named = kind(words)
    expected = dict(zip(sorted(labels), words, strict=True))
    if kind in ("mapping", "Series"):
        expected = dict(zip(labels, words, strict=True))
    elif "zero" in labels:
        expected = {word: word for word in words}
    readings = []
    for size in (2, 3, 4):
        for some in combinations(labels, size):
            with contextlib.suppress(ValueError):
                readings.append(classes(table, named, list(some)))
    assert all(reading == expected for reading in readings)
    by_value = kind in ("mapping", "Series") or "zero" in labels
    assert len(readings) == (11 if by_value else 1 - (labels[0] == "a"))


def test_numbers_that_a_list_does_not_count_off(table):
    words = [str(i) for i in range(10)]
    for y in (range(1, 10), range(9), [0, 1], [-1, 1], range(11)):
        with pytest.raises(
            ValueError,
            match=r"list of 10 names, but y has \d+ different labels.*cannot be told.*a mapping from label",
        ):
            ZeroShotLogits(words).fit(table, list(y))


def test_a_series_is_a_mapping(table):
    names = pd.Series(["one", "zero"], index=[1, 0])
    assert classes(table, names, [0, 1]) == {0: "zero", 1: "one"}
    assert classes(table, names, [1.0, 0.0]) == {0: "zero", 1: "one"}
    with pytest.raises(ValueError, match=r"'one' in y has no name.*Series maps its index.*a list"):
        ZeroShotLogits(pd.Series(["one", "zero"])).fit(table, ["zero", "one"])
    with pytest.raises(ValueError, match="its index has 0 twice"):
        ZeroShotLogits(pd.Series(["one", "zero"], index=[0, 0])).fit(table, [0, 1])


@pytest.mark.parametrize("unordered", [set, frozenset, lambda words: dict.fromkeys(words).keys()])
def test_what_has_no_order_names_no_numbers(table, unordered):
    words = unordered(["zero", "one"])
    with pytest.raises(ValueError, match=r"which has no order.*a mapping from label to name"):
        ZeroShotLogits(words).fit(table, [0, 1])
    for y in (None, ["one", "zero"]):
        assert classes(table, words, y) == {"one": "one", "zero": "zero"}


@pytest.mark.parametrize(
    "form", [pd.Index, pl.Series, pa.array, lambda words: pa.chunked_array([words])]
)
def test_columns_of_names_are_lists(table, form):
    assert classes(table, form(["low", "high"]), [3, 4]) == {3: "low", 4: "high"}
    assert classes(table, form(["low", "high"]), ["high"]) == {"high": "high", "low": "low"}


def test_an_ordered_view_is_a_list(table):
    assert classes(table, {"x": "low", "y": "high"}.values(), [3, 4]) == {3: "low", 4: "high"}


def test_numpy_texts_are_texts(table):
    step = ZeroShotLogits(np.array(["zero", "one"]), templates=np.array(["a {}.", "the {}."]))
    step.fit(table)
    assert "np.str_" not in repr(step.prompts_)
    with pytest.raises(ValueError, match="The template 'a' must"):
        ZeroShotLogits(DIGITS, templates=np.array(["a"])).fit(table)
    with pytest.raises(ValueError, match="1 class: 'zero'"):
        ZeroShotLogits().fit(table, np.array(["zero", "zero"]))
    with pytest.raises(ValueError, match=r"such as 0, .*class_names={0: 'cat'"):
        ZeroShotLogits().fit(table, np.array([0, 1]))


@pytest.mark.parametrize(
    "class_names", [None, {"\udce9t\udce9": "summer", "b": "b"}, ["a", "b\ud800"]]
)
def test_half_a_character(table, class_names):
    y = ["\udce9t\udce9", "b"] if class_names is None else None
    with pytest.raises(ValueError, match=r"holds '\\ud.*half of a character.*class_names="):
        ZeroShotLogits(class_names).fit(table, y)


@pytest.mark.parametrize(
    ("class_names", "y", "kind", "match"),
    [
        (None, ["a", ""], ValueError, "index 1 is an empty text"),
        (["a", ""], None, ValueError, "index 1 in class_names is an empty text"),
        ({"": "x", "a": "y"}, None, ValueError, "index 0 in class_names is an empty text"),
        (
            {float("nan"): "x", 1: "y"},
            None,
            ValueError,
            r"index 0 in class_names is missing \(nan\)\.$",
        ),
        ({}, [0, 1], ValueError, "class_names is empty"),
        ([], None, ValueError, "class_names is empty"),
        (pd.Series([], dtype=object), [0, 1], ValueError, "class_names is empty"),
        (None, [], ValueError, "y is empty"),
        (["a", "b"], np.array([]), ValueError, "y is empty"),
        (
            pd.DataFrame({"id": [0, 1], "name": ["a", "b"]}),
            [0, 1],
            ValueError,
            r"table of the columns \['id', 'name'\].*a mapping from label to name",
        ),
        (
            pl.DataFrame({"id": [0, 1], "name": ["a", "b"]}),
            ["id", "name"],
            ValueError,
            r"table of the columns",
        ),
        (pa.table({"id": [0, 1], "name": ["a", "b"]}), [0, 1], ValueError, r"table of the columns"),
        ([["a"], ["b"]], None, ValueError, r"index 0 of class_names must be a text, got \['a'\]"),
        ([1, 2], [1, 2], ValueError, "index 0 of class_names must be a text, got 1"),
        (
            ["cat", "dog"],
            ["n1", "n2"],
            ValueError,
            "'n1' in y has no name.*mapping gives them names",
        ),
        (None, None, ValueError, "classes are not known"),
        (None, [0, 1], ValueError, "say nothing to a text tower.*class_names={0: 'cat'"),
        (None, ["a", "a"], ValueError, "at least 2 classes"),
        (["a"], None, ValueError, "at least 2 classes"),
        (None, ["a", None], ValueError, "index 1 is missing"),
        (None, ["a", 1], TypeError, "mixed types"),
        ({"a": "x", "b": ""}, None, ValueError, "class 'b' must be a text"),
        ({"a": "x", "b": 3}, None, ValueError, "class 'b' must be a text"),
        ({"a": "x", "b": "y"}, ["a", "c"], ValueError, "label 'c' in y has no name"),
        ({1: "x", "1": "y"}, None, TypeError, "mixed types in class_names"),
        ({1: "x", "b": "y"}, None, TypeError, "mixed types"),
        (["x", "y", "z"], [10, 20], ValueError, "3 names, but y has 2 different labels"),
    ],
)
def test_classes_that_make_no_sense(table, class_names, y, kind, match):
    with pytest.raises(kind, match=match):
        ZeroShotLogits(class_names).fit(table, y)


@pytest.mark.parametrize(
    ("templates", "kind", "match"),
    [
        ([], ValueError, "templates is empty"),
        ("a photo", ValueError, "exactly one '{}'"),
        (["{} and {}"], ValueError, "exactly one '{}'"),
        ("a {} }", ValueError, "exactly one '{}'"),
        ("a {} {{}}", ValueError, "exactly one '{}'"),
        (["{}.", "a {name} {}"], ValueError, "template 'a {name} {}' must have exactly one '{}'"),
        (["a {}", 3], TypeError, "A template is a string"),
        ("openai-8", ValueError, "Named sets are 'openai-7' and 'openai-80'"),
    ],
)
def test_templates_that_make_no_sense(table, templates, kind, match):
    with pytest.raises(kind, match=match):
        ZeroShotLogits(DIGITS, templates=templates).fit(table)


# Whose embeddings they are


def test_arrays_need_names(table):
    values = table.to_numpy()
    with pytest.raises(ValueError, match=r"does not say whose embeddings.*backbones=\[\.\.\.\]"):
        ZeroShotLogits(DIGITS).fit(values)
    step = ZeroShotLogits(DIGITS, backbones=TINY).fit(values)
    np.testing.assert_array_equal(
        step.transform(values), ZeroShotLogits(DIGITS).fit_transform(table)
    )
    with pytest.raises(ValueError, match="128 columns together, but X has 100"):
        ZeroShotLogits(DIGITS, backbones=TINY).fit(values[:, :100])


def test_tables_that_do_not_fit(table):
    with pytest.raises(ValueError, match="holds zero-shot logits already"):
        ZeroShotLogits(DIGITS).fit(ZeroShotLogits(DIGITS).fit_transform(table))
    with pytest.raises(ValueError, match=r"has 100 columns; the backbone's has 128"):
        ZeroShotLogits(DIGITS).fit(table.iloc[:, :100])
    with pytest.raises(ValueError, match="column 'age' is not a backbone's"):
        ZeroShotLogits(DIGITS).fit(table.assign(age=3))
    unknown = table.rename(columns=lambda c: c.replace(TINY[0], "somebodys-folder"))
    with pytest.raises(ValueError, match=r"'somebodys-folder'.*backbones=\['local-dir:PATH'\]"):
        ZeroShotLogits(DIGITS).fit(unknown)
    step = ZeroShotLogits(DIGITS).fit(table)
    with pytest.raises(ValueError, match=r"missing \['tiny/RN-1221'\], unexpected"):
        step.transform(unknown)
    with pytest.raises(NotFittedError):
        clone(step).transform(table)


def test_folder_of_another_process_is_named_by_hand(tmp_path):
    from instances import make_folder

    path = tmp_path / "elsewhere"
    name = make_folder(path)
    table = CLIPEmbedder(name).fit_transform(load_sample_images().images)
    expected = ZeroShotLogits(DIGITS).fit_transform(table)
    moved = tmp_path / "moved"
    path.rename(moved)
    (moved / "elsewhere").symlink_to(moved)
    with pytest.raises(ValueError, match=r"backbones=\['local-dir:PATH'\]"):
        ZeroShotLogits(DIGITS).fit(table)
    moved.rename(path)
    given = ZeroShotLogits(DIGITS, backbones=[name]).fit_transform(table)
    pd.testing.assert_frame_equal(given, expected)
    with pytest.raises(ValueError, match=r"none of backbones=\['tiny/ViT-4'\]; those .* elsewhere"):
        ZeroShotLogits(DIGITS, backbones=["tiny/ViT-4"]).fit(table)


# Once


def test_prompts_are_embedded_once(table, monkeypatch, tmp_path):
    embedded = []
    embed = Model.embed_texts

    def counting(self, texts):
        embedded.extend(texts)
        return embed(self, texts)

    monkeypatch.setattr(Model, "embed_texts", counting)
    for cache in [None, tmp_path]:
        embedded.clear()
        clear()
        step = ZeroShotLogits(DIGITS, templates=["a {}", "the {}"], cache=cache)
        first = step.fit_transform(table)
        clone(step).fit(table, ["zero", "one"])
        assert len(embedded) == 8
        more = ZeroShotLogits([*DIGITS, "four"], templates=["a {}", "the {}"], cache=cache)
        more.fit(table)
        assert embedded[8:] == ["a four", "the four"]
        # With all of it known, no text tower is loaded; predicting never loads one.
        with monkeypatch.context() as context:
            context.setattr(_model, "load", lambda *args: pytest.fail("a model was loaded"))
            pd.testing.assert_frame_equal(clone(step).fit_transform(table), first)
            pd.testing.assert_frame_equal(
                pickle.loads(pickle.dumps(step)).fit(table).transform(table), first
            )


def test_cache_false(table, monkeypatch):
    embedded = []
    embed = Model.embed_texts
    monkeypatch.setattr(
        Model, "embed_texts", lambda self, texts: embedded.extend(texts) or embed(self, texts)
    )
    step = ZeroShotLogits(DIGITS, cache=False)
    step.fit(table)
    step.fit(table)
    assert len(embedded) == 8


def test_many_classes_go_in_batches(table, monkeypatch):
    sizes = []
    embed = Model.embed_texts
    monkeypatch.setattr(
        Model, "embed_texts", lambda self, texts: sizes.append(len(texts)) or embed(self, texts)
    )
    words = [f"thing {i}" for i in range(20)]
    ZeroShotLogits(words, templates="openai-80", cache=False).fit(table)
    assert max(sizes) <= 256
    assert sum(sizes) == 1600


def test_a_table_of_a_folder_that_nobody_embedded_with_here(tmp_path):
    zoo = Path(tiny.__file__).parent
    folder = shutil.copytree(zoo / "RN-1221", tmp_path / "clip-of-another-process")
    rows = np.random.default_rng(0).normal(size=(4, 128)).astype(np.float32)
    names = [f"clip-of-another-process__embedding__{i}" for i in range(128)]
    X = pd.DataFrame(rows, columns=names)
    with pytest.raises(ValueError, match="clip-of-another-process"):
        ZeroShotLogits(["cat", "dog"]).fit(X)
    step = ZeroShotLogits(["cat", "dog"], backbones=[f"local-dir:{folder}"], passthrough=False)
    assert step.fit_transform(X).columns.tolist() == [
        "clip-of-another-process__logit__cat",
        "clip-of-another-process__logit__dog",
    ]


@pytest.mark.parametrize("prefix", ["clip__", "union__clip__"])
def test_prefixed_columns_name_the_way_out(table, prefix):
    with pytest.raises(
        ValueError,
        match=rf"'tiny/RN-1221' bear the prefix '{prefix}'.*verbose_feature_names_out=False",
    ):
        ZeroShotLogits(DIGITS).fit(table.add_prefix(prefix))
    step = ZeroShotLogits(DIGITS).fit(table)
    with pytest.raises(ValueError, match=r"unexpected.*verbose_feature_names_out=False"):
        step.transform(table.add_prefix(prefix))


@pytest.mark.parametrize("odd", ODD_TABLES)
def test_the_short_way_leads_where_the_long_way_does(odd, table, monkeypatch):
    """A table just as at fit is not looked at column by column."""
    steps = [ZeroShotLogits(DIGITS).fit(table)]
    steps += [ZeroShotLogits(DIGITS, backbones=TINY).fit(table.to_numpy())]
    given = ODD_TABLES[odd](table.iloc[:4])
    short = [outcome(step.transform, given) for step in steps]
    monkeypatch.setattr(_zero_shot, "numbers_as_seen", lambda *args: None)
    assert short == [outcome(step.transform, given) for step in steps]


def test_naming_the_axis_of_columns_leaves_no_trace(table):
    step = ZeroShotLogits(DIGITS).fit(table)
    step.transform(table).columns.name = "mine"
    assert step.transform(table).columns.name is None
