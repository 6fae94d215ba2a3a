"""The gate: non-linear networks stay only where unseen rows say they beat PCA.

Some rows are put aside and play no part in the basis or in training. On them the linear model, the
linear code with a non-linear decoder, and the fully non-linear pair are compared; the simplest
that is not clearly beaten wins and is then trained a little further on all rows.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch

from ._modules import ResidualAutoencoder
from ._net import RowSet, TrainingOptions, train
from ._rows import Rows
from ._unseen import held_out_runs, scores_without

# Shares of the epochs: for a first look at each candidate, and for the last touch on all rows.
_PILOT, _REFINE = 0.25, 0.25

# Fewer rows cannot tell a gain from luck.
_FEWEST_UNSEEN = 8

# What a non-linear encoder must gain over a non-linear decoder alone, as a share of the variance:
# it moves the codes away from PCA's, which classifiers feel (docs/design.md).
_ENCODER_PRICE = 0.003


@dataclass(frozen=True)
class Verdict:
    """What the gate decided.

    Attributes
    ----------
    module : ResidualAutoencoder
        The winner, trained; None if PCA won.
    gain : float
        Share of the variance of the unseen rows that it explains beyond PCA; 0.0 if PCA won.
    history : list of dict
        Epochs of the winner's main training; empty if PCA won.
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
    held = scores_without(rows, scores, unseen, latent_dim).div_(unit).float()
    scores = scores.div_(unit).float()
    total = squared_norms[unseen].sum() / unit**2
    held_scale = _compressed_scale(held[fitted])
    linear_errors = held[unseen, latent_dim:].double().square().sum(dim=1).cpu().numpy()
    seed = rng.randint(2**31)

    def contend(title, max_epochs, encoder):
        module = build(held_scale, encoder, True)
        history = train(
            module,
            RowSet(held.__getitem__, fitted),
            replace(options, max_epochs=max_epochs),
            unseen=RowSet(held.__getitem__, unseen),
            seed=seed,
            title=title,
        )
        return module, linear_errors - _squared_errors(module, held[unseen]), history

    pilot_epochs = max(1, round(_PILOT * options.max_epochs))
    _, decoder_gains, _ = contend("pilot of the decoder", pilot_epochs, False)
    _, both_gains, _ = contend("pilot of both networks", pilot_epochs, True)
    encoder = both_gains.sum() - decoder_gains.sum() > _ENCODER_PRICE * total
    if not _clearly_positive(both_gains if encoder else decoder_gains):
        return LINEAR
    module, gains, history = contend("training", options.max_epochs, encoder)
    if not _clearly_positive(gains):
        return LINEAR

    scale = _compressed_scale(scores)
    final = build(scale, encoder, True)
    final.load_state_dict({**module.state_dict(), "scale": scale})
    refinement = replace(
        options,
        max_epochs=max(1, round(_REFINE * len(history))),
        learning_rate=_REFINE * options.learning_rate,
    )
    train(
        final,
        RowSet(scores.__getitem__, np.arange(len(rows))),
        refinement,
        seed=seed,
        title="all rows",
    )
    final.scale *= unit  # the module is homogeneous: this is all there is to changing the unit
    return Verdict(final, float(gains.sum() / total), history)


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
