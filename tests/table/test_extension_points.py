"""The bases that others build on: docs/developing.md, and the depth of our own classes."""

import doctest
import inspect
from pathlib import Path

import pytest
from instances import array_side
from sklearn.base import BaseEstimator
from sklearn.utils.estimator_checks import parametrize_with_checks

PAGE = Path(__file__).parents[2] / "docs" / "developing.md"


def documented():
    """Run the sections on combiners and heads, and return the classes that they define."""
    before = set(globals())
    for title in ("Add a combiner", "Add a head"):
        section = PAGE.read_text(encoding="utf-8").partition(f"\n## {title}\n")[2]
        for example in doctest.DocTestParser().get_examples(section.partition("\n## ")[0]):
            # In this module, where pickles find the classes.
            exec(example.source, globals())
    found = [globals()[name] for name in sorted(set(globals()) - before)]
    return [cls for cls in found if inspect.isclass(cls) and cls.__module__ == __name__]


DOCUMENTED = documented()


@pytest.mark.filterwarnings("ignore:X is an array without column names:UserWarning")
@parametrize_with_checks([cls() for cls in DOCUMENTED])
def test_what_the_page_shows_keeps_scikit_learns_contract(estimator, check):
    check(estimator)


def test_the_page_shows_every_base():
    assert {cls.__bases__[0].__name__ for cls in DOCUMENTED} == {
        "TableClassifier",
        "ZeroShotCombiner",
        "Head",
    }


@pytest.mark.parametrize("cls", array_side(), ids=lambda cls: cls.__name__)
def test_no_more_than_two_bases_of_ours(cls):
    ours = [c for c in cls.__mro__[1:] if c.__module__.startswith("sklearn_clipensemble.")]
    bases = [c for c in ours if issubclass(c, BaseEstimator)]
    assert len(bases) <= 2
    assert not set(ours) & set(array_side()), "a public classifier is no base"
    mixins = set(ours) - set(bases)
    assert len(mixins) <= 1
    for mixin in mixins:
        assert mixin.__name__.endswith("Mixin")
        assert not [c for c in mixin.__mro__[1:] if c.__module__.startswith("sklearn_clip")]
