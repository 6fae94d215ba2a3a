"""Validation rows: which rows are held out."""

import numpy as np

# Fewer rows cannot tell a gain from luck.
MIN_VALIDATION_ROWS = 8


def held_out_runs(n_rows, fraction, rng, longest_run=32):
    """Split row numbers into (fitted, validation), holding out whole runs of neighbouring rows.

    Rows that lie side by side are often kin (the chunks of one file, the frames of one film); in
    a split row by row each validation row would have a relative among the fitted ones, and networks
    that only remember would pass for networks that understand.
    """
    # Two rows at least stay: the deviation of one is no number, and some layers cannot be trained.
    n_validation = min(int(fraction * n_rows), n_rows - 2)
    run = int(np.clip(n_validation // 16, 1, longest_run))
    starts = np.arange(0, n_rows, run)
    chosen = rng.permutation(len(starts))[: n_validation // run]
    is_validation = np.isin(np.arange(n_rows) // run, chosen)
    return np.flatnonzero(~is_validation), np.flatnonzero(is_validation)
