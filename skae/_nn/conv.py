"""Convolutional encoders, decoders and refiners for pictures and signals.

They take and return flat rows; a `Layout` describes the picture in a row. Each is an
`nn.Sequential` whose last layer with weights is the one that `zero_last_layer` sets to zero.
"""

from dataclasses import dataclass
from math import isqrt, prod

import torch
from torch import Tensor, nn

from .layers import ACTIVATIONS, Stored, perceptron

_CONV = {1: nn.Conv1d, 2: nn.Conv2d}

_CONV_TRANSPOSE = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d}

# An axis is taken for channels if it is at most this short and the others at least this long.
_MOST_CHANNELS, _FEWEST_PIXELS = 4, 8

# So is the shorter axis of two, if the other is half as long again: windows of sensors.
_MOST_SENSORS = 16


@dataclass(frozen=True)
class Layout:
    """Shape of the picture (two extents) or signal (one extent) in a flat row.

    Attributes
    ----------
    shape : tuple of int
        Shape of one picture in the user's data, such as (32, 32, 3).
    channel_axis : int or None
        The axis of ``shape`` that counts channels; None for a single channel.

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


class Unfold(Stored):
    """Turn flat rows into pictures: (n, p) to (n, channels, *extents)."""

    def __init__(self, layout):
        super().__init__()
        self.layout = layout

    def forward(self, x: Tensor) -> Tensor:
        axis = self.layout.channel_axis
        x = x.unflatten(1, self.layout.shape)
        x = x.unsqueeze(1) if axis is None else x.movedim(axis + 1, 1)
        # Convolutions are fastest on every device with channels last in memory.
        return x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x


class Fold(Stored):
    """Turn pictures into flat rows: (n, channels, *extents) to (n, p)."""

    def __init__(self, layout):
        super().__init__()
        self.layout = layout

    def forward(self, x: Tensor) -> Tensor:
        axis = self.layout.channel_axis
        if axis is not None:
            x = x.movedim(1, axis + 1)
        return x.flatten(1)


def conv_encoder(
    layout,
    latent_dim,
    *,
    channels,
    kernel_size=3,
    bottleneck="dense",
    hidden_layer_sizes=(),
    activation="gelu",
):
    """Build stages of convolutions, each of which halves the extents, and a bottleneck.

    Parameters
    ----------
    layout : Layout
    latent_dim : int
        Number of dimensions of the code. For "map" it is a multiple of the product of the last
        extents.
    channels : tuple of int
        Number of channels after each stage.
    kernel_size : int
        An odd number.
    bottleneck : {"dense", "channels", "map"}
        "dense" is linear layers to the code; "channels" is one convolution over all remaining
        positions to ``latent_dim`` channels; "map" is a convolution to one channel, whose positions
        are the code (further channels are further outputs of the encoder for each position).
    hidden_layer_sizes : tuple of int
        Sizes of the hidden linear layers of the dense bottleneck.
    activation : str

    Examples
    --------
    >>> import torch
    >>> encoder = conv_encoder(Layout((28, 28)), 12, channels=(16, 32))
    >>> encoder(torch.rand(5, 784)).shape
    torch.Size([5, 12])
    """
    extents, conv, act = layout.extents, _CONV[len(layout.extents)], ACTIVATIONS[activation]
    *stages, smallest = stage_extents(extents, len(channels))
    layers, n_inputs = [Unfold(layout)], layout.n_channels
    for large, n_outputs in zip(stages, channels, strict=True):
        padding = kernel_size // 2
        layers += [conv(n_inputs, n_outputs, kernel_size, _strides(large), padding), act()]
        n_inputs = n_outputs
    if bottleneck == "dense":
        sizes = [n_inputs * prod(smallest), *hidden_layer_sizes, latent_dim]
        layers += [nn.Flatten(), *perceptron(sizes, activation)]
    else:
        last = _bottleneck_convolution(conv, n_inputs, latent_dim, smallest, bottleneck)
        layers += [last, nn.Flatten()]
    return nn.Sequential(*layers)


def conv_decoder(
    layout,
    latent_dim,
    *,
    channels,
    kernel_size=3,
    bottleneck="dense",
    hidden_layer_sizes=(),
    activation="gelu",
):
    """Build the mirror image of `conv_encoder`, with the same parameters.

    Examples
    --------
    >>> import torch
    >>> decoder = conv_decoder(Layout((3, 33, 20), 0), 12, channels=(16, 32))
    >>> decoder(torch.rand(5, 12)).shape
    torch.Size([5, 1980])
    """
    n_dims, act = len(layout.extents), ACTIVATIONS[activation]
    conv_transpose = _CONV_TRANSPOSE[n_dims]
    stages = stage_extents(layout.extents, len(channels))
    smallest, padding = stages[-1], kernel_size // 2
    n_inputs = channels[-1]
    if bottleneck == "dense":
        sizes = [latent_dim, *hidden_layer_sizes[::-1], n_inputs * prod(smallest)]
        layers = [*perceptron(sizes, activation), nn.Unflatten(1, (n_inputs, *smallest))]
    else:
        first = _bottleneck_convolution(conv_transpose, latent_dim, n_inputs, smallest, bottleneck)
        shape = (latent_dim, *[1] * n_dims) if bottleneck == "channels" else (1, *smallest)
        layers = [nn.Unflatten(1, shape), first]
    outputs = [layout.n_channels, *channels[:-1]]
    for narrow, wide, n_outputs in zip(stages[:0:-1], stages[-2::-1], outputs[::-1], strict=True):
        output_padding = [
            large - (2 * small - 1) for small, large in zip(narrow, wide, strict=True)
        ]
        layers += [
            act(),
            conv_transpose(
                n_inputs, n_outputs, kernel_size, _strides(wide), padding, output_padding
            ),
        ]
        n_inputs = n_outputs
    return nn.Sequential(*layers, Fold(layout))


def conv_refiner(layout, width, *, n_convs=3, activation="gelu"):
    """Build a network from a picture to a correction of it, with convolutions at half its extents.

    Examples
    --------
    >>> import torch
    >>> refiner = conv_refiner(Layout((28, 28)), 32)
    >>> refiner(torch.rand(5, 784)).shape
    torch.Size([5, 784])
    """
    n_dims, act = len(layout.extents), ACTIVATIONS[activation]
    conv, conv_transpose = _CONV[n_dims], _CONV_TRANSPOSE[n_dims]
    output_padding = [1 - extent % 2 for extent in layout.extents]
    strides = _strides(layout.extents)
    layers = [Unfold(layout), conv(layout.n_channels, width, 5, strides, 2)]
    for _ in range(n_convs):
        layers += [act(), conv(width, width, 3, 1, 1)]
    layers += [act(), conv_transpose(width, layout.n_channels, 5, strides, 2, output_padding)]
    return nn.Sequential(*layers, Fold(layout))


def _strides(extents):
    """Strides of a convolution that halves the extents: 1 along axes of one position.

    The result is the same. With a stride of 2 along such an axis, oneDNN reads uninitialised memory
    for the gradient of bfloat16 weights.
    """
    return tuple(2 if extent > 1 else 1 for extent in extents)


def stage_extents(extents, n_stages):
    """Extents before and after each of ``n_stages`` convolutions of stride 2."""
    stages = [tuple(extents)]
    for _ in range(n_stages):
        stages.append(tuple(-(-extent // 2) for extent in stages[-1]))
    return stages


def checked_layout(shape, channel_axis, n_features):
    """The `Layout` of rows of ``n_features`` columns, or ValueError if they have another shape."""
    if len(shape) > 3:
        raise ValueError(
            f"input_shape={shape} has {len(shape)} axes, but pictures have at most three: "
            f"height, width and channels. Pass frames of a film as rows, "
            f"X.reshape(-1, *X.shape[2:]), or flat rows, X.reshape(len(X), -1), to a "
            f"DenseAutoencoder."
        )
    axis = channel_axis
    if axis is None:
        axis = 2 if len(shape) == 3 else None
    elif len(shape) == 1 or not -len(shape) <= axis < len(shape):
        raise ValueError(f"channel_axis={axis} is not an axis of channels in {shape}.")
    else:
        axis %= len(shape)
    if prod(shape) != n_features:
        product = " x ".join(map(str, shape))
        raise ValueError(
            f"n_features={n_features} is not {product} = {prod(shape)}, as input_shape={shape} "
            f"asks for."
        )
    return Layout(shape, axis)


def layout_warning(layout, *, shape_given, axis_given):
    """A warning on how rows are read, if another layout is plausible; otherwise None.

    Parameters
    ----------
    layout : Layout
    shape_given, axis_given : bool
        Whether the user passed the shape or the axis.

    Examples
    --------
    >>> print(layout_warning(Layout((64,)), shape_given=False, axis_given=False))
    X is read as signals of length 64. For pictures of 8 x 8 pass input_shape=(8, 8), for signals
    input_shape=(64,).
    """
    shape = layout.shape
    if len(shape) == 1:
        return None if shape_given else _length_warning(*shape)
    if axis_given or (shape_given and len(shape) == 2):
        return None
    few, *others = sorted(shape)
    axis = shape.index(few)
    most = _MOST_SENSORS if len(shape) == 2 and 2 * others[0] >= 3 * few else _MOST_CHANNELS
    if few > most or others[0] < _FEWEST_PIXELS or axis == layout.channel_axis:
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


def _bottleneck_convolution(conv, n_inputs, n_outputs, extents, bottleneck):
    """The convolution to or from a code of channels at one position, or of a map."""
    if bottleneck == "channels":
        return conv(n_inputs, n_outputs, extents)
    if conv in _CONV.values():
        n_outputs //= prod(extents)
    else:
        n_inputs //= prod(extents)
    return conv(n_inputs, n_outputs, 1)


def _length_warning(length):
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
