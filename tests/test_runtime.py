"""What a process holds: models that make room, and all of it freed on demand."""

import gc
import os
import subprocess
import sys
import textwrap
import threading
import weakref

import numpy as np
import pytest
import torch
from instances import make_folder
from sklearn.datasets import load_sample_images
from torch import nn

from sklearn_clipensemble import Backbone, CLIPEmbedder, ZeroShotLogits, clear
from sklearn_clipensemble._runtime import cached_property
from sklearn_clipensemble.backbones import _model
from sklearn_clipensemble.backbones._model import Model

PHOTOS = load_sample_images().images
TINY = ["tiny/RN-1221", "tiny/RN-2222", "tiny/ViT-4"]


@pytest.fixture(autouse=True)
def fresh():
    clear()
    yield
    clear()


@pytest.fixture
def loaded(monkeypatch):
    """The ids of the backbones that were loaded, in order."""
    ids, begin = [], Model.__init__
    monkeypatch.setattr(
        Model,
        "__init__",
        lambda self, backbone: (ids.append(backbone.id), begin(self, backbone))[1],
    )
    return ids


def embed(names, **options):
    return CLIPEmbedder(names, precision="fp32", cache=False, **options).fit_transform(PHOTOS)


def test_models_used_last_stay(loaded, monkeypatch):
    monkeypatch.setenv("CLIPENSEMBLE_MAX_MODELS", "2")
    for name in (*TINY[:2], TINY[0], TINY[2]):
        embed(name)
    assert loaded == TINY  # the second made room for the third
    embed(TINY[0])
    embed(TINY[2])
    assert loaded == TINY
    embed(TINY[1])
    assert loaded == [*TINY, TINY[1]]


def test_a_call_keeps_all_that_it_needs(loaded, monkeypatch):
    monkeypatch.setenv("CLIPENSEMBLE_MAX_MODELS", "1")
    embedder = CLIPEmbedder(TINY, precision="fp32", cache=False, batch_size=1).fit(PHOTOS)
    embedder.transform([*PHOTOS, *PHOTOS])
    assert loaded == TINY
    embed(TINY[2])  # the one that stayed
    assert loaded == TINY
    # A stream of batches holds on to its models between the batches.
    batches = embedder.transform_batches(PHOTOS)
    next(batches)
    embed("tiny/ConvNeXt-zepto")
    next(batches)
    assert loaded == [*TINY, *TINY[:2], "tiny/ConvNeXt-zepto"]


@pytest.mark.parametrize("given", ["0", "-1", "many", ""])
def test_a_number_of_models_that_is_none(given, monkeypatch):
    monkeypatch.setenv("CLIPENSEMBLE_MAX_MODELS", given)
    with pytest.raises(
        ValueError, match=f"CLIPENSEMBLE_MAX_MODELS is '{given}'; expected how many"
    ):
        embed(TINY)


def test_clear_frees_models_and_embeddings(monkeypatch):
    embedder = CLIPEmbedder(TINY[:1], precision="fp32").fit(PHOTOS)
    expected = embedder.transform(PHOTOS)
    tower = weakref.ref(_model.load(embedder._backbones[0])._tower("cpu", "fp32"))
    embedded, embed_images = [], Model.embed_images
    monkeypatch.setattr(
        Model,
        "embed_images",
        lambda self, pixels, *args: (
            embedded.append(len(pixels)),
            embed_images(self, pixels, *args),
        )[1],
    )
    embedder.transform(PHOTOS)
    assert embedded == []
    clear()
    gc.collect()
    assert tower() is None
    np.testing.assert_allclose(embedder.transform(PHOTOS), expected, atol=1e-6)
    assert embedded == [2]


def test_clear_closes_files_and_forgets_folders(tmp_path):
    name = make_folder(tmp_path / "some-folder")
    embedder = CLIPEmbedder(name, cache=tmp_path / "cache").fit(PHOTOS)
    table = embedder.transform(PHOTOS)
    ZeroShotLogits(["cat", "dog"]).fit(table)
    clear()
    if os.path.isdir("/proc/self/fd"):
        links = [f"/proc/self/fd/{fd}" for fd in os.listdir("/proc/self/fd")]
        files = [os.readlink(link) for link in links if os.path.islink(link)]
        assert not [f for f in files if f.startswith(str(tmp_path))]
    with pytest.raises(ValueError, match=r"'some-folder'.*backbones=\['local-dir:PATH'\]"):
        ZeroShotLogits(["cat", "dog"]).fit(table)
    # An estimator that is used says again what its names stand for.
    np.testing.assert_array_equal(embedder.transform(PHOTOS), table)
    ZeroShotLogits(["cat", "dog"]).fit(table)


def test_models_in_memory_are_not_held_for_ever(monkeypatch):
    monkeypatch.setenv("CLIPENSEMBLE_MAX_MODELS", "2")
    alive = []
    for epoch in range(4):
        net = nn.Sequential(nn.Conv2d(3, 4, 8), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        torch.manual_seed(epoch)
        backbone = Backbone(
            net, id=f"epoch-{epoch}", preprocess={"size": 16, "mean": 0.5, "std": 0.5}
        )
        embed(backbone)
        alive.append(weakref.ref(backbone))
        del backbone, net
    gc.collect()
    assert [ref() is not None for ref in alive] == [False, False, True, True]


def run(script):
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(script)],
        capture_output=True,
        text=True,
        env={k: v for k, v in os.environ.items() if not k.startswith("OMP_")},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_and_describing_loads_nothing():
    run("""
        import sys, threading
        import sklearn_clipensemble
        from sklearn_clipensemble import CLIPEmbedder, clear
        repr(CLIPEmbedder(["RN50", "ViT-B-32"]))
        clear()
        assert not {"torch", "open_clip", "timm", "matplotlib"} & set(sys.modules)
        assert threading.active_count() == 1
    """)


def test_using_changes_no_number_of_threads():
    run("""
        import os, torch
        before = torch.get_num_threads(), torch.get_num_interop_threads(), dict(os.environ)
        import sklearn_clipensemble
        from sklearn.datasets import load_sample_images
        sklearn_clipensemble.CLIPEmbedder(["tiny/ViT-4"]).fit_transform(load_sample_images().images)
        assert before == (torch.get_num_threads(), torch.get_num_interop_threads(), dict(os.environ))
    """)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_begins_anew():
    """Calls of the parent's other threads do not hold on to models there; its own go on."""
    run("""
        import os, threading, warnings
        warnings.simplefilter("ignore", DeprecationWarning)
        os.environ["CLIPENSEMBLE_MAX_MODELS"] = "1"
        import numpy as np
        from sklearn_clipensemble import CLIPEmbedder
        from sklearn_clipensemble._runtime import runtime
        from sklearn_clipensemble.backbones import resolve
        X = np.zeros((4, 8, 8), np.uint8)
        def batches(name):
            step = CLIPEmbedder([name], cache=False, precision="fp32", batch_size=1).fit(X)
            return step.transform_batches(X)
        started, over = threading.Event(), threading.Event()
        def work():
            next(waiting := batches("tiny/RN-1221"))
            started.set()
            over.wait(60)
            waiting.close()
        thread = threading.Thread(target=work)
        thread.start()
        started.wait(60)
        mine = batches("tiny/ViT-4")
        next(mine)
        assert runtime.seen("tiny/RN-1221") and len(runtime._models) == 2
        pid = os.fork()
        if pid == 0:
            try:
                assert len(list(mine)) == 3
                next(batches("tiny/RN-2222"))
                assert len(runtime._models) == 1
                os._exit(0)
            finally:
                os._exit(1)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        over.set()
        thread.join()
        assert status == 0
    """)


def test_properties_wait_for_no_other_thread():
    """A lock that a thread held at a fork would stay locked in the child."""
    begun, over, found = threading.Event(), threading.Event(), []

    class Thing:
        def __init__(self, work):
            self.work = work

        @cached_property
        def value(self):
            self.work()
            return 1

    def work():
        begun.set()
        over.wait(60)

    slow = threading.Thread(target=lambda: Thing(work).value)
    quick = threading.Thread(target=lambda: found.append(Thing(int).value), daemon=True)
    slow.start()
    begun.wait(60)
    quick.start()
    quick.join(30)
    over.set()
    slow.join()
    assert found == [1]
