"""Training of a module on rows, which ends with the best weights."""

import warnings
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from math import inf, isnan, nan

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from skorch.callbacks import Callback, LRScheduler
from skorch.helper import predefined_split
from torch.nn.modules.conv import _ConvNd

from .._nn.layers import use_generator
from .._runtime.execution import multithreaded_operations
from .._runtime.process_group import n_processes, rank
from .._runtime.reports import NO_REPORT, Report
from .._runtime.storage import NO_CHECKPOINT, Checkpoint, NoCheckpoint
from .batches import n_batches
from .early_stopping import BestSoFar, Interrupts, criterion
from .graph import records_steps
from .net import AdamWInParts, EndOfTraining, ReconstructionNet, Shards

# After the loss has exploded, training continues at this share of its learning rate; it ends after
# this number of attempts.
_RATE_FACTOR, _MAX_ATTEMPTS = 0.25, 2

# Difference between the seeds of dropout and noise of two parts of a batch.
_SEED_STEP = 2**32

# Number of threads that take a part of each batch.
_N_SHARDS = 2

# Batches of less work, in floating-point operations of a forward pass, are not divided between
# threads, which has a cost of its own.
_MIN_DIVIDED_WORK = 1.5e8

# Modules with more weights are not either: a second set of gradients would take much memory, and
# each operation is large enough to use all threads.
_MAX_DIVIDED_WEIGHTS = 2**25


@dataclass(frozen=True)
class TrainingOptions:
    """How a module is trained; most names are those of the estimators' parameters.

    ``limited`` is whether the user set ``max_epochs``: then a warning says if training was still
    improving at its end. ``divisible`` is whether copies of the module may take parts of a batch at
    the same time: not if it contains custom networks. ``groups`` are the numbers of the groups of
    all rows, of which none is split between training and validation; None without groups.
    """

    loss: type[torch.nn.Module]
    max_epochs: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    early_stopping: bool
    n_iter_no_change: int
    tol: float
    bfloat16: bool
    device: torch.device
    callbacks: tuple = ()
    limited: bool = False
    divisible: bool = True
    supervision: float = 0.0
    report: Report = NO_REPORT
    checkpoint: Checkpoint | NoCheckpoint = NO_CHECKPOINT
    interrupts: Interrupts = field(default_factory=Interrupts)
    groups: np.ndarray | None = None


@dataclass(frozen=True)
class Stage:
    """One training among those of a fit.

    Attributes
    ----------
    name : str
        Its name in reports, in the history and in the checkpoint.
    explained_by_pca : float
        Share of the variance that PCA explains on the validation rows, or on the training rows if
        there are no others.
    is_trial : bool
        Whether training ends where the validation loss rises in the second half of the epochs.
    """

    name: str = "training"
    explained_by_pca: float = nan
    is_trial: bool = False


class Interrupted(KeyboardInterrupt):
    """The user's Ctrl-C. The module has the weights of the best epoch so far.

    Attributes
    ----------
    history : list of dict
        As `train` would have returned it; empty if no epoch was completed.
    """

    def __init__(self, history):
        super().__init__()
        self.history = history


def train(module, rows, options, *, validation=None, seed=0, stage=Stage()):
    """Train ``module`` in place to reconstruct ``rows``; it ends with its best weights.

    Uses AdamW with a one-cycle schedule, whose low rates at the start keep what the module has
    already learnt. If the loss explodes, training continues from the best weights so far at a
    quarter of the rate; if it does so again, training ends with them.

    Parameters
    ----------
    module : Module
        Returns the reconstructions of a batch of rows.
    rows : RowSet
    options : TrainingOptions
    validation : RowSet, default=None
        Rows to validate on after each epoch. If given, the best epoch is the one that is best on
        them, and with ``options.early_stopping`` training ends when none has been better for
        ``options.n_iter_no_change`` epochs.
    seed : int
        Seeds the order of the rows, dropout and noise.
    stage : Stage

    Returns
    -------
    history : list of dict
        One entry for each epoch: "stage", "epoch", "train_loss", "valid_loss" if there are
        validation rows, both in the unit of X, "variance_explained", on the validation rows if
        there are any, and "dur" (seconds).

    Raises
    ------
    Interrupted
        At the user's Ctrl-C, with the history so far.
    """
    saved = options.checkpoint.load(stage.name)
    if saved is None:
        saved = {"attempt": 1, "n_before": 0, "history": []}
    history = saved["history"]
    options.report.on_stage_begin(stage.name, len(history))
    supervisor = _Supervisor(rows, validation, options, stage, saved)
    try:
        if "weights" in saved:  # the stage was completed
            module.load_state_dict(saved["weights"])
            return history
        with options.interrupts.ending_training():
            while True:
                exploded = _attempt(module, rows, options, validation, seed, supervisor)
                if not exploded:
                    break
                is_last = (
                    supervisor.saved["attempt"] == _MAX_ATTEMPTS
                    or len(history) == options.max_epochs
                )
                _warn_of_explosion(history, supervisor.learning_rate, is_last)
                if is_last:
                    break
                supervisor.start_next_attempt()
    except KeyboardInterrupt:
        # Not for the first time, perhaps: the interrupt may have come while weights were loaded.
        history = supervisor.load_best(module)
        raise Interrupted(history) from None
    finally:
        module.eval()
    options.checkpoint.save(stage.name, {"weights": module.state_dict(), "history": history})
    return history


def _warn_of_explosion(history, rate, is_last):
    what = "ends there" if is_last else f"goes on at {_RATE_FACTOR * rate:.3g}"
    warnings.warn(
        f"The loss exploded in epoch {len(history)} at learning_rate={rate:.3g}: training "
        f"returns to its best weights and {what}.",
        ConvergenceWarning,
        stacklevel=3,
    )


def largest_share_explained(history):
    """The largest share of the variance explained after any epoch; NaN if there is no other."""
    shares = (epoch["variance_explained"] for epoch in history)
    return max(shares, key=lambda share: -inf if isnan(share) else share)


def warn_if_cut_short(history, options):
    """Warn if the user set ``max_epochs``, and training was still improving when it ended.

    ``history`` has all epochs; a single one shows no trend.
    """
    if not options.limited or len(history) < 2:
        return
    key = "valid_loss" if "valid_loss" in history[-1] else "train_loss"
    *before, last = (epoch[key] for epoch in history)
    if last < (1 - options.tol) * min(before):
        warnings.warn(
            f"Training was still improving when max_epochs={options.max_epochs} ended it.",
            ConvergenceWarning,
            stacklevel=2,
        )


def _attempt(module, rows, options, validation, seed, supervisor):
    """Train until the end or until the loss explodes; return whether it did."""
    schedule = LRScheduler(
        torch.optim.lr_scheduler.OneCycleLR,
        max_lr=supervisor.learning_rate,
        total_steps=max(2, supervisor.n_epochs * n_batches(len(rows), options.batch_size)),
        pct_start=0.15,
        step_every="batch",
        event_name=None,
    )
    with ExitStack() as stack:
        shards = _shards_of(module, rows, options)
        net = ReconstructionNet(
            module,
            criterion=options.loss if rows.targets is None else rows.targets.criterion,
            **_optimizer(options, shards),
            lr=supervisor.learning_rate,
            max_epochs=supervisor.n_epochs,
            batch_size=options.batch_size,
            train_split=None if validation is None else predefined_split(validation),
            callbacks=[schedule, supervisor, *options.callbacks],
            device=options.device,
            verbose=0,
            generator=torch.Generator().manual_seed(seed),
            interrupts=options.interrupts,
            bfloat16=options.bfloat16,
            has_user_callbacks=bool(options.callbacks),
            shards=shards,
        )
        net.initialize()
        generators = []
        for number, shard in enumerate([module] if shards is None else shards.modules):
            noise = torch.Generator(options.device).manual_seed(seed + rank() + number * _SEED_STEP)
            generators.append(stack.enter_context(use_generator(noise, shard)))
        if records_steps(rows, options):
            net.record_steps(generators[0])
        supervisor.start_attempt(schedule, generators)
        net.notify("on_train_begin", X=rows, y=None)
        exploded = False
        stack.enter_context(multithreaded_operations(_is_huge(module)))
        try:
            net.fit_loop(rows, epochs=supervisor.n_epochs_left)
        except EndOfTraining as end:
            exploded = end.exploded
        finally:
            net.notify("on_train_end", X=rows, y=None)
    return exploded


def _shards_of(module, rows, options):
    """Copies of the module that take parts of each batch; None where they would not be faster."""
    if not options.divisible or options.device.type != "cpu" or n_processes() > 1:
        return None
    if _is_huge(module) or min(len(rows), options.batch_size) < _N_SHARDS:
        return None
    if _operations_per_row(module, rows) * options.batch_size <= _MIN_DIVIDED_WORK:
        return None
    return Shards(module, _N_SHARDS)


def _n_weights(module):
    return sum(weight.numel() for weight in module.parameters())


def _is_huge(module):
    """Whether single operations of a module are large enough to be divided among threads."""
    return _n_weights(module) > _MAX_DIVIDED_WEIGHTS


def _operations_per_row(module, rows):
    """Floating-point operations of the forward pass of one row."""
    if not any(isinstance(layer, _ConvNd) for layer in module.modules()):
        return 2 * _n_weights(module)
    from torch.utils.flop_counter import FlopCounterMode  # takes a second to import

    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module.eval()(rows.get_batch(rows.indices[:1]))  # in training it would draw random numbers
    return counter.get_total_flops()


def _optimizer(options, shards):
    """AdamW as parameters of a skorch net, divided among threads if there are shards."""
    settings = {"betas": (0.9, 0.95), "weight_decay": options.weight_decay}
    if shards is None:
        kind = torch.optim.AdamW
        settings["fused"] = True
    else:
        kind = partial(AdamWInParts, n_parts=_N_SHARDS)
    return {"optimizer": kind, **{f"optimizer__{name}": v for name, v in settings.items()}}


class _Supervisor(Callback):
    """After each epoch reports it, keeps its weights if they are the best, and saves the state.

    It ends training that stalls or explodes.

    Parameters
    ----------
    rows, validation : RowSet
    options : TrainingOptions
    stage : Stage
    saved : dict
        The saved state of this attempt: at least its number ("attempt"), the number of epochs
        before it ("n_before") and the history, to which epochs are added.
    """

    def __init__(self, rows, validation, options, stage, saved):
        self.rows = rows
        self.validation = validation
        self.options = options
        self.stage = stage
        self.saved = saved
        self.history = saved["history"]
        self.best, self.best_epoch = None, None
        self.schedule, self.generators = None, None

    def start_attempt(self, schedule, generators):
        """Set the schedule, and the generators of dropout and noise, of an attempt."""
        self.schedule, self.generators = schedule, generators

    def start_next_attempt(self):
        """Continue from the best weights, at a lower rate."""
        self.saved = {
            "attempt": self.saved["attempt"] + 1,
            "n_before": len(self.history),
            "history": self.history,
        }

    def load_best(self, module):
        """Load the best weights into the module, and return the history that led to them."""
        if self.best is None:
            return []
        self.best.load_into(module)
        return self.history

    @property
    def learning_rate(self):
        return self.options.learning_rate * _RATE_FACTOR ** (self.saved["attempt"] - 1)

    @property
    def n_epochs(self):
        return self.options.max_epochs - self.saved["n_before"]

    @property
    def n_epochs_left(self):
        return self.options.max_epochs - len(self.history)

    def on_train_begin(self, net, **kwargs):
        stops = self.validation is not None and self.options.early_stopping
        patience = self.options.n_iter_no_change if stops else inf
        # Losses of epochs contain no penalties, and so do not show which epoch is the best.
        latest = getattr(net.module_, "penalised", False)
        best = BestSoFar(net.module_, patience, self.options.tol, latest=latest)
        if "net" in self.saved:
            self._restore(net, best)
        self.best = best

    def on_epoch_begin(self, net, **kwargs):
        self.options.interrupts.check()
        self.options.report.on_epoch_begin()

    def on_epoch_end(self, net, **kwargs):
        epoch = net.history[-1]
        self._report(net, epoch)
        kind = "train" if self.validation is None else "valid"
        loss, label_loss = epoch[f"{kind}_loss"], epoch.get(f"{kind}_label_loss")
        value = criterion(loss, label_loss, self.options.supervision)
        is_best = self.best.update(value, net.module_)
        progress = len(self.history) / self.options.max_epochs if self.stage.is_trial else 0.0
        if self.best.stalled or self.best.exploded or self.best.is_overfitting(progress):
            net.end_after_epoch(exploded=self.best.exploded)
        if net.ending is None:
            self._save(net, is_best)

    def on_train_end(self, net, **kwargs):
        net.optimizer_.zero_grad()  # frees memory
        self.best.load_into(net.module_)

    def _report(self, net, epoch):
        entry = {"stage": self.stage.name, "epoch": len(self.history) + 1}
        for key, row_set in (("train_loss", self.rows), ("valid_loss", self.validation)):
            if row_set is not None:
                entry[key] = row_set.measure.error(epoch[key])
                entry["variance_explained"] = row_set.measure.explained(epoch[key])
        names = ("train_label_loss", "valid_label_loss")
        entry |= {name: epoch[name] for name in names if name in epoch}
        if not isnan(self.stage.explained_by_pca):
            entry["variance_explained_by_pca"] = self.stage.explained_by_pca
        entry["dur"] = epoch["dur"]
        self.history.append(entry)
        best = largest_share_explained(self.history)
        if self.options.report.on_epoch_end(entry, best, self.stage.explained_by_pca):
            net.end_after_epoch()

    def _save(self, net, is_best):
        checkpoint = self.options.checkpoint
        if checkpoint is NO_CHECKPOINT:
            return
        # Killed between the two, training resumes at the epoch before, and saves both again.
        if is_best:
            self.best_epoch = len(self.history)
            checkpoint.save_best(self.stage.name, self.best_epoch, net.module_.state_dict())
        state = {
            "net": net.module_.state_dict(),
            "optimizer": net.optimizer_.state_dict(),
            "schedule": self.schedule.lr_scheduler_.state_dict(),
            "best": self.best.state(),
            "best_epoch": self.best_epoch,
            "order": net.generator.get_state(),
            "noise": [generator.get_state() for generator in self.generators],
            **{key: self.saved[key] for key in ("attempt", "n_before", "history")},
        }
        checkpoint.save(self.stage.name, state)

    def _restore(self, net, best):
        saved = self.saved
        self.best_epoch = saved["best_epoch"]
        weights = self.options.checkpoint.load_best(self.stage.name, self.best_epoch)
        net.module_.load_state_dict(weights)
        best.restore(saved["best"], net.module_)
        net.module_.load_state_dict(saved["net"])
        net.optimizer_.load_state_dict(saved["optimizer"])
        self.schedule.lr_scheduler_.load_state_dict(saved["schedule"])
        net.generator.set_state(saved["order"])
        for generator, state in zip(self.generators, saved["noise"], strict=True):
            generator.set_state(state)
