"""The rules that the house states for itself: imports, file names, docstrings."""

import ast
import importlib
import inspect
from collections import Counter
from pathlib import Path

import pytest

import sklearn_clipensemble
from sklearn_clipensemble.heads import Head

PACKAGE = Path(sklearn_clipensemble.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
MODULES = (
    "",
    ".adaptive",
    ".corruptions",
    ".cost",
    ".datasets",
    ".distributed",
    ".ensembles",
    ".heads",
    ".inspection",
    ".table",
)


def imported(path):
    """Yield the dotted names that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_private_names_of_scikit_learn_stand_in_one_file(path):
    private = [n for n in imported(path) if n.startswith("sklearn.") and "._" in n]
    assert path.name == "_compat.py" or not private


def test_no_file_name_stands_twice():
    names = Counter(path.name for path in FILES if path.name != "__init__.py")
    assert [name for name, n in names.items() if n > 1] == []


def public():
    """Return every public class, function and method, by its name."""
    found = {}
    for suffix in MODULES:
        module = importlib.import_module(f"sklearn_clipensemble{suffix}")
        for name in module.__all__:
            value = getattr(module, name)
            if not callable(value):
                continue
            found[f"{module.__name__}.{name}"] = value
            for method, function in vars(value).items() if inspect.isclass(value) else ():
                # scikit-learn makes set_fit_request and set_score_request, and documents them.
                ours = not method.startswith("_") and not method.endswith("_request")
                if ours and callable(getattr(value, method)):
                    found[f"{module.__name__}.{name}.{method}"] = function
    return found


@pytest.mark.parametrize("name", public())
def test_docstrings_follow_numpydoc(name):
    validate = pytest.importorskip("numpydoc.validate").validate
    # Methods and small functions need no example, nobody a "See Also"; summaries may be
    # of more than one line where a name is long. "self : object" is scikit-learn's.
    optional = {"ES01", "EX01", "GL01", "RT02", "SA01"}
    errors = [e for e in validate(name)["errors"] if e[0] not in optional]
    assert errors == []


@pytest.mark.parametrize("name", public())
def test_public_signatures_are_typed(name):
    value = public()[name]
    function = vars(value).get("__init__") if inspect.isclass(value) else value
    function = getattr(function, "__func__", function)
    if not inspect.isfunction(function):
        return  # made by dataclass, or no function
    signature = inspect.signature(function)
    bare = [
        p.name
        for p in signature.parameters.values()
        if p.annotation is p.empty and p.name not in ("self", "cls")
    ]
    if not inspect.isclass(value) and signature.return_annotation is signature.empty:
        bare.append("return")
    assert bare == []


def test_docstrings_of_subclasses_are_completed():
    class Mine(Head):
        """Mine.

        Attributes
        ----------
        mine_ : int
            My own.

        Notes
        -----
        These stay last.
        """

        def __init__(self, *, backbone=None, unread_label=None):
            super().__init__(backbone=backbone, unread_label=unread_label)

    text = inspect.getdoc(Mine)
    words = ("Mine.", "Parameters", "backbone :", "unread_label :", "Attributes", "classes_ :")
    places = [text.index(word) for word in (*words, "prior_temperature_ :", "mine_ :", "Notes")]
    assert places == sorted(places)
    assert "layout :" not in text  # it takes none
    assert type("Undocumented", (Head,), {}).__doc__ is None  # as with python -OO
