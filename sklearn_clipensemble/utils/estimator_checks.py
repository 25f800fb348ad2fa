"""Checks for estimators that take images: transformers to tables, and classifiers.

scikit-learn's own :func:`~sklearn.utils.estimator_checks.check_estimator` makes
up 2-D arrays of numbers and has next to nothing to say about an estimator that
takes images. These checks take its place: they hand over small photographs.
"""

from __future__ import annotations

import io
import pickle
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from numpy.testing import assert_array_equal
from sklearn.base import BaseEstimator, clone, is_classifier
from sklearn.exceptions import NotFittedError
from sklearn.utils import get_tags


def _close(table: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Say which numbers are as near as those of one image in batches of different make-up."""
    return np.isclose(table, other, rtol=1e-3, atol=1e-4)


def check_image_estimator(
    estimator: BaseEstimator, changes: Mapping[str, object] | None = None
) -> None:
    """Check that a transformer from images to a table, or a classifier, keeps scikit-learn's contract.

    Parameters
    ----------
    estimator : transformer or classifier
        What to check, a classifier by its ``predict_proba``: unfitted, with parameters that make it fast. Where it
        keeps results between calls, check it with that switched off as well,
        or the checks see each image computed only once.
    changes : dict of str to object or None, default=None
        Parameters and another value of each that must change the table. Every
        one is set on a fitted estimator, which is then fitted again: it has to
        behave like a new estimator of that value.

    Raises
    ------
    AssertionError
        If a check fails.

    See Also
    --------
    parametrize_with_image_checks : The same, as one test per check.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.preprocessing import FunctionTransformer
    >>> from sklearn_clipensemble.utils.estimator_checks import check_image_estimator
    >>> heights = FunctionTransformer(lambda X: np.array([[len(image)] for image in X]))
    >>> check_image_estimator(heights)
    Traceback (most recent call last):
    ...
    AssertionError: images as paths (str) change row 0 by up to ...
    """
    for check in _checks(estimator, changes):
        check(clone(estimator))


def parametrize_with_image_checks(
    estimators: Sequence[BaseEstimator], changes: Mapping[str, object] | None = None
) -> Callable:
    """Make a pytest decorator that runs every check on every estimator.

    Parameters
    ----------
    estimators : sequence of transformers or classifiers
        What to check; see :func:`check_image_estimator`.
    changes : dict of str to object or None, default=None
        See :func:`check_image_estimator`.

    Returns
    -------
    decorator
        For a test function with the arguments ``estimator`` and ``check``.

    Examples
    --------
    >>> from sklearn_clipensemble import CLIPEmbedder
    >>> from sklearn_clipensemble.utils.estimator_checks import parametrize_with_image_checks
    >>> @parametrize_with_image_checks([CLIPEmbedder("tiny", cache=False)])
    ... def test_image_transformers(estimator, check):
    ...     check(estimator)
    """
    import pytest

    return pytest.mark.parametrize(
        ("estimator", "check"),
        [
            pytest.param(clone(estimator), check, id=f"{estimator!r}-{_name(check)}")
            for estimator in estimators
            for check in _checks(estimator, changes)
        ],
    )


def _checks(estimator, changes) -> Iterator[partial]:
    """Yield the checks, each a function of an estimator."""
    for check in _CHECKS + (() if is_classifier(estimator) else _CHECKS_OF_TABLES):
        yield partial(check)
    for name, value in (changes or {}).items():
        yield partial(check_parameter_takes_effect, name=name, value=value)


def _name(check: partial) -> str:
    settings = ", ".join(f"{name}={value!r}" for name, value in check.keywords.items())
    return check.func.__name__ + (f"({settings})" if settings else "")


def _photos() -> list[np.ndarray]:
    """Return six real photographs, small and of different shapes."""
    from sklearn.datasets import load_sample_images

    corners = [(20, 40, 48, 48), (150, 200, 40, 60), (260, 380, 64, 52)]
    return [
        np.ascontiguousarray(photo[top : top + height, left : left + width])
        for photo in load_sample_images().images
        for top, left, height, width in corners
    ]


def _new(estimator: BaseEstimator) -> BaseEstimator:
    """Return a new estimator of the same parameters, made by its class and not by ``clone``."""
    params = estimator.get_params(deep=False)
    return type(estimator)(**{name: clone(value, safe=False) for name, value in params.items()})


def _values(table) -> np.ndarray:
    values = table.to_numpy() if hasattr(table, "to_numpy") else np.asarray(table)
    assert values.ndim == 2, f"expected a table, got {values.ndim} dimensions"
    return values


def _fit(estimator, images):
    if is_classifier(estimator):
        return estimator.fit(images, np.resize(["flower", "temple"], len(images)))
    return estimator.fit(images)


def _rows(estimator, images):
    """Return what a fitted estimator makes of images: a table, or probabilities."""
    ask = estimator.predict_proba if is_classifier(estimator) else estimator.transform
    return ask(images)


def _table(estimator, images) -> np.ndarray:
    return _values(_rows(_fit(estimator, images), images))


def _assert_same(table, expected: np.ndarray, what: str) -> None:
    """Raise an error that names the first row that is not as expected."""
    table = _values(table)
    assert table.shape == expected.shape, (
        f"{what} give a table of shape {table.shape} in place of {expected.shape}"
    )
    off = ~_close(table, expected).all(axis=1)
    if off.any():
        row = int(off.argmax())
        worst = np.abs(table[row] - expected[row]).max()
        raise AssertionError(f"{what} change row {row} by up to {worst:.2g}")


def check_parameters_round_trip(estimator):
    """Check that ``__init__``, fit and transform leave every parameter as it was given."""
    given = estimator.get_params(deep=False)
    as_given = {name: repr(value) for name, value in given.items()}
    assert estimator.set_params(**given) is estimator
    assert _fit(estimator, _photos()) is estimator
    _rows(estimator, _photos())
    for other in (estimator, _new(estimator)):
        for name, value in other.get_params(deep=False).items():
            assert repr(value) == as_given[name], (
                f"{name} was {as_given[name]} and is now {value!r}"
            )
    assert repr(clone(estimator).get_params()) == repr(estimator.get_params())


def check_clone_is_unfitted(estimator):
    """Check that a clone knows nothing of what the fitted estimator learned."""
    fresh = set(vars(estimator))
    _fit(estimator, _photos())
    assert set(vars(clone(estimator))) == fresh
    if get_tags(estimator).requires_fit:
        try:
            _rows(clone(estimator), _photos())
        except NotFittedError:
            return
        raise AssertionError("transform before fit must raise NotFittedError")


def check_parameter_takes_effect(estimator, name, value):
    """Check that a parameter set on a fitted estimator counts from the next fit on."""
    images = _photos()
    before = _table(estimator, images)
    after = _table(estimator.set_params(**{name: value}), images)
    fresh = _table(clone(estimator), images)
    _assert_same(after, fresh, f"parameters ({name}) set after a fit")
    changed = before.shape != after.shape or not _close(before, after).all()
    assert changed, f"{name}={value!r} makes no difference"


def check_refit(estimator):
    """Check that fitting again forgets the fit before, and that ``fit_transform`` is both."""
    images = _photos()
    expected = _table(clone(estimator), images)
    _fit(estimator, images[:2])
    _assert_same(_table(estimator, images), expected, "earlier fits")
    _assert_same(_rows(estimator, images), expected, "earlier transforms")
    if hasattr(estimator, "fit_transform"):
        _assert_same(clone(estimator).fit_transform(images), expected, "fit_transform")


def check_one_against_many(estimator):
    """Check that an image gives the same row alone and among others."""
    images = _photos()
    table = _table(estimator, images)
    assert len(table) == len(images)
    alone = [_values(_rows(estimator, [image])) for image in images]
    _assert_same(np.concatenate(alone), table, "images alone")


def check_order_and_subsets(estimator):
    """Check that rows come in the order of the images, whichever images there are."""
    images = _photos()
    table = _table(estimator, images)
    for rows in ([5, 3, 1, 0, 2, 4], [4, 1], [2, 2, 0]):
        some = _rows(estimator, [images[i] for i in rows])
        _assert_same(some, table[rows], f"images {rows} of six")
    assert not _close(table[0], table[-1]).all(), "two photographs give the same row"


def check_input_forms(estimator):
    """Check that a picture gives one row as path, bytes, file, PIL image, array or tensor."""
    with tempfile.TemporaryDirectory() as folder:
        for name, (images, forms) in _forms(Path(folder)).items():
            expected = _table(estimator, images)
            _assert_same(_rows(estimator, forms), expected, f"images as {name}")


def _forms(folder: Path) -> dict[str, tuple[list[np.ndarray], Sequence]]:
    """Return the photographs, and themselves in another form, by the name of the form."""
    from PIL import Image

    photos = _photos()
    pictures = [Image.fromarray(photo) for photo in photos]
    paths = [folder / f"{i}.png" for i in range(len(photos))]
    for path, picture in zip(paths, pictures, strict=True):
        picture.save(path)
    content = [path.read_bytes() for path in paths]
    objects = np.empty(len(photos), dtype=object)
    objects[:] = photos
    square = [photo[:40, :40] for photo in photos]
    grey = [photo[:40, :40, 1] for photo in photos]
    forms = {
        "paths (str)": (photos, [str(path) for path in paths]),
        "paths (Path)": (photos, paths),
        "array of paths": (photos, np.array([str(path) for path in paths])),
        "Series of paths": (photos, pd.Series([str(path) for path in paths])),
        "a DataFrame of one column": (
            photos,
            pd.DataFrame({"image": [str(path) for path in paths]}),
        ),
        "bytes": (photos, content),
        "file objects": (photos, [io.BytesIO(one) for one in content]),
        "PIL images": (photos, pictures),
        "array of arrays": (photos, objects),
        "floats": (photos, [photo / 255 for photo in photos]),
        "a stack": (square, np.stack(square)),
        "a stack of grey images": (grey, np.stack(grey)),
        "grey images in RGB": (grey, [np.stack([g] * 3, axis=-1) for g in grey]),
    }
    try:
        import torch
    except ImportError:
        return forms
    tensors = [torch.from_numpy(photo.transpose(2, 0, 1).copy()) for photo in photos]
    return {**forms, "torch tensors": (photos, tensors)}


def check_feature_names(estimator):
    """Check that names are unique, one per column, and the same whatever images were seen."""
    images = _photos()
    table = estimator.fit(images).transform(images)
    names = estimator.get_feature_names_out()
    assert all(isinstance(name, str) for name in names), "feature names must be strings"
    assert len(set(names)) == len(names), "feature names are not unique"
    assert len(names) == _values(table).shape[1], "there must be one feature name per column"
    if hasattr(table, "columns"):
        assert list(table.columns) == list(names)
    assert_array_equal(clone(estimator).fit(images[3:]).get_feature_names_out(), names)


def check_set_output(estimator):
    """Check that ``set_output`` chooses the kind of table, of this estimator alone."""
    images = _photos()
    # Not cloned: clones have an output configuration of their own in any case.
    bystander = _new(estimator).fit(images)
    default = bystander.transform(images)
    for kind in ("pandas", "polars", "default"):
        try:
            expected = type(default) if kind == "default" else import_module(kind).DataFrame
        except ImportError:
            continue
        table = _new(estimator).set_output(transform=kind).fit(images).transform(images)
        assert type(table) is expected, f"set_output(transform={kind!r}) gives {type(table)}"
        if kind != "default":
            assert list(table.columns) == list(bystander.get_feature_names_out())
        _assert_same(table, _values(default), f"{kind} tables")
        assert type(bystander.transform(images)) is type(default), "set_output reaches others"


def check_index_is_kept(estimator):
    """Check that a pandas table has the index of the DataFrame whose column holds the images."""
    images = pd.DataFrame({"image": _photos()}, index=[30, 1, 7, 8, 2, 4])
    table = estimator.set_output(transform="pandas").fit(images).transform(images)
    assert list(table.index) == list(images.index)


def check_input_is_read_only(estimator):
    """Check that images are never written to, and need not be writeable."""
    images = _photos()
    expected = _table(clone(estimator), images)
    copies = [image.copy() for image in images]
    stack = np.stack([image[:40, :40] for image in images])
    for image in (*images, stack):
        image.flags.writeable = False
    container = list(images)
    _assert_same(_table(estimator, container), expected, "read-only images")
    _rows(estimator, stack)
    assert all(a is b for a, b in zip(container, images, strict=True)), "the list was changed"
    for image, copy in zip(images, copies, strict=True):
        assert_array_equal(image, copy)


def check_input_is_not_modified(estimator):
    """Check that images that could be written to are left as they are, whatever their type."""
    for convert in (np.uint8, np.float32):
        images = [np.asarray(image, convert) for image in _photos()]
        if convert is np.float32:
            images = [image / 255 for image in images]
        copies = [image.copy() for image in images]
        _table(estimator, images)
        for image, copy in zip(images, copies, strict=True):
            assert_array_equal(image, copy, err_msg=f"a {image.dtype} image was changed")


def check_labels_may_be_given(estimator):
    """Check that labels may be given, as pipelines do, and change nothing."""
    images = _photos()
    labels = np.array(["flower", "temple"] * 3)
    labelled = clone(estimator).fit(images, labels).transform(images)
    _assert_same(labelled, _table(estimator, images), "labels")


def check_bad_input(estimator):
    """Check that no images, one path, a generator and unreadable images are refused, by name."""
    images = _photos()
    _fit(estimator, images)
    for X, kinds, words in (
        ([], ValueError, "empty"),
        ("photo.png", TypeError, "sequence"),
        ((image for image in images), TypeError, "generator"),
        ([images[0], "missing.png"], FileNotFoundError, "missing.png"),
        ([images[0], b"no image"], (ValueError, OSError), "1"),
    ):
        try:
            _rows(estimator, X)
        except kinds as error:
            message = str(error)
        else:
            raise AssertionError(f"{X!r} must raise {kinds}")
        assert words in message, f"the message {message!r} does not say {words!r}"


def check_pickle(estimator):
    """Check that a pickle of the estimator, fitted or not, gives the same table."""
    images = _photos()
    expected = _table(clone(estimator), images)
    modules = [pickle]
    try:
        import cloudpickle

        modules.append(cloudpickle)
    except ImportError:
        pass
    for module in modules:
        name = module.__name__
        unfitted = module.loads(module.dumps(clone(estimator)))
        _assert_same(_table(unfitted, images), expected, f"{name}s before fit")
        fitted = module.loads(module.dumps(_fit(clone(estimator), images)))
        _assert_same(_rows(fitted, images), expected, f"{name}s after fit")
        if hasattr(fitted, "get_feature_names_out"):
            assert_array_equal(fitted.get_feature_names_out(), unfitted.get_feature_names_out())
        used = module.loads(module.dumps(fitted))
        _assert_same(_rows(used, images), expected, f"{name}s after transform")


def check_other_processes(estimator):
    """Check that a fitted estimator works in joblib's worker processes."""
    images = _photos()
    expected = _table(estimator, images)
    halves = Parallel(n_jobs=2, backend="loky")(
        delayed(_rows)(estimator, half) for half in (images[:3], images[3:])
    )
    _assert_same(np.concatenate([_values(half) for half in halves]), expected, "other processes")


_CHECKS = (
    check_parameters_round_trip,
    check_clone_is_unfitted,
    check_refit,
    check_one_against_many,
    check_order_and_subsets,
    check_input_forms,
    check_input_is_read_only,
    check_input_is_not_modified,
    check_bad_input,
    check_pickle,
    check_other_processes,
)
_CHECKS_OF_TABLES = (
    check_feature_names,
    check_set_output,
    check_index_is_kept,
    check_labels_may_be_given,
)
