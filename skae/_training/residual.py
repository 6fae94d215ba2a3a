"""Networks on top of PCA: training problems on the scores and on the rows themselves."""

from collections.abc import Callable

import numpy as np
import torch

from .._data.rows import Rows, weights_of
from .._data.splits import held_out_runs
from .._nn.autoencoders import LinearPathAutoencoder, ResidualAutoencoder
from .._pca.holdout import directions_without_validation, scores_without_validation
from .._pca.solvers import Basis
from .._runtime.device import in_float64
from .._runtime.tensors import in_float32, squared_row_norms
from .selection import Ground, SelectionResult, fit_residuals, pca_without_trial
from .trainer import TrainingOptions

# Networks see so many times as far as the rows that they learn from lie.
_BEYOND = 2.0

# Deviations and reach are taken from so many rows.
_ENOUGH_ROWS = 10_000


def fit_on_scores(
    rows: Rows,
    basis: Basis,
    latent_dim: int,
    build: Callable[[torch.Tensor, bool], ResidualAutoencoder],
    options: TrainingOptions,
    validation_fraction: float,
    rng: np.random.RandomState,
) -> SelectionResult:
    """Train residual networks on the scores of rows, if they are worth it.

    Parameters
    ----------
    rows : Rows
        n rows.
    basis : Basis
        Their r leading principal directions, r at least k.
    latent_dim : int
        Length k of the code.
    build : callable
        ``build(scale, encoder)`` makes a fresh module, with or without a non-linear encoder.
    options : TrainingOptions
    validation_fraction : float
        Share of the rows to put aside.
    rng : RandomState
    """
    fitted, validation = held_out_runs(len(rows), validation_fraction, rng)
    seed = rng.randint(2**31)
    pca = pca_without_trial(basis, latent_dim, validation, options)
    if pca is not None:
        return pca
    directions = basis.directions
    rows.prepare_for_many_products()  # whoever found the directions: one way to round
    scores = rows.times(directions)
    squared_norms, weights = rows.squared_norms(), weights_of(rows)

    # In units of the typical row, so that the optimizer meets the same numbers for any data.
    unit = float(np.sqrt(np.average(squared_norms, weights=weights)))

    def ground(scores, known):
        outside = np.maximum(squared_norms - squared_row_norms(scores), 0.0)
        beyond = squared_row_norms(scores[:, latent_dim:])
        scores = in_float32(scores.div_(unit))
        few = scores_of_few(scores, known)
        scale = compressed(few.std(dim=0))

        def build_clipped(encoder):
            module = build(scale, encoder)
            widen_clipping_bound(module, few)
            return module

        return Ground(
            lambda numbers: scores[numbers].to(options.device),
            build_clipped,
            unit,
            squared_norms,
            outside + beyond,
            outside,
            weights,
        )

    held = ground(scores_without_validation(rows, scores, validation, latent_dim), fitted)
    whole = ground(scores, np.arange(len(rows)))
    result = fit_residuals(held, whole, fitted, validation, latent_dim, options, seed)
    if result.module is not None:
        # The module is homogeneous: this is all there is to changing the unit.
        result.module.scale *= unit
    return result


def scores_of_few(scores, numbers):
    """The scores of some of the rows with the given numbers."""
    return scores[numbers[:: 1 + len(numbers) // _ENOUGH_ROWS]]


def widen_clipping_bound(module, scores):
    """Let the networks see as far as twice the largest of some scores in each direction.

    A direction in which rows hardly differ is magnified, and one row that does differ in it would
    else be thousands of deviations away.
    """
    largest = scores.abs().amax(dim=0).to(module.scale) / module.scale
    # Of networks that have not learnt yet it is infinite.
    before = torch.where(module.clipping_bound.isinf(), 0.0, module.clipping_bound)
    module.clipping_bound = torch.maximum(before, _BEYOND * largest)


def compressed(deviations):
    """Geometric mean of each score's own deviation and of their common one; of 1 if that is 0."""
    common = deviations.square().mean().sqrt()
    common = torch.where(common > 0, common, 1.0)
    return (deviations.clamp_min(1e-6 * common) * common).sqrt()


def fit_linear_path(
    rows: Rows,
    basis: Basis,
    build: Callable[..., LinearPathAutoencoder],
    options: TrainingOptions,
    validation_fraction: float,
    rng: np.random.RandomState,
) -> SelectionResult:
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
    fitted, validation = held_out_runs(len(rows), validation_fraction, rng)
    seed = rng.randint(2**31)
    directions = basis.directions
    pca = pca_without_trial(basis, directions.shape[1], validation, options)
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
            batch_getter(rows, unit),
            lambda encoder: build(mean, axes, scale.float(), encoder),
            unit,
            squared_norms,
            np.maximum(squared_norms - squared_row_norms(scores), 0.0),
            np.zeros(len(rows)),
            weights,
        )

    directions_held = directions_without_validation(rows, scores, validation)
    result = fit_residuals(
        ground(directions_held, rows.times(directions_held), fitted),
        ground(directions, scores, np.arange(len(rows))),
        fitted,
        validation,
        directions.shape[1],
        options,
        seed,
    )
    if result.module is not None:
        # The module is homogeneous: this is all there is to changing the unit.
        for buffer in (result.module.mean, result.module.scale, result.module.unit):
            buffer *= unit
    return result


def typical_entry(rows, weights):
    """Root of the mean square of the centred entries; 1.0 if all entries are zero.

    At least what float32 can tell from the mean: less is rounding.
    """
    typical = np.sqrt(np.average(rows.squared_norms(), weights=weights) / rows.shape[1])
    of_mean = np.sqrt(np.mean(np.square(rows.mean)))
    return float(max(typical, np.finfo(np.float32).eps * of_mean)) or 1.0


def batch_getter(rows, unit):
    def fetch(numbers):
        return (rows.dense(numbers) / unit).float()

    return fetch
