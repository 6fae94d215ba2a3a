"""Plain autoencoders, trained on the rows themselves from random weights."""

import warnings
from collections.abc import Callable

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning

from .._data.rows import Rows, weights_of
from .._data.splits import held_out_runs
from .._nn.autoencoders import PlainAutoencoder
from .._nn.losses import SquaredError
from .._runtime.device import in_pieces
from .._runtime.progress import PlannedStage
from .net import row_set
from .residual import batch_getter, typical_entry
from .trainer import Interrupted, TrainingOptions, train, warn_if_cut_short

# Rows whose losses are computed at a time, and from which the typical entry of a view is taken.
_ENOUGH_ROWS = 128


def fit_plain(
    rows: Rows,
    build: Callable[[], PlainAutoencoder],
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
        Makes the module.
    bounded : bool
        Whether the module has an output activation, in whose range the rows lie as they are.
    options : TrainingOptions
    validation_fraction : float
        Share of the rows to put aside.
    rng : RandomState

    Returns
    -------
    module : PlainAutoencoder
    history : list of dict
    """
    module, squared_norms, weights = build(), rows.squared_norms(), weights_of(rows)
    loss, unit = module.loss, 1.0
    if not bounded and loss.degree:
        # Homogeneous: it is trained in the unit of the data, and brought back to X at the end.
        unit = typical_entry(rows, weights)
    mean, fetch, factor = _to(module, rows.mean / unit), batch_getter(rows, unit), unit**loss.degree
    if not bounded:
        _set_view(module, rows, mean)
        module.mean = loss.output_of_mean(mean)
    of_mean = squared_norms
    if not isinstance(loss, SquaredError):
        of_mean = factor * _losses_by(loss.output_of_mean(mean), loss, fetch, len(rows))
    fitted, validation = held_out_runs(len(rows), validation_fraction, rng)

    def rows_at(numbers):
        return row_set(fetch, numbers, factor, of_mean, np.zeros(len(rows)), weights)

    history = _trained(
        module,
        rows_at(fitted),
        rows_at(validation) if len(validation) else None,
        options,
        seed=rng.randint(2**31),
    )
    if loss.degree:
        for name in ("centre", "unit", "mean", "scale"):
            setattr(module, name, getattr(module, name) * unit)
    return module, history


def _trained(module, rows, validation, options, seed):
    """Train a module, and tell what came of it: its history."""
    may_stop = options.early_stopping and validation is not None
    stage = PlannedStage("training", "training", options.max_epochs)
    options.report.plan([stage], may_end_early=may_stop)
    interrupted = False
    try:
        history = train(module, rows, options, validation=validation, seed=seed)
        if len(history) == options.max_epochs:
            warn_if_cut_short(history, options)
    except Interrupted as stop:
        history, interrupted = stop.history, True
        if not history:
            raise
        warnings.warn(
            f"Interrupted after {len(history)} of {options.max_epochs} epochs: the best is kept.",
            ConvergenceWarning,
            stacklevel=3,
        )
    judges = "training" if validation is None else "validation"
    best = max(epoch["variance_explained"] for epoch in history)
    options.report.conclude(
        f"networks kept: {best:.3f} of the variance explained on {judges} rows",
        interrupted=interrupted,
    )
    return history


def _set_view(module, rows, mean):
    """Let the encoder see numbers near one."""
    if module.loss.degree:
        module.centre = mean
        return
    numbers = np.linspace(0, len(rows) - 1, min(len(rows), _ENOUGH_ROWS)).astype(int)
    view = _to(module, module.loss.view(rows.dense(numbers)))
    module.centre = view.mean(dim=0)
    unit = (view - module.centre).square().mean().sqrt()
    module.unit = torch.where(unit > 0, unit, 1.0)


def _losses_by(output, loss, fetch, n_rows):
    """The loss of each row by one output for all."""
    losses = np.empty(n_rows)

    def compare(numbers):
        losses[numbers] = loss.deviances(output, fetch(numbers).to(output)).cpu()

    for numbers in np.array_split(np.arange(n_rows), -(-n_rows // _ENOUGH_ROWS)):
        in_pieces(numbers, compare)
    return losses


def _to(module, array):
    """An array or tensor in float32, where the module is."""
    return torch.as_tensor(array).to(module.mean)
