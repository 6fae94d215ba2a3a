"""What "auto" means: training settings from n rows, p columns and a code of k numbers.

Each was chosen by measurement on files, images and digits; docs/design.md has the tables.
"""

# How many principal directions the residual networks see and correct, beyond those of the code.
FURTHER_DIRECTIONS = 256

# More rows than these pay for their networks by narrower layers; fewer than these need dropout.
_MANY_ROWS, _FEW_ROWS = 20_000, 5_000

# Up to this length a code is short; from the other on, one wide layer does better than several.
_SHORT_CODE, _LONG_CODE = 16, 64


def hidden_layer_sizes(n, p, k):
    """Widths of the encoder's hidden layers in the residual form.

    Depth pays for short codes and where rows outnumber columns, width everywhere else.
    """
    width = 1024 if n > _MANY_ROWS or p <= 128 else 2048
    if k >= _LONG_CODE or (k > _SHORT_CODE and n < p):
        return (2 * width,) if k <= 256 else (1024,)
    if n <= _FEW_ROWS:
        return (width, 256)
    return (width, 512) if k > _SHORT_CODE or n < p else (width, 512, 256)


def dropout(n):
    """Share of the hidden units that are dropped in training."""
    return 0.1 if n <= _FEW_ROWS else 0.0


def batch_size(n):
    """128, less where there would be fewer than 16 batches."""
    return int(min(max(n // 16, 16), 128))


def max_epochs(n, batch_size):
    """About 1,600 steps, in 16 to 40 epochs."""
    return int(min(max(1600 * batch_size // n, 16), 40))


def learning_rate(n, p):
    """Highest rate of the one-cycle schedule: rows with more columns than rows are noisier."""
    return 0.001 if n < p else 0.0025
