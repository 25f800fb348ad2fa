"""From a name to a loaded model: every kind of name, and weights that cannot be had."""

import functools
import logging
import os
import socket
import subprocess
import sys
import textwrap
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from instances import RESNET, TEXT, VIT, make_folder, official, small_vit_b_32
from PIL import Image
from sklearn.datasets import load_sample_images
from sklearn.pipeline import make_pipeline

from sklearn_clipensemble import Backbone, CLIPEmbedder, ZeroShotLogits, clear, list_backbones
from sklearn_clipensemble.backbones import PRESETS, _model, _weights, resolve
from sklearn_clipensemble.backbones._interface import count_gflops, count_parameters
from sklearn_clipensemble.backbones._model import Model, load, resolve_device
from sklearn_clipensemble.backbones._open_clip import open_clip, quiet
from sklearn_clipensemble.images import Geometry

PHOTOS = load_sample_images().images


@pytest.mark.parametrize(("package", "name"), [("open_clip", "none"), ("timm", "timm:resnet18")])
def test_torchvision_of_another_build_is_named(tmp_path, package, name):
    (tmp_path / f"{package}.py").write_text(
        "raise RuntimeError('operator torchvision::nms does not exist')"
    )
    code = textwrap.dedent(f"""
        from sklearn_clipensemble import CLIPEmbedder
        try:
            CLIPEmbedder([{name!r}]).fit(["a.jpg"])
        except ImportError as error:
            print(error)
    """)
    path = os.pathsep.join([str(tmp_path), *sys.path])
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    expected = f"{package} cannot be imported: operator torchvision::nms does not exist. That"
    assert done.stdout.startswith(expected)
    assert f"torch ({torch.__version__.partition('+')[0]}" in done.stdout


# Names


def test_presets():
    assert [b.id for b in resolve("openai-small")] == list(PRESETS["openai"])[:4]
    assert len(resolve("openai")) == 9
    assert [b.id for b in resolve(["tiny/RN-1221", "RN50"])] == ["tiny/RN-1221", "RN50/openai"]
    both = resolve(["openai-small", "ViT-L-14"])
    assert [b.id for b in both][-1] == "ViT-L-14/openai"


@pytest.mark.parametrize(
    "name",
    [
        "ViT-B-32/openai",
        "ViT-B/32",
        "ViT-B-32",
        ("ViT-B-32", "openai"),
        ("ViT-B/32", "openai"),
        ["ViT-B-32/openai"],
    ],
)
def test_one_backbone_has_one_id(name):
    found = resolve([name] if isinstance(name, tuple) else name)
    assert [(b.id, b.model, b.tag) for b in found] == [("ViT-B-32/openai", "ViT-B-32", "openai")]


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("openai/clip-vit-base-patch32", r"are 'ViT-B-32/openai' here.*'hf-hub:openai/clip-vit-b"),
        ("https://huggingface.co/openai/clip-vit-large-patch14", r"are 'ViT-L-14/openai' here"),
        (
            "laion/CLIP-ViT-B-32-laion2B-s34B-b79K",
            r"named 'hf-hub:laion/CLIP-ViT-B-32-laion2B-s34B",
        ),
        (
            "timm/ViT-B-16-SigLIP",
            r"Did you mean ViT-B-16-SigLIP.*named 'hf-hub:timm/ViT-B-16-SigLIP'",
        ),
        ("./my-folder", r"A folder is named 'local-dir:\./my-folder'"),
        ("~/my-folder", r"A folder is named 'local-dir:~/my-folder'"),
        ("ViT-B-23", r"^Unknown backbone 'ViT-B-23'\. Did you mean ViT-B-32.*openai-small\)\.$"),
        (np.str_("ViT-B-23"), r"^Unknown backbone 'ViT-B-23'\. Did you mean"),
    ],
)
def test_a_name_of_elsewhere(name, match):
    with pytest.raises(ValueError, match=match) as caught:
        resolve([name])
    assert "another process" not in str(caught.value)


def test_other_tags_and_ids():
    (laion,) = resolve("ViT-B-32/laion2b_s34b_b79k")
    assert (laion.model, laion.tag) == ("ViT-B-32", "laion2b_s34b_b79k")
    (hub,) = resolve("hf-hub:timm/ViT-B-16-SigLIP")
    assert hub.id == "hf-hub:timm/ViT-B-16-SigLIP"
    (high,) = resolve("ViT-L/14@336px")
    assert high.id == "ViT-L-14-336/openai"
    for id in PRESETS["openai"]:  # what is known without open_clip is what open_clip knows
        (backbone,) = resolve(id)
        published = open_clip().get_pretrained_cfg(backbone.model, "openai")
        assert published["hf_hub"] == f"{backbone.weights.repository}/"


@pytest.mark.parametrize(
    ("name", "kind", "match"),
    [
        ("ViT-B-33/openai", ValueError, r"Unknown backbone 'ViT-B-33/openai'.*ViT-B-32"),
        ("opnai", ValueError, "Did you mean .*openai"),
        ("ViT-B-32/nonsense", ValueError, "no weights tagged 'nonsense'; it has openai"),
        ("ViT-g-14", ValueError, "needs the tag of its weights, one of: 'ViT-g-14/"),
        ("tiny/RN-9", ValueError, "no bundled backbone 'tiny/RN-9'; there are tiny/EdgeNeXt-xxs"),
        ([], ValueError, "backbones is empty"),
        (["RN50", "RN50/openai"], ValueError, "Two backbones have the id 'RN50/openai'"),
        ([3], TypeError, "got int.*saved as a folder first"),
        ("local-dir:missing", FileNotFoundError, "does not exist"),
    ],
)
def test_names_that_mean_nothing(name, kind, match):
    with pytest.raises(kind, match=match):
        resolve(name)


def test_folders_that_are_none(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"holds no open_clip_config.json"):
        resolve(tmp_path)
    (tmp_path / "open_clip_config.json").write_text("{}")
    (backbone,) = resolve(tmp_path)
    with pytest.raises(FileNotFoundError, match="holds no weights"):
        backbone.require()
    (tmp_path / "open_clip_model.safetensors").write_bytes(b"nonsense")
    with pytest.raises(ValueError, match="is no open_clip configuration"):
        backbone.settings()


def test_damaged_weights_name_the_backbone(tmp_path):
    name = make_folder(tmp_path / "broken")
    file = tmp_path / "broken" / "open_clip_model.safetensors"
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(
        RuntimeError, match=r"The backbone 'broken' \(local-dir:.*could not be loaded"
    ):
        CLIPEmbedder(name).fit_transform(PHOTOS)


def test_weights_of_another_architecture_name_the_backbone(tmp_path):
    name = make_folder(tmp_path / "mixed")
    config = tmp_path / "mixed" / "open_clip_config.json"
    config.write_text(config.read_text().replace('"embed_dim": 16', '"embed_dim": 32'))
    with pytest.raises(RuntimeError, match=r"(?s)'mixed'.*size mismatch"):
        CLIPEmbedder(name).fit_transform(PHOTOS)


# Loading


@pytest.mark.parametrize(
    ("vision", "preprocess", "model_cfg"),
    [
        (VIT, {}, {}),
        (VIT, {}, {"quick_gelu": True}),
        (VIT, {"mean": [0.5] * 3, "std": [0.5] * 3, "resize_mode": "squash"}, {}),
        (VIT, {"interpolation": "bilinear", "resize_mode": "longest", "fill_color": 90}, {}),
        (VIT, {"mean": 0.4, "std": 0.2}, {}),
        ({**VIT, "image_size": [48, 32]}, {"interpolation": "bilinear"}, {}),
        (RESNET, {}, {}),
        (RESNET, {}, {"quick_gelu": True}),
        (VIT, {}, {"init_logit_bias": -10, "init_logit_scale": 2.3, "custom_text": True}),
    ],
)
def test_embeddings_are_open_clips(tmp_path, vision, preprocess, model_cfg):
    name = make_folder(tmp_path / tmp_path.name, vision=vision, preprocess=preprocess, **model_cfg)
    embedder = CLIPEmbedder(name, precision="fp32", cache=False)
    got = embedder.fit_transform(PHOTOS).to_numpy()
    np.testing.assert_allclose(got, official(name, PHOTOS), atol=2e-6)
    model = load(resolve(name)[0])
    with quiet():
        whole = open_clip().create_model_from_pretrained(name, return_transform=False)
    whole.requires_grad_(False)
    assert model.text.logit_scale == pytest.approx(float(whole.logit_scale.exp()))
    bias = whole.logit_bias
    assert model.text.logit_bias == (0 if bias is None else float(bias))
    geometry = resolve(name)[0].geometry
    size = whole.visual.preprocess_cfg["size"]
    assert (geometry.height, geometry.width) == (
        (size,) * 2 if isinstance(size, int) else tuple(size)
    )
    assert geometry.resize_mode == whole.visual.preprocess_cfg["resize_mode"]


def test_train_mode_would_have_shown(tmp_path):
    """The ResNet above is one whose embeddings differ in training mode: `eval` is tested for real."""
    name = make_folder(tmp_path / tmp_path.name, vision=RESNET)
    with quiet():
        model, transform = open_clip().create_model_from_pretrained(name)
    x = torch.stack([transform(Image.fromarray(i)) for i in PHOTOS])
    with torch.no_grad():
        trained = model.train().encode_image(x, normalize=True).numpy()
    assert np.abs(trained - official(name, PHOTOS)).max() > 0.01


def test_quick_gelu_would_have_shown(tmp_path):
    plain = make_folder(tmp_path / "plain")
    quick = make_folder(tmp_path / "quick", quick_gelu=True)
    assert np.abs(official(plain, PHOTOS) - official(quick, PHOTOS)).max() > 1e-3


def test_quick_gelu_is_taken_from_the_tag(tmp_path, monkeypatch):
    """('ViT-B-32', 'openai') builds GELU if one only names it; its weights were trained with QuickGELU."""
    given = {"pretrained": str(small_vit_b_32(tmp_path, monkeypatch))}
    embedder = CLIPEmbedder(["ViT-B-32/openai"], precision="fp32", cache=False)
    got = embedder.fit_transform(PHOTOS).to_numpy()
    clear()
    quick = official("ViT-B-32", PHOTOS, force_quick_gelu=True, **given)
    np.testing.assert_allclose(got, quick, atol=2e-6)
    assert np.abs(got - official("ViT-B-32", PHOTOS, **given)).max() > 1e-4


def test_coca(tmp_path):
    """CoCa's image tower returns tokens too, and its encoders normalise unless told not to."""
    decoder = {**TEXT, "embed_cls": True, "output_tokens": True}
    vision = {**VIT, "attentional_pool": True, "attn_pooler_heads": 2, "output_tokens": True}
    name = make_folder(
        tmp_path / "coca",
        vision=vision,
        text_cfg=decoder,
        multimodal_cfg={**TEXT, "dim_head": 8, "attn_pooler_heads": 2},
        custom_text=True,
    )
    table = CLIPEmbedder(name, precision="fp32", cache=False).fit_transform(PHOTOS)
    np.testing.assert_allclose(table.to_numpy(), official(name, PHOTOS), atol=2e-6)
    logits = ZeroShotLogits(["cat", "dog"], passthrough=False).fit_transform(table)
    assert np.isfinite(logits.to_numpy()).all()


def test_siglip_style_bias_reaches_the_logits(tmp_path):
    name = make_folder(
        tmp_path / "siglip", init_logit_bias=-10, init_logit_scale=2.3, custom_text=True
    )
    table = CLIPEmbedder(name, precision="fp32").fit_transform(PHOTOS)
    step = ZeroShotLogits(["cat", "dog"], templates="a {}", passthrough=False)
    got = step.fit_transform(table).to_numpy()
    with quiet():
        model, _ = open_clip().create_model_from_pretrained(name)
        tokens = open_clip().get_tokenizer(name)(["a cat", "a dog"])
        text = model.eval().encode_text(tokens, normalize=True).detach().numpy()
    expected = table.to_numpy() @ text.T * np.exp(2.3) - 10
    np.testing.assert_allclose(got, expected, atol=1e-4)


def test_other_weight_files(tmp_path):
    """A folder's weights are what open_clip takes for its weights."""
    from safetensors.torch import load_file

    name = make_folder(tmp_path / tmp_path.name)
    expected = official(name, PHOTOS)
    file = tmp_path / tmp_path.name / "open_clip_model.safetensors"
    torch.save(load_file(file), tmp_path / tmp_path.name / "open_clip_pytorch_model.bin")
    assert resolve(name)[0].weights.locate() == file
    file.unlink()
    assert resolve(name)[0].weights.locate().name == "open_clip_pytorch_model.bin"
    got = CLIPEmbedder(name, precision="fp32", cache=False).fit_transform(PHOTOS)
    np.testing.assert_allclose(got.to_numpy(), expected, atol=2e-6)


def test_hub_id_from_the_hub_cache(tmp_path, monkeypatch):
    """What the hub's cache holds is used without asking the network."""
    from huggingface_hub import constants

    snapshot = tmp_path / "models--me--small" / "snapshots" / "0"
    make_folder(snapshot)
    (tmp_path / "models--me--small" / "refs").mkdir()
    (tmp_path / "models--me--small" / "refs" / "main").write_text("0")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    (backbone,) = resolve("hf-hub:me/small")
    assert backbone.file() == snapshot / "open_clip_model.safetensors"
    got = CLIPEmbedder("hf-hub:me/small", precision="fp32").fit_transform(PHOTOS)
    assert got.columns[0] == "hf-hub:me/small__embedding__0"
    np.testing.assert_allclose(got, official(f"local-dir:{snapshot}", PHOTOS), atol=2e-6)
    assert ZeroShotLogits(["cat", "dog"]).fit_transform(got).shape == (2, 18)


def test_preprocessing_is_known_without_weights():
    for id in ["RN50/openai", "ViT-L-14-336/openai", "ViT-B-16-SigLIP-384/webli"]:
        (backbone,) = resolve(id)
        published = open_clip().get_pretrained_cfg(backbone.model, backbone.tag)
        geometry = backbone.geometry
        assert geometry.resize_mode == published["resize_mode"]
    assert (geometry.height, geometry.width) == (384, 384)
    assert resolve("ViT-L-14-336")[0].geometry.height == 336
    for name in PRESETS["openai"]:
        assert resolve(name)[0].settings()["quick_gelu"]


def test_a_model_is_loaded_once_and_can_be_forgotten(tmp_path):
    (backbone,) = resolve(make_folder(tmp_path / tmp_path.name))
    assert load(backbone) is load(resolve(tmp_path / tmp_path.name)[0])
    before = load(backbone)
    clear()
    assert load(backbone) is not before


def test_long_texts_warn(tmp_path):
    table = CLIPEmbedder(make_folder(tmp_path / tmp_path.name)).fit_transform(PHOTOS)
    with pytest.warns(
        UserWarning, match=r"longer than the 8 tokens that test_long_texts_warn0 reads"
    ):
        ZeroShotLogits(["a very long name of a class indeed", "dog"]).fit(table)


def test_loading_is_quiet_and_leaves_logging_alone(tmp_path, capfd):
    root = logging.getLogger()
    before = root.level, list(root.handlers)
    table = CLIPEmbedder(make_folder(tmp_path / tmp_path.name)).fit_transform(PHOTOS)
    ZeroShotLogits(["cat", "dog"]).fit(table)
    assert before == (root.level, list(root.handlers))
    out, err = capfd.readouterr()
    assert out == err == ""


LOGGING = """
    import collections, logging, sys, threading, time
    import joblib
    from sklearn.datasets import load_sample_images

    root, photos = logging.getLogger(), load_sample_images().images

    records = collections.defaultdict(list)

    class Listener(logging.Handler):
        def emit(self, record):
            records[self].append(record)

    def start(meanwhile):
        clf = joblib.load(sys.argv[1])
        threads = [threading.Thread(target=clf.transform, args=(photos,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            meanwhile()
            time.sleep(0.001)

    # An application that has not configured logging.
    def nothing_changes():
        assert (root.level, root.handlers, root.filters) == (logging.WARNING, [], [])

    start(nothing_changes)
    nothing_changes()

    # One that does so while the models are loaded, in two steps.
    from sklearn_clipensemble import clear

    clear()
    root.setLevel(logging.DEBUG)
    listeners, said = [Listener()], 0
    root.addHandler(listeners[0])

    def talk():
        global said
        if len(listeners) == 1 and said:
            listeners.append(Listener(logging.INFO))
            root.addHandler(listeners[1])
        assert (root.level, root.handlers, root.filters) == (logging.DEBUG, listeners, [])
        logging.info("said by the application")
        said += 1

    start(talk)
    talk()
    heard = [[r for r in records[l] if r.msg == "said by the application"] for l in listeners]
    assert (len(heard[0]), len(heard[1])) == (said, said - 1), (said, heard)
    assert said > 2
    foreign = [r for l in listeners for r in records[l] if "open_clip" in r.pathname]
    assert not foreign, foreign

    # What the application does with open_clip is its own.
    import open_clip
    open_clip.get_tokenizer("ViT-B-32")
    assert any("open_clip" in r.pathname for r in records[listeners[1]])
"""


def test_threads_that_load_models_leave_the_root_logger_alone(tmp_path):
    import joblib

    embedder = CLIPEmbedder(["tiny/RN-1221", "tiny/ViT-4"], precision="fp32", cache=False)
    clf = make_pipeline(embedder, ZeroShotLogits(["cat", "dog"], cache=False)).fit(PHOTOS)
    joblib.dump(clf, tmp_path / "clf.joblib")
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(LOGGING), str(tmp_path / "clf.joblib")],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_WAIT_POLICY": "passive"},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == done.stderr == ""


def test_threads_that_load_models_leave_warnings_alone(tmp_path):
    """Saving and restoring the filters, as catch_warnings does, mixes those of threads up."""
    names = [make_folder(tmp_path / f"folder-{i}", seed=i) for i in range(4)]
    before = list(warnings.filters)
    together(*(functools.partial(load, resolve(name)[0]) for name in names))
    assert warnings.filters == before


# Threads


def together(*functions):
    """Call functions in a thread each, and return what they returned."""
    with ThreadPoolExecutor(len(functions)) as pool:
        return [future.result(60) for future in [pool.submit(f) for f in functions]]


def test_what_is_slow_for_one_backbone_does_not_hold_up_the_others(tmp_path, monkeypatch):
    (slow,) = resolve(make_folder(tmp_path / "slow"))
    downloading, over = threading.Event(), threading.Event()
    real = _weights.InFolder.find

    def find(self):
        if self.folder == slow.path:
            downloading.set()
            over.wait(120)
        return real(self)

    monkeypatch.setattr(_weights.InFolder, "find", find)
    with ThreadPoolExecutor(2) as pool:
        try:
            first = pool.submit(load, slow)
            assert downloading.wait(60)
            other = CLIPEmbedder("tiny/ViT-4", cache=False)
            assert pool.submit(other.fit_transform, PHOTOS).result(60).shape == (2, 128)
            assert not first.done()
        finally:
            over.set()
    assert first.result().backbone == slow


def test_threads_that_want_one_backbone_download_and_load_it_once(tmp_path, monkeypatch):
    file = small_vit_b_32(tmp_path, monkeypatch)
    here, calls = threading.Event(), []
    both = threading.Barrier(2)

    def download(repo, name, endpoint):
        calls.append("download")
        time.sleep(0.1)  # the other one would come meanwhile
        here.set()
        return str(file)

    create = open_clip().create_model

    def build(**options):
        calls.append("load")
        return create(**options)

    monkeypatch.setattr(_weights, "_cached", lambda *args: file if here.is_set() else None)
    monkeypatch.setattr(_weights, "_require_network", lambda *args: None)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    monkeypatch.setattr(open_clip(), "create_model", build)
    clear()

    def embed():
        both.wait(60)
        return CLIPEmbedder("ViT-B-32/openai", cache=False).fit_transform(PHOTOS).to_numpy()

    one, two = together(embed, embed)
    np.testing.assert_array_equal(one, two)
    assert calls == ["download", "load"]
    clear()


# Fingerprints


def test_fingerprint_follows_weights_and_settings(tmp_path):
    one = resolve(make_folder(tmp_path / "one"))[0].fingerprint()
    assert one == resolve(make_folder(tmp_path / "copy" / "one"))[0].fingerprint()
    others = [
        make_folder(tmp_path / "seed", seed=1),
        make_folder(tmp_path / "mean", preprocess={"mean": [0.5] * 3}),
        make_folder(tmp_path / "mode", preprocess={"resize_mode": "squash"}),
        make_folder(tmp_path / "gelu", quick_gelu=True),
    ]
    assert len({one, *(resolve(o)[0].fingerprint() for o in others)}) == 5


# Weights that cannot be had


def fails_to_connect(backbone):
    with pytest.raises(ConnectionError) as caught:
        backbone.require()
    message = str(caught.value)
    assert repr(backbone.id) in message
    assert "CLIPEmbedder('tiny')" in message
    assert "local-dir:PATH" in message
    return message


@pytest.fixture
def online(monkeypatch, tmp_path):
    """The network is allowed, and nothing is in the hub's cache."""
    from huggingface_hub import constants

    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(_weights, "_PATIENCE", 0.3)
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name.upper(), raising=False)
        monkeypatch.delenv(name, raising=False)
    return lambda url: monkeypatch.setattr(constants, "ENDPOINT", url)


NEEDED = ["RN50/openai", "ViT-B-32/laion2b_s34b_b79k", "hf-hub:me/model"]


@pytest.mark.parametrize("id", NEEDED)
def test_offline(id, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)  # set after the import: ours to heed
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert "HF_HUB_OFFLINE is set" in fails_to_connect(resolve(id)[0])


@pytest.mark.parametrize("id", NEEDED)
def test_host_refuses(id, online):
    with socket.socket() as taken:  # bound, but nobody listens
        taken.bind(("127.0.0.1", 0))
        online(f"http://127.0.0.1:{taken.getsockname()[1]}")
        assert "cannot be reached" in fails_to_connect(resolve(id)[0])


def test_host_is_silent(online):
    with socket.create_server(("127.0.0.1", 0)) as server:  # takes the call, says nothing
        online(f"http://127.0.0.1:{server.getsockname()[1]}")
        assert "127.0.0.1" in fails_to_connect(resolve("RN50")[0])


def test_name_lookup_hangs(online, monkeypatch):
    over = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *a, **k: over.wait(60) and [])
    online("http://hub.invalid")
    try:
        assert "did not answer within 0.3 seconds" in fails_to_connect(resolve("RN50")[0])
    finally:
        over.set()


def test_download_that_is_refused_names_file_and_place(online, monkeypatch):
    """A host that answers but does not have the files."""
    import huggingface_hub

    def refuse(repo, name, endpoint):
        raise FileNotFoundError(f"404 for {endpoint}/{repo}/{name}")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", refuse)
    monkeypatch.setattr(_weights, "_why_unreachable", lambda url: None)
    online("http://hub.invalid")
    (backbone,) = resolve("RN50")
    backbone.require()
    with pytest.raises(
        ConnectionError,
        match=r"'RN50/openai'.*http://hub.invalid/timm/resnet50_clip.openai: open_clip_model.safetensors: 404",
    ):
        backbone.file()


def test_default_offline_fails_in_fit_and_names_tiny():
    with pytest.raises(ConnectionError, match=r"'ViT-B-32/openai'.*CLIPEmbedder\('tiny'\)"):
        CLIPEmbedder().fit(PHOTOS)


def test_default_offline_fails_before_torch_is_imported():
    code = (
        "import sys\n"
        "from sklearn_clipensemble import CLIPEmbedder\n"
        "try:\n    CLIPEmbedder().fit(['a.jpg'])\n"
        "except ConnectionError:\n    print(sorted({'torch', 'open_clip'} & set(sys.modules)))\n"
    )
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


# Devices


def test_devices(monkeypatch):
    assert resolve_device("cpu") == "cpu"
    with pytest.raises(ValueError, match="'gpu' is not a torch device"):
        resolve_device("gpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match=r"device='cuda' is not available here"):
        resolve_device("cuda")


def test_fork_after_cuda_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "_is_in_bad_fork", lambda: True)
    for device in ["auto", "cuda", "cuda:0"]:
        with pytest.raises(RuntimeError, match="does not survive a fork"):
            resolve_device(device)


def test_towers_of_one_device_only(tmp_path):
    """Another device's copy is dropped: 'meta' stands for it where there is no GPU."""
    model = load(resolve(make_folder(tmp_path / tmp_path.name))[0])
    model.embed_images(np.zeros((1, 32, 32, 3), np.uint8), "cpu", "fp32")
    model._tower("meta", "fp32")
    assert {device for device, _ in model._towers} == {"meta"}
    model.embed_images(np.zeros((1, 32, 32, 3), np.uint8), "cpu", "bf16")
    assert {device for device, _ in model._towers} == {"cpu"}


def test_bf16_is_taken_only_where_it_is_faithful(tmp_path, monkeypatch):
    name = make_folder(tmp_path / tmp_path.name)
    model = load(resolve(name)[0])
    assert model.is_faithful("cpu", "bf16")
    embed = type(model).embed_images

    def unfaithful(self, pixels, device, precision):
        out = embed(self, pixels, device, precision)
        return out if precision == "fp32" else np.roll(out, 1, axis=1)

    monkeypatch.setattr(type(model), "embed_images", unfaithful)
    assert not model.is_faithful("cpu", "bf16")
    monkeypatch.setattr(_model, "multiplies_in_bf16", lambda device: True)
    auto = CLIPEmbedder(name, cache=False).fit_transform(PHOTOS).to_numpy()
    exact = CLIPEmbedder(name, cache=False, precision="fp32").fit_transform(PHOTOS).to_numpy()
    np.testing.assert_array_equal(auto, exact)


def test_bf16_is_tried_once(tmp_path, monkeypatch):
    probes = []
    monkeypatch.setattr(_model, "multiplies_in_bf16", lambda device: True)
    monkeypatch.setattr(Model, "is_faithful", lambda *args: probes.append(args) or True)
    embedder = CLIPEmbedder(make_folder(tmp_path / "probed"), cache=False).fit(PHOTOS)
    for _ in range(3):
        embedder.transform(PHOTOS)
    together(*[functools.partial(embedder.transform, PHOTOS)] * 2)
    assert len(probes) == 1


def test_a_forked_child_does_not_hang():
    """The threads that torch multiplies with do not survive a fork."""
    code = (
        "import os, signal, sys, numpy as np, torch\n"
        "from sklearn_clipensemble import CLIPEmbedder\n"
        "torch.set_num_threads(2)\n"
        "X = np.random.RandomState(0).randint(0, 256, (64, 32, 32, 3), np.uint8)\n"
        "e = CLIPEmbedder(['tiny/RN-1221'], cache=False, precision='fp32').fit(X)\n"
        "expected = e.transform(X)\n"
        "if os.fork() == 0:\n"
        "    signal.alarm(60)\n"
        "    os._exit(0 if np.allclose(e.transform(X), expected, atol=1e-5) else 1)\n"
        "sys.exit(os.waitstatus_to_exitcode(os.wait()[1]))\n"
    )
    if not hasattr(os, "fork"):
        pytest.skip("no fork here")
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True)
    assert done.returncode == 0, done.stderr.decode()


# The list


def test_list_backbones():
    table = list_backbones()
    facts = ["family", "width", "image_size", "gflops", "parameters", "download_mb", "imagenet"]
    assert list(table.columns) == [*facts, "presets"]
    assert list(table.index) == [*PRESETS["tiny"], *PRESETS["openai"]]
    assert table["gflops"].is_monotonic_increasing
    assert table.loc["RN50/openai", "presets"] == "openai, openai-small"
    # FIELD: image GFLOPs with a multiply-add as two; open_clip's own figures for the others.
    known = {"RN50": 12.2, "RN101": 19.5, "ViT-B-32": 8.8, "ViT-B-16": 35.1, "ViT-L-14": 162.0}
    for model, gflops in known.items():
        assert table.loc[f"{model}/openai", "gflops"] == pytest.approx(gflops, abs=0.06)
    assert table.loc["ViT-B-32/openai", facts[:3]].tolist() == ["ViT", 512, 224]
    assert table.loc["ViT-B-32/openai", facts[4:]].tolist() == [87.85, 605, 0.6332]
    assert (table.loc[list(PRESETS["tiny"]), "download_mb"] == 0).all()


def test_list_all_backbones():
    table = list_backbones(all=True)
    assert table["gflops"].is_monotonic_increasing
    published = {"/".join(pair) for pair in open_clip().list_pretrained()}
    assert set(table.index) == published | set(PRESETS["tiny"])
    assert table.drop(columns="imagenet").notna().all(axis=None)
    for id in table.index:
        assert resolve(id)[0].id == id
    with pytest.raises(ValueError, match="not both"):
        list_backbones("tiny", all=True)


def test_list_backbones_that_nobody_published(tmp_path, monkeypatch):
    folder = make_folder(tmp_path / "mine")
    (
        tmp_path / "mine" / "open_clip_model.safetensors"
    ).unlink()  # what costs are, weights do not say
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 8, 8), torch.nn.Flatten())
    loaded = Backbone(model, id="loaded", preprocess={"size": 32, "mean": 0, "std": 1})
    table = list_backbones([folder, "timm:resnet18.a1_in1k", loaded, "tiny/ViT-4"])
    assert list(table.index) == ["loaded", "mine", "tiny/ViT-4", "timm:resnet18.a1_in1k"]
    assert table["family"].tolist() == ["Sequential", "ViT", "ViT", "ResNet"]
    assert table["width"].tolist() == [64, 16, 128, 512]
    assert table["image_size"].tolist() == [32, 32, 32, 224]
    assert table.loc["loaded", "gflops"] == 2 * (3 * 64 * 4) * 16 / 1e9
    assert table.loc["loaded", "parameters"] == (3 * 64 * 4 + 4) / 1e6
    # torchvision gives 1.814 billion multiply-adds and 11.69 million parameters, 0.513 of the classifier
    assert table.loc["timm:resnet18.a1_in1k", "gflops"] == pytest.approx(2 * 1.814, rel=0.01)
    assert table.loc["timm:resnet18.a1_in1k", "parameters"] == pytest.approx(11.18, abs=0.01)
    assert table["download_mb"].isna().tolist() == [False, False, False, True]
    assert table["imagenet"].isna().all()


@pytest.mark.parametrize(
    "id",
    [
        *("tiny/RN-1221", "tiny/ViT-4", "tiny/ConvNeXt-zepto", "tiny/EdgeNeXt-xxs"),
        *(
            "ViT-B-32/openai",
            "RN50x4/openai",
            "ViT-B-16-SigLIP/webli",
            "coca_ViT-B-32/laion2b_s13b_b90k",
        ),
        *("EVA02-B-16/merged2b_s8b_b131k", "convnext_base/laion400m_s13b_b51k"),
        *("MobileCLIP-S1/datacompdr", "ViTamin-S/datacomp1b", "PE-Core-T-16-384/meta"),
        "roberta-ViT-B-32/laion2b_s12b_b32k",  # its text tower needs another library
    ],
)
def test_published_costs_are_those_that_are_counted(id):
    (backbone,) = resolve(id)
    tower = backbone.architecture()
    assert all(p.device.type == "meta" for p in tower.parameters())
    counted = count_gflops(tower, backbone.geometry)
    assert backbone.gflops == pytest.approx(counted, rel=1e-3)
    row = list_backbones(id).loc[id]
    assert row["gflops"] == backbone.gflops
    assert row["parameters"] == pytest.approx(count_parameters(tower), rel=1e-3)
    assert row["width"] == backbone.width
    assert row["image_size"] == backbone.geometry.height


def test_gflops_of_a_folder_follow_its_configuration(tmp_path):
    (backbone,) = resolve(make_folder(tmp_path / "mine"))
    before = backbone.gflops
    make_folder(tmp_path / "mine", vision={**VIT, "layers": 2})
    assert backbone.gflops > 1.3 * before


class Attention(torch.nn.Module):
    """A transformer of torch's own, which a CPU computes in fused layers."""

    def __init__(self, picky=False):
        super().__init__()
        self.picky = picky
        layer = torch.nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
        self.layers = torch.nn.TransformerEncoder(layer, 2)

    def forward(self, pixels):
        if self.picky and pixels.mean() > 1e9:  # no number is known on the device meta
            raise ValueError
        return self.layers(pixels.reshape(len(pixels), -1, 16)).mean(1)


@pytest.mark.filterwarnings("ignore:.*enable_nested_tensor")
@pytest.mark.parametrize("picky", [False, True])
def test_gflops_of_fused_attention(picky):
    geometry = Geometry(16, 16)
    tokens = 3 * 16 * 16 // 16
    linear, attention = 4 * 16 * 16 + 2 * 16 * 32, 2 * tokens * 16
    expected = 2 * 2 * tokens * (linear + attention) / 1e9
    assert count_gflops(Attention(picky), geometry) == pytest.approx(expected, rel=1e-6)


@pytest.mark.filterwarnings(
    "ignore:.*deprecated:",
    "ignore:The .grad attribute",
    "ignore:`torch.jit.script` is not supported",
)
def test_gflops_of_torchscript():
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 8, 8), torch.nn.Flatten())
    scripted = torch.jit.script(model.eval())
    assert count_gflops(scripted, Geometry(32, 32)) == count_gflops(model, Geometry(32, 32)) > 0
