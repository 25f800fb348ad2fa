"""
Who is right where?
===================

Backbones of different architectures, trained on the same images with the same
objective, are right about different images. Here are the five bundled ones on
scikit-learn's handwritten digits, which none of them has seen.
"""

import matplotlib.pyplot as plt
from sklearn.datasets import load_digits

from sklearn_clipensemble import CLIPEmbedder, Layout, ZeroShotLogits
from sklearn_clipensemble.inspection import (
    Answers,
    DisagreementDisplay,
    OverlapDisplay,
    oracle_null,
    oracle_score,
)

digits = load_digits()
images, labels = digits.images / 16, digits.target.astype(str)
table = ZeroShotLogits().fit_transform(CLIPEmbedder("tiny").fit_transform(images), labels)

# %%
# At least one backbone is right on far more images than the best one alone.
# Beside it, what members of the same accuracies would reach if they failed
# independently: an oracle rises with every member, even by chance.
answers = Answers.from_predictions(table, labels)
print(f"oracle {oracle_score(answers):.1%}, independent {oracle_null(answers):.1%}")
OverlapDisplay.from_answers(answers)

# %%
# Up to three backbones, areas say the same.
backbones = Layout.from_names(table.columns).backbones
three = [column for column in table if column.startswith(backbones[:3])]
OverlapDisplay.from_predictions(table[three], labels)

# %%
# Which pairs fail on the same images, and which see images alike? The first
# question needs labels, the second only embeddings.
figure, axes = plt.subplots(1, 2, figsize=(11, 4.4), layout="constrained")
DisagreementDisplay.from_answers(answers, measure="error_consistency", ax=axes[0])
DisagreementDisplay.from_answers(answers, measure="cka", ax=axes[1])
plt.show()
