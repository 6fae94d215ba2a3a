"""The gate: networks are kept only where they beat PCA on validation rows.

Validation rows play no part in the basis or in the training of the networks that they judge. All
thresholds of the choice between networks and PCA are in this file.
"""

import warnings
from dataclasses import dataclass, field, replace
from math import ceil

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from .._data.splits import MIN_VALIDATION_ROWS, held_out_rows
from .._nn.autoencoders import Autoencoder, copy_matching_weights
from .._nn.penalties import with_head
from .._runtime.reports import NO_REPORT
from .run import train, warn_if_cut_short

# Minimum gain on validation rows for networks to be kept, as a share of the variance, and in
# standard errors.
_MIN_GAIN = 0.001
_MIN_STANDARD_ERRORS = 2

# Labels have to be predicted better by so many standard errors.
_MIN_STANDARD_ERRORS_OF_LABELS = 1

# Share of the variance below which errors of reconstructions no longer compete with labels.
_FLOOR_OF_LABELS = 0.01

# Networks are not trained where PCA leaves a smaller share of the variance: they would have to
# explain a fifth of it to be kept. For longer codes there is less to gain for a classifier.
_MIN_PCA_ERROR, _MIN_PCA_ERROR_OF_LONGER_CODE = 0.005, 0.01

# Up to this length a non-linear encoder is tried with any number of rows.
SHORT_CODE = 16

# Longer codes have never gained from a non-linear encoder: it is not tried.
LONGEST_NONLINEAR_CODE = 256

# Rows for each dimension of a longer code that a non-linear encoder without labels needs, and
# where there are more than this multiple of as many columns as rows: with fewer, classifiers of
# codes became worse although reconstructions gained (docs/design.md).
_ROWS_PER_DIMENSION, _ROWS_PER_DIMENSION_OF_WIDE_ROWS, _WIDE = 40, 150, 2

# Steps on all rows that follow those to the best comparison, as a share of these.
_SHARE_ON_ALL_ROWS = 0.15

# Names of the runs, as in `history_`, and of the steps on all rows.
LABELS, BOTH, DECODER = "training with labels", "training", "training of the decoder"
_ON_ALL_ROWS = "steps on all rows"


@dataclass(frozen=True)
class SelectionResult:
    """What `select` returns.

    Attributes
    ----------
    module : Autoencoder
        The selected networks, trained, in the unit of X; None if PCA was kept.
    gain : float
        Share of the variance of the validation rows that they explain beyond PCA; 0.0 if PCA was
        kept.
    n_epochs : int
        Epochs of the run whose networks were kept; 0 if PCA was kept.
    gains_when_cut : dict
        The gain for each length that codes may be cut to.
    history : list of dict
        Every epoch of every run.
    """

    module: Autoencoder | None = None
    gain: float = 0.0
    n_epochs: int = 0
    gains_when_cut: dict = field(default_factory=dict)
    history: list = field(default_factory=list)


@dataclass(frozen=True)
class Wishes:
    """What the user asks of the networks.

    Attributes
    ----------
    labels : bool
        Whether labels take part in training.
    custom_encoder : bool
        Whether the encoder is one that the user gives: it is tried with any number of rows.
    decoder : bool
        Whether a decoder alone is wanted where the code remains PCA's.
    """

    labels: bool = False
    custom_encoder: bool = False
    decoder: bool = False


def runs_to_try(shape, latent_dim, wishes, share_left=1.0):
    """Names of the runs to try, of which the first that beats PCA is kept.

    Parameters
    ----------
    shape : tuple of int
        That of X.
    latent_dim : int
    wishes : Wishes
    share_left : float
        Share of the variance that PCA leaves.
    """
    (n, p), k = shape, latent_dim
    if share_left < _MIN_PCA_ERROR:  # reconstructions have nothing to gain, but classifiers have
        return [LABELS] if wishes.labels and k <= LONGEST_NONLINEAR_CODE else []
    per_dimension = _ROWS_PER_DIMENSION if p <= _WIDE * n else _ROWS_PER_DIMENSION_OF_WIDE_ROWS
    is_worth_it = n >= per_dimension * k and share_left >= _MIN_PCA_ERROR_OF_LONGER_CODE
    runs = []
    if k <= LONGEST_NONLINEAR_CODE:
        runs += [LABELS] if wishes.labels else []
        runs += [BOTH] if k <= SHORT_CODE or wishes.custom_encoder or is_worth_it else []
    return [*runs, DECODER] if wishes.decoder else runs


def select(problem, options, rng, labels=None, *, runs):
    """Train residual networks on top of PCA, and keep them if they are worth it.

    Parameters
    ----------
    problem : ResidualProblem
    options : TrainingOptions
    rng : RandomState
        Draws the validation rows, then the seed of training.
    labels : Labels, default=None
        Labels of the rows, if they take part in training.
    runs : list of str
        Those of `runs_to_try`.

    Returns
    -------
    result : SelectionResult
    """
    fitted, validation = held_out_rows(
        len(problem), options.validation_fraction, rng, options.groups
    )
    seed = rng.randint(2**31)
    if not runs or len(validation) < MIN_VALIDATION_ROWS:
        options.report.conclude(f"codes and reconstructions are PCA's: {_why_no_run(validation)}")
        return SelectionResult()
    trial_problem, final_problem = problem.in_both_bases(fitted, validation)
    if labels is not None:
        labels = labels.standardised(problem.weights)
    judge = _Judge(trial_problem, fitted, validation, labels, options.supervision)

    # Runs on the rows without the validation rows, until these say that one is better than PCA.
    history = []
    for name in runs:
        module = judge.new_module(name)
        of_run = train(
            module,
            judge.row_set(name, fitted),
            options,
            validation=judge.row_set(name, validation),
            seed=seed,
            stage=name,
            of_pca=judge.explained_by_pca,
        )
        trial_problem.limit(module, fitted)
        history += of_run
        verdict = judge.verdict(module)
        if verdict.beats_pca or options.interrupts.n:
            break
    if not verdict.beats_pca:
        if options.interrupts.n:
            _warn(
                f"Interrupted after {len(of_run)} epochs of the {name}, before the networks had "
                f"proved themselves on validation rows: the model is PCA."
            )
        options.report.conclude(_sentence_of_pca(verdict), interrupted=options.interrupts.n > 0)
        return SelectionResult(history=history)

    # The same networks on all rows.
    best_step = 0 if options.interrupts.n else _best_step(of_run)
    module = _on_all_rows(module, final_problem, judge, options, name, best_step, seed)
    if options.interrupts.n:
        _warn(
            f"Interrupted after {len(of_run)} epochs of the {name}: the best networks so far are "
            f"kept, which beat PCA on validation rows."
        )
    else:
        warn_if_cut_short(of_run, options)
    codes = "codes: PCA's" if module.encoder is None else "codes: a network"
    options.report.conclude(
        f"{codes}; reconstructions: a network, {_percent(verdict.gain)} of the variance beyond "
        f"PCA's {judge.explained_by_pca:.3f} on validation rows",
        interrupted=options.interrupts.n > 0,
    )
    return SelectionResult(module, verdict.gain, len(of_run), verdict.gains_when_cut, history)


def _why_no_run(validation):
    if len(validation) >= MIN_VALIDATION_ROWS:
        return "networks have too little to gain for codes of this length and these rows"
    return f"there are {len(validation)} validation rows, and networks need {MIN_VALIDATION_ROWS}"


def _best_step(history):
    """The step of the epoch with the lowest loss on validation rows."""
    return min(history, key=lambda epoch: epoch["valid_loss"])["n_steps"]


def _on_all_rows(module, problem, judge, options, name, best_step, seed):
    """The selected networks in the basis of all rows and the unit of X, after steps on all rows.

    The coordinates of the two bases are aligned, so the networks keep most of their gain. What they
    lose where validation rows count, as in wide or heavy-tailed rows, these steps bring back.
    """
    final = copy_matching_weights(module, judge.new_module(name, problem))
    for weight, trained in zip(final.parameters(), module.parameters(), strict=True):
        weight.requires_grad_(trained.requires_grad)  # a callback may have frozen some
    indices = np.arange(len(problem))
    if best_step:
        train(
            final,
            judge.row_set(name, indices, problem),
            replace(options, max_epochs=None, callbacks=(), report=NO_REPORT),
            seed=seed,
            stage=_ON_ALL_ROWS,
            n_steps=ceil(_SHARE_ON_ALL_ROWS * best_step),
            n_averaged=best_step // 2,  # these then count for a tenth
        )
    if name == LABELS:
        del final.head
    problem.limit(final, indices)
    return problem.finished(final)


@dataclass(frozen=True)
class _Verdict:
    """What validation rows say of networks: their gain, also where codes are cut, and if clear."""

    gain: float
    total_gain: float  # with what labels add to the criterion
    is_clear: bool
    gains_when_cut: dict

    @property
    def beats_pca(self):
        """Whether the gain is large enough, and clear, at every length."""
        is_large = self.total_gain >= _MIN_GAIN
        return is_large and self.is_clear and min(self.gains_when_cut.values(), default=0) >= 0


class _Judge:
    """Compares networks with PCA on validation rows.

    Parameters
    ----------
    problem : ResidualProblem
        In a basis without the validation rows.
    fitted, validation : ndarray of int
        Indices of the rows for training, and of the validation rows.
    labels : Labels or None
    supervision : float
    """

    def __init__(self, problem, fitted, validation, labels, supervision):
        self.problem, self.fitted, self.validation = problem, fitted, validation
        self.labels, self.supervision = labels, supervision
        self.explained_by_pca = problem.explained_by_pca(validation)
        self.mean_square = float(problem.variance(fitted) / problem.weights[fitted].sum())

    def new_module(self, name, problem=None):
        """A new module for a run, in the basis of a problem: it equals PCA."""
        module = (problem or self.problem).new_module(name != DECODER)
        if name == LABELS:
            floor = _FLOOR_OF_LABELS * self.mean_square / float((problem or self.problem).unit) ** 2
            module = with_head(module, self.labels.n_classes, self.supervision, floor)
        return module

    def row_set(self, name, indices, problem=None):
        """Rows for a run, with their labels if it uses them, in the basis of a problem."""
        labels = self.labels if name == LABELS else None
        return (problem or self.problem).row_set(indices, labels)

    def verdict(self, module):
        """The `_Verdict` on a trained module."""
        problem, validation = self.problem, self.validation
        row_gains = problem.weights[validation] * problem.gains(module, validation)
        variance = problem.variance(validation)
        total, is_clear, n_errors = row_gains, True, _MIN_STANDARD_ERRORS
        if hasattr(module, "head"):
            gains, unit = problem.label_gains(module, self.labels, self.fitted, validation)
            known = self.labels.are_known[validation]
            n_errors = _MIN_STANDARD_ERRORS_OF_LABELS
            is_clear = _is_clear(gains[known], n_errors)
            unit += _FLOOR_OF_LABELS * self.mean_square
            total = row_gains + self.supervision * unit * gains
        return _Verdict(
            gain=max(0.0, float(row_gains.sum() / variance)),
            total_gain=float(total.sum() / variance),
            is_clear=is_clear and _is_clear(total, n_errors),
            gains_when_cut=problem.gains_when_cut(module, validation),
        )


def _sentence_of_pca(verdict):
    if min(verdict.gains_when_cut.values(), default=0) < 0:
        return "codes and reconstructions are PCA's: cut codes were worse on validation rows"
    # Of few rows, or very different ones, even a large gain may be chance.
    reason = "is not enough" if verdict.gain < _MIN_GAIN else "these rows do not make certain"
    return (
        f"codes and reconstructions are PCA's: networks gained {_percent(verdict.gain)} of the "
        f"variance on validation rows, which {reason}"
    )


def _is_clear(gains, n_standard_errors):
    """Whether the mean of gains is so many standard errors above zero."""
    return len(gains) > 0 and gains.mean() > n_standard_errors * gains.std() / np.sqrt(len(gains))


def _percent(gain):
    digits = 1 if abs(gain) >= 0.001 else 2
    return f"{100 * gain:+.{digits}f} %"


def _warn(sentence):
    warnings.warn(sentence, ConvergenceWarning, stacklevel=3)
