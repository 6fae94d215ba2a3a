"""The gate: non-linear networks stay only where unseen rows say they beat PCA.

Some rows are put aside and play no part in the basis or in training. In a rehearsal, a short
training on the others, the linear model, the linear code with a non-linear decoder, and the fully
non-linear pair are compared on them; the simplest that is not clearly beaten wins, and is then
trained afresh on all rows.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch

from ._modules import ResidualAutoencoder
from ._net import RowSet, TrainingOptions, train
from ._rows import Rows
from ._unseen import held_out_runs, scores_without

# Length of a rehearsal, as a share of the epochs.
_REHEARSAL = 0.25

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


@dataclass(frozen=True)
class Verdict:
    """What the gate decided.

    Attributes
    ----------
    module : ResidualAutoencoder
        The winner, trained; None if PCA won.
    gain : float
        Share of the variance of the unseen rows that it explained beyond PCA in the rehearsal;
        0.0 if PCA won.
    history : list of dict
        Epochs of the winner's training on all rows; empty if PCA won.
    """

    module: ResidualAutoencoder | None
    gain: float
    history: list


LINEAR = Verdict(None, 0.0, [])


def fit_residuals(
    rows: Rows,
    directions: torch.Tensor,
    latent_dim: int,
    build: Callable[[torch.Tensor, bool, bool], ResidualAutoencoder],
    options: TrainingOptions,
    validation_fraction: float,
    rng: np.random.RandomState,
) -> Verdict:
    """Train residual networks on principal component scores, if they are worth it.

    Parameters
    ----------
    rows : Rows
        n rows.
    directions : Tensor of shape (p, r)
        Their leading principal directions, r at least k.
    latent_dim : int
        Length k of the code.
    build : callable
        ``build(scale, encoder, decoder)`` makes a fresh module, with or without a non-linear
        encoder and decoder.
    options : TrainingOptions
    validation_fraction : float
        Share of the rows to put aside.
    rng : RandomState
    """
    fitted, unseen = held_out_runs(len(rows), validation_fraction, rng)
    if directions.shape[1] == latent_dim or len(unseen) < _FEWEST_UNSEEN:
        return LINEAR
    scores = rows.times(directions)
    squared_norms = rows.squared_norms()
    if float(scores[:, latent_dim:].square().sum()) <= 1e-6 * squared_norms.sum():
        return LINEAR

    # In units of the typical row, so that the optimizer meets the same numbers for any data.
    unit = float(np.sqrt(squared_norms.mean()))
    held = scores_without(rows, scores, unseen).div_(unit).float()
    scores = scores.div_(unit).float()
    total = squared_norms[unseen].sum() / unit**2
    scale = _compressed_scale(held[fitted])
    linear_errors = held[unseen, latent_dim:].double().square().sum(dim=1).cpu().numpy()
    seed = rng.randint(2**31)
    n_rehearsed = max(min(2, options.max_epochs), round(_REHEARSAL * options.max_epochs))

    def rehearse(encoder):
        module = build(scale, encoder, True)
        history = train(
            module,
            RowSet(held.__getitem__, fitted),
            replace(options, max_epochs=n_rehearsed),
            unseen=RowSet(held.__getitem__, unseen),
            seed=seed,
            title="rehearsal of both networks" if encoder else "rehearsal of the decoder",
        )
        return linear_errors - _squared_errors(module, held[unseen]), _best_epoch(history)

    gains, best_epoch = rehearse(encoder=False)
    encoder = False
    if latent_dim <= _LONGEST_NONLINEAR_CODE:
        gains_of_both, best_epoch_of_both = rehearse(encoder=True)
        encoder = gains_of_both.sum() - gains.sum() > _ENCODER_PRICE * total
    if encoder:
        gains, best_epoch = gains_of_both, best_epoch_of_both
    gain = gains.sum() / total
    if gain < _WORTHWHILE or not _clearly_positive(gains):
        return LINEAR

    n_epochs = options.max_epochs
    if options.early_stopping:
        stretch = n_epochs / n_rehearsed if gain > _SAFE else 1
        n_epochs = round(best_epoch * stretch)
    module = build(_compressed_scale(scores), encoder, True)
    history = train(
        module,
        RowSet(scores.__getitem__, np.arange(len(rows))),
        replace(options, max_epochs=n_epochs),
        seed=seed,
        title="all rows",
    )
    module.scale *= unit  # the module is homogeneous: this is all there is to changing the unit
    return Verdict(module, float(gain), history)


def _best_epoch(history):
    return 1 + int(np.argmin([epoch["valid_loss"] for epoch in history]))


def _compressed_scale(scores):
    """Geometric mean of each score's own deviation and of their common one."""
    deviations = scores.std(dim=0)
    common = deviations.square().mean().sqrt()
    return (deviations.clamp_min(1e-6 * common) * common).sqrt()


def _squared_errors(module, scores):
    with torch.inference_mode():
        errors = [
            (batch - module(batch)).double().square().sum(dim=1) for batch in scores.split(4096)
        ]
    return torch.cat(errors).cpu().numpy()


def _clearly_positive(gains):
    """Whether the mean gain is more than two of its standard errors above zero."""
    return gains.mean() > 2 * gains.std() / np.sqrt(len(gains))
