"""What a notebook shows of an estimator: links, help for parameters, and what was learnt, in words."""

import html
import re

import pytest
from instances import EVERYONE, make_table
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

import sklearn_clipensemble
from sklearn_clipensemble import (
    AdaptiveBackboneEnsemble,
    CascadeClassifier,
    CLIPEmbedder,
    ZeroShotLogits,
    corruptions,
    cost,
    ensembles,
    heads,
)

STEPS = [
    CLIPEmbedder("tiny"),
    ZeroShotLogits(),
    AdaptiveBackboneEnsemble(),
    corruptions.Corruption("fog"),
    cost.BackboneSelector(ensembles.ProbabilityAverage()),
    CascadeClassifier(AdaptiveBackboneEnsemble()),
    ensembles.Vote(),
    heads.GDAHead(),
]


def text_of(estimator):
    """Return what a reader of the diagram sees, without tags."""
    return html.unescape(re.sub(r"<[^>]+>", " ", estimator._repr_html_()))


@pytest.mark.parametrize("step", STEPS, ids=lambda step: type(step).__name__)
def test_every_step_leads_to_its_page_and_explains_its_parameters(step):
    shown, cls = step._repr_html_(), type(step)
    link = re.search(r'class="sk-estimator-doc-link[^"]*"[^>]*href="([^"]+)"', shown)
    assert link, "no '?' in the diagram"
    # The page is that of a public name.
    module, _, name = link[1].rpartition("/")[2].removesuffix(".html").rpartition(".")
    public = sklearn_clipensemble
    for part in module.split(".")[1:]:
        assert not part.startswith("_")
        public = getattr(public, part)
    assert getattr(public, name) is cls
    if "param-doc-description" in LogisticRegression()._repr_html_():  # of newer scikit-learn
        help_of = re.findall(r'class="param-doc-description"[^>]*>\s*(\w+):', shown)
        assert set(help_of) >= set(step.get_params(deep=False))


@pytest.mark.parametrize("clf", [AdaptiveBackboneEnsemble(), *EVERYONE], ids=repr)
def test_nothing_fitted_shows_where_it_lies_in_memory(clf):
    X, y = make_table()
    fitted = clf.fit(X, y)
    assert not re.search("0x[0-9a-f]{4}", text_of(fitted))
    for name, value in vars(fitted).items():
        assert not re.search(" at 0x[0-9a-f]+", repr(value)), name


def test_a_fitted_ensemble_says_in_words_what_it_learnt():
    X, y = make_table(n_per_class=4, n_classes=4)
    clf = AdaptiveBackboneEnsemble(n_shots=2, random_state=0).fit(X, y)
    said = f"2 backbones, 4 classes, 8 labelled images; one adds about {clf.lift_:.1f} to its class"
    for shown in (clf, make_pipeline("passthrough", clf)):
        assert said in text_of(shown)
    assert "labelled" not in text_of(AdaptiveBackboneEnsemble()).split("Parameters")[0]
    unlabelled = AdaptiveBackboneEnsemble().fit(X)
    assert "2 backbones, 4 classes, no labelled image" in text_of(unlabelled)
