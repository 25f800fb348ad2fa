"""One page about an ensemble on the user's own data."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterator, Sequence
from html import escape
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from sklearn.base import clone
from sklearn.metrics import balanced_accuracy_score
from tqdm.auto import tqdm

from sklearn_clipensemble._version import __version__
from sklearn_clipensemble.ensembles import ProbabilityAverage
from sklearn_clipensemble.inspection._answers import Answers, read_answers, unwrap
from sklearn_clipensemble.inspection._calibration import calibration_table
from sklearn_clipensemble.inspection._contribution import per_class_accuracy
from sklearn_clipensemble.inspection._diversity import error_consistency
from sklearn_clipensemble.inspection._oracle import (
    oracle_gap_closed,
    oracle_null,
    oracle_score,
    unique_correct,
)
from sklearn_clipensemble.inspection._plot._combination_weights import WeightsDisplay
from sklearn_clipensemble.inspection._plot._contact_sheet import ContactSheetDisplay
from sklearn_clipensemble.inspection._plot._disagreement import DisagreementDisplay
from sklearn_clipensemble.inspection._plot._overlap import OverlapDisplay
from sklearn_clipensemble.inspection._plot._reliability import ReliabilityDisplay
from sklearn_clipensemble.inspection._plot._shot_curve import ShotCurveDisplay
from sklearn_clipensemble.inspection._plot._style import require_matplotlib
from sklearn_clipensemble.model_selection import shot_curve

_SHEETS = {
    "rescued": (
        "Rescued",
        "The ensemble is right although more backbones give one wrong answer than the right one.",
    ),
    "failed": ("Failed", "The ensemble is wrong; where it is surest, first."),
    "disagreement": ("Disputed", "The backbones give the most different answers."),
}


def report(
    estimator,
    X: ArrayLike,
    y: ArrayLike,
    path: str | Path = "report.html",
    *,
    images: Sequence | None = None,
    title: str = "Backbones, alone and together",
    shots: Sequence[int] = (1, 2, 4, 8, 16),
    n_repeats: int = 5,
    random_state: int = 0,
    verbose: int = 0,
) -> Path:
    """Write a page with the tables and pictures of this module for the user's own data.

    The page is one HTML file that needs nothing beside it: which backbone gets
    what right, what an oracle could gain, accuracy against the number of
    labels, weights, calibration, the worst classes, and images with every
    backbone's answer.

    Interrupting (Ctrl-C) leaves out the sections that are not done and writes
    the rest.

    Parameters
    ----------
    estimator : fitted classifier
        A combiner of this package, or a pipeline or search that ends in one.
    X : array-like of shape (n_samples, ...)
        Whatever the estimator predicts from; not what it was fitted on.
    y : array-like of shape (n_samples,)
        The true labels.
    path : str or Path, default="report.html"
        Where to write.
    images : sequence of n_samples images or None, default=None
        The pictures, where ``X`` is a table. Without them there are no contact
        sheets.
    title : str, default="Backbones, alone and together"
        The headline.
    shots : sequence of int, default=(1, 2, 4, 8, 16)
        Shot counts of the shot curve, which is cross-validated inside ``X``;
        those that the rarest class cannot give are left out.
    n_repeats : int, default=5
        Number of draws of the shot curve.
    random_state : int, default=0
        Decides the draws.
    verbose : int, default=0
        Whether to show progress.

    Returns
    -------
    Path
        Where the page is.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> import pandas as pd
    >>> from sklearn_clipensemble import Layout
    >>> from sklearn_clipensemble.ensembles import ProbabilityAverage
    >>> from sklearn_clipensemble.inspection import report
    >>> y = np.repeat(["cat", "dog"], 20)
    >>> layout = Layout({"RN50": 0, "ViT-B-32": 0}, ["cat", "dog"])
    >>> logits = np.random.default_rng(0).normal(size=(40, 4))
    >>> table = pd.DataFrame(logits, columns=layout.names)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     page = report(ProbabilityAverage().fit(table, y), table, y, f"{folder}/report.html")
    ...     page.read_text(encoding="utf-8")[:15]
    '<!doctype html>'
    """
    require_matplotlib("report")
    combiner, table = unwrap(estimator, X)
    if images is None and table is not X:
        images = X
    answers = read_answers(table, y, estimator=combiner)
    page = _Page(answers, images, list(shots), n_repeats, random_state)
    done, left, skipped = [], list(page.sections()), []
    try:
        for heading, section in tqdm(page.sections().items(), desc="report", disable=not verbose):
            html = "\n".join(section())
            left.remove(heading)
            if html:
                done.append((heading, html))
    except KeyboardInterrupt:
        skipped = left
    path = Path(path)
    path.write_text(_document(title, done, skipped), encoding="utf-8")
    return path


class _Page:
    """The sections of the page, each an iterator over pieces of HTML."""

    def __init__(self, answers: Answers, images, shots, n_repeats, random_state):
        self.answers = answers
        self.images = images
        self.shots = shots
        self.n_repeats = n_repeats
        self.random_state = random_state
        self.given = {"X": answers.X, "y": answers.y, "estimator": answers.combiner}
        self.name = answers.combined[0]

    def sections(self) -> dict[str, Callable[[], Iterator[str]]]:
        return {
            "Summary": self.summary,
            "Backbones": self.backbones,
            "Who is right where": self.overlap,
            "Accuracy and labels": self.shot_curve,
            "Weights": self.weights,
            "Calibration": self.calibration,
            "Classes": self.classes,
            "Images": self.contact_sheets,
        }

    def summary(self):
        accuracy = self.answers.everyone.mean()
        best = accuracy[self.answers.backbones].idxmax()
        gap = oracle_gap_closed(self.answers.combiner.predict(self.answers.X), **self.given)
        n_classes = len(np.unique(self.answers.y))
        yield _paragraph(
            f"{len(self.answers):,} images of {n_classes} classes, {len(self.answers.backbones)} "
            f"backbones, combined by {self.name}."
        )
        tiles = {
            "the ensemble is right": f"{accuracy[self.name]:.1%}",
            f"the best single backbone is ({best})": f"{accuracy[best]:.1%}",
            "at least one backbone is (oracle)": f"{oracle_score(**self.given):.1%}",
            "of the gap between these two is closed": "–" if np.isnan(gap) else f"{gap:.0%}",
        }
        yield '<dl class="tiles">'
        yield from (
            f"<div><dt>{escape(what)}</dt><dd>{value}</dd></div>" for what, value in tiles.items()
        )
        yield "</dl>"

    def backbones(self):
        everyone, y = self.answers.everyone, self.answers.y
        quality = calibration_table(**self.given)
        quality.insert(
            1, "balanced accuracy",
            [balanced_accuracy_score(y, self._labels(name)) for name in everyone],
        )  # fmt: skip
        quality["alone right"] = unique_correct(**self.given).reindex(quality.index)
        widths = pd.Series(self.answers.table.layout.widths)
        quality["embedding width"] = widths.replace(0, np.nan).reindex(quality.index)
        yield _table(
            quality.rename(
                columns={"ece": "calibration error", "brier": "Brier score", "nll": "log loss"}
            ),
            "Every backbone on its own, zero-shot, and the ensemble. “Alone right” counts the images "
            "that no other backbone gets right.",
            "",
        )

    def _labels(self, name):
        if name == self.name:
            return self.answers.combiner.predict(self.answers.X)
        return self.answers.predicted[:, self.answers.backbones.index(name)]

    def overlap(self):
        oracle, null = oracle_score(**self.given), oracle_null(**self.given)
        yield _picture(
            OverlapDisplay.from_estimator(self.answers.combiner, self.answers.X, self.answers.y),
            f"Overlap of the images that the backbones get right; at least one is right on {oracle:.1%}.",
            f"At least one backbone is right on {oracle:.1%} of the images. Backbones of the same "
            f"accuracies that err independently would reach {null:.1%}.",
        )
        if len(self.answers.backbones) > 1:
            pairs = error_consistency(**self.given).to_numpy()
            pairs = pairs[np.triu_indices(len(pairs), k=1)]
            yield _picture(
                DisagreementDisplay.from_estimator(
                    self.answers.combiner,
                    self.answers.X,
                    self.answers.y,
                    measure="error_consistency",
                ),
                f"Error consistency of pairs of backbones, {np.nanmean(pairs):.2f} on average.",
                "Error consistency: 1 where two backbones fail on the same images, 0 where they fail "
                "independently. Low values are what an ensemble lives from.",
            )

    def shot_curve(self):
        rarest = np.unique(self.answers.y, return_counts=True)[1].min()
        shots = [k for k in self.shots if k < rarest]
        if not shots:
            count = "one image" if rarest == 1 else f"{rarest} images"
            yield _paragraph(f"Left out: the rarest class has {count}.")
            return
        scores = shot_curve(
            clone(self.answers.combiner),
            self.answers.X,
            self.answers.y,
            shots,
            n_repeats=self.n_repeats,
            baselines={"probability average": ProbabilityAverage()},
            random_state=self.random_state,
        )
        single = self.answers.everyone[self.answers.backbones].mean()
        oracle = pd.Series({"oracle": oracle_score(**self.given)})
        levels = pd.concat([single, oracle]).rename_axis("method").rename("score").reset_index()
        display = ShotCurveDisplay.from_scores(
            pd.concat([scores[["method", "shots", "score"]], levels.assign(shots=0)])
        )
        means = scores.groupby(["method", "shots"])["score"].mean().unstack()
        ours = means.loc[self.name]
        yield _picture(
            display,
            f"Accuracy against labelled images per class; {self.name} goes from {ours.iloc[0]:.1%} to "
            f"{ours.iloc[-1]:.1%}.",
            f"Mean over {self.n_repeats} draws of labelled images from this data, tested on the rest; "
            "bands are one standard deviation. Dashed: what takes no labels.",
        )
        means.columns = [f"{k} per class" for k in means.columns]
        yield _table(means, "Mean accuracy by the number of labelled images per class.", "method")

    def weights(self):
        if not hasattr(self.answers.combiner, "combination_weights"):
            return
        display = WeightsDisplay.from_estimator(
            self.answers.combiner, self.answers.X, self.answers.y
        )
        mean = display.weights.mean()
        yield _picture(
            display,
            f"Weights of the backbones; {mean.idxmax()} has the largest on average, {mean.max():.2f}.",
            "How much each backbone counts: over all images (above), and on average for each true "
            "class (below).",
        )

    def calibration(self):
        display = ReliabilityDisplay.from_estimator(
            self.answers.combiner, self.answers.X, self.answers.y
        )
        yield _picture(
            display,
            f"Reliability diagrams; the calibration error of {self.name} is "
            f"{display.errors[self.name]:.3f}.",
            "How often an answer is right, by how probable it is said to be, in 15 bins. Below the "
            "diagonal, the backbone is surer than it should be.",
        )

    def classes(self, n_worst: int = 20):
        found = per_class_accuracy(**self.given)[[self.name, *self.answers.backbones]]
        sizes = pd.Series(self.answers.y).value_counts()
        found.insert(0, "images", sizes.reindex(found.index).to_numpy())
        found = found.sort_values(self.name, kind="stable")
        which = (
            "All classes"
            if len(found) <= n_worst
            else f"The {n_worst} worst of {len(found)} classes"
        )
        yield _table(found.head(n_worst), f"{which}, by accuracy.", "class")

    def contact_sheets(self):
        if self.images is None:
            yield _paragraph("Left out: only a table was given. Pass the pictures as images=.")
            return
        for show, (heading, meaning) in _SHEETS.items():
            display = ContactSheetDisplay.from_estimator(
                self.answers.combiner,
                self.answers.X,
                self.answers.y,
                images=self.images,
                show=show,
                n_images=12,
            )
            truths = [] if display.y is None else display.y
            lines = [
                f"{truth}: the ensemble says {given}; "
                + ", ".join(f"{b} {a}" for b, a in display.answers.iloc[i].items())
                for i, (truth, given) in enumerate(zip(truths, display.combined, strict=True))
            ]
            yield f"<h3>{heading}</h3>"
            alt = f"{display.title}: {len(lines)} images with each backbone's answer, listed below."
            yield _picture(display, alt, meaning, kind="wide")
            if lines:
                yield "<details><summary>The same as text</summary><ul>"
                yield from (f"<li>{escape(line)}</li>" for line in lines)
                yield "</ul></details>"


def _paragraph(text: str) -> str:
    return f"<p>{escape(text)}</p>"


def _table(frame: pd.DataFrame, caption: str, corner: str) -> str:
    """Write a table that a screen reader can follow and a narrow screen can scroll."""
    head = "".join(f'<th scope="col">{escape(str(name))}</th>' for name in frame.columns)
    rows = "".join(
        f'<tr><th scope="row">{escape(str(name))}</th>'
        + "".join(
            f"<td>{_number(value, whole)}</td>" for value, whole in zip(row, wholes, strict=True)
        )
        + "</tr>"
        for wholes in [[_is_whole(frame[column]) for column in frame]]
        for name, row in zip(frame.index, frame.to_numpy(), strict=True)
    )
    # With an empty corner, a cell that is no heading of anything.
    corner = f'<th scope="col">{escape(corner)}</th>' if corner else "<td></td>"
    return (
        f'<figure role="group"><figcaption>{escape(caption)}</figcaption>'
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(caption)}">'
        f"<table><thead><tr>{corner}{head}</tr></thead><tbody>{rows}</tbody></table></div></figure>"
    )


def _is_whole(column: pd.Series) -> bool:
    values = column.dropna()
    return bool(len(values)) and column.name in ("images", "alone right", "embedding width")


def _number(value, whole: bool) -> str:
    if pd.isna(value):
        return "–"
    return f"{value:,.0f}" if whole else f"{value:.3f}"


def _picture(display, alt: str, caption: str, kind: str = "") -> str:
    """Write a drawn Display into the page, and close it."""
    plt = require_matplotlib("report")
    figure = display.figure_
    file = io.BytesIO()
    # Photographs are a quarter of the size as JPEG; lines and text are sharper as PNG.
    form, options = ("jpeg", {"quality": 88}) if kind == "wide" else ("png", {"optimize": True})
    figure.savefig(file, format=form, dpi=130, facecolor="white", pil_kwargs=options)
    plt.close(figure)
    data = base64.b64encode(file.getvalue()).decode()
    width, height = (figure.get_size_inches() * 96).astype(int)
    return (
        f'<figure class="{kind}"><div class="scroll" tabindex="0" role="region" aria-label="{escape(alt)}">'
        f'<img src="data:image/{form};base64,{data}" width="{width}" height="{height}" alt="{escape(alt)}">'
        f"</div><figcaption>{escape(caption)}</figcaption></figure>"
    )


def _document(title: str, sections: list[tuple[str, str]], skipped: list[str]) -> str:
    anchors = {heading: heading.lower().replace(" ", "-") for heading, _ in sections}
    links = "".join(f'<li><a href="#{a}">{escape(h)}</a></li>' for h, a in anchors.items())
    note = _paragraph(f"Interrupted; left out: {', '.join(skipped)}.") if skipped else ""
    body = "\n".join(
        f'<section aria-labelledby="{anchors[h]}"><h2 id="{anchors[h]}">{escape(h)}</h2>\n{html}</section>'
        for h, html in sections
    )
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>{_STYLE}</style>
</head>
<body>
<a class="skip" href="#main">Skip to the content</a>
<header><h1>{escape(title)}</h1>
<nav aria-label="Sections"><ul>{links}</ul></nav></header>
<main id="main">
{note}{body}
</main>
<footer><p>Written by sklearn-clipensemble {escape(__version__)}.</p></footer>
</body>
</html>
"""


_STYLE = """
:root { color-scheme: light; --ink: #222; --quiet: #595959; --line: #ddd; --accent: #332288; }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem 1rem 3rem; max-width: 62rem; color: var(--ink); background: #fff;
  font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 1rem 0 .5rem; }
h2 { font-size: 1.3rem; margin: 2.5rem 0 .75rem; padding-top: .75rem; border-top: 1px solid var(--line); }
h3 { font-size: 1.05rem; margin: 1.75rem 0 .5rem; }
nav ul { list-style: none; display: flex; flex-wrap: wrap; gap: .25rem 1rem; padding: 0; margin: .5rem 0; }
a { color: var(--accent); }
.skip { position: absolute; left: -99rem; }
.skip:focus { position: static; }
:focus-visible { outline: 3px solid var(--accent); outline-offset: 2px; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(11rem, 1fr)); gap: .75rem; margin: 1rem 0; }
.tiles div { display: flex; flex-direction: column-reverse; justify-content: flex-end;
  padding: .75rem 1rem; background: #f6f6f8; border-radius: .5rem; }
.tiles dt { color: var(--quiet); font-size: .9rem; line-height: 1.3; overflow-wrap: anywhere; }
.tiles dd { margin: 0; font-size: 1.8rem; font-weight: 650; font-variant-numeric: tabular-nums; }
.scroll { overflow-x: auto; }
figure { margin: 1rem 0 1.5rem; }
figcaption { color: var(--quiet); font-size: .92rem; margin: .4rem 0; }
img { display: block; height: auto; max-width: 100%; }
/* On a phone, sheets of images are scrolled rather than shrunk beyond reading. */
@media (max-width: 40rem) { .wide img { max-width: none; width: 48rem; } }
table { border-collapse: collapse; font-size: .92rem; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .7rem; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap; }
th[scope=row], thead th:first-child { text-align: left; }
th[scope=row] { white-space: normal; min-width: 9rem; max-width: 18rem; overflow-wrap: break-word; }
thead th { white-space: normal; vertical-align: bottom; }
details { margin: .5rem 0; } summary { cursor: pointer; }
footer { color: var(--quiet); font-size: .85rem; margin-top: 3rem; }
@media print { nav, .skip { display: none; } section { break-inside: avoid; } }
"""
