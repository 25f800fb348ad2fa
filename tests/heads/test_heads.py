"""The few-shot heads, against their published formulas and refits.

Closed forms of leave-one-out scores are compared with refits where they are computed: of them, only
the settings that they choose can be seen from outside.
"""

import numpy as np
import pytest
from instances import HEADS, make_table
from scipy.special import log_softmax, logsumexp, softmax
from sklearn.base import clone
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel
from sklearn.linear_model import LogisticRegression

from sklearn_clipensemble import Layout
from sklearn_clipensemble.heads import (
    AnchoredLinearHead,
    GDAHead,
    KernelRidgeHead,
    LogisticHead,
    MultiKernelHead,
    TipAdapterHead,
)
from sklearn_clipensemble.heads import _linear as linear
from sklearn_clipensemble.heads._gda import _Gaussians
from sklearn_clipensemble.heads._head import fill_unseen, span_of
from sklearn_clipensemble.table._features import cosine_kernel, few_of_each

every_head = pytest.mark.parametrize("head", HEADS, ids=repr)


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def embeddings(X, backbones=("m0", "m1")):
    parts = [X[[n for n in X if n.startswith(f"{b}__embedding")]].to_numpy() for b in backbones]
    return [unit(part) for part in parts]


def centred(X, X_train, backbones=("m0", "m1")):
    """Features as GDAHead sees them: centred on the labelled rows, at length one."""
    parts = zip(embeddings(X, backbones), embeddings(X_train, backbones), strict=True)
    parts = [unit(rows - labelled.mean(axis=0)) for rows, labelled in parts]
    return np.hstack(parts) / np.sqrt(len(parts))


def whitened(X, X_train, y, backbones=("m0", "m1")):
    """Features as other heads see them: times a root of a shrunken inverse covariance."""
    parts = []
    for rows, labelled in zip(
        embeddings(X, backbones), embeddings(X_train, backbones), strict=True
    ):
        n, width = labelled.shape
        residuals = labelled - np.array([labelled[y == c].mean(axis=0) for c in np.unique(y)])[y]
        total, free = labelled.var(axis=0, ddof=1), n - len(np.unique(y))
        total = ((n - 1) * total + 5 * total.mean()) / (n + 4)
        within = (residuals**2).sum() / free / total.sum()
        columns = ((residuals**2).sum(axis=0) + 20 * within * total) / (free + 20)
        scale = np.sqrt(columns.mean() / columns)
        covariance = np.cov((residuals * scale).T)
        kept = 2 * width / (2 * width + free)
        covariance *= (1 - kept) * width / np.trace(covariance)
        root = np.linalg.inv(np.linalg.cholesky(covariance + kept * np.eye(width))).T
        parts.append(unit((rows - labelled.mean(axis=0)) * scale @ root))
    return np.hstack(parts) / np.sqrt(len(parts))


def average_log_proba(X, backbones=("m0", "m1")):
    logits = [X[[n for n in X if n.startswith(f"{b}__logit")]].to_numpy() for b in backbones]
    return np.log(np.mean([softmax(z, axis=1) for z in logits], axis=0))


def prior_of(head, X):
    return log_softmax(average_log_proba(X) / head.prior_temperature_, axis=1)


@every_head
@pytest.mark.parametrize("n_shots", [1, 2, 8])
def test_better_than_the_prior_on_new_images(head, n_shots):
    X, y = make_table(n_shots, noise=0.3, signal=0.5)
    X_new, y_new = make_table(50, noise=0.3, signal=0.5, seed=1)
    prior = (average_log_proba(X_new).argmax(axis=1) == y_new).mean()
    floor = prior - 0.02 if (n_shots, type(head)) == (1, MultiKernelHead) else prior + 0.05
    assert clone(head).fit(X, y).score(X_new, y_new) > floor


@every_head
def test_one_backbone_by_name(head):
    X, y = make_table(4)
    one = clone(head).set_params(backbone="m1").fit(X, y)
    alone = X[[name for name in X if name.startswith("m1")]]
    np.testing.assert_allclose(
        one.predict_proba(X), clone(head).fit(alone, y).predict_proba(alone), rtol=1e-6
    )
    with pytest.raises(ValueError, match="no backbone 'm7'; its backbones are: m0, m1"):
        clone(head).set_params(backbone="m7").fit(X, y)


@every_head
def test_length_of_the_features_does_not_matter(head):
    X, y = make_table(4)
    longer = X.copy()
    longer[[name for name in X if name.startswith("m0__embedding")]] *= 100
    np.testing.assert_allclose(
        clone(head).fit(longer, y).predict_proba(longer),
        clone(head).fit(X, y).predict_proba(X),
        rtol=1e-5,
    )


@every_head
def test_batches_do_not_show(head, monkeypatch):
    X, y = make_table(4)
    head = clone(head).fit(X, y)
    proba = head.predict_proba(X)
    monkeypatch.setattr("sklearn_clipensemble.table._classifier._BATCH", 5)
    np.testing.assert_allclose(head.predict_proba(X), proba, rtol=1e-6)


@pytest.mark.parametrize(
    "head", [AnchoredLinearHead(), GDAHead(), KernelRidgeHead(), MultiKernelHead()], ids=repr
)
def test_a_worthless_prior_is_not_believed(head):
    X, y = make_table(4, noise=0.3)
    X_new, y_new = make_table(50, noise=0.3, seed=1)
    for table in (X, X_new):  # sure, and of random classes
        logits = [name for name in table if "__logit__" in name]
        table[logits] = 10 * np.random.default_rng(len(table)).normal(
            size=(len(table), len(logits))
        )
    assert clone(head).fit(X, y).score(X_new, y_new) > 0.8


# Tip-Adapter


@pytest.mark.parametrize(("alpha", "beta"), [(1.0, 5.5), (3.0, 2.0)])
def test_tip_adapter_is_the_published_formula(alpha, beta):
    X, y = make_table(3)
    X_new, _ = make_table(5, seed=1)
    head = TipAdapterHead(alpha=alpha, beta=beta).fit(X, y)
    f = np.hstack(embeddings(X_new)) / np.sqrt(2)
    keys = np.hstack(embeddings(X)) / np.sqrt(2)
    cache = np.exp(-beta * (1 - f @ keys.T)) @ np.eye(4)[y]
    expected = average_log_proba(X_new) + alpha * cache
    np.testing.assert_allclose(head.predict_proba(X_new), softmax(expected, axis=1))


def test_tip_adapter_on_one_backbone_adds_to_its_logits():
    X, y = make_table(3, widths=(6,))
    head = TipAdapterHead().fit(X, y)
    f = embeddings(X, ["m0"])[0]
    logits = X[[n for n in X if "__logit__" in n]].to_numpy()
    expected = logits + np.exp(-5.5 * (1 - f @ f.T)) @ np.eye(4)[y]
    np.testing.assert_allclose(head.predict_proba(X), softmax(expected, axis=1))


# Gaussian discriminant analysis


@pytest.mark.parametrize("widths", [(6, 8), (30, 40)])  # fewer and more columns than rows
def test_gda_is_linear_discriminant_analysis_with_its_shrinkage(widths):
    X, y = make_table(8, widths=widths)
    X_new, _ = make_table(5, widths=widths, seed=1)
    head = GDAHead().fit(X, y)
    n, d = len(X), sum(widths)
    # (N - 1) S + tr(S) I is proportional to a share d / (N - 1 + d) of the mean variance.
    lda = LinearDiscriminantAnalysis(
        solver="lsqr", shrinkage=d / (n - 1 + d), priors=np.full(4, 0.25)
    ).fit(centred(X, X), y)
    ours = centred(X_new, X) @ head.coef_ + head.intercept_
    theirs = lda.decision_function(centred(X_new, X))
    ours -= ours.mean(axis=1, keepdims=True)
    theirs -= theirs.mean(axis=1, keepdims=True)
    # Up to the scale of the published precision.
    np.testing.assert_allclose(ours, theirs * d * (n - 1) / n / (n - 1 + d), rtol=1e-6)


def test_gda_precision_is_the_published_one():
    X, y = make_table(6)
    head = GDAHead().fit(X, y)
    rows = centred(X, X)
    means = np.array([rows[y == c].mean(axis=0) for c in range(4)])
    covariance = np.cov((rows - means[y]).T)
    n, d = rows.shape
    precision = d * np.linalg.inv((n - 1) * covariance + np.trace(covariance) * np.eye(d))
    scores = rows @ precision @ means.T - np.einsum("cd,de,ce->c", means, precision, means) / 2
    np.testing.assert_allclose(rows @ head.coef_ + head.intercept_, scores)
    pooled = head.pool_weights_[0] * prior_of(head, X) + head.pool_weights_[1] * scores
    np.testing.assert_allclose(head.predict_proba(X), softmax(pooled, axis=1))


@pytest.mark.parametrize("widths", [(6,), (40,)])
def test_gda_leave_one_out_is_a_refit(widths):
    X, y = make_table(4, widths=widths)
    rows, n_features = centred(X, X, ["m0"]), widths[0]
    held_out = _Gaussians(rows, y, np.ones(len(y)), n_features).leave_one_out()
    for i in range(len(y)):
        rest = np.delete(np.arange(len(y)), i)
        coef, intercept = _Gaussians(
            rows[rest], y[rest], np.ones(len(rest)), n_features
        ).discriminant()
        np.testing.assert_allclose(held_out[i], rows[i] @ coef + intercept, rtol=1e-6)


def test_gda_leave_one_out_of_weights_is_that_of_copies():
    X, y = make_table(3)
    rows = centred(X, X)
    weight = np.tile([1.0, 2.0, 3.0], len(y) // 3)
    copies = np.repeat(np.arange(len(y)), weight.astype(int))
    weighted = _Gaussians(rows, y, weight, 14).leave_one_out()
    copied = _Gaussians(rows[copies], y[copies], np.ones(len(copies)), 14).leave_one_out()
    np.testing.assert_allclose(weighted[copies], copied, rtol=1e-6)


def test_gda_with_one_row_per_class_uses_the_covariance_of_all():
    X, y = make_table(1)
    head = GDAHead().fit(X, y)
    rows = centred(X, X)
    covariance = np.cov(rows.T)
    n, d = rows.shape
    precision = d * np.linalg.inv((n - 1) * covariance + np.trace(covariance) * np.eye(d))
    scores = rows @ precision @ rows.T - np.einsum("cd,de,ce->c", rows, precision, rows) / 2
    np.testing.assert_allclose(rows @ head.coef_ + head.intercept_, scores)
    # Nothing to leave out: the scores span what the prior's do.
    assert head.pool_weights_[1] * np.ptp(scores, axis=1).mean() == pytest.approx(
        np.ptp(prior_of(head, X), axis=1).mean()
    )


# Kernel ridge and Gaussian process


def test_kernel_ridge_is_the_published_formula():
    X, y = make_table(4)
    X_new, _ = make_table(5, seed=1)
    head = KernelRidgeHead().fit(X, y)

    def kernel(a, b):
        return np.exp(-head.sharpness_ * (1 - a @ b.T))

    rows, new = whitened(X, X, y), whitened(X_new, X, y)
    residual = np.eye(4)[y] - np.exp(prior_of(head, X))
    weights = np.linalg.inv(kernel(rows, rows) + head.ridge_ * np.eye(len(y)))
    scores = np.exp(prior_of(head, X_new)) + kernel(new, rows) @ weights @ residual
    np.testing.assert_allclose(
        head.predict_proba(X_new), softmax(scores / head.temperature_, axis=1), rtol=1e-6
    )


def test_kernel_ridge_has_the_least_leave_one_out_error():
    X, y = make_table(3)
    head = KernelRidgeHead().fit(X, y)
    rows, prior = whitened(X, X, y), np.exp(prior_of(head, X))

    def error(sharpness, ridge):
        total = 0
        for i in range(len(y)):
            rest = np.delete(np.arange(len(y)), i)
            gram = cosine_kernel(rows[rest], rows[rest], sharpness) + ridge * np.eye(len(rest))
            dual = np.linalg.solve(gram, np.eye(4)[y[rest]] - prior[rest])
            predicted = prior[i] + cosine_kernel(rows[[i]], rows[rest], sharpness)[0] @ dual
            total += np.sum((np.eye(4)[y[i]] - predicted) ** 2)
        return total

    least = error(head.sharpness_, head.ridge_)
    for sharpness in (0.5, 2.0, 8.0):
        for ridge in np.geomspace(1e-2, 1e2, 9):
            assert error(sharpness, ridge) >= least - 1e-9


def test_kernel_ridge_with_one_row_per_class():
    X, y = make_table(1)
    head = KernelRidgeHead().fit(X, y)
    assert (head.sharpness_, head.ridge_, head.temperature_) == (2.0, 1.0, 0.1)


def log_marginal_likelihood(head, X, y):
    """That of scikit-learn's process, per class: exp(-s (1 - cos)) is an RBF on unit rows."""
    parts = [whitened(X, X, y, [b]) for b in ("m0", "m1")]
    gram = sum(
        scale * cosine_kernel(rows, rows, sharpness)
        for scale, sharpness, rows in zip(head.scales_, head.sharpnesses_, parts, strict=True)
    )
    gram += head.ridge_ * np.eye(len(y))
    residual = np.eye(4)[y] - np.exp(prior_of(head, X))
    # The targets are in units of their own variance.
    residual /= np.sqrt(np.mean(residual**2))
    _, log_det = np.linalg.slogdet(gram)
    return -np.sum(residual * np.linalg.solve(gram, residual)) / 2 - 2 * log_det


def test_multi_kernel_maximises_the_marginal_likelihood():
    X, y = make_table(6)
    head = MultiKernelHead().fit(X, y)
    best = log_marginal_likelihood(head, X, y)
    rng = np.random.default_rng(0)
    for _ in range(40):
        other = clone(head).fit(X, y)
        other.scales_ = np.clip(head.scales_ * np.exp(0.1 * rng.normal(size=2)), 1e-4, 1e2)
        other.sharpnesses_ = np.clip(head.sharpnesses_ * np.exp(0.1 * rng.normal(size=2)), 0.25, 32)
        other.ridge_ = np.clip(head.ridge_ * np.exp(0.1 * rng.normal()), 1e-2, 1e2)
        assert log_marginal_likelihood(other, X, y) <= best + 1e-3


def test_multi_kernel_is_scikit_learns_gaussian_process():
    X, y = make_table(4, widths=(6,))
    X_new, _ = make_table(5, widths=(6,), seed=1)
    head = MultiKernelHead().fit(X, y)
    # exp(-s (1 - a b)) is exp(-s |a - b|^2 / 2) for rows of length one.
    kernel = ConstantKernel(head.scales_[0]) * RBF(head.sharpnesses_[0] ** -0.5)
    process = GaussianProcessRegressor(kernel + WhiteKernel(head.ridge_), optimizer=None, alpha=0)
    prior = [
        log_softmax(average_log_proba(Z, ["m0"]) / head.prior_temperature_, axis=1)
        for Z in (X, X_new)
    ]
    process.fit(whitened(X, X, y, ["m0"]), np.eye(4)[y] - np.exp(prior[0]))
    scores = np.exp(prior[1]) + process.predict(whitened(X_new, X, y, ["m0"]))
    np.testing.assert_allclose(
        head.predict_proba(X_new), softmax(scores / head.temperature_, axis=1), rtol=1e-6
    )


def test_multi_kernel_leave_one_out_is_a_refit():
    X, y = make_table(3)
    head = MultiKernelHead().fit(X, y)
    prior = np.exp(prior_of(head, X))
    features = [whitened(X, X, y, [b]) for b in ("m0", "m1")]
    residual = np.eye(4)[y] - prior
    held_out = head._choose(features, residual, y, np.ones(len(y)))
    gram = head._kernel(features, features)
    for i in range(len(y)):
        rest = np.delete(np.arange(len(y)), i)
        dual = np.linalg.solve(
            gram[np.ix_(rest, rest)] + head.ridge_ * np.eye(len(rest)), residual[rest]
        )
        np.testing.assert_allclose(held_out[i], gram[i, rest] @ dual, atol=1e-9)


def test_multi_kernel_fades_a_backbone_of_noise():
    X, y = make_table(8, noise=0.3)
    noise = [name for name in X if name.startswith("m1__embedding")]
    X[noise] = np.random.default_rng(0).normal(size=(len(X), len(noise)))
    head = MultiKernelHead().fit(X, y)
    # What the noise's kernel says of another row, against what the other's does.
    at_random = head.scales_ * np.exp(-head.sharpnesses_ * 0.5)
    assert at_random[1] < 0.1 * at_random[0]


# Linear heads


@pytest.mark.parametrize("widths", [(6, 8), (30, 40)])
def test_logistic_head_is_logistic_regression(widths):
    X, y = make_table(5, widths=widths)
    head = LogisticHead().fit(X, y)
    rows = whitened(X, X, y)
    control = LogisticRegression(C=1 / head.ridge_, fit_intercept=False, tol=1e-10, max_iter=10000)
    control.fit(rows, y)
    np.testing.assert_allclose(head.predict_proba(X), control.predict_proba(rows), rtol=1e-4)


def test_logistic_head_does_not_see_the_logits():
    X, y = make_table(4)
    other = X.copy()
    other[[name for name in X if "__logit__" in name]] = 0.0
    np.testing.assert_array_equal(
        LogisticHead().fit(X, y).predict_proba(X), LogisticHead().fit(other, y).predict_proba(other)
    )


def test_anchored_head_is_at_the_optimum():
    X, y = make_table(4)
    head = AnchoredLinearHead().fit(X, y)
    rows, prior = whitened(X, X, y), prior_of(head, X)
    proba = softmax(prior + rows @ head.coef_, axis=1)
    np.testing.assert_allclose(head.predict_proba(X), proba)
    slope = rows.T @ (proba - np.eye(4)[y]) + head.ridge_ * head.coef_
    np.testing.assert_allclose(slope, 0, atol=1e-5)


@pytest.mark.parametrize("ridge", [0.1, 1.0])
@pytest.mark.parametrize("widths", [(6, 8), (30, 40)])
def test_linear_leave_one_out_is_close_to_a_refit(widths, ridge):
    X, y = make_table(4, widths=widths)
    rows, offset, weight = whitened(X, X, y), average_log_proba(X), np.ones(len(y))
    coef = linear._fit_softmax(rows, offset, y, weight, ridge)
    ours = linear._leave_one_out(rows, offset, y, weight, ridge, coef)
    refits = np.empty_like(ours)
    for i in range(len(y)):
        rest = np.delete(np.arange(len(y)), i)
        refit = linear._fit_softmax(rows[rest], offset[rest], y[rest], weight[rest], ridge)
        refits[i] = offset[i] + rows[i] @ refit

    def loss(scores):
        return -np.mean(scores[np.arange(len(y)), y] - logsumexp(scores, axis=1))

    in_sample = loss(offset + rows @ coef)
    assert abs(loss(ours) - loss(refits)) < 0.2 * (loss(refits) - in_sample)


def test_linear_ridge_with_one_row_per_class():
    X, y = make_table(1)
    assert AnchoredLinearHead().fit(X, y).ridge_ == 0.3


def test_noise_asks_for_a_stiffer_ridge():
    clear = LogisticHead().fit(*make_table(8, noise=0.1))
    noisy = LogisticHead().fit(*make_table(8, noise=3.0))
    assert noisy.ridge_ > clear.ridge_


# Shared parts


def test_span_keeps_inner_products():
    rows = np.random.default_rng(0).normal(size=(5, 9))
    coordinates, basis = span_of(rows)
    assert coordinates.shape == (5, 5)
    np.testing.assert_allclose(coordinates @ basis, rows)
    np.testing.assert_allclose(basis @ basis.T, np.eye(5), atol=1e-12)
    tall, basis = span_of(rows.T)
    np.testing.assert_array_equal(tall @ basis, rows.T)


def test_few_of_each():
    codes = np.array([0] * 10 + [1] * 2 + [2] * 5)
    assert few_of_each(codes, 100).tolist() == list(range(17))
    chosen = few_of_each(codes, 7)
    assert np.bincount(codes[chosen]).tolist() == [3, 2, 3]
    assert chosen.tolist() == [0, 1, 2, 10, 11, 12, 13, 14]


def test_unseen_classes_get_the_mean_score():
    scores = np.array([[1.0, 3.0], [0.0, -2.0]])
    filled = fill_unseen(scores, np.array([True, False, True]))
    assert filled.tolist() == [[1, 2, 3], [0, -1, -2]]


@pytest.mark.parametrize("total", [0.5, 1.0, 1.9])
def test_gda_is_not_sure_of_everything_with_small_weights(total):
    rng = np.random.default_rng(0)
    y = np.arange(40) % 5
    X = rng.normal(size=(40, 16)) + np.repeat(np.eye(5), 4, axis=1)[:, :16][y]
    head = GDAHead(layout=Layout({"a": 8, "b": 8}))
    head.fit(X, y, sample_weight=np.full(40, total / 40))
    assert head.predict_proba(rng.normal(size=(200, 16))).max(axis=1).mean() < 0.9
