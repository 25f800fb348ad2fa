"""The pages: all their code runs, and the API reference has every public name."""

import ast
import importlib
import inspect
import re
import tomllib
from pathlib import Path

import pytest
from test_house import MODULES

import sklearn_clipensemble
from sklearn_clipensemble import CLIPEmbedder, distributed

DOCS = Path(__file__).parents[1] / "docs"
PAGES = sorted(DOCS.glob("*.md"))
#: Pages with code for clusters, other engines and object stores: it is not run here, only read.
NEEDS_MORE_THAN_A_MACHINE = {"scaling_out.md"}
#: Rooms of which only some names are public, and those are listed by hand.
BUILT_ON = {
    "backbones": {"Backbone", "BackboneLike", "FAMILIES", "PRESETS", "list_backbones"},
    "images": {"Geometry", "load_image_folder"},
    "baselines": {"ZeroShotCombiner"},
    "utils.estimator_checks": {"check_image_estimator", "parametrize_with_image_checks"},
}


def listed():
    """Return the objects that the API reference lists, by their names there."""
    text = (DOCS / "api.rst").read_text(encoding="utf-8")
    names = re.findall(r"^   ([a-zA-Z_]+(?:\.[a-zA-Z_]+)*)$", text, re.MULTILINE)
    found = {}
    for name in names:
        room, _, last = f"sklearn_clipensemble.{name}".rpartition(".")
        found[name] = getattr(importlib.import_module(room), last)
    return found


@pytest.mark.parametrize("room", [*MODULES, *(f".{room}" for room in BUILT_ON)])
def test_api_reference_has_every_public_name(room):
    module = importlib.import_module(f"sklearn_clipensemble{room}")
    names = BUILT_ON.get(room.removeprefix(".")) or set(module.__all__) - {"__version__"}
    known = [id(value) for value in listed().values()]
    missing = sorted(name for name in names if id(getattr(module, name)) not in known)
    assert missing == [], f"Add them to docs/api.rst: {missing}"


def test_diagrams_lead_to_pages_of_the_reference():
    pages = {f"sklearn_clipensemble.{name}": value for name, value in listed().items()}
    classes = [value for value in pages.values() if hasattr(value, "_doc_link_template")]
    with_links = [cls for cls in classes if not inspect.isabstract(cls)]
    assert CLIPEmbedder in with_links
    project = tomllib.loads((DOCS.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for cls in with_links:
        link = cls._get_doc_link(cls.__new__(cls))
        assert link.startswith(project["urls"]["Documentation"] + "api/")
        assert pages[Path(link).stem] is cls


def test_api_reference_lists_nothing_twice():
    values = [id(value) for value in listed().values()]
    assert len(values) == len(set(values))


def blocks(page):
    """Yield the blocks of Python of a page."""
    text = page.read_text(encoding="utf-8")
    yield from re.findall(r"^```(?:python|py|pycon)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_all_code_of_pages_runs(page):
    if page.name in NEEDS_MORE_THAN_A_MACHINE:
        pytest.skip("read by the next test")
    still = [block for block in blocks(page) if ">>> " not in block]
    assert still == []  # write it with >>>: then pytest runs it


@pytest.mark.parametrize("name", sorted(NEEDS_MORE_THAN_A_MACHINE))
def test_code_that_is_not_run_calls_what_there_is(name):
    ours = {name: value for name, value in vars(sklearn_clipensemble).items() if callable(value)}
    ours |= {name: getattr(distributed, name) for name in distributed.__all__}
    checked = 0
    for block in blocks(DOCS / name):
        # Where a page says embed = EmbedBatch(...), that name is no longer ours.
        if ">>> " in block or "embed = " in block:
            continue
        for call in (node for node in ast.walk(ast.parse(block)) if isinstance(node, ast.Call)):
            function = ours.get(getattr(call.func, "id", None))
            if function is None:
                continue
            parameters = inspect.signature(function).parameters.values()
            known = {parameter.name for parameter in parameters}
            if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
                known |= set(inspect.signature(CLIPEmbedder).parameters)
            assert {keyword.arg for keyword in call.keywords} <= known
            checked += 1
    assert checked


def test_pages_stand_in_a_table_of_contents():
    tables = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    entries = "\n".join(re.findall(r"^```{toctree}\n(.*?)^```", tables, re.MULTILINE | re.DOTALL))
    assert {page.stem for page in PAGES} - {"index"} <= set(entries.split())
