"""The shortest code that explains a given share of the variance, by PCA's count."""

import warnings

import numpy as np
import torch

from ._basis import principal_basis
from ._device import in_float64
from ._gate import FEWEST_UNSEEN
from ._rows import weights_of
from ._tall import parts_of
from ._unseen import held_out_runs, scores_without
from ._weights import counting

# Directions to begin with; then four times as many.
_FIRST_GUESS = 64


def shortest_code(rows, share, validation_fraction, seed):
    """How many principal directions explain ``share`` of the variance of unseen rows.

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
    _, unseen = held_out_runs(len(rows), validation_fraction, np.random.RandomState(seed))
    generator = torch.Generator().manual_seed(seed)
    while True:
        basis = principal_basis(counting(rows), n_directions, generator=generator)
        explained = _explained(rows, basis, unseen)
        if explained[-1] >= share or n_directions == most:
            break
        n_directions = min(4 * n_directions, most)
    if explained[-1] < share:
        warnings.warn(
            f"latent_dim={share} is out of reach: all {most} principal directions that "
            f"n_samples={len(rows)} and n_features={rows.shape[1]} allow explain "
            f"{explained[-1]:.3f} of the variance of unseen rows. The code has that length.",
            UserWarning,
            stacklevel=2,
        )
        return most
    return int(np.searchsorted(explained, share)) + 1


def _explained(rows, basis, unseen):
    """Share of the variance that the first directions explain, for each number of them."""
    if len(unseen) < FEWEST_UNSEEN:
        return np.cumsum(basis.explained_variance_ratio)
    held = scores_without(rows, rows.times(basis.directions), unseen)
    weights, squares = np.zeros(len(rows)), np.zeros(held.shape[1])
    weights[unseen] = weights_of(rows)[unseen]
    for part in parts_of(held):
        squares += weights[part] @ in_float64(held[part]).square().cpu().numpy()
    return np.cumsum(squares) / (weights @ rows.squared_norms() or 1.0)
