"""Every private name of scikit-learn that this package uses, in one place."""

from typing import ClassVar

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


class DocumentedMixin:
    """Lets the diagram of an estimator, in a notebook, lead to its page of the documentation."""

    _doc_link_module: ClassVar[str] = "sklearn_clipensemble"
    _doc_link_template: ClassVar[str] = (
        "https://sklearn-clipensemble.readthedocs.io/en/stable/generated/"
        "{estimator_module}.{estimator_name}.html"
    )


__all__ = [
    "DocumentedMixin",
    "Interval",
    "Options",
    "StrOptions",
    "VisualBlock",
    "check_sample_weight",
    "feature_names",
    "validate_parameter_constraints",
    "validate_params",
]
