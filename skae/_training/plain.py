"""Plain autoencoders, trained on the rows themselves from random weights."""

import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from math import inf, isfinite, isnan

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning

from .._data.dense_rows import CompletedRows, Rows, weights_of
from .._data.splits import held_out_rows
from .._data.validation import Labels
from .._nn.autoencoders import PlainAutoencoder
from .._nn.losses import SquaredError
from .._nn.penalties import with_head
from .._runtime.device import in_pieces
from .data import row_set
from .observed import ObservedEntries, Targets, partly_hidden, with_output_for_missing
from .residual import scaled_batch, typical_entry
from .run import TrainingOptions, train, warn_if_cut_short

# Number of rows whose losses are computed at a time, and from which inputs are standardized.
_BATCH_SIZE = 128


def fit_plain(
    rows: Rows,
    build: Callable[[], PlainAutoencoder],
    bounded: bool,
    options: TrainingOptions,
    rng: np.random.RandomState,
    labels: Labels | None = None,
):
    """Train a plain autoencoder.

    Parameters
    ----------
    rows : Rows
    build : callable
        Returns a new module.
    bounded : bool
        Whether the outputs are rows as they are: by an output activation, or a custom decoder.
    options : TrainingOptions
    rng : RandomState
        Draws the validation rows, then the seed of training.
    labels : Labels, default=None
        Labels of the rows, if they take part in training.

    Returns
    -------
    module : PlainAutoencoder
        In the unit of X.
    history : list of dict
    """
    module, weights = build(), weights_of(rows)
    if not any(weight.requires_grad for weight in module.parameters()):
        raise ValueError("encoder and decoder have no weights that can be trained.")
    incomplete = isinstance(rows, CompletedRows)
    squared_norms = rows.observed_norms() if incomplete else rows.squared_norms()
    loss, unit = module.loss, 1.0
    if not bounded and not loss.has_link():
        # Reconstructions have the unit of the rows: the module is trained in one of its own.
        unit = typical_entry(rows, weights)
    mean, factor = _to(module, rows.mean / unit), unit**loss.degree
    get_batch = partial(scaled_batch, rows.own_dense, unit)
    get_target, targets = get_batch, None
    if incomplete:
        get_target = partial(scaled_batch, rows.observed.dense, unit)
        targets = Targets(get_target, partial(_corrupted_batch, rows, unit), ObservedEntries(loss))
    if not bounded:
        _standardize_inputs(module, rows, mean)
        module.mean = loss.output_of_mean(mean)
    error_of_mean = squared_norms
    if not isinstance(loss, SquaredError):
        output = loss.output_of_mean(mean)
        error_of_mean = factor * rows.of_all(
            _losses(output, loss, get_target, rows.own or slice(0, len(rows)))
        )
    fitted, validation = held_out_rows(len(rows), options.validation_fraction, rng, options.groups)

    def some_rows(indices):
        chosen = row_set(
            get_batch,
            indices,
            weights,
            error_of_mean,
            factor=factor,
            labels=labels,
            device=options.device,
        )
        return replace(chosen, targets=targets, own=rows.own)

    if labels is not None:
        labels = labels.standardised(weights)
        module = with_head(module, labels.n_classes, options.supervision, 0.0)
    history = _train(
        module,
        some_rows(fitted),
        some_rows(validation) if len(validation) else None,
        options,
        seed=rng.randint(2**31),
    )
    if labels is not None:
        del module.head
    # The encoder takes the rows themselves where the loss is in their unit, else a view of them.
    for name in ("mean", "scale", "centre", "unit") if loss.degree else ("mean", "scale"):
        setattr(module, name, getattr(module, name) * unit)
    return module, history


def _train(module, rows, validation, options, seed):
    """Train a module and report the result: the history."""
    history = train(module, rows, options, validation=validation, seed=seed)
    if options.interrupts.n and not history:
        raise KeyboardInterrupt  # nothing is known of the weights
    kind = "train_loss" if validation is None else "valid_loss"
    if options.has_custom and not any(isfinite(entry[kind]) for entry in history):
        raise ValueError(
            "encoder and decoder must return finite values, but in no epoch was the loss finite: "
            "look for a square root, a logarithm or a division in them, or lower learning_rate."
        )
    if options.interrupts.n:
        warnings.warn(
            f"Interrupted after {len(history)} epochs: the best networks so far are kept.",
            ConvergenceWarning,
            stacklevel=3,
        )
    else:
        warn_if_cut_short(history, options)
    kind = "training" if validation is None else "validation"
    best = max((e["variance_explained"] for e in history), key=lambda e: -inf if isnan(e) else e)
    options.report.conclude(
        f"codes and reconstructions: networks, {best:.3f} of the variance on {kind} rows",
        interrupted=options.interrupts.n > 0,
    )
    return history


def _standardize_inputs(module, rows, mean):
    """Set the buffers that centre and scale the inputs of the encoder."""
    if module.loss.degree:
        module.centre = mean
        return
    indices = np.linspace(0, len(rows) - 1, min(len(rows), _BATCH_SIZE)).astype(int)
    view = _to(module, module.loss.view(rows.dense(indices)))
    module.centre = view.mean(dim=0)
    unit = (view - module.centre).square().mean().sqrt()
    module.unit = torch.where(unit > 0, unit, 1.0)


def _corrupted_batch(rows, unit, indices, seed):
    return torch.from_numpy(partly_hidden(rows, indices, seed) / unit).float()


def _losses(output, loss, get_target, some):
    """The loss of each row of a slice, where the output is the same for all rows."""
    losses = np.empty(some.stop - some.start)

    def compute(indices):
        target = with_output_for_missing(get_target(indices).to(output), output)
        losses[indices - some.start] = loss.deviances(output, target).cpu()

    for indices in np.array_split(np.r_[some], -(-len(losses) // _BATCH_SIZE)):
        in_pieces(indices, compute)
    return losses


def _to(module, array):
    """An array or tensor in float32, on the device of the module."""
    return torch.as_tensor(array).to(module.mean)
