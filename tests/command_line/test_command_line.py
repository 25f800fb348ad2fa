"""The command ``clipensemble``, as a user runs it."""

import importlib
import io
import json
import os
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from sklearn_clipensemble import CLIPEmbedder, load_image_folder
from sklearn_clipensemble._command_line import main
from sklearn_clipensemble.distributed import read_embeddings

BACKBONES = ["tiny/RN-1221", "tiny/ViT-4"]
PROJECT = Path(__file__).parents[2] / "pyproject.toml"


@pytest.fixture(scope="module")
def home(tmp_path_factory, digits):
    """A folder with photos of three classes, one of which is broken, and a fitted model."""
    home = tmp_path_factory.mktemp("home")
    for index, (image, label) in enumerate(zip(*digits, strict=True)):
        if index < 130 and label in ("one", "two", "seven"):
            folder = home / "photos" / label
            folder.mkdir(parents=True, exist_ok=True)
            picture = Image.fromarray((image * 255).astype("uint8")).resize((40, 48))
            picture.save(folder / f"{index:03}.png")
    fit = ["fit", "photos", "-o", "model.joblib", "--shots", "4", "--rest", "rest.csv"]
    done = command(*fit, "--backbones", *BACKBONES, "--cache", "cache", cwd=home)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert done.stderr.startswith("model.joblib: 3 classes from 12 images, 2 backbones, ")
    (home / "photos" / "two" / "zzz.png").write_text("I am\nno image")
    embed = ["embed", "photos", "-o", "table.parquet", "--backbones", *BACKBONES]
    done = command(*embed, "--cache", "cache", cwd=home)
    assert done.returncode == 0, done.stderr
    assert "40 images" in done.stderr
    return home


@pytest.fixture
def at_home(home, monkeypatch):
    monkeypatch.chdir(home)
    return home


def command(*arguments, cwd, **options):
    python = [sys.executable, "-W", "error", "-m", "sklearn_clipensemble"]
    return subprocess.run(
        [*python, *arguments], cwd=cwd, capture_output=True, text=True, check=False, **options
    )


def here(capsys, *arguments):
    """Run a command in this process; return its exit code and what it wrote."""
    code = main(arguments)
    return code, *capsys.readouterr()


def test_help_is_quick_to_come_and_the_script_is_declared(tmp_path):
    code = "import sys, sklearn_clipensemble._command_line as c\ntry: c.main(['--help'])\nfinally: "
    code += "print({'torch', 'open_clip', 'matplotlib', 'ray'} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert "clipensemble predict model.joblib new_photos" in done.stdout
    assert done.stdout.endswith("set()\n")
    declared = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]["scripts"]
    module, _, name = declared["clipensemble"].partition(":")
    assert getattr(importlib.import_module(module), name) is main


@pytest.mark.parametrize("name", ["backbones", "embed", "fit", "predict", "report", "search"])
def test_every_command_has_help_with_examples(name, capsys):
    with pytest.raises(SystemExit) as stopped:
        main([name, "--help"])
    assert stopped.value.code == 0
    text = capsys.readouterr().out
    assert "For example:\n  clipensemble " in text
    assert ("Load none that you do not trust" in text) == (name in ("predict", "report"))


def test_backbones(capsys):
    code, out, err = here(capsys, "backbones")
    assert (code, err) == (0, "")
    assert "ViT-B-32/openai" in out
    code, out, err = here(capsys, "backbones", *BACKBONES, "ViT-B-32", "--json")
    found = {row["id"]: row for row in json.loads(out)}
    assert list(found) == [*BACKBONES, "ViT-B-32/openai"]
    assert found["ViT-B-32/openai"]["imagenet"] == 0.6332
    assert found["tiny/ViT-4"]["imagenet"] is None


def test_predict(home):
    done = command("predict", "model.joblib", "photos", "-o", "a.csv", "--cache", "cache", cwd=home)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert "40 images" in done.stderr
    assert "1 of 40 images could not be read. The first: photos" in done.stderr
    answers = pd.read_csv(home / "a.csv")
    images = load_image_folder(home / "photos")
    assert [str(home / path) for path in answers["path"]] == images.paths.tolist()
    unread = answers["path"].str.endswith("zzz.png")
    assert answers[unread].iloc[0].drop(["path", "error"]).isna().all()
    assert "it starts with the text" in answers["error"][unread].item()
    answers, target = answers[~unread], images.target[~unread]
    assert (answers["label"] == target).mean() > 0.7
    weights = answers[[f"{b}__weight" for b in BACKBONES]]
    np.testing.assert_allclose(weights.sum(axis=1), 1, atol=2e-4)
    # The very answers of the pipeline; in bf16 the last digits of an embedding depend on its batch.
    clf = joblib.load(home / "model.joblib").set_params(clipembedder__cache=str(home / "cache"))
    paths = images.paths[~unread]
    assert answers["label"].tolist() == clf.predict(paths).tolist()
    np.testing.assert_allclose(
        answers["probability"], clf.predict_proba(paths).max(axis=1), atol=1e-4
    )


def test_predict_writes_json_and_reads_lists(at_home, capsys, monkeypatch):
    paths = sorted(map(str, Path("photos", "two").iterdir()))[-2:]
    monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(paths) + "\n"))
    code, out, _ = here(capsys, "predict", "model.joblib", "-", "--json", "--cache", "cache")
    assert code == 0
    good, broken = map(json.loads, out.splitlines())
    assert [good["path"], broken["path"]] == paths
    assert (
        good["probabilities"][good["label"]]
        == good["probability"]
        == max(good["probabilities"].values())
    )
    assert list(good["weights"]) == BACKBONES
    assert good["error"] is None
    assert broken["label"] is None
    assert broken["error"]
    code, out, _ = here(capsys, "predict", "model.joblib", paths[0], "-q", "--no-cache")
    assert code == 0
    assert out.splitlines()[1].startswith(f"{paths[0]},{good['label']},")


def test_what_shots_left_is_listed(home):
    rest = pd.read_csv(home / "rest.csv")
    images = load_image_folder(home / "photos")
    assert len(rest) == len(images.paths) - 13  # the broken one came later
    assert rest.groupby("label").size().to_dict() == {"one": 9, "seven": 9, "two": 9}


def test_a_model_carries_nothing_of_its_machine(home):
    clf = joblib.load(home / "model.joblib")
    assert (clf[0].cache, clf[0].device, clf[1].cache) == (None, "auto", None)


def test_embed_and_search(home, monkeypatch, capsys):
    table = read_embeddings(home / "table.parquet")
    assert table.index.names == ["path", "label"]
    monkeypatch.chdir(home)
    images = load_image_folder("photos")
    embedder = CLIPEmbedder(BACKBONES, cache="cache", on_error="nan").fit(images.paths)
    with pytest.warns(UserWarning, match="zzz"):
        expected = embedder.transform(images.paths)
    np.testing.assert_array_equal(table.to_numpy(), expected.to_numpy())
    raw = pd.read_parquet("table.parquet")
    assert raw["error"].notna().sum() == 1

    done = command("search", "table.parquet", "one", "-n", "4", "--cache", "cache", cwd=home)
    assert done.returncode == 0, done.stderr
    lines = [line.split("\t") for line in done.stdout.splitlines()]
    assert len(lines) == 4
    scores = [float(score) for score, _, _ in lines]
    assert scores == sorted(scores, reverse=True)
    assert [label for _, _, label in lines].count("one") >= 3
    code, out, _ = here(capsys, "search", "table.parquet", "one", "-n", "1", "--json")
    assert code == 0
    found = json.loads(out)
    assert found["path"] == lines[0][1]
    assert found["score"] == pytest.approx(scores[0], abs=0.01)


def test_embedding_goes_on_where_it_was(at_home, capsys, monkeypatch, tmp_path):
    # Nothing is left to compute: whoever tries fails.
    def fail(*args):
        raise AssertionError

    monkeypatch.setattr("sklearn_clipensemble.embedding._stream.Stream._forward", fail)
    table = str(tmp_path / "again.parquet")
    arguments = ["embed", "photos", "-o", table, "--backbones", *BACKBONES, "--cache"]
    code, _, err = here(capsys, *arguments, "cache")
    assert code == 0, err
    code, _, err = here(capsys, *arguments, str(tmp_path / "another"))
    assert code == 1
    assert err.endswith("clipensemble: error: AssertionError\n")
    assert sorted(os.listdir(tmp_path)) == ["again.parquet", "another"]  # no part of a file is left


def test_names_of_files_that_are_no_text(at_home, capsys, tmp_path):
    one = next(Path("photos", "one").iterdir())
    names = tmp_path / "names.txt"
    names.write_bytes(f"{one}\n".encode() + b"photos/\xff.png\n")
    table = str(tmp_path / "t.parquet")
    code, _, err = here(capsys, "embed", str(names), "-o", table, "--backbones", "tiny/ViT-4")
    assert code == 0, err
    assert pd.read_parquet(table)["path"].tolist() == [str(one), "photos/\\xff.png"]
    answers = tmp_path / "a.csv"
    code, _, err = here(capsys, "predict", "model.joblib", str(names), "-o", str(answers))
    assert code == 0, err
    assert answers.read_bytes().splitlines()[2].startswith(b"photos/\xff.png,,")
    # What one command writes, the next one reads.
    code, out, err = here(capsys, "predict", "model.joblib", str(answers), "-q", "--json")
    assert code == 0, err
    assert json.loads(out.splitlines()[1])["path"] == "photos/\udcff.png"
    labelled = tmp_path / "labelled.csv"
    labelled.write_bytes(b"path,label\n\xff.png,one\n\xfe.png,one\n" + f"{one},two\n".encode() * 2)
    rest, model = tmp_path / "rest.csv", str(tmp_path / "m.joblib")
    fit = ["fit", str(labelled), "-o", model, "--shots", "1", "--rest", str(rest)]
    code, _, err = here(capsys, *fit, "--backbones", "tiny/ViT-4")
    first, *lines = rest.read_bytes().splitlines()
    assert first == b"path,label"
    assert sorted(lines)[-1] in (b"\xfe.png,one", b"\xff.png,one")


def test_folders_whose_names_are_no_text(home, capsys, tmp_path):
    photo = next((home / "photos" / "one").iterdir()).read_bytes()
    try:
        for folder in (b"\xe9t\xe9", b"tea"):
            os.mkdir(os.path.join(os.fsencode(tmp_path), folder))
            with open(os.path.join(os.fsencode(tmp_path), folder, b"1.png"), "wb") as file:
                file.write(photo)
    except OSError:
        pytest.skip("such names cannot be given here")
    table = str(tmp_path / "t.parquet")
    arguments = ["embed", str(tmp_path), "-o", table, "--backbones", "tiny/ViT-4"]
    code, _, err = here(capsys, *arguments)
    assert code == 0, err
    assert pd.read_parquet(table)["label"].tolist() == ["tea", "\\xe9t\\xe9"]


def test_what_is_no_file_is_written_to_and_not_replaced(at_home, capsys, tmp_path):
    if not hasattr(os, "mkfifo"):
        pytest.skip("no pipes here")
    predict = ["predict", "model.joblib", "photos/one", "-q", "--cache", "cache", "-o"]
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    code, _, err = here(capsys, *predict, str(pipe))
    assert code == 0, err
    assert pipe.is_fifo()
    expected = os.read(reader, 1 << 16)
    os.close(reader)
    assert expected.startswith(b"path,label,")
    # A link stays one, and a file keeps its rights.
    file, link = tmp_path / "a.csv", tmp_path / "link.csv"
    file.write_text("old")
    file.chmod(0o600)
    link.symlink_to(file.name)
    code, _, err = here(capsys, *predict, str(link))
    assert code == 0, err
    assert link.is_symlink()
    assert file.read_bytes() == expected
    assert file.stat().st_mode & 0o777 == 0o600
    code, out, err = here(capsys, *predict, "-")
    assert (code, out.encode()) == (0, expected)
    assert sorted(os.listdir(tmp_path)) == ["a.csv", "link.csv", "pipe"]


def test_streams_that_are_closed(home):
    if os.name == "nt":
        pytest.skip("a shell of its own")
    run = f"{shlex.quote(sys.executable)} -m sklearn_clipensemble search table.parquet"
    done = subprocess.run(
        ["sh", "-c", f"{run} one -n 1 2>&-; {run} one -n 0 2>&-; {run} one -n 1 >&-"],
        cwd=home,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert [line.count("\t") for line in done.stdout.splitlines()] == [2]


def test_usage_is_in_an_order_that_works(capsys):
    with pytest.raises(SystemExit):
        main(["fit", "-o", "model.joblib", "--backbones", "tiny", "photos"])
    assert capsys.readouterr().err.startswith("usage: clipensemble fit IMAGES -o MODEL [options]\n")


def test_a_pattern_without_quotes_is_told(at_home, capsys):
    photos = sorted(map(str, Path("photos", "one").iterdir()))[:3]
    with pytest.raises(SystemExit) as stopped:
        main(["predict", "model.joblib", *photos])
    assert stopped.value.code == 2
    err = capsys.readouterr().err
    assert f"unrecognized arguments: {photos[1]} {photos[2]}" in err
    assert "put a pattern in quotes" in err
    with pytest.raises(SystemExit):
        main(["predict", "model.joblib", photos[0], "--nonsense"])
    assert "quotes" not in capsys.readouterr().err


def test_lists_made_on_windows(at_home, capsys, tmp_path, monkeypatch):
    paths = sorted(map(str, Path("photos", "one").iterdir()))[:2]
    text = "\ufeff" + "\r\n".join([paths[0], "", paths[1], ""])
    names, table = tmp_path / "names.txt", tmp_path / "names.csv"
    names.write_text(text, encoding="utf-8", newline="")
    table.write_text("\ufeffpath\r\n" + text[1:], encoding="utf-8", newline="")
    monkeypatch.setattr("sys.stdin", io.StringIO(text))
    for source in (str(names), str(table), "-"):
        code, out, err = here(capsys, "predict", "model.joblib", source, "-q", "--no-cache")
        assert code == 0, err
        assert [line.partition(",")[0] for line in out.splitlines()[1:]] == paths


def test_images_without_a_class_are_embedded_and_predicted(at_home, capsys, tmp_path):
    album = tmp_path / "album"
    photos = sorted(Path("photos", "one").iterdir())[:3]
    for photo, place in zip(photos, ["stray.png", "trip/a.png", "trip/day/b.png"], strict=True):
        (album / place).parent.mkdir(parents=True, exist_ok=True)
        (album / place).write_bytes(photo.read_bytes())
    table = str(tmp_path / "t.parquet")
    code, _, err = here(capsys, "embed", str(album), "-o", table, "--backbones", "tiny/ViT-4")
    assert code == 0, err
    assert "Left out" not in err
    found = pd.read_parquet(table)
    assert found["path"].str.endswith(("stray.png", "a.png", "b.png")).all()
    assert found["label"].fillna("-").tolist() == ["-", "trip", "trip"]
    code, out, err = here(capsys, "search", table, "one")
    assert code == 0, err
    assert sorted(line.count("\t") for line in out.splitlines()) == [1, 2, 2]
    code, out, err = here(capsys, "predict", "model.joblib", str(album), "-q")
    assert (code, len(out.splitlines())) == (0, 4)
    assert err == ""


def test_report(home):
    done = command(
        "report", "model.joblib", "rest.csv", "-o", "page.html", "--cache", "cache", cwd=home
    )
    assert done.returncode == 0, done.stderr
    assert "page.html: 27 images of 3 classes" in done.stderr
    assert (home / "page.html").read_text(encoding="utf-8").startswith("<!doctype html>")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("predict nothing.joblib photos", "There is no file 'nothing.joblib'"),
        ("predict rest.csv photos", "rest.csv: no model that can be loaded"),
        ("predict list.joblib photos", "list.joblib: it holds list; expected a pipeline"),
        ("predict model.joblib nowhere", "There is no folder 'nowhere'"),
        ("predict model.joblib empty.txt", "empty.txt: it lists no images"),
        ("predict model.joblib a.json -q", "None of the 1 images could be read. The first: a.json"),
        ("report model.joblib photos/two -o r.html", "photos/two: no classes. Put the images"),
        ("report model.joblib answers.csv -o r.html", "answers.csv: it holds answers of 'predict'"),
        ("report model.joblib bare.csv -o r.html", "bare.csv: it has no column 'path'"),
        ("report model.joblib void.csv -o r.html", "void.csv: it has no column 'path'"),
        ("report model.joblib ragged.csv -o r.html", "ragged.csv: line 3 has 3 values"),
        ("fit short.csv -o m.joblib", "short.csv: line 2 has 1 value"),
        ("fit blank.csv -o m.joblib", "no column 'label'; its columns are ['path', ' label']"),
        ("fit latin.csv -o m.joblib", "the label 'caf\\udce9' in line 3 is no UTF-8"),
        ("predict model.joblib utf16.txt", "utf16.txt: it has zero bytes"),
        ("predict void.csv photos", "void.csv: no model that can be loaded (the file is empty)"),
        ("embed photos -o no/t.parquet --backbones tiny/ViT-4", "no/t.parquet: there is no folder"),
        ("embed photos -o photos --backbones tiny/ViT-4", "photos: it is a folder"),
        ("embed photos -o t.csv --backbones tiny/ViT-4", "tables are parquet; name it t.parquet"),
        ("embed photos -o t.parquet --backbones nobody", "Unknown backbone 'nobody'"),
        ("fit photos -o m.joblib --rest r.csv", "--rest lists what --shots leaves"),
        ("fit photos -o m.joblib --shots 0", "--shots is 0; expected at least 1"),
        ("fit photos -o m.joblib --backbones tiny/ViT-4 --class-names no.json", "no.json: No such"),
        ("search rest.csv one", "rest.csv: Parquet magic bytes"),
        ("search no.parquet one", "no.parquet"),
        ("search t.parquet one -n 0", "-n is 0"),
        ("search t.parquet _ -n 1", "The sentence is empty"),
        ("backbones nobody", "Unknown backbone 'nobody'"),
    ],
)
def test_errors_are_one_line(at_home, capsys, arguments, message):
    joblib.dump([1], "list.joblib")
    Path("empty.txt").write_text("\n")
    Path("a.json").write_text("{}")
    Path("answers.csv").write_text("path,label,probability\na.png,one,1\n")
    Path("bare.csv").write_text("file\na.png\n")
    Path("void.csv").write_text("")
    Path("ragged.csv").write_text("path,label\na.png,one\nb.png,one, two\n")
    Path("short.csv").write_text("path,label\na.png\n")
    Path("blank.csv").write_text("path, label\na.png, one\n")
    Path("latin.csv").write_bytes("path,label\na.png,one\nb.png,café\n".encode("latin-1"))
    Path("utf16.txt").write_text("a.png\nb.png\n", encoding="utf-16")
    before = sorted(os.listdir("."))
    code, out, err = here(capsys, *(" " if a == "_" else a for a in arguments.split()))
    assert code == 1
    assert out == "" or "a.json" in arguments
    assert err.startswith("clipensemble: error: ")
    assert message in err
    assert err.count("\n") == 1
    assert sorted(os.listdir(".")) == before


def test_what_is_missing_is_named(at_home, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    code, _, err = here(capsys, "embed", "photos", "-o", "t.parquet", "--backbones", "tiny")
    assert code == 1
    assert "pip install pyarrow" in err
    code, _, err = here(capsys, "search", "table.parquet", "one")
    assert code == 1
    assert "pip install pyarrow" in err
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    report = ["report", "model.joblib", "rest.csv", "-o", "r.html", "--cache", "cache"]
    code, _, err = here(capsys, *report)
    assert code == 1
    assert "pip install matplotlib jinja2" in err


def test_wrong_usage_debug_and_interruption(at_home, capsys, monkeypatch):
    with pytest.raises(SystemExit) as stopped:
        main(["fit", "photos"])
    assert stopped.value.code == 2
    with pytest.raises(FileNotFoundError):
        main(["predict", "nothing.joblib", "photos", "--debug"])
    capsys.readouterr()

    def interrupt(args):
        raise KeyboardInterrupt

    monkeypatch.setattr("sklearn_clipensemble._command_line.search.read_embeddings", interrupt)
    code, _, err = here(capsys, "search", "table.parquet", "one")
    assert code == 130
    assert err == "clipensemble: interrupted: the same command goes on from there\n"


@pytest.mark.filterwarnings("default:.*could not be read:UserWarning")
def test_words_for_classes_and_images_that_are_left_out(at_home, capsys, tmp_path):
    names = tmp_path / "names.json"
    names.write_text('{"one": "number one", "two": "number two", "seven": "number seven"}')
    model = str(tmp_path / "m.joblib")
    arguments = ["fit", "photos", "-o", model, "--backbones", "tiny/ViT-4", "--cache", "cache"]
    options = ["--class-names", str(names), "--templates", "{}", "the {}"]
    code, _, err = here(capsys, *arguments, *options)
    assert code == 0, err
    assert "clipensemble: warning: 1 of 40 images could not be read" in err
    clf = joblib.load(model)
    assert clf[1].prompts_["two"] == "number two"
    assert list(clf[1].templates) == ["{}", "the {}"]


def test_backbones_without_text_learn_from_labels_alone(at_home, capsys, tmp_path):
    import timm

    timm.models.save_for_hf(timm.create_model("test_vit", num_classes=0), tmp_path / "net")
    model = str(tmp_path / "m.joblib")
    net = f"timm:local-dir:{tmp_path / 'net'}"
    fit = ["fit", "rest.csv", "-o", model, "--shots", "2", "--backbones", net]
    code, _, err = here(capsys, *fit, "--no-cache")
    assert code == 0, err
    assert list(joblib.load(model).named_steps) == ["clipembedder", "adaptivebackboneensemble"]
    code, out, _ = here(capsys, "predict", model, "photos/one", "--no-cache", "-q")
    assert code == 0
    assert len(out.splitlines()) == 14
