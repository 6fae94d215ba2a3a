"""The gate: non-linear networks stay only where validation rows say that they beat PCA.

Validation rows play no part in the basis or in the training of a trial run, a short training on
the other rows. On them the fully non-linear pair and, where its gain is small or the code long, the
linear code with a non-linear decoder are compared with the linear model; the simplest that is not
clearly beaten wins, and its training goes on with all rows.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning

from .._data.splits import MIN_VALIDATION_ROWS
from .._nn.autoencoders import Autoencoder, copy_matching_weights
from .._runtime.device import in_float64, in_pieces
from .._runtime.progress import PlannedStage
from .net import row_set
from .trainer import Interrupted, Stage, TrainingOptions, train, warn_if_cut_short

# Length of a trial run, as a share of the epochs.
_TRIAL = 0.25

# A single epoch is a trial run if it has so many steps; else there are two at least.
_FEWEST_STEPS = 200

# What a trial run must gain for the rest to be worth its time, as a share of the variance.
_WORTHWHILE = 0.001

# What it must gain for training to be longer than was tried, as a share of what PCA leaves: a
# smaller gain could be lost again.
_SAFE = 0.04

# Where PCA leaves less of the variance, networks would have to gain half of it to be worthwhile.
_LEAST_LEFT = 2 * _WORTHWHILE

# What a non-linear encoder must gain over a non-linear decoder alone, as a share of the variance:
# it moves the codes away from PCA's, which classifiers feel (docs/design.md).
_ENCODER_PRICE = 0.003

# Where that is a larger share of what PCA leaves, the encoder of a longer code is not tried.
_MOST_OF_LEFT = 0.05

# Up to this length a non-linear encoder has always been worth its price, unless it and the decoder
# gain less than this share of the variance together.
_SHORT_CODE, _SLIGHT = 16, 0.02

# Codes longer than this have never gained from a non-linear encoder: it is not tried.
LONGEST_NONLINEAR_CODE = 256

# Stages, as `history_` names them.
_TRIALS = {False: "trial run of the decoder", True: "trial run of both networks"}

_FINAL = "training on all rows"

# What an epoch costs without and with a non-linear encoder: for the time left.
_COSTS = {False: 0.6, True: 1.0}

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
        variance = weights @ self.squared_norms[numbers] or 1.0
        return 1 - float(weights @ self.linear_errors[numbers] / variance)

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
        variance = weights @ self.squared_norms[numbers] or 1.0
        return {
            length: weights
            @ (self.errors(pca, numbers, length) - self.errors(module, numbers, length))
            / variance
            for length in module.lengths
        }


@dataclass(frozen=True)
class SelectionResult:
    """What the gate decided.

    Attributes
    ----------
    module : Autoencoder
        The winner, trained; None if PCA won.
    gain : float
        Share of the variance of the validation rows that it explained beyond PCA in the trial
        run; 0.0 if PCA won.
    n_epochs : int
        Length of the winner's training on all rows; 0 if PCA won, or if the user ended the fit
        before it.
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
    validation: np.ndarray,
    latent_dim: int,
    options: TrainingOptions,
    seed: int,
) -> SelectionResult:
    """Train residual networks on top of PCA, if they are worth it.

    Parameters
    ----------
    held : Ground
        In a basis that has not seen the validation rows, its coordinates as near as can be to
        those of ``whole``: for the trial runs.
    whole : Ground
        In the basis of all rows: for the final training.
    fitted, validation : ndarray of int
        Indices of the rows for trial runs, and of the validation rows: at least
        `MIN_VALIDATION_ROWS`.
    latent_dim : int
        Length of the code.
    options : TrainingOptions
    seed : int
    """
    return _Selection(held, whole, fitted, validation, latent_dim, options, seed).result()


@dataclass(frozen=True)
class _Trial:
    """A trial run and how it ended on the validation rows: ``gains`` is that of each."""

    encoder: bool
    module: Autoencoder
    gains: np.ndarray
    gains_when_cut: dict
    history: list


class _Selection:
    """Trial runs, the choice among them, and the final training. See `fit_residuals`."""

    def __init__(self, held, whole, fitted, validation, latent_dim, options, seed):
        self.held, self.whole = held, whole
        self.fitted, self.validation = fitted, validation
        self.latent_dim = latent_dim
        self.options = options
        self.seed = seed
        self.history = []
        self.n_tried = _length_of_trial(len(fitted), options)
        self.longest = max(1, options.max_epochs - self.n_tried)  # the training on all rows
        self.begun = []  # trial runs, by whether they have an encoder
        self.present = None  # stage, its epochs so far and planned
        self.variance = held.weights[validation] @ held.squared_norms[validation] or 1.0
        self.of_pca = held.explained_by_pca(validation)

    def result(self):
        winner, why_pca = self._winner()
        if winner is None:
            return self._pca(why_pca)
        gain = self._share(winner)
        n_epochs, ended_by_max_epochs = self._length_on_all(winner)
        module, training = self._trained_on_all(winner, n_epochs)
        whole = self.present[0] == _FINAL and not self.cut_short
        if not self._is_ahead(module):
            if whole:
                _warn("Training ended behind PCA: the model is PCA.")
            return self._pca("PCA kept: the training on all rows ended behind it", whole)
        if not whole:
            _warn(
                f"Interrupted after {self._where()}: the best networks so far are kept, which beat "
                f"PCA on validation rows."
            )
        elif ended_by_max_epochs and len(training) == n_epochs:
            before = winner.history[-1:] if n_epochs == 1 else []  # a single epoch cannot tell
            warn_if_cut_short(before + training, self.options)
        self.options.report.conclude(
            f"networks kept: {_percent(gain)} of the variance on validation rows in the trial run "
            f"(PCA {self.of_pca:.3f})",
            interrupted=self.options.interrupts.n > 0,
        )
        return SelectionResult(module, gain, len(training), winner.gains_when_cut, self.history)

    def _winner(self):
        """The best of the trial runs; None, and why, if it is not clearly better than PCA."""
        both = self._tried(True) if self._may_have_encoder else None
        # At short codes the decoder alone never does much better than the pair.
        foreseen = self.latent_dim <= _SHORT_CODE and not self._is_slight(both)
        if foreseen or (both and self.options.interrupts.n):
            best = both
        else:
            best = self._better(both, self._tried(False))
        if not self._is_better_than_pca(best):
            return None, _why_pca(self._share(best), best.gains_when_cut)
        return best, None

    @property
    def _may_have_encoder(self):
        if self.latent_dim <= _SHORT_CODE:
            return True
        is_cheap = _MOST_OF_LEFT * (1 - self.of_pca) >= _ENCODER_PRICE
        return self.latent_dim <= LONGEST_NONLINEAR_CODE and is_cheap

    def _better(self, both, alone):
        """Of two trial runs: the decoder alone, unless the pair is worth its price."""
        if both is None:
            return alone
        if self.cut_short and not self._is_better_than_pca(alone):
            return both
        is_worth_it = both.gains.sum() - alone.gains.sum() > _ENCODER_PRICE * self.variance
        return both if is_worth_it else alone

    def _is_better_than_pca(self, trial):
        """Whether the gain is worthwhile, and more than two of its standard errors above zero."""
        gains = trial.gains
        is_clear = gains.mean() > 2 * gains.std() / np.sqrt(len(gains))
        return self._share(trial) >= _WORTHWHILE and is_clear

    def _is_slight(self, trial):
        """Whether a trial run gained something, but may have moved the codes for too little."""
        return self._is_better_than_pca(trial) and self._share(trial) <= _SLIGHT

    def _is_safe(self, trial):
        """Whether longer training will hardly lose the gain again."""
        return self._share(trial) > _SAFE * (1 - self.of_pca)

    def _tried(self, encoder):
        """A trial run, with a non-linear encoder or without; one that was interrupted counts."""
        self.begun.append(encoder)
        self._plan(self.begun[0], self.longest, at_most=True)
        held, module = self.held, self.held.build(encoder)
        history = self._trained(
            module,
            held.rows(self.fitted),
            self.n_tried,
            validation=held.rows(self.validation),
            seed=self.seed,
            stage=Stage(_TRIALS[encoder], self.of_pca),
        )
        errors = held.errors(module, self.validation)
        gains = held.weights[self.validation] * (held.linear_errors[self.validation] - errors)
        when_cut = held.gains_when_cut(module, self.validation)
        if not history or min(when_cut.values(), default=0) < 0:
            gains = 0 * gains  # codes that may be cut have to beat PCA at every length
        return _Trial(encoder, module, gains, when_cut, history)

    def _length_on_all(self, winner):
        """Epochs of the training on all rows, and whether nothing but `max_epochs` limits them."""
        if not self.options.early_stopping:
            return self.longest, True
        best = _best_epoch(winner.history)
        if not self._is_safe(winner):
            return min(best, self.longest), best > self.longest
        return max(1, round(best * self.longest / self.n_tried)), best == self.n_tried

    def _trained_on_all(self, winner, n_epochs):
        """The winner in the basis of all rows, trained further on all rows: module and history."""
        module = copy_matching_weights(winner.module, self.whole.build(winner.encoder))
        if self.options.interrupts.n:
            return module, []
        self._plan(winner.encoder, n_epochs, at_most=False)
        everything = np.arange(len(self.fitted) + len(self.validation))
        return module, self._trained(
            module,
            self.whole.rows(everything),
            n_epochs,
            seed=self.seed + 1,
            stage=Stage(_FINAL, self.whole.explained_by_pca(everything)),
        )

    def _trained(self, module, rows, n_epochs, *, stage, **settings):
        """Train a module, to its end or that of the fit by the user: the history."""
        options = replace(self.options, max_epochs=n_epochs)
        self.cut_short = False
        try:
            history = train(module, rows, options, stage=stage, **settings)
        except Interrupted as stop:
            history = stop.history
            self.cut_short = True
        self.present = stage.name, len(history), n_epochs
        self.history += history
        return history

    def _where(self):
        return "{1} of {2} epochs of the {0}".format(*self.present)

    def _is_ahead(self, module):
        """Whether a module beats PCA on the validation rows, in the basis of all rows."""
        whole, validation = self.whole, self.validation
        gains = whole.linear_errors[validation] - whole.errors(module, validation)
        of_cut = whole.gains_when_cut(module, validation).values()
        return whole.weights[validation] @ gains > 0 and min(of_cut, default=0) >= 0

    def _share(self, trial):
        return float(trial.gains.sum() / self.variance)

    def _pca(self, why, whole=False):
        """PCA, and why; ``whole`` is whether all trainings ended by themselves."""
        is_interrupted = self.options.interrupts.n > 0
        if is_interrupted and not whole:
            _warn(
                f"Interrupted after {self._where()}, before the networks had proved themselves on "
                f"validation rows: the model is PCA."
            )
            why = "PCA kept: the networks had not proved themselves"
        self.options.report.conclude(why, interrupted=is_interrupted)
        return SelectionResult(history=self.history)

    def _plan(self, encoder, n_epochs, *, at_most):
        """Tell the trial runs and the training on all rows, as far as they are known.

        With ``at_most``, ``n_epochs`` and ``encoder`` are the most that the latter may cost.
        """
        trials, n_trials = list(self.begun), len(self.begun)
        if at_most and trials == [True]:
            trials.append(False)  # it may come; at longer codes it is sure to
            n_trials += self.latent_dim > _SHORT_CODE
        stages = []
        for number, kind in enumerate(trials, 1):
            label = f"trial run {number} of {n_trials}" if n_trials > 1 else "trial run"
            cost = _COSTS[kind] * len(self.fitted)
            stages.append(PlannedStage(_TRIALS[kind], label, self.n_tried, cost))
        cost = _COSTS[encoder] * (len(self.fitted) + len(self.validation))
        stages.append(PlannedStage(_FINAL, _FINAL, n_epochs, cost))
        self.options.report.plan(stages, may_end_early=at_most)


def pca_without_trial(basis, latent_dim, validation, options):
    """The result where no network can be judged or is worth training: PCA; else None."""
    n_rows = len(validation)
    if n_rows < MIN_VALIDATION_ROWS:
        why = f"there are {n_rows} validation rows, and networks need {MIN_VALIDATION_ROWS}"
    elif basis.share_beyond(latent_dim) < _LEAST_LEFT:
        why = f"it leaves less than {100 * _LEAST_LEFT:g} % of the variance"
    else:
        return None
    options.report.conclude(f"PCA kept: {why}")
    return SelectionResult()


def most_epochs(options):
    """How many epochs `fit_residuals` makes at most."""
    n_tried = _length_of_trial(0, options)
    return n_tried + max(n_tried + 1, options.max_epochs)


def _length_of_trial(n_rows, options):
    fewest = 1 if n_rows >= _FEWEST_STEPS * options.batch_size else 2
    return max(min(fewest, options.max_epochs), round(_TRIAL * options.max_epochs))


def _why_pca(gain, gains_when_cut):
    if min(gains_when_cut.values(), default=0) < 0:
        return "PCA kept: codes that are cut were worse than PCA's on validation rows"
    why = "not clearly more than 0"
    if gain < _WORTHWHILE:
        why = f"less than {100 * _WORTHWHILE:g} %"
    gained = f"{_percent(gain)} of the variance on validation rows"
    return f"PCA kept: the networks gained {gained}, {why}"


def _percent(gain):
    digits = 1 if abs(gain) >= 0.001 else 2
    return f"{100 * gain:+.{digits}f} %"


def _warn(sentence):
    warnings.warn(sentence, ConvergenceWarning, stacklevel=2)


def _best_epoch(history):
    losses = np.array([epoch["valid_loss"] for epoch in history])
    return 1 + int(np.argmin(np.where(np.isnan(losses), np.inf, losses)))
