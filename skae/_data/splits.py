"""Training and validation rows: the choice of the rows that are held out."""

import warnings

import numpy as np

# With fewer rows a gain cannot be distinguished from chance.
MIN_VALIDATION_ROWS = 8


def held_out_rows(n_rows, fraction, rng, groups=None):
    """Split row indices into training and validation rows: by groups where they are known.

    Parameters
    ----------
    n_rows : int
    fraction : float
        Share of the rows to hold out.
    rng : RandomState
    groups : ndarray of int, default=None
        Number of the group of each row. Rows of one group are held out together.

    Returns
    -------
    training, validation : ndarray of int
        Indices in increasing order.
    """
    if groups is None:
        return held_out_runs(n_rows, fraction, rng)
    numbers, firsts, sizes = np.unique(groups, return_index=True, return_counts=True)
    if len(numbers) == 1:
        warnings.warn(
            f"groups has a single group for all {n_rows} rows, so there is no other one to hold "
            f"out for validation: runs of adjacent rows are held out, as without groups.",
            UserWarning,
            stacklevel=2,
        )
        return held_out_runs(n_rows, fraction, rng)
    order = firsts.argsort()  # the split does not depend on the numbers
    chosen = _held_out_groups(sizes[order], _most_validation_rows(n_rows, fraction), rng)
    is_validation = np.isin(groups, numbers[order][chosen])
    return np.flatnonzero(~is_validation), np.flatnonzero(is_validation)


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
    n_validation = _most_validation_rows(n_rows, fraction)
    run = int(np.clip(n_validation // 16, 1, longest_run))
    starts = np.arange(0, n_rows, run)
    chosen = rng.permutation(len(starts))[: n_validation // run]
    is_validation = np.isin(np.arange(n_rows) // run, chosen)
    return np.flatnonzero(~is_validation), np.flatnonzero(is_validation)


def _most_validation_rows(n_rows, fraction):
    # At least two training rows: one has no standard deviation, and some layers need two.
    return min(int(fraction * n_rows), n_rows - 2)


def _held_out_groups(sizes, n_validation, rng):
    """Choose groups with about a number of rows together, in random order: a mask of them.

    A group is chosen if the number of rows is nearer to ``n_validation`` with it than without it,
    which excludes groups of more than twice as many rows. If all groups are larger, the smallest is
    chosen.
    """
    is_chosen = np.zeros(len(sizes), dtype=bool)
    if n_validation <= 0:
        return is_chosen
    order, n_rows, n_chosen = rng.permutation(len(sizes)), sizes.sum(), 0
    for group in order:
        size = sizes[group]
        is_nearer = abs(n_chosen + size - n_validation) <= abs(n_chosen - n_validation)
        if is_nearer and n_chosen + size <= n_rows - 2:
            is_chosen[group] = True
            n_chosen += size
    if not n_chosen:
        is_chosen[order[sizes[order].argmin()]] = True
    return is_chosen
