"""Principal directions without the validation rows; the length for a share of the variance."""

import warnings

import numpy as np
import torch
from scipy import linalg

from .._data.rows import weights_of
from .._data.splits import MIN_VALIDATION_ROWS, held_out_runs
from .._runtime.device import in_float64
from .._runtime.tensors import (
    batched_transposed_product,
    matmul_,
    power_of_two,
    row_slices,
    transposed_product,
    weighted_gram,
    zeros_for_rows,
)
from .solvers import apply_weights, principal_basis


def scores_without_validation(rows, scores, validation, latent_dim=None):
    """The scores all rows would have, had the validation rows played no part in the basis.

    One step of subspace iteration on the other rows alone takes out of the basis what only the
    validation rows had put there. The first ``latent_dim`` new directions span those of the other
    rows' principal axes. Within that span, and within the rest, they are turned as near as can be
    to the old directions: networks that have learnt with the new ones can go on with the old.
    Without ``latent_dim`` they are the principal axes themselves.
    """
    counts = _counts(rows, validation)
    fitted = _inverted(scores, counts)
    if rows.shape[0] > rows.shape[1]:
        images = rows.transposed_times(fitted)
        root = _inverse_root(transposed_product(images, images))
        held = rows.times(images @ root)
    else:
        # A few at a time: images of all directions would take as much memory as the basis.
        held = zeros_for_rows(len(fitted), fitted)
        for columns, images in zip(fitted.split(256, 1), held.split(256, 1), strict=True):
            images.copy_(rows.times(rows.transposed_times(columns)))
        root = _inverse_root(
            batched_transposed_product(fitted, held, rows.device)
        )  # the root of S'AA'S
        held = matmul_(held, root)
    _, axes = torch.linalg.eigh(weighted_gram(held, counts, rows.device))
    axes = axes.flip(1).to(root)
    if latent_dim is None:
        return matmul_(held, axes)
    # The new directions are A'F root axes, for F the fitted scores; A times the old ones are the
    # old scores.
    overlap = axes.T @ root @ batched_transposed_product(fitted, scores, rows.device)
    return matmul_(held, axes @ nearest_rotations(overlap, latent_dim).to(axes))


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


def directions_without_validation(rows, scores, validation):
    """The principal directions, had the validation rows played no part: the same step.

    They are orthonormal and close to the old ones; a direction that only the validation rows had is
    zero.
    """
    images = rows.transposed_times(_inverted(scores, _counts(rows, validation)))
    return images @ _inverse_root(transposed_product(images, images))


def _counts(rows, validation):
    """How often each row counts, the validation ones never."""
    counts = weights_of(rows).copy()
    counts[validation] = 0.0
    return counts


def _inverted(scores, counts):
    """Scores S such that the columns of A'S are about as long as one.

    They span the directions after one step of subspace iteration.
    """
    fitted, squares = zeros_for_rows(len(scores), scores), 0.0
    unit = power_of_two(max(float(scores[part].abs().max()) for part in row_slices(scores)))
    for part in row_slices(scores):
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


# Directions to begin with; then four times as many.
_FIRST_GUESS = 64


def shortest_code(rows, share, validation_fraction, seed):
    """How many principal directions explain ``share`` of the variance of validation rows.

    Of all rows where too few can be put aside.

    Parameters
    ----------
    rows : Rows
    share : float
        In (0, 1).
    validation_fraction : float
        Share of the rows to put aside.
    seed : int
        Of their choice, and of the directions' first guess.
    """
    most = min(rows.shape)
    n_directions = min(_FIRST_GUESS, most)
    _, validation = held_out_runs(len(rows), validation_fraction, np.random.RandomState(seed))
    generator = torch.Generator().manual_seed(seed)
    while True:
        basis = principal_basis(apply_weights(rows), n_directions, generator=generator)
        explained = _explained(rows, basis, validation)
        if explained[-1] >= share or n_directions == most:
            break
        n_directions = min(4 * n_directions, most)
    if explained[-1] < share:
        warnings.warn(
            f"latent_dim={share} is out of reach: all {most} principal directions that "
            f"n_samples={len(rows)} and n_features={rows.shape[1]} allow explain "
            f"{explained[-1]:.3f} of the variance of validation rows. The code has that length.",
            UserWarning,
            stacklevel=2,
        )
        return most
    return int(np.searchsorted(explained, share)) + 1


def _explained(rows, basis, validation):
    """Share of the variance that the first directions explain, for each number of them."""
    if len(validation) < MIN_VALIDATION_ROWS:
        return np.cumsum(basis.explained_variance_ratio)
    held = scores_without_validation(rows, rows.times(basis.directions), validation)
    weights, squares = np.zeros(len(rows)), np.zeros(held.shape[1])
    weights[validation] = weights_of(rows)[validation]
    for part in row_slices(held):
        squares += weights[part] @ in_float64(held[part]).square().cpu().numpy()
    return np.cumsum(squares) / (weights @ rows.squared_norms() or 1.0)
