"""The report: whole, honest, readable by everybody, and opened by a real browser."""

import re
import shutil
import subprocess
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import balanced_accuracy_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from sklearn_clipensemble import Layout, inspection
from sklearn_clipensemble.ensembles import AdaptiveBackboneEnsemble, Vote
from sklearn_clipensemble.inspection import report

pytest.importorskip("matplotlib")

CLASSES = ["<b>cat</b>", "dog & fox", 'a "very" long name of a class that goes on, also called so']


class Page(HTMLParser):
    """What a reader of the page meets: tags with attributes, and tables with their text."""

    def __init__(self, text):
        super().__init__()
        self.text, self.tags, self.tables, self.cell = text, [], [], None
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
            self.cell = tag

    def handle_endtag(self, tag):
        if tag in ("td", "th"):
            self.cell = None

    def handle_data(self, data):
        if self.cell:
            self.tables[-1][-1][-1] += data

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]

    def frame(self, i):
        (_, *columns), *rows = self.tables[i]
        return pd.DataFrame([row[1:] for row in rows], [row[0] for row in rows], columns)


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    y = np.repeat(CLASSES, 20)
    images = [rng.integers(256, size=(24, 32, 3)).astype(np.uint8) for _ in y]
    truth = np.equal.outer(y, CLASSES) * 2.0
    logits = [truth + rng.normal(size=truth.shape) for _ in range(4)]
    layout = Layout({"RN50/a": 0, "RN101/a": 0, "ViT-B-32/b": 0, "<script>x</script>": 0}, CLASSES)
    table = pd.DataFrame(np.hstack(logits).astype(np.float32), columns=layout.names)
    return images, table, y, AdaptiveBackboneEnsemble().fit(table, y)


@pytest.fixture(scope="module")
def page(data, tmp_path_factory):
    images, table, y, combiner = data
    path = tmp_path_factory.mktemp("report") / "report.html"
    assert report(combiner, table, y, path, images=images, shots=(1, 2, 40), n_repeats=2) == path
    return Page(path.read_text(encoding="utf-8"))


def test_the_page_needs_nothing_beside_it(page):
    assert len(page.text.encode()) < 5e6
    assert not page.all("script")
    assert not page.all("link")
    for _, attributes in page.tags:
        for name in ("src", "href"):
            assert attributes.get(name, "#").startswith(("#", "data:image/"))
    assert "@import" not in page.text
    assert "url(" not in page.text


def test_the_numbers_are_those_of_the_functions(page, data):
    _, table, y, combiner = data
    found = page.frame(0)
    quality = inspection.calibration_table(table, y, estimator=combiner)
    assert found.index.tolist() == quality.index.tolist()
    for column, name in {
        "accuracy": "accuracy",
        "calibration error": "ece",
        "Brier score": "brier",
        "log loss": "nll",
    }.items():
        assert found[column].tolist() == [f"{value:.3f}" for value in quality[name]]
    alone = inspection.unique_correct(table, y)
    assert found["alone right"].tolist() == [*map(str, alone), "–"]
    balanced = balanced_accuracy_score(y, combiner.predict(table))
    assert found["balanced accuracy"].iloc[-1] == f"{balanced:.3f}"

    oracle, accuracy = inspection.oracle_score(table, y), combiner.score(table, y)
    gap = inspection.oracle_gap_closed(combiner.predict(table), table, y)
    tiles = re.findall(r"<dd>(.*?)</dd>", page.text)
    best = quality["accuracy"].iloc[:-1].max()
    assert tiles == [f"{accuracy:.1%}", f"{best:.1%}", f"{oracle:.1%}", f"{gap:.0%}"]
    assert f"would reach {inspection.oracle_null(table, y):.1%}." in page.text

    worst = page.frame(2)
    expected = inspection.per_class_accuracy(table, y, estimator=combiner)
    for label in CLASSES:
        assert worst.columns.tolist()[1] == "AdaptiveBackboneEnsemble"
        shown = worst.loc[label, ["images", *expected.columns]]
        assert shown.tolist() == ["20", *(f"{v:.3f}" for v in expected.loc[label])]


def test_the_shot_curve_takes_what_the_data_can_give(page):
    curve = page.frame(1)
    assert curve.columns.tolist() == ["1 per class", "2 per class"]
    assert curve.index.tolist() == ["AdaptiveBackboneEnsemble", "probability average"]


def test_everybody_can_read_it(page):
    assert page.all("html")[0]["lang"] == "en"
    assert "width=device-width" in str(page.all("meta"))
    images = page.all("img")
    assert len(images) == 8
    assert all(len(image["alt"]) > 20 for image in images)
    assert len({image["alt"] for image in images}) == len(images)
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert max(np.diff(levels)) <= 1
    assert all(cell.get("scope") in ("row", "col") for cell in page.all("th"))
    ids = {attributes["id"] for _, attributes in page.tags if "id" in attributes}
    assert {link["href"][1:] for link in page.all("a")} <= ids
    # What scrolls can be scrolled with the keyboard, and says what it is.
    regions = [a for _, a in page.tags if a.get("class") == "scroll"]
    assert all(r["tabindex"] == "0" and r["aria-label"] and r["role"] == "region" for r in regions)


def test_names_are_escaped(page):
    assert "<script>x" not in page.text
    assert "<b>cat" not in page.text
    assert "&lt;b&gt;cat&lt;/b&gt;" in page.text


def test_images_come_from_the_pipeline(data, tmp_path):
    images, table, y, combiner = data
    pipeline = make_pipeline(FunctionTransformer(lambda _: table), combiner)
    path = report(pipeline, images, y, tmp_path / "page.html", shots=())
    found = Page(path.read_text(encoding="utf-8"))
    assert len(found.all("img")) == 7
    assert found.frame(0).shape == (5, 7)


def test_without_images_or_weights(data, tmp_path):
    _, table, y, _ = data
    path = report(Vote().fit(table, y), table, y, tmp_path / "page.html", shots=())
    text = path.read_text(encoding="utf-8")
    assert 'id="weights"' not in text
    assert "Pass the pictures as images=." in text
    assert "Left out: the rarest class has 20 images." in text


def test_cut_short_it_says_so(data, tmp_path, monkeypatch):
    images, table, y, combiner = data

    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("sklearn_clipensemble.inspection._plot._shot_curve.shot_curve", interrupted)
    path = report(combiner, table, y, tmp_path / "page.html", images=images)
    text = path.read_text(encoding="utf-8")
    left = "Accuracy and labels, Accuracy and cost, Weights, Calibration, Classes, Images"
    assert f"left out: {left}." in text
    assert 'id="who-is-right-where"' in text


CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)

PROBE = """<script>
const broken = [...document.images].filter(i => !i.complete || !i.naturalWidth).length;
const wide = document.documentElement.scrollWidth - document.documentElement.clientWidth;
document.title = `broken=${broken} wide=${wide} width=${innerWidth}`;
</script></body>"""


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
@pytest.mark.parametrize("width", [500, 1280])
def test_a_browser_shows_it(page, tmp_path, width):
    # The page itself carries no script; the copy measures itself and writes what it finds in its title.
    copy = tmp_path / "page.html"
    copy.write_text(page.text.replace("</body>", PROBE), encoding="utf-8")
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}/chromium",
               f"--window-size={width},900", "--dump-dom", copy.as_uri()]  # fmt: skip
    dom = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    assert f"<title>broken=0 wide=0 width={width}" in dom
