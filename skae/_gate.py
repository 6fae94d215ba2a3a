"""The gate: non-linear networks stay only where unseen rows say they beat PCA.

Some rows are put aside and play no part in the basis or in training. In a rehearsal, a short
training on the others, the linear model, the linear code with a non-linear decoder, and the fully
non-linear pair are compared on them; the simplest that is not clearly beaten wins, and is then
trained afresh on all rows.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning

from ._modules import Autoencoder
from ._net import Interrupted, RowSet, TrainingOptions, train

# Length of a rehearsal, as a share of the epochs.
_REHEARSAL = 0.25

# A single epoch is a rehearsal if it has so many steps; else there are two at least.
_FEWEST_STEPS = 200

# Fewer rows cannot tell a gain from luck.
_FEWEST_UNSEEN = 8

# What a rehearsal must gain for the rest to be worth its time, and for training to be longer than
# was rehearsed: a small gain could be lost again. Shares of the variance.
_WORTHWHILE, _SAFE = 0.001, 0.02

# What a non-linear encoder must gain over a non-linear decoder alone, as a share of the variance:
# it moves the codes away from PCA's, which classifiers feel (docs/design.md).
_ENCODER_PRICE = 0.003

# Codes longer than this have never gained from a non-linear encoder: it is not rehearsed.
_LONGEST_NONLINEAR_CODE = 256

# Rows whose errors are computed at a time.
_BATCH = 1024


@dataclass(frozen=True)
class Ground:
    """Rows as networks meet them, in one basis.

    Attributes
    ----------
    fetch : callable
        From an array of row numbers to a dense tensor of those rows.
    build : callable
        ``build(encoder)`` makes a fresh module that is PCA until it is trained: a non-linear
        decoder on the linear code, and with ``encoder`` a non-linear encoder as well.
    """

    fetch: Callable[[np.ndarray], torch.Tensor]
    build: Callable[[bool], Autoencoder]


@dataclass(frozen=True)
class Verdict:
    """What the gate decided.

    Attributes
    ----------
    module : Autoencoder
        The winner, trained; None if PCA won.
    gain : float
        Share of the variance of the unseen rows that it explained beyond PCA in the rehearsal;
        0.0 if PCA won.
    history : list of dict
        Epochs of the winner's training on all rows; empty if PCA won.
    """

    module: Autoencoder | None
    gain: float
    history: list


LINEAR = Verdict(None, 0.0, [])


def fit_residuals(
    held: Ground,
    whole: Ground,
    fitted: np.ndarray,
    unseen: np.ndarray,
    variance: float,
    latent_dim: int,
    options: TrainingOptions,
    seed: int,
) -> Verdict:
    """Train residual networks on top of PCA, if they are worth it.

    Parameters
    ----------
    held : Ground
        In a basis that has not seen the unseen rows: for the rehearsals.
    whole : Ground
        In the basis of all rows: for the final training.
    fitted, unseen : ndarray of int
        Numbers of the rows to rehearse on, and of those to judge by.
    variance : float
        Sum of the squared distances of the unseen rows from the mean, in the units of ``held``.
    latent_dim : int
        Length of the code.
    options : TrainingOptions
    seed : int
    """
    if len(unseen) < _FEWEST_UNSEEN:
        return LINEAR
    judges = RowSet(held.fetch, unseen)
    linear_errors = _squared_errors(held.build(False), judges)
    fewest = 1 if len(fitted) >= _FEWEST_STEPS * options.batch_size else 2
    n_rehearsed = max(min(fewest, options.max_epochs), round(_REHEARSAL * options.max_epochs))

    def rehearse(encoder):
        module = held.build(encoder)
        history = train(
            module,
            RowSet(held.fetch, fitted),
            replace(options, max_epochs=n_rehearsed),
            unseen=judges,
            seed=seed,
            title="rehearsal of both networks" if encoder else "rehearsal of the decoder",
        )
        return linear_errors - _squared_errors(module, judges), _best_epoch(history)

    encoder = False
    try:
        gains, best_epoch = rehearse(encoder=False)
        if latent_dim <= _LONGEST_NONLINEAR_CODE:
            gains_of_both, best_epoch_of_both = rehearse(encoder=True)
            encoder = gains_of_both.sum() - gains.sum() > _ENCODER_PRICE * variance
    except Interrupted:
        _warn("Interrupted before the networks had proved themselves: the model is PCA.")
        return LINEAR
    if encoder:
        gains, best_epoch = gains_of_both, best_epoch_of_both
    gain = gains.sum() / variance
    if gain < _WORTHWHILE or not _clearly_positive(gains):
        return LINEAR

    n_epochs = options.max_epochs
    if options.early_stopping:
        stretch = n_epochs / n_rehearsed if gain > _SAFE else 1
        n_epochs = round(best_epoch * stretch)
    module = whole.build(encoder)
    try:
        history = train(
            module,
            RowSet(whole.fetch, np.arange(len(fitted) + len(unseen))),
            replace(options, max_epochs=n_epochs),
            seed=seed,
            title="all rows",
        )
    except Interrupted as stop:
        history = stop.history
        _warn(f"Interrupted after {len(history)} of {n_epochs} epochs: the best is kept.")
    judges = RowSet(whole.fetch, unseen)
    if (
        not _squared_errors(module, judges).sum()
        < _squared_errors(whole.build(False), judges).sum()
    ):
        _warn("Training ended behind PCA: the model is PCA.")
        return LINEAR
    return Verdict(module, float(gain), history)


def _warn(sentence):
    warnings.warn(sentence, ConvergenceWarning, stacklevel=2)


def _best_epoch(history):
    losses = np.array([epoch["valid_loss"] for epoch in history])
    return 1 + int(np.argmin(np.where(np.isnan(losses), np.inf, losses)))


@torch.inference_mode()
def _squared_errors(module, rows):
    """Squared error of each row of a `RowSet`."""
    module.eval()
    errors = []
    for numbers in np.array_split(rows.numbers, -(-len(rows) // _BATCH)):
        x = rows.fetch(numbers)
        errors.append((x - module(x)).double().square().sum(dim=1))
    return torch.cat(errors).cpu().numpy()


def _clearly_positive(gains):
    """Whether the mean gain is more than two of its standard errors above zero."""
    return gains.mean() > 2 * gains.std() / np.sqrt(len(gains))
