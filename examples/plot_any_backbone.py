"""
What does a backbone of my own add?
===================================

Any torch module from pixels to vectors can stand beside the CLIPs. Here it is the crudest there is, the picture
itself at 8 x 8 pixels. It knows no words, so it has no zero-shot answer and adds what the labelled images say.
"""

import matplotlib.pyplot as plt
import pandas as pd
import torch
from sklearn.datasets import load_digits

from sklearn_clipensemble import (
    AdaptiveBackboneEnsemble,
    Backbone,
    CLIPEmbedder,
    ZeroShotLogits,
    shot_curve,
)
from sklearn_clipensemble.inspection import ShotCurveDisplay


class Pixels(torch.nn.Module):
    """Images of (n, 3, 32, 32), normalised, to rows of 64."""

    def forward(self, pixels):
        return torch.nn.functional.avg_pool2d(pixels.mean(dim=1), 4).flatten(1)


pixels = Backbone(Pixels(), id="pixels", preprocess={"size": 32, "mean": 0.5, "std": 0.25})

digits = load_digits()
images, labels = digits.images / 16, digits.target.astype(str)
sets = {"five CLIPs": "tiny", "CLIPs and pixels": ["tiny", pixels], "pixels alone": pixels}
curves = []
for name, backbones in sets.items():
    table = CLIPEmbedder(backbones).fit_transform(images)
    if backbones is not pixels:
        table = ZeroShotLogits().fit_transform(table, labels)
    curve = shot_curve(
        AdaptiveBackboneEnsemble(), table, labels, [1, 2, 4, 8], n_repeats=3, random_state=0
    )
    curves.append(curve.assign(method=name))
ShotCurveDisplay.from_scores(pd.concat(curves))
plt.show()

# %%
# The same for models of timm, such as DINOv2, ``CLIPEmbedder([..., "timm:vit_small_patch14_dinov2.lvd142m"])``,
# and for your fine-tuned checkpoint, ``"local-dir:FOLDER"``.
print(pd.concat(curves).pivot_table(index="method", columns="shots", values="score").round(3))
