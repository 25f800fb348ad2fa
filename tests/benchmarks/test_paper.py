"""The paper's study: the whole runner on miniature sets, and its parts."""

import json
import re

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from benchmarks.paper import (
    __main__ as command,
)
from benchmarks.paper import (
    cells,
    combiners,
    families,
    prompts,
    sources,
    study,
    subsets,
    suites,
    verify,
)
from benchmarks.paper.image_sets import PAPER, ImageSet
from benchmarks.paper.sources import HuggingFace, Torchvision
from benchmarks.paper.suites import Suite

THREE = ("tiny/RN-1221", "tiny/RN-2222", "tiny/EdgeNeXt-xxs")


def digit(label, n, start=0):
    """Return so many pictures of a digit."""
    data = load_digits()
    rows = np.flatnonzero(data.target == label)[start : start + n]
    return [Image.fromarray(np.uint8(data.images[i] * 15)).resize((32, 32)) for i in rows]


def tinted(colour, n, start=0):
    """Return so many squares of about a colour."""
    rng = np.random.default_rng(start)
    noise = rng.integers(60, size=(n, 32, 32, 3))
    return [Image.fromarray(np.uint8(np.clip(np.array(colour) + x - 30, 0, 255))) for x in noise]


def write_prompts(folder, name, classes):
    text = (
        f'source = "made here"\ntemplates = ["a photo of {{}}."]\nclasses = {json.dumps(classes)}\n'
    )
    (folder / f"{name}.toml").write_text(text)


def lay_out(folder, images):
    folder.mkdir(parents=True)
    for i, image in enumerate(images):
        image.save(folder / f"{i}.png")


@pytest.fixture
def mini(tmp_path, monkeypatch):
    """Three miniature sets, one in each way of reading: a folder, torchvision, the hub."""
    datasets = pytest.importorskip("datasets")
    pytest.importorskip("torchvision")
    data, lists = tmp_path / "data", tmp_path / "prompts"
    lists.mkdir(parents=True)
    names = ["zero", "one", "two", "three"]
    write_prompts(lists, "digits", names)
    for label, name in enumerate(names):
        lay_out(data / "digits" / "train" / name, digit(label, 5))
        lay_out(data / "digits" / "test" / name, digit(label, 8, start=5))
    # As torchvision keeps EuroSAT: without splits.
    colours = {"Forest": (20, 120, 30), "River": (40, 80, 200), "Highway": (128, 128, 128)}
    write_prompts(lists, "land", ["forest", "river", "highway"])
    for name, colour in colours.items():
        lay_out(data / "land" / "eurosat" / "2750" / name, tinted(colour, 15))
    write_prompts(lists, "signs", ["red sign", "blue sign", "grey sign", "green sign"])
    kinds = [(200, 30, 30), (30, 30, 200), (128, 128, 128), (30, 200, 30)]

    def load_dataset(repository, split, cache_dir):
        assert repository == "nobody/signs"
        start = {"train": 0, "test": 1}[split]
        images = [image for kind in kinds for image in tinted(kind, 6, start)]
        # The hub's order of classes is another than that of the prompts.
        order = datasets.ClassLabel(names=["Blue_sign", "Green_sign", "Grey_sign", "Red_sign"])
        features = datasets.Features({"image": datasets.Image(), "label": order})
        rows = {"image": images, "label": np.repeat([3, 0, 2, 1], 6)}
        return datasets.Dataset.from_dict(rows, features)

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    monkeypatch.setattr(prompts, "FOLDER", lists)
    monkeypatch.setattr(Torchvision, "fetch", lambda self, folder: None)
    sets = (
        ImageSet("digits", Torchvision("MNIST", files=False), 20, 32),
        ImageSet("land", Torchvision("EuroSAT"), 36, 9),
        ImageSet("signs", HuggingFace("nobody/signs"), 24, 24),
    )

    def make(extra_sets=(), extra_backbones=()):
        suite = Suite(
            "mini",
            (*sets, *extra_sets),
            backbones=(*THREE, *extra_backbones),
            draws=1,
            perturbed=("digits",),
            n_perturbed=4,
        )
        monkeypatch.setitem(suites.SUITES, "mini", lambda data: suite)
        study._suite.cache_clear()
        return suite

    # Enough to go through all of it.
    monkeypatch.setattr(combiners, "N_STEPS", 5)
    monkeypatch.setattr(combiners, "MANY_STEPS", 5)
    monkeypatch.setattr(study, "conditions", lambda: [("none", 0), ("contrast", 3)])
    make.data, make.out = data, tmp_path / "out"
    return make


def run(make, *more):
    found = ["--suite", "mini", "--data", str(make.data), "--out", str(make.out), "--n-jobs", "1"]
    return command.main([*more, *found])


def test_whole_study_on_three_miniature_sets(mini, capsys, monkeypatch):
    mini()
    assert run(mini) == 0
    report = (mini.out / "report.md").read_text()
    for title in ("Beside the published figures", "Synergy or supervision", "Perturbed images"):
        assert title in report
    assert "measured here (mini)" in report
    assert "made here" in report
    asked = (mini.out / "tables" / "prompts.md").read_text()
    assert all(f'| {name} | "a photo of {{}}."' in asked for name in ("digits", "land", "signs"))
    # Two of the three backbones are of one family.
    assert "mean of ResNets" in report
    assert "mean of EdgeNeXts" not in report
    left_out = pd.read_csv(mini.out / "skipped.csv")
    assert set(left_out.kind) == {"skipped"}
    assert set(left_out.why) == {
        *(f"fewer than {n} labelled images in half of the classes" for n in (8, 16)),
        "3 classes only",
    }
    scores = cells.read(mini.out, "combine")
    assert set(scores.set) == {"digits", "land", "signs"}
    assert {combiners.NLC, combiners.ORACLE, combiners.HEAD, combiners.OURS} <= set(scores.method)
    assert scores.accuracy.between(0, 1).all()
    # Colours are easy for a head: the classes of the hub were matched by name.
    signs = scores[(scores.set == "signs") & (scores.method == "linear head")]
    assert signs.accuracy.max() > 0.9
    # A class without labels is never the answer of a head, and stays one of the average.
    unseen = cells.read(mini.out, "unseen").groupby("method")["unseen, among all"].max()
    assert unseen[combiners.HEAD] == 0 < unseen[combiners.AVERAGE]
    assert {f.stem for f in (mini.out / "figures").glob("*.png")} >= {
        "shots", "subsets", "perturbed", "overlap-digits", "families",
    }  # fmt: skip

    # What is there stays; what is missing is measured again.
    files = sorted((mini.out / "cells").glob("*/*/*.csv"))
    files = [file for file in files if "fetch" not in file.parts]  # tried again
    before = {file: file.stat().st_mtime_ns for file in files}
    gone = mini.out / "cells" / "combine" / "digits" / "1-shots--draw-0.csv"
    text = pd.read_csv(gone).drop(columns=["fit_s", "predict_s"])
    gone.unlink()
    assert run(mini, "--steps", *study.STEPS) == 0
    after = {file: file.stat().st_mtime_ns for file in files}
    assert {file for file in files if after[file] != before[file]} == {gone}
    pd.testing.assert_frame_equal(pd.read_csv(gone).drop(columns=["fit_s", "predict_s"]), text)

    # The same folder takes no other study.
    mini(extra_backbones=("tiny/ViT-4",))
    with pytest.raises(SystemExit, match="holds results of other settings"):
        run(mini)


def test_what_is_missing_is_skipped_with_its_reason(mini, capsys):
    extra = ImageSet("mnist", Torchvision("MNIST", {"train": True}, {"train": False}, files=False))
    write_prompts(prompts.FOLDER, "mnist", [str(i) for i in range(10)])
    mini(extra_sets=(extra,), extra_backbones=("RN50/openai",))
    assert run(mini, "--steps", "fetch", "embed", "answers", "tables", "report") == 0
    left_out = pd.read_csv(mini.out / "skipped.csv").set_index(["step", "set"]).why
    assert "torchvision's MNIST is not in" in left_out["embed", "mnist"]
    assert left_out["answers", "mnist"] == "not embedded by any backbone"
    assert left_out["embed", "digits"].startswith("3 of 4 backbones; ")
    assert "RN50" in left_out["fetch", "RN50/openai"]
    # The others went on, by the backbones that could be had.
    right = pd.read_csv(mini.out / "cells" / "answers" / "digits" / "right.csv")
    assert list(right.columns) == ["set", "y", *THREE]
    assert "What was left out" in (mini.out / "report.md").read_text()


def test_a_cell_that_fails_stops_no_other_and_is_told(mini, capsys, monkeypatch):
    mini()

    def broken(study, name):
        if name == "land":
            raise ZeroDivisionError("by accident")
        return [{"n": 1}]

    monkeypatch.setattr(study, "_answers", broken)
    assert run(mini, "--steps", "answers") == 1
    left_out = pd.read_csv(mini.out / "skipped.csv")
    assert left_out[["set", "kind", "why"]].to_numpy().tolist() == [
        ["land", "failed", "ZeroDivisionError: by accident"]
    ]
    assert len(cells.read(mini.out, "answers")) == 2


def test_suites_without_their_data_skip_everything(tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("CLIPENSEMBLE_DATA", raising=False)
    out = ["--out", str(tmp_path / "out"), "--n-jobs", "1"]
    assert command.main(["--suite", "real", "--steps", "answers", "families", "report", *out]) == 0
    left_out = pd.read_csv(tmp_path / "out" / "skipped.csv")
    assert set(left_out.why) == {"no folder of data: pass --data"}
    found = ["--data", str(tmp_path)]
    assert command.main(["--suite", "real", "--steps", "answers", *found, *out]) == 0


def test_dry_run_of_the_full_study(tmp_path, capsys):
    out = tmp_path / "out"
    assert command.main(["--suite", "full", "--dry-run", "--out", str(out)]) == 0
    said = capsys.readouterr().out
    for image_set in PAPER:
        assert f"| {image_set.name} |" in said
    for backbone in verify.published().columns:
        assert f"| {backbone} |" in said
    assert "hours, one RTX 4090" in said
    assert "licence" in said
    # The order of magnitude: ImageNet is most of the download, two ViTs and RN50x64 of the hours.
    total = re.search(r"about (\d+) GB of images, ([\d.]+) GB of weights", said)
    assert 200 < float(total[1]) < 300
    assert 5 < float(total[2]) < 15
    assert 1 < float(re.search(r"([\d.]+) hours of one RTX 4090", said)[1]) < 24
    steps = said[said.index("## Steps") :]
    assert all(f"| {step} |" in steps for step in study.STEPS)
    assert not out.exists()


@pytest.mark.parametrize("suite", ["tiny", "real"])
def test_dry_run_needs_no_data(suite, tmp_path, capsys):
    out = tmp_path / "out"
    found = ["--data", str(tmp_path / "nowhere"), "--out", str(out)]
    assert command.main(["--suite", suite, "--dry-run", *found]) == 0
    said = capsys.readouterr().out
    assert "Nothing is downloaded" in said
    assert "| combine |" in said
    assert not out.exists()


def test_verify_flags_what_is_off_by_more_than_a_point(mini, capsys, monkeypatch, tmp_path):
    mini()
    assert run(mini, "verify") == 1  # nothing measured yet
    assert "run --steps fetch embed answers first" in capsys.readouterr().out
    assert run(mini, "--steps", "fetch", "embed", "answers") == 0
    right = pd.read_csv(mini.out / "cells" / "answers" / "digits" / "right.csv")
    facts = right[list(THREE)].mean().to_frame("digits").T.rename_axis("set")
    facts[THREE[1]] += 0.02
    file = tmp_path / "facts.csv"
    file.write_text("# made here\n" + facts.to_csv())
    monkeypatch.setattr(verify, "FILE", file)
    assert run(mini, "verify") == 1
    said = capsys.readouterr().out
    assert "1 of 3 cells are off" in said
    assert '"a photo of {}."' in said  # the prompts
    file.write_text((facts - [0, 0.02, 0]).to_csv())
    assert run(mini, "verify") == 0


def test_verify_takes_recalls_where_recalls_are_published(tmp_path, monkeypatch):
    name = next(s.name for s in PAPER if s.recall)
    folder = tmp_path / "cells" / "answers" / name
    folder.mkdir(parents=True)
    right = pd.DataFrame({"set": name, "y": [0, 0, 0, 1], "RN50/openai": [True, True, True, False]})
    right.to_csv(folder / "right.csv", index=False)
    found = verify.verify(study.Study("full", tmp_path))
    assert found.measured.tolist() == [50.0]


@pytest.mark.parametrize("image_set", PAPER, ids=lambda s: s.name)
def test_prompts_and_facts_of_every_set(image_set):
    known = image_set.prompts
    assert len(known.classes) > 1
    assert all(known.classes)
    assert "github.com" in known.source
    assert all(t.count("{}") == 1 for t in known.templates)
    assert image_set.n_train
    assert image_set.n_test
    assert image_set.gigabytes
    assert image_set.licence
    if image_set.published:
        assert image_set.name in verify.published().index


def test_numbers_of_classes():
    sizes = {s.name: len(s.prompts.classes) for s in PAPER}
    assert len(sizes) == 21
    assert sizes == {
        "cars": 196, "cifar10": 10, "cifar100": 100, "clevr_counts": 8, "country211": 211,
        "cub": 200, "dtd": 47, "eurosat": 10, "fgvc_aircraft": 100, "flowers102": 102,
        "food101": 101, "gtsrb": 43, "imagenet": 1000, "mnist": 10, "pcam": 2, "pets": 37,
        "rendered_sst2": 2, "resisc45": 45, "stl10": 10, "sun397": 397, "svhn": 10,
    }  # fmt: skip


def test_classes_are_matched_by_name_or_by_order():
    known = prompts.Prompts(("apple pie", "ice cream"), ("{}",), "")
    assert known.positions(["Ice_Cream", "apple pie"]) == [1, 0]
    assert known.positions(["n01", "n02"]) == [0, 1]
    with pytest.raises(ValueError, match="'n03' is the name of no class"):
        known.positions(["n01", "apple pie", "n03"][::-1])


def test_torchvision_sets_that_are_arrays(tmp_path):
    pytest.importorskip("torchvision")
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for start, n in (("train", 4), ("t10k", 2)):
        images = np.arange(n, dtype=np.uint8)[:, None, None] * np.ones((1, 28, 28), np.uint8)
        for name, array, head in (
            ("images-idx3", images, [2051, n, 28, 28]),
            ("labels-idx1", np.arange(n, dtype=np.uint8), [2049, n]),
        ):
            content = np.array(head, dtype=">i4").tobytes() + array.tobytes()
            (raw / f"{start}-{name}-ubyte").write_bytes(content)
    source = Torchvision("MNIST", {"train": True}, {"train": False}, files=False)
    images, classes = source.read(tmp_path, "train", None)
    assert classes.tolist() == [0, 1, 2, 3]
    assert len(images) == 4
    assert np.asarray(sources.take(images, np.array([3, 1]))[0]).max() == 3
    assert len(source.read(tmp_path, "test", None)[0]) == 2


def test_what_torchvision_cannot_fetch_is_skipped(tmp_path, monkeypatch):
    datasets = pytest.importorskip("torchvision").datasets

    def not_whole(root, download):
        raise RuntimeError("File not found or corrupted.")

    monkeypatch.setattr(datasets, "EuroSAT", not_whole)
    with pytest.raises(cells.Skipped, match="EuroSAT could not be fetched: File not found"):
        Torchvision("EuroSAT", files=False).fetch(tmp_path)
    assert Torchvision("ImageNet", downloads=False).fetch(tmp_path) is None


def test_splits_made_here_hold_every_class_and_never_meet(tmp_path):
    classes = np.repeat([0, 1, 2], [10, 20, 5])
    train, test = sources.fifths(classes, test=False), sources.fifths(classes, test=True)
    assert sorted([*train, *test]) == list(range(35))
    assert np.bincount(classes[test]).tolist() == [2, 4, 1]


def test_images_to_learn_from_are_limited(mini, tmp_path):
    suite = mini()
    images, labels = suite.image_sets[0].read(mini.data, "train", 2)
    assert len(images) == 8
    assert np.unique(labels, return_counts=True)[1].tolist() == [2] * 4


def test_sizes_of_the_full_study():
    full = suites.full(None)
    sizes = {s.name: full.n_per_class(s) for s in full.image_sets}
    assert sizes["imagenet"] == 64
    assert sizes["pcam"] == 10000


def test_backbones_in_order_of_cost_those_of_unknown_cost_last():
    costs = subsets.gflops(["EVA01-g-14", "RN50", "ViT-B-32/openai"])
    assert list(costs) == ["ViT-B-32/openai", "RN50", "EVA01-g-14"]
    assert costs["RN50"] > 10
    assert np.isnan(costs["EVA01-g-14"])


# --- pairs of two families -------------------------------------------------------------


def shared_errors(n=4000, share=0.8, seed=0):
    """Return four backbones of two families: two of one fail together where their family does."""
    rng = np.random.default_rng(seed)
    common = {f: rng.random(n) < 0.6 for f in "ab"}
    right = {}
    for f in "ab":
        for i in (1, 2):
            right[f"{f}{i}"] = np.where(rng.random(n) < share, common[f], rng.random(n) < 0.6)
    return pd.DataFrame(right), {b: b[0] for b in right}


def test_union_follows_from_accuracies_and_odds_ratio():
    rng = np.random.default_rng(0)
    common = rng.random(200_000) < 0.5
    p, q = (
        np.where(rng.random(200_000) < 0.7, common, rng.random(200_000) < a) for a in (0.3, 0.9)
    )
    ratio = families.log_odds(np.stack([p, q], axis=1))[0, 1]
    assert families.union(p.mean(), q.mean(), ratio) == pytest.approx((p | q).mean(), abs=1e-4)
    # No association is independence; a strong one leaves the better of the two.
    assert families.union(0.3, 0.6, 0.0) == pytest.approx(0.72, abs=1e-4)
    assert families.union(0.3, 0.6, 12.0) == pytest.approx(0.6, abs=1e-3)


def test_families_that_err_apart_are_told():
    found = families.compare(*shared_errors(), n_bootstrap=200).set_index("measure")
    difference = found.loc["difference"]
    assert 0 < difference.low < difference.value < difference.high
    # Four backbones can be paired in three ways.
    assert difference.p == difference["least p"] == pytest.approx(1 / 3)
    beyond = found.loc["another beyond one family, points"]
    assert beyond.low > 0
    # Families err independently here: a second one adds what chance would.
    expected = found.loc["if it erred independently"].value
    assert found.loc["second of another adds, points"].value == pytest.approx(expected, abs=1)
    assert found.pairs.tolist() == [2, 4, 4, 2, 4, 4, 4, 4]


def test_families_that_do_not_matter_are_told():
    right, _ = shared_errors()
    found = families.compare(
        right[["a1", "a2"]].assign(c1=right.a1[::-1].to_numpy(), c2=right.a2[::-1].to_numpy()),
        {"a1": "x", "a2": "y", "c1": "x", "c2": "y"},
        n_bootstrap=50,
    ).set_index("measure")
    assert found.loc["difference"].p > 0.5


def test_pictures_of_one_thing_are_resampled_together():
    right, of = shared_errors(400)
    alone = families.compare(right, of, n_bootstrap=200).set_index("measure")
    copies = pd.concat([right] * 9, ignore_index=True)
    together = families.compare(copies, of, np.tile(np.arange(400), 9), 200).set_index("measure")
    width = {k: t.loc["difference", "high"] - t.loc["difference", "low"] for k, t in
             {"alone": alone, "together": together}.items()}  # fmt: skip
    assert width["together"] == pytest.approx(width["alone"], rel=0.3)
    with pytest.raises(ValueError, match="two families"):
        families.compare(right, dict.fromkeys(right, "one"))


def test_decisions_of_real_models():
    import os
    from pathlib import Path

    from benchmarks.paper import decisions

    data = Path(os.environ.get("CLIPENSEMBLE_DATA", "nowhere"))
    if not (data / "real_features" / "cue_conflict_decisions.npz").exists():
        pytest.skip("CLIPENSEMBLE_DATA has no decisions")
    panel = decisions.PANELS["cue conflict, shape: nine CLIPs"](data)
    assert panel.right.shape == (1200, 9)
    assert len(np.unique(panel.clusters)) == 160
    table = decisions.TABLES["cue conflict, shape"](data)
    # No shape is both learnt from and tested on, and the table says what the panel says.
    shapes = panel.clusters
    assert not set(shapes[table.learn]) & set(shapes[table.test])
    correct = table.answers().correct.mean()
    np.testing.assert_allclose(correct, panel.right.iloc[table.test].mean())
    assert all(len(p(data).families) >= 6 for p in decisions.PANELS.values())
