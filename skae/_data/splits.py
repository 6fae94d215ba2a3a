"""Validation rows: the choice of the rows that are held out."""

import numpy as np

# With fewer rows a gain cannot be distinguished from chance.
MIN_VALIDATION_ROWS = 8


def held_out_runs(n_rows, fraction, rng, longest_run=32):
    """Split row indices into training and validation rows, holding out runs of adjacent rows.

    Adjacent rows are often of the same group (the chunks of one file, the frames of one film). If
    single rows were held out, most would have a similar training row, and networks that memorise
    would have a low validation loss.

    Parameters
    ----------
    n_rows : int
    fraction : float
        Share of the rows to hold out.
    rng : RandomState
    longest_run : int, default=32
        The most adjacent rows that are held out together.

    Returns
    -------
    training, validation : ndarray of int
        Indices in increasing order.
    """
    # At least two training rows: one has no standard deviation, and some layers need two.
    n_validation = min(int(fraction * n_rows), n_rows - 2)
    run = int(np.clip(n_validation // 16, 1, longest_run))
    starts = np.arange(0, n_rows, run)
    chosen = rng.permutation(len(starts))[: n_validation // run]
    is_validation = np.isin(np.arange(n_rows) // run, chosen)
    return np.flatnonzero(~is_validation), np.flatnonzero(is_validation)
