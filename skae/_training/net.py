"""A skorch net whose target is its own input; it takes whole batches, in parts where that helps."""

import warnings
from copy import deepcopy
from math import fsum

import torch
from skorch import NeuralNet
from skorch.callbacks import EpochTimer
from torch import nn

from .._runtime.device import empty_cache, in_bfloat16, is_out_of_memory
from .._runtime.execution import in_threads
from .._runtime.process_group import averaged, data_parallel, mean_over_processes, n_processes
from .batches import Batches
from .graph import RecordedStep


class EndOfTraining(Exception):  # noqa: N818, it is no error
    """Ends skorch's loop after an epoch.

    Attributes
    ----------
    exploded : bool
        Whether the loss is NaN, or has grown beyond reason.
    """

    def __init__(self, *, exploded):
        super().__init__()
        self.exploded = exploded


class ReconstructionNet(NeuralNet):
    """A skorch net that reconstructs its input, one whole batch at a time.

    skorch's own loader takes row by row and waits for the device after every batch to read the
    loss; here a batch is taken whole and the loss is read once an epoch.

    A callback ends training by `end_after_epoch`; one of the user's may raise KeyboardInterrupt,
    as skorch's `EarlyStopping` does.

    Parameters
    ----------
    generator : torch.Generator
        Draws the order of the rows.
    interrupts : Interrupts
    bfloat16 : bool
    has_user_callbacks : bool
    shards : Shards, default=None
        The module and copies of it that take parts of a batch at the same time.
    *args, **kwargs
        Those of `skorch.NeuralNet`.

    Attributes
    ----------
    ending : EndOfTraining or None
        Is raised after the current epoch.
    n_parts : int
        Number of parts that batches are cut into: more than one if a device had no room.
    recorded_step : RecordedStep or None
        Computes batches while they need not be cut into parts.
    """

    ending = None
    n_parts = 1
    recorded_step = None
    _in_parallel = None
    _label_losses = ()

    def __init__(
        self,
        *args,
        generator,
        interrupts,
        bfloat16=False,
        has_user_callbacks=False,
        shards=None,
        **kwargs,
    ):
        super().__init__(*args, **kwargs)
        self.generator = generator
        self.interrupts = interrupts
        self.bfloat16 = bfloat16
        self.has_user_callbacks = has_user_callbacks
        self.shards = shards

    def initialize(self):
        super().initialize()
        if n_processes() > 1:
            # A bound method, since skorch would register a module as one of its own.
            self._in_parallel = data_parallel(self.module_).__call__
        return self

    def end_after_epoch(self, *, exploded=False):
        """End training after all callbacks have been called for the current epoch."""
        self.ending = EndOfTraining(exploded=exploded)

    def get_default_callbacks(self):
        return [("epoch_timer", EpochTimer())]

    def get_iterator(self, dataset, training=False):
        generator = self.generator if training else None
        return Batches(dataset, self.batch_size, self.device, generator)

    def infer(self, x, **fit_params):
        return self._output(self._callable_module(), x)

    def _callable_module(self):
        """The module, which in training averages gradients over processes if there are several."""
        return (self.module_.training and self._in_parallel) or self.module_

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

    def record_steps(self, generator):
        """Let a CUDA graph compute whole batches, whose random numbers a generator draws."""

        def compute(inputs):
            x, weights = inputs
            loss = self.get_loss(self.infer(x), (x, weights, None, x))
            loss.backward()
            return loss

        self.recorded_step = RecordedStep(compute, self.module_, generator, self.batch_size)

    def validation_step(self, batch, **fit_params):
        if self.shards is None:
            with torch.no_grad():
                return self._step_in_parts(batch, super().validation_step, **fit_params)
        self._set_training(False)

        @torch.no_grad()
        def compute_loss(module, part):
            return self._loss_of_part(module, part, len(batch[0]))

        losses = self.shards.map(compute_loss, _parts(batch, len(self.shards.modules)))
        return {"loss": sum(losses), "y_pred": None}

    def train_step_single(self, batch, **fit_params):
        if self.shards is not None:
            return self._train_on_shards(batch)
        return self._step_in_parts(batch, self._train_on_whole, **fit_params)

    def _train_on_whole(self, batch, **fit_params):
        """A step on a batch at once: by the graph if there is one for it."""
        if self.recorded_step is not None:
            self._set_training(True)
            loss = self.recorded_step.loss(batch[1][:2])
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
        for part in _parts(batch, self.n_parts):
            part = [None if tensor is None else tensor.to(self.device) for tensor in part]
            loss = self._loss_of_part(self._callable_module(), part, len(batch[0]))
            if training:
                loss.backward()
            total = total + loss.detach()
        return {"loss": total, "y_pred": None}

    def _train_on_shards(self, batch):
        """The same with a thread for each part, and gradients of its own."""
        self._set_training(True)

        @torch.enable_grad()  # which is a setting of each thread
        def compute_gradients(module, part):
            loss = self._loss_of_part(module, part, len(batch[0]))
            loss.backward()
            return loss.detach()

        losses = self.shards.map(compute_gradients, _parts(batch, len(self.shards.modules)))
        self.shards.add_gradients()
        return {"loss": sum(losses), "y_pred": None}

    def _loss_of_part(self, module, part, n_rows):
        """What a part of a batch of n rows adds to its loss."""
        x = part[0]
        return self.get_loss(self._output(module, x), part) * (len(x) / n_rows)

    def get_loss(self, y_pred, y_true, *args, **kwargs):
        """The loss; terms added to its logarithm change its gradient and not its value."""
        _, weights, labels, x = y_true
        output, penalties, prediction = _in_three(y_pred)
        loss = self.criterion_(output, x, weights)
        terms = []
        if penalties is not None:
            terms.append((penalties if weights is None else weights * penalties).mean())
        if labels is not None:
            head = self.module_.head
            label_loss = head.losses(prediction, labels).mean()
            self._label_losses.append(label_loss.detach() * len(x))
            terms.append(head.supervision * label_loss)
        if not terms:
            return loss
        term = sum(terms)
        # The loss of the batch, of which this process may have a part.
        return loss + averaged(loss.detach()) * (term - term.detach())

    def run_single_epoch(self, iterator, training, prefix, step_fn, **fit_params):
        if iterator is None:
            return
        if not training:
            self._zero_grad_optimizer()  # gradients take as much memory as the weights
        total, n_rows = 0.0, 0
        self._label_losses = []
        for batch, size in zip(iterator, iterator.sizes, strict=True):
            self.notify("on_batch_begin", batch=batch, training=training)
            n_before = len(self._label_losses)
            step = step_fn(batch, **fit_params)
            total = total + step["loss"].detach() * size
            n_rows += size
            if size != len(batch[0]):  # weights make the mean over own rows one over the batch
                of_batch = self._label_losses[n_before:]
                self._label_losses[n_before:] = [x * size / len(batch[0]) for x in of_batch]
            self.notify("on_batch_end", batch=batch, training=training, **step)
        key = f"{prefix}_loss"
        self.history.record(key, mean_over_processes(float(total) / n_rows, self.device))
        # The name that skorch's callbacks expect.
        losses = self.history[:, key]
        self.history.record(f"{key}_best", losses[-1] <= min(losses))
        if self._label_losses:
            # An exact sum: threads add their parts in any order.
            label_loss = fsum(torch.stack(self._label_losses).tolist()) / n_rows
            label_loss = mean_over_processes(label_loss, self.device)
            self.history.record(f"{prefix}_label_loss", label_loss)

    def notify(self, method_name, **cb_kwargs):
        try:
            super().notify(method_name, **cb_kwargs)
        except KeyboardInterrupt:
            if method_name != "on_epoch_end" or not self.has_user_callbacks or self.interrupts.n:
                raise
            if self.ending is None:
                self.end_after_epoch()
        if method_name == "on_epoch_end" and self.ending is not None:
            raise self.ending


def _in_three(y_pred):
    """Output, penalties and predictions of labels from what a module returns, or None."""
    y_pred = y_pred if isinstance(y_pred, tuple) else (y_pred,)
    return (*y_pred, None, None)[:3]


def _parts(batch, n):
    """A batch in n non-empty parts of similar size, or fewer: targets as `Batches` yields them."""
    n = min(n, len(batch[0]))
    split = ([None] * n if values is None else values.tensor_split(n) for values in batch[1])
    return list(zip(*split, strict=True))


class Shards:
    """A module and copies of it that share its weights, each with gradients of its own.

    A step of a network of medium size takes some milliseconds. Divided among threads operation by
    operation it would wait for the slower thread dozens of times; with a thread for each part of
    the batch it does so three times. The parts depend on nothing but the batch, so that the bits of
    the weights do not depend on the number of threads.

    Parameters
    ----------
    module : Module
    n : int
    """

    def __init__(self, module, n):
        self.modules = [module, *(_sharing_weights(module) for _ in range(n - 1))]
        self._weights = [list(shard.parameters()) for shard in self.modules]
        self._groups = _of_equal_size(self._weights[0], n)

    def map(self, function, parts):
        """A list of ``function(module, part)`` for each part, in threads."""
        calls = zip(self.modules, parts, strict=False)
        return in_threads(lambda call: function(*call), calls)

    def add_gradients(self):
        """Add the gradients of the copies to those of the module, always in the same order."""

        def add(group):
            for first, *others in ([w[i] for w in self._weights] for i in group):
                for other in others:
                    if other.grad is None:
                        continue
                    if first.grad is None:
                        first.grad = other.grad
                    else:
                        first.grad += other.grad
                    other.grad = None

        in_threads(add, self._groups)


def _sharing_weights(module):
    """A copy of the module with the same memory for weights and buffers."""
    memo = {id(buffer): buffer for buffer in module.buffers()}
    memo |= {
        id(weight): nn.Parameter(weight.detach(), weight.requires_grad)
        for weight in module.parameters()
    }
    return deepcopy(module, memo)


def _of_equal_size(weights, n):
    """Indices of the weights in n groups of about the same number of entries."""
    groups, sizes = [[] for _ in range(n)], [0] * n
    for i in sorted(range(len(weights)), key=lambda i: -weights[i].numel()):
        smallest = sizes.index(min(sizes))
        groups[smallest].append(i)
        sizes[smallest] += weights[i].numel()
    return groups


class AdamWInParts(torch.optim.Optimizer):
    """AdamW whose step is divided among threads, by weights.

    Parameters
    ----------
    groups : list of dict
        One group of parameters, as skorch makes it.
    n_parts : int
    **settings
        Those of `torch.optim.AdamW`.
    """

    def __init__(self, groups, n_parts, **settings):
        weights = [weight for group in groups for weight in group["params"]]
        self._parts = [
            torch.optim.AdamW([weights[i] for i in group], fused=True, **settings)
            for group in _of_equal_size(weights, n_parts)
            if group
        ]
        super().__init__(
            [group for part in self._parts for group in part.param_groups],
            self._parts[0].defaults,
        )
        self._share_groups()

    def _share_groups(self):
        """Let schedules, which change the groups of this optimizer, change those of the parts."""
        self.param_groups = [group for part in self._parts for group in part.param_groups]

    def step(self, closure=None):
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        in_threads(lambda part: part.step(), self._parts)
        return loss

    def state_dict(self):
        return {"parts": [part.state_dict() for part in self._parts]}

    def load_state_dict(self, state_dict):
        for part, state in zip(self._parts, state_dict["parts"], strict=True):
            part.load_state_dict(state)
        self._share_groups()
