"""Reasons to end training before its last epoch: validation losses, explosions, Ctrl-C."""

import signal
import threading
from contextlib import contextmanager, suppress
from math import exp, inf
from tempfile import TemporaryFile
from weakref import finalize

import numpy as np
import torch

from .._runtime.device import free_bytes, is_out_of_memory

# A loss has exploded if it exceeds this multiple of the lowest by more than this amount.
_EXPLOSION_FACTOR, _NEGLIGIBLE_LOSS = 100.0, 1e-6

# Number of losses without improvement, at falling rates, from which no recovery is expected.
_N_RISES = 2

# Larger best weights, in bytes, are stored in a file.
_MAX_BYTES_IN_MEMORY = 256 * 2**20

# The copy of a weight is on a device if it takes less than this share of the free memory there.
_SHARE_OF_DEVICE = 0.1

# The exponential of more is too large for a float.
_LARGEST_EXPONENT = 700.0


def criterion(loss, label_loss, supervision):
    """Weighted geometric mean of a loss and of the exponential of a loss of labels.

    Its logarithm is a multiple of what training minimises. Without labels it is the loss.
    """
    if label_loss is None:
        return loss
    share = supervision / (1 + supervision)
    return loss ** (1 - share) * exp(min(share * label_loss, _LARGEST_EXPONENT))


def best_epoch(history, measure, supervision):
    """Number of the epoch that is best on the validation rows, whose `Measure` is given."""
    losses = []
    for epoch in history:
        loss = epoch["valid_loss"]
        if "valid_label_loss" in epoch:
            loss = (loss - measure.outside_subspace) / measure.factor
            loss = criterion(loss, epoch["valid_label_loss"], supervision)
        losses.append(loss)
    return 1 + int(np.argmin(np.where(np.isnan(losses), np.inf, losses)))


class BestSoFar:
    """Compares losses, and stores the weights that belong to the lowest.

    Parameters
    ----------
    module : Module
        Its initial weights are the best until there is a loss.
    patience : float
        Number of losses without improvement after which training is stalled.
    tol : float
        Share by which a loss must fall to count as an improvement.
    latest : bool, default=False
        Whether the latest weights always count as the best. For training that minimizes more than
        the loss.

    Attributes
    ----------
    stalled, exploded : bool
        Whether training should end after the last loss, and why.
    """

    def __init__(self, module, patience, tol, *, latest=False):
        self._patience = inf if latest else patience
        self._tol = tol
        self._latest = latest
        self._loss = self._threshold = inf
        self._n_worse = 0
        self._store = WeightStore(module)
        self.exploded = False

    @property
    def stalled(self):
        return self._n_worse >= self._patience

    def is_overfitting(self, progress):
        """Whether the loss rises in the second half of a training: its rate falls there."""
        is_limited = self._patience < inf
        return is_limited and progress > 0.5 and self._n_worse >= _N_RISES

    def update(self, loss, module):
        """Compare a loss with those before; True if it is the best, and weights were stored."""
        limit = _EXPLOSION_FACTOR * self._loss + _NEGLIGIBLE_LOSS
        explodes = not loss <= limit  # also if it is NaN
        self.exploded = explodes or not _is_finite(module)
        if self.exploded:
            return False
        self._n_worse += 1
        if loss < self._threshold:
            self._threshold, self._n_worse = loss * (1 - self._tol), 0
        is_best = self._latest or loss < self._loss
        self._loss = min(loss, self._loss)
        if is_best:
            self._store.save(module)
        return is_best

    def load_into(self, module):
        """Load the best weights into the module."""
        self._store.load_into(module)

    def state(self):
        """The state for `restore`, without the weights."""
        return {"loss": self._loss, "threshold": self._threshold, "n_worse": self._n_worse}

    def restore(self, state, module):
        """Continue from a state, with the best weights in the module."""
        self._loss, self._threshold = state["loss"], state["threshold"]
        self._n_worse = state["n_worse"]
        self._store.save(module)


class WeightStore:
    """A copy of the weights of a module.

    It is on the device of the module, or in main memory if the device has no room for it. That of a
    large module on a CPU is in an anonymous file, since main memory might not have room for a copy.
    Where no such file can be written it is in main memory too.
    """

    def __init__(self, module):
        weights = module.state_dict().values()
        n_bytes = sum(weight.nbytes for weight in weights if weight.device.type == "cpu")
        self._file = self._weights = None
        if n_bytes > _MAX_BYTES_IN_MEMORY:
            with suppress(OSError):
                self._file = TemporaryFile(prefix="skae-")  # noqa: SIM115
                finalize(self, self._file.close)  # Python warns of files that nobody closes
        self._is_complete = False
        self.save(module)

    def save(self, module):
        weights = module.state_dict()
        self._is_complete = False
        if not self._save_in_file(weights):
            self._save_in_memory(weights)
        self._is_complete = True

    def _save_in_memory(self, weights):
        if self._weights is None:
            self._weights = {name: _copy_of(weight) for name, weight in weights.items()}
        else:
            for name, weight in weights.items():
                self._weights[name].copy_(weight)

    def _save_in_file(self, weights):
        """Return whether the weights are in the file. It is closed if the disk has no room."""
        if self._file is None:
            return False
        try:
            self._file.seek(0)
            for weight in weights.values():
                self._file.write(_bytes_of(weight))
            self._file.flush()
        except OSError:
            with suppress(OSError):  # closing writes what is left in the buffer
                self._file.close()
            self._file = None
            return False
        return True

    def load_into(self, module):
        if not self._is_complete:
            return  # Ctrl-C came within `save`: the module has not been trained since
        if self._file is None:
            module.load_state_dict(self._weights)
            return
        self._file.seek(0)
        for weight in module.state_dict().values():
            stored = torch.empty_like(weight, memory_format=torch.contiguous_format)
            self._file.readinto(_bytes_of(stored))
            weight.copy_(stored)


def _copy_of(weight):
    """A copy on the device of the weight if it is small there, else on the CPU."""
    if weight.device.type == "cpu" or weight.nbytes <= _SHARE_OF_DEVICE * free_bytes(weight.device):
        try:
            return weight.clone()
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
    return weight.cpu()


@torch.no_grad()
def _is_finite(module):
    """Whether all weights are finite. The last step of an epoch follows its last loss."""
    # A buffer may be infinite, such as the clipping bound of new networks.
    checks = [weight.isfinite().all() for weight in module.parameters()]
    checks += [buffer.isnan().any().logical_not() for buffer in module.buffers()]
    return not checks or bool(torch.stack(checks).all())  # one wait for a device


def _bytes_of(tensor):
    """The memory of a contiguous CPU tensor, or of a contiguous copy of it."""
    return tensor.contiguous().view(-1).view(torch.uint8).numpy().data


class Interrupts:
    """The interrupts of one fit.

    Before the first training, and during each, an interrupt is raised at once. After a training the
    first is only counted, since the work that is left is short and makes the estimator usable; the
    next training does not start. A second one is always raised.

    Attributes
    ----------
    n : int
        Number of interrupts so far.
    """

    def __init__(self):
        self.n = 0
        self._raises_first = True

    @contextmanager
    def counted(self):
        """Count interrupts within the block.

        The present handler of SIGINT decides what an interrupt is: it is called, and a
        KeyboardInterrupt that it raises is one. Only the main thread receives signals.
        """
        is_main = threading.current_thread() is threading.main_thread()
        before = signal.getsignal(signal.SIGINT) if is_main else None
        if not callable(before):
            yield
            return

        def handle(number, frame):
            try:
                before(number, frame)
            except KeyboardInterrupt:
                self.n += 1
                if self._raises_first or self.n > 1:
                    raise

        try:
            signal.signal(signal.SIGINT, handle)
            yield
        finally:
            if signal.getsignal(signal.SIGINT) is handle:
                signal.signal(signal.SIGINT, before)

    @contextmanager
    def ending_training(self):
        """Raise the first interrupt within the block; count the first one after it."""
        self._raises_first = True
        try:
            yield
        except KeyboardInterrupt:
            self.n = max(1, self.n)  # it may have been raised without a signal
            raise
        finally:
            self._raises_first = False

    def check(self):
        """Raise an earlier interrupt, such as one that Python ignored in a destructor."""
        if self.n:
            raise KeyboardInterrupt
