"""Results on disk: the checkpoint of one fit, and the cache that several fits share."""

import os
import warnings
from contextlib import suppress
from functools import partial
from hashlib import blake2b
from io import BufferedRandom, FileIO
from pathlib import Path
from tempfile import TemporaryFile

import numpy as np
import scipy.sparse as sp
import torch
from filelock import FileLock, Timeout
from sklearn.utils.validation import check_memory

from .tensors import array_of

# Array elements, or bytes of a file, that are hashed at a time.
_CHUNK_SIZE = 2**22


def digest(X):
    """Return a checksum of the shape, the dtype and all values of a data set."""
    if hasattr(X, "digest"):
        return X.digest()
    if isinstance(X, torch.Tensor):
        X = array_of(X)
    hashed = blake2b(repr((X.shape, X.dtype.str)).encode(), digest_size=16)
    parts = (X.indptr, X.indices, X.data) if sp.issparse(X) else (X,)
    for part in parts:
        step = max(1, _CHUNK_SIZE * len(part) // max(1, part.size))
        for start in range(0, len(part), step):
            hashed.update(np.ascontiguousarray(part[start : start + step]).data)
    return hashed.hexdigest()


def stable_repr(value):
    """Return a string that is the same for equal values of a parameter, in every process."""
    if isinstance(value, torch.nn.Module):
        weights = [
            weight.detach().double().cpu().view(-1) for weight in value.state_dict().values()
        ]
        weights = digest(torch.cat(weights).numpy()) if weights else "none"
        return f"{value!r} of structure {structure_of(value)} and weights {weights}"
    if hasattr(value, "__qualname__"):  # the repr of a function contains its address
        return f"{value.__module__}.{value.__qualname__}"
    if isinstance(value, (list, tuple)):
        return f"({', '.join(map(stable_repr, value))})"
    if isinstance(value, partial):
        keywords = [f"{name}={stable_repr(v)}" for name, v in sorted(value.keywords.items())]
        return f"partial({stable_repr(value.func)}, {stable_repr(value.args)}, {keywords})"
    if type(value).__repr__ is object.__repr__:  # and so does that of most objects
        return f"{stable_repr(type(value))} of {stable_repr(sorted(vars(value).items()))}"
    return repr(value.item() if isinstance(value, np.generic) else value)


def structure_of(module):
    """Return a checksum of what a module computes, apart from its weights.

    That is the class of every layer, its numbers and names, and the code of layers that are
    neither torch's nor skae's.
    """
    hashed = blake2b(digest_size=16)
    for name, layer in module.named_modules():
        kind = type(layer)
        told = [
            (key, getattr(value, "__qualname__", value))
            for key, value in sorted(vars(layer).items())
            if not key.startswith("_") and key != "training" and _is_told(value)
        ]
        hashed.update(f"{name} {kind.__module__}.{kind.__qualname__} {told}".encode())
        if kind.__module__.partition(".")[0] not in ("torch", "skae"):
            code = getattr(kind.forward, "__code__", None)  # not of scripted modules
            if code is not None:
                consts = tuple(filter(_is_told, code.co_consts))
                hashed.update(code.co_code + f"{code.co_names} {consts}".encode())
    return hashed.hexdigest()


def _is_told(value):
    """Whether the repr or the name of a value says all of it, the same in every process."""
    if isinstance(value, tuple):
        return all(map(_is_told, value))
    return isinstance(value, (bool, int, float, str, type(None))) or hasattr(value, "__qualname__")


# The checkpoint of one fit


# In bytes: too few for torch to mistake them for the last record of its archive.
_DIGEST_SIZE = 16

# Entries of an identity that messages name without values: the values are checksums.
_CHECKSUMS = {
    "X": "other rows of X",
    "y": "another y",
    "sample_weight": "another sample_weight",
    "groups": "other groups",
}

_ONE_FIT = (
    "a folder holds one fit. Use another folder for this fit{or_else}. The fits of a search share "
    "their long steps by memory=..., not by checkpoint."
)


class Checkpoint:
    """The folder of one fit, and its lock in a ``with`` statement.

    Parameters
    ----------
    folder : path-like
        Created if it does not exist.
    identity : dict of str to str
        All that determines the fit, by name. A fit continues from a folder with an equal identity.

    Raises
    ------
    ValueError
        By the ``with`` statement, if the folder belongs to a fit with another identity or is in
        use; by any method, if a file is damaged.
    OSError
        If the folder cannot be written.
    """

    def __init__(self, folder, identity):
        if not os.fspath(folder):
            raise ValueError(f"checkpoint={folder!r} must be the name of a folder.")
        self._folder = Path(folder)
        self._label = f"checkpoint={os.fspath(folder)!r}"
        self._identity = identity
        self._lock = FileLock(self._folder / "fit.lock")

    def __enter__(self):
        try:
            if self._folder.exists() and not self._folder.is_dir():
                raise ValueError(f"{self._label} is a file: it must be a folder.")
            self._folder.mkdir(parents=True, exist_ok=True)
            self._acquire()
        except OSError as error:
            raise self._not_written(error) from error
        try:
            self._check_identity()
        except BaseException:
            self._lock.release()
            raise
        return self

    def __exit__(self, *exception):
        self._lock.release()

    def load(self, name):
        """Return what was saved under the name; None if nothing was."""
        path = self._path(name)
        try:
            with open(path, "rb") as file:
                n_bytes = os.fstat(file.fileno()).st_size - _DIGEST_SIZE
                digest = self._digest(name, file, n_bytes)
                if file.read() != digest:
                    raise self._unreadable(path, "has changed since it was written")
                file.seek(0)
                return torch.load(file, map_location="cpu", weights_only=True)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._unreadable(path, f"gives {error.strerror!r}") from error

    def save(self, name, state):
        """Save tensors, numbers and strings in lists and dicts, completely or not at all."""
        path = self._path(name)
        unfinished = path.with_suffix(".unfinished")
        try:
            self._write(unfinished, name, state)
            os.replace(unfinished, path)
        except OSError as error:
            with suppress(OSError):
                unfinished.unlink()
            raise self._not_written(error) from error

    def load_or_compute(self, name, compute):
        """Return what was saved under the name, else compute and save it."""
        state = self.load(name)
        if state is None:
            state = compute()
            self.save(name, state)
        return state

    def of_another_fit(self, differences):
        """The error that says in what the folder's fit differs."""
        return ValueError(
            f"{self._label} belongs to another fit, with {differences}: "
            f"{_ONE_FIT.format(or_else=', or delete this folder')}"
        )

    def _acquire(self):
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            raise ValueError(
                f"{self._label} is in use by another fit: "
                f"{_ONE_FIT.format(or_else=', or wait until the other fit has ended')}"
            ) from None
        except NotImplementedError:  # a file system without locks
            pass

    def _check_identity(self):
        """Save the identity in an empty folder; raise ValueError if the folder has another one."""
        saved = self.load("identity")
        if saved is None and any(self._folder.glob("*.pt")):
            raise self._unreadable(self._path("identity"), "is missing, but has files beside it")
        if saved is None:
            self.save("identity", self._identity)
        elif saved != self._identity:
            raise self.of_another_fit(_differences(saved, self._identity))

    def _write(self, path, name, state):
        with _ErrorKeepingFile(FileIO(path, "w+")) as file:
            try:
                torch.save(state, file)
            except RuntimeError:
                if file.error is None:
                    raise
                raise file.error from None
            n_bytes = file.tell()
            file.seek(0)
            digest = self._digest(name, file, n_bytes)
            file.write(digest)
            file.flush()
            os.fsync(file.fileno())

    def _digest(self, name, file, n_bytes):
        """A checksum of the next bytes of a file, its name and the identity of the fit."""
        owner = "" if name == "identity" else sorted(self._identity.items())
        hashed = blake2b(f"{name} {owner}".encode(), digest_size=_DIGEST_SIZE)
        while n_bytes > 0 and (part := file.read(min(n_bytes, _CHUNK_SIZE))):
            hashed.update(part)
            n_bytes -= len(part)
        return hashed.digest()

    def _path(self, name):
        return self._folder / f"{name.replace(' ', '-')}.pt"

    def _unreadable(self, path, what):
        return ValueError(
            f"{self._label} cannot be read: {path.name!r} {what}. Delete the folder to start the "
            f"fit anew."
        )

    def _not_written(self, error):
        return OSError(
            error.errno,
            f"{self._label} cannot be written ({error.strerror}). What was saved there before is "
            f"complete, and the same fit continues from it once the folder can be written",
        )


class NoCheckpoint:
    """The interface of `Checkpoint` for a fit without one: nothing is saved."""

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        pass

    def load(self, name):
        return None

    def save(self, name, state):
        pass

    def load_or_compute(self, name, compute):
        return compute()


NO_CHECKPOINT = NoCheckpoint()


class _ErrorKeepingFile(BufferedRandom):
    """A file that stores the error of a failed write: torch raises another error in its place."""

    error = None

    def write(self, data):
        try:
            return super().write(data)
        except OSError as error:
            self.error = error
            raise


def _differences(saved, identity):
    """How a saved identity differs from that of this fit, in words."""
    names = [name for name in identity if identity[name] != saved.get(name)]
    differences = [_CHECKSUMS[name] for name in names if name in _CHECKSUMS]
    names = [name for name in names if name not in _CHECKSUMS]
    if names:
        there, here = (
            ", ".join(f"{name}={values.get(name, 'nothing')}" for name in names)
            for values in (saved, identity)
        )
        differences.append(f"{there} instead of {here}")
    return " and with ".join(differences)


# The cache that several fits share


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
