"""Training: from a module, rows and options to the module with its best weights."""

import warnings
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from math import inf, isnan, nan

import torch
from sklearn.exceptions import ConvergenceWarning
from skorch.callbacks import Callback, LRScheduler
from skorch.helper import predefined_split

from .._nn.layers import use_generator
from .._runtime.device import data_parallel, n_processes, rank
from .._runtime.execution import multithreaded_operations
from .._runtime.reports import NO_REPORT, Report
from .._runtime.storage import NO_CHECKPOINT, Checkpoint, NoCheckpoint
from .early_stopping import BestSoFar, Interrupts
from .net import EndOfTraining, ReconstructionNet, n_batches
from .shards import AdamWInParts, Shards, is_huge, worth_halves

# After an explosion training goes on at a share of its rate, and gives up after another.
_SMALLER, _ATTEMPTS = 0.25, 2

# Between the seeds of dropout and noise of the parts of a batch.
_FAR = 2**32


@dataclass(frozen=True)
class TrainingOptions:
    """How a module is trained; most names are those of the estimators' parameters.

    ``limited`` is whether ``max_epochs`` was asked for: then training that was still improving
    when it ran out is worth a warning. ``divisible`` is whether parts of a batch may be trained on
    at the same time, in copies of the module: not for networks of unknown kind.
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
    report: Report = NO_REPORT
    checkpoint: Checkpoint | NoCheckpoint = NO_CHECKPOINT
    interrupts: Interrupts = field(default_factory=Interrupts)


@dataclass(frozen=True)
class Stage:
    """One training among those of a fit.

    Attributes
    ----------
    name : str
        What reports and the history call it, and the checkpoint its files.
    of_pca : float
        Share of the variance that PCA explains of the rows by which training is judged.
    """

    name: str = "training"
    of_pca: float = nan


class Interrupted(KeyboardInterrupt):
    """The user's Ctrl-C. The module has the weights of the best epoch so far.

    Attributes
    ----------
    history : list of dict
        As `train` would have returned it; empty if nothing was learnt.
    """

    def __init__(self, history):
        super().__init__()
        self.history = history


def train(module, rows, options, *, validation=None, seed=0, stage=Stage()):
    """Train ``module`` in place to reconstruct ``rows``; it ends with its best weights.

    AdamW under a one-cycle schedule, whose gentle start keeps what the module already does well. If
    the loss explodes, training goes on from the best weights so far at a quarter of the rate; if
    it does so again, it ends there.

    Parameters
    ----------
    module : Module
        From a batch of rows to their reconstructions.
    rows : RowSet
    options : TrainingOptions
    validation : RowSet, default=None
        Rows to validate on after each epoch. If given, the best epoch is the one that is best on
        them, and with ``options.early_stopping`` training ends when none has been better for
        ``options.n_iter_no_change`` epochs.
    seed : int
        Of the order of the rows, of dropout and of noise.
    stage : Stage

    Returns
    -------
    history : list of dict
        One entry an epoch: "stage", "epoch", "train_loss", "valid_loss" if there are validation
        rows, both in the unit of X, "variance_explained", of the validation rows if there are any,
        and "dur" (seconds).

    Raises
    ------
    Interrupted
        By the user's Ctrl-C, with the history so far.
    """
    saved = options.checkpoint.load(stage.name)
    if saved is None:
        saved = {"attempt": 1, "n_before": 0, "history": []}
    history = saved["history"]
    options.report.on_stage_begin(stage.name, len(history))
    supervisor = _Supervisor(rows, validation, options, stage, saved)
    try:
        if "weights" in saved:  # it was trained to its end
            module.load_state_dict(saved["weights"])
            return history
        with options.interrupts.ending_training():
            while True:
                sound = _attempt(module, rows, options, validation, seed, supervisor)
                if sound or len(history) == options.max_epochs:
                    break
                given_up = supervisor.saved["attempt"] == _ATTEMPTS
                _warn_of_explosion(history, supervisor.learning_rate, given_up)
                if given_up:
                    break
                supervisor.start_again()
    except KeyboardInterrupt:
        # Again, and undisturbed: the interrupt may have come in the middle of it.
        history = supervisor.give_best_to(module)
        raise Interrupted(history) from None
    finally:
        module.eval()
    options.checkpoint.save(stage.name, {"weights": module.state_dict(), "history": history})
    return history


def _warn_of_explosion(history, rate, given_up):
    what = "ends there" if given_up else f"goes on at {_SMALLER * rate:.3g}"
    warnings.warn(
        f"The loss exploded in epoch {len(history)} at learning_rate={rate:.3g}: training "
        f"returns to its best weights and {what}.",
        ConvergenceWarning,
        stacklevel=3,
    )


def warn_if_cut_short(history, options):
    """Warn if ``max_epochs`` was asked for, and training that it ended was still improving.

    ``history`` is that of all epochs; a single one cannot tell.
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
    """Train until the end, or until the loss explodes: then False."""
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
            criterion=options.loss,
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
        )
        net.initialize()
        net.shards = shards
        if n_processes() > 1:
            net.parallel = data_parallel(module).__call__  # skorch would take a module for its own
        supervisor.noise = []
        for place, shard in enumerate([module] if shards is None else shards.modules):
            noise = torch.Generator(options.device).manual_seed(seed + rank() + place * _FAR)
            supervisor.noise.append(stack.enter_context(use_generator(noise, shard)))
        supervisor.schedule = schedule
        net.notify("on_train_begin", X=rows, y=None)
        sound = True
        stack.enter_context(multithreaded_operations(is_huge(module)))
        try:
            net.fit_loop(rows, epochs=supervisor.n_epochs_left)
        except EndOfTraining as end:
            sound = end.sound
        finally:
            net.notify("on_train_end", X=rows, y=None)
    return sound


def _shards_of(module, rows, options):
    """Copies of the module that share the work of a batch; None where they are not worth it."""
    if not options.divisible or options.device.type != "cpu" or n_processes() > 1:
        return None
    if not worth_halves(module, rows, options.batch_size):
        return None
    return Shards(module, 2)


def _optimizer(options, shards):
    """AdamW as parameters of a skorch net, divided among the threads of the shards if any."""
    settings = {"betas": (0.9, 0.95), "weight_decay": options.weight_decay}
    if shards is None:
        kind = torch.optim.AdamW
        settings["fused"] = True
    else:
        kind = partial(AdamWInParts, n_parts=2)
    return {"optimizer": kind, **{f"optimizer__{name}": v for name, v in settings.items()}}


class _Supervisor(Callback):
    """After each epoch: tells of it, keeps its weights if they are the best, ends it, saves it.

    Parameters
    ----------
    rows, validation : RowSet
    options : TrainingOptions
    stage : Stage
    saved : dict
        What was saved of this attempt, at least its number ("attempt"), the epochs of those before
        it ("n_before") and the history, which grows.
    """

    def __init__(self, rows, validation, options, stage, saved):
        self.rows = rows
        self.validation = validation
        self.options = options
        self.stage = stage
        self.saved = saved
        self.history = saved["history"]
        self.best, self.best_epoch = None, None
        self.noise = []  # the generators of dropout and noise

    def start_again(self):
        """From the best weights, at a smaller rate."""
        self.saved = {
            "attempt": self.saved["attempt"] + 1,
            "n_before": len(self.history),
            "history": self.history,
        }

    def give_best_to(self, module):
        """Load the best weights, and return the history that belongs to them."""
        if self.best is None:
            return []
        self.best.give_to(module)
        return self.history

    @property
    def learning_rate(self):
        return self.options.learning_rate * _SMALLER ** (self.saved["attempt"] - 1)

    @property
    def n_epochs(self):
        return self.options.max_epochs - self.saved["n_before"]

    @property
    def n_epochs_left(self):
        return self.options.max_epochs - len(self.history)

    def on_train_begin(self, net, **kwargs):
        stops = self.validation is not None and self.options.early_stopping
        patience = self.options.n_iter_no_change if stops else inf
        # Epochs are told, and judged, by their reconstructions alone.
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
        self._tell(net, epoch)
        is_best = self.best.update(
            epoch["train_loss" if self.validation is None else "valid_loss"], net.module_
        )
        if self.best.stalled or self.best.exploded:
            net.ending = EndOfTraining(sound=not self.best.exploded)
        if net.ending is None:
            self._save(net, is_best)

    def on_train_end(self, net, **kwargs):
        net.optimizer_.zero_grad()  # makes room
        self.best.give_to(net.module_)

    def _tell(self, net, epoch):
        entry = {"stage": self.stage.name, "epoch": len(self.history) + 1}
        for key, row_set in (("train_loss", self.rows), ("valid_loss", self.validation)):
            if row_set is not None:
                entry[key] = row_set.measure.error(epoch[key])
                entry["variance_explained"] = row_set.measure.explained(epoch[key])
        if not isnan(self.stage.of_pca):
            entry["variance_explained_by_pca"] = self.stage.of_pca
        entry["dur"] = epoch["dur"]
        self.history.append(entry)
        best = max(entry["variance_explained"] for entry in self.history)
        if self.options.report.on_epoch_end(entry, best, self.stage.of_pca):
            net.ending = EndOfTraining(sound=True)

    def _save(self, net, is_best):
        checkpoint = self.options.checkpoint
        if checkpoint is NO_CHECKPOINT:
            return
        # Killed between the two, training goes on from the epoch before, and comes here again.
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
            "noise": [generator.get_state() for generator in self.noise],
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
        for generator, state in zip(self.noise, saved["noise"], strict=True):
            generator.set_state(state)
