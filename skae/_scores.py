"""Residual networks on principal component scores: what the gate needs to know of them."""

from collections.abc import Callable

import numpy as np
import torch

from ._gate import LINEAR, Ground, Verdict, fit_residuals
from ._modules import ResidualAutoencoder
from ._net import TrainingOptions
from ._rows import Rows
from ._unseen import held_out_runs, scores_without


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
    if directions.shape[1] == latent_dim or len(unseen) == 0:
        return LINEAR
    scores = rows.times(directions)
    squared_norms = rows.squared_norms()
    if float(scores[:, latent_dim:].square().sum()) <= 1e-6 * squared_norms.sum():
        return LINEAR

    # In units of the typical row, so that the optimizer meets the same numbers for any data.
    unit = float(np.sqrt(squared_norms.mean()))
    held = scores_without(rows, scores, unseen).div_(unit).float()
    scores = scores.div_(unit).float()

    def ground(scores, known):
        scale = compressed_scale(scores[known])
        return Ground(scores.__getitem__, lambda encoder: build(scale, encoder))

    verdict = fit_residuals(
        ground(held, fitted),
        ground(scores, slice(None)),
        fitted,
        unseen,
        squared_norms[unseen].sum() / unit**2,
        latent_dim,
        options,
        seed,
    )
    if verdict.module is not None:
        # The module is homogeneous: this is all there is to changing the unit.
        verdict.module.scale *= unit
    return verdict


def compressed_scale(scores):
    """Geometric mean of each score's own deviation and of their common one."""
    deviations = scores.std(dim=0)
    common = deviations.square().mean().sqrt()
    return (deviations.clamp_min(1e-6 * common) * common).sqrt()
