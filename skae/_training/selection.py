"""Model selection: networks are kept only where they beat PCA on validation rows.

Validation rows play no part in the basis or in the training of a trial run, a short training on
the other rows. On them the fully non-linear pair and, where its gain is small or the code long, the
linear code with a non-linear decoder are compared with PCA. The simplest of the three that is not
clearly worse than another is selected, and its networks are trained further on all rows.
"""

import warnings
from dataclasses import dataclass, field, replace

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from .._data.splits import held_out_rows
from .._data.validation import Labels
from .._nn.autoencoders import Autoencoder, copy_matching_weights
from .._nn.penalties import with_head
from .._runtime.progress import PlannedStage
from .early_stopping import best_epoch
from .residual import ResidualProblem
from .trainer import Interrupted, Stage, TrainingOptions, train, warn_if_cut_short

# Length of a trial run, as a share of the epochs.
_TRIAL_FRACTION = 0.25

# A trial run of a single epoch has at least this number of steps; else it has two epochs or more.
_MIN_STEPS_OF_EPOCH = 200

# Minimum validation gain for training to continue, as a share of the variance.
_MIN_GAIN = 0.001

# Minimum gain of a non-linear encoder over a non-linear decoder alone, as a share of the variance:
# it moves the codes away from PCA's, which makes classifiers worse (docs/design.md).
_MIN_ENCODER_GAIN = 0.003

# Where that is a larger share of PCA's error, the encoder of a longer code is not tried.
_MAX_SHARE_OF_ERROR = 0.05

# Up to this length a non-linear encoder has always had the minimum gain, unless encoder and decoder
# together gain less than this share of the variance.
_SHORT_CODE, _SLIGHT_GAIN = 16, 0.02

# Longer codes have never gained from a non-linear encoder: it is not tried.
LONGEST_NONLINEAR_CODE = 256

# Stages as in `history_`; those of trial runs by whether the encoder is non-linear, or by
# `_LABELS` if it is and labels take part.
_LABELS = "labels"
_TRIAL_STAGES = {
    False: "trial run of the decoder",
    True: "trial run of both networks",
    _LABELS: "trial run with labels",
}
_FINAL_STAGE = "training on all rows"

# Relative cost of an epoch without and with a non-linear encoder, to estimate the time left.
_EPOCH_COSTS = {False: 0.6, True: 1.0}


@dataclass(frozen=True)
class SelectionResult:
    """What `select` returns.

    Attributes
    ----------
    module : Autoencoder
        The selected networks, trained, in the unit of X; None if PCA was kept.
    gain : float
        Share of the variance of the validation rows that they explained beyond PCA in the trial
        run; 0.0 if PCA was kept.
    n_epochs : int
        Epochs of the training on all rows; 0 if PCA was kept, or if the user ended the fit before.
    gains_when_cut : dict
        The gain for each length that codes may be cut to.
    history : list of dict
        Every epoch of every stage.
    """

    module: Autoencoder | None = None
    gain: float = 0.0
    n_epochs: int = 0
    gains_when_cut: dict = field(default_factory=dict)
    history: list = field(default_factory=list)


def select(
    problem: ResidualProblem,
    options: TrainingOptions,
    validation_fraction: float,
    rng: np.random.RandomState,
    labels: Labels | None = None,
) -> SelectionResult:
    """Train residual networks on top of PCA, if they are worth it.

    Parameters
    ----------
    problem : ResidualProblem
    options : TrainingOptions
    validation_fraction : float
        Share of the rows that are validation rows.
    rng : RandomState
        Draws the validation rows, then the seed of training.
    labels : Labels, default=None
        Labels of the rows, if they take part in training.
    """
    fitted, validation = held_out_rows(len(problem), validation_fraction, rng, options.groups)
    seed = rng.randint(2**31)
    reason = problem.reason_for_pca(len(validation))
    if reason is not None:
        options.report.conclude(f"PCA kept: {reason}")
        return SelectionResult()
    trial_problem, final_problem = problem.in_both_bases(fitted, validation)
    if labels is not None:
        labels = labels.standardised(problem.weights)
    return _Selection(
        trial_problem, final_problem, fitted, validation, options, seed, labels
    ).result()


def most_epochs(options):
    """Maximum number of epochs of all stages of `select` together."""
    n_epochs = _epochs_of_trial(0, options)
    with_labels = n_epochs if options.supervision else 0
    return with_labels + n_epochs + max(n_epochs + 1, options.max_epochs)


def _epochs_of_trial(n_rows, options):
    fewest = 1 if n_rows >= _MIN_STEPS_OF_EPOCH * options.batch_size else 2
    return max(min(fewest, options.max_epochs), round(_TRIAL_FRACTION * options.max_epochs))


@dataclass(frozen=True)
class _Trial:
    """A trial run and its result on the validation rows.

    Attributes
    ----------
    has_encoder : bool
        Whether the encoder is non-linear.
    module : Autoencoder
    gain : float
        Share of the variance of the validation rows explained beyond PCA.
    row_gains : ndarray
        Weighted squared error of PCA minus that of the module on each validation row; with labels
        also what they add to the criterion.
    variance : float
        Weighted sum of their squared distances from the mean.
    gains_when_cut : dict
    history : list of dict
    """

    has_encoder: bool
    module: Autoencoder
    gain: float
    row_gains: np.ndarray
    variance: float
    gains_when_cut: dict
    history: list

    @property
    def has_head(self):
        """Whether labels take part in training."""
        return hasattr(self.module, "head")

    @property
    def total_gain(self):
        """The gain, with labels that of the criterion, as a share of the variance."""
        return float(self.row_gains.sum() / self.variance)

    @property
    def beats_pca(self):
        """Whether the gain is large enough, and more than two standard errors above zero."""
        return self.total_gain >= _MIN_GAIN and _is_clear(self.row_gains, 2)

    @property
    def is_slight(self):
        """Whether a decoder alone might gain as much."""
        return self.beats_pca and self.total_gain <= _SLIGHT_GAIN


class _Selection:
    """Trial runs, the choice among them, and the training on all rows.

    Parameters
    ----------
    trial_problem, final_problem : ResidualProblem
        In a basis without the validation rows, and in the basis of all rows.
    fitted, validation : ndarray of int
        Indices of the rows for trial runs, and of the validation rows.
    options : TrainingOptions
    seed : int
    labels : Labels or None
    """

    def __init__(self, trial_problem, final_problem, fitted, validation, options, seed, labels):
        self.labels = labels
        self.trial_problem, self.final_problem = trial_problem, final_problem
        self.fitted, self.validation = fitted, validation
        self.options = options
        self.seed = seed
        self.latent_dim = final_problem.latent_dim
        self.explained_by_pca = trial_problem.explained_by_pca(validation)
        self.n_trial_epochs = _epochs_of_trial(len(fitted), options)
        self.max_final_epochs = max(1, options.max_epochs - self.n_trial_epochs)
        self.history = []
        self.started_trials = []  # keys of `_TRIAL_STAGES`
        self.last_stage = None  # name, number of epochs so far, planned number
        self.cut_short = False  # whether the user ended the last stage

    def result(self):
        """Run all stages: a `SelectionResult`."""
        trial = None
        if self.labels is not None and self.latent_dim <= LONGEST_NONLINEAR_CODE:
            trial = self._run_trial(_LABELS)
        if trial is None or not (trial.beats_pca or self._interrupted):
            trial = self._best_trial()
        if not trial.beats_pca:
            return self._keep_pca(_reason_for_pca(trial))
        n_epochs, is_limited = self._final_epochs(trial)
        module, history = self._train_on_all_rows(trial, n_epochs)
        completed = self.last_stage[0] == _FINAL_STAGE and not self.cut_short
        if not self._still_beats_pca(module):
            if completed:
                _warn("Training ended behind PCA: the model is PCA.")
            return self._keep_pca("PCA kept: the training on all rows ended behind it", completed)
        if not completed:
            _warn(
                f"Interrupted after {self._progress()}: the best networks so far are kept, which "
                f"beat PCA on validation rows."
            )
        elif is_limited and len(history) == n_epochs:
            before = trial.history[-1:] if n_epochs == 1 else []  # a single epoch shows no trend
            warn_if_cut_short(before + history, self.options)
        self.options.report.conclude(
            f"networks kept: {_percent(trial.gain)} of the variance on validation rows in the "
            f"trial run (PCA {self.explained_by_pca:.3f})",
            interrupted=self._interrupted,
        )
        if trial.has_head:
            del module.head
        module = self.final_problem.finished(module)
        return SelectionResult(module, trial.gain, len(history), trial.gains_when_cut, self.history)

    @property
    def _interrupted(self):
        return self.options.interrupts.n > 0

    def _best_trial(self):
        if not self._may_have_encoder:
            return self._run_trial(False)
        both = self._run_trial(True)
        # With short codes the decoder alone is never much better than both networks.
        if self._interrupted or (self.latent_dim <= _SHORT_CODE and not both.is_slight):
            return both
        decoder_alone = self._run_trial(False)
        if self.cut_short and not decoder_alone.beats_pca:
            return both
        advantage = both.row_gains.sum() - decoder_alone.row_gains.sum()
        return both if advantage > _MIN_ENCODER_GAIN * both.variance else decoder_alone

    @property
    def _may_have_encoder(self):
        if self.latent_dim <= _SHORT_CODE:
            return True
        is_possible = _MAX_SHARE_OF_ERROR * (1 - self.explained_by_pca) >= _MIN_ENCODER_GAIN
        is_possible &= self.latent_dim <= LONGEST_NONLINEAR_CODE
        return is_possible and self.final_problem.has_rows_for_encoder

    def _run_trial(self, kind):
        """Train new networks on the rows that are not validation rows.

        A trial run that the user interrupts counts with the best weights so far.
        """
        self.started_trials.append(kind)
        self._report_plan(bool(self.started_trials[0]), self.max_final_epochs, may_end_early=True)
        problem, validation = self.trial_problem, self.validation
        module, labels = problem.new_module(bool(kind)), None
        if kind == _LABELS:
            labels = self.labels
            module = with_head(module, labels.n_classes, self.options.supervision)
        history = self._train(
            module,
            problem.row_set(self.fitted, labels),
            self.n_trial_epochs,
            validation=problem.row_set(validation, labels),
            seed=self.seed,
            stage=Stage(_TRIAL_STAGES[kind], self.explained_by_pca, is_trial=True),
        )
        of_variance, row_gains, is_better = self._row_gains(problem, module)
        variance = problem.variance(validation)
        when_cut = problem.gains_when_cut(module, validation)
        if not (history and is_better) or min(when_cut.values(), default=0) < 0:
            # Codes that may be cut have to beat PCA at every length.
            of_variance = row_gains = 0 * row_gains
        gain = float(of_variance.sum() / variance)
        return _Trial(bool(kind), module, gain, row_gains, variance, when_cut, history)

    def _row_gains(self, problem, module):
        """Weighted squared error of PCA minus that of a module, on each validation row.

        With a head, also what labels add to the criterion, and whether they are predicted better.
        """
        validation = self.validation
        row_gains = problem.weights[validation] * problem.gains(module, validation)
        if not hasattr(module, "head"):
            return row_gains, row_gains, True
        gains, unit = problem.label_gains(module, self.labels, self.fitted, validation)
        is_better = _is_clear(gains[self.labels.are_known[validation]], 1)
        return row_gains, row_gains + self.options.supervision * unit * gains, is_better

    def _final_epochs(self, trial):
        """Number of epochs of the training on all rows, and whether `max_epochs` limits it."""
        if not self.options.early_stopping:
            return self.max_final_epochs, True
        measure = self.trial_problem.row_set(self.validation).measure
        best = best_epoch(trial.history, measure, self.options.supervision)
        safe_gain = self.trial_problem.safe_gain * (1 - self.explained_by_pca)
        is_safe = trial.total_gain > safe_gain
        if not is_safe:
            n_epochs = best if best == self.n_trial_epochs else 1  # more made the trial run worse
            return min(n_epochs, self.max_final_epochs), n_epochs > self.max_final_epochs
        n_epochs = max(1, round(best * self.max_final_epochs / self.n_trial_epochs))
        return n_epochs, best == self.n_trial_epochs

    def _train_on_all_rows(self, trial, n_epochs):
        """Train the networks of a trial run further, in the basis of all rows.

        Returns the module and its history, which is empty if the user has ended the fit.
        """
        problem = self.final_problem
        module, labels = problem.new_module(trial.has_encoder), None
        if trial.has_head:
            labels = self.labels
            module = with_head(module, labels.n_classes, self.options.supervision)
        module = copy_matching_weights(trial.module, module)
        if self._interrupted:
            return module, []
        self._report_plan(trial.has_encoder, n_epochs, may_end_early=False)
        all_rows = np.arange(len(problem))
        history = self._train(
            module,
            problem.row_set(all_rows, labels),
            n_epochs,
            seed=self.seed + 1,
            stage=Stage(_FINAL_STAGE, problem.explained_by_pca(all_rows)),
        )
        return module, history

    def _still_beats_pca(self, module):
        """Whether a module beats PCA on the validation rows, in the basis of all rows."""
        problem, validation = self.final_problem, self.validation
        gain = self._row_gains(problem, module)[1].sum()
        when_cut = problem.gains_when_cut(module, validation).values()
        return gain > 0 and min(when_cut, default=0) >= 0

    def _train(self, module, rows, n_epochs, *, stage, **settings):
        """Train a module until the stage ends or the user interrupts it: the history."""
        options = replace(self.options, max_epochs=n_epochs)
        self.cut_short = False
        try:
            history = train(module, rows, options, stage=stage, **settings)
        except Interrupted as interrupt:
            history = interrupt.history
            self.cut_short = True
        self.last_stage = stage.name, len(history), n_epochs
        self.history += history
        return history

    def _keep_pca(self, conclusion, completed=False):
        """The result without networks; ``completed`` if no stage was cut short."""
        if self._interrupted and not completed:
            _warn(
                f"Interrupted after {self._progress()}, before the networks had proved themselves "
                f"on validation rows: the model is PCA."
            )
            conclusion = "PCA kept: the networks had not proved themselves"
        self.options.report.conclude(conclusion, interrupted=self._interrupted)
        return SelectionResult(history=self.history)

    def _progress(self):
        stage, n_epochs, n_planned = self.last_stage
        return f"{n_epochs} of {n_planned} epochs of the {stage}"

    def _report_plan(self, has_encoder, n_epochs, *, may_end_early):
        """Report trial runs and training on all rows as planned now.

        With ``may_end_early``, ``has_encoder`` and ``n_epochs`` give the maximum cost of it.
        """
        trials, n_trials = list(self.started_trials), len(self.started_trials)
        if may_end_early and trials[-1] == _LABELS:
            trials.append(self._may_have_encoder)
        elif may_end_early and trials[-1]:
            trials.append(False)  # possible with short codes, certain with longer ones
            n_trials += self.latent_dim > _SHORT_CODE
        stages = []
        for number, kind in enumerate(trials, 1):
            label = f"trial run {number} of {n_trials}" if n_trials > 1 else "trial run"
            name = _TRIAL_STAGES[kind]
            cost = _EPOCH_COSTS[bool(kind)] * len(self.fitted)
            stages.append(PlannedStage(name, label, self.n_trial_epochs, cost))
        cost = _EPOCH_COSTS[has_encoder] * len(self.final_problem)
        stages.append(PlannedStage(_FINAL_STAGE, _FINAL_STAGE, n_epochs, cost))
        self.options.report.plan(stages, may_end_early=may_end_early)


def _reason_for_pca(trial):
    if min(trial.gains_when_cut.values(), default=0) < 0:
        return "PCA kept: codes that are cut were worse than PCA's on validation rows"
    reason = "not clearly more than 0"
    if trial.gain < _MIN_GAIN:
        reason = f"less than {100 * _MIN_GAIN:g} %"
    gained = f"{_percent(trial.gain)} of the variance on validation rows"
    return f"PCA kept: the networks gained {gained}, {reason}"


def _is_clear(gains, n_standard_errors):
    """Whether the mean of gains is so many standard errors above zero."""
    return len(gains) > 0 and gains.mean() > n_standard_errors * gains.std() / np.sqrt(len(gains))


def _percent(gain):
    digits = 1 if abs(gain) >= 0.001 else 2
    return f"{100 * gain:+.{digits}f} %"


def _warn(sentence):
    warnings.warn(sentence, ConvergenceWarning, stacklevel=2)
