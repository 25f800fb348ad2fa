"""
Which backbones are worth their cost?
=====================================

Every backbone alone, the subsets that a few labels choose, the whole ensemble, and a cascade that asks the
next backbone only in doubt: accuracy against GFLOPs per image.
"""

import matplotlib.pyplot as plt
from sklearn.datasets import load_digits

from sklearn_clipensemble import (
    AdaptiveBackboneEnsemble,
    CLIPEmbedder,
    FewShotSplit,
    ZeroShotLogits,
    list_backbones,
)
from sklearn_clipensemble.cost import BackboneSelector
from sklearn_clipensemble.inspection import CostDisplay

digits = load_digits()
images, labels = digits.images / 16, digits.target.astype(str)
table = ZeroShotLogits().fit_transform(CLIPEmbedder("tiny").fit_transform(images), labels)
train, test = next(FewShotSplit(4, 1, random_state=0).split(labels, labels))
clf = AdaptiveBackboneEnsemble().fit(table.iloc[train], labels[train])
CostDisplay.from_estimator(clf, table.iloc[test], labels[test], n_repeats=2, random_state=0)
plt.show()

# %%
# What an image costs is known before anything is downloaded.
print(list_backbones("tiny")[["gflops", "parameters"]].round(3))

# %%
# ``BackboneSelector`` leaves out backbones for all images, within a budget in GFLOPs.
selector = BackboneSelector(budget=0.05).fit(table.iloc[train], labels[train])
print(selector.backbones_)
