"""Every private name of scikit-learn that this package uses, in one place."""

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

__all__ = [
    "Interval",
    "Options",
    "StrOptions",
    "VisualBlock",
    "check_sample_weight",
    "feature_names",
    "validate_parameter_constraints",
    "validate_params",
]
