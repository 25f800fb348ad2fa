"""One page about an ensemble on the user's own data."""

from __future__ import annotations

import base64
import io
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from sklearn.metrics import balanced_accuracy_score
from tqdm.auto import tqdm

from sklearn_clipensemble._version import __version__
from sklearn_clipensemble.ensembles import ProbabilityAverage
from sklearn_clipensemble.inspection._answers import Answers, asked, need
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
from sklearn_clipensemble.inspection._plot._cost import CostDisplay
from sklearn_clipensemble.inspection._plot._disagreement import DisagreementDisplay
from sklearn_clipensemble.inspection._plot._overlap import OverlapDisplay
from sklearn_clipensemble.inspection._plot._reliability import ReliabilityDisplay
from sklearn_clipensemble.inspection._plot._shot_curve import ShotCurveDisplay
from sklearn_clipensemble.inspection._plot._style import require_matplotlib

_SHEETS = {
    "rescued": (
        "Rescued",
        "The ensemble is right although more backbones give one wrong answer than the right one.",
    ),
    "failed": ("Failed", "The ensemble is wrong; where it is surest, first."),
    "disagreement": ("Disputed", "The backbones give the most different answers."),
}


def report(
    estimator: object | Answers,
    X: ArrayLike | None = None,
    y: ArrayLike | None = None,
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

    The page is one HTML file that needs nothing beside it: who gets what right, the
    oracle, accuracy against the number of labels and against cost, weights, calibration, the worst
    classes, and images with every backbone's answer. Interrupting (Ctrl-C) leaves
    out the sections that are not done and writes the rest.

    Parameters
    ----------
    estimator : fitted classifier or Answers
        A combiner of this package, or a pipeline or search that ends in one. Or
        its :class:`Answers`, with ``path=`` and without ``X`` and ``y``.
    X, y : array-like of shape (n_samples, ...) or None, default=None
        Whatever the estimator predicts from, not what it was fitted on, and the
        true labels.
    path : str or Path, default="report.html"
        Where to write.
    images : sequence of n_samples images or None, default=None
        The pictures for contact sheets, where ``X`` is a table.
    title : str, default="Backbones, alone and together"
        The headline.
    shots : sequence of int, default=(1, 2, 4, 8, 16)
        Shot counts of the shot curve, drawn from ``X``; those that the rarest
        class cannot give are left out.
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
    >>> from sklearn_clipensemble.datasets import load_cats_and_dogs
    >>> from sklearn_clipensemble.ensembles import ProbabilityAverage
    >>> from sklearn_clipensemble.inspection import report
    >>> table, y = load_cats_and_dogs()
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     page = report(ProbabilityAverage().fit(table, y), table, y, f"{folder}/report.html")
    ...     page.read_text(encoding="utf-8")[:15]
    '<!doctype html>'
    """
    require_matplotlib("report")
    answers = asked(estimator, X, y)
    need(answers, "y")
    if images is None and answers.combiner_X is not answers.X:
        images = answers.X
    sections = _Page(answers, images, list(shots), n_repeats, random_state).sections()
    done, skipped = {}, []
    try:
        for heading, section in tqdm(sections.items(), desc="report", disable=not verbose):
            done[heading] = list(section())
    except KeyboardInterrupt:
        skipped = [heading for heading in sections if heading not in done]
    done = {heading: blocks for heading, blocks in done.items() if blocks}
    path = Path(path)
    path.write_text(_render(title=title, sections=done, skipped=skipped), encoding="utf-8")
    return path


def _render(**values) -> str:
    from jinja2 import Environment, StrictUndefined

    here = files("sklearn_clipensemble.inspection")
    page, style = ((here / f"report.{end}").read_text(encoding="utf-8") for end in ("html", "css"))
    jinja = Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined
    )
    return jinja.from_string(page).render(style=style, version=__version__, **values)


@dataclass
class _Page:
    """The sections of the page, each an iterator over blocks that ``report.html`` writes."""

    answers: Answers
    images: Sequence | None
    shots: list[int]
    n_repeats: int
    random_state: int

    def sections(self) -> dict[str, Callable[[], Iterator[dict]]]:
        return {
            "Summary": self.summary,
            "Backbones": self.backbones,
            "Who is right where": self.overlap,
            "Accuracy and labels": self.shot_curve,
            "Accuracy and cost": self.cost,
            "Weights": self.weights,
            "Calibration": self.calibration,
            "Classes": self.classes,
            "Images": self.contact_sheets,
        }

    def summary(self):
        answers = self.answers
        accuracy = answers.correct.mean()
        best = accuracy[answers.backbones].idxmax()
        gap = oracle_gap_closed(answers.y_pred, answers)
        silent = len(answers.table.backbones) - len(answers.backbones)
        yield _text(
            f"{len(answers):,} images of {len(np.unique(answers.y))} classes, "
            f"{len(answers.backbones)} backbones{f' and {silent} without text' * (silent > 0)}, "
            f"combined by {answers.ensemble}."
        )
        tiles = {
            "the ensemble is right": f"{accuracy[answers.ensemble]:.1%}",
            f"the best single backbone is ({best})": f"{accuracy[best]:.1%}",
            "at least one backbone is (oracle)": f"{oracle_score(answers):.1%}",
            "of the gap between these two is closed": "–" if np.isnan(gap) else f"{gap:.0%}",
        }
        yield {"kind": "tiles", "tiles": tiles}

    def backbones(self):
        answers, quality = self.answers, calibration_table(self.answers)
        said = answers.predictions.items()
        balanced = [balanced_accuracy_score(answers.y, given) for _, given in said]
        quality.insert(1, "balanced accuracy", balanced)
        quality["alone right"] = unique_correct(answers).reindex(quality.index)
        widths = pd.Series(answers.table.layout.widths)
        quality["embedding width"] = widths.replace(0, np.nan).reindex(quality.index)
        names = {"ece": "calibration error", "brier": "Brier score", "nll": "log loss"}
        yield _table(
            quality.rename(columns=names),
            "Every backbone on its own, zero-shot, and the ensemble. “Alone right” counts the images "
            "that no other backbone gets right.",
        )

    def overlap(self):
        oracle, null = oracle_score(self.answers), oracle_null(self.answers)
        yield _picture(
            OverlapDisplay.from_answers(self.answers),
            f"Overlap of the images that the backbones get right; at least one is right on {oracle:.1%}.",
            f"At least one backbone is right on {oracle:.1%} of the images. Backbones of the same "
            f"accuracies that err independently would reach {null:.1%}.",
        )
        if len(self.answers.backbones) > 1:
            pairs = error_consistency(self.answers).to_numpy()
            pairs = pairs[np.triu_indices(len(pairs), k=1)]
            yield _picture(
                DisagreementDisplay.from_answers(self.answers, measure="error_consistency"),
                f"Error consistency of pairs of backbones, {np.nanmean(pairs):.2f} on average.",
                "Error consistency: 1 where two backbones fail on the same images, 0 where they fail "
                "independently. An ensemble gains from low values.",
            )

    def rarest(self) -> int:
        """Return how many images the rarest class has."""
        return int(np.unique(need(self.answers, "y"), return_counts=True)[1].min())

    def possible_shots(self) -> list[int]:
        """Return the shot counts that leave an image of every class to score on."""
        return [k for k in self.shots if k < self.rarest()]

    def too_few_images(self) -> dict:
        count = "one image" if self.rarest() == 1 else f"{self.rarest()} images"
        return _text(f"Left out: the rarest class has {count}.")

    def shot_curve(self):
        shots = self.possible_shots()
        if not shots:
            yield self.too_few_images()
            return
        with _silent_on_backbones_without_text():
            display = ShotCurveDisplay.from_answers(
                self.answers, shots=shots, n_repeats=self.n_repeats, random_state=self.random_state,
                baselines={"probability average": ProbabilityAverage()},
            )  # fmt: skip
        scores = display.frame().query("shots > 0")
        means = scores.groupby(["method", "shots"])["score"].mean().unstack()
        ours = means.loc[self.answers.ensemble]
        yield _picture(
            display,
            f"Accuracy against labelled images per class; {self.answers.ensemble} goes from "
            f"{ours.iloc[0]:.1%} to {ours.iloc[-1]:.1%}.",
            f"Mean over {self.n_repeats} draws of labelled images from this data, tested on the rest; "
            "bands are one standard deviation. Dashed: what takes no labels.",
        )
        means.columns = [f"{k} per class" for k in means.columns]
        yield _table(means, "Mean accuracy by the number of labelled images per class.", "method")

    def cost(self):
        if len(self.answers.table.backbones) < 2:
            return
        shots = [k for k in self.possible_shots() if k <= 4]
        if not shots:
            yield self.too_few_images()
            return
        try:
            with _silent_on_backbones_without_text():
                display = CostDisplay.from_answers(
                    self.answers, n_shots=shots[-1], n_repeats=2, random_state=self.random_state
                )
        except (TypeError, ValueError) as error:  # a table without names, or of unknown backbones
            yield _text(f"Left out: {error}")
            return
        scores = (
            display.frame().groupby(["method", "name"], sort=False)[["gflops", "accuracy"]].mean()
        )
        whole, cascade = scores.loc["all"].iloc[0], scores.loc[("cascade", 0.01)]
        yield _picture(
            display,
            f"Accuracy against GFLOPs per image; all backbones reach {whole.accuracy:.1%}, a cascade "
            f"{cascade.accuracy:.1%} for {cascade.gflops / whole.gflops:.0%} of the cost.",
            f"Learnt from {shots[-1]} labelled image{'s' * (shots[-1] > 1)} per class drawn from this data, "
            "scored on the rest; means of two draws. The cascade asks the cheaper backbones first, and "
            "the others only where the answer is in doubt; its points are tolerances from .0025 to .05.",
        )

    def weights(self):
        if self.answers.weights is None:
            return
        mean = self.answers.weights.mean()
        yield _picture(
            WeightsDisplay.from_answers(self.answers),
            f"Weights of the backbones; {mean.idxmax()} has the largest on average, {mean.max():.2f}.",
            "How much each backbone counts: over all images (above), and on average for each true "
            "class (below).",
        )

    def calibration(self):
        display, name = ReliabilityDisplay.from_answers(self.answers), self.answers.ensemble
        yield _picture(
            display,
            f"Reliability diagrams; the calibration error of {name} is {display.errors[name]:.3f}.",
            "How often an answer is right, by how probable it is said to be, in 15 bins. Below the "
            "diagonal, the backbone is surer than it should be.",
        )

    def classes(self, n_worst: int = 20):
        name, found = self.answers.ensemble, per_class_accuracy(self.answers)
        found = found[[name, *self.answers.backbones]]
        sizes = pd.Series(self.answers.y).value_counts()
        found.insert(0, "images", sizes.reindex(found.index).to_numpy())
        found = found.sort_values(name, kind="stable")
        n = len(found)
        which = "All classes" if n <= n_worst else f"The {n_worst} worst of {n} classes"
        yield _table(found.head(n_worst), f"{which}, by accuracy.", "class")

    def contact_sheets(self):
        if self.images is None:
            yield _text("Left out: only a table was given. Pass the pictures as images=.")
            return
        for show, (heading, meaning) in _SHEETS.items():
            display = ContactSheetDisplay.from_answers(self.answers, images=self.images, show=show)
            answers = display.answers.to_dict("records")
            lines = [
                f"{truth}: the ensemble says {given}; "
                + ", ".join(f"{backbone} {answer}" for backbone, answer in said.items())
                for truth, given, said in zip(display.y, display.combined, answers, strict=True)
            ]
            alt = f"{display.title}: {len(lines)} images with each backbone's answer, listed below."
            picture = _picture(display, alt, meaning, "wide")
            yield {"kind": "sheet", "heading": heading, "picture": picture, "lines": lines}


@contextmanager
def _silent_on_backbones_without_text():
    """Keep every single fit from warning of them: the summary counts them."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".* combines zero-shot answers", UserWarning)
        yield


def _text(text: str) -> dict:
    return {"kind": "text", "text": text}


def _table(frame: pd.DataFrame, caption: str, corner: str = "") -> dict:
    whole = ("images", "alone right", "embedding width")
    cells = [
        ["–" if pd.isna(v) else f"{v:,.0f}" if name in whole else f"{v:.3f}" for v in column]
        for name, column in frame.items()
    ]
    rows = list(zip(frame.index, zip(*cells, strict=True), strict=True))
    block = {"kind": "table", "columns": list(frame), "rows": rows}
    return block | {"caption": caption, "corner": corner}


def _picture(display, alt: str, caption: str, look: str = "") -> dict:
    """Return a drawn Display as a picture inside the page, and close it."""
    plt = require_matplotlib("report")
    figure = display.figure_
    file = io.BytesIO()
    # Photographs are a quarter of the size as JPEG; lines and text are sharper as PNG.
    form, options = ("jpeg", {"quality": 88}) if look == "wide" else ("png", {"optimize": True})
    figure.savefig(file, format=form, dpi=130, facecolor="white", pil_kwargs=options)
    plt.close(figure)
    source = f"data:image/{form};base64,{base64.b64encode(file.getvalue()).decode()}"
    width, height = (figure.get_size_inches() * 96).astype(int)
    block = {"kind": "picture", "source": source, "alt": alt, "caption": caption, "look": look}
    return block | {"width": width, "height": height}
