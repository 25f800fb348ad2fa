"""Networks that weight the backbones for every image: trained with torch, applied with numpy."""

from __future__ import annotations

from itertools import islice, pairwise
from numbers import Integral, Real
from typing import ClassVar

import numpy as np
from sklearn.utils import check_random_state, gen_batches

from sklearn_clipensemble._compat import Interval, StrOptions
from sklearn_clipensemble.baselines._combiner import ZeroShotCombiner
from sklearn_clipensemble.table._features import unit_rows
from sklearn_clipensemble.table._layout import Layout

# The output at which each map gives every backbone the same weight, one where it is free.
_START = {"softplus": np.log(np.expm1(1.0)), "softmax": 0.0, "exp": 0.0, "raw": 1.0}


def _batches(n_rows, batch_size, rng):
    """Yield the rows of one batch after another, in a new order at every pass."""
    while True:
        order = rng.permutation(n_rows) if n_rows > batch_size else np.arange(n_rows)
        for part in gen_batches(n_rows, batch_size):
            yield order[part]


def _forward(inputs, layers, weight_map, temperature, xp):
    """Return the weights of every row, with numpy or torch as ``xp``."""
    outputs = inputs
    for i, (coef, intercept) in enumerate(layers):
        if i:
            outputs = xp.maximum(outputs, xp.zeros_like(outputs))
        outputs = outputs @ coef + intercept
    if weight_map != "raw":
        outputs = xp.clip(outputs, -30.0, 30.0)  # far from any useful weight, and from overflow
    if weight_map == "softplus":
        outputs = xp.logaddexp(outputs, xp.zeros_like(outputs))
    elif weight_map == "softmax":
        outputs = xp.exp(outputs - outputs.max())
        outputs = outputs / outputs.sum(axis=1)[:, None]
    elif weight_map == "exp":
        outputs = xp.exp(outputs)
    return 1 / outputs if temperature == "divide" else outputs


class _NetworkMixin:
    """Weights from a network with one hidden layer, or none, on the concatenated features.

    Parameters
    ----------
    n_steps : int, default=500
        Steps of Adam.
    batch_size : int, default=256
        Rows per step.
    random_state : int, RandomState instance or None, default=None
        Decides the initial weights and the batches.

    Attributes
    ----------
    coefs_ : list of ndarray of shape (n_inputs, n_outputs)
        Weights of the layers.
    intercepts_ : list of ndarray of shape (n_outputs,)
        Their biases.
    """

    _parameter_constraints: ClassVar[dict] = {
        **ZeroShotCombiner._parameter_constraints,
        "n_steps": [Interval(Integral, 1, None, closed="left")],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "random_state": ["random_state"],
    }
    weight_map = "softmax"
    temperature = "multiply"
    feature_norm = "l2"
    learning_rate = 1e-3
    weight_decay = 0.01

    def __init__(
        self,
        *,
        n_steps: int = 500,
        batch_size: int = 256,
        layout: Layout | None = None,
        unread_label: str | float | None = None,
        random_state: int | np.random.RandomState | None = None,
    ):
        self.layout = layout
        self.unread_label = unread_label
        self.n_steps = n_steps
        self.batch_size = batch_size
        self.random_state = random_state

    def _hidden_width(self, n_inputs):
        """Return the width of the hidden layer; None for no such layer."""
        return None

    def _inputs(self, table):
        parts = [table.features(backbone) for backbone in table.backbones]
        if self.feature_norm == "l2":
            parts = [unit_rows(part) for part in parts]
        inputs = np.hstack(parts)
        if self.feature_norm == "standard":
            inputs = (inputs - self.mean_) / self.scale_
        return inputs

    def _learn(self, log_probas, table, codes, weight):
        if self.feature_norm == "standard":
            rows = np.hstack([table.features(backbone) for backbone in table.backbones])
            self.mean_ = np.average(rows, axis=0, weights=weight)
            scale = np.sqrt(np.average(np.square(rows - self.mean_), axis=0, weights=weight))
            self.scale_ = np.where(scale > 0, scale, 1)
        rng = check_random_state(self.random_state)
        inputs = self._inputs(table)
        widths = [inputs.shape[1], self._hidden_width(inputs.shape[1]), len(log_probas)]
        widths = [width for width in widths if width is not None]
        self.coefs_, self.intercepts_ = [], []
        for n_in, n_out in pairwise(widths):
            bound = 1 / np.sqrt(n_in)
            self.coefs_.append(rng.uniform(-bound, bound, size=(n_in, n_out)))
            self.intercepts_.append(rng.uniform(-bound, bound, size=n_out))
        self.coefs_[-1][:] = 0
        self.intercepts_[-1][:] = _START[self.weight_map]
        self._train(inputs, log_probas, codes, weight / weight.mean(), rng)

    def _train(self, inputs, log_probas, codes, weight, rng):
        """Run Adam on the negative log-likelihood and keep the layers as arrays."""
        import torch

        dtype = torch.from_numpy(inputs[:0]).dtype
        X = torch.from_numpy(np.ascontiguousarray(inputs))
        experts = torch.from_numpy(np.ascontiguousarray(log_probas.swapaxes(0, 1))).to(dtype)
        targets = torch.from_numpy(codes)
        weight = torch.from_numpy(weight).to(dtype)
        layers = [
            tuple(torch.tensor(array, dtype=dtype, requires_grad=True) for array in layer)
            for layer in zip(self.coefs_, self.intercepts_, strict=True)
        ]
        optimizer = torch.optim.Adam(
            [parameter for layer in layers for parameter in layer],
            lr=self.learning_rate,
            weight_decay=self.weight_decay,
        )
        for rows in islice(_batches(len(codes), self.batch_size, rng), self.n_steps):
            batch = torch.from_numpy(rows)
            weights = self._map(X[batch], layers, xp=torch)[:, :, None]
            if self._of_logits:
                scores = (weights * experts[batch]).sum(1)
            else:
                scores = torch.logsumexp(weights.log() + experts[batch], 1)
            scores = scores - torch.logsumexp(scores, 1, keepdim=True)
            losses = -scores[torch.arange(len(batch)), targets[batch]] * weight[batch]
            optimizer.zero_grad()
            losses.mean().backward()
            optimizer.step()
        self.coefs_ = [coef.detach().numpy().copy() for coef, _ in layers]
        self.intercepts_ = [intercept.detach().numpy().copy() for _, intercept in layers]

    def _map(self, inputs, layers, xp):
        return _forward(inputs, layers, self.weight_map, self.temperature, xp)

    def _weigh(self, log_probas, table):
        layers = list(zip(self.coefs_, self.intercepts_, strict=True))
        return self._map(self._inputs(table), layers, xp=np)


class NeuralLogitController(_NetworkMixin, ZeroShotCombiner):
    """A network that sets every backbone's temperature for every image (NLC).

    The concatenated features go through one hidden layer to one temperature per
    backbone; the logits are scaled by them and summed. The network is trained on
    the cross-entropy of the sum.

    Parameters
    ----------
    hidden_size : int, default=128
        Width of the hidden layer.
    weight_map : {"softplus", "softmax", "exp", "raw"}, default="softplus"
        What makes a temperature of the network's output. "raw" may be negative:
        a bilinear supervised classifier.
    temperature : {"multiply", "divide"}, default="multiply"
        What is done to the logits. Dividing needs a positive temperature.
    feature_norm : {"l2", "standard", "none"}, default="l2"
        Whether to bring each backbone's features to length one, or each column
        to mean 0 and deviation 1.
    learning_rate : float, default=2e-4
        Adam's step.
    weight_decay : float, default=0.01
        Adam's L2 penalty.

    Attributes
    ----------
    mean_, scale_ : ndarray of shape (n_inputs,)
        Mean and deviation of the features, with ``feature_norm="standard"``.

    Raises
    ------
    ValueError
        If ``weight_map="raw"`` is to divide.

    Notes
    -----
    The paper gives the inputs, the width, Adam, its rate and decay, the sum and
    the loss. Maps, norms, steps and batch size are ours, as are ReLU and a start
    at temperature one for every backbone.

    References
    ----------
    C. Rodriguez-Opazo et al., "Synergy and Diversity in CLIP", ICLR 2025.

    Examples
    --------
    >>> from sklearn_clipensemble import datasets, ensembles
    >>> X, y = datasets.load_cats_and_dogs()
    >>> ensembles.NeuralLogitController(random_state=0).fit(X, y).predict(X)
    array(['cat', 'cat', 'cat', 'dog', 'dog', 'dog'], dtype='<U3')
    """

    _of_logits = True
    _parameter_constraints: ClassVar[dict] = {
        **_NetworkMixin._parameter_constraints,
        "hidden_size": [Interval(Integral, 1, None, closed="left")],
        "weight_map": [StrOptions({"softplus", "softmax", "exp", "raw"})],
        "temperature": [StrOptions({"multiply", "divide"})],
        "feature_norm": [StrOptions({"l2", "standard", "none"})],
        "learning_rate": [Interval(Real, 0, None, closed="neither")],
        "weight_decay": [Interval(Real, 0, None, closed="left")],
    }

    def __init__(
        self,
        *,
        hidden_size: int = 128,
        weight_map: str = "softplus",
        temperature: str = "multiply",
        feature_norm: str = "l2",
        learning_rate: float = 2e-4,
        weight_decay: float = 0.01,
        n_steps: int = 500,
        batch_size: int = 256,
        layout: Layout | None = None,
        unread_label: str | float | None = None,
        random_state: int | np.random.RandomState | None = None,
    ):
        super().__init__(
            n_steps=n_steps,
            batch_size=batch_size,
            layout=layout,
            unread_label=unread_label,
            random_state=random_state,
        )
        self.hidden_size = hidden_size
        self.weight_map = weight_map
        self.temperature = temperature
        self.feature_norm = feature_norm
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay

    def _hidden_width(self, n_inputs):
        return self.hidden_size

    def _learn(self, log_probas, table, codes, weight):
        if self.weight_map == "raw" and self.temperature == "divide":
            raise ValueError(
                "weight_map='raw' can be zero or negative, which no logit can be divided by: "
                "use temperature='multiply', or another weight_map."
            )
        super()._learn(log_probas, table, codes, weight)


class SoftmaxGate(_NetworkMixin, ZeroShotCombiner):
    """A network that shares out weights between the backbones' logits (Beyond Sole Strength).

    The concatenated features go through a hidden layer of a 32nd of their
    width to one output per backbone, whose softmax are the weights.

    Notes
    -----
    The source applies the cross-entropy to probabilities; here it is applied
    to the weighted logits. Adam at 1e-3, its decay of 0.01, steps, batch size and
    the start at equal weights are ours.

    References
    ----------
    Z. Lu et al., "Beyond sole strength", ICML 2024, arXiv:2311.17091.

    Examples
    --------
    >>> from sklearn_clipensemble import datasets, ensembles
    >>> X, y = datasets.load_cats_and_dogs()
    >>> clf = ensembles.SoftmaxGate(random_state=0).fit(X, y)
    >>> clf.combination_weights(X[1:3]).round(1)
       large  small
    1    0.8    0.2
    2    0.5    0.5
    """

    _of_logits = True

    def _hidden_width(self, n_inputs):
        return max(n_inputs // 32, 1)


class MixtureOfExperts(_NetworkMixin, ZeroShotCombiner):
    """Probabilities averaged with weights that are linear in the features, through a softmax.

    The backbones are the experts of a mixture and the gate is trained on its
    likelihood; the experts stay as they are.

    Notes
    -----
    The optimiser is that of :class:`SoftmaxGate`.

    References
    ----------
    R. A. Jacobs et al., "Adaptive mixtures of local experts", Neural Computation 3, 1991.

    Examples
    --------
    >>> from sklearn_clipensemble import datasets, ensembles
    >>> X, y = datasets.load_cats_and_dogs()
    >>> clf = ensembles.MixtureOfExperts(random_state=0).fit(X, y)
    >>> clf.combination_weights(X[1:3]).round(1)
       large  small
    1    0.8    0.2
    2    0.5    0.5
    """
