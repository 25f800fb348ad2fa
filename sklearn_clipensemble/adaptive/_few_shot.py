"""How much zero-shot answers and labelled images are each worth, as held-out labels show."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np
from scipy.optimize import minimize
from scipy.special import softmax

from sklearn_clipensemble.adaptive._correction import KernelCorrection, dimension
from sklearn_clipensemble.adaptive._pool import ZeroShotPool, zero_shot
from sklearn_clipensemble.table._features import place_in_class
from sklearn_clipensemble.table._metric import WithinClassMetric
from sklearn_clipensemble.table._read import Table
from sklearn_clipensemble.table._scores import softmax_loss, unexplained

# What one labelled row does to the logit of its class on its own: the values tried, in nats.
_LIFTS = (0.3, 1.0, 3.0, 10.0)
_LARGEST_LIFT = 12.0
# The share of the labels' uncertainty for which a table without zero-shot answers stands here.
_UNEXPLAINED_WITHOUT_LOGITS = 0.1
# How firmly the scales of zero-shot answers and correction are believed to be 1, the lift to be the
# expected one, the backbones' shares to be equal: nats per squared logarithm.
_SCALE_DOUBT = 5.0
_LIFT_DOUBT = 2.0
_SHARE_DOUBT = 2.0
# A lift whose evidence is this far below the best counts for nothing, nor does any beyond it.
_HOPELESS = 8.0
# Labels are held out in at most so many folds, until there are so many of them.
_N_FOLDS = 4
_N_HELD_OUT = 512
# So many classes tell for all.
_N_CLASSES_HELD_OUT = 256
# Where nothing can be held out: what all logits are multiplied by, with zero-shot answers or without.
_SHARPNESS = 1.15
_SHARPNESS_WITHOUT_LOGITS = 1.8
# The part of the loss without a correction that may be left to gain.
_TOLERANCE = 1e-4


class FewShot(NamedTuple):
    """What was learnt: the answers are ``scale * zero_shot + correction``."""

    zero_shot: ZeroShotPool | None
    correction: KernelCorrection
    scale: float


class _Fold(NamedTuple):
    """One fold: what its training rows know, and what that says of the rows held out."""

    metrics: list
    rows: list
    codes: np.ndarray
    weight: np.ndarray
    offset: np.ndarray
    held_features: list
    held_offset: np.ndarray

    def correction(self, shares):
        """Return the correction by the training rows, for shares of all backbones or of one."""
        used = np.flatnonzero(shares)
        metrics, rows = ([part[b] for b in used] for part in (self.metrics, self.rows))
        correction = KernelCorrection(metrics, rows, self.codes, self.weight, shares[used])
        return correction, correction.functions([self.held_features[b] for b in used])


def learn(table: Table, features: list[np.ndarray], codes: np.ndarray, weight: np.ndarray):
    """Learn from labelled rows of two or more classes.

    Parameters
    ----------
    table : Table
        The rows.
    features : list of ndarray of shape (n_samples, width)
        What the correction is to learn from, for every backbone.
    codes : ndarray of shape (n_samples,)
        The labels, as class indices.
    weight : ndarray of shape (n_samples,)
        The weights of the rows, positive.

    Returns
    -------
    FewShot
        The answers without and with what was learnt.
    """
    rows, classes, codes = _canonical_order(features, codes, weight)
    table, weight = table.take(rows), weight[rows]
    features = [f[rows] for f in features]
    if table.has_logits:
        labelled = classes
        classes = np.append(labelled, np.setdiff1d(np.arange(len(table.order)), labelled))
        table = replace(table, order=table.order[classes])

    pool = zero_shot(table, codes, weight)
    offset = _offset(pool, table, np.arange(codes[-1] + 1))
    metrics = [WithinClassMetric(f, codes, weight) for f in features]
    rows = [metric(f) for metric, f in zip(metrics, features, strict=True)]
    open_share = unexplained(offset, codes, weight) if pool else _UNEXPLAINED_WITHOUT_LOGITS
    shares = np.full(len(features), 1 / len(features))
    expected = _expected_lift(dimension(rows, codes, shares), open_share)

    folds, judge = _hold_out(table, features, codes, weight)
    if not folds:
        correction = KernelCorrection(metrics, rows, codes, weight, shares)
        coef = correction.solve(offset, expected, tolerance=_TOLERANCE)
        sharpness = _SHARPNESS if pool else _SHARPNESS_WITHOUT_LOGITS
        return _as_given(pool, correction, coef * coef.dtype.type(sharpness), sharpness, classes)

    if len(shares) > 1:
        shares = _shares(folds, judge, expected)
        expected = _expected_lift(dimension(rows, codes, shares), open_share)
    lifts, belief, scales = _weigh_lifts(folds, judge, shares, expected)
    correction = KernelCorrection(metrics, rows, codes, weight, shares)
    coef, total = None, 0.0
    for lift, part, scale in zip(lifts, belief, scales[:, 1], strict=True):
        coef = correction.solve(offset, lift, coef, tolerance=_TOLERANCE)
        total = total + coef * coef.dtype.type(part * scale)
    return _as_given(pool, correction, total, float(belief @ scales[:, 0]), classes)


def _offset(pool, table, classes):
    """Return the logits of some classes that are there before any correction."""
    if pool is None:
        return np.zeros((len(table), len(classes)), table.X.dtype)
    return np.ascontiguousarray(pool(table)[:, classes])


def _hold_out(table, features, codes, weight):
    """Return the folds, and the judge of what they say of the rows held out.

    With a great many classes some are enough to tell how much labels are worth.
    """
    classes = np.unique(np.linspace(0, codes[-1], _N_CLASSES_HELD_OUT, dtype=int))
    rows = np.flatnonzero(np.isin(codes, classes))
    own = np.searchsorted(classes, codes[rows])
    folds, held = [], []
    for kept, out in _balanced_folds(own):
        learn, rest = rows[kept], rows[out]
        part = [f[learn] for f in features]
        metrics = [WithinClassMetric(f, own[kept], weight[learn]) for f in part]
        pool = zero_shot(table.take(learn), codes[learn], weight[learn])
        folds.append(
            _Fold(
                metrics,
                [metric(f) for metric, f in zip(metrics, part, strict=True)],
                own[kept],
                weight[learn],
                _offset(pool, table.take(learn), classes),
                [f[rest] for f in features],
                _offset(pool, table.take(rest), classes),
            )
        )
        held.append(out)
    if not folds:
        return [], None
    held = np.concatenate(held)
    told = np.concatenate([fold.held_offset for fold in folds])
    return folds, _Judge(told, own[held], weight[rows[held]])


def _as_given(pool, correction, coef, scale, classes):
    """Return what was learnt, with the classes in their own order."""
    if pool is not None:
        pool.biases[classes] = pool.biases.copy()
    labelled = classes[: coef.shape[1]]
    correction.keep(coef[:, np.argsort(labelled)])
    return FewShot(pool, correction, scale)


def _expected_lift(dimension, open_share):
    """Return the lift where held-out labels do not say better.

    Corrections by rows that look alike, whatever their class, do harm, the more the more of the
    zero-shot answers they change.
    """
    least = 4 * open_share
    lift = max(min(dimension / (20 * open_share), dimension / 3), least)
    return float(min(lift, _LARGEST_LIFT))


def _canonical_order(features, codes, weight):
    """Return an order of the rows, the classes in theirs, and the rows' labels by it.

    By how far rows lie from the mean of all, class by class: the same whatever the order and the
    names of rows, classes and backbones, and whatever the scale of the features. So the folds are,
    and so is every sum, to its last digit.
    """
    away = np.zeros(len(codes))
    for f in features:
        squares = np.square(f - np.average(f, axis=0, weights=weight)).sum(axis=1, dtype=np.float64)
        away += squares / (squares.mean() or 1.0)
    of_class = np.bincount(codes, weights=away)
    labelled = np.unique(codes)
    labelled = labelled[np.argsort(of_class[labelled])]
    turn = np.empty(len(of_class), dtype=int)
    turn[labelled] = np.arange(len(labelled))
    order = np.lexsort((away, turn[codes]))
    return order, labelled, turn[codes[order]]


def _balanced_folds(codes):
    """Yield rows to learn from and rows held out: one label of every class, or a quarter of them.

    A class's only row is never held out: without it, nothing is known of its class.
    """
    count = np.bincount(codes)
    n_folds = min(_N_FOLDS, int(count.max()))
    # Every class begins with another fold, so that all are of one size.
    turn = (place_in_class(codes) + codes) % n_folds
    fold = np.where(count[codes] > 1, turn, -1)
    n_held = 0
    for i in range(n_folds):
        out = np.flatnonzero(fold == i)
        if len(out) and n_held < _N_HELD_OUT:
            n_held += len(out)
            yield np.flatnonzero(fold != i), out


class _Judge(NamedTuple):
    """Rows that were held out: what zero-shot answers say of them, and their labels."""

    offset: np.ndarray
    codes: np.ndarray
    weight: np.ndarray

    def scales(self, parts: np.ndarray, doubt: float) -> tuple[np.ndarray, float]:
        """Return the most probable positive scales of the offset and of parts added to it.

        Those of the offset and of all parts together are believed to be about
        1; the parts' proportions to be about equal, as firmly as ``doubt`` says.

        Parameters
        ----------
        parts : ndarray of shape (n_parts, n_held_out, n_classes)
            What is added.
        doubt : float
            Nats per squared logarithm.

        Returns
        -------
        scales : ndarray of shape (1 + n_parts,)
            The scales.
        evidence : float
            The logarithm of how probable they and the labels are.
        """
        terms = np.concatenate([self.offset[None], parts])
        flat = terms.reshape(len(terms), -1)
        logits = np.empty_like(self.offset)

        def loss(logs):
            scales = np.exp(logs)
            np.dot(scales.astype(flat.dtype), flat, out=logits.reshape(-1))
            value = softmax_loss(logits, self.codes, self.weight)
            slope = (flat @ logits.reshape(-1)).astype(np.float64) * scales
            total = scales[1:].sum()
            size, apart = np.log(total), logs[1:] - logs[1:].mean()
            value += _SCALE_DOUBT * (logs[0] ** 2 + size**2) + doubt * apart @ apart
            slope[0] += 2 * _SCALE_DOUBT * logs[0]
            slope[1:] += 2 * _SCALE_DOUBT * size * scales[1:] / total + 2 * doubt * apart
            return value, slope

        start = np.zeros(len(terms))
        start[1:] -= np.log(len(parts))
        found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=[(-6, 3)] * len(terms))
        return np.exp(found.x), -float(found.fun)


def _shares(folds, judge, lift):
    """Return how much each backbone's own correction is worth beside the others'."""
    n_backbones = len(folds[0].metrics)
    parts = []
    for alone in np.eye(n_backbones):
        told = []
        for fold in folds:
            correction, functions = fold.correction(alone)
            told.append(functions @ correction.solve(fold.offset, lift, tolerance=_TOLERANCE))
        parts.append(np.concatenate(told))
    scales, _ = judge.scales(np.stack(parts), _SHARE_DOUBT)
    return scales[1:] / scales[1:].sum()


def _weigh_lifts(folds, judge, shares, expected):
    """Return lifts, how far each is to be believed, and the scales of offset and correction with it."""
    corrections = [fold.correction(shares) for fold in folds]
    doubt = _LIFT_DOUBT * np.log(np.divide(_LIFTS, expected)) ** 2
    evidence, scales, solutions = np.full(len(_LIFTS), -np.inf), np.ones((len(_LIFTS), 2)), {}
    for i, neighbour in _outwards(int(doubt.argmin()), len(_LIFTS)):
        if evidence[neighbour] < evidence.max() - _HOPELESS:
            continue
        starts = solutions.get(neighbour, [None] * len(folds))
        solutions[i] = [
            correction.solve(fold.offset, _LIFTS[i], start, tolerance=_TOLERANCE)
            for fold, (correction, _), start in zip(folds, corrections, starts, strict=True)
        ]
        told = np.concatenate(
            [functions @ s for (_, functions), s in zip(corrections, solutions[i], strict=True)]
        )
        scales[i], found = judge.scales(told[None], 0.0)
        evidence[i] = found - doubt[i]
    belief = softmax(evidence)
    used = belief > 1e-3
    return np.array(_LIFTS)[used], belief[used] / belief[used].sum(), scales[used]


def _outwards(first, n):
    """Yield the numbers below ``n`` from ``first`` to both ends, each with the one on its way."""
    yield first, first
    yield from ((i, i - 1) for i in range(first + 1, n))
    yield from ((i, i + 1) for i in reversed(range(first)))
