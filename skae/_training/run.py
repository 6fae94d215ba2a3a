"""One training run: constant rate, averaged weights, an end that validation rows decide."""

import warnings
from contextlib import ExitStack
from copy import deepcopy
from dataclasses import dataclass, field
from math import exp, inf, isnan, nan
from numbers import Real

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from skorch.callbacks import Callback
from skorch.helper import predefined_split

from .._nn.layers import use_generator
from .._runtime.execution import multithreaded_operations
from .._runtime.process_group import rank
from .._runtime.reports import NO_REPORT, Report
from .._runtime.storage import NO_CHECKPOINT, Checkpoint, NoCheckpoint, structure_of
from .average import AveragedModule
from .graph import records_steps
from .interrupts import Interrupts
from .knee import MOST_STEPS, Knee
from .net import AutoencoderNet, EndOfTraining

# Steps in which the learning rate rises to its value.
_WARM_UP = 60

# After the loss has exploded, training continues at this share of its learning rate; it ends after
# this number of attempts.
_RATE_FACTOR, _MAX_ATTEMPTS = 0.25, 2

# A longer pass over the rows is not waited for before losses are compared.
_LONGEST_WAIT = 100

# Single operations of modules with more weights are large enough to be divided among threads. Those
# of others would wait for the slower thread dozens of times a step: for long on a busy machine.
_LARGE_MODULE = 2**25

# The exponential of more is too large for a float.
_LARGEST_EXPONENT = 700.0


@dataclass(frozen=True)
class TrainingOptions:
    """How a module is trained; most names are those of the estimators' parameters.

    ``max_epochs`` is None for no limit that matters. ``validation_fraction`` is the share of the
    rows that are held out of training, to validate on. ``groups`` are the numbers of the groups of
    all rows, of which none is split between training and validation; None without groups.
    ``has_custom`` is whether the user gives networks.
    """

    loss: type[torch.nn.Module]
    max_epochs: int | None
    batch_size: int
    learning_rate: float
    weight_decay: float
    early_stopping: bool
    validation_fraction: float
    tol: float
    bfloat16: bool
    device: torch.device
    callbacks: tuple = ()
    has_custom: bool = False
    supervision: float = 0.0
    report: Report = NO_REPORT
    checkpoint: Checkpoint | NoCheckpoint = NO_CHECKPOINT
    interrupts: Interrupts = field(default_factory=Interrupts)
    groups: np.ndarray | None = None


def train(
    module,
    rows,
    options,
    *,
    validation=None,
    seed=0,
    stage="training",
    of_pca=nan,
    n_steps=None,
    n_averaged=0,
):
    """Train ``module`` in place to reconstruct ``rows``; it ends with its best average of weights.

    AdamW trains at a constant rate after a short warm-up. What is validated, and returned, is the
    average of the weights (`AveragedModule`); training ends at the `Knee` of its validation losses,
    or after ``options.max_epochs``. If the loss explodes, training continues from the best weights
    so far at a quarter of the rate; if it does so again, it ends with them. It also ends with them
    at the user's Ctrl-C, which ``options.interrupts`` counts.

    Parameters
    ----------
    module : Module
        Returns the reconstructions of a batch of rows.
    rows : RowSet
    options : TrainingOptions
    validation : RowSet, default=None
        Rows to validate on. Without them, and for a module with penalties, whose losses do not
        show what is best, the last average is returned.
    seed : int
        Seeds the order of the rows, dropout and noise.
    stage : str
        Its name in reports, in the history and in the checkpoint.
    of_pca : float
        Share of the variance that PCA explains on the validation rows.
    n_steps : int, default=None
        Ends training after so many steps.
    n_averaged : int, default=0
        Number of earlier steps whose average the weights are.

    Returns
    -------
    history : list of dict
        One entry for each epoch: "stage", "epoch", "n_steps" so far, "train_loss", "valid_loss" if
        there are validation rows, both in the unit of X, "variance_explained", on the validation
        rows if there are any, and "dur" (seconds). After Ctrl-C it may be empty.
    """
    structure = structure_of(module)
    saved = options.checkpoint.load(stage) or {"structure": structure, "history": []}
    if saved["structure"] != structure:  # such as that of another function of the same name
        raise options.checkpoint.of_another_fit("other networks")
    history = saved["history"]
    options.report.on_stage_begin(stage, len(history))
    if "weights" in saved:  # the run was completed
        module.load_state_dict(saved["weights"])
        module.eval()
        return history
    average = AveragedModule(module, n_averaged)
    course = _Course(average, rows, validation, options, stage, of_pca, n_steps, saved)
    with options.interrupts.ending_training(), ExitStack() as stack:
        net = AutoencoderNet(
            module,
            criterion=options.loss if rows.targets is None else rows.targets.criterion,
            optimizer=torch.optim.AdamW,
            optimizer__betas=(0.9, 0.95),
            optimizer__weight_decay=options.weight_decay,
            optimizer__fused=True,
            lr=options.learning_rate,
            batch_size=options.batch_size,
            train_split=None if validation is None else predefined_split(validation),
            callbacks=[("course", course), *options.callbacks],
            device=options.device,
            verbose=int(bool(options.callbacks)),  # for those that print
            averaged_module=course.average,
            generator=torch.Generator().manual_seed(seed),
            interrupts=options.interrupts,
            bfloat16=options.bfloat16,
            has_user_callbacks=bool(options.callbacks),
        ).initialize()
        noise = torch.Generator(options.device).manual_seed(seed + rank())
        course.noise = stack.enter_context(use_generator(noise, module))
        if records_steps(rows, options):
            net.record_steps(noise)
        stack.enter_context(multithreaded_operations(_is_large(module)))
        net.notify("on_train_begin", X=rows, y=None)
        try:
            net.fit_loop(rows, epochs=course.n_epochs_left)
        except EndOfTraining:
            pass
        finally:
            net.notify("on_train_end", X=rows, y=None)
    for entry, epoch in zip(reversed(history), reversed(net.history), strict=False):
        entry |= _scores_of_callbacks(epoch, entry)
    module.eval()
    course.load_best(module)
    if not options.interrupts.n:
        completed = {"weights": module.state_dict(), "history": history}
        options.checkpoint.save(stage, completed | {"structure": structure})
    return history


def _is_large(module):
    return sum(weight.numel() for weight in module.parameters()) > _LARGE_MODULE


def criterion(loss, label_loss, supervision):
    """Weighted geometric mean of a loss and of the exponential of a loss of labels.

    Its logarithm is a multiple of what training minimises. Without labels it is the loss.
    """
    if label_loss is None:
        return loss
    share = supervision / (1 + supervision)
    return loss ** (1 - share) * exp(min(share * label_loss, _LARGEST_EXPONENT))


def warn_if_cut_short(history, options):
    """Warn if the user set ``max_epochs``, and training was still improving when it ended.

    A single epoch shows no trend.
    """
    if options.max_epochs is None or not 2 <= len(history) == options.max_epochs:
        return
    key = "valid_loss" if "valid_loss" in history[-1] else "train_loss"
    *before, last = (epoch[key] for epoch in history)
    if last < (1 - 1e-4) * min(before):
        warnings.warn(
            f"Training was still improving when max_epochs={options.max_epochs} ended it.",
            ConvergenceWarning,
            stacklevel=2,
        )


class _Course(Callback):
    """The course of a run: rate, average, comparisons, end, reports, and the saved state.

    Parameters
    ----------
    average : AveragedModule
    rows, validation : RowSet
    options : TrainingOptions
    stage : str
    of_pca : float
    n_steps : int or None
    saved : dict
        The saved state of this run: at least its history, to which epochs are added.
    """

    def __init__(self, average, rows, validation, options, stage, of_pca, n_steps, saved):
        self.rows, self.validation = rows, validation
        self.options, self.stage, self.of_pca, self.n_steps = options, stage, of_pca, n_steps
        self.saved, self.history = saved, saved["history"]
        self.average = average
        self.floor = getattr(getattr(average.module, "head", None), "floor", 0.0)
        self.noise = None  # the generator of dropout and noise
        self.step, self.n_attempts, self.rate = 0, 1, options.learning_rate
        # Losses contain no penalties, and so do not show which weights are the best.
        self.takes_latest = validation is None or getattr(average.module, "penalised", False)
        self.best = deepcopy(average.module.state_dict())
        self.knee = None
        # With labels, the knee of the reconstructions alone: the labels are learnt much sooner, and
        # in the criterion what they gain hides what reconstructions and codes have yet to gain.
        self.knee_of_rows = None

    @property
    def _knees(self):
        return [knee for knee in (self.knee, self.knee_of_rows) if knee is not None]

    @property
    def n_epochs_left(self):
        most = self.options.max_epochs
        most = MOST_STEPS if most is None else most  # each has at least one step
        return max(0, most - len(self.history))

    def load_best(self, module):
        """Load the best weights into the module."""
        module.load_state_dict(self.best)

    def on_train_begin(self, net, **kwargs):
        may_end = self.options.early_stopping and not self.takes_latest
        if self.validation is None:
            self.knee = Knee(inf, inf, self.options.tol, may_end=False)
        else:
            loss, label_loss = net.losses_of(self.validation)
            measure, supervision = self.validation.measure, self.options.supervision
            of_mean, floor = measure.error_of_mean / measure.factor, self.floor
            start = inf if isnan(self.of_pca) else criterion(loss + floor, label_loss, supervision)
            unit = criterion(of_mean + floor, label_loss, supervision)
            self.knee = Knee(start, unit, self.options.tol, may_end=may_end)
            if label_loss is not None:
                start = inf if isnan(self.of_pca) else loss + floor
                self.knee_of_rows = Knee(start, of_mean, self.options.tol, may_end=may_end)
        if "net" in self.saved:
            self._restore(net)

    def on_epoch_begin(self, net, **kwargs):
        self.options.interrupts.check()
        self.options.report.on_epoch_begin()

    def on_batch_begin(self, net, training=False, **kwargs):
        if training and self.step < _WARM_UP:  # afterwards schedules of the user may change it
            for group in net.optimizer_.param_groups:
                group["lr"] = self.rate * (self.step + 1) / _WARM_UP

    def on_batch_end(self, net, training=False, **kwargs):
        if not training:
            return
        self.step += 1
        self.average.update()
        is_long = len(self.rows) > _LONGEST_WAIT * self.options.batch_size
        if is_long and self.validation is not None and self.knee.is_due(self.step):
            self.average.copy_buffers()
            self._compare(net, *net.losses_of(self.validation))
        net.is_ending |= self.step == self.n_steps

    def on_epoch_end(self, net, **kwargs):
        epoch = net.history[-1]
        kind = "train" if self.validation is None else "valid"
        loss, label_loss = epoch[f"{kind}_loss"], epoch.get(f"{kind}_label_loss")
        ends_here = len(self.history) + 1 == self.options.max_epochs
        finite = loss == loss
        if self.takes_latest or ends_here or not finite or self.knee.is_due(self.step):
            self._compare(net, loss, label_loss)
        if self._report(epoch):
            net.is_ending = True
        if not net.is_ending:
            self._save(net)

    def on_train_end(self, net, **kwargs):
        net.optimizer_.zero_grad()  # frees memory

    def _compare(self, net, loss, label_loss):
        """Compare the losses of the averaged weights; keep them if they are the best."""
        value = criterion(loss + self.floor, label_loss, self.options.supervision)
        before = self.knee.best_step
        self.knee.compare(self.step, value)
        if self.knee.exploded or not _is_finite(net.module_):
            self._return_to_best(net)
            return
        if self.takes_latest or self.knee.best_step > before:
            self.average.copy_buffers()
            for name, weight in self.average.module.state_dict().items():
                self.best[name].copy_(weight)
        if self.knee_of_rows is not None:
            self.knee_of_rows.compare(self.step, loss + self.floor)
        net.is_ending |= all(knee.is_reached for knee in self._knees)

    def _return_to_best(self, net):
        """Continue from the best weights at a lower rate, or end with them."""
        is_last = self.n_attempts == _MAX_ATTEMPTS
        what = "ends there" if is_last else f"goes on at {_RATE_FACTOR * self.rate:.3g}"
        warnings.warn(
            f"The loss exploded after {self.step} steps at learning_rate={self.rate:.3g}: training "
            f"returns to its best weights and {what}.",
            ConvergenceWarning,
            stacklevel=3,
        )
        self.n_attempts += 1
        self.rate *= _RATE_FACTOR
        self.load_best(net.module_)
        net.optimizer_.state.clear()
        for group in net.optimizer_.param_groups:
            group["lr"] = self.rate
        self.average.restart()
        net.is_ending |= is_last

    def _report(self, epoch):
        """Add an epoch to the history and report it; return whether the report ends training."""
        entry = {"stage": self.stage, "epoch": len(self.history) + 1, "n_steps": self.step}
        for key, row_set in (("train_loss", self.rows), ("valid_loss", self.validation)):
            if row_set is not None:
                entry[key] = row_set.measure.error(epoch[key])
                entry["variance_explained"] = row_set.measure.explained(epoch[key])
        names = ("train_label_loss", "valid_label_loss")
        entry |= {name: epoch[name] for name in names if name in epoch}
        if not isnan(self.of_pca):
            entry["variance_explained_by_pca"] = self.of_pca
        entry["dur"] = epoch["dur"]
        self.history.append(entry)
        return self.options.report.on_epoch_end(entry)

    def _save(self, net):
        checkpoint = self.options.checkpoint
        if checkpoint is NO_CHECKPOINT:
            return
        names = ("step", "n_attempts", "rate", "history", "best")
        state = {
            "structure": self.saved["structure"],
            "net": net.module_.state_dict(),
            "average": self.average.module.state_dict(),
            "n_averaged": self.average.n_steps,
            "optimizer": net.optimizer_.state_dict(),
            "knees": [knee.state() for knee in self._knees],
            "order": net.generator.get_state(),
            "noise": self.noise.get_state(),
            **{name: getattr(self, name) for name in names},
        }
        checkpoint.save(self.stage, state)

    def _restore(self, net):
        saved = self.saved
        net.module_.load_state_dict(saved["net"])
        self.average.module.load_state_dict(saved["average"])
        self.average.n_steps = saved["n_averaged"]
        net.optimizer_.load_state_dict(saved["optimizer"])
        for knee, state in zip(self._knees, saved["knees"], strict=True):
            knee.restore(state)
        net.generator.set_state(saved["order"])
        self.noise.set_state(saved["noise"])
        self.step, self.n_attempts, self.rate = (
            saved[name] for name in ("step", "n_attempts", "rate")
        )
        for name, weight in saved["best"].items():
            self.best[name].copy_(weight)


def _scores_of_callbacks(epoch, entry):
    """Numbers that callbacks have recorded of an epoch, and an entry of the history has not yet."""
    return {
        name: float(value)
        for name, value in epoch.items()
        if isinstance(value, Real)
        and not isinstance(value, (bool, np.bool_))
        and not name.endswith("_batch_count")
        and name not in entry
    }


@torch.no_grad()
def _is_finite(module):
    """Whether all weights are finite. The last step of an epoch follows its last loss."""
    checks = [weight.isfinite().all() for weight in module.parameters()]
    return not checks or bool(torch.stack(checks).all())  # one wait for a device
