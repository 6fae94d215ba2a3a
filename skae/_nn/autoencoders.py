"""Autoencoders: an encoder and a decoder each, with their formulas."""

from abc import ABC, abstractmethod
from copy import deepcopy
from math import inf

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from .._runtime.device import in_float64
from .layers import ACTIVATIONS, RandomLayer, Stored, zero_last_layer

# Lower bound of a loss that is divided by.
_TINY = 1e-12


class Autoencoder(Stored, ABC):
    """``x_hat = decode(encode(x))``, with codes of at most ``latent_dim`` dimensions.

    Attributes
    ----------
    latent_dim : int
    lengths : tuple of int
        Numbers of dimensions that a code may be truncated to before it is decoded.
    penalties : ModuleList
        Terms added to the logarithm of the loss in training. Each is called with the autoencoder,
        x, z and the output that the loss takes, and returns a term for each row.
    head : LabelHead
        Predicts labels from standardised codes. Exists only while labels take part in training.
    """

    def __init__(self, latent_dim):
        super().__init__()
        self.latent_dim = latent_dim
        self.lengths = ()
        self.penalties = nn.ModuleList()

    @property
    def penalised(self):
        """Whether training minimises more than the reconstruction error."""
        return bool(self.penalties)

    @abstractmethod
    def encode(self, x: Tensor) -> Tensor:
        """Codes of the rows x."""

    @abstractmethod
    def decode(self, z: Tensor) -> Tensor:
        """Rows from the codes z."""

    def output(self, z: Tensor) -> Tensor:
        """The output that the loss takes, for the codes z."""
        return self.decode(z)

    def standardised(self, z: Tensor) -> Tensor:
        """Codes in a unit in which the variances of their dimensions are more alike."""
        return z

    def forward(self, x: Tensor) -> Tensor | tuple:
        """The output that the loss takes, for the rows x.

        In training also their penalties, and with a head its predictions in any case.
        """
        z = self.encode(x)
        output = self.output(z)
        if not self.training or not self.penalties:
            return self.with_prediction(output, None, z)
        penalties = sum(penalty(self, x, z, output) for penalty in self.penalties)
        return self.with_prediction(output, penalties, z)

    def with_prediction(self, output, penalties, z):
        """What `forward` returns, from its parts and the codes for the head."""
        if hasattr(self, "head"):
            return output, penalties, self.head(self.standardised(z))
        return output if penalties is None else (output, penalties)

    def truncated(self, latent_dim):
        """A copy whose codes are the first ``latent_dim`` dimensions of these."""
        short = deepcopy(self)
        short.latent_dim = latent_dim
        short.lengths = tuple(length for length in self.lengths if length < latent_dim)
        short.penalties = nn.ModuleList()
        return short

    def deviances(self, output: Tensor, x: Tensor) -> Tensor:
        """Loss of each row for an output of `forward`, in float64: shape (n,)."""
        return in_float64(x - output).square().sum(dim=1)

    def deviances_by_column(self, output: Tensor, x: Tensor) -> Tensor:
        """The part of each entry in the loss of its row: shape (n, p)."""
        return in_float64(x - output).square()

    def output_of_mean(self, mean: Tensor) -> Tensor:
        """The output of `forward` whose reconstruction is the mean."""
        return mean


class ResidualAutoencoder(Autoencoder):
    """Non-linear networks that add to principal component scores::

        z     = y[:k] + s[:k] f(y / s)
        y_hat = [z; 0] + s g(z / s[:k])

    With f and g at zero this is exactly PCA of length k. Far from the training rows the outputs of
    networks are arbitrary. So f and g have a reach, the length of the longest input in training.
    An input that is c times as long is divided by c, and so is the output: what networks add to
    PCA fades out with the distance.

    **Shape**: y and y_hat (n, r); z (n, k).

    Parameters
    ----------
    scale : Tensor of shape (r,)
        s, fixed; it makes the variances of the scores more alike.
    latent_dim : int
        k.
    encoder : nn.Sequential from r to k dimensions, or None
        f, whose last layer is set to zero here; None for a linear code.
    decoder : nn.Sequential from k to r dimensions, or None
        g, whose last layer is set to zero here; None for zero.

    Examples
    --------
    >>> import torch
    >>> from skae._nn.layers import perceptron
    >>> scale, y = torch.ones(5), torch.randn(3, 5)
    >>> pca = ResidualAutoencoder(scale, 2, perceptron([5, 8, 2], "gelu"), None)
    >>> torch.equal(pca.encode(y), y[:, :2])
    True
    >>> pca(y).shape
    torch.Size([3, 5])
    """

    def __init__(self, scale, latent_dim, encoder=None, decoder=None):
        super().__init__(latent_dim)
        self.register_buffer("scale", scale)
        # Of the encoder and of the decoder.
        self.register_buffer("reach", torch.full((2,), inf, dtype=scale.dtype))
        self.encoder = None if encoder is None else zero_last_layer(encoder)
        self.decoder = None if decoder is None else zero_last_layer(decoder)

    def encode(self, y: Tensor) -> Tensor:
        k = self.latent_dim
        z = y[:, :k]
        if self.encoder is not None:
            z = z + self.scale[:k] * self._faded(self.encoder, y, self.reach[0])[:, :k]
        return z

    def decode(self, z: Tensor) -> Tensor:
        y_hat = pad(z, (0, len(self.scale) - z.shape[1]))
        if self.decoder is not None:
            y_hat = y_hat + self.scale * self._faded(self.decoder, z, self.reach[1])
        return y_hat

    def standardised(self, z: Tensor) -> Tensor:
        return z / self.scale[: z.shape[1]]

    @torch.no_grad()
    def extend_reach(self, y: Tensor) -> None:
        """Let both networks reach the scores y, and their codes."""
        x = self.standardised(y)
        z = x[:, : self.latent_dim]
        if self.encoder is not None:
            z = z + self.encoder(x)[:, : self.latent_dim]
        before = torch.where(self.reach.isinf(), 0.0, self.reach)
        longest = torch.stack([_lengths(x).max(), _lengths(z).max()])
        self.reach = torch.maximum(before, longest.to(before))

    def _faded(self, network, y, reach):
        """Outputs of a network for scores or codes; training rows are within its reach."""
        x = self.standardised(y)
        if self.training:
            return network(x)
        share = (reach / _lengths(x)).clamp(max=1)
        return share * network(share * x)


def _lengths(x):
    """Length of each row: shape (n, 1)."""
    return x.square().sum(dim=1, keepdim=True).sqrt()


class LinearPathAutoencoder(Autoencoder):
    """Networks on the rows themselves that add to PCA::

        z     = V'(x - m) + s f((x - m) / u)
        x_hat = m + V z + u (g(z / s) + h(V z / u))

    With all three networks at zero this is exactly PCA. g maps the code to a correction of PCA's
    reconstruction; h maps PCA's reconstruction to another.

    **Shape**: x and x_hat (n, p); z (n, k).

    Parameters
    ----------
    mean : Tensor of shape (p,)
        m.
    directions : Tensor of shape (p, k)
        V, with orthonormal columns.
    scale : Tensor of shape (k,)
        s, fixed; it makes the variances of the codes more alike.
    encoder, decoder, refiner : nn.Sequential or None
        f from p to k, g from k to p and h from p to p dimensions. Their last layers are set to
        zero here; None stays zero.

    Examples
    --------
    >>> import torch
    >>> x, axes = torch.randn(3, 4), torch.eye(4)[:, :2]
    >>> pca = LinearPathAutoencoder(torch.zeros(4), axes, torch.ones(2))
    >>> torch.equal(pca.encode(x), x[:, :2])
    True
    """

    def __init__(self, mean, directions, scale, encoder=None, decoder=None, refiner=None):
        super().__init__(directions.shape[1])
        self.register_buffer("mean", mean)
        self.register_buffer("directions", directions)
        self.register_buffer("scale", scale)
        self.register_buffer("unit", torch.ones((), dtype=torch.float32))
        for name, network in (("encoder", encoder), ("decoder", decoder), ("refiner", refiner)):
            setattr(self, name, None if network is None else zero_last_layer(network))

    def encode(self, x: Tensor) -> Tensor:
        x = x - self.mean
        z = _exact_product(x, self.directions)
        if self.encoder is not None:
            z = z + self.scale * self.encoder(x / self.unit)[:, : self.latent_dim]
        return z

    def decode(self, z: Tensor) -> Tensor:
        j = z.shape[1]
        linear = _exact_product(z, self.directions[:, :j].T)
        x_hat = self.mean + linear
        if self.decoder is not None:
            x_hat = x_hat + self.unit * self.decoder(z / self.scale[:j])
        if self.refiner is not None:
            x_hat = x_hat + self.unit * self.refiner(linear / self.unit)
        return x_hat

    def standardised(self, z: Tensor) -> Tensor:
        return z / self.scale[: z.shape[1]]

    def truncated(self, latent_dim):
        short = super().truncated(latent_dim)
        short.directions = self.directions[:, :latent_dim].clone()
        short.scale = self.scale[:latent_dim].clone()
        return short


class PlainAutoencoder(Autoencoder):
    """The autoencoder of the textbooks, without PCA::

        z      = encoder((view(x) - c) / u)
        output = m + s a(decoder(z))
        x_hat  = link(output)

    with the view and the link of a loss, and an output activation a. c, u, m and s are buffers:
    zeros and ones here, set before training so that inputs and outputs of the networks are near
    one.

    **Shape**: x, output and x_hat (n, p); z (n, k). ``forward`` returns outputs, which losses take.

    Parameters
    ----------
    latent_dim : int
        k.
    encoder, decoder : Module
        From p to k and from k to p dimensions.
    loss : Loss
    activation : str, default=None

    Examples
    --------
    >>> import torch
    >>> from skae._nn.layers import perceptron
    >>> from skae._nn.losses import SquaredError
    >>> f, g = perceptron([5, 8, 2], "relu"), perceptron([2, 8, 5], "relu")
    >>> x_hat = PlainAutoencoder(2, f, g, SquaredError(), activation="sigmoid")(torch.rand(3, 5))
    >>> x_hat.shape, bool(((0 < x_hat) & (x_hat < 1)).all())
    (torch.Size([3, 5]), True)
    """

    def __init__(self, latent_dim, encoder, decoder, loss, *, activation=None):
        super().__init__(latent_dim)
        self.encoder = encoder
        self.decoder = decoder
        self.loss = loss
        self.activation = nn.Identity() if activation is None else ACTIVATIONS[activation]()
        self.register_buffer("centre", torch.zeros((), dtype=torch.float32))
        self.register_buffer("unit", torch.ones((), dtype=torch.float32))
        self.register_buffer("mean", torch.zeros((), dtype=torch.float32))
        self.register_buffer("scale", torch.ones((), dtype=torch.float32))

    def encode(self, x: Tensor) -> Tensor:
        return self.encoder_output(x)[:, : self.latent_dim]

    def encoder_output(self, x: Tensor) -> Tensor:
        """Output of the encoder network for the rows x."""
        return self.encoder_output_of_view(self.loss.view(x))

    def encoder_output_of_view(self, view: Tensor) -> Tensor:
        """The same for the view of rows that the loss defines."""
        return self.encoder((view - self.centre) / self.unit)

    def output(self, z: Tensor) -> Tensor:
        return self.mean + self.scale * self.activation(self.decoder(z))

    def decode(self, z: Tensor) -> Tensor:
        return self.loss.link(self.output(z))

    def deviances(self, output: Tensor, x: Tensor) -> Tensor:
        return self._in_unit_of_rows(self.loss.deviances, output, x)

    def deviances_by_column(self, output: Tensor, x: Tensor) -> Tensor:
        return self._in_unit_of_rows(self.loss.deviances_by_column, output, x)

    def _in_unit_of_rows(self, compare, output, x):
        """What a method of the loss returns, in the unit of the rows."""
        if not self.loss.degree:
            return compare(output, x)
        # Far from zero the difference is exact, and a difference of quotients is not.
        scale, difference = in_float64(self.scale), in_float64(output - x)
        deviances = compare(difference / scale, torch.zeros_like(difference))
        return scale**self.loss.degree * deviances

    def output_of_mean(self, mean: Tensor) -> Tensor:
        return self.loss.output_of_mean(mean)


class VariationalAutoencoder(PlainAutoencoder):
    """A `PlainAutoencoder` with a normal distribution for each code (Kingma and Welling, 2014)::

        z ~ N(mu(x), diag(sigma^2(x)))
        minimise  -log p(x | z) + alpha KL(N(mu, sigma^2) || N(0, 1))

    Codes are samples in training, and mu otherwise. For a loss with a unit, the scale is the one
    that minimises it (Rybkin et al., 2021): ``-log p = p / degree log d`` for the loss d of p
    columns; for another it is ``d / 2``. Both hold up to a constant.

    **Shape**: as `PlainAutoencoder`, but the encoder returns 2k dimensions: mu, then log sigma^2.

    Parameters
    ----------
    alpha : float
        Weight of the divergence, 1 for the evidence lower bound. It is beta in Higgins et al.
        (2017).
    latent_dim, encoder, decoder, loss, activation
        As in `PlainAutoencoder`.
    """

    penalised = True

    def __init__(self, alpha, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.alpha = alpha
        self.noise = RandomLayer()

    def forward(self, x: Tensor) -> Tensor | tuple:
        if not self.training:
            return super().forward(x)
        mu, log_variance = self.encoder_output(x).float().chunk(2, dim=1)
        z = mu + (0.5 * log_variance).exp() * self.noise.normal(mu)
        output = self.output(z)
        divergence = 0.5 * (mu.square() + log_variance.exp() - 1 - log_variance).sum(dim=1)
        if self.loss.degree:
            rate = self.loss.degree / x.shape[1]
        else:
            rate = 2 / self.loss.deviances(output, x).detach().mean().clamp_min(_TINY)
        penalties = sum(penalty(self, x, z, output) for penalty in self.penalties)
        return self.with_prediction(output, self.alpha * rate * divergence + penalties, z)


def copy_matching_weights(previous, module):
    """Copy the weights of networks of ``previous`` whose shapes agree; return ``module``."""
    networks = dict(module.named_children())
    for name, network in previous.named_children():
        shapes = [weight.shape for weight in network.parameters()]
        if name in networks and shapes == [w.shape for w in networks[name].parameters()]:
            networks[name].load_state_dict(network.state_dict())
    return module


def _exact_product(a, b):
    """``a @ b`` in full precision: bfloat16 would keep two digits of PCA's codes."""
    with torch.autocast(a.device.type, enabled=False):
        return a @ b
