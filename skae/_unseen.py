"""Validation rows: which ones, and what the basis would be had it never seen them."""

import numpy as np
import torch
from scipy import linalg

from ._device import in_float64
from ._rows import power_of_two, weights_of
from ._tall import cross, gram_of, parts_of, product_of, tall_zeros, turned


def held_out_runs(n_rows, fraction, rng, longest_run=32):
    """Split row numbers into (fitted, unseen), holding out whole runs of neighbouring rows.

    Rows that lie side by side are often kin (the chunks of one file, the frames of one film); in
    a split row by row each unseen row would have a relative among the fitted ones, and networks
    that only remember would pass for networks that understand.
    """
    # Two rows at least stay: the deviation of one is no number, and some layers cannot be trained.
    n_unseen = min(int(fraction * n_rows), n_rows - 2)
    run = int(np.clip(n_unseen // 16, 1, longest_run))
    starts = np.arange(0, n_rows, run)
    chosen = rng.permutation(len(starts))[: n_unseen // run]
    is_unseen = np.isin(np.arange(n_rows) // run, chosen)
    return np.flatnonzero(~is_unseen), np.flatnonzero(is_unseen)


def scores_without(rows, scores, unseen, latent_dim=None):
    """The scores all rows would have, had the validation rows played no part in the basis.

    One step of subspace iteration on the other rows alone takes out of the basis what only the
    validation rows had put there. The first ``latent_dim`` new directions span those of the other
    rows' principal axes. Within that span, and within the rest, they are turned as near as can be
    to the old directions: networks that have learnt with the new ones can go on with the old.
    Without ``latent_dim`` they are the principal axes themselves.
    """
    counts = _counts(rows, unseen)
    unit = _unit_of(scores, counts)
    fitted = _inverted(scores, counts, unit)
    if rows.shape[0] > rows.shape[1]:
        images = rows.transposed_times(fitted)
        root = _inverse_root(cross(images, images))
        held = rows.times(images @ root)
    else:
        # A few at a time: images of all directions would take as much memory as the basis.
        held = tall_zeros(len(fitted), fitted)
        for columns, images in zip(fitted.split(256, 1), held.split(256, 1), strict=True):
            images.copy_(rows.times(rows.transposed_times(columns)))
        root = _inverse_root(product_of(fitted, held, rows.device))  # the root of S'AA'S
        held = turned(held, root)
    _, axes = torch.linalg.eigh(gram_of(held, counts, rows.device, unit))
    axes = axes.flip(1).to(root)
    if latent_dim is None:
        return turned(held, axes)
    # The new directions are A'F root axes, for F the fitted scores; A times the old ones are the
    # old scores.
    overlap = axes.T @ root @ product_of(fitted, scores, rows.device)
    return turned(held, axes @ nearest_rotations(overlap, latent_dim).to(axes))


def nearest_rotations(overlap, latent_dim):
    """The rotations of the first new directions, and of the rest, that are nearest to the old.

    Parameters
    ----------
    overlap : Tensor of shape (r, r)
        Products of the new directions (rows) and the old ones (columns).
    latent_dim : int

    Returns
    -------
    turn : float64 Tensor of shape (r, r)
        The new directions times ``turn`` are close to the old.
    """
    blocks = (slice(latent_dim), slice(latent_dim, None))
    return torch.block_diag(*(_nearest_rotation(in_float64(overlap[b, b])) for b in blocks))


def _nearest_rotation(overlap):
    """The orthogonal factor of the polar decomposition of a square matrix."""
    values, vectors = torch.linalg.eigh(overlap.T @ overlap)
    if len(values) and values[0] > 1e-6 * values[-1]:
        return overlap @ (vectors * values.rsqrt()) @ vectors.T
    # Directions without variance: any that complete the others. Where nearly all singular values
    # are one, the faster driver may fail to converge.
    left, _, right = linalg.svd(overlap.cpu().numpy(), lapack_driver="gesvd")
    return torch.from_numpy(left @ right).to(overlap)


def directions_without(rows, scores, unseen):
    """The principal directions, had the unseen rows played no part: the same step.

    They are orthonormal and close to the old ones; a direction that only the unseen rows had is
    zero.
    """
    counts = _counts(rows, unseen)
    images = rows.transposed_times(_inverted(scores, counts, _unit_of(scores, counts)))
    return images @ _inverse_root(cross(images, images))


def _counts(rows, unseen):
    """How often each row counts, the unseen ones never."""
    counts = weights_of(rows).copy()
    counts[unseen] = 0.0
    return counts


def _unit_of(scores, counts):
    """A power of two near to the largest that counts, in which squares of float32 are numbers."""

    def largest(part):
        counted = scores[part][torch.from_numpy(counts[part] > 0).to(scores.device)]
        return float(counted.abs().max()) if len(counted) else 0.0

    return power_of_two(max(map(largest, parts_of(scores))))


def _inverted(scores, counts, unit):
    """Scores S such that the columns of A'S are about as long as one.

    They span the directions after one step of subspace iteration.
    """
    fitted, squares = tall_zeros(len(scores), scores), 0.0
    for part in parts_of(scores):
        y = scores[part] / unit
        counted = y * torch.from_numpy(counts[part, None]).to(y)
        squares = squares + (counted * y).sum(dim=0)
        fitted[part] = counted
    factors = torch.where(squares > 1e-12 * squares.max(), 1 / squares / unit, 0.0)
    return fitted.mul_(factors.to(fitted.device))


def _inverse_root(gram):
    """Symmetric inverse square root of a Gram matrix, zero where the matrix has no rank."""
    values, vectors = torch.linalg.eigh(in_float64(gram))
    roots = torch.where(values > 1e-6 * values[-1], values.rsqrt(), 0.0)
    return (vectors * roots @ vectors.T).to(gram)
