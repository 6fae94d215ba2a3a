"""A skorch net whose target is its own input."""

import warnings
from math import fsum, inf

import torch
from skorch import NeuralNet
from skorch.callbacks import EpochTimer

from .._runtime.device import empty_cache, in_bfloat16, is_out_of_memory
from .._runtime.process_group import averaged, data_parallel, mean_over_processes, n_processes
from .data import RowSet, loader
from .graph import RecordedStep


class EndOfTraining(Exception):  # noqa: N818, it is no error
    """Ends skorch's loop after an epoch."""


class AutoencoderNet(NeuralNet):
    """A skorch net that reconstructs its input.

    Loop, callbacks and history are skorch's. Three things differ: a batch is taken whole, and in
    parts where a device has no room for it; the losses of batches are read from the device once an
    epoch, unless callbacks of the user may want them before; and validation evaluates the average
    of the weights.

    A callback of the user ends training by KeyboardInterrupt, as skorch's `EarlyStopping` does.

    Parameters
    ----------
    averaged_module : AveragedModule
    generator : torch.Generator
        Draws the order of the rows.
    interrupts : Interrupts
    bfloat16 : bool
    has_user_callbacks : bool
    *args, **kwargs
        Those of `skorch.NeuralNet`.

    Attributes
    ----------
    is_ending : bool
        Set to end training: the rest of the epoch is left out.
    n_parts : int
        Number of parts that batches are cut into: more than one if a device had no room.
    recorded_step : RecordedStep or None
        Computes batches while they need not be cut into parts.
    """

    is_ending = False
    n_parts = 1
    recorded_step = None
    _in_parallel = None
    _label_losses = ()

    def __init__(
        self,
        *args,
        averaged_module,
        generator,
        interrupts,
        bfloat16=False,
        has_user_callbacks=False,
        **kwargs,
    ):
        super().__init__(*args, **kwargs)
        self.averaged_module = averaged_module
        self.generator = generator
        self.interrupts = interrupts
        self.bfloat16 = bfloat16
        self.has_user_callbacks = has_user_callbacks
        self._lowest = {}  # the lowest loss of each kind so far

    def initialize(self):
        super().initialize()
        if n_processes() > 1:
            # A bound method, since skorch would register a module as one of its own.
            self._in_parallel = data_parallel(self.module_).__call__
        return self

    def get_default_callbacks(self):
        return [("epoch_timer", EpochTimer())]

    def get_iterator(self, dataset, training=False):
        if not isinstance(dataset, RowSet):  # what a callback passes to `predict`
            return super().get_iterator(dataset, training)
        return loader(dataset, self.batch_size, self.generator if training else None)

    def infer(self, x, **fit_params):
        module = self.averaged_module.module
        if self.module_.training:
            module = self._in_parallel or self.module_
        with in_bfloat16(torch.device(self.device).type, self.bfloat16):
            return module(x)

    # -- A pass over rows --------------------------------------------------------------------------

    def run_single_epoch(self, iterator, training, prefix, step_fn, **fit_params):
        if iterator is None:
            return
        if not training:
            self._zero_grad_optimizer()  # gradients take as much memory as the weights
        self._label_losses = []
        for batch, size in zip(iterator, iterator.batch_sampler.sizes, strict=False):
            self.notify("on_batch_begin", batch=batch, training=training)
            step = self._step_of_size(step_fn, batch, size)
            loss = step["loss"].detach()
            loss = float(loss) if self.has_user_callbacks else loss
            self.history.record_batch(f"{prefix}_loss", loss)
            self.history.record_batch(f"{prefix}_batch_size", size)
            x, target = batch
            shown = x, target["rows"] if isinstance(target, dict) else target  # skorch joins them
            self.notify("on_batch_end", batch=shown, training=training, **step)
            if training and self.is_ending:
                break
        self._record_losses(prefix)

    def _record_losses(self, prefix):
        """Record the losses of an epoch, and those of its batches as numbers."""
        key, size = f"{prefix}_loss", f"{prefix}_batch_size"
        batches = [batch for batch in self.history[-1, "batches"] if key in batch]
        losses = torch.stack([torch.as_tensor(batch[key]) for batch in batches])
        for batch, loss in zip(batches, losses.tolist(), strict=True):  # one wait for a device
            batch[key] = loss
        n_rows = sum(batch[size] for batch in batches)
        loss = fsum(batch[key] * batch[size] for batch in batches) / n_rows
        loss = mean_over_processes(loss, self.device)
        self.history.record(key, loss)
        # The name that skorch's callbacks expect.
        self._lowest[key] = min(loss, self._lowest.get(key, inf))
        self.history.record(f"{key}_best", loss <= self._lowest[key])
        self.history.record(f"{prefix}_batch_count", len(batches))
        label_loss = self._mean_label_loss(n_rows)
        if label_loss is not None:
            self.history.record(f"{prefix}_label_loss", label_loss)

    def losses_of(self, rows):
        """Mean loss of rows by the averaged weights, and that of their labels or None."""
        was_training = self.module_.training
        labels_before, self._label_losses = self._label_losses, []
        iterator, total = self.get_iterator(rows), 0.0
        for batch, size in zip(iterator, iterator.batch_sampler.sizes, strict=True):
            step = self._step_of_size(self.validation_step, batch, size)
            total = total + step["loss"].detach() * size
        loss = mean_over_processes(float(total) / len(rows), self.device)
        label_loss = self._mean_label_loss(len(rows))
        self._label_losses = labels_before
        self._set_training(was_training)
        return loss, label_loss

    def _step_of_size(self, step_fn, batch, size):
        """A step on a batch, of whose rows this process may have a share."""
        n_before = len(self._label_losses)
        step = step_fn(batch)
        if size != len(batch[0]):  # weights make the mean over own rows one over the batch
            of_batch = self._label_losses[n_before:]
            self._label_losses[n_before:] = [x * size / len(batch[0]) for x in of_batch]
        return step

    def _mean_label_loss(self, n_rows):
        if not self._label_losses:
            return None
        label_loss = float(torch.stack(self._label_losses).sum()) / n_rows
        return mean_over_processes(label_loss, self.device)

    # -- A step ------------------------------------------------------------------------------------

    def record_steps(self, generator):
        """Let a CUDA graph compute whole batches, whose random numbers a generator draws."""

        def compute(inputs):
            x, weights = inputs
            target = x if weights is None else {"rows": x, "weights": weights}
            loss = self.get_loss(self.infer(x), target)
            loss.backward()
            return loss

        self.recorded_step = RecordedStep(compute, self.module_, generator, self.batch_size)

    def validation_step(self, batch, **fit_params):
        with torch.no_grad():
            return self._step_in_parts(batch, super().validation_step, **fit_params)

    def train_step_single(self, batch, **fit_params):
        return self._step_in_parts(batch, self._train_on_whole, **fit_params)

    def _train_on_whole(self, batch, **fit_params):
        """A step on a batch at once: by the graph if there is one for it."""
        if self.recorded_step is not None:
            self._set_training(True)
            x, target = batch
            weights = target.get("weights") if isinstance(target, dict) else None
            loss = self.recorded_step.loss((x, weights))
            if loss is not None:
                return {"loss": loss, "y_pred": None}
        return super().train_step_single(batch, **fit_params)

    def _step_in_parts(self, batch, step, **fit_params):
        """A step on a batch, in as many parts as the memory of the device requires."""
        training, n_before = torch.is_grad_enabled(), len(self._label_losses)
        while True:
            try:
                if self.n_parts == 1 and batch[0].device.type == torch.device(self.device).type:
                    return step(batch, **fit_params)
                return self._sum_over_parts(batch, training)
            except RuntimeError as error:
                # Other processes would wait for gradients that never come.
                if self.n_parts >= len(batch[0]) or n_processes() > 1:
                    raise
                if not is_out_of_memory(error):
                    raise
            # Outside of the except clause, whose traceback would keep the tensors alive.
            self.n_parts *= 2
            if self.recorded_step is not None:
                self.recorded_step.disable()
            self._label_losses = self._label_losses[:n_before]
            if training:
                self._zero_grad_optimizer()
            empty_cache(torch.device(self.device))
            warnings.warn(
                f"The device has no room for a batch of {len(batch[0])} rows: training goes on "
                f"with their gradients added up in {self.n_parts} parts.",
                RuntimeWarning,
                stacklevel=2,
            )

    def _sum_over_parts(self, batch, training):
        """The loss of a batch, and its gradients, as sums over its parts."""
        self._set_training(training)
        total = 0.0
        for x, target in _parts(batch, self.n_parts):
            x, target = x.to(self.device), _to(target, self.device)
            loss = self.get_loss(self.infer(x), target) * (len(x) / len(batch[0]))
            if training:
                loss.backward()
            total = total + loss.detach()
        return {"loss": total, "y_pred": None}

    def get_loss(self, y_pred, y_true, *args, **kwargs):
        """The loss; terms added to its logarithm change its gradient and not its value."""
        target = y_true if isinstance(y_true, dict) else {"rows": y_true}
        weights, labels = target.get("weights"), target.get("labels")
        output, penalties, prediction = _in_three(y_pred)
        loss = self.criterion_(output, target["rows"], weights)
        terms, floor = [], 0.0
        if penalties is not None:
            terms.append((penalties if weights is None else weights * penalties).mean())
        if labels is not None:
            head = self.module_.head
            label_loss = head.losses(prediction, labels).mean()
            self._label_losses.append(label_loss.detach() * len(output))
            terms.append(head.supervision * label_loss)
            floor = head.floor
        if not terms:
            return loss
        term = sum(terms)
        # The loss of the batch, of which this process may have a part.
        return loss + (averaged(loss.detach()) + floor) * (term - term.detach())

    # -- The end -----------------------------------------------------------------------------------

    def notify(self, method_name, **cb_kwargs):
        try:
            super().notify(method_name, **cb_kwargs)
        except KeyboardInterrupt:
            if method_name != "on_epoch_end" or not self.has_user_callbacks or self.interrupts.n:
                raise
            self.is_ending = True
        if method_name == "on_epoch_end" and self.is_ending:
            raise EndOfTraining


def _in_three(y_pred):
    """Output, penalties and predictions of labels from what a module returns, or None."""
    y_pred = y_pred if isinstance(y_pred, tuple) else (y_pred,)
    return (*y_pred, None, None)[:3]


def _parts(batch, n):
    """A batch in n non-empty parts of similar size, or fewer."""
    x, target = batch
    n = min(n, len(x))
    if isinstance(target, dict):
        split = {name: values.tensor_split(n) for name, values in target.items()}
        targets = [{name: values[i] for name, values in split.items()} for i in range(n)]
    else:
        targets = target.tensor_split(n)
    return list(zip(x.tensor_split(n), targets, strict=True))


def _to(target, device):
    if isinstance(target, dict):
        return {name: values.to(device) for name, values in target.items()}
    return target.to(device)
