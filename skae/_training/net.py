"""A skorch net whose target is its own input, fed with whole batches."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from math import nan

import numpy as np
import torch
from skorch import NeuralNet
from skorch.callbacks import EpochTimer
from torch.utils.data import Dataset

from .._runtime.device import (
    empty_cache,
    in_bfloat16,
    in_pieces,
    indices_of_rank,
    is_out_of_memory,
    mean_over_processes,
    n_processes,
)


@dataclass(frozen=True)
class Measure:
    """How the loss of a set of rows reads in the unit of X.

    Attributes
    ----------
    factor : float
        What a loss of 1 of fetched rows is for those of X.
    outside : float
        Mean loss by what is not fetched and never reconstructed.
    of_mean : float
        Mean loss where each row is reconstructed by the mean; for squared errors, the variance.
    """

    factor: float = 1.0
    outside: float = 0.0
    of_mean: float = nan

    def error(self, loss):
        """Mean reconstruction error of a row."""
        return self.factor * loss + self.outside

    def explained(self, loss):
        """Share of the variance, or deviance, that the reconstructions explain."""
        return 1 - self.error(loss) / self.of_mean if self.of_mean else 1.0


@dataclass(frozen=True)
class RowSet(Dataset):
    """Some of the rows of a source that hands out whole batches.

    Attributes
    ----------
    fetch : callable
        From an array of row numbers to a dense tensor of those rows.
    numbers : ndarray of int
        The rows that belong to the set.
    measure : Measure
        Of the loss on these rows.
    weights : Tensor, default=None
        How often each row of the source counts, of mean one over the set.
    """

    fetch: Callable[[np.ndarray], torch.Tensor]
    numbers: np.ndarray
    measure: Measure = Measure()
    weights: torch.Tensor | None = None

    def __len__(self):
        return len(self.numbers)


def row_set(fetch, numbers, factor, of_mean, outside, weights):
    """A `RowSet`, measured: all but ``numbers`` and ``factor`` are of every row of the source."""
    w = weights[numbers]
    measure = Measure(
        factor,
        float(np.average(outside[numbers], weights=w)),
        float(np.average(of_mean[numbers], weights=w)),
    )
    if (w == w[0]).all():
        return RowSet(fetch, numbers, measure)
    return RowSet(fetch, numbers, measure, torch.from_numpy(weights / w.mean()).float())


def n_batches(n_rows, batch_size):
    """How many batches rows make in training.

    One row that is left over joins the last batch: by itself it would have no variance, and as
    much weight as a whole batch.
    """
    left_over = n_rows % batch_size
    return max(1, n_rows // batch_size + (left_over > 1))


class _Batches:
    """Whole batches of a `RowSet`, shuffled if there is a generator.

    Pairs of an input and a target, which is the input and the weights of its rows or None.
    """

    def __init__(self, rows, batch_size, device, generator=None):
        self.rows = rows
        self.batch_size = batch_size
        self.device = device
        self.generator = generator

    def __len__(self):
        return n_batches(len(self.rows), self.batch_size)

    def __iter__(self):
        numbers = self.rows.numbers
        if self.generator is not None:
            numbers = numbers[torch.randperm(len(numbers), generator=self.generator).numpy()]
        for i in range(len(self)):
            end = len(numbers) if i == len(self) - 1 else (i + 1) * self.batch_size
            some, factor = numbers[i * self.batch_size : end], 1.0
            if self.generator is not None:
                some, factor = indices_of_rank(some)
            batch, weights = self._fetch(some), self.rows.weights
            weights = None if weights is None else weights[some].to(batch.device)
            if factor != 1.0:
                weights = factor * (torch.ones_like(batch[:, 0]) if weights is None else weights)
            yield batch, (batch, weights)

    def _fetch(self, numbers):
        """The batch on the device, or on the CPU if the device has no room for all of it."""
        try:
            return self.rows.fetch(numbers).to(self.device)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
        return torch.cat(in_pieces(numbers, lambda some: self.rows.fetch(some).cpu()))


class EndOfTraining(Exception):  # noqa: N818, it is no error
    """Ends skorch's loop after an epoch.

    Attributes
    ----------
    sound : bool
        False if the loss is no number, or has grown beyond reason.
    """

    def __init__(self, *, sound):
        super().__init__()
        self.sound = sound


class ReconstructionNet(NeuralNet):
    """A skorch net that reconstructs its input, one whole batch at a time.

    skorch's own loader fetches row by row and waits for the device after every batch to read the
    loss; here a batch is fetched whole and the loss is read once an epoch.

    A callback that wants training to end after the current epoch sets ``ending``, so that the
    others still hear of that epoch; one of the user's may raise KeyboardInterrupt, as skorch's
    `EarlyStopping` does.
    """

    ending = None

    # How several processes call the module in training.
    parallel = None

    # Batches are cut into so many parts, more where a device has no room for them.
    n_parts = 1

    # Copies of the module that take parts of a batch at the same time.
    shards = None

    def __init__(
        self, *args, generator, interrupts, bfloat16=False, has_user_callbacks=False, **kwargs
    ):
        super().__init__(*args, **kwargs)
        self.generator = generator
        self.interrupts = interrupts
        self.bfloat16 = bfloat16
        self.has_user_callbacks = has_user_callbacks

    def get_default_callbacks(self):
        return [("epoch_timer", EpochTimer())]

    def get_iterator(self, dataset, training=False):
        generator = self.generator if training else None
        return _Batches(dataset, self.batch_size, self.device, generator)

    def infer(self, x, **fit_params):
        parallel = self.module_.training and self.parallel
        return self._output(parallel or self.module_, x)

    def _output(self, module, x):
        device_type = torch.device(self.device).type
        with in_bfloat16(device_type, self.bfloat16):
            return module(x)

    def _set_training(self, training=True):
        if self.module_.training == training:
            return
        super()._set_training(training)
        if self.shards is not None:
            for module in self.shards.modules:
                module.train(training)

    def validation_step(self, batch, **fit_params):
        if self.shards is None:
            with torch.no_grad():
                return self._on_parts(batch, super().validation_step, **fit_params)
        self._set_training(False)

        @torch.no_grad()
        def loss_of(module, part):
            return self._loss_of_part(module, part, len(batch[0]))

        losses = self.shards.each(loss_of, _parts(batch, len(self.shards.modules)))
        return {"loss": sum(losses), "y_pred": None}

    def train_step_single(self, batch, **fit_params):
        if self.shards is not None:
            return self._train_on_shards(batch)
        return self._on_parts(batch, super().train_step_single, **fit_params)

    def _on_parts(self, batch, step, **fit_params):
        """A step on a batch, in as many parts as the device has room for."""
        training = torch.is_grad_enabled()
        while True:
            try:
                if self.n_parts == 1 and batch[0].device.type == torch.device(self.device).type:
                    return step(batch, **fit_params)
                return self._add_up(batch, training)
            except RuntimeError as error:
                # Other processes would wait for gradients that never come.
                if self.n_parts >= len(batch[0]) or n_processes() > 1:
                    raise
                if not is_out_of_memory(error):
                    raise
            # Outside of the except clause, whose traceback would hold on to the tensors.
            self.n_parts *= 2
            if training:
                self._zero_grad_optimizer()
            empty_cache(torch.device(self.device))
            warnings.warn(
                f"The device has no room for a batch of {len(batch[0])} rows: training goes on "
                f"with their gradients added up in {self.n_parts} parts.",
                RuntimeWarning,
                stacklevel=2,
            )

    def _add_up(self, batch, training):
        """The loss of a batch, and its gradients, over its parts: the same, in less memory."""
        self._set_training(training)
        total = 0.0
        for x, weights in _parts(batch, self.n_parts):
            part = x.to(self.device), None if weights is None else weights.to(self.device)
            module = (self.module_.training and self.parallel) or self.module_
            loss = self._loss_of_part(module, part, len(batch[0]))
            if training:
                loss.backward()
            total = total + loss.detach()
        return {"loss": total, "y_pred": None}

    def _train_on_shards(self, batch):
        """The same, with the parts in threads and gradients of their own."""
        self._set_training(True)

        @torch.enable_grad()  # which is a setting of each thread
        def learn_from(module, part):
            loss = self._loss_of_part(module, part, len(batch[0]))
            loss.backward()
            return loss.detach()

        losses = self.shards.each(learn_from, _parts(batch, len(self.shards.modules)))
        self.shards.add_gradients()
        return {"loss": sum(losses), "y_pred": None}

    def _loss_of_part(self, module, part, n_rows):
        """What a part of a batch of n rows adds to its loss."""
        x, _ = part
        return self.get_loss(self._output(module, x), part) * (len(x) / n_rows)

    def get_loss(self, y_pred, y_true, *args, **kwargs):
        """The loss; penalties on its logarithm add to its gradient and leave its value."""
        x, weights = y_true
        output, penalties = y_pred if isinstance(y_pred, tuple) else (y_pred, None)
        loss = self.criterion_(output, x, weights)
        if penalties is None:
            return loss
        penalty = (penalties if weights is None else weights * penalties).mean()
        return loss + loss.detach() * (penalty - penalty.detach())

    def run_single_epoch(self, iterator, training, prefix, step_fn, **fit_params):
        if iterator is None:
            return
        if not training:
            self._zero_grad_optimizer()  # as much memory as the weights
        total, n_rows = 0.0, 0
        for batch in iterator:
            self.notify("on_batch_begin", batch=batch, training=training)
            step = step_fn(batch, **fit_params)
            total = total + step["loss"].detach() * len(batch[0])
            n_rows += len(batch[0])
            self.notify("on_batch_end", batch=batch, training=training, **step)
        key = f"{prefix}_loss"
        self.history.record(key, mean_over_processes(float(total) / n_rows, self.device))
        # Under the name where skorch's callbacks look for it.
        losses = self.history[:, key]
        self.history.record(f"{key}_best", losses[-1] <= min(losses))

    def notify(self, method_name, **cb_kwargs):
        try:
            super().notify(method_name, **cb_kwargs)
        except KeyboardInterrupt:
            if method_name != "on_epoch_end" or not self.has_user_callbacks or self.interrupts.n:
                raise
            self.ending = self.ending or EndOfTraining(sound=True)
        if method_name == "on_epoch_end" and self.ending is not None:
            raise self.ending


def _parts(batch, n):
    """A batch in n parts of about as many rows, none of them empty: rows and their weights."""
    x, (_, weights) = batch
    n = min(n, len(x))
    parts_of_weights = [None] * n if weights is None else weights.tensor_split(n)
    return list(zip(x.tensor_split(n), parts_of_weights, strict=True))
