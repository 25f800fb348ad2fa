"""
How do I sort a folder of my own?
=================================

Put some images of each class into a sub-folder whose name says what is in them, learn from those, and let
the rest be sorted. The folder here is written from scikit-learn's handwritten digits; for real photographs
take ``CLIPEmbedder()``, whose default backbones are downloaded once.
"""

import tempfile
from pathlib import Path

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
    load_image_folder,
)
from sklearn_clipensemble.inspection import Answers, ContactSheetDisplay

words = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
folder = Path(tempfile.mkdtemp())
digits = load_digits()
for number, (image, target) in enumerate(zip(digits.images[:400], digits.target, strict=False)):
    path = folder / words[target] / f"{number:03}.png"
    path.parent.mkdir(exist_ok=True)
    Image.fromarray((image / 16 * 255).astype("uint8")).save(path)

# %%
# From here on it is any folder. Two images of each class are learnt from.
data = load_image_folder(folder)
paths, labels = np.array(data.paths), data.target
train, test = next(FewShotSplit(n_shots=2, random_state=0).split(paths, labels))
clf = make_pipeline(CLIPEmbedder("tiny"), ZeroShotLogits(), AdaptiveBackboneEnsemble())
clf.fit(paths[train], labels[train])

answers = Answers.from_estimator(clf, paths[test], labels[test])
ContactSheetDisplay.from_answers(answers, show="disagreement", n_images=9)
plt.show()

# %%
# Those are the images on which the backbones disagree most. What was asked for:
for path, answer in list(zip(paths[test], clf.predict(paths[test]), strict=True))[:5]:
    print(Path(path).relative_to(folder), "->", answer)
print(f"{clf.score(paths[test], labels[test]):.1%} of {len(test)} images are right.")
