"""Convolutional networks from pictures and signals to codes and back, in plain PyTorch.

They take and return flat rows, as everything in skae does; a `Layout` says how a row is a picture.
Each is an `nn.Sequential`, its last layer with weights the one that `starting_at_zero` sets.
"""

from dataclasses import dataclass
from math import isqrt, prod

import torch
from torch import Tensor, nn

from ._modules import ACTIVATIONS, perceptron

_CONV = {1: nn.Conv1d, 2: nn.Conv2d}
_CONV_TRANSPOSE = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d}


# An axis of so few positions may count channels where the others are at least so long.
_MOST_CHANNELS, _FEWEST_PIXELS = 4, 8


@dataclass(frozen=True)
class Layout:
    """How a flat row is a picture (two extents) or a signal (one).

    Attributes
    ----------
    shape : tuple of int
        Of one picture as its owner keeps it, such as (32, 32, 3).
    channel_axis : int or None
        Which axis of ``shape`` counts channels; None if there is but one channel.

    Examples
    --------
    >>> layout = Layout((32, 32, 3), 2)
    >>> layout.n_channels, layout.extents
    (3, (32, 32))
    """

    shape: tuple[int, ...]
    channel_axis: int | None = None

    @property
    def n_channels(self):
        return 1 if self.channel_axis is None else self.shape[self.channel_axis]

    @property
    def extents(self):
        axes = range(len(self.shape))
        return tuple(self.shape[axis] for axis in axes if axis != self.channel_axis)


def doubt_about(layout, *, shape_given, axis_given):
    """A sentence on how rows are read where they may well be something else; None where not.

    Parameters
    ----------
    layout : Layout
    shape_given, axis_given : bool
        Whether the user said so.

    Examples
    --------
    >>> print(doubt_about(Layout((64,)), shape_given=False, axis_given=False))
    X is read as signals of length 64. For pictures of 8 x 8 pass input_shape=(8, 8), for signals
    input_shape=(64,).
    """
    shape = layout.shape
    if len(shape) == 1:
        return None if shape_given else _doubt_about_length(*shape)
    if axis_given or (shape_given and len(shape) == 2):
        return None
    few, *others = sorted(shape)
    axis = shape.index(few)
    if few > _MOST_CHANNELS or others[0] < _FEWEST_PIXELS or axis == layout.channel_axis:
        return None
    if len(shape) == 2:
        return (
            f"X is read as pictures of height {shape[0]} and width {shape[1]}. If the axis of "
            f"length {few} counts the channels of signals pass channel_axis={axis}, if not "
            f"input_shape={shape}."
        )
    height, width, n_channels = shape
    return (
        f"X is read as pictures of height {height}, width {width} and {n_channels} channels. If "
        f"the axis of length {few} counts channels pass channel_axis={axis}, if not "
        f"channel_axis=2."
    )


def _doubt_about_length(length):
    for n_channels in (1, 3):
        side = isqrt(length // n_channels)
        if n_channels * side**2 == length and side >= _FEWEST_PIXELS:
            picture = (side, side) if n_channels == 1 else (side, side, n_channels)
            return (
                f"X is read as signals of length {length}. For pictures of "
                f"{' x '.join(map(str, picture))} pass input_shape={picture}, for signals "
                f"input_shape={(length,)}."
            )
    return None


class Unfold(nn.Module):
    """Flat rows as pictures: (n, p) to (n, channels, *extents)."""

    def __init__(self, layout):
        super().__init__()
        self.layout = layout

    def forward(self, x: Tensor) -> Tensor:
        axis = self.layout.channel_axis
        x = x.unflatten(1, self.layout.shape)
        x = x.unsqueeze(1) if axis is None else x.movedim(axis + 1, 1)
        # Channels last in memory is what the fast convolutions of every device want.
        return x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x


class Fold(nn.Module):
    """Pictures as flat rows: (n, channels, *extents) to (n, p)."""

    def __init__(self, layout):
        super().__init__()
        self.layout = layout

    def forward(self, x: Tensor) -> Tensor:
        axis = self.layout.channel_axis
        if axis is not None:
            x = x.movedim(1, axis + 1)
        return x.flatten(1)


def halved(extents, n_stages):
    """Extents after each of so many convolutions of stride 2, the first entry untouched."""
    stages = [tuple(extents)]
    for _ in range(n_stages):
        stages.append(tuple(-(-extent // 2) for extent in stages[-1]))
    return stages


def _strides(extents):
    """Of a convolution that halves the extents: one where there is nothing to halve.

    The result is the same, but oneDNN reads memory that nobody has written where it finds the
    gradient of bfloat16 weights for a stride of 2 along an axis of one position.
    """
    return tuple(2 if extent > 1 else 1 for extent in extents)


def conv_encoder(
    layout,
    latent_dim,
    *,
    channels,
    kernel_size=3,
    n_convs_per_stage=1,
    bottleneck="dense",
    hidden_layer_sizes=(),
    dropout=0.0,
    activation="gelu",
):
    """Stages of convolutions, each halving the extents, and a bottleneck.

    Parameters
    ----------
    layout : Layout
    latent_dim : int
        Length of the code. With a "map", so many times the product of the last extents as there
        are numbers at each position.
    channels : tuple of int
        Channels after each stage.
    kernel_size : int
        Odd.
    n_convs_per_stage : int
        The first of a stage has stride 2.
    bottleneck : {"dense", "channels", "map"}
        Linear layers to the code; one convolution over all that is left, to ``latent_dim``
        channels; or one to a single channel, whose positions are the code (the channels after it
        are what else an encoder says of each position).
    hidden_layer_sizes : tuple of int
        Of the linear layers, for the dense bottleneck.
    dropout : float
        Between those.
    activation : str

    Examples
    --------
    >>> import torch
    >>> encoder = conv_encoder(Layout((28, 28)), 12, channels=(16, 32))
    >>> encoder(torch.rand(5, 784)).shape
    torch.Size([5, 12])
    """
    extents, conv, act = layout.extents, _CONV[len(layout.extents)], ACTIVATIONS[activation]
    *stages, smallest = halved(extents, len(channels))
    layers, n_inputs = [Unfold(layout)], layout.n_channels
    for large, n_outputs in zip(stages, channels, strict=True):
        for stride in (_strides(large), *[1] * (n_convs_per_stage - 1)):
            layers += [conv(n_inputs, n_outputs, kernel_size, stride, kernel_size // 2), act()]
            n_inputs = n_outputs
    if bottleneck == "dense":
        sizes = [n_inputs * prod(smallest), *hidden_layer_sizes, latent_dim]
        layers += [nn.Flatten(), *perceptron(sizes, activation, dropout)]
    else:
        last = _last_convolution(conv, n_inputs, latent_dim, smallest, bottleneck)
        layers += [last, nn.Flatten()]
    return nn.Sequential(*layers)


def conv_decoder(
    layout,
    latent_dim,
    *,
    channels,
    kernel_size=3,
    n_convs_per_stage=1,
    bottleneck="dense",
    hidden_layer_sizes=(),
    dropout=0.0,
    activation="gelu",
):
    """The mirror image of `conv_encoder`, with the same parameters.

    Examples
    --------
    >>> import torch
    >>> decoder = conv_decoder(Layout((3, 33, 20), 0), 12, channels=(16, 32))
    >>> decoder(torch.rand(5, 12)).shape
    torch.Size([5, 1980])
    """
    n_dims, act = len(layout.extents), ACTIVATIONS[activation]
    conv, conv_transpose = _CONV[n_dims], _CONV_TRANSPOSE[n_dims]
    stages = halved(layout.extents, len(channels))
    smallest, padding = stages[-1], kernel_size // 2
    n_inputs = channels[-1]
    if bottleneck == "dense":
        sizes = [latent_dim, *hidden_layer_sizes[::-1], n_inputs * prod(smallest)]
        layers = [*perceptron(sizes, activation, dropout), nn.Unflatten(1, (n_inputs, *smallest))]
    else:
        first = _last_convolution(conv_transpose, latent_dim, n_inputs, smallest, bottleneck)
        shape = (latent_dim, *[1] * n_dims) if bottleneck == "channels" else (1, *smallest)
        layers = [nn.Unflatten(1, shape), first]
    outputs = [layout.n_channels, *channels[:-1]]
    for small, large, n_outputs in zip(stages[:0:-1], stages[-2::-1], outputs[::-1], strict=True):
        for _ in range(n_convs_per_stage - 1):
            layers += [act(), conv(n_inputs, n_inputs, kernel_size, 1, padding)]
        lost = [wide - (2 * narrow - 1) for narrow, wide in zip(small, large, strict=True)]
        strides = _strides(large)
        layers += [act(), conv_transpose(n_inputs, n_outputs, kernel_size, strides, padding, lost)]
        n_inputs = n_outputs
    return nn.Sequential(*layers, Fold(layout))


def _last_convolution(conv, n_inputs, n_outputs, extents, bottleneck):
    """To or from the code: all its channels at one position, or few at every position."""
    if bottleneck == "channels":
        return conv(n_inputs, n_outputs, extents)
    if conv in _CONV.values():
        n_outputs //= prod(extents)
    else:
        n_inputs //= prod(extents)
    return conv(n_inputs, n_outputs, 1)


def conv_refiner(layout, width, *, n_convs=2, activation="gelu"):
    """From a picture to a correction of it: convolutions at half its extents.

    Examples
    --------
    >>> import torch
    >>> refiner = conv_refiner(Layout((28, 28)), 64)
    >>> refiner(torch.rand(5, 784)).shape
    torch.Size([5, 784])
    """
    n_dims, act = len(layout.extents), ACTIVATIONS[activation]
    conv, conv_transpose = _CONV[n_dims], _CONV_TRANSPOSE[n_dims]
    lost, strides = [1 - extent % 2 for extent in layout.extents], _strides(layout.extents)
    layers = [Unfold(layout), conv(layout.n_channels, width, 5, strides, 2)]
    for _ in range(n_convs):
        layers += [act(), conv(width, width, 3, 1, 1)]
    layers += [act(), conv_transpose(width, layout.n_channels, 5, strides, 2, lost)]
    return nn.Sequential(*layers, Fold(layout))
