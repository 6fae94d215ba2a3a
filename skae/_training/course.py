"""The course of a training run: rate, average, comparisons, end, and the state that is saved."""

import warnings
from copy import deepcopy
from math import exp, inf, isnan

import torch
from sklearn.exceptions import ConvergenceWarning
from skorch.callbacks import Callback

from .._runtime.checkpoint import NO_CHECKPOINT
from .knee import MOST_STEPS, Knee

# Steps in which the learning rate rises to its value.
_WARM_UP = 60

# After the loss has exploded, training continues at this share of its learning rate; it ends after
# this number of attempts.
_RATE_FACTOR, _MAX_ATTEMPTS = 0.25, 2

# A longer pass over the rows is not waited for before losses are compared.
_LONGEST_WAIT = 100

# The exponential of more is too large for a float.
_LARGEST_EXPONENT = 700.0


class Course(Callback):
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


def criterion(loss, label_loss, supervision):
    """Weighted geometric mean of a loss and of the exponential of a loss of labels.

    Its logarithm is a multiple of what training minimises. Without labels it is the loss.
    """
    if label_loss is None:
        return loss
    share = supervision / (1 + supervision)
    return loss ** (1 - share) * exp(min(share * label_loss, _LARGEST_EXPONENT))


@torch.no_grad()
def _is_finite(module):
    """Whether all weights are finite. The last step of an epoch follows its last loss."""
    checks = [weight.isfinite().all() for weight in module.parameters()]
    return not checks or bool(torch.stack(checks).all())  # one wait for a device
