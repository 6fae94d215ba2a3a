"""The gate: non-linear networks stay only where unseen rows say they beat PCA.

Some rows are put aside and play no part in the basis or in training. In a rehearsal, a short
training on the others, the linear model, the linear code with a non-linear decoder, and the fully
non-linear pair are compared on them; the simplest that is not clearly beaten wins, and is then
trained afresh on all rows.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning

from ._device import in_float64, in_pieces
from ._modules import Autoencoder
from ._net import row_set
from ._training import Interrupted, Stage, TrainingOptions, train, warn_if_cut_short

# Length of a rehearsal, as a share of the epochs.
_REHEARSAL = 0.25

# A single epoch is a rehearsal if it has so many steps; else there are two at least.
_FEWEST_STEPS = 200

# Fewer rows cannot tell a gain from luck.
FEWEST_UNSEEN = 8

# What a rehearsal must gain for the rest to be worth its time, and for training to be longer than
# was rehearsed: a small gain could be lost again. Shares of the variance.
_WORTHWHILE, _SAFE = 0.001, 0.02

# What a non-linear encoder must gain over a non-linear decoder alone, as a share of the variance:
# it moves the codes away from PCA's, which classifiers feel (docs/design.md).
_ENCODER_PRICE = 0.003

# Codes longer than this have never gained from a non-linear encoder: it is not rehearsed.
LONGEST_NONLINEAR_CODE = 256

# Rows whose errors are computed at a time.
_BATCH = 1024


@dataclass(frozen=True)
class Ground:
    """Rows as networks meet them, in one basis. Squares are in squared units of X.

    Attributes
    ----------
    fetch : callable
        From an array of row numbers to a dense tensor of those rows.
    build : callable
        ``build(encoder)`` makes a fresh module that is PCA until it is trained: a non-linear
        decoder on the linear code, and with ``encoder`` a non-linear encoder as well.
    unit : float
        What a distance of 1 between fetched rows is in X.
    squared_norms : ndarray of shape (n,)
        Squared distance of each row from the mean.
    linear_errors : ndarray of shape (n,)
        Squared error of PCA on each row.
    outside : ndarray of shape (n,)
        What part of it no network can mend, because it is not fetched.
    weights : ndarray of shape (n,)
        How often each row counts.
    """

    fetch: Callable[[np.ndarray], torch.Tensor]
    build: Callable[[bool], Autoencoder]
    unit: float
    squared_norms: np.ndarray
    linear_errors: np.ndarray
    outside: np.ndarray
    weights: np.ndarray

    def rows(self, numbers):
        """Some of the rows as a `RowSet`."""
        return row_set(
            self.fetch, numbers, self.unit**2, self.squared_norms, self.outside, self.weights
        )

    def explained_by_pca(self, numbers):
        """Share of the variance of some of the rows that PCA explains."""
        weights = self.weights[numbers]
        error, variance = (
            weights @ self.linear_errors[numbers],
            weights @ self.squared_norms[numbers],
        )
        return 1 - float(error / variance)

    @torch.inference_mode()
    def errors(self, module, numbers, length=None):
        """Squared error of a module on each of some rows, by codes cut to a length or whole."""
        module.eval()
        errors = []

        def compare(batch):
            x = self.fetch(batch)
            x_hat = module.decode(module.encode(x)[:, :length])
            return in_float64(x - x_hat).square().sum(dim=1)

        for batch in np.array_split(numbers, -(-len(numbers) // _BATCH)):
            errors += in_pieces(batch, compare)
        return self.unit**2 * torch.cat(errors).cpu().numpy() + self.outside[numbers]

    def gains_when_cut(self, module, numbers):
        """Share of the variance of some rows beyond PCA for each length that codes are cut to."""
        if not module.lengths:
            return {}
        pca, weights = self.build(False), self.weights[numbers]
        variance = weights @ self.squared_norms[numbers]
        return {
            length: weights
            @ (self.errors(pca, numbers, length) - self.errors(module, numbers, length))
            / variance
            for length in module.lengths
        }


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
    n_epochs : int
        Length of the winner's training on all rows; 0 if PCA won.
    gains_when_cut : dict
        The same for each length that codes may be cut to.
    history : list of dict
        Every epoch of every stage.
    """

    module: Autoencoder | None = None
    gain: float = 0.0
    n_epochs: int = 0
    gains_when_cut: dict = field(default_factory=dict)
    history: list = field(default_factory=list)


def fit_residuals(
    held: Ground,
    whole: Ground,
    fitted: np.ndarray,
    unseen: np.ndarray,
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
        Numbers of the rows to rehearse on, and of those to judge by, at least `FEWEST_UNSEEN`.
    latent_dim : int
        Length of the code.
    options : TrainingOptions
    seed : int
    """
    n_rehearsed = _length_of_rehearsal(len(fitted), options)
    candidates = _candidates(latent_dim)
    options.report.plan(len(candidates) * n_rehearsed + options.max_epochs)
    weights = held.weights[unseen]
    variance = weights @ held.squared_norms[unseen]
    history, gains, gains_when_cut, best_epochs = [], [], [], []
    try:
        for encoder in candidates:
            module = held.build(encoder)
            name = "rehearsal of both networks" if encoder else "rehearsal of the decoder"
            rehearsal = train(
                module,
                held.rows(fitted),
                replace(options, max_epochs=n_rehearsed),
                unseen=held.rows(unseen),
                seed=seed,
                stage=Stage(name, held.explained_by_pca(unseen)),
            )
            history += rehearsal
            gain = weights * (held.linear_errors[unseen] - held.errors(module, unseen))
            gains_when_cut.append(held.gains_when_cut(module, unseen))
            # Codes that may be cut have to beat PCA at every length.
            gains.append(gain if min(gains_when_cut[-1].values(), default=0) >= 0 else 0 * gain)
            best_epochs.append(_best_epoch(rehearsal))
    except Interrupted as stop:
        _warn("Interrupted before the networks had proved themselves: the model is PCA.")
        return Verdict(history=history + stop.history)
    encoder = bool(gains[-1].sum() - gains[0].sum() > _ENCODER_PRICE * variance)
    gain = float(gains[encoder].sum() / variance)
    if gain < _WORTHWHILE or not _clearly_positive(gains[encoder]):
        options.report.plan(len(history))
        return Verdict(history=history)

    n_epochs = options.max_epochs
    if options.early_stopping:
        stretch = n_epochs / n_rehearsed if gain > _SAFE else 1
        n_epochs = round(best_epochs[encoder] * stretch)
    options.report.plan(len(history) + n_epochs)
    module = whole.build(encoder)
    everything = np.arange(len(fitted) + len(unseen))
    try:
        training = train(
            module,
            whole.rows(everything),
            replace(options, max_epochs=n_epochs),
            seed=seed,
            stage=Stage("training on all rows", whole.explained_by_pca(everything)),
        )
    except Interrupted as stop:
        training = stop.history
        _warn(f"Interrupted after {len(training)} of {n_epochs} epochs: the best is kept.")
    history += training
    ahead = weights @ whole.errors(module, unseen) < weights @ whole.linear_errors[unseen]
    if not ahead or min(whole.gains_when_cut(module, unseen).values(), default=0) < 0:
        _warn("Training ended behind PCA: the model is PCA.")
        return Verdict(history=history)
    warn_if_cut_short(training, options)
    return Verdict(module, gain, len(training), gains_when_cut[encoder], history)


def most_epochs(latent_dim, options):
    """How many epochs `fit_residuals` makes at most."""
    return len(_candidates(latent_dim)) * _length_of_rehearsal(0, options) + options.max_epochs


def _candidates(latent_dim):
    """Without and with a non-linear encoder, as far as each is worth a rehearsal."""
    return [False, True] if latent_dim <= LONGEST_NONLINEAR_CODE else [False]


def _length_of_rehearsal(n_rows, options):
    fewest = 1 if n_rows >= _FEWEST_STEPS * options.batch_size else 2
    return max(min(fewest, options.max_epochs), round(_REHEARSAL * options.max_epochs))


def _warn(sentence):
    warnings.warn(sentence, ConvergenceWarning, stacklevel=2)


def _best_epoch(history):
    losses = np.array([epoch["valid_loss"] for epoch in history])
    return 1 + int(np.argmin(np.where(np.isnan(losses), np.inf, losses)))


def _clearly_positive(gains):
    """Whether the mean gain is more than two of its standard errors above zero."""
    return gains.mean() > 2 * gains.std() / np.sqrt(len(gains))
