"""Activations, perceptrons, layers with random numbers of a given generator, custom networks."""

from contextlib import contextmanager
from copy import deepcopy
from itertools import pairwise
from threading import Lock

import torch
from torch import Tensor, nn

# The layers of torch draw initial weights from the global generator: one thread at a time.
_LOCK = Lock()

# Layers whose weights skae draws: torch draws from its global generator, as other threads may.
_DRAWN = (nn.Linear, nn.modules.conv._ConvNd)

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


class Stored(nn.Module):
    """A module of skae that `skae.save` writes: its attributes, tensors and children."""


def perceptron(sizes, activation):
    """Linear layers of the given ``sizes``, with an activation between them."""
    layers = []
    for n_inputs, n_outputs in pairwise(sizes[:-1]):
        layers += [nn.Linear(n_inputs, n_outputs), ACTIVATIONS[activation]()]
    return nn.Sequential(*layers, nn.Linear(sizes[-2], sizes[-1]))


def initialised(generator, make, *args, **kwargs):
    """The network ``make(*args, **kwargs)`` with initial weights drawn from ``generator``.

    Weights of linear and convolutional layers are uniform in ``+-1 / sqrt(fan_in)``, as in torch.
    A network with layers of other kinds is initialised by torch, from a seed.

    Examples
    --------
    >>> import torch
    >>> seeds = (torch.Generator().manual_seed(0) for _ in range(2))
    >>> one, same = (initialised(seed, nn.GRU, 3, 2) for seed in seeds)
    >>> torch.equal(one.weight_hh_l0, same.weight_hh_l0)
    True
    """
    with torch.device("meta"):  # torch draws no numbers on this device
        network = make(*args, **kwargs).float()
    layers = [layer for layer in network.modules() if layer._parameters]
    if not all(isinstance(layer, _DRAWN) for layer in layers):
        with _seeded(int(torch.randint(2**62, (), generator=generator))), torch.device("cpu"):
            return make(*args, **kwargs).float()
    network.to_empty(device="cpu")
    with torch.no_grad():
        for layer in layers:
            bound = layer.weight[0].numel() ** -0.5
            for weight in layer.parameters(recurse=False):
                weight.uniform_(-bound, bound, generator=generator)
    return network


@contextmanager
def _seeded(seed):
    """Numbers of torch's global generator come from a seed; afterwards it is as it was."""
    with _LOCK, torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


def zero_last_layer(network):
    """Set the last layer with weights to zero, so that ``network`` returns zero until trained."""
    last = [layer for layer in network.modules() if hasattr(layer, "weight")][-1]
    nn.init.zeros_(last.weight)
    if last.bias is not None:
        nn.init.zeros_(last.bias)
    return network


class Gain(Stored):
    """``weight * x + bias``; after `zero_last_layer` any network in front of it returns zero."""

    def __init__(self, shape):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(shape, dtype=torch.float32))
        self.bias = nn.Parameter(torch.zeros(shape, dtype=torch.float32))

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * x + self.bias


class RandomLayer(Stored):
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


def custom_network(custom, name, inputs, outputs, seed, *, with_gain, one_row=False, memo=None):
    """A copy of the user's module, or the module that the user's callable returns.

    A module that takes float32 alone gets float32, whatever the type of X.

    Parameters
    ----------
    custom : Module or callable
        A callable is called with ``inputs`` and ``outputs``; ``seed`` sets its initial weights.
    name : str
        Name of the parameter, for error messages.
    inputs, outputs : int or tuple of int
        Shape of one row of the network's input and output.
    seed : int
    with_gain : bool
        Whether to append a `Gain`, which allows the network to start at zero.
    one_row : bool, default=False
        Whether training batches have a single row.
    memo : dict, default=None
        Copies so far, by `copy.deepcopy`: what encoder and decoder share stays shared.

    Raises
    ------
    ValueError
        If the network does not map rows of one shape to rows of the other.
    """
    if isinstance(custom, nn.Module):
        network = _copied(custom, name, memo)
    else:
        network = _call(custom, name, inputs, outputs, seed)
    inputs_of_row, outputs_of_row = (_as_tuple(sizes) for sizes in (inputs, outputs))
    _check_output(network, name, inputs_of_row, outputs_of_row)
    if not _takes_float64(network, inputs_of_row):
        network = InFloat32(network)
    if one_row:
        check_one_row(network, name, inputs, "batch_size=1")
    network = _with_seeded_dropout(network).float()
    return nn.Sequential(network, Gain(outputs)) if with_gain else network


def check_one_row(network, name, inputs, cause):
    """Raise ValueError if the network cannot be trained on one row, as with batch normalisation.

    Parameters
    ----------
    network : Module
    name : str
        Name of the parameter, for the error message.
    inputs : int or tuple of int
        Shape of one row.
    cause : str
        The reason for training on one row, for the error message.
    """
    try:
        with _LOCK, torch.random.fork_rng(devices=[]), torch.no_grad():
            deepcopy(network).train()(torch.zeros(1, *_as_tuple(inputs)))
    except (RuntimeError, ValueError) as error:
        raise ValueError(
            f"{cause} is too small for {name}, which cannot be trained on one row: {error}"
        ) from error


def _call(make, name, inputs, outputs, seed):
    """The network that the user's callable returns."""
    with _seeded(seed):
        try:
            network = make(inputs, outputs)
        except (RuntimeError, TypeError, ValueError) as error:
            raise ValueError(
                f"{name} must be a torch.nn.Module or make one when it is called with "
                f"({inputs}, {outputs}), but {make!r} fails: {error}"
            ) from error
    if not isinstance(network, nn.Module):
        raise ValueError(f"{name} must make a torch.nn.Module, got {type(network).__name__}.")
    return network


def _copied(module, name, memo):
    """A copy of the user's module."""
    try:
        with torch.no_grad():  # a scripted module keeps its leaves
            return deepcopy(module, memo)
    except (RuntimeError, TypeError) as error:
        raise ValueError(
            f"{name} must be a module that can be copied, but copying it fails ({error}): pass a "
            f"function that makes it."
        ) from error


class InFloat32(nn.Module):
    """A custom network that computes in float32, for rows of any type."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def _apply(self, fn, recurse=True):
        super()._apply(fn, recurse)
        self.network.float()  # whatever type the others are converted to
        return self

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x.float()).to(x.dtype)


def _takes_float64(network, inputs):
    """Whether the network can be converted to float64, as all layers of torch can."""
    if all(type(layer).__module__.startswith("torch.nn.") for layer in network.modules()):
        return True
    try:
        with torch.no_grad():
            rows = torch.zeros(2, *inputs, dtype=torch.float64)
            return deepcopy(network).double()(rows).dtype == torch.float64
    except (RuntimeError, ValueError, TypeError):
        return False


def _check_output(network, name, inputs, outputs):
    """Raise ValueError unless two rows of zeros give floats of the expected shape."""
    expected = f"{name} must turn rows of shape {inputs} into rows of shape {outputs}"
    try:
        # A module may keep a tensor of its first pass: inference_mode would bar it from training.
        with torch.no_grad():
            rows = torch.zeros(2, *inputs, dtype=torch.float32)
            result = network.float().cpu().eval()(rows)
    except (RuntimeError, ValueError, TypeError) as error:
        raise ValueError(f"{expected}, but fails on such rows: {error}") from error
    found = getattr(result, "shape", type(result).__name__)
    if found != (2, *outputs):
        found = tuple(found[1:]) if isinstance(found, torch.Size) else found
        raise ValueError(f"{expected}, but returns {found}.")
    if not (isinstance(result, Tensor) and result.is_floating_point()):
        kind = result.dtype if isinstance(result, Tensor) else type(result).__name__
        raise ValueError(f"{expected} of floats, but returns {kind}.")


def _as_tuple(sizes):
    return (sizes,) if isinstance(sizes, int) else tuple(sizes)


def _with_seeded_dropout(network):
    """The network with each `torch.nn.Dropout` replaced by a `Dropout` with its own generator."""
    if type(network) is nn.Dropout:
        return Dropout(network.p)
    for name, child in network.named_children():
        setattr(network, name, _with_seeded_dropout(child))
    return network
