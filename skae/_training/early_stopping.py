"""What ends training before its last epoch: validation losses, explosions, Ctrl-C."""

import signal
import threading
from contextlib import contextmanager
from math import inf
from tempfile import TemporaryFile

import torch

# A loss so many times the best so far has exploded, unless it is negligible in the unit of the
# rows.
_EXPLODED, _NEGLIGIBLE = 100.0, 1e-6

# The best weights of a network of more bytes than these wait in a file.
_LARGE = 256 * 2**20


class BestSoFar:
    """Compares losses, and keeps the weights that go with the lowest.

    Parameters
    ----------
    module : Module
        Its present weights are the best until there is a loss.
    patience : float
        Losses without improvement after which training is stalled.
    tol : float
        Share by which a loss must fall to count as an improvement.
    latest : bool, default=False
        Whether the latest weights count as the best, where the losses tell a part only of what
        training is for.

    Attributes
    ----------
    stalled, exploded : bool
        What the last loss says about training.
    """

    def __init__(self, module, patience, tol, *, latest=False):
        self._patience = inf if latest else patience
        self._tol = tol
        self._latest = latest
        self._loss = self._bar = inf
        self._misses = 0
        self._store = WeightStore(module)
        self.exploded = False

    @property
    def stalled(self):
        return self._misses >= self._patience

    def update(self, loss, module):
        """Compare a loss with those before; true if it is the best, and the weights are kept."""
        explodes = not loss <= _EXPLODED * self._loss + _NEGLIGIBLE  # NaN is neither
        self.exploded = explodes or not _is_finite(module)
        if self.exploded:
            return False
        self._misses += 1
        if loss < self._bar:
            self._bar, self._misses = loss * (1 - self._tol), 0
        is_best = self._latest or loss < self._loss
        self._loss = min(loss, self._loss)
        if is_best:
            self._store.put(module)
        return is_best

    def give_to(self, module):
        """Load the best weights into the module."""
        self._store.take(module)

    def state(self):
        """What `restore` needs, the weights apart."""
        return {"loss": self._loss, "bar": self._bar, "misses": self._misses}

    def restore(self, state, module):
        """Go on from a state, with the best weights in the module."""
        self._loss, self._bar, self._misses = (state[key] for key in ("loss", "bar", "misses"))
        self._store.put(module)


class WeightStore:
    """A place for the weights of a module, out of the way of training.

    That is the main memory for a module on a GPU, and a nameless file for a large one on a CPU,
    where one more copy might not fit.
    """

    def __init__(self, module):
        weights = module.state_dict().values()
        n_bytes = sum(weight.nbytes for weight in weights if weight.device.type == "cpu")
        self._file = TemporaryFile(prefix="skae-") if n_bytes > _LARGE else None  # noqa: SIM115
        self._weights = None
        self._is_whole = False
        self.put(module)

    def put(self, module):
        weights = module.state_dict()
        self._is_whole = False
        if self._file is not None:
            self._file.seek(0)
            for weight in weights.values():
                self._file.write(_bytes_of(weight))
        elif self._weights is None:
            self._weights = {name: weight.cpu().clone() for name, weight in weights.items()}
        else:
            for name, weight in weights.items():
                self._weights[name].copy_(weight)
        self._is_whole = True

    def take(self, module):
        if not self._is_whole:
            return  # Ctrl-C came while weights were put here: the module has not trained since
        if self._file is None:
            module.load_state_dict(self._weights)
            return
        self._file.seek(0)
        for weight in module.state_dict().values():
            found = torch.empty_like(weight, memory_format=torch.contiguous_format)
            self._file.readinto(_bytes_of(found))
            weight.copy_(found)


@torch.no_grad()
def _is_finite(module):
    """Whether all weights are numbers: the last step comes after the loss that it is judged by."""
    # A buffer may be infinite, such as the reach of networks that have not learnt.
    return all(weight.isfinite().all() for weight in module.parameters()) and not any(
        buffer.isnan().any() for buffer in module.buffers()
    )


def _bytes_of(tensor):
    """The memory of a contiguous CPU tensor, or of a contiguous copy of it."""
    return tensor.contiguous().view(-1).view(torch.uint8).numpy().data


class Interrupts:
    """The interrupts of one fit.

    Before the first training, and during every one, an interrupt is raised where it comes. After a
    training the first is only counted, since the work that is left is short and makes the
    estimator usable; the next training does not start. A second one is raised anywhere.

    Attributes
    ----------
    n : int
        How many there were.
    """

    def __init__(self):
        self.n = 0
        self._raises_first = True

    @contextmanager
    def counted(self):
        """Count those that come within the block.

        The handler of SIGINT that was there still decides what an interrupt is: it is called, and
        if it raises KeyboardInterrupt, that is one. Only the main thread meets signals.
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
        """Raise the first within the block, and count those after it."""
        self._raises_first = True
        try:
            yield
        except KeyboardInterrupt:
            self.n = max(1, self.n)  # it may not have come by a signal
            raise
        finally:
            self._raises_first = False

    def check(self):
        """Raise one that came before, or that was lost where Python ignores exceptions."""
        if self.n:
            raise KeyboardInterrupt
