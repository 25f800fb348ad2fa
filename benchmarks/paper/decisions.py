"""Decisions of real models: right or wrong, image by image, and no embeddings.

``cue_conflict_decisions.npz`` has nine CLIPs among 68 models on pictures whose shape is of one class
and whose texture of another (Geirhos et al., ICLR 2019): 160 shapes, each in several textures.
``model_decisions.parquet`` has 24 models on sketches and stylised pictures of the same 16 classes.
"""

from __future__ import annotations

import functools
import re
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.paper.families import log_odds
from benchmarks.paper.material import Material
from sklearn_clipensemble import Layout

GROUP = "real decisions"
_CONFLICT = "cue conflict, "
#: An answer as probabilities: this much for the class that was said.
SAID = 0.9
#: How the models from vlm_shapebias were asked; the first is what the tables take.
PROMPTS = {"a photo of a CLS.": "_a_photo_of_a_CLS.", "CLS": "_CLS", "none": "_None"}
#: The nine CLIPs: name -> what the file calls them, before the prompt; two were asked otherwise.
NINE = {
    "RN50": "clip_RN50_openai",
    "RN101": "clip_RN101_openai",
    "ViT-B-32": "clip",
    "ViT-B-16": "clip-16",
    "ViT-L-14": "ViT_L_14_openai",
    "ViT-L-14-336": "ViT_L_14_336_openai",
    "EVA01-g-14": "EVA01_g_14_laion400m_s11b_b41k",
    "EVA02-E-14": "EVA02_E_14_plus_laion2b_s9b_b144k",
    "EVA-CLIP-8B": "BAAI_EVA_CLIP_8B_448_None",
}
PAPERS_SIX = tuple(NINE)[:6]
CLIPS = {"clip": "ViT-B-32", "clip-16": "ViT-B-16", "clip-14": "ViT-L-14"}


@dataclass(frozen=True)
class Panel:
    """Who is right about which image: one column per model, and what is known of rows and columns."""

    right: pd.DataFrame
    families: dict[str, str]
    #: Rows of one group go together when they are resampled.
    clusters: np.ndarray


@functools.lru_cache(maxsize=1)
def _conflict(data: Path):
    with np.load(data / "real_features" / "cue_conflict_decisions.npz") as file:
        kept = {key: file[key] for key in file.files}
    # Eighty pictures have shape and texture of one class; the two cues do not differ there.
    differ = kept["y"] != kept["texture"]
    cues = np.array([re.findall(r"[a-z]+\d+", name) for name in kept["images"]])[differ]
    said = pd.DataFrame(kept["pred"][:, differ].T)
    # Some names stand twice; the first is taken.
    said.columns = kept["models"]
    said = said.loc[:, ~said.columns.duplicated()]
    truth = {"shape": kept["y"][differ], "texture": kept["texture"][differ]}
    return said, truth, dict(zip(("shape", "texture"), cues.T, strict=True)), kept["classnames"]


def nine(said: pd.DataFrame, prompt: str = "a photo of a CLS.") -> pd.DataFrame:
    """Return the decisions of the nine CLIPs, asked in one way."""
    columns = {}
    for name, prefix in NINE.items():
        column = prefix if prefix in said else prefix + PROMPTS[prompt]
        columns[name] = said[column]
    return pd.DataFrame(columns)


def family(name: str) -> str:
    """Return the family of one of the nine."""
    return "ResNet" if name.startswith("RN") else "ViT"


def conflict_table(data: Path, cue: str) -> Material:
    """Return the nine CLIPs' decisions on conflicting cues, by shape or by texture, as a table.

    Half of the shapes (or textures) of every class are to learn from, the others to test on.
    """
    said, truth, cues, names = _conflict(data)
    number = np.array([int(re.findall(r"\d+", name)[0]) for name in cues[cue]])
    decisions = nine(said)
    return _table(
        f"cue conflict, {cue}",
        decisions.to_numpy(),
        names,
        truth[cue],
        number % 2 == 1,
        {b: family(b) for b in decisions},
        "'a photo of a CLS.' for seven; for ViT-B-32 and ViT-B-16 those of their source",
    )


def decision_table(data: Path, name: str) -> Material:
    """Return three CLIPs' decisions on sketches or stylised pictures as a table."""
    said, y = _decisions(data, name)
    names, codes = np.unique(y, return_inverse=True)
    decisions = said[list(CLIPS)].rename(columns=CLIPS)
    codes_said = decisions.apply(lambda column: np.searchsorted(names, column)).to_numpy()
    learn = np.random.default_rng(0).permutation(len(y)) < len(y) // 2
    families = dict.fromkeys(decisions, "ViT")
    return _table(name, codes_said, names, codes, learn, families, "those of their source")


def _table(name, said, names, codes, learn, families, prompts):
    n_classes = len(names)
    probability = np.full((len(names), len(names)), (1 - SAID) / (n_classes - 1))
    np.fill_diagonal(probability, SAID)
    logits = np.log(probability)[said]  # rows, models, classes
    return Material(
        name=name,
        group=GROUP,
        X=logits.reshape(len(said), -1).astype(np.float32),
        layout=Layout(dict.fromkeys(families, 0), [str(n) for n in names]),
        y=np.asarray(names, dtype=str)[codes],
        learn=np.flatnonzero(learn),
        test=np.flatnonzero(~learn),
        families=families,
        prompts=prompts,
        embedded=False,
    )


def _decisions(data: Path, name: str):
    table = pd.read_parquet(data / "model_decisions.parquet")
    table = table[table.set == name]
    said = table.pivot(index="image", columns="model", values="decision")
    y = table.drop_duplicates("image").set_index("image").label.reindex(said.index)
    return said, y.to_numpy(dtype=str)


TABLES = {
    "cue conflict, shape": partial(conflict_table, cue="shape"),
    "cue conflict, texture": partial(conflict_table, cue="texture"),
    "sketch": partial(decision_table, name="sketch"),
    "stylized": partial(decision_table, name="stylized"),
}


def known_models() -> pd.DataFrame:
    """Return architecture and training of the models that both files have."""
    text = (Path(__file__).parent / "decision_models.toml").read_text(encoding="utf-8")
    return pd.DataFrame.from_dict(tomllib.loads(text)["models"], orient="index")


def _conflict_right(data: Path, cue: str) -> tuple[pd.DataFrame, np.ndarray]:
    said, truth, cues, _ = _conflict(data)
    return said.eq(truth[cue], axis=0), cues[cue]


def _clip_panel(
    data: Path, cue: str, prompt: str = "a photo of a CLS.", models: Sequence[str] = tuple(NINE)
) -> Panel:
    right, clusters = _conflict_right(data, cue)
    right = nine(right, prompt)[list(models)]
    return Panel(right, {b: family(b) for b in right}, clusters)


def _model_panel(data: Path, name: str, kind: str) -> Panel:
    if name.startswith(_CONFLICT):
        right, clusters = _conflict_right(data, name.removeprefix(_CONFLICT))
    else:
        said, y = _decisions(data, name)
        right = said.eq(y, axis=0).reset_index(drop=True)
        clusters = np.arange(len(y))
    families = known_models()[kind].to_dict()
    return Panel(right[list(families)], families, clusters)


#: Name -> who is right about what: the nine CLIPs chosen and asked in several ways, then other models.
PANELS: dict[str, Callable[[Path], Panel]] = {}
_WITHOUT_TWIN = tuple(name for name in NINE if name != "ViT-L-14-336")
for _cue in ("shape", "texture"):
    for _name, _options in {
        "nine CLIPs": {},
        "the paper's six": {"models": PAPERS_SIX},
        "without ViT-L-14-336": {"models": _WITHOUT_TWIN},
        "nine CLIPs, asked 'CLS'": {"prompt": "CLS"},
        "nine CLIPs, asked without words": {"prompt": "none"},
    }.items():
        PANELS[f"{_CONFLICT}{_cue}: {_name}"] = partial(_clip_panel, cue=_cue, **_options)
for _set in (f"{_CONFLICT}shape", f"{_CONFLICT}texture", "sketch", "stylized"):
    for _kind in ("architecture", "training"):
        PANELS[f"{_set}: 19 models by {_kind}"] = partial(_model_panel, name=_set, kind=_kind)


def same_backbone(data: Path) -> list[dict]:
    """Return how alike one backbone's answers by shape are, asked in two ways or by two laboratories."""
    right, _ = _conflict_right(data, "shape")
    first, *others = PROMPTS.values()
    asked = [prefix for prefix in NINE.values() if prefix + first in right]
    pairs = {
        "one backbone, two prompts": [(p + first, p + other) for p in asked for other in others],
        "one backbone, two laboratories": [("ViT_L_14_openai" + first, "clip-14")],
    }
    rows = []
    for name, those in pairs.items():
        two = [right[list(pair)].to_numpy() for pair in those]
        adds = [100 * (both.any(axis=1).mean() - both.mean(axis=0).max()) for both in two]
        for measure, value in {
            "log odds ratio": np.mean([log_odds(both)[0, 1] for both in two]),
            "the second adds, points": np.mean(adds),
        }.items():
            rows.append({"measure": f"{name}: {measure}", "value": value, "pairs": len(two)})
    return rows
