"""What backbones cost, and how to spend less: cascades and subsets."""

from sklearn_clipensemble.cost._cascade_classifier import CascadeClassifier
from sklearn_clipensemble.cost._cost_curve import cost_curve
from sklearn_clipensemble.cost._selector import BackboneSelector
from sklearn_clipensemble.cost._throughput import measure_throughput

__all__ = ["BackboneSelector", "CascadeClassifier", "cost_curve", "measure_throughput"]
