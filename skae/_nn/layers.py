"""Activations, perceptrons, and layers that draw random numbers from a given generator."""

from contextlib import contextmanager
from itertools import pairwise

import torch
from torch import Tensor, nn

# The one list of activations: parameters, files and export read their names and classes here.
ACTIVATIONS = {
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "relu": nn.ReLU,
    "sigmoid": nn.Sigmoid,
    "silu": nn.SiLU,
    "softplus": nn.Softplus,
    "tanh": nn.Tanh,
}


def perceptron(sizes, activation, dropout=0.0):
    """Linear layers of the given ``sizes``, with an activation and a dropout between them."""
    layers = []
    for n_inputs, n_outputs in pairwise(sizes[:-1]):
        layers += [nn.Linear(n_inputs, n_outputs), ACTIVATIONS[activation]()]
        if dropout:
            layers.append(Dropout(dropout))
    return nn.Sequential(*layers, nn.Linear(sizes[-2], sizes[-1]))


def initialised(generator, make, *args, **kwargs):
    """The network ``make(*args, **kwargs)`` with initial weights drawn from ``generator``.

    Weights of linear and convolutional layers are uniform in ``+-1 / sqrt(fan_in)``, as in torch.

    Examples
    --------
    >>> import torch
    >>> seeds = (torch.Generator().manual_seed(0) for _ in range(2))
    >>> one, same = (initialised(seed, nn.Linear, 3, 2) for seed in seeds)
    >>> torch.equal(one.weight, same.weight)
    True
    """
    with torch.device("meta"):  # torch draws no numbers on this device
        network = make(*args, **kwargs).float()
    network.to_empty(device="cpu")
    with torch.no_grad():
        for layer in network.modules():
            if hasattr(layer, "weight"):
                bound = layer.weight[0].numel() ** -0.5
                layer.weight.uniform_(-bound, bound, generator=generator)
                layer.bias.uniform_(-bound, bound, generator=generator)
    return network


def zero_last_layer(network):
    """Set the last layer with weights to zero, so that ``network`` returns zero until trained."""
    last = [layer for layer in network.modules() if hasattr(layer, "weight")][-1]
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return network


class Gain(nn.Module):
    """``weight * x + bias``; after `zero_last_layer` any network in front of it returns zero."""

    def __init__(self, shape):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(shape, dtype=torch.float32))
        self.bias = nn.Parameter(torch.zeros(shape, dtype=torch.float32))

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * x + self.bias


class RandomLayer(nn.Module):
    """A layer that draws random numbers in training, from the generator of `use_generator`."""

    generator = None

    def normal(self, like):
        """Standard normal numbers in the shape of a tensor."""
        return torch.empty_like(like).normal_(generator=self.generator)


class Dropout(RandomLayer):
    """In training, zero with probability ``p``, otherwise ``x / (1 - p)``."""

    def __init__(self, p):
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        kept = torch.empty_like(x).bernoulli_(1 - self.p, generator=self.generator)
        return x * kept.div_(1 - self.p)

    def extra_repr(self):
        return f"p={self.p}"


class Corruption(RandomLayer):
    """In training, zero with probability ``masked``, otherwise ``x + noise e`` with normal e."""

    def __init__(self, masked, noise):
        super().__init__()
        self.masked = masked
        self.noise = noise

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        if self.noise:
            x = x + self.noise * self.normal(x)
        return x * torch.empty_like(x).bernoulli_(1 - self.masked, generator=self.generator)

    def extra_repr(self):
        return f"masked={self.masked}, noise={self.noise}"


def with_corruption(network, masked, noise):
    """``network`` with a `Corruption` of its input, unless ``masked`` and ``noise`` are zero."""
    return nn.Sequential(Corruption(masked, noise), network) if masked or noise else network


@contextmanager
def use_generator(generator, module):
    """Make every `RandomLayer` of ``module`` draw from ``generator``, on the same device."""
    layers = [layer for layer in module.modules() if isinstance(layer, RandomLayer)]
    for layer in layers:
        layer.generator = generator
    try:
        yield generator
    finally:
        for layer in layers:
            layer.generator = None
