"""What can be told before a cluster is asked: how many workers it has room for, and what is wrong."""

import subprocess
import sys

import pandas as pd
import pytest

from sklearn_clipensemble.distributed import EmbedBatch, embed
from sklearn_clipensemble.distributed._ray import Pool


def nodes(*resources, alive=True):
    return [{"Alive": alive, "Resources": {"CPU": c, "GPU": g}} for c, g in resources]


FEW, MANY, GPUS = nodes((2, 0), (2, 0)), nodes((64, 0), (0, 0)), nodes((4, 0), (32, 4), (32, 4))


@pytest.mark.parametrize(
    ("cluster", "asked", "reads", "expected"),
    [
        # One CPU of a node is left for reading.
        (FEW, {}, True, Pool(2, 2, 1, 0)),
        (FEW, {"num_cpus": 2}, False, Pool(2, 2, 2, 0)),
        # All CPUs taken, nobody would read.
        (FEW, {"num_cpus": 2}, True, Pool(1, 1, 2, 0)),
        (FEW, {"num_cpus": 1}, True, Pool(3, 3, 1, 0)),
        # No more than 16 CPUs each; a head without CPUs works nothing.
        (MANY, {}, True, Pool(3, 3, 16, 0)),
        # More may come with more nodes.
        (FEW, {"n_workers": 8, "num_cpus": 1}, False, Pool(4, 8, 1, 0)),
        (FEW, {"n_workers": 1}, True, Pool(1, 1, 1, 0)),
        # One GPU each where there are any, and the CPUs of its node shared out.
        (GPUS, {}, True, Pool(8, 8, 7, 1)),
        (GPUS, {"num_gpus": 2}, True, Pool(4, 4, 15, 2)),
        (GPUS, {"num_gpus": 0.5}, True, Pool(16, 16, 3, 0.5)),
        (GPUS, {"num_gpus": 0}, True, Pool(21, 21, 3, 0)),
        (nodes((1, 0)), {}, False, Pool(1, 1, 1, 0)),
        (nodes((8, 0)) + nodes((64, 8), alive=False), {}, True, Pool(1, 1, 7, 0)),
    ],
)
def test_as_many_workers_as_there_is_room_for(cluster, asked, reads, expected):
    asked = {"n_workers": None, "num_cpus": None, "num_gpus": None, **asked}
    assert Pool.fit(cluster, **asked, reads=reads) == expected


@pytest.mark.parametrize(
    ("cluster", "asked", "reads", "message"),
    [
        (nodes((1, 0)), {}, True, "one CPU more for reading the data: its nodes have .1. CPUs"),
        (FEW, {"num_cpus": 4}, False, "no room for a worker with num_cpus=4 and num_gpus=0: its"),
        (FEW, {"num_gpus": 1}, True, "num_gpus=1"),
        (nodes((0, 0)), {}, False, "no room"),
        (nodes((4, 1), alive=False), {}, False, "no room"),
    ],
)
def test_no_room(cluster, asked, reads, message):
    asked = {"n_workers": None, "num_cpus": None, "num_gpus": None, **asked}
    with pytest.raises(ValueError, match=message):
        Pool.fit(cluster, **asked, reads=reads)


def test_what_is_wrong_is_said_before_a_cluster_is_started(tmp_path):
    ray = pytest.importorskip("ray")
    frame = pd.DataFrame({"file": ["a.jpg"], "label": ["cat"]})
    for images, options, error, message in (
        ("a.jpg", {}, TypeError, "got one str"),
        ([], {}, ValueError, "no images"),
        ([b"GIF"], {}, TypeError, r"Image 0 is no path, but bytes.*ray\.data\.from_items"),
        (["a.png", "\udce9.png"], {}, ValueError, r"Image 1 \('\\udce9.png'\): .* no UTF-8"),
        (frame, {}, ValueError, r"Which column has the images.*\['file', 'label'\]"),
        (frame, {"column": "label2"}, ValueError, "column is 'label2'"),
        (["a.jpg"], {"rows_per_part": 0}, ValueError, "'rows_per_part' parameter of embed must be"),
        (["a.jpg"], {"n_workers": 0}, ValueError, "'n_workers' parameter of embed must be"),
        (["a.jpg"], {"device": "cuda"}, TypeError, "takes no 'device'.*num_gpus decides"),
        (["a.jpg"], {"precision": "fp8"}, ValueError, "'precision' parameter"),
        (["a.jpg"], {"backbones": "tinyy"}, ValueError, "tinyy"),
    ):
        with pytest.raises(error, match=message):
            embed(images, tmp_path, **{"backbones": "tiny", **options})
    assert not ray.is_initialized()


def test_without_ray(tmp_path):
    code = f"""
import sys
sys.modules["ray"] = None
from sklearn_clipensemble.distributed import embed
try:
    embed(["a.jpg"], {str(tmp_path)!r}, backbones="tiny")
except ImportError as error:
    assert "pip install pyarrow 'ray[data]'" in str(error), error
else:
    raise AssertionError
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_embed_batch_checks_its_settings():
    with pytest.raises(TypeError, match="prcsn"):
        EmbedBatch("tiny", prcsn="fp32")
    with pytest.raises(ValueError, match="'on_error' parameter"):
        EmbedBatch("tiny", on_error="skip")
