"""
Can the probabilities be believed?
==================================

A backbone that says "90 %" should be right nine times out of ten.
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
from sklearn_clipensemble.inspection import Answers, ReliabilityDisplay, calibration_table

digits = load_digits()
images, labels = digits.images / 16, digits.target.astype(str)
train, test = next(FewShotSplit(4, 1, random_state=0).split(labels, labels))
clf = make_pipeline(CLIPEmbedder("tiny"), ZeroShotLogits(), AdaptiveBackboneEnsemble())
clf.fit(images[train], labels[train])

# %%
# Below the diagonal, a backbone is surer than it should be. Every mark
# stands for equally many images.
answers = Answers.from_estimator(clf, images[test], labels[test])
print(calibration_table(answers).round(3))
ReliabilityDisplay.from_answers(answers)
plt.show()
