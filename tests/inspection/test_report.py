"""The report: whole, honest, readable by everybody, and opened by a real browser."""

import datetime
import html
import re
import shutil
import subprocess
import warnings
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.metrics import balanced_accuracy_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from sklearn_clipensemble import Layout, inspection
from sklearn_clipensemble.ensembles import (
    AdaptiveBackboneEnsemble,
    LogitAverage,
    ProbabilityAverage,
    Vote,
)
from sklearn_clipensemble.inspection import report
from sklearn_clipensemble.table import TableClassifier

pytest.importorskip("matplotlib")

CLASSES = ["<b>cat</b>", "dog & fox", 'a "very" long name of a class that goes on, also called so']


class Page(HTMLParser):
    """What a reader of the page meets: tags with attributes, and tables with their text."""

    def __init__(self, text):
        super().__init__()
        self.text, self.tags, self.tables, self.cell = text, [], [], None
        self.captions = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag == "table":
            self.tables.append([])
            self.captions.append(dict(attributes).get("aria-label", ""))
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

    def frame(self, caption):
        """Return the table whose caption begins so."""
        (i,) = [i for i, said in enumerate(self.captions) if said.startswith(caption)]
        (_, *columns), *rows = self.tables[i]
        return pd.DataFrame([row[1:] for row in rows], [row[0] for row in rows], columns)

    @property
    def tiles(self):
        """Return the numbers of the summary by what they mean."""
        found = re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", self.text)
        return {html.unescape(what): value for what, value in found}


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
def hard():
    """Backbones that are often wrong, and their average."""
    rng = np.random.default_rng(0)
    y = np.repeat(CLASSES, 20)
    images = [rng.integers(256, size=(24, 32, 3)).astype(np.uint8) for _ in y]
    logits = [np.equal.outer(y, CLASSES) + 1.5 * rng.normal(size=(60, 3)) for _ in range(2)]
    layout = Layout({"RN50/a": 0, "RN101/a": 0}, CLASSES)
    table = pd.DataFrame(np.hstack(logits).astype(np.float32), columns=layout.names)
    return images, table, y, ProbabilityAverage().fit(table[::4])


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
    found = page.frame("Every backbone")
    quality = inspection.calibration_table(table, y, estimator=combiner)
    assert found.index.tolist() == [*quality.index, "probability average", "logit average"]
    for column, name in {
        "accuracy": "accuracy",
        "calibration error": "ece",
        "Brier score": "brier",
        "log loss": "nll",
    }.items():
        assert found[column].tolist()[:5] == [f"{value:.3f}" for value in quality[name]]
    for name, label_free in (
        ("probability average", ProbabilityAverage()),
        ("logit average", LogitAverage()),
    ):
        accuracy = label_free.fit(table).score(table, y)
        assert found.loc[name, "accuracy"] == f"{accuracy:.3f}"
    alone = inspection.unique_correct(table, y)
    assert found["alone right"].tolist() == [*map(str, alone), "–", "–", "–"]
    balanced = balanced_accuracy_score(y, combiner.predict(table))
    assert found.loc["AdaptiveBackboneEnsemble", "balanced accuracy"] == f"{balanced:.3f}"

    oracle, accuracy = inspection.oracle_score(table, y), combiner.score(table, y)
    best = quality["accuracy"].iloc[:4].max()
    average = ProbabilityAverage().fit(table).score(table, y)
    shown = [f"{accuracy:.1%}", f"{best:.1%}", f"{average:.1%}", f"{oracle:.1%}"]
    assert list(page.tiles.values())[:4] == shown
    assert f"would reach {inspection.oracle_null(table, y):.1%}." in page.text

    worst = page.frame("All classes")
    expected = inspection.per_class_accuracy(table, y, estimator=combiner)
    expected.columns = ["RN50/a", "RN101/a", "ViT-B-32/b", "<script>x</script>", "ensemble"]
    for label in CLASSES:
        assert worst.columns.tolist()[1] == "ensemble"
        shown = worst.loc[label, ["images", *expected.columns]]
        assert shown.tolist() == ["20", *(f"{v:.3f}" for v in expected.loc[label])]


class Said(TableClassifier):
    """Answers what the embedding of "said" says."""

    _needs_labels = False

    def _fit(self, table, codes, sample_weight):
        pass

    def _log_proba(self, table):
        return table.features("said")


@pytest.mark.parametrize(
    ("first", "second", "ensemble", "value", "meaning"),
    [
        # The best backbone has two of six right, the oracle four.
        (
            "aabbcc",
            "bbaacc",
            "aaabbb",
            "50%",
            "of the gap between the best backbone and the oracle",
        ),
        ("aabbcc", "bbaacc", "aaaaac", "+16.7", "points above the oracle"),
        ("aabbcc", "bbaacc", "abbbbb", "−16.7", "points below the best backbone"),
        ("aabbcc", "bbaacc", "aabbbb", "0%", "of the gap between the best backbone and the oracle"),
        ("aabbcc", "aacccc", "aaaaaa", "+66.7", "points above the oracle"),
        ("aabbcc", "aacccc", "aabbcc", None, None),  # there is no gap
    ],
)
def test_the_gap_is_said_in_words_that_fit(first, second, ensemble, value, meaning, tmp_path):
    logits = {
        f"{name}__{kind}__{key}": [5.0 * (said == c) for said in answers]
        for name, kind, answers in (
            ("m0", "logit", first),
            ("m1", "logit", second),
            ("said", "embedding", ensemble),
        )
        for c, key in zip("abc", "abc" if kind == "logit" else range(3), strict=True)
    }
    table, y = pd.DataFrame(logits), list("aaaaaa")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = report(Said().fit(table), table, y, tmp_path / "page.html", shots=())
    found = [
        (shown, what)
        for what, shown in Page(path.read_text(encoding="utf-8")).tiles.items()
        if "oracle" in what or "below" in what
    ][1:]
    if value is None:
        assert found == []
    else:
        assert found[0][0] == value
        assert found[0][1].startswith(meaning)


def test_the_summary_says_when_from_what_and_how_many_labels(page, data):
    today = datetime.date.today()
    yesterday = today - datetime.timedelta(days=1)  # or it is midnight
    assert today.isoformat() in page.text or yesterday.isoformat() in page.text
    assert "learnt from 60 labelled images, 20 of each class" in page.text


def test_images_it_was_fitted_on_are_told(page, data, tmp_path):
    _, table, y, _ = data
    assert "60 of these 60 images were given to fit" in page.text
    half = AdaptiveBackboneEnsemble().fit(table[::2], y[::2])
    other = report(half, table[1::2], y[1::2], tmp_path / "new.html", shots=())
    assert "given to fit" not in other.read_text(encoding="utf-8")
    one = Vote().fit(table[::2], y[::2])
    mixed = report(one, table[:3], y[:3], tmp_path / "mixed.html", shots=())
    assert "At least 2 of these 3 images were given to fit" in mixed.read_text(encoding="utf-8")


def test_confusions_are_counted(hard, tmp_path):
    _, table, y, combiner = hard
    path = report(combiner, table, y, tmp_path / "page.html", shots=())
    found = Page(path.read_text(encoding="utf-8")).frame("The most frequent confusions")
    said = pd.Series(combiner.predict(table))
    wrong = (said != y).to_numpy()
    counts = pd.crosstab(y[wrong], said[wrong].to_numpy())
    assert found["images"].astype(int).sum() == wrong.sum()
    assert found["images"].astype(int).is_monotonic_decreasing
    for truth, row in found.iterrows():
        assert int(row["images"]) == counts.loc[truth, row["answer"]]


def test_error_consistency_can_be_read(page, data):
    _, table, y, _ = data
    found = page.frame("Pairs of backbones")
    kappa = inspection.error_consistency(table, y)
    assert len(found) == 6
    assert found.loc["RN50/a and ViT-B-32/b", "error consistency"] == (
        f"{kappa.loc['RN50/a', 'ViT-B-32/b']:.3f}"
    )
    groups = page.frame("Groups of backbones")
    assert groups["images"].astype(int).sum() == 60


def test_failed_images_are_named(hard, tmp_path):
    images, table, y, combiner = hard
    folder = tmp_path / "photos"
    folder.mkdir()
    paths = [str(folder / f"{i}.png") for i in range(len(images))]
    for path, image in zip(paths, images, strict=True):
        Image.fromarray(image).save(path)
    pipeline = make_pipeline(FunctionTransformer(lambda _: table), combiner)
    page = Page(report(pipeline, paths, y, tmp_path / "p.html", shots=()).read_text("utf-8"))
    failed = np.flatnonzero(combiner.predict(table) != y)
    found = page.frame("All images that the ensemble gets wrong")
    assert sorted(found.index) == sorted(f"{i}: {i}.png" for i in failed)
    assert str(folder) in page.text  # once, for all of them
    sure = found["probability"].astype(float)
    assert sure.is_monotonic_decreasing
    for i in failed:
        assert found.loc[f"{i}: {i}.png", "true class"] == y[i]
        assert found.loc[f"{i}: {i}.png", "answer"] == combiner.predict(table)[i]
    # Images without a path have their row, and tables the names of theirs.
    page = Page(
        report(
            combiner, table, y, tmp_path / "q.html", images=np.stack(images), shots=()
        ).read_text("utf-8")
    )
    assert sorted(page.frame("All images").index) == sorted(map(str, failed))
    assert f'alt="{html.escape(y[failed[0]])}, row {failed[0]}"' in page.text
    named = table.set_axis([f"photo {i}" for i in range(len(table))])
    page = Page(
        report(combiner, named, y, tmp_path / "r.html", images=images, shots=()).read_text("utf-8")
    )
    assert sorted(page.frame("All images").index) == sorted(f"photo {i}" for i in failed)


def test_the_shot_curve_takes_what_the_data_can_give(page):
    curve = page.frame("Mean accuracy")
    assert curve.columns.tolist() == ["1 per class", "2 per class"]
    assert curve.index.tolist() == ["AdaptiveBackboneEnsemble", "probability average"]


def test_everybody_can_read_it(page):
    assert page.all("html")[0]["lang"] == "en"
    assert "width=device-width" in str(page.all("meta"))
    images = page.all("img")
    assert len(images) > 5
    assert all(len(image["alt"]) > 3 for image in images)
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert max(np.diff(levels)) <= 1
    assert all(cell.get("scope") in ("row", "col") for cell in page.all("th"))
    ids = {attributes["id"] for _, attributes in page.tags if "id" in attributes}
    assert {link["href"][1:] for link in page.all("a")} <= ids
    # Nothing but links and what opens is a tab stop, and every cell says what it is where rows are
    # stacked.
    assert not [tag for tag, attributes in page.tags if "tabindex" in attributes]
    assert all(cell["data-label"] for cell in page.all("td") if "data-label" in cell)
    assert "prefers-color-scheme: dark" in page.text
    # What is drawn is there for phones, too.
    assert len(page.all("source")) == len(page.all("picture"))


def test_names_are_escaped(page):
    assert "<script>x" not in page.text
    assert "<b>cat" not in page.text
    assert "&lt;b&gt;cat&lt;/b&gt;" in page.text


def test_images_come_from_the_pipeline(data, tmp_path):
    images, table, y, combiner = data
    pipeline = make_pipeline(FunctionTransformer(lambda _: table), combiner)
    path = report(pipeline, images, y, tmp_path / "page.html", shots=())
    found = Page(path.read_text(encoding="utf-8"))
    assert found.frame("Every backbone").shape == (7, 7)


def test_where_it_cannot_be_written_is_told_first(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"There is no folder .*no.* to write the report to"
    ):
        report(None, path=tmp_path / "no" / "report.html")
    with pytest.raises(IsADirectoryError, match="is a folder; expected the name of a file"):
        report(None, path=tmp_path)


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
    left = (
        "Accuracy and labels, Accuracy and cost, Weights, Calibration, Classes, Confusions, Images"
    )
    assert f"left out: {left}." in text
    assert 'id="who-is-right-where"' in text


CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)

PROBE = """<script>
const broken = [...document.images].filter(i => !i.complete || !i.naturalWidth).length;
const boxes = [document.documentElement, ...document.querySelectorAll("figure")];
const cells = [...document.querySelectorAll("td > span")].filter(span => span.offsetWidth);
const right = element => Math.round(element.getBoundingClientRect().right);
const wide = Math.max(...boxes.map(box => box.scrollWidth - box.clientWidth),
                      ...cells.map(span => right(span) - right(span.parentElement)), 0);
document.title = `broken=${broken} wide=${wide} width=${innerWidth}`;
</script></body>"""


@pytest.fixture(scope="module")
def long_page(tmp_path_factory):
    """Folders and paths have names without a space at which a line could break."""
    rng = np.random.default_rng(0)
    classes = [f"{n}_km_per_hour_speed_limit_traffic_sign" for n in (30, 50, 70, 100, 120)]
    classes += ["Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamtenschild"]
    y = np.repeat(classes, 12)
    logits = [np.equal.outer(y, classes) + 1.5 * rng.normal(size=(72, 6)) for _ in range(5)]
    layout = Layout({f"hf-hub:laboratory/ViT_base_patch16_{i}": 0 for i in range(5)}, classes)
    table = pd.DataFrame(np.hstack(logits).astype(np.float32), columns=layout.names)
    images = [rng.integers(256, size=(24, 32, 3)).astype(np.uint8) for _ in y]
    path = tmp_path_factory.mktemp("report") / "report.html"
    report(
        AdaptiveBackboneEnsemble().fit(table[::2], y[::2]), table, y, path, images=images, shots=()
    )
    return Page(path.read_text(encoding="utf-8"))


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
@pytest.mark.parametrize("which", ["page", "long_page"])
@pytest.mark.parametrize("width", [500, 768, 1000, 1280])
def test_a_browser_shows_it(which, tmp_path, width, request):
    page = request.getfixturevalue(which)
    # The page itself carries no script; the copy measures itself and writes what it finds in its title.
    copy = tmp_path / "page.html"
    copy.write_text(page.text.replace("</body>", PROBE), encoding="utf-8")
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}/chromium",
               f"--window-size={width},900", "--dump-dom", copy.as_uri()]  # fmt: skip
    dom = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    (title,) = re.findall("<title>(.*?)</title>", dom)
    assert title == f"broken=0 wide=0 width={width}"
