"""Networks on top of PCA, trained on the rows themselves: what the gate needs to know of them."""

from collections.abc import Callable

import numpy as np
import torch

from ._basis import Basis
from ._device import in_float64
from ._gate import Ground, Verdict, fit_residuals, pca_without_trial
from ._modules import LinearPathAutoencoder
from ._rows import Rows, weights_of
from ._scores import compressed, scores_of_few
from ._tall import squared_lengths
from ._training import TrainingOptions
from ._unseen import directions_without, held_out_runs


def fit_linear_path(
    rows: Rows,
    basis: Basis,
    build: Callable[..., LinearPathAutoencoder],
    options: TrainingOptions,
    validation_fraction: float,
    rng: np.random.RandomState,
) -> Verdict:
    """Train residual networks on the rows, if they are worth it.

    Parameters
    ----------
    rows : Rows
    basis : Basis
        Their k leading principal directions.
    build : callable
        ``build(mean, directions, scale, encoder)`` makes a fresh module, with or without a
        non-linear encoder.
    options : TrainingOptions
    validation_fraction : float
        Share of the rows to put aside.
    rng : RandomState
    """
    fitted, unseen = held_out_runs(len(rows), validation_fraction, rng)
    seed = rng.randint(2**31)
    directions = basis.directions
    pca = pca_without_trial(basis, directions.shape[1], unseen, options)
    if pca is not None:
        return pca
    squared_norms, weights = rows.squared_norms(), weights_of(rows)
    rows.prepare_for_many_products()  # whoever found the directions: one way to round
    scores = rows.times(directions)
    unit = typical_entry(rows, weights)
    mean = torch.from_numpy(rows.mean / unit).float()

    def ground(directions, scores, known):
        scale = compressed(in_float64(scores_of_few(scores, known)).std(dim=0)) / unit
        axes = directions.float()
        return Ground(
            fetcher_of(rows, unit),
            lambda encoder: build(mean, axes, scale.float(), encoder),
            unit,
            squared_norms,
            np.maximum(squared_norms - squared_lengths(scores), 0.0),
            np.zeros(len(rows)),
            weights,
        )

    directions_held = directions_without(rows, scores, unseen)
    verdict = fit_residuals(
        ground(directions_held, rows.times(directions_held), fitted),
        ground(directions, scores, np.arange(len(rows))),
        fitted,
        unseen,
        directions.shape[1],
        options,
        seed,
    )
    if verdict.module is not None:
        # The module is homogeneous: this is all there is to changing the unit.
        for buffer in (verdict.module.mean, verdict.module.scale, verdict.module.unit):
            buffer *= unit
    return verdict


def typical_entry(rows, weights):
    """Root of the mean square of the centred entries; 1.0 if all entries are zero.

    At least what float32 can tell from the mean: less is rounding.
    """
    typical = np.sqrt(np.average(rows.squared_norms(), weights=weights) / rows.shape[1])
    of_mean = np.sqrt(np.mean(np.square(rows.mean)))
    return float(max(typical, np.finfo(np.float32).eps * of_mean)) or 1.0


def fetcher_of(rows, unit):
    def fetch(numbers):
        return (rows.dense(numbers) / unit).float()

    return fetch
