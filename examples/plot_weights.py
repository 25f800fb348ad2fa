"""
What does the ensemble trust?
=============================

The adaptive ensemble weighs every backbone anew for every image. Here are the
weights as a whole, and single images with what each backbone says.
"""

import matplotlib.pyplot as plt
from sklearn.datasets import load_digits
from sklearn.pipeline import make_pipeline

from sklearn_clipensemble import (
    AdaptiveBackboneEnsemble,
    CLIPEmbedder,
    FewShotSplit,
    ZeroShotLogits,
)
from sklearn_clipensemble.inspection import Answers, ContactSheetDisplay, WeightsDisplay

digits = load_digits()
images, labels = digits.images / 16, digits.target.astype(str)
train, test = next(FewShotSplit(4, 1, random_state=0).split(labels, labels))
clf = make_pipeline(CLIPEmbedder("tiny"), ZeroShotLogits(), AdaptiveBackboneEnsemble())
clf.fit(images[train], labels[train])

# %%
answers = Answers.from_estimator(clf, images[test], labels[test])
WeightsDisplay.from_answers(answers)

# %%
# Images that the ensemble gets right although the vote goes to a wrong digit.
ContactSheetDisplay.from_answers(answers, show="rescued", n_images=9)

# %%
# And those that it gets wrong, the surest first.
ContactSheetDisplay.from_answers(answers, show="failed", n_images=9)
plt.show()
