"""Activations, perceptrons, and layers that draw random numbers from generators of their own."""

from contextlib import contextmanager
from itertools import pairwise

import torch
from torch import Tensor, nn

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
    """Linear layers of the given ``sizes``, an activation and a dropout between each two."""
    layers = []
    for n_inputs, n_outputs in pairwise(sizes[:-1]):
        layers += [nn.Linear(n_inputs, n_outputs), ACTIVATIONS[activation]()]
        if dropout:
            layers.append(Dropout(dropout))
    return nn.Sequential(*layers, nn.Linear(sizes[-2], sizes[-1]))


def corrupted(network, masked, noise):
    """``network`` behind a `Corruption` of its input, if there is any."""
    return nn.Sequential(Corruption(masked, noise), network) if masked or noise else network


def starting_at_zero(network):
    """``network``, its last layer with weights set to zero: it returns zero until it learns."""
    last = [layer for layer in network.modules() if hasattr(layer, "weight")][-1]
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return network


def drawn(generator, make, *args, **kwargs):
    """The network ``make(*args, **kwargs)``, its first weights drawn from ``generator``.

    Those of linear and convolutional layers are uniform in ``+-1 / sqrt(fan_in)``, as torch has
    them.

    Examples
    --------
    >>> import torch
    >>> one, same = (drawn(torch.Generator().manual_seed(0), nn.Linear, 3, 2) for _ in range(2))
    >>> torch.equal(one.weight, same.weight)
    True
    """
    with torch.device("meta"):  # where nothing is drawn
        network = make(*args, **kwargs).float()
    network.to_empty(device="cpu")
    with torch.no_grad():
        for layer in network.modules():
            if hasattr(layer, "weight"):
                bound = layer.weight[0].numel() ** -0.5
                layer.weight.uniform_(-bound, bound, generator=generator)
                layer.bias.uniform_(-bound, bound, generator=generator)
    return network


class RandomLayer(nn.Module):
    """A layer that draws in training, inside of `drawing_from` only."""

    generator = None

    def normal(self, like):
        """Standard normal numbers of the shape of a tensor."""
        return torch.empty_like(like).normal_(generator=self.generator)


class Dropout(RandomLayer):
    """In training, zero with probability ``p`` and else ``x / (1 - p)``."""

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
    """In training, zero with probability ``masked``, else ``x + noise e`` for standard normal e."""

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


@contextmanager
def drawing_from(generator, module):
    """Let every layer of ``module`` that draws do so from ``generator``, on the same device."""
    layers = [layer for layer in module.modules() if isinstance(layer, RandomLayer)]
    for layer in layers:
        layer.generator = generator
    try:
        yield generator
    finally:
        for layer in layers:
            layer.generator = None
