"""Networks trained on the rows themselves: plain ones, and ones on top of PCA."""

import warnings
from collections.abc import Callable

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning

from ._gate import LINEAR, Ground, Verdict, fit_residuals
from ._modules import LinearPathAutoencoder, PlainAutoencoder
from ._net import Interrupted, RowSet, TrainingOptions, train
from ._rows import Rows
from ._scores import compressed_scale
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
    mean, unit = None, 1.0
    if not bounded:
        unit = _typical_entry(rows.squared_norms(), rows.shape[1])
        mean = torch.from_numpy(rows.mean / unit).float()
    module = build(mean)
    fetch = _fetch(rows, unit)
    fitted, unseen = held_out_runs(len(rows), validation_fraction, rng)
    try:
        history = train(
            module,
            RowSet(fetch, fitted),
            options,
            unseen=RowSet(fetch, unseen) if len(unseen) else None,
            seed=rng.randint(2**31),
        )
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
    squared_norms = rows.squared_norms()
    scores = rows.times(directions)
    captured = float(scores.double().square().sum())
    if len(unseen) == 0 or squared_norms.sum() - captured <= 1e-6 * squared_norms.sum():
        return LINEAR
    unit = _typical_entry(squared_norms, rows.shape[1])
    mean = torch.from_numpy(rows.mean / unit).float()

    def ground(directions, scores):
        scale = compressed_scale(scores / unit)
        axes = directions.float()
        return Ground(_fetch(rows, unit), lambda encoder: build(mean, axes, scale.float(), encoder))

    held = directions_without(rows, scores, unseen)
    verdict = fit_residuals(
        ground(held, rows.times(held)[fitted]),
        ground(directions, scores),
        fitted,
        unseen,
        squared_norms[unseen].sum() / unit**2,
        directions.shape[1],
        options,
        seed,
    )
    if verdict.module is not None:
        # The module is homogeneous: this is all there is to changing the unit.
        for buffer in (verdict.module.mean, verdict.module.scale, verdict.module.unit):
            buffer *= unit
    return verdict


def _typical_entry(squared_norms, n_features):
    """Root of the mean square of the centred entries; 1.0 if all are zero."""
    return float(np.sqrt(squared_norms.mean() / n_features)) or 1.0


def _fetch(rows, unit):
    def fetch(numbers):
        return (rows.dense(numbers) / unit).float()

    return fetch
