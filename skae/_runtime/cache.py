"""Results of long steps on disk, which several fits share."""

import os
import warnings
from tempfile import TemporaryFile

import numpy as np
import torch
from sklearn.utils.validation import check_memory

from .digests import digest


class Cache:
    """Results of long steps, stored in a `joblib.Memory` by the name of the step.

    The cache only saves time: a result that cannot be read, or has changed since it was written, is
    computed again.

    Parameters
    ----------
    memory : str, path-like or joblib.Memory
    key : dict of str to str or int
        All that the results depend on, except the name of the step.

    Raises
    ------
    OSError
        If its folder cannot be written.
    """

    def __init__(self, memory, key):
        self._folder = str(getattr(memory, "location", memory))
        try:
            memory = check_memory(os.fspath(memory) if isinstance(memory, os.PathLike) else memory)
            if isinstance(getattr(memory, "location", None), (str, os.PathLike)):
                # The folder may exist and be read-only.
                TemporaryFile(dir=memory.location).close()
        except OSError as error:
            raise OSError(
                error.errno,
                f"memory={self._folder!r} cannot be written ({error.strerror}): it must be a "
                f"writable folder or None",
            ) from error
        self._step = memory.cache(_with_digest, ignore=["step"])
        self._key = key

    def load_or_compute(self, name, compute):
        """Return the dict of tensors stored under the name, else compute and store it."""
        step = _Step(compute)
        arrays = self._load_or_run(name, step)
        if arrays is None:
            arrays = step.arrays or step()
        return {name: torch.tensor(array) for name, array in arrays.items()}

    def _load_or_run(self, name, step):
        """The stored arrays, else those of the step; None if the memory fails."""
        try:
            stored = self._step(self._key, name, step)
            if step.arrays is None and not _is_intact(stored):
                self._step.call(self._key, name, step)  # computes and writes it again
            return step.arrays or stored["arrays"]
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
    """A computation that stores its result, and whether it has failed."""

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
    return {"arrays": arrays, "digest": _digest_of_arrays(arrays)}


def _digest_of_arrays(arrays):
    return repr({name: digest(np.atleast_1d(array)) for name, array in arrays.items()})


def _is_intact(stored):
    try:
        return _digest_of_arrays(stored["arrays"]) == stored["digest"]
    except Exception:  # a damaged pickle may load as any object
        return False
