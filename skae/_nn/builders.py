"""Networks from the parameters of an estimator, and memory checks before training."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import nn

from .._runtime.device import free_bytes
from .autoencoders import (
    LinearPathAutoencoder,
    PlainAutoencoder,
    ResidualAutoencoder,
    VariationalAutoencoder,
    copy_matching_weights,
)
from .conv import Fold, Unfold, conv_decoder, conv_encoder, conv_refiner
from .layers import custom_network, initialised, perceptron, with_corruption
from .losses import Loss
from .penalties import PENALTIES, with_completion, with_nested_loss

# Training stores each weight in float32, its gradient, two moments of AdamW, the average of the
# weights and the best average.
_BYTES_PER_WEIGHT = 4 * 6


@dataclass(frozen=True)
class NetworkSettings:
    """Settings of networks, from the parameters of an estimator.

    Attributes
    ----------
    latent_dim : int
    linear_path : bool
        Whether networks are added to PCA.
    lengths : tuple of int
        Lengths that codes may be truncated to.
    loss : type of Loss
    activation, output_activation, penalty, alpha, encoder, decoder, noise
        The parameters of these names.
    masked : float
        Share of the encoder's inputs that are masked in training.
    one_row : bool
        Whether batches have a single row.
    previous : Module or None
        With ``warm_start``, the module whose networks training continues.
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
    """Builds the networks of an autoencoder: custom networks if given, otherwise the default ones.

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
        """Number of outputs of an encoder."""
        k = self.settings.latent_dim
        return 2 * k if self.settings.penalty == "variational" else k

    def placed(self, module, device):
        """The module on a device, in the memory format of its layers."""
        return module.to(device=device, memory_format=self.memory_format)

    @abstractmethod
    def residual(self, seed, *fixed, encoder):
        """A new module that equals PCA until trained, with or without a non-linear encoder."""

    @abstractmethod
    def plain(self, seed):
        """A new plain autoencoder."""

    def _plain(self, encoder, decoder):
        """The plain or variational autoencoder of two networks."""
        given = self.settings
        parts = given.latent_dim, encoder, decoder, given.loss()
        activation = given.output_activation
        if given.penalty == "variational":
            module = VariationalAutoencoder(given.alpha, *parts, activation=activation)
        else:
            module = PlainAutoencoder(*parts, activation=activation)
        if given.penalty in PENALTIES:
            module.penalties.append(PENALTIES[given.penalty](given.alpha))
        return self._finished(module)

    def _finished(self, module):
        """The module with a loss of truncated codes, if any, and networks of a previous fit.

        Networks of another shape, or that the previous fit did not select, keep initial weights.
        """
        module = with_nested_loss(module, self.settings.lengths, self.settings.loss())
        return copy_matching_weights(self.settings.previous or nn.Module(), module)

    def _custom(self, name, inputs, outputs, seed, memo):
        given = getattr(self.settings, name)
        with_gain, one_row = self.settings.linear_path, self.settings.one_row
        return custom_network(
            given, name, inputs, outputs, seed, with_gain=with_gain, one_row=one_row, memo=memo
        )

    def _corrupted(self, encoder):
        if encoder is None:
            return None
        return with_corruption(encoder, self.settings.masked, self.settings.noise)

    def _completed(self, decoder, generator):
        return with_completion(decoder, self.settings.latent_dim, self.settings.lengths, generator)


class DenseNetworks(Networks):
    """Mirrored perceptrons.

    Parameters
    ----------
    settings : NetworkSettings
    n_inputs : int
        Number of columns, or of scores with the linear path.
    hidden : tuple of int
        Widths of the encoder's hidden layers.
    """

    def __init__(self, settings, n_inputs, hidden):
        super().__init__(settings)
        self.n_inputs = n_inputs
        self.hidden = hidden

    def __str__(self):
        return f"networks of hidden_layer_sizes={self.hidden}" if self.hidden else "custom networks"

    def check(self, device, n_networks=2):
        """Raise an error if the networks cannot be built, or not be trained on the device."""
        sizes = [self.n_inputs, *self.hidden, self.settings.latent_dim]
        if not self.has_custom:
            linear_path = self.settings.linear_path
            check_perceptron_memory(sizes, device, linear_path=linear_path, n_networks=n_networks)
        elif self.settings.linear_path:  # plain networks are built before long work anyway
            self.pair(0, True)

    def pair(self, seed, encoder):
        """Encoder, or None without ``encoder``, and decoder."""
        given, generator = self.settings, torch.Generator().manual_seed(seed)
        sizes, k = [self.n_inputs, *self.hidden, given.latent_dim], given.latent_dim
        f, copies = None, {}
        if encoder and given.encoder is not None:
            f = self._custom("encoder", self.n_inputs, self.n_encoded, seed, copies)
        elif encoder:
            sizes_of_f = [self.n_inputs, *self.hidden, self.n_encoded]
            f = initialised(generator, perceptron, sizes_of_f, given.activation)
        if given.decoder is not None:
            g = self._custom("decoder", k, self.n_inputs, seed + 1, copies)
        else:
            g = initialised(generator, perceptron, sizes[::-1], given.activation)
        return self._corrupted(f), self._completed(g, generator)

    def residual(self, seed, scale, *, encoder):
        f, g = self.pair(seed, encoder)
        return self._finished(ResidualAutoencoder(scale, self.settings.latent_dim, f, g))

    def plain(self, seed):
        return self._plain(*self.pair(seed, True))


class ConvNetworks(Networks):
    """Convolutional networks, and a refiner of PCA's reconstruction.

    Parameters
    ----------
    settings : NetworkSettings
    layout : Layout
    architecture : dict
        Further arguments of `conv_encoder` and `conv_decoder`.
    refiner_width : int
        Number of channels of the refiner; 0 for no refiner.
    """

    memory_format = torch.channels_last

    def __init__(self, settings, layout, architecture, refiner_width):
        super().__init__(settings)
        self.layout = layout
        self.architecture = architecture
        self.refiner_width = refiner_width

    def __str__(self):
        return f"convolutional networks of channels={self.architecture['channels']}"

    def check(self, device):
        """Raise an error if the networks cannot be built, or not be trained on the device."""
        if self.has_custom:
            if self.settings.linear_path:  # plain networks are built before long work anyway
                self.three(0, True)
            return
        k, architecture = self.settings.latent_dim, self.architecture

        def build():
            encoder = conv_encoder(self.layout, self.n_encoded, **architecture)
            return nn.ModuleList([encoder, conv_decoder(self.layout, k, **architecture)])

        names = ("channels", "kernel_size", "hidden_layer_sizes")
        sizes = {"latent_dim": k, **{name: architecture[name] for name in names}}
        check_module_memory(build, sizes, device)

    def three(self, seed, encoder, refiner=False):
        """Encoder, decoder and refiner; None for those not requested."""
        given, generator = self.settings, torch.Generator().manual_seed(seed)
        network, layout = partial(initialised, generator), self.layout
        shape = (layout.n_channels, *layout.extents)
        f, h, copies = None, None, {}
        if encoder and given.encoder is not None:
            f = self._custom("encoder", shape, self.n_encoded, seed, copies)
            f = nn.Sequential(Unfold(layout), f)
        elif encoder:
            f = network(conv_encoder, layout, self.n_encoded, **self.architecture)
        if given.decoder is not None:
            g = self._custom("decoder", given.latent_dim, shape, seed + 1, copies)
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


def check_perceptron_memory(sizes, device, *, linear_path, n_networks=2):
    """Raise MemoryError if training perceptrons of these sizes needs too much memory.

    The message names a size that fits.

    Parameters
    ----------
    sizes : list of int
        Width of the encoder's input, hidden layers and code; the decoder mirrors them.
    device : device
    linear_path : bool
        Whether the input is principal component scores instead of the columns of X.
    n_networks : int
        1 for a decoder alone.
    """
    n_inputs, *hidden, latent_dim = sizes
    needed, available = _perceptron_bytes(sizes, n_networks), free_bytes(device)
    if needed <= available:
        return
    width = 2048
    while width > 1 and _perceptron_bytes([n_inputs, width, latent_dim], n_networks) > available:
        width //= 2
    fitting = _perceptron_bytes([n_inputs, width, latent_dim], n_networks)
    inputs, advice = "principal component scores", ""
    if not linear_path:
        inputs = "columns"
        advice = ", and linear_path=True trains on principal component scores and needs none of it"
    raise MemoryError(
        f"hidden_layer_sizes={tuple(hidden)} and latent_dim={latent_dim} on {n_inputs} {inputs} "
        f"need {_gigabytes(needed)} to train, but {_gigabytes(available)} are available: "
        f"hidden_layer_sizes=({width},) needs {_gigabytes(fitting)}{advice}."
    )


def check_module_memory(build, parameters, device):
    """Raise MemoryError if training the module that ``build`` returns needs too much memory.

    Parameters
    ----------
    build : callable
        Returns the module; called without allocating memory.
    parameters : dict
        Parameters that determine the module's size, for the error message.
    device : device
    """
    needed, available = _training_bytes(build), free_bytes(device)
    if needed > available:
        values = ", ".join(f"{name}={value!r}" for name, value in parameters.items())
        raise MemoryError(
            f"{values} need {_gigabytes(needed)} to train, but {_gigabytes(available)} are "
            f"available."
        )


def _perceptron_bytes(sizes, n_networks):
    """Bytes that training one perceptron of these sizes, or two mirrored ones, needs."""
    return n_networks * _training_bytes(lambda: perceptron(sizes, "relu"))


def _training_bytes(build: Callable[[], nn.Module]) -> int:
    """Bytes that training the module needs without its batches; ``build`` allocates no memory."""
    try:
        with torch.device("meta"):
            module = build()
    except RuntimeError:  # the number of weights overflows torch's integers
        return float("inf")
    return _BYTES_PER_WEIGHT * sum(weight.numel() for weight in module.parameters())


def _gigabytes(n_bytes):
    return f"{n_bytes / 1e9:,.1f} GB"
