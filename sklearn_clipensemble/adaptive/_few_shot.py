"""How much zero-shot answers and labelled images are each worth, as held-out labels show."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np
from scipy.optimize import minimize
from scipy.special import softmax

from sklearn_clipensemble.adaptive._correction import KernelCorrection, dimension
from sklearn_clipensemble.adaptive._pool import ZeroShotPool, zero_shot
from sklearn_clipensemble.adaptive._priors import Priors
from sklearn_clipensemble.table._draws import balanced_folds
from sklearn_clipensemble.table._metric import WithinClassMetric
from sklearn_clipensemble.table._read import Table
from sklearn_clipensemble.table._scores import softmax_loss, unexplained


class FewShot(NamedTuple):
    """What was learnt: the answers are ``scale * zero_shot + correction``.

    ``lift`` is what one labelled row alone adds to the logit of its class; ``order`` are the rows of
    the table in the order of the correction's own.
    """

    zero_shot: ZeroShotPool | None
    correction: KernelCorrection
    scale: float
    lift: float
    order: np.ndarray


class _Fold(NamedTuple):
    """One fold: what its training rows know, and what that says of the rows held out."""

    rows: list
    codes: np.ndarray
    weight: np.ndarray
    offset: np.ndarray
    held_rows: list
    held_offset: np.ndarray

    def correction(self, shares, priors):
        """Return the correction by the training rows, for shares of all backbones or of one."""
        used = np.flatnonzero(shares)
        rows, held_rows = ([part[b] for b in used] for part in (self.rows, self.held_rows))
        correction = KernelCorrection(None, rows, self.codes, self.weight, shares[used], priors)
        return correction, correction.functions(held_rows)


def learn(
    table: Table,
    features: list[np.ndarray],
    codes: np.ndarray,
    weight: np.ndarray,
    priors: Priors,
) -> FewShot:
    """Learn from labelled rows of two or more classes: class indices ``codes``, positive weights.

    ``features`` is what the correction is to learn from, ``(n_samples, width)`` for every backbone.
    """
    order, classes, codes = _canonical_order(features, codes, weight)
    table, weight = table.take(order), weight[order]
    features = [f[order] for f in features]
    if table.has_logits:
        labelled = classes
        classes = np.append(labelled, np.setdiff1d(np.arange(len(table.order)), labelled))
        table = replace(table, order=table.order[classes])

    pool = zero_shot(table, codes, weight, priors)
    offset = _offset(pool, table, np.arange(codes[-1] + 1))
    metrics = [WithinClassMetric(f, codes, weight, priors.metric) for f in features]
    rows = [metric(f) for metric, f in zip(metrics, features, strict=True)]
    open_share = priors.unexplained_without_logits
    if pool:
        open_share = unexplained(offset, codes, weight)
    shares = np.full(len(features), 1 / len(features))

    def expected_lift():
        n_dimensions = dimension(rows, codes, shares, priors)
        return _expected_lift(n_dimensions, open_share, priors.largest_lift)

    expected = expected_lift()
    folds, judge = _hold_out(table, features, codes, weight, priors)
    if not folds:
        correction = KernelCorrection(metrics, rows, codes, weight, shares, priors)
        coef = correction.solve(offset, expected, tolerance=priors.tolerance)
        sharpness = priors.sharpness if pool else priors.sharpness_without_logits
        _as_given(pool, correction, coef * coef.dtype.type(sharpness), classes)
        return FewShot(pool, correction, sharpness, expected * sharpness, order)

    if len(shares) > 1:
        shares = _shares(folds, judge, min(expected, priors.largest_lift_alone), priors)
        expected = expected_lift()
    lifts, belief, scales = _weigh_lifts(folds, judge, shares, expected, priors)
    del table, features, folds, judge  # or they would add to the memory of the largest fit
    correction = KernelCorrection(metrics, rows, codes, weight, shares, priors)
    solution, total = None, 0.0
    for lift, part, scale in zip(lifts, belief, scales[:, 1], strict=True):
        solution = correction.solve(offset, lift, solution, tolerance=priors.tolerance)
        total = total + solution * solution.dtype.type(part * scale)
    _as_given(pool, correction, total, classes)
    scale, lift = belief @ scales[:, 0], (belief * scales[:, 1]) @ lifts
    return FewShot(pool, correction, float(scale), float(lift), order)


def _offset(pool, table, classes):
    """Return the logits of some classes that are there before any correction."""
    if pool is None:
        return np.zeros((len(table), len(classes)), table.X.dtype)
    logits = pool(table)
    return logits if len(classes) == logits.shape[1] else np.ascontiguousarray(logits[:, classes])


def _hold_out(table, features, codes, weight, priors):
    """Return the folds, and the judge of what they say of the rows held out.

    With a great many classes some are enough to tell how much labels are worth.
    """
    classes = np.unique(np.linspace(0, codes[-1], priors.n_classes_held_out, dtype=int))
    rows = np.flatnonzero(np.isin(codes, classes))
    own = np.searchsorted(classes, codes[rows])
    folds, held = [], []
    for kept, out in balanced_folds(own, priors.n_folds, priors.n_held_out):
        learn, rest = rows[kept], rows[out]
        part = [f[learn] for f in features]
        metrics = [WithinClassMetric(f, own[kept], weight[learn], priors.metric) for f in part]
        pool = zero_shot(table.take(learn), codes[learn], weight[learn], priors)
        folds.append(
            _Fold(
                [metric(f) for metric, f in zip(metrics, part, strict=True)],
                own[kept],
                weight[learn],
                _offset(pool, table.take(learn), classes),
                [metric(f[rest]) for metric, f in zip(metrics, features, strict=True)],
                _offset(pool, table.take(rest), classes),
            )
        )
        held.append(out)
    if not folds:
        return [], None
    held = np.concatenate(held)
    offset = np.concatenate([fold.held_offset for fold in folds])
    return folds, _Judge(offset, own[held], weight[rows[held]], priors.scale_precision)


def _as_given(pool, correction, coef, classes):
    """Keep what was learnt, with the classes in their own order."""
    if pool is not None:
        pool.biases[classes] = pool.biases.copy()
    labelled = classes[: coef.shape[1]]
    correction.keep(coef[:, np.argsort(labelled)])


def _expected_lift(n_dimensions, open_share, largest):
    """Return the lift where held-out labels do not say better.

    Corrections by rows that look alike, whatever their class, do harm, and more so where they
    change more of the zero-shot answers.
    """
    least = 4 * open_share
    lift = max(min(n_dimensions / (20 * open_share), n_dimensions / 3), least)
    return float(min(lift, largest))


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


class _Judge(NamedTuple):
    """Rows that were held out: what zero-shot answers say of them, and their labels."""

    offset: np.ndarray
    codes: np.ndarray
    weight: np.ndarray
    scale_precision: float

    def scales(self, parts: np.ndarray, share_precision: float) -> tuple[np.ndarray, float]:
        """Return the most probable positive scales of the offset and of added parts, and their evidence.

        Parts are of shape ``(n_parts, n_held_out, n_classes)``. The scales of the offset and of all
        parts together are believed to be about 1; the parts' proportions to be about equal, as
        firmly as ``share_precision`` says, in nats per squared logarithm.
        """
        terms = np.concatenate([self.offset[None], parts])
        flat = terms.reshape(len(terms), -1)
        logits = np.empty(self.offset.shape, self.offset.dtype)  # in C order, to be seen flat

        def loss(logs):
            scales = np.exp(logs)
            np.dot(scales.astype(flat.dtype), flat, out=logits.reshape(-1))
            value = softmax_loss(logits, self.codes, self.weight)
            slope = (flat @ logits.reshape(-1)).astype(np.float64) * scales
            total = scales[1:].sum()
            size, apart = np.log(total), logs[1:] - logs[1:].mean()
            value += self.scale_precision * (logs[0] ** 2 + size**2)
            value += share_precision * apart @ apart
            slope[0] += 2 * self.scale_precision * logs[0]
            slope[1:] += 2 * self.scale_precision * size * scales[1:] / total
            slope[1:] += 2 * share_precision * apart
            return value, slope

        start = np.zeros(len(terms))
        start[1:] -= np.log(len(parts))
        found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=[(-6, 3)] * len(terms))
        return np.exp(found.x), -float(found.fun)


def _shares(folds, judge, lift, priors):
    """Return how much each backbone's own correction is worth beside the others'."""
    n_backbones = len(folds[0].rows)
    parts = []
    for alone in np.eye(n_backbones):
        answers = []
        for fold in folds:
            correction, functions = fold.correction(alone, priors)
            coef = correction.solve(fold.offset, lift, tolerance=priors.tolerance)
            answers.append(functions @ coef)
        parts.append(np.concatenate(answers))
    scales, _ = judge.scales(np.stack(parts), priors.share_precision)
    return scales[1:] / scales[1:].sum()


def _weigh_lifts(folds, judge, shares, expected, priors):
    """Return lifts, how far each is to be believed, and the scales of offset and correction with it."""
    corrections = [fold.correction(shares, priors) for fold in folds]
    lifts = np.array(priors.lifts)
    penalty = priors.lift_precision * np.log(lifts / expected) ** 2
    evidence, scales, solutions = np.full(len(lifts), -np.inf), np.ones((len(lifts), 2)), {}
    for i, neighbour in _outwards(int(penalty.argmin()), len(lifts)):
        if evidence[neighbour] < evidence.max() - priors.negligible_evidence:
            continue
        starts = solutions.get(neighbour, [None] * len(folds))
        solutions[i] = [
            correction.solve(fold.offset, lifts[i], start, tolerance=priors.tolerance)
            for fold, (correction, _), start in zip(folds, corrections, starts, strict=True)
        ]
        answers = np.concatenate(
            [functions @ s for (_, functions), s in zip(corrections, solutions[i], strict=True)]
        )
        scales[i], found = judge.scales(answers[None], 0.0)
        evidence[i] = found - penalty[i]
    belief = softmax(evidence)
    used = belief > 1e-3
    return lifts[used], belief[used] / belief[used].sum(), scales[used]


def _outwards(first, n):
    """Yield the numbers below ``n`` from ``first`` to both ends, each with the one on its way."""
    yield first, first
    yield from ((i, i - 1) for i in range(first + 1, n))
    yield from ((i, i + 1) for i in reversed(range(first)))
