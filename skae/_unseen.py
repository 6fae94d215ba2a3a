"""Rows put aside: which ones, and what the basis would be had it never seen them."""

import numpy as np
import torch

from ._device import in_float64
from ._rows import weights_of
from ._tall import cross, gram_of, parts_of, tall_zeros, turned


def held_out_runs(n_rows, fraction, rng, longest_run=32):
    """Split row numbers into (fitted, unseen), holding out whole runs of neighbouring rows.

    Rows that lie side by side are often kin (the chunks of one file, the frames of one film); in
    a split row by row each unseen row would have a relative among the fitted ones, and networks
    that only remember would pass for networks that understand.
    """
    n_unseen = int(fraction * n_rows)
    run = int(np.clip(n_unseen // 16, 1, longest_run))
    starts = np.arange(0, n_rows, run)
    chosen = rng.permutation(len(starts))[: n_unseen // run]
    is_unseen = np.isin(np.arange(n_rows) // run, chosen)
    return np.flatnonzero(~is_unseen), np.flatnonzero(is_unseen)


def scores_without(rows, scores, unseen):
    """The scores all rows would have, had the unseen rows played no part in the basis.

    One step of subspace iteration on the fitted rows alone takes out of the basis what only the
    unseen rows had put there; the new axes are the fitted rows' principal axes.
    """
    counts = _counts(rows, unseen)
    fitted = _inverted(scores, counts)
    if rows.shape[0] > rows.shape[1]:
        images = rows.transposed_times(fitted)
        held = rows.times(turned(images, _inverse_root(cross(images, images))))
    else:
        # A few at a time: images of all directions would take as much memory as the basis.
        held = tall_zeros(len(fitted), fitted)
        for columns, images in zip(fitted.split(256, 1), held.split(256, 1), strict=True):
            images.copy_(rows.times(rows.transposed_times(columns)))
        products = cross(fitted.to(held.device), held)
        held = turned(held, _inverse_root(products.to(rows.device)))  # the root of S'AA'S
    _, axes = torch.linalg.eigh(gram_of(held, counts, rows.device))
    return turned(held, axes.flip(1).to(held.dtype).to(rows.device))


def directions_without(rows, scores, unseen):
    """The principal directions, had the unseen rows played no part: the same step.

    They are orthonormal and close to the old ones; a direction that only the unseen rows had is
    zero.
    """
    images = rows.transposed_times(_inverted(scores, _counts(rows, unseen)))
    return turned(images, _inverse_root(cross(images, images)))


def _counts(rows, unseen):
    """How often each row counts, the unseen ones never."""
    counts = weights_of(rows).copy()
    counts[unseen] = 0.0
    return counts


def _inverted(scores, counts):
    """Scores S such that the columns of A'S are about as long as one.

    They span the directions after one step of subspace iteration.
    """
    fitted, squares = tall_zeros(len(scores), scores), 0.0
    for part in parts_of(scores):
        counted = scores[part] * torch.from_numpy(counts[part, None]).to(scores)
        squares = squares + (counted * scores[part]).sum(dim=0)
        fitted[part] = counted
    factors = torch.where(squares > 1e-12 * squares.max(), 1 / squares, 0.0)
    return fitted.mul_(factors.to(fitted.device))


def _inverse_root(gram):
    """Symmetric inverse square root of a Gram matrix, zero where the matrix has no rank."""
    values, vectors = torch.linalg.eigh(in_float64(gram))
    roots = torch.where(values > 1e-6 * values[-1], values.rsqrt(), 0.0)
    return (vectors * roots @ vectors.T).to(gram)
