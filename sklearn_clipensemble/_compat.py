"""Every private name of scikit-learn that this package uses, in one place."""

import itertools
import sys
from typing import TypeVar

from sklearn.utils import _safe_indexing as take_rows
from sklearn.utils._param_validation import (
    Interval,
    Options,
    StrOptions,
    validate_parameter_constraints,
    validate_params,
)
from sklearn.utils.validation import _check_sample_weight as check_sample_weight
from sklearn.utils.validation import _get_feature_names as feature_names

try:
    from sklearn.utils._repr_html.estimator import _VisualBlock as VisualBlock
except ImportError:  # scikit-learn 1.6
    from sklearn.utils._estimator_html_repr import _VisualBlock as VisualBlock

_Class = TypeVar("_Class", bound=type)


def documented(cls: _Class) -> _Class:
    """Let the diagrams of an estimator and its subclasses lead to their pages of the documentation."""
    cls._doc_link_module = "sklearn_clipensemble"  # type: ignore[attr-defined]
    cls._doc_link_template = (  # type: ignore[attr-defined]
        "https://sklearn-clipensemble.readthedocs.io/en/stable/api/{page}.html"
    )
    cls._doc_link_url_param_generator = _page  # type: ignore[attr-defined]
    return cls


def _page(estimator: object) -> dict[str, str]:
    """Return the name under which the API reference has an estimator."""
    package, *rooms = type(estimator).__module__.split(".")
    room = ".".join([package, *itertools.takewhile(lambda name: name[0] != "_", rooms)])
    name = type(estimator).__name__
    for public in (package, f"{package}.ensembles"):  # which has the combiners of all rooms
        if name in getattr(sys.modules.get(public), "__all__", ()):
            room = public
            break
    return {"page": f"{room}.{name}"}


__all__ = [
    "Interval",
    "Options",
    "StrOptions",
    "VisualBlock",
    "check_sample_weight",
    "documented",
    "feature_names",
    "take_rows",
    "validate_parameter_constraints",
    "validate_params",
]
