"""What "auto" means: training settings from n rows, p columns and a code of k numbers.

Each was chosen by measurement on files, images and digits; docs/design.md has the tables.
"""

from math import ceil, log2, prod

# How many principal directions the residual networks see and correct, beyond those of the code.
FURTHER_DIRECTIONS = 256

# A stream of batches is taken for so many rows.
ROWS_OF_STREAM = 20_000

# More rows than these are taken in larger batches; fewer than these need dropout.
_MANY_ROWS, _FEW_ROWS = 40_000, 5_000

# Up to these lengths a code is very short or short; from the other on, one wide layer does better
# than several.
_VERY_SHORT_CODE, _SHORT_CODE, _LONG_CODE = 4, 16, 64

# Widths of a layer; rows of at most so many columns want no wider one than the middle of these.
_NARROWEST, _NARROW, _WIDE, _WIDEST = 64, 512, 1024, 2048
_FEW_COLUMNS = 128


def hidden_layer_sizes(n, p, k):
    """Widths of the encoder's hidden layers in the residual form.

    Depth pays for short codes, most where there are many rows, width for others. Few rows do not
    fill a wide layer.
    """
    if k >= _LONG_CODE or (k > _SHORT_CODE and n < p):
        return (_WIDEST,) if k <= 256 else (_WIDE,)
    if n > _MANY_ROWS and n >= p:
        return (_WIDE, _WIDE // 2, _WIDE // 4)
    widest = _NARROW if p <= _FEW_COLUMNS else _WIDE
    width = min(widest, max(_NARROWEST, 2 ** int(log2(n))))
    return (width, width // 4)


def dropout(n):
    """Share of the hidden units that are dropped in training."""
    return 0.1 if n <= _FEW_ROWS else 0.0


def corruption(n, p, k):
    """Share of the encoder's inputs that are masked in training, with the linear path.

    Where columns outnumber rows it makes longer codes better features, for next to no variance.
    """
    return 0.1 if n < p and k > _SHORT_CODE else 0.0


def batch_size(n, largest):
    """The largest, less where there would be fewer than 16 batches."""
    return int(min(max(n // 16, 16), largest))


def max_epochs(n, batch_size, n_steps, fewest):
    """About n_steps steps, in ``fewest`` to 30 epochs."""
    return int(min(max(n_steps * batch_size // n, fewest), 30))


def dense_schedule(n, p):
    """Steps, fewest epochs, largest batch and highest learning rate of fully connected networks.

    Rows with more columns than rows are noisier, and want a lower rate; larger batches less so.
    """
    rate = 0.002 if n < p else 0.0025
    return (600, 8, 256, 2 * rate) if n > _MANY_ROWS else (600, 8, 128, rate)


def conv_schedule(n, p):
    """Steps, fewest epochs, largest batch and highest learning rate of convolutional networks."""
    return 1200, 4, 128, 0.004


# Stages end where at most so many positions are left along an axis.
_FEW_POSITIONS = 8


def channels(extents):
    """Channels after each stage of convolutions: 64 after the last, half as many before, >= 16."""
    n_stages = max(1, ceil(log2(max(extents) / _FEW_POSITIONS)))
    return tuple(max(64 // 2**stage, 16) for stage in reversed(range(n_stages)))


def hidden_layer_sizes_after_convolutions(k):
    """Widths of the layers between convolutions and code: two numbers want one layer more."""
    return (512, 256) if k <= _VERY_SHORT_CODE else (512,)


def refiner_width(extents, k):
    """Channels of the network that corrects PCA's picture; 0 for none.

    At short codes that picture has too little to correct, and on long signals it costs too much.
    """
    return 64 if k > _SHORT_CODE and prod(extents) <= 2**14 else 0
