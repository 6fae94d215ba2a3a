"""Rows put aside: which ones, and what the basis would be had it never seen them."""

import numpy as np
import torch


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


def scores_without(rows, scores, unseen, latent_dim):
    """The scores all rows would have, had the unseen rows played no part in the basis.

    One step of subspace iteration on the fitted rows alone takes out of the basis what only the
    unseen rows had put there. The new axes are the fitted rows' principal axes, turned (the
    code's among themselves, the others among themselves, which changes no reconstruction) to lie
    as near as possible to the old ones, so that networks trained on the new scores suit the old.
    """
    fitted = scores.clone()
    fitted[unseen] = 0.0
    image = rows.transposed_times(fitted)  # (p, r)
    lengths = torch.linalg.vector_norm(image, dim=0)
    shrink = torch.where(lengths > 1e-6 * lengths.max(), 1 / lengths, 0.0)
    image *= shrink
    orthonormalise = _inverse_root(image.T @ image)  # (r, r)
    held = rows.times(image) @ orthonormalise  # (n, r)
    overlap = ((fitted.T @ fitted) * shrink) @ orthonormalise  # old axes' new axes

    fitted = held.clone()
    fitted[unseen] = 0.0
    _, axes = torch.linalg.eigh((fitted.T @ fitted).double())
    axes = axes.flip(1).to(held.dtype)
    code, others = (held @ axes).tensor_split([latent_dim], dim=1)
    overlap = overlap @ axes
    k = latent_dim
    return torch.cat(
        [code @ _nearest_rotation(overlap[:k, :k]), others @ _nearest_rotation(overlap[k:, k:])], 1
    )


def _inverse_root(gram):
    """Symmetric inverse square root of a Gram matrix, zero where the matrix has no rank."""
    values, vectors = torch.linalg.eigh(gram.double())
    roots = torch.where(values > 1e-6 * values[-1], values.rsqrt(), 0.0)
    return (vectors * roots @ vectors.T).to(gram.dtype)


def _nearest_rotation(overlap):
    """The rotation R that brings ``overlap @ R`` nearest to the identity (Procrustes)."""
    left, _, right = torch.linalg.svd(overlap.T)
    return left @ right
