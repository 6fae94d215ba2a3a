"""Results of long steps that fits on the same rows share."""

import os
import warnings
from tempfile import TemporaryFile

import numpy as np
import torch
from sklearn.utils.validation import check_memory

from ._checkpoint import digest


class Cache:
    """What a `joblib.Memory` keeps of some rows, by the name of the step.

    It saves time and nothing else: what cannot be read, or has changed since it was written, is
    computed.

    Parameters
    ----------
    memory : str or joblib.Memory
    key : dict of str to str or int
        All that the results depend on, other than their names.

    Raises
    ------
    OSError
        If its folder cannot be written.
    """

    def __init__(self, memory, key):
        self._folder = str(getattr(memory, "location", memory))
        try:
            memory = check_memory(memory)
            if isinstance(getattr(memory, "location", None), (str, os.PathLike)):
                # A folder that is there may be one that only others write.
                TemporaryFile(dir=memory.location).close()
        except OSError as error:
            raise OSError(
                error.errno,
                f"memory={self._folder!r} cannot be written ({error.strerror}): it must be a "
                f"folder that can be, or None",
            ) from error
        self._step = memory.cache(_with_digest, ignore=["step"])
        self._key = key

    def recall(self, name, compute):
        """The tensors that ``compute()`` returns in a dict, or those kept under the name."""
        step = _Step(compute)
        arrays = self._kept(name, step)
        if arrays is None:
            arrays = step.arrays or step()
        return {name: torch.tensor(array) for name, array in arrays.items()}

    def _kept(self, name, step):
        """What is kept, after the step if nothing was; None where the memory fails."""
        try:
            kept = self._step(self._key, name, step)
            if step.arrays is None and not _is_whole(kept):
                self._step.call(self._key, name, step)  # writes it again
            return step.arrays or kept["arrays"]
        except Exception as error:
            if step.failed:
                raise
            warnings.warn(
                f"memory={self._folder!r} fails ({error}): {name} is computed without it.",
                RuntimeWarning,
                stacklevel=2,
            )
            return None


class _Step:
    """A computation that knows whether it has been done, or has failed."""

    arrays, failed = None, False

    def __init__(self, compute):
        self._compute = compute

    def __call__(self):
        try:
            tensors = self._compute()
        except BaseException:
            self.failed = True
            raise
        self.arrays = {name: tensor.cpu().numpy() for name, tensor in tensors.items()}
        return self.arrays


def _with_digest(key, name, step):
    arrays = step()
    return {"arrays": arrays, "digest": _digest(arrays)}


def _digest(arrays):
    return repr({name: digest(np.atleast_1d(array)) for name, array in arrays.items()})


def _is_whole(kept):
    try:
        return _digest(kept["arrays"]) == kept["digest"]
    except Exception:  # a damaged pickle may be read as anything
        return False
