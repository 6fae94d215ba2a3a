"""What "auto" and None mean: architectures and training settings from the shape of X."""

from math import ceil, log2, prod
from numbers import Integral, Real

import numpy as np

from .._nn.conv import stage_extents
from .._nn.losses import LOSSES
from .._nn.penalties import powers_of_two
from .._runtime.device import multiplies_bfloat16
from .._training.run import TrainingOptions

# Principal directions that the residual networks get and correct, beyond those of the code.
FURTHER_DIRECTIONS = 256

# The number of rows that "auto" assumes for `partial_fit`.
ROWS_OF_STREAM = 20_000

# Above this number of rows batches are larger.
_MANY_ROWS = 40_000

# Codes of up to the first length are short. From the last length on, one wide layer explains more
# than several layers.
_SHORT_CODE, _LONG_CODE = 16, 64

# Widths of a layer; rows of at most _FEW_COLUMNS columns gain nothing from more than _NARROW.
_NARROWEST, _NARROW, _WIDE, _WIDEST = 64, 512, 1024, 2048

_FEW_COLUMNS = 128


def hidden_layer_sizes(n, p, k):
    """Widths of the encoder's hidden layers in the residual form.

    Short codes gain from depth, most where there are many rows; other codes gain from width. A
    wide layer needs many rows.
    """
    if k >= _LONG_CODE or (k > _SHORT_CODE and n < p):
        return (_WIDEST,) if k <= 256 else (_WIDE,)
    if n > _MANY_ROWS and n >= p > _FEW_COLUMNS:
        return (_WIDE, _WIDE // 2, _WIDE // 4)
    widest = _NARROW if p <= _FEW_COLUMNS else _WIDE
    width = min(widest, max(_NARROWEST, 2 ** int(log2(n))))
    return (width, width // 4)


def corruption(n, p, k):
    """Share of the encoder's inputs that are masked in training, with the linear path.

    Where columns outnumber rows it makes longer codes better features, and costs hardly any
    variance.
    """
    return 0.1 if n < p and k > _SHORT_CODE else 0.0


# Below this number of rows more of them are held out for validation, if they decide on networks.
_FEW_ROWS = 1_000

# More validation rows make no decision safer, and each judgement of a training passes all of them.
_MOST_VALIDATION_ROWS = 10_000


def validation_fraction(n, linear_path):
    """Share of the rows that are validation rows.

    A tenth of few rows seldom shows clearly that networks are better than PCA.
    """
    return 0.2 if linear_path and n < _FEW_ROWS else min(0.1, _MOST_VALIDATION_ROWS / n)


def batch_size(n, largest):
    """The largest batch, less where there would be fewer than 16 batches."""
    return int(min(max(n // 16, 16), largest))


# Random weights have farther to go than networks that start at PCA.
_FACTOR_OF_PLAIN_RATE = 2

# Steps of a training whose end validation rows do not decide, and its fewest and most epochs.
_FIXED_STEPS, _FEWEST_EPOCHS, _MOST_EPOCHS = 1200, 8, 30


def fixed_epochs(n, batch_size):
    """Epochs of a training whose end validation rows do not decide."""
    return int(min(max(_FIXED_STEPS * batch_size // n, _FEWEST_EPOCHS), _MOST_EPOCHS))


def dense_schedule(n, p):
    """Largest batch and learning rate of fully connected networks.

    With more columns than rows gradients are noisier and need a lower rate; larger batches allow a
    higher one.
    """
    rate = 0.002 if n < p else 0.0025
    return (256, 2 * rate) if n > _MANY_ROWS else (128, rate)


def conv_schedule(n, p):
    """Largest batch and learning rate of convolutional networks.

    From many rows larger batches, which take less time for each row, still give enough steps.
    """
    return (192, 0.003) if n > _MANY_ROWS else (64, 0.002)


# The last stage leaves at most this many positions along an axis.
_FEW_POSITIONS = 8


# Channels after the last stage, and the fewest after any.
_CHANNELS, _FEWEST_CHANNELS = 32, 16


def auto_channels(extents):
    """Channels after each stage of convolutions: most after the last, half as many before."""
    n_stages = max(1, ceil(log2(max(extents) / _FEW_POSITIONS)))
    halvings = reversed(range(n_stages))
    return tuple(max(_CHANNELS // 2**n, _FEWEST_CHANNELS) for n in halvings)


def hidden_layer_sizes_after_convolutions(k):
    """Widths of the layers between convolutions and code: short codes gain from depth."""
    return (512, 256) if k <= _SHORT_CODE else (512,)


# The refiner has at most this many channels.
_WIDEST_REFINER = 128


def refiner_width(extents, k, channels):
    """Channels of the network that corrects PCA's picture, those of the last stage; 0 for none.

    For short codes it gains too little, and on long signals it takes too long.
    """
    if k <= _SHORT_CODE or prod(extents) > 2**14:
        return 0
    return min(channels[-1], _WIDEST_REFINER)


# Upper bound of every count (rows, columns, units, epochs); above it torch overflows.
LARGEST = 2**31 - 1


def as_python_number(value):
    """A NumPy scalar, an array without axes or a fraction as Python's own number; else the value.

    Examples
    --------
    >>> import numpy as np
    >>> as_python_number(np.uint8(4)), as_python_number(np.array(0.5)), as_python_number("auto")
    (4, 0.5, 'auto')
    """
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value[()]
    if isinstance(value, np.bool_):
        return bool(value)
    if isinstance(value, Integral) and not isinstance(value, int):
        return int(value)
    if isinstance(value, Real) and type(value) not in (bool, int, float):
        return float(value)
    return value


def resolve_linear_path(estimator):
    """Whether codes start from PCA's. "auto" means yes for the loss that PCA minimizes."""
    if not isinstance(estimator.linear_path, str):
        return bool(estimator.linear_path)
    return (
        estimator.loss == "mse"
        and estimator.penalty is None
        and estimator.output_activation is None
    )


def resolve_latent_dim(latent_dim, linear_path, n_samples, n_features):
    """The length of the code."""
    if latent_dim is None:
        return min(32, n_samples, n_features)
    if linear_path and latent_dim > min(n_samples, n_features):
        raise ValueError(
            f"latent_dim={latent_dim} must be at most min(n_samples={n_samples}, "
            f"n_features={n_features}) = {min(n_samples, n_features)}, as in PCA, from which "
            f"the code starts; with linear_path=False it may have any length."
        )
    return int(latent_dim)


def resolve_hidden_layer_sizes(sizes, auto):
    """A tuple of integers; ``auto`` for "auto"."""
    if isinstance(sizes, str):  # "auto"
        return auto
    sizes = (sizes,) if isinstance(sizes, Integral) else sizes
    return positive_integers(sizes, "hidden_layer_sizes")


def resolve_channels(channels, extents):
    """Channels after each stage of convolutions, a tuple of integers."""
    if isinstance(channels, str):  # "auto"
        return auto_channels(extents)
    channels = positive_integers(channels, "channels")
    if not channels:
        raise ValueError("channels=() must be 'auto' or at least one positive integer.")
    return channels


def length_of_map(latent_dim, extents, n_stages):
    """Length of the code with ``bottleneck="map"``; ``latent_dim`` must be that or None."""
    smallest = stage_extents(extents, n_stages)[-1]
    length = prod(smallest)
    if latent_dim not in (None, length):
        raise ValueError(
            f"latent_dim={latent_dim} must be {' x '.join(map(str, smallest))} = {length} "
            f"with bottleneck='map': the positions that {n_stages} stages of stride 2 leave of "
            f"{' x '.join(map(str, extents))}. Give more or fewer channels for another length."
        )
    return length


def resolve_truncations(truncations, latent_dim):
    """The lengths that codes may be truncated to, in ascending order."""
    if truncations is None:
        return ()
    if isinstance(truncations, str):  # "auto"
        return powers_of_two(latent_dim)
    lengths = tuple(sorted(set(positive_integers(truncations, "truncations"))))
    if lengths and lengths[-1] >= latent_dim:
        raise ValueError(
            f"truncations={truncations!r} must be shorter than the code, which has {latent_dim} "
            f"dimensions."
        )
    return lengths


def positive_integers(sizes, name):
    """The value of a parameter that takes a tuple of positive integers."""
    given, sizes = sizes, np.atleast_1d(np.asarray(sizes, dtype=object))
    sizes = tuple(map(as_python_number, sizes))
    if not all(isinstance(size, Integral) and 0 < size <= LARGEST for size in sizes):
        raise ValueError(
            f"{name}={given!r} must be a tuple of positive integers, of {LARGEST} at most."
        )
    return tuple(map(int, sizes))


def training_options(estimator, schedule, n_samples, device):
    """The parameters of training, with every "auto" resolved.

    Parameters
    ----------
    estimator : BaseAutoencoder
    schedule : tuple
        Largest batch and learning rate that "auto" means.
    n_samples : int
    device : torch.device
    """
    largest_batch, auto_rate = schedule
    if not resolve_linear_path(estimator):
        auto_rate *= _FACTOR_OF_PLAIN_RATE
    fraction = estimator.validation_fraction
    if fraction == "auto":
        fraction = validation_fraction(n_samples, resolve_linear_path(estimator))
    n_fitted = max(1, int(n_samples * (1 - fraction)))
    n_rows, n_epochs = estimator.batch_size, estimator.max_epochs
    learning_rate, precision = estimator.learning_rate, estimator.precision
    if n_rows == "auto":
        n_rows = batch_size(n_fitted, largest_batch)
    # Losses of validation rows do not show when a training with a penalty should end.
    ends_by_itself = estimator.early_stopping and estimator.penalty is None
    ends_by_itself &= n_fitted < n_samples
    if n_epochs == "auto":
        n_epochs = None if ends_by_itself else fixed_epochs(n_fitted, n_rows)
    return TrainingOptions(
        loss=LOSSES[estimator.loss],
        max_epochs=n_epochs,
        batch_size=n_rows,
        learning_rate=auto_rate if learning_rate == "auto" else learning_rate,
        weight_decay=estimator.weight_decay,
        early_stopping=estimator.early_stopping,
        validation_fraction=fraction,
        tol=estimator.tol,
        bfloat16=precision == "bfloat16" or (precision == "auto" and multiplies_bfloat16(device)),
        device=device,
        callbacks=tuple(estimator.callbacks or ()),
        has_custom=estimator.encoder is not None or estimator.decoder is not None,
        supervision=estimator.supervision,
    )
