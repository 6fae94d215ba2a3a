"""Networks trained on the rows themselves: plain ones, and ones on top of PCA."""

import warnings
from collections.abc import Callable

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning

from ._gate import FEWEST_UNSEEN, Ground, Verdict, fit_residuals
from ._modules import LinearPathAutoencoder, PlainAutoencoder
from ._net import row_set
from ._rows import Rows, weights_of
from ._scores import compressed_scale
from ._tall import squared_lengths
from ._training import Interrupted, TrainingOptions, train, warn_if_cut_short
from ._unseen import directions_without, held_out_runs


def fit_plain(
    rows: Rows,
    build: Callable[[torch.Tensor | None], PlainAutoencoder],
    bounded: bool,
    options: TrainingOptions,
    validation_fraction: float,
    rng: np.random.RandomState,
):
    """Train a plain autoencoder.

    Parameters
    ----------
    rows : Rows
    build : callable
        ``build(mean)`` makes the module.
    bounded : bool
        Whether the module has an output activation, in whose range the rows lie as they are.
        Without one it is homogeneous, and is trained in the unit of the data.
    options : TrainingOptions
    validation_fraction : float
        Share of the rows to put aside.
    rng : RandomState

    Returns
    -------
    module : PlainAutoencoder
    history : list of dict
    """
    squared_norms, weights = rows.squared_norms(), weights_of(rows)
    mean, unit = None, 1.0
    if not bounded:
        unit = _typical_entry(squared_norms, weights, rows.shape[1])
        mean = torch.from_numpy(rows.mean / unit).float()
    module = build(mean)
    fetch = _fetch(rows, unit)
    fitted, unseen = held_out_runs(len(rows), validation_fraction, rng)

    def rows_at(numbers):
        outside = np.zeros(len(rows))
        return row_set(fetch, numbers, unit, squared_norms, outside, weights)

    options.report.plan(options.max_epochs)
    try:
        history = train(
            module,
            rows_at(fitted),
            options,
            unseen=rows_at(unseen) if len(unseen) else None,
            seed=rng.randint(2**31),
        )
        warn_if_cut_short(history, options)
    except Interrupted as stop:
        history = stop.history
        if not history:
            raise
        warnings.warn(
            f"Interrupted after {len(history)} of {options.max_epochs} epochs: the best is kept.",
            ConvergenceWarning,
            stacklevel=2,
        )
    module.mean *= unit
    module.scale *= unit
    return module, history


def fit_linear_path(
    rows: Rows,
    directions: torch.Tensor,
    build: Callable[..., LinearPathAutoencoder],
    options: TrainingOptions,
    validation_fraction: float,
    rng: np.random.RandomState,
) -> Verdict:
    """Train residual networks on the rows, if they are worth it.

    Parameters
    ----------
    rows : Rows
    directions : Tensor of shape (p, k)
        Their leading principal directions.
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
    squared_norms, weights = rows.squared_norms(), weights_of(rows)
    scores = rows.times(directions)
    nothing_left = squared_norms.sum() - squared_lengths(scores).sum() <= 1e-6 * squared_norms.sum()
    if len(unseen) < FEWEST_UNSEEN or nothing_left:
        return Verdict()
    unit = _typical_entry(squared_norms, weights, rows.shape[1])
    mean = torch.from_numpy(rows.mean / unit).float()

    def ground(directions, scores, known):
        scale = compressed_scale(scores, known) / unit
        axes = directions.float()
        return Ground(
            _fetch(rows, unit),
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


def _typical_entry(squared_norms, weights, n_features):
    """Root of the mean square of the centred entries; 1.0 if all are zero."""
    return float(np.sqrt(np.average(squared_norms, weights=weights) / n_features)) or 1.0


def _fetch(rows, unit):
    def fetch(numbers):
        return (rows.dense(numbers) / unit).float()

    return fetch
