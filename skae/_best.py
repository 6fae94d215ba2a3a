"""The best weights so far, and whether training still gets anywhere."""

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
        self._shelf = Shelf(module)
        self.exploded = False

    @property
    def stalled(self):
        return self._misses >= self._patience

    def meet(self, loss, module):
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
            self._shelf.put(module)
        return is_best

    def give_to(self, module):
        """Load the best weights into the module."""
        self._shelf.take(module)

    def state(self):
        """What `restore` needs, the weights apart."""
        return {"loss": self._loss, "bar": self._bar, "misses": self._misses}

    def restore(self, state, module):
        """Go on from a state, with the best weights in the module."""
        self._loss, self._bar, self._misses = (state[key] for key in ("loss", "bar", "misses"))
        self._shelf.put(module)


class Shelf:
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
