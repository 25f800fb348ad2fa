"""What backbones cost, and how to spend less: cascades and subsets."""

from sklearn_clipensemble.cost._cascade_classifier import CascadeClassifier

__all__ = ["CascadeClassifier"]
