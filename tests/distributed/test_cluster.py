"""Runs on a real Ray cluster of two nodes, and what may happen to them."""

import os
import pickle
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from counting import CountingEmbedder
from fsspec.implementations.local import LocalFileSystem
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

import sklearn_clipensemble
from sklearn_clipensemble import Backbone, CascadeClassifier, CLIPEmbedder
from sklearn_clipensemble._command_line import main
from sklearn_clipensemble.distributed import _ray, embed, read_embeddings

ray = pytest.importorskip("ray")
pytest.importorskip("pyarrow")
pytestmark = [pytest.mark.ray, pytest.mark.filterwarnings("ignore::DeprecationWarning:ray")]

PREPROCESS = {"size": 8, "mean": 0.5, "std": 0.25}
#: Models that load at once.
POOLED = Backbone(
    torch.nn.Sequential(torch.nn.AvgPool2d(4), torch.nn.Flatten()),
    id="pooled",
    preprocess=PREPROCESS,
)
WHOLE = Backbone(torch.nn.Flatten(), id="whole", preprocess=PREPROCESS)


class Harmful(LocalFileSystem):
    """Local files, reading some of which does harm: to their reader, once or always, or by taking long."""

    cachable = False

    def cat_file(self, path, **kwargs):
        name = os.path.basename(path)
        time.sleep(0.02)
        if "deadly" in name:
            os.kill(os.getpid(), signal.SIGKILL)
        if "once" in name and not os.path.exists(path + ".harm"):
            Path(path + ".harm").touch()
            os._exit(1) if "exit" in name else os.kill(os.getpid(), signal.SIGKILL)
        return super().cat_file(path, **kwargs)


@pytest.fixture
def images(tmp_path):
    """Write n pictures; some get a name that says what is wrong with them."""

    def make(n, names=()):
        folder = tmp_path / "images"
        folder.mkdir()
        paths = [str(folder / f"{row:03}.png") for row in range(n)]
        for row, name in dict(names).items():
            paths[row] = str(folder / f"{row:03}-{name}.png")
        for row, path in enumerate(paths):
            pixels = np.random.RandomState(row).randint(0, 256, (8, 8, 3), np.uint8)
            Image.fromarray(pixels).save(path)
        return paths

    return make


def run(paths, output, **options):
    options = {
        "backbones": POOLED,
        "precision": "fp32",
        "rows_per_part": 8,
        "n_workers": 1,  # each takes seconds to start
        "num_cpus": 1,
        "filesystem": Harmful(),
        **options,
    }
    return embed(paths, output, **options)


def assert_each_row_once(output, paths, unreadable=()):
    stored = pd.read_parquet(output)["path"]
    assert sorted(stored) == sorted(paths)
    table = read_embeddings(output).loc[paths]
    assert table.index[table.isna().all(axis=1)].tolist() == list(unreadable)
    readable = [path for path in paths if path not in unreadable]
    expected = CLIPEmbedder(POOLED, precision="fp32").fit_transform(readable)
    np.testing.assert_array_equal(table.loc[readable], expected)


def when_parts_are_there(output, n, then):
    """Do something in the midst of a run: when n parts are there."""

    def watch():
        while len(list(Path(output).glob("part-*"))) < n:
            time.sleep(0.05)
        then()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    return thread


def test_rows_come_once_and_only_what_is_missing_is_embedded(two_nodes, images, tmp_path, capfd):
    paths, output = images(40), tmp_path / "out"
    frame = pd.DataFrame({"path": paths, "label": np.arange(40) % 3})
    done = run(frame[:24], output, n_workers=2)
    assert done == {"n_rows": 24, "n_new": 24, "n_unreadable": 0}
    done = run(frame, output)
    assert done == {"n_rows": 40, "n_new": 16, "n_unreadable": 0}
    assert read_embeddings(output).index.names == ["path", "label"]
    assert_each_row_once(output, paths)
    with pytest.raises(ValueError, match="precision was 'fp32' and is 'auto'"):
        run(frame, output, precision="auto")
    printed = "".join(capfd.readouterr())
    assert not [word for word in ("Dataset", "MapBatches", "row/s") if word in printed]


def test_the_command_line_embeds_here(two_nodes, images, tmp_path, capsys):
    paths, output = images(8, {3: "corrupt"}), str(tmp_path / "out")
    Path(paths[3]).write_bytes(b"none")
    command = [
        "embed",
        str(tmp_path / "images"),
        "-o",
        output,
        "--ray",
        "--backbones",
        "tiny/ViT-4",
    ]
    assert main(command) == 0
    assert f"8 new images, 8 in {output}, 1 of them unreadable" in capsys.readouterr().err
    table = read_embeddings(output).loc[paths]
    assert table.index[table.isna().all(axis=1)].tolist() == [paths[3]]


def test_workers_are_killed_and_files_are_corrupt(two_nodes, images, tmp_path):
    names = {3: "corrupt", 9: "kill-once", 20: "exit-once"}
    paths, output = images(32, names), tmp_path / "out"
    Path(paths[3]).write_bytes(b"none")
    done = run(paths, output, on_error="nan", n_workers=2)
    assert done == {"n_rows": 32, "n_new": 32, "n_unreadable": 1}
    assert all(os.path.exists(path + ".harm") for path in (paths[9], paths[20]))
    assert_each_row_once(output, paths, unreadable=[paths[3]])
    assert pd.read_csv(output / "_unreadable.csv")["path"].tolist() == [paths[3]]


def test_an_image_that_kills_every_worker_is_named(two_nodes, images, tmp_path):
    paths, output = images(24, {13: "deadly"}), tmp_path / "out"
    with pytest.raises(RuntimeError, match=r"1 of 24 images are missing \('.*/013-deadly\.png'\)"):
        run(paths, output)
    assert_each_row_once(output, paths[:13] + paths[14:])


def test_corrupt_images_in_a_dataset(two_nodes, images, tmp_path):
    paths, output = images(32), tmp_path / "out"
    contents = [Path(path).read_bytes() for path in paths]
    contents[5], contents[21] = contents[5][:40], b""
    shards = tmp_path / "shards"
    shards.mkdir()
    for shard in range(2):
        rows = slice(16 * shard, 16 * shard + 16)
        frame = pd.DataFrame({"id": np.arange(32)[rows], "image": contents[rows]})
        frame.to_parquet(shards / f"{shard}.parquet")
    data = ray.data.read_parquet(str(shards))
    # As many workers as there is room for: one CPU is left to read with.
    done = run(data, output, filesystem=None, on_error="nan", n_workers=None)
    assert (done.n_rows, done.n_unreadable) == (32, 2)
    table = read_embeddings(output)
    assert sorted(table.index) == list(range(32))
    assert sorted(table.index[table.isna().all(axis=1)]) == [5, 21]
    assert sorted(pd.read_csv(output / "_unreadable.csv")["id"]) == [5, 21]


def test_the_disk_is_full(two_nodes, images, tmp_path):
    paths, output = images(80), tmp_path / "small"
    output.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=32k", "tmpfs", output]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("no file system can be mounted here: run as root")
    try:
        with pytest.raises(OSError, match=r"part with .* rows could not be .* call again"):
            run(paths, output)
        written = pd.read_parquet(output)["path"]
        assert 0 < len(written) < 80
        subprocess.run(["mount", "-o", "remount,size=8m", output], check=True)
        assert run(paths, output).n_new == 80 - len(written)
        assert_each_row_once(output, paths)
    finally:
        subprocess.run(["umount", output], check=True)


INTERRUPTED = """
    import sys, ray
    from test_cluster import run

    ray.init(sys.argv[1], logging_level="error", log_to_driver=False)
    try:
        run(sys.argv[3:], sys.argv[2])
    except KeyboardInterrupt:
        print("interrupted", flush=True)
"""


def test_ctrl_c(two_nodes, images, tmp_path):
    paths, output = images(120), tmp_path / "out"
    command = [sys.executable, "-c", textwrap.dedent(INTERRUPTED), two_nodes.address, output]
    with subprocess.Popen([*command, *paths], stdout=subprocess.PIPE, text=True) as process:
        when_parts_are_there(output, 4, lambda: process.send_signal(signal.SIGINT)).join()
        # Ray may add that a worker has died.
        assert "interrupted\n" in process.stdout.read()
        assert process.wait() == 0
    written = len(pd.read_parquet(output))
    assert 32 <= written < 120
    assert run(paths, output).n_new >= 120 - written - 8  # one part may have been on its way
    assert_each_row_once(output, paths)


def code_of_the_page(word):
    """Return the block of the user guide that has a word."""
    page = Path(__file__).parents[2] / "docs" / "scaling_out.md"
    (block,) = (b for b in page.read_text("utf-8").split("```python\n") if word in b)
    return block.partition("```")[0]


def test_searches_embed_each_image_once(two_nodes, tmp_path):
    # As the page says, but with a small backbone, and fits that are counted.
    code = code_of_the_page("register_ray()").replace("n_jobs=-1", "n_jobs=2")
    code = code.replace('CLIPEmbedder("openai-small", cache="cache")', "embedder")
    code = code.replace("    GridSearchCV(", "    search = GridSearchCV(")
    embedder = CountingEmbedder("tiny/RN-1221", precision="fp32", cache=str(tmp_path / "cache"))
    names = {name: getattr(sklearn_clipensemble, name) for name in sklearn_clipensemble.__all__}
    names |= {"make_pipeline": make_pipeline, "GridSearchCV": GridSearchCV, "embedder": embedder}
    names["paths"] = load_digits().images[:60] / 16
    names["labels"] = np.array(["zero", "one", "two", "three"])[np.arange(60) % 4]
    exec(code, names)
    assert len(pickle.dumps(names["clf"])) < 2000  # no weights are shipped
    assert np.isfinite(names["search"].cv_results_["mean_test_score"]).all()
    assert sum(map(int, (tmp_path / "counts").read_text().split())) == 60


def test_a_fitted_pipeline_and_a_cascade_predict_on_a_dataset(two_nodes, images):
    paths = images(24)
    pipeline = make_pipeline(CLIPEmbedder([POOLED, WHOLE]), LogisticRegression())
    costs = {POOLED.id: 1, WHOLE.id: 2}
    for clf in (pipeline, CascadeClassifier(pipeline, costs=costs, budget=2)):
        clf.fit(paths, np.arange(24) % 3)
        names = {"clf": clf}
        names["dataset"] = ray.data.from_pandas(pd.DataFrame({"path": paths})).repartition(3)
        exec(code_of_the_page("labelled = "), names)
        labelled = names["labelled"].to_pandas().set_index("path")["label"]
        assert labelled[paths].tolist() == clf.predict(paths).tolist()


def test_a_node_is_lost_and_no_other_has_room(two_nodes, images, tmp_path, monkeypatch):
    monkeypatch.setattr(_ray, "_PATIENCE", 3)
    paths, output = images(240), tmp_path / "out"
    lost = when_parts_are_there(
        output, 6, lambda: two_nodes.remove_node(two_nodes.second, allow_graceful=False)
    )
    done = run(paths, output, num_cpus=2, n_workers=2)
    assert done == {"n_rows": 240, "n_new": 240, "n_unreadable": 0}
    lost.join(1)
    assert not lost.is_alive()
    assert_each_row_once(output, paths)
    assert len(list(output.glob("part-*"))) < 60  # of the size asked for: no image is to blame


def test_the_example_loses_a_node_and_no_row(cluster, tmp_path):
    example = Path(__file__).parents[2] / "examples" / "embed_on_ray.py"
    command = [sys.executable, example, "--backbones", "tiny/RN-1221", "--output", tmp_path / "out"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for line in (
        "a node was lost: True",
        "a second call embeds 0",
        "1797 rows, 1797 different ones",
        "a table of 1797 x 128, indexed by ['id', 'label']",
    ):
        assert line in done.stdout.splitlines()
