"""
Which images need more than one backbone?
=========================================

Few. A cascade embeds every image with the cheapest backbone, and goes on to the next only while the answer is
in doubt. The top row left after the first backbone, the bottom row went furthest.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.pipeline import make_pipeline

from sklearn_clipensemble import (
    AdaptiveBackboneEnsemble,
    CascadeClassifier,
    CLIPEmbedder,
    FewShotSplit,
    ZeroShotLogits,
)

digits = load_digits()
images, labels = digits.images / 16, digits.target.astype(str)
train, test = next(FewShotSplit(8, 1, random_state=0).split(labels, labels))
test = test[:600]
pipeline = make_pipeline(CLIPEmbedder("tiny"), ZeroShotLogits(), AdaptiveBackboneEnsemble())
cascade = CascadeClassifier(pipeline).fit(images[train], labels[train])

exits = cascade.exit_stages(images[test])
figure, axes = plt.subplots(2, 8, figsize=(8, 2.4), layout="constrained")
for row, stage in zip(axes, (exits.min(), exits.max()), strict=True):
    row[0].set_title(f"left at stage {stage}", fontsize=9, loc="left")
    for ax, index in zip(row, test[exits == stage], strict=False):
        ax.imshow(images[index], cmap="gray")
for ax in axes.flat:
    ax.set_axis_off()
plt.show()

# %%
# How many images leave where, what that saves, and what it loses.
stages, counts = np.unique(exits, return_counts=True)
print({int(stage): int(count) for stage, count in zip(stages, counts, strict=True)})
print(f"{cascade.cost(images[test]).mean() / cascade.costs_[-1]:.0%} of the GFLOPs")
print(f"cascade {cascade.score(images[test], labels[test]):.1%}")
cascade.set_params(tolerance=0)  # no image leaves early; read at predict
print(f"all backbones {cascade.score(images[test], labels[test]):.1%}")
