"""Principal directions without the validation rows; the code length for a share of variance."""

import warnings

import numpy as np
import torch
from scipy import linalg

from .._data.dense_rows import weights_of
from .._data.splits import MIN_VALIDATION_ROWS, held_out_rows
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

# Number of directions that `shortest_code` computes first; then four times as many.
_FIRST_GUESS = 64


def scores_without_validation(rows, scores, validation, latent_dim=None):
    """Compute the scores that all rows would have if the basis had not used the validation rows.

    One step of subspace iteration on the training rows removes from the basis what only the
    validation rows contributed. The first ``latent_dim`` new directions span the leading principal
    axes of the training rows. Within their span, and within the span of the others, they are
    rotated to be as close as possible to the old directions: networks trained with the new
    directions can continue with the old ones. Without ``latent_dim`` the new directions are the
    principal axes.

    Parameters
    ----------
    rows : Rows
    scores : Tensor of shape (n, r)
        Along the directions that were computed from all rows.
    validation : ndarray of int
        Indices of the validation rows.
    latent_dim : int, default=None

    Returns
    -------
    new_scores : Tensor of shape (n, r)
    """
    weights = _training_weights(rows, validation)
    unit = _unit_of(scores, weights)
    fitted = _scaled_training_scores(scores, weights, unit)
    # F are the weighted scores of the training rows. A step of subspace iteration from the old
    # directions V gives A'WA V = A'F, in which validation rows, of weight zero, have no part. With
    # R = (F'AA'F)^(-1/2) the new directions A'F R are orthonormal, and AA'F R are the new scores.
    if rows.shape[0] > rows.shape[1]:
        images = rows.transposed_times(fitted)
        root = _inverse_root(transposed_product(images, images))
        new_scores = rows.times(images @ root)
    else:
        # Images of all directions at once would take as much memory as the basis.
        new_scores = zeros_for_rows(len(fitted), fitted)
        for columns, products in zip(fitted.split(256, 1), new_scores.split(256, 1), strict=True):
            products.copy_(rows.times(rows.transposed_times(columns)))
        # For F the fitted scores this is F'AA'F.
        root = _inverse_root(batched_transposed_product(fitted, new_scores, rows.device))
        new_scores = matmul_(new_scores, root)
    # The principal axes of the training rows within the span: eigenvectors of their covariance.
    _, axes = torch.linalg.eigh(weighted_gram(new_scores, weights, rows.device, unit))
    axes = axes.flip(1).to(root)
    if latent_dim is None:
        return matmul_(new_scores, axes)
    # Overlap of the new directions A'F R axes with the old ones V: axes' R F'A V, where A V are the
    # old scores. The nearest rotations undo what the axes turned within each of the two spans.
    overlap = axes.T @ root @ batched_transposed_product(fitted, scores, rows.device)
    return matmul_(new_scores, axes @ nearest_rotations(overlap, latent_dim).to(axes))


def directions_without_validation(rows, scores, validation):
    """Compute the principal directions without the validation rows, by the same step.

    They are orthonormal and close to the old ones; a direction along which only validation rows
    vary is zero.
    """
    weights = _training_weights(rows, validation)
    fitted = _scaled_training_scores(scores, weights, _unit_of(scores, weights))
    images = rows.transposed_times(fitted)
    return images @ _inverse_root(transposed_product(images, images))


def nearest_rotations(overlap, latent_dim):
    """Compute the rotation of the first new directions, and of the others, nearest to the old ones.

    Parameters
    ----------
    overlap : Tensor of shape (r, r)
        Products of the new directions (rows) and the old ones (columns).
    latent_dim : int

    Returns
    -------
    rotation : float64 Tensor of shape (r, r)
        The new directions times ``rotation`` are close to the old ones.
    """
    blocks = (slice(latent_dim), slice(latent_dim, None))
    return torch.block_diag(*(_nearest_rotation(in_float64(overlap[b, b])) for b in blocks))


def shortest_code(rows, share, validation_fraction, seed, groups=None):
    """Return how many principal directions explain a share of the variance of validation rows.

    If there are too few validation rows it is the variance of all rows.

    Parameters
    ----------
    rows : Rows
    share : float
        In (0, 1).
    validation_fraction : float
        Share of the rows to hold out.
    seed : int
        Seeds the choice of the validation rows and the start of the Krylov iteration.
    groups : ndarray of int, default=None
        Number of the group of each row: rows of one group are held out together.
    """
    n_features, rows = rows.shape[1], rows.of_used_columns(1)
    most = min(rows.shape)
    n_directions = min(_FIRST_GUESS, most)
    rng = np.random.RandomState(seed)
    _, validation = held_out_rows(len(rows), validation_fraction, rng, groups)
    generator = torch.Generator().manual_seed(seed)
    while True:
        basis = principal_basis(apply_weights(rows), n_directions, generator=generator)
        explained = _explained_shares(rows, basis, validation)
        if explained[-1] >= share or n_directions == most:
            break
        n_directions = min(4 * n_directions, most)
    if explained[-1] < share:
        warnings.warn(
            f"latent_dim={share} is out of reach: all {most} principal directions that "
            f"n_samples={len(rows)} and n_features={n_features} allow explain "
            f"{explained[-1]:.3f} of the variance of validation rows. latent_dim_={most} is used.",
            UserWarning,
            stacklevel=2,
        )
        return most
    return int(np.searchsorted(explained, share)) + 1


def _training_weights(rows, validation):
    """The weights of the rows, zero for validation rows."""
    weights = weights_of(rows).copy()
    weights[validation] = 0.0
    return weights


def _unit_of(scores, weights):
    """A power of two near the largest score of weight above 0: float32 can hold its square."""

    def largest(part):
        counted = scores[part][torch.from_numpy(weights[part] > 0).to(scores.device)]
        return float(counted.abs().max()) if len(counted) else 0.0

    return power_of_two(max(map(largest, row_slices(scores))))


def _scaled_training_scores(scores, weights, unit):
    """Weighted scores F, scaled so that the columns of A'F have a length of about one.

    The columns of A'F span the directions after one step of subspace iteration.
    """
    fitted, squares = zeros_for_rows(len(scores), scores), 0.0
    for part in row_slices(scores):
        y = scores[part] / unit
        weighted = y * torch.from_numpy(weights[part, None]).to(y)
        squares = squares + (weighted * y).sum(dim=0)
        fitted[part] = weighted
    factors = torch.where(squares > 1e-12 * squares.max(), 1 / squares / unit, 0.0)
    factors.clamp_(max=torch.finfo(factors.dtype).max / 2)  # of rows near the smallest float32
    return fitted.mul_(factors.to(fitted.device))


def _inverse_root(gram):
    """The symmetric inverse square root of a Gram matrix, zero along its null space."""
    values, vectors = torch.linalg.eigh(in_float64(gram))
    roots = torch.where(values > 1e-6 * values[-1], values.rsqrt(), 0.0)
    return (vectors * roots @ vectors.T).to(gram)


def _nearest_rotation(overlap):
    """The orthogonal factor of the polar decomposition of a square matrix."""
    # With O = U S V' the factor is U V' = O (O'O)^(-1/2): it needs the smaller eigenproblem alone.
    values, vectors = torch.linalg.eigh(overlap.T @ overlap)
    if len(values) and values[0] > 1e-6 * values[-1]:
        return overlap @ (vectors * values.rsqrt()) @ vectors.T
    # Directions without variance are replaced by any that complete the others. If nearly all
    # singular values are one, the faster driver may not converge.
    left, _, right = linalg.svd(overlap.cpu().numpy(), lapack_driver="gesvd")
    return torch.from_numpy(left @ right).to(overlap)


def _explained_shares(rows, basis, validation):
    """The share of the variance that the first 1, 2, ... directions explain."""
    if len(validation) < MIN_VALIDATION_ROWS:
        return np.cumsum(basis.explained_variance_ratio)
    scores = scores_without_validation(rows, rows.times(basis.directions), validation)
    weights, squares = np.zeros(len(rows)), np.zeros(scores.shape[1])
    weights[validation] = weights_of(rows)[validation]
    for part in row_slices(scores):
        squares += weights[part] @ in_float64(scores[part]).square().cpu().numpy()
    return np.cumsum(squares) / (weights @ rows.squared_norms() or 1.0)
