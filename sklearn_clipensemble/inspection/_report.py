"""One page about an ensemble on the user's own data."""

from __future__ import annotations

import base64
import datetime
import io
import os
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from tqdm.auto import tqdm

from sklearn_clipensemble._version import __version__
from sklearn_clipensemble.ensembles import ProbabilityAverage
from sklearn_clipensemble.images import as_sources, load, path_of
from sklearn_clipensemble.inspection._answers import Answers, asked, class_keys, need
from sklearn_clipensemble.inspection._calibration import calibration_table
from sklearn_clipensemble.inspection._contribution import per_class_accuracy
from sklearn_clipensemble.inspection._diversity import (
    disagreement,
    double_fault,
    error_consistency,
)
from sklearn_clipensemble.inspection._oracle import (
    oracle_null,
    oracle_score,
    overlap,
    unique_correct,
)
from sklearn_clipensemble.inspection._plot._combination_weights import WeightsDisplay
from sklearn_clipensemble.inspection._plot._contact_sheet import ContactSheetDisplay
from sklearn_clipensemble.inspection._plot._cost import CostDisplay
from sklearn_clipensemble.inspection._plot._disagreement import DisagreementDisplay
from sklearn_clipensemble.inspection._plot._overlap import OverlapDisplay
from sklearn_clipensemble.inspection._plot._reliability import ReliabilityDisplay
from sklearn_clipensemble.inspection._plot._shot_curve import ShotCurveDisplay
from sklearn_clipensemble.inspection._plot._style import require_matplotlib, shorten
from sklearn_clipensemble.model_selection._curve import check_shots

_SHEETS = {
    "rescued": (
        "Rescued",
        "The ensemble is right although more backbones give one wrong answer than the right one.",
    ),
    "failed": ("Failed", "The ensemble is wrong; where it is surest, first."),
    "disagreement": ("Disputed", "The backbones give the most different answers."),
}
# Rows of a table; more are for a file.
_MANY = 200


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
    classes, what is taken for what, and images with every backbone's answer and where they lie. It
    says so where images are among those that were given to ``fit``. Interrupting (Ctrl-C) leaves
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

    Raises
    ------
    FileNotFoundError, IsADirectoryError
        If the page cannot be written to ``path``.
    ImportError
        If matplotlib is missing.
    TypeError
        If ``shots`` is no sequence of whole numbers.

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
    path = Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"There is no folder {str(path.parent)!r} to write the report to.")
    if path.is_dir():
        raise IsADirectoryError(f"{str(path)!r} is a folder; expected the name of a file to write.")
    answers = asked(estimator, X, y)
    need(answers, "y")
    if images is None and answers.combiner_X is not answers.X:
        images = answers.X
    sections = _Page(answers, images, check_shots(shots), n_repeats, random_state).sections()
    done, skipped = {}, []
    try:
        for heading, section in tqdm(sections.items(), desc="report", disable=not verbose):
            done[heading] = list(section())
    except KeyboardInterrupt:
        skipped = [heading for heading in sections if heading not in done]
    done = {heading: blocks for heading, blocks in done.items() if blocks}
    path.write_text(_render(title=title, sections=done, skipped=skipped), encoding="utf-8")
    return path


def _render(**values) -> str:
    from jinja2 import Environment, StrictUndefined

    here = files("sklearn_clipensemble.inspection")
    page, style = ((here / f"report.{end}").read_text(encoding="utf-8") for end in ("html", "css"))
    jinja = Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined
    )
    jinja.filters["breakable"] = _breakable
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
            "Confusions": self.confusions,
            "Images": self.contact_sheets,
        }

    def summary(self):
        answers: Any = self.answers
        silent = len(answers.table.backbones) - len(answers.backbones)
        classes = f"{len(np.unique(answers.y)):,} classes"
        yield _text(
            f"{datetime.date.today().isoformat()}. {len(answers):,} images of {classes}, "
            f"{len(answers.backbones)} backbones{f' and {silent} without text' * (silent > 0)}, "
            f"combined by {answers.ensemble}{_labels_in_words(answers.combiner)}."
        )
        seen = int(answers.combiner._given_to_fit(answers.table).sum())
        if seen:
            # Embedded anew in other batches, a row may differ in its last digit, and is not known again.
            least = "At least " * (seen < len(answers))
            yield _warning(
                f"{least}{seen:,} of these {len(answers):,} images were given to fit. What the ensemble gets "
                "right of those says little about new images: pass images that it has not seen."
            )
        accuracy = answers.correct.mean()
        best = accuracy[answers.backbones].idxmax()
        oracle = oracle_score(answers)
        tiles = {
            "the ensemble is right": f"{accuracy[answers.ensemble]:.1%}",
            f"the best backbone alone is ({best})": f"{accuracy[best]:.1%}",
            "their average is, without a label": f"{self.label_free().iloc[0]:.1%}",
            "at least one backbone is (oracle)": f"{oracle:.1%}",
        }
        tiles |= _gap_in_words(accuracy[answers.ensemble], accuracy[best], oracle)
        yield {"kind": "tiles", "tiles": tiles}

    def label_free(self) -> pd.Series:
        """Return the accuracies of the backbones' plain averages."""
        answers: Any = self.answers
        with np.errstate(divide="ignore"):
            probabilities = np.stack([answers.probabilities[b] for b in answers.backbones])
            averages = {
                "probability average": probabilities.mean(axis=0),
                "logit average": np.log(probabilities).mean(axis=0),
            }
        truth = class_keys(answers.y)
        given = {name: answers.classes[p.argmax(axis=1)] for name, p in averages.items()}
        return pd.Series({name: np.mean(class_keys(said) == truth) for name, said in given.items()})

    def backbones(self):
        answers: Any = self.answers
        quality = calibration_table(answers)
        quality.insert(1, "balanced accuracy", per_class_accuracy(answers).mean())
        quality["alone right"] = unique_correct(answers).reindex(quality.index)
        widths = pd.Series(answers.table.layout.widths)
        quality["embedding width"] = widths.replace(0, np.nan).reindex(quality.index)
        quality = pd.concat([quality, self.label_free().to_frame("accuracy")])
        names = {"ece": "calibration error", "brier": "Brier score", "nll": "log loss"}
        yield _table(
            quality.rename(columns=names),
            "Every backbone on its own, zero-shot; the ensemble; and what combines the backbones without "
            "a label. “Alone right” counts the images that no other backbone gets right.",
            "who answers",
        )

    def overlap(self):
        answers: Any = self.answers
        oracle, null = oracle_score(answers), oracle_null(answers)
        yield _picture(
            OverlapDisplay.from_answers(answers),
            f"Overlap of the images that the backbones get right; at least one is right on {oracle:.1%}.",
            f"At least one backbone is right on {oracle:.1%} of the images. Backbones of the same "
            f"accuracies that err independently would reach {null:.1%}.",
        )
        yield self.groups()
        if len(answers.backbones) < 2:
            return
        kappa = error_consistency(answers)
        upper = np.triu_indices(len(kappa), k=1)
        mean = pd.Series(kappa.to_numpy()[upper]).mean()
        yield _picture(
            DisagreementDisplay.from_answers(answers, measure="error_consistency"),
            f"Error consistency of pairs of backbones, {mean:.2f} on average; the table below has all.",
            "Error consistency: 1 where two backbones fail on the same images, 0 where they fail "
            "independently. An ensemble gains from low values.",
        )
        names = _plain(answers.backbones)
        pairs = pd.DataFrame(
            {
                "error consistency": kappa.to_numpy()[upper],
                "different answers": disagreement(answers).to_numpy()[upper],
                "both wrong": double_fault(answers).to_numpy()[upper],
            },
            [f"{names[i]} and {names[j]}" for i, j in zip(*upper, strict=True)],
        ).sort_values("error consistency", kind="stable")
        yield _table(
            pairs.head(_MANY), "Pairs of backbones, those that differ most first.", "backbones"
        )

    def groups(self) -> dict:
        """Return how often each group of backbones is right, as a table."""
        answers: Any = self.answers
        names, sizes = np.array(_plain(answers.backbones)), overlap(answers)
        right = np.array([np.atleast_1d(region) for region in sizes.index], dtype=bool)
        ensemble = answers.correct[answers.ensemble].to_numpy()
        of_group = [ensemble[(answers.hits == region).all(axis=1)].mean() for region in right]
        frame = pd.DataFrame(
            {
                "images": sizes.to_numpy(),
                "share": sizes.to_numpy() / len(answers),
                "ensemble": of_group,
            },
            [_group_in_words(names, region) for region in right],
        )
        some = f", the {_MANY} largest" * (len(frame) > _MANY)
        return _table(
            frame.head(_MANY),
            f"Groups of backbones that are right, and no other{some}; the last column says how often the "
            "ensemble is right on their images.",
            "right are",
            folded=len(frame) > 12,
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
            "How often an answer is right, by how probable it is said to be, in bins of equally many "
            "images; the band is a 95 % interval for the ensemble. Below the diagonal, answers are "
            "surer than they should be.",
            legend_below=0.17 * len(display.bins),
        )

    def classes(self, n_worst: int = 20):
        name, found = self.answers.ensemble, per_class_accuracy(self.answers)
        found = found[[name, *self.answers.backbones]]
        sizes = pd.Series(self.answers.y).value_counts()
        found.insert(0, "images", sizes.reindex(found.index).to_numpy())
        found = found.sort_values(name, kind="stable")
        found.columns = ["images", "ensemble", *_plain(self.answers.backbones)]
        n = len(found)
        which = "All classes" if n <= n_worst else f"The {n_worst} worst of {n} classes"
        yield _table(
            found.head(n_worst),
            f"{which}, by the accuracy of the ensemble and of each backbone.",
            "class",
        )

    def confusions(self, n_most: int = 20, n_classes: int = 12):
        answers: Any = self.answers
        pairs = pd.DataFrame({"truth": answers.y, "answer": answers.y_pred})
        wrong = class_keys(answers.y) != class_keys(answers.y_pred)
        counts = pairs[wrong].value_counts(sort=True).rename("images").reset_index()
        if not len(counts):
            yield _text("No image is taken for another class.")
            return
        sizes = pairs["truth"].value_counts()
        counts["share of its class"] = counts["images"] / sizes[counts["truth"]].to_numpy()
        which = f", {n_most} of {len(counts)}" * (len(counts) > n_most)
        yield _table(
            counts.head(n_most).set_index("truth"),
            f"The most frequent confusions{which}: images of one class for which the ensemble gives another.",
            "true class",
        )
        if len(answers.classes) <= n_classes:
            whole = pd.crosstab(pairs["truth"], pairs["answer"])
            whole = whole.reindex(columns=answers.classes, fill_value=0)
            yield _table(
                whole, "The confusion matrix: true classes in rows, answers in columns.", "true class",
                wide_only=True,
            )  # fmt: skip

    def contact_sheets(self):
        yield from self.failures()
        if self.images is None:
            yield _text("Left out: only a table was given. Pass the pictures as images=.")
            return
        sources = as_sources(self.images)
        names, _ = self.places()
        for show, (heading, meaning) in _SHEETS.items():
            sheet = ContactSheetDisplay._compute(
                self.answers, images=list(range(len(sources))), show=show
            )
            cards = [
                self.card(sheet, i, row, sources, names[row]) for i, row in enumerate(sheet.images)
            ]
            yield {"kind": "sheet", "heading": heading, "meaning": meaning, "cards": cards}

    def card(self, sheet, i, row, sources, name) -> dict:
        """Return one image with what everybody says of it."""
        truth = sheet.y[i]
        lines = [(self.answers.ensemble, sheet.combined[i], None)]
        lines += [
            (
                short,
                sheet.answers.iloc[i][b],
                None if sheet.weights is None else sheet.weights.iloc[i][b],
            )
            for short, b in zip(_plain(sheet.answers), sheet.answers, strict=True)
        ]
        sure = np.roll(sheet.confidence.iloc[i].to_numpy(), 1)
        said = [
            {
                "name": "ensemble" if n == 0 else who,
                "answer": answer,
                "right": class_keys(np.array([answer]))[0] == class_keys(np.array([truth]))[0],
                "probability": f"{p:.0%}",
                "weight": "" if weight is None else f"{weight:.2f}",
            }
            for n, ((who, answer, weight), p) in enumerate(zip(lines, sure, strict=True))
        ]
        _, picture = load(sources, row)
        picture.thumbnail((256, 256))
        file = io.BytesIO()
        picture.convert("RGB").save(file, format="JPEG", quality=85)
        source = f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"
        return {
            "name": f"row {name}" if name.isdigit() else name, "truth": truth, "said": said, "source": source,
            "pixels": max(picture.size) <= 64, "weighted": sheet.weights is not None,
        }  # fmt: skip

    def places(self) -> tuple[list[str], str]:
        """Return what every image is called, by row and path, and the folder that all paths share."""
        names = [str(name) for name in self.answers.index]
        sources = [] if self.images is None else as_sources(self.images)
        paths = [path_of(source) for source in sources]
        parents = {os.path.dirname(path) for path in paths if path}
        if not parents:
            return names, ""
        try:
            folder = os.path.commonpath(parents)
        except ValueError:  # on several drives, or some of them relative
            folder = ""
        shown = [path and os.path.relpath(path, folder) if folder else path for path in paths]
        names = [f"{n}: {p}" if p else n for n, p in zip(names, shown, strict=True)]
        return names, folder

    def failures(self):
        answers: Any = self.answers
        wrong = np.flatnonzero(~answers.correct[answers.ensemble].to_numpy())
        if not len(wrong):
            yield _text("The ensemble gets no image wrong.")
            return
        names, folder = self.places()
        sure = answers.probabilities[answers.ensemble][wrong].max(axis=1)
        order = np.argsort(-sure, kind="stable")[:_MANY]
        frame = pd.DataFrame(
            {
                "true class": answers.y[wrong[order]],
                "answer": np.asarray(answers.y_pred)[wrong[order]],
                "probability": sure[order],
                "backbones right": answers.hits[wrong[order]].sum(axis=1),
            },
            [names[i] for i in wrong[order]],
        )
        some = f" ({_MANY} of {len(wrong):,})" * (len(wrong) > _MANY)
        where = f" Paths are in {folder}." if folder else ""
        yield _table(
            frame,
            f"All images that the ensemble gets wrong{some}, where it is surest, first.{where}",
            "row and path" if any(": " in name for name in frame.index) else "row",
            folded=len(frame) > 12,
        )


def _labels_in_words(combiner) -> str:
    """Say from how many labels a combiner has learnt, where it knows."""
    labels = getattr(combiner, "labels_", None)
    if labels is None:
        return ""
    if not len(labels):
        return ", learnt without labels"
    counts = np.unique(labels, return_counts=True)[1]
    low, high = counts.min(), counts.max()
    each = f"{low:,}" if low == high else f"{low:,} to {high:,}"
    missing = len(combiner.classes_) - len(counts)
    none = f", none of {missing:,} others" * (missing > 0)
    return f", learnt from {len(labels):,} labelled images, {each} of each class{none}"


def _gap_in_words(accuracy, best, oracle) -> dict[str, str]:
    """Return the tile that says how far the ensemble went from the best backbone to the oracle."""
    if accuracy > oracle:
        what = "points above the oracle: right where every backbone is wrong"
        return {what: f"+{100 * (accuracy - oracle):.1f}"}
    if accuracy < best:
        return {"points below the best backbone alone": f"−{100 * (best - accuracy):.1f}"}
    if oracle == best:
        return {}
    what = "of the gap between the best backbone and the oracle is closed"
    return {what: f"{(accuracy - best) / (oracle - best):.0%}"}


def _group_in_words(names: np.ndarray, right: np.ndarray) -> str:
    """Name a group of backbones, by those that are not in it where these are fewer."""
    if right.all():
        return "all"
    if not right.any():
        return "none"
    if (~right).sum() < right.sum() and len(right) > 3:
        return f"all but {', '.join(names[~right])}"
    return ", ".join(names[right])


def _plain(names) -> list[str]:
    """Return names without what they share, for a page that can wrap them."""
    return [name.replace(r"\$", "$") for name in shorten(list(names), 60)]


@contextmanager
def _silent_on_backbones_without_text():
    """Keep every single fit from warning of them: the summary counts them."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".* combines zero-shot answers", UserWarning)
        yield


def _breakable(name: object) -> Any:
    """Return a name whose words of more than 16 letters can be broken, after ``_`` or ``/`` if there are."""
    from markupsafe import Markup, escape

    def pieces(word):
        return Markup("<wbr>").join(re.findall(r"[^_/]{1,16}[_/]*|[_/]+", word))

    words = re.split(r"(\s+)", str(name))
    return Markup("").join(pieces(word) if len(word) > 16 else escape(word) for word in words)


def _text(text: str) -> dict:
    return {"kind": "text", "text": text}


def _warning(text: str) -> dict:
    return {"kind": "warning", "text": text}


def _table(
    frame: pd.DataFrame, caption: str, corner: str, *, folded: bool = False, wide_only: bool = False
) -> dict:
    """Return a table; a folded one is opened by the reader, one for wide screens is left out on phones."""
    cells = [[_cell(value) for value in column] for _, column in frame.items()]
    whole = ("alone right", "embedding width")
    for values, (name, column) in zip(cells, frame.items(), strict=True):
        if name in whole:
            values[:] = ["–" if pd.isna(v) else f"{v:,.0f}" for v in column]
    rows = list(zip(frame.index, zip(*cells, strict=True), strict=True))
    block = {"kind": "table", "columns": list(frame), "rows": rows, "folded": folded}
    return block | {"caption": caption, "corner": corner, "wide_only": wide_only}


def _cell(value) -> str:
    if isinstance(value, float | np.floating):
        return "–" if np.isnan(value) else f"{value:.3f}"
    return f"{value:,}" if isinstance(value, int | np.integer) else str(value)


def _picture(display, alt: str, caption: str, legend_below: float = 0) -> dict:
    """Return a drawn Display as a picture inside the page, once more for phones, and close it.

    ``legend_below`` is the room in inches of a legend that stands beside the wide picture.
    """
    plt = require_matplotlib("report")
    wide = display.figure_
    block = {"kind": "picture", "alt": alt, "caption": caption, "wide": _drawn(wide)}
    height = wide.get_size_inches()[1] + legend_below
    narrow = plt.figure(figsize=(3.8, height), layout="constrained")
    display.plot(narrow.add_subplot())
    return block | {"narrow": _drawn(narrow)}


def _drawn(figure) -> dict:
    plt = require_matplotlib("report")
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=144, facecolor="white", pil_kwargs={"optimize": True})
    plt.close(figure)
    source = f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
    width, height = (figure.get_size_inches() * 96).astype(int)
    return {"source": source, "width": width, "height": height}
