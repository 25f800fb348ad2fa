"""
What do corrupted images do?
============================

The classifier has learned from clean digits; then the images are blurred,
fogged, compressed, turned. Which backbone withstands what, and what does their
combination make of it?
"""

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.pipeline import make_pipeline

from sklearn_clipensemble import (
    AdaptiveBackboneEnsemble,
    CLIPEmbedder,
    FewShotSplit,
    ZeroShotLogits,
)
from sklearn_clipensemble.corruptions import Corruption
from sklearn_clipensemble.inspection import RobustnessDisplay

digits = load_digits()
# At the size at which the backbones see them, so that corruptions act on what is seen.
grey = (digits.images / 16 * 255).astype(np.uint8)
images = [np.asarray(Image.fromarray(i).resize((32, 32), Image.Resampling.BICUBIC)) for i in grey]
labels = digits.target.astype(str)
train, test = next(FewShotSplit(16, 1, random_state=0).split(labels, labels))
test = test[:400]
clf = make_pipeline(CLIPEmbedder("tiny"), ZeroShotLogits(), AdaptiveBackboneEnsemble())
clf.fit([images[i] for i in train], labels[train])

# %%
# Eight corruptions in five severities.
names = ["gaussian_noise", "defocus_blur", "fog", "elastic_transform", "pixelate"]
RobustnessDisplay.from_estimator(
    clf,
    [images[i] for i in test],
    labels[test],
    corruptions=[*names, "motion_blur", "contrast", "rotate"],
)

# %%
# A corruption is a transformer from images to images.
figure, axes = plt.subplots(len(names), 6, figsize=(6.6, 6), layout="constrained")
for row, name in zip(axes, names, strict=True):
    row[0].imshow(images[test[0]], cmap="gray")
    for severity in range(1, 6):
        row[severity].imshow(Corruption(name, severity).transform([images[test[0]]])[0])
    row[0].set_title(name.replace("_", " "), fontsize=9, loc="left")
for ax in axes.flat:
    ax.set_axis_off()
plt.show()
