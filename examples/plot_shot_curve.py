"""
How many labels do I need?
==========================

How much do labelled images help, and what would they give without any
zero-shot knowledge? All methods learn from the same draws.
"""

import matplotlib.pyplot as plt
from sklearn.datasets import load_digits

from sklearn_clipensemble import AdaptiveBackboneEnsemble, CLIPEmbedder, ZeroShotLogits
from sklearn_clipensemble.ensembles import ProbabilityAverage, SuperLearner
from sklearn_clipensemble.heads import LogisticHead
from sklearn_clipensemble.inspection import ShotCurveDisplay

digits = load_digits()
images, labels = digits.images / 16, digits.target.astype(str)
table = ZeroShotLogits().fit_transform(CLIPEmbedder("tiny").fit_transform(images), labels)

# %%
# Dashed lines take no labels. Bands are one standard deviation over draws.
ShotCurveDisplay.from_estimator(
    AdaptiveBackboneEnsemble(),
    table,
    labels,
    shots=[1, 2, 4, 8, 16],
    n_repeats=5,
    random_state=0,
    baselines={
        "logistic regression": LogisticHead(),
        "Super Learner": SuperLearner(),
        "probability average": ProbabilityAverage(),
    },
)
plt.show()
