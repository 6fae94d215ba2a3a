"""Residual networks on principal component scores: what the gate needs to know of them."""

from collections.abc import Callable

import numpy as np
import torch

from ._gate import FEWEST_UNSEEN, Ground, Verdict, fit_residuals
from ._modules import ResidualAutoencoder
from ._rows import Rows, weights_of
from ._training import TrainingOptions
from ._unseen import held_out_runs, scores_without
from ._weights import counted, counting, uncounted


def fit_on_scores(
    rows: Rows,
    directions: torch.Tensor,
    latent_dim: int,
    build: Callable[[torch.Tensor, bool], ResidualAutoencoder],
    options: TrainingOptions,
    validation_fraction: float,
    rng: np.random.RandomState,
) -> Verdict:
    """Train residual networks on the scores of rows, if they are worth it.

    Parameters
    ----------
    rows : Rows
        n rows.
    directions : Tensor of shape (p, r)
        Their leading principal directions, r at least k.
    latent_dim : int
        Length k of the code.
    build : callable
        ``build(scale, encoder)`` makes a fresh module, with or without a non-linear encoder.
    options : TrainingOptions
    validation_fraction : float
        Share of the rows to put aside.
    rng : RandomState
    """
    fitted, unseen = held_out_runs(len(rows), validation_fraction, rng)
    seed = rng.randint(2**31)
    if directions.shape[1] == latent_dim or len(unseen) < FEWEST_UNSEEN:
        return Verdict()
    scores = rows.times(directions)
    squared_norms = rows.squared_norms()
    if float(scores[:, latent_dim:].square().sum()) <= 1e-6 * squared_norms.sum():
        return Verdict()

    # In units of the typical row, so that the optimizer meets the same numbers for any data.
    weights = weights_of(rows)
    unit = float(np.sqrt(np.average(squared_norms, weights=weights)))

    def ground(scores, known):
        outside = np.maximum(squared_norms - squared_lengths(scores), 0.0)
        beyond = squared_lengths(scores[:, latent_dim:])
        scores = scores.div_(unit).float()
        scale = compressed_scale(scores[known])
        return Ground(
            scores.__getitem__,
            lambda encoder: build(scale, encoder),
            unit,
            squared_norms,
            outside + beyond,
            outside,
            weights,
        )

    held = scores_without(counting(rows), counted(scores, rows), unseen)
    held = ground(uncounted(held, rows), fitted)
    verdict = fit_residuals(
        held, ground(scores, slice(None)), fitted, unseen, latent_dim, options, seed
    )
    if verdict.module is not None:
        # The module is homogeneous: this is all there is to changing the unit.
        verdict.module.scale *= unit
    return verdict


def squared_lengths(scores):
    """Squared length of each row, in float64: shape (n,)."""
    return torch.linalg.vector_norm(scores, dim=1, dtype=torch.float64).square().cpu().numpy()


def compressed_scale(scores):
    """The `compressed` deviations of scores."""
    return compressed(scores.std(dim=0))


def compressed(deviations):
    """Geometric mean of each score's own deviation and of their common one."""
    common = deviations.square().mean().sqrt()
    return (deviations.clamp_min(1e-6 * common) * common).sqrt()
