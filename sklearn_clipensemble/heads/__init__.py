"""Few-shot heads: classifiers on the features of one backbone or of several side by side."""

from sklearn_clipensemble.heads._gda import GDAHead
from sklearn_clipensemble.heads._head import Head
from sklearn_clipensemble.heads._kernel_ridge import KernelRidgeHead, MultiKernelHead
from sklearn_clipensemble.heads._linear import AnchoredLinearHead, LogisticHead
from sklearn_clipensemble.heads._tip_adapter import TipAdapterHead

__all__ = [
    "AnchoredLinearHead",
    "GDAHead",
    "Head",
    "KernelRidgeHead",
    "LogisticHead",
    "MultiKernelHead",
    "TipAdapterHead",
]
