"""The table between the steps: how it is read, and what all classifiers on tables share."""

from sklearn_clipensemble.table._classifier import TableClassifier
from sklearn_clipensemble.table._layout import Layout
from sklearn_clipensemble.table._read import Table, read_table

__all__ = ["Layout", "Table", "TableClassifier", "read_table"]
