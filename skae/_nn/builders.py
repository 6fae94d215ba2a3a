"""Networks that the parameters name, custom networks, and whether they fit into memory."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from threading import Lock

import torch
from torch import Tensor, nn

from .._runtime.device import free_bytes
from .autoencoders import (
    LinearPathAutoencoder,
    PlainAutoencoder,
    ResidualAutoencoder,
    VariationalAutoencoder,
    with_networks_of,
)
from .conv import Fold, Unfold, conv_decoder, conv_encoder, conv_refiner
from .layers import Dropout, corrupted, drawn, perceptron
from .losses import Loss
from .penalties import ContractivePenalty, SparsityPenalty, completed, ordered

PENALTIES = {"l1": SparsityPenalty, "contractive": ContractivePenalty}


def plain_autoencoder(latent_dim, encoder, decoder, loss, activation, penalty, alpha):
    """A `PlainAutoencoder`, with a penalty of `PENALTIES`, or "variational", or None."""
    if penalty == "variational":
        return VariationalAutoencoder(
            alpha, latent_dim, encoder, decoder, loss, activation=activation
        )
    module = PlainAutoencoder(latent_dim, encoder, decoder, loss, activation=activation)
    if penalty is not None:
        module.penalties.append(PENALTIES[penalty](alpha))
    return module


# torch's own layers draw their weights from what the whole process shares: one at a time.
_LOCK = Lock()


class Gain(nn.Module):
    """``weight * x + bias``: with both at zero any network starts at zero."""

    def __init__(self, shape):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(shape, dtype=torch.float32))
        self.bias = nn.Parameter(torch.zeros(shape, dtype=torch.float32))

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * x + self.bias


def custom_network(given, name, inputs, outputs, seed, *, with_gain, one_row=False):
    """A copy of the module that was given, or what the function that was given makes.

    Parameters
    ----------
    given : Module or callable
        A callable is called with ``inputs`` and ``outputs``, and its random weights have ``seed``.
    name : str
        The parameter that it is the value of.
    inputs, outputs : int or tuple of int
        Shape of one row of what it takes and returns.
    seed : int
    with_gain : bool
        Whether a `Gain` follows, so that it can start at zero.
    one_row : bool, default=False
        Whether it will be trained on single rows.
    """
    if isinstance(given, nn.Module):
        network = deepcopy(given)
    else:
        network = _made(given, name, inputs, outputs, seed)
    _check_shapes(network, name, *(_shape(sizes) for sizes in (inputs, outputs)))
    if one_row:
        check_one_row(network, name, inputs, "batch_size=1")
    network = _with_own_dropout(network).float()
    return nn.Sequential(network, Gain(outputs)) if with_gain else network


def _made(given, name, inputs, outputs, seed):
    """What the function that was given makes."""
    with _LOCK, torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        try:
            network = given(inputs, outputs)
        except (RuntimeError, TypeError, ValueError) as error:
            raise ValueError(
                f"{name} must be a torch.nn.Module or make one when it is called with "
                f"({inputs}, {outputs}), but {given!r} fails: {error}"
            ) from error
    if not isinstance(network, nn.Module):
        raise ValueError(f"{name} must make a torch.nn.Module, got {type(network).__name__}.")
    return network


def _shape(sizes):
    return (sizes,) if isinstance(sizes, int) else tuple(sizes)


def _check_shapes(network, name, inputs, outputs):
    """Raise ValueError if two rows of zeros do not go through as they should."""
    expected = f"{name} must turn rows of shape {inputs} into rows of shape {outputs}"
    try:
        with torch.inference_mode():
            rows = torch.zeros(2, *inputs, dtype=torch.float32)
            result = network.float().cpu().eval()(rows)
    except (RuntimeError, ValueError, TypeError) as error:
        raise ValueError(f"{expected}, but fails on the former: {error}") from error
    found = getattr(result, "shape", type(result).__name__)
    if found != (2, *outputs):
        found = tuple(found[1:]) if isinstance(found, torch.Size) else found
        raise ValueError(f"{expected}, but returns {found}.")


def check_one_row(network, name, inputs, cause):
    """Raise ValueError if the network cannot be trained on one row, as with batch normalisation.

    Parameters
    ----------
    network : Module
    name : str
        The parameter that it is the value of.
    inputs : int or tuple of int
        Shape of one row.
    cause : str
        What the sentence names as the reason for training on one row.
    """
    try:
        with _LOCK, torch.random.fork_rng(devices=[]), torch.no_grad():
            deepcopy(network).train()(torch.zeros(1, *_shape(inputs)))
    except (RuntimeError, ValueError) as error:
        raise ValueError(
            f"{cause} is too small for {name}, which cannot be trained on one row: {error}"
        ) from error


def _with_own_dropout(network):
    """The network with every `torch.nn.Dropout` replaced by one with a generator of its own."""
    if type(network) is nn.Dropout:
        return Dropout(network.p)
    for name, child in network.named_children():
        setattr(network, name, _with_own_dropout(child))
    return network


# Training holds each weight in float32, its gradient and two moments of AdamW.
_BYTES_PER_WEIGHT = 4 * 4


def bytes_to_train(build: Callable[[], nn.Module]) -> int:
    """What training the module takes, batches apart; ``build`` is run without memory or numbers."""
    try:
        with torch.device("meta"):
            module = build()
    except RuntimeError:  # more than torch can count
        return float("inf")
    return _BYTES_PER_WEIGHT * sum(weight.numel() for weight in module.parameters())


def refuse_too_large(sizes, device, *, linear_path, n_networks=2):
    """Raise MemoryError, with what would fit, if perceptrons of these sizes do not.

    Parameters
    ----------
    sizes : list of int
        Width of the encoder's input, hidden layers and code; the decoder mirrors them.
    device : device
    linear_path : bool
        Whether the input is principal component scores, not the columns of X.
    n_networks : int
        1 for a decoder alone.
    """
    n_inputs, *hidden, latent_dim = sizes
    needed, available = _bytes_of_layers(sizes, n_networks), free_bytes(device)
    if needed <= available:
        return
    width = 2048
    while width > 1 and _bytes_of_layers([n_inputs, width, latent_dim], n_networks) > available:
        width //= 2
    fitting = _bytes_of_layers([n_inputs, width, latent_dim], n_networks)
    inputs, advice = "principal component scores", ""
    if not linear_path:
        inputs = "columns"
        advice = ", and linear_path=True trains on principal component scores and needs none of it"
    raise MemoryError(
        f"hidden_layer_sizes={tuple(hidden)} and latent_dim={latent_dim} on {n_inputs} {inputs} "
        f"need {_gigabytes(needed)} to train, but {_gigabytes(available)} are available: "
        f"hidden_layer_sizes=({width},) needs {_gigabytes(fitting)}{advice}."
    )


def refuse_too_large_module(build, parameters, device):
    """Raise MemoryError if training what ``build`` makes needs more than there is.

    Parameters
    ----------
    build : callable
        Makes the module; run without memory.
    parameters : dict
        What its size follows from, by name.
    device : device
    """
    needed, available = bytes_to_train(build), free_bytes(device)
    if needed > available:
        given = ", ".join(f"{name}={value!r}" for name, value in parameters.items())
        raise MemoryError(
            f"{given} need {_gigabytes(needed)} to train, but {_gigabytes(available)} are "
            f"available."
        )


def _gigabytes(n_bytes):
    return f"{n_bytes / 1e9:,.1f} GB"


def _bytes_of_layers(sizes, n_networks):
    """What training perceptrons of these sizes, mirrored or not, takes."""
    return n_networks * bytes_to_train(lambda: perceptron(sizes, "relu"))


@dataclass(frozen=True)
class NetworkSettings:
    """What the parameters of an estimator determine of its networks.

    Attributes
    ----------
    latent_dim : int
    linear_path : bool
        Whether networks are added to PCA.
    lengths : tuple of int
        Lengths that codes may be cut to.
    loss : type of Loss
    activation, output_activation, penalty, alpha, encoder, decoder, noise
        The parameters of these names.
    masked : float
        Share of the encoder's inputs that are masked in training.
    one_row : bool
        Whether batches have a single row.
    previous : Module or None
        With ``warm_start``, a module whose networks training starts from.
    """

    latent_dim: int
    linear_path: bool
    lengths: tuple
    loss: type[Loss]
    activation: str
    output_activation: str | None
    penalty: str | None
    alpha: float
    encoder: object
    decoder: object
    masked: float
    noise: float
    one_row: bool
    previous: nn.Module | None = None


class Networks(ABC):
    """Makes the networks of an autoencoder: custom ones where they are given, else ours.

    Parameters
    ----------
    settings : NetworkSettings
    """

    memory_format = torch.preserve_format

    def __init__(self, settings):
        self.settings = settings

    @property
    def has_custom(self):
        return self.settings.encoder is not None or self.settings.decoder is not None

    @property
    def n_encoded(self):
        """How many outputs an encoder has."""
        k = self.settings.latent_dim
        return 2 * k if self.settings.penalty == "variational" else k

    def placed(self, module, device):
        """The module on a device, in the memory format that suits its layers."""
        return module.to(device=device, memory_format=self.memory_format)

    @abstractmethod
    def residual(self, seed, *fixed, encoder):
        """A fresh module that is PCA until it is trained, with or without a non-linear encoder."""

    @abstractmethod
    def plain(self, seed):
        """A fresh plain autoencoder."""

    def _plain(self, encoder, decoder):
        given = self.settings
        return self._finished(
            plain_autoencoder(
                given.latent_dim,
                encoder,
                decoder,
                given.loss(),
                given.output_activation,
                given.penalty,
                given.alpha,
            )
        )

    def _finished(self, module):
        """The module, for several lengths if there are any, with the networks of a previous fit.

        Networks of another shape, or that PCA had won over, start anew.
        """
        module = ordered(module, self.settings.lengths, self.settings.loss())
        return with_networks_of(self.settings.previous or nn.Module(), module)

    def _custom(self, name, inputs, outputs, seed):
        given = getattr(self.settings, name)
        with_gain, one_row = self.settings.linear_path, self.settings.one_row
        return custom_network(
            given, name, inputs, outputs, seed, with_gain=with_gain, one_row=one_row
        )

    def _corrupted(self, encoder):
        if encoder is None:
            return None
        return corrupted(encoder, self.settings.masked, self.settings.noise)

    def _completed(self, decoder, generator):
        return completed(decoder, self.settings.latent_dim, self.settings.lengths, generator)


class DenseNetworks(Networks):
    """Mirrored perceptrons.

    Parameters
    ----------
    settings : NetworkSettings
    n_inputs : int
        Columns, or scores with the linear path.
    hidden : tuple of int
        Widths of the encoder's hidden layers.
    dropout : float
    """

    def __init__(self, settings, n_inputs, hidden, dropout=0.0):
        super().__init__(settings)
        self.n_inputs = n_inputs
        self.hidden = hidden
        self.dropout = dropout

    def check(self, device, n_networks=2):
        """Raise an error if they cannot be made, or be trained on the device."""
        sizes = [self.n_inputs, *self.hidden, self.settings.latent_dim]
        if not self.has_custom:
            linear_path = self.settings.linear_path
            refuse_too_large(sizes, device, linear_path=linear_path, n_networks=n_networks)
        elif self.settings.linear_path:  # plain ones are made before long work anyway
            self.pair(0, True)

    def pair(self, seed, encoder):
        """Encoder, or None where it is not wanted, and decoder."""
        given, generator = self.settings, torch.Generator().manual_seed(seed)
        sizes, k = [self.n_inputs, *self.hidden, given.latent_dim], given.latent_dim
        f = None
        if encoder and given.encoder is not None:
            f = self._custom("encoder", self.n_inputs, self.n_encoded, seed)
        elif encoder:
            sizes_of_f = [self.n_inputs, *self.hidden, self.n_encoded]
            f = drawn(generator, perceptron, sizes_of_f, given.activation, self.dropout)
        if given.decoder is not None:
            g = self._custom("decoder", k, self.n_inputs, seed + 1)
        else:
            g = drawn(generator, perceptron, sizes[::-1], given.activation, self.dropout)
        return self._corrupted(f), self._completed(g, generator)

    def residual(self, seed, scale, *, encoder):
        f, g = self.pair(seed, encoder)
        return self._finished(ResidualAutoencoder(scale, self.settings.latent_dim, f, g))

    def plain(self, seed):
        return self._plain(*self.pair(seed, True))


class ConvNetworks(Networks):
    """Convolutions, and a refiner of the picture that PCA draws.

    Parameters
    ----------
    settings : NetworkSettings
    layout : Layout
    architecture : dict
        What `conv_encoder` and `conv_decoder` take beside layout and length.
    refiner_width : int
        Channels of the refiner; 0 for none.
    """

    memory_format = torch.channels_last

    def __init__(self, settings, layout, architecture, refiner_width):
        super().__init__(settings)
        self.layout = layout
        self.architecture = architecture
        self.refiner_width = refiner_width

    def check(self, device):
        """Raise an error if they cannot be made, or be trained on the device."""
        if self.has_custom:
            if self.settings.linear_path:  # plain ones are made before long work anyway
                self.three(0, True)
            return
        k, architecture = self.settings.latent_dim, self.architecture

        def build():
            encoder = conv_encoder(self.layout, self.n_encoded, **architecture)
            return nn.ModuleList([encoder, conv_decoder(self.layout, k, **architecture)])

        names = ("channels", "kernel_size", "n_convs_per_stage", "hidden_layer_sizes")
        sizes = {"latent_dim": k, **{name: architecture[name] for name in names}}
        refuse_too_large_module(build, sizes, device)

    def three(self, seed, encoder, refiner=False):
        """Encoder and refiner, or None where they are not wanted, and decoder."""
        given, generator = self.settings, torch.Generator().manual_seed(seed)
        network, layout = partial(drawn, generator), self.layout
        shape = (layout.n_channels, *layout.extents)
        f = h = None
        if encoder and given.encoder is not None:
            f = nn.Sequential(Unfold(layout), self._custom("encoder", shape, self.n_encoded, seed))
        elif encoder:
            f = network(conv_encoder, layout, self.n_encoded, **self.architecture)
        if given.decoder is not None:
            g = self._custom("decoder", given.latent_dim, shape, seed + 1)
            g = nn.Sequential(g, Fold(layout))
        else:
            g = network(conv_decoder, layout, given.latent_dim, **self.architecture)
            if refiner and self.refiner_width:
                width = self.refiner_width
                h = network(conv_refiner, layout, width, activation=given.activation)
        return self._corrupted(f), self._completed(g, generator), h

    def residual(self, seed, mean, directions, scale, *, encoder):
        f, g, h = self.three(seed, encoder, refiner=True)
        return self._finished(LinearPathAutoencoder(mean, directions, scale, f, g, h))

    def plain(self, seed):
        return self._plain(*self.three(seed, True)[:2])
