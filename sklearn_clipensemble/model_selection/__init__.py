"""Few-shot cross-validation: draw k labelled examples per class, test on the rest."""

from sklearn_clipensemble.model_selection._curve import shot_curve
from sklearn_clipensemble.model_selection._split import FewShotSplit

__all__ = ["FewShotSplit", "shot_curve"]
