"""One decision explained: its parts add up, and it works from images as from tables."""

import re

import numpy as np
import pandas as pd
import pytest
from instances import make_table
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

from sklearn_clipensemble import AdaptiveBackboneEnsemble, CLIPEmbedder, ZeroShotLogits
from sklearn_clipensemble.adaptive import Priors
from sklearn_clipensemble.ensembles import Vote
from sklearn_clipensemble.inspection import combination_weights, explain


@pytest.fixture(scope="module")
def digits():
    data = load_digits()
    images, y = data.images[:60] / 16, np.array([f"digit {i}" for i in data.target[:60]])
    clf = make_pipeline(
        CLIPEmbedder(["tiny/ViT-4", "tiny/RN-1221"]),
        ZeroShotLogits({f"digit {i}": f"the number {i}" for i in range(10)}),
        AdaptiveBackboneEnsemble(),
    )
    return clf.fit(images[:30], y[:30]), images, y


def test_weights_of_a_whole_pipeline(digits):
    clf, images, _ = digits
    found = combination_weights(clf, images[30:])
    expected = clf[-1].combination_weights(clf[:-1].transform(images[30:]))
    pd.testing.assert_frame_equal(found, expected)
    search = GridSearchCV(AdaptiveBackboneEnsemble(), {"n_shots": [2]}, cv=2)
    X, y = make_table()
    assert combination_weights(search.fit(X, y), X).shape == (len(X), 2)
    with pytest.raises(TypeError, match="Vote has no combination_weights"):
        combination_weights(Vote().fit(X, y), X)


def test_the_parts_add_up_to_the_logits(digits):
    clf, images, _ = digits
    for i in range(30, 34):
        said = explain(clf, images[i])
        proba = clf.predict_proba(images[[i]])[0]
        assert said.answer == clf.predict(images[[i]])[0]
        np.testing.assert_allclose(said.probabilities.loc[clf.classes_], proba, rtol=1e-6)
        assert said.probabilities.is_monotonic_decreasing
        logits = said.parts.sum().loc[clf.classes_].to_numpy()
        np.testing.assert_allclose(logits - logits.max(), np.log(proba / proba.max()), atol=1e-4)


def test_backbones_have_answer_weight_and_part(digits):
    clf, images, _ = digits
    said = explain(clf, images[31])
    table = clf[:-1].transform(images[[31]])
    assert list(said.backbones) == ["answer", "probability", "weight", "zero-shot", "labels"]
    weights = clf[-1].combination_weights(table)
    np.testing.assert_allclose(said.backbones["weight"], weights.iloc[0])
    for backbone in said.backbones.index:
        logits = table.filter(like=f"{backbone}__logit__").iloc[0]
        assert logits.idxmax().endswith(said.backbones.answer[backbone])
    # Parts are those of the answer before the second best class.
    first, second = said.probabilities.index[:2]
    ahead = said.parts[first] - said.parts[second]
    assert said.backbones["labels"].sum() == pytest.approx(ahead.xs("labels", level=1).sum())


def test_the_nearest_labelled_images(digits):
    clf, images, y = digits
    said = explain(clf, images[7], n_nearest=3)  # one of those learnt from
    assert said.nearest.shape == (3, 3)
    assert said.nearest.index[0] == 7
    assert said.nearest.label.iloc[0] == y[7]
    assert said.nearest.similarity.iloc[0] == pytest.approx(1, abs=1e-4)
    assert said.nearest.similarity.is_monotonic_decreasing
    every = explain(clf, images[40], n_nearest=30)
    ahead = every.backbones["labels"].sum()
    assert every.nearest["labels"].sum() == pytest.approx(ahead, abs=1e-3)


def test_rows_keep_the_names_of_the_data_frame():
    X, y = make_table()
    X.index = [f"photo-{i}.jpg" for i in range(len(X))]
    clf = AdaptiveBackboneEnsemble(n_shots=2, random_state=0).fit(X, y)
    said = explain(clf, X.iloc[[3]])
    assert set(said.nearest.index) <= set(X.index)
    labels = dict(zip(clf.labelled_rows_, clf.labels_, strict=True))
    assert [labels[name] for name in said.nearest.index] == said.nearest.label.tolist()
    for name in said.nearest.index:
        assert y[list(X.index).index(name)] == said.nearest.label[name]


def test_means_of_many_labelled_images_name_one_and_count_the_others():
    X, y = make_table(n_per_class=6)
    few = AdaptiveBackboneEnsemble(priors=Priors(max_rows=8, n_means=8)).fit(X, y)
    said = explain(few, X.iloc[[0]])
    assert "mean of 3" in said.nearest.index[0]


def test_it_shows_itself(digits, tmp_path):
    clf, images, _ = digits
    path = tmp_path / "seven.png"
    Image.fromarray((255 * images[36]).astype(np.uint8)).save(path)
    said = explain(clf, path, images=list(images[:30]))
    text = str(said)
    assert said.answer in text
    assert "ViT-4" in text
    shown = said._repr_html_()
    assert shown.count("<img") == 1 + len(said.nearest)
    assert all(len(alt) > 3 for alt in re.findall('alt="([^"]*)"', shown))
    assert "<img" not in explain(clf, images[36])._repr_html_().split("Nearest")[1]


def test_without_labels_there_are_no_neighbours():
    X, _ = make_table()
    said = explain(AdaptiveBackboneEnsemble().fit(X), X.iloc[[0]])
    assert said.nearest.empty
    assert (said.backbones["labels"] == 0).all()
    assert "Nearest" not in said._repr_html_()


def test_an_image_in_every_form_and_a_path_of_an_array(digits, tmp_path):
    clf, images, _ = digits
    picture = Image.fromarray((images[31] * 255).astype("uint8"))
    paths = np.array([str(tmp_path / "1.png")])
    picture.save(paths[0])
    expected = explain(clf, picture).probabilities
    for image in [paths[0], str(paths[0]), tmp_path / "1.png", paths, np.asarray(picture)]:
        pd.testing.assert_series_equal(explain(clf, image).probabilities, expected)
    with open(paths[0], "rb") as file:
        pd.testing.assert_series_equal(explain(clf, file.read()).probabilities, expected)


def test_what_cannot_be_explained_is_named(digits):
    clf, images, _ = digits
    X, y = make_table()
    with pytest.raises(TypeError, match=r"Vote.*AdaptiveBackboneEnsemble"):
        explain(Vote().fit(X, y), X.iloc[[0]])
    with pytest.raises(ValueError, match=r"one image.*2"):
        explain(clf, list(images[:2]))
    with pytest.raises(ValueError, match=r"one image.*16"):
        explain(AdaptiveBackboneEnsemble().fit(X, y), X)
    with pytest.raises(ValueError, match="images has 2 entries, and none for row"):
        explain(clf, images[0], images=list(images[:2]))
