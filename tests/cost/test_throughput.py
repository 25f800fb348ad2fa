"""Images per second: by the embedder's own way, and nothing is kept."""

import numpy as np
import pytest
import torch

from sklearn_clipensemble import Backbone, clear, list_backbones
from sklearn_clipensemble._runtime import runtime
from sklearn_clipensemble.backbones._model import Model
from sklearn_clipensemble.cost import measure_throughput

SHORT = {"seconds": 0.01, "precision": "fp32"}


def test_a_row_for_every_backbone_the_cheapest_first():
    clear()
    table = measure_throughput(["tiny/ViT-4", "tiny/RN-1221"], batch_size=8, **SHORT)
    assert list(table.columns) == ["gflops", "batch_size", "images_per_second"]
    assert list(table.index) == ["tiny/RN-1221", "tiny/ViT-4"]
    assert (table["gflops"] == list_backbones("tiny").loc[table.index, "gflops"]).all()
    assert (table["batch_size"] == 8).all()
    assert np.isfinite(table["images_per_second"]).all()
    assert (table["images_per_second"] > 0).all()
    assert not runtime.stores  # no embedding was kept


def test_settings_are_those_of_the_embedder(monkeypatch):
    seen = []
    embed = Model.embed_images

    def note(self, pixels, device, precision):
        seen.append((pixels, device, precision))
        return embed(self, pixels, device, precision)

    monkeypatch.setattr(Model, "embed_images", note)
    net = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(2), torch.nn.Flatten())
    preprocess = {"size": (24, 40), "mean": 0, "std": 1, "resized": (30, 50)}
    backbone = Backbone(net, id="oblong", preprocess=preprocess)
    table = measure_throughput(backbone, device="cpu", batch_size=3, **SHORT)
    assert table.loc["oblong", "batch_size"] == 3
    assert len(seen) >= 2  # one is not counted
    assert {(p.shape, d, precision) for p, d, precision in seen} == {
        ((3, 24, 40, 3), "cpu", "fp32")
    }
    pixels = np.concatenate([p for p, _, _ in seen])
    assert len({p.tobytes() for p in pixels}) == len(pixels)  # each picture is another


def test_bad_input():
    with pytest.raises(ValueError, match="'seconds' parameter"):
        measure_throughput("tiny", seconds=0)
    with pytest.raises(ValueError, match="Unknown backbone 'nobody'"):
        measure_throughput("nobody")
    with pytest.raises(ValueError, match="'precision' parameter of measure_throughput"):
        measure_throughput("tiny", precision="int8")
    with pytest.raises(ConnectionError, match="'RN50/openai'"):
        measure_throughput("RN50")
