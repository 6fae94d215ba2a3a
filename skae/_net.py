"""Training: a skorch net whose target is its own input."""

import warnings
from collections.abc import Callable
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, replace

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from skorch import NeuralNet
from skorch.callbacks import Callback, EpochTimer, LRScheduler
from skorch.helper import predefined_split
from torch.utils.data import Dataset

# A loss so many times the best so far has exploded, unless it is negligible in the unit of the
# rows; training then goes on at a share of its rate, and gives up when that explodes as well.
_EXPLODED, _NEGLIGIBLE, _SMALLER, _ATTEMPTS = 100.0, 1e-6, 0.25, 2


@dataclass(frozen=True)
class TrainingOptions:
    """How a module is trained; the names are those of the estimators' parameters."""

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
    verbose: int


@dataclass(frozen=True)
class RowSet(Dataset):
    """Some of the rows of a source that hands out whole batches.

    Attributes
    ----------
    fetch : callable
        From an array of row numbers to a dense tensor of those rows.
    numbers : ndarray of int
        The rows that belong to the set.
    """

    fetch: Callable[[np.ndarray], torch.Tensor]
    numbers: np.ndarray

    def __len__(self):
        return len(self.numbers)


class _Batches:
    """Whole batches of a `RowSet` as (input, target) pairs, shuffled if there is a generator."""

    def __init__(self, rows, batch_size, device, generator=None):
        self.rows = rows
        self.batch_size = batch_size
        self.device = device
        self.generator = generator

    def __len__(self):
        return -(-len(self.rows) // self.batch_size)

    def __iter__(self):
        numbers = self.rows.numbers
        if self.generator is not None:
            numbers = numbers[torch.randperm(len(numbers), generator=self.generator).numpy()]
        for start in range(0, len(numbers), self.batch_size):
            batch = self.rows.fetch(numbers[start : start + self.batch_size]).to(self.device)
            yield batch, batch


class _ReconstructionNet(NeuralNet):
    """A skorch net that reconstructs its input, one whole batch at a time.

    skorch's own loader fetches row by row and waits for the device after every batch to read the
    loss; here a batch is fetched whole and the loss is read once an epoch.
    """

    def __init__(self, *args, generator, bfloat16=False, **kwargs):
        super().__init__(*args, **kwargs)
        self.generator = generator
        self.bfloat16 = bfloat16

    def get_default_callbacks(self):
        return [("epoch_timer", EpochTimer())]

    def get_iterator(self, dataset, training=False):
        generator = self.generator if training else None
        return _Batches(dataset, self.batch_size, self.device, generator)

    def infer(self, x, **fit_params):
        device_type = torch.device(self.device).type
        with torch.autocast(device_type, torch.bfloat16, enabled=self.bfloat16):
            return super().infer(x, **fit_params)

    def run_single_epoch(self, iterator, training, prefix, step_fn, **fit_params):
        if iterator is None:
            return
        total, n_rows = 0.0, 0
        for batch in iterator:
            self.notify("on_batch_begin", batch=batch, training=training)
            step = step_fn(batch, **fit_params)
            total = total + step["loss"].detach() * len(batch[0])
            n_rows += len(batch[0])
            self.notify("on_batch_end", batch=batch, training=training, **step)
        self.history.record(f"{prefix}_loss", float(total) / n_rows)


class _NoImprovementError(Exception):
    """Ends skorch's loop: nothing has improved for long enough."""


class _DivergenceError(Exception):
    """Ends skorch's loop: the loss is no number, or has grown beyond reason."""


class Interrupted(KeyboardInterrupt):
    """The user's Ctrl-C. The module has the weights of the best epoch so far.

    Attributes
    ----------
    history : list of dict
        As `train` would have returned it.
    """

    def __init__(self, history):
        super().__init__()
        self.history = history


class _KeepBest(Callback):
    """Keep the weights of the epoch with the lowest loss; stop when it stays behind or explodes.

    The loss is that of the unseen rows if there are any, else that of training.
    """

    def __init__(self, monitor, patience, tol):
        self.monitor = monitor
        self.patience = patience
        self.tol = tol

    def on_train_begin(self, net, **kwargs):
        self.best_loss = self.bar = np.inf
        self.best_weights = deepcopy(net.module_.state_dict())
        self.misses = 0

    def on_epoch_end(self, net, **kwargs):
        loss = net.history[-1, self.monitor]
        if not loss <= _EXPLODED * self.best_loss + _NEGLIGIBLE:  # nor is NaN
            raise _DivergenceError
        if loss < self.best_loss:
            self.best_loss = loss
            # In place: a second copy of a large network might not fit.
            for name, weight in net.module_.state_dict().items():
                self.best_weights[name].copy_(weight)
        self.misses += 1
        if loss < self.bar:
            self.bar, self.misses = loss * (1 - self.tol), 0
        if self.misses >= self.patience:
            raise _NoImprovementError

    def on_train_end(self, net, **kwargs):
        net.module_.load_state_dict(self.best_weights)


class _Report(Callback):
    """Print a line an epoch."""

    def __init__(self, title):
        self.title = title

    def on_epoch_end(self, net, **kwargs):
        epoch = net.history[-1]
        losses = "  ".join(f"{key} {epoch[key]:.6g}" for key in epoch if key.endswith("_loss"))
        print(f"[{self.title}] epoch {epoch['epoch']}/{net.max_epochs}  {losses}", flush=True)


def train(module, rows, options, *, unseen=None, seed=0, title="skae"):
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
    unseen : RowSet, default=None
        Rows to validate on after each epoch. If given, the best epoch is the one that is best on
        them, and with ``options.early_stopping`` training ends when none has been better for
        ``options.n_iter_no_change`` epochs.
    seed : int
        Of the order of the rows and of dropout.
    title : str
        Opens the lines printed with ``options.verbose``.

    Returns
    -------
    history : list of dict
        One entry an epoch: "epoch", "train_loss", "valid_loss" if there are unseen rows, "dur"
        (seconds).

    Raises
    ------
    Interrupted
        By the user's Ctrl-C, with the history so far.
    """
    history = []
    try:
        for attempt in range(1, _ATTEMPTS + 1):
            with forked_random_state(seed, options.device):
                sound = _train_once(module, rows, options, unseen, seed, title, history)
            rate, n_left = options.learning_rate, options.max_epochs - len(history)
            if sound or n_left == 0:
                break
            what = f"goes on at {_SMALLER * rate:.3g}" if attempt < _ATTEMPTS else "ends there"
            warnings.warn(
                f"The loss exploded in epoch {len(history)} at learning_rate={rate:.3g}: training "
                f"returns to its best weights and {what}.",
                ConvergenceWarning,
                stacklevel=2,
            )
            options = replace(options, learning_rate=_SMALLER * rate, max_epochs=n_left)
    except KeyboardInterrupt:
        raise Interrupted(history) from None
    finally:
        module.eval()
    return history


def _train_once(module, rows, options, unseen, seed, title, history):
    """Train until the end, or until the loss explodes: then False. Adds its epochs to history."""
    monitor = "train_loss" if unseen is None else "valid_loss"
    patience = options.n_iter_no_change
    if unseen is None or not options.early_stopping:
        patience = np.inf
    n_batches = -(-len(rows) // options.batch_size)
    callbacks = [
        LRScheduler(
            torch.optim.lr_scheduler.OneCycleLR,
            max_lr=options.learning_rate,
            total_steps=max(2, options.max_epochs * n_batches),
            pct_start=0.15,
            step_every="batch",
            event_name=None,
        ),
        _KeepBest(monitor, patience, options.tol),
    ]
    if options.verbose:
        callbacks.append(_Report(title))
    net = _ReconstructionNet(
        module,
        criterion=options.loss,
        optimizer=torch.optim.AdamW,
        optimizer__betas=(0.9, 0.95),
        optimizer__weight_decay=options.weight_decay,
        optimizer__fused=True,
        lr=options.learning_rate,
        max_epochs=options.max_epochs,
        batch_size=options.batch_size,
        train_split=None if unseen is None else predefined_split(unseen),
        callbacks=callbacks,
        device=options.device,
        verbose=0,
        generator=torch.Generator().manual_seed(seed),
        bfloat16=options.bfloat16,
    )
    net.initialize()
    net.notify("on_train_begin", X=rows, y=None)
    n_before, sound = len(history), True
    try:
        net.fit_loop(rows)
    except _NoImprovementError:
        pass
    except _DivergenceError:
        sound = False
    finally:
        net.notify("on_train_end", X=rows, y=None)
        for epoch in net.history:
            if monitor in epoch:  # else it was not finished
                kept = {key: epoch[key] for key in epoch if key not in ("batches", "event_lr")}
                history.append({**kept, "epoch": n_before + epoch["epoch"]})
    return sound


@contextmanager
def forked_random_state(seed, device):
    """Seed torch inside the block; outside, its random state is as if nothing had happened."""
    cuda = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=cuda):
        torch.default_generator.manual_seed(seed)
        if cuda:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        yield
