"""Few-shot cross-validation."""

from sklearn_clipensemble.model_selection._split import FewShotSplit

__all__ = ["FewShotSplit"]
