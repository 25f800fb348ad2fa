"""
When should it say "I do not know"?
===================================

Answers below a probability are left to a person. How many are answered then, and how many of those rightly?
"""

import matplotlib.pyplot as plt
import numpy as np
from mapie.classification import SplitConformalClassifier
from sklearn.datasets import load_digits

from sklearn_clipensemble import (
    AdaptiveBackboneEnsemble,
    CLIPEmbedder,
    FewShotSplit,
    Layout,
    ZeroShotLogits,
)

digits = load_digits()
images, labels = digits.images / 16, digits.target.astype(str)
table = ZeroShotLogits().fit_transform(CLIPEmbedder("tiny").fit_transform(images), labels)
train, test = next(FewShotSplit(2, 1, random_state=0).split(labels, labels))
rows, layout = table.to_numpy(), Layout.from_names(table.columns)
clf = AdaptiveBackboneEnsemble(layout=layout).fit(rows[train], labels[train])

probabilities = clf.predict_proba(rows[test])
surest = probabilities.max(axis=1)
right = clf.classes_[probabilities.argmax(axis=1)] == labels[test]
thresholds = np.linspace(0, 0.99, 100)
answered = np.array([(surest >= t).mean() for t in thresholds])
accuracy = np.array([right[surest >= t].mean() for t in thresholds])

figure, ax = plt.subplots(figsize=(6, 4), layout="constrained")
ax.plot(thresholds, answered, label="answered", color="#0072B2")
ax.plot(thresholds, accuracy, label="right, of those answered", color="#D55E00", linestyle="--")
ax.set(xlabel="least probability", ylabel="share of images", ylim=(0.5, 1.01))
ax.legend()
plt.show()

# %%
# A conformal set (here MAPIE's) holds as many labels as it takes to contain the right one nine times in ten. It
# needs labelled images that were not learnt from, of the same kind as those to come: 300 here, drawn at random.
test = np.random.default_rng(0).permutation(test)
known, new = test[:300], test[300:]
sets = SplitConformalClassifier(clf, confidence_level=0.9, prefit=True)
sets.conformalize(rows[known], labels[known])
members = sets.predict_set(rows[new])[1][:, :, 0]
sizes = members.sum(axis=1)
truth = np.searchsorted(clf.classes_, labels[new])
print(f"{members[np.arange(len(new)), truth].mean():.1%} of the sets contain the right label")
for size, count in zip(*np.unique(sizes, return_counts=True), strict=True):
    print(f"{count:5} sets of {size}")
