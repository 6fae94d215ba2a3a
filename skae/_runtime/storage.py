"""Results in folders: the checkpoint of one fit, and the cache that several fits share."""

import os
import warnings
from contextlib import suppress
from hashlib import blake2b
from io import BufferedRandom, FileIO
from pathlib import Path
from tempfile import TemporaryFile

import numpy as np
import scipy.sparse as sp
import torch
from filelock import FileLock, Timeout
from sklearn.utils.validation import check_memory

# Numbers, or bytes of a file, that are hashed at a time.
_AT_ONCE = 2**22

# In bytes: too few for torch to take some of them for the last record of its archive.
_DIGEST_SIZE = 16

# What is told of an identity by name alone: its values are checksums.
_OTHER = {"X": "other rows of X", "sample_weight": "another sample_weight"}

_ONE_FIT = (
    "one folder is one fit. Give this one a folder of its own{or_else}. The fits of a search share "
    "their long steps by memory=..., not by checkpoint."
)


class Checkpoint:
    """The folder of one fit, and its lock in a ``with`` statement.

    Parameters
    ----------
    folder : path-like
        Made if there is none.
    identity : dict of str to str
        What makes this fit the same as the one that left the folder, by name.

    Raises
    ------
    ValueError
        By the ``with`` statement, if the folder belongs to a fit of another identity or is in use;
        by any method, if a file is damaged.
    OSError
        If the folder cannot be written.
    """

    def __init__(self, folder, identity):
        if not os.fspath(folder):
            raise ValueError(f"checkpoint={folder!r} must be the name of a folder.")
        self._folder = Path(folder)
        self._told = f"checkpoint={os.fspath(folder)!r}"
        self._identity = identity
        self._lock = FileLock(self._folder / "fit.lock")

    def __enter__(self):
        try:
            if self._folder.exists() and not self._folder.is_dir():
                raise ValueError(f"{self._told} is a file: it must be a folder.")
            self._folder.mkdir(parents=True, exist_ok=True)
            self._acquire()
        except OSError as error:
            raise self._not_written(error) from error
        try:
            self._claim()
        except BaseException:
            self._lock.release()
            raise
        return self

    def __exit__(self, *exception):
        self._lock.release()

    def load(self, name):
        """What was saved under the name; None if nothing was."""
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
        """Save tensors, numbers and strings in lists and dicts; whole or not at all."""
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
        """What was saved under the name, else ``compute()``, which is then saved."""
        state = self.load(name)
        if state is None:
            state = compute()
            self.save(name, state)
        return state

    def save_best(self, name, epoch, weights):
        """Save the weights that are the best of a stage of training, and their epoch."""
        self.save(f"{name} best", {"epoch": epoch, "weights": weights})

    def load_best(self, name, epoch):
        """The best weights of a stage, whose state says that they are of this epoch.

        A fit that was killed after it saved them and before it saved its state left later ones.
        """
        best, path = self.load(f"{name} best"), self._path(f"{name} best")
        if best is None:
            raise self._unreadable(path, f"is missing, but {self._path(name).name!r} needs it")
        if best["epoch"] < epoch:
            raise self._unreadable(path, f"is older than {self._path(name).name!r} beside it")
        return best["weights"]

    def _acquire(self):
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            raise ValueError(
                f"{self._told} is in use by another fit: "
                f"{_ONE_FIT.format(or_else=', or wait until that one has ended')}"
            ) from None
        except NotImplementedError:  # a file system without locks
            pass

    def _claim(self):
        """Make the folder this fit's if it is nobody's, and refuse another's."""
        known = self.load("identity")
        if known is None and any(self._folder.glob("*.pt")):
            raise self._unreadable(self._path("identity"), "is missing, but has files beside it")
        if known is None:
            self.save("identity", self._identity)
        elif known != self._identity:
            raise ValueError(
                f"{self._told} belongs to another fit, with {_told(known, self._identity)}: "
                f"{_ONE_FIT.format(or_else=', or delete that one')}"
            )

    def _write(self, path, name, state):
        with _File(FileIO(path, "w+")) as file:
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
        """A checksum of the next bytes of a file, of its name and of the fit that it is of."""
        owner = "" if name == "identity" else sorted(self._identity.items())
        hashed = blake2b(f"{name} {owner}".encode(), digest_size=_DIGEST_SIZE)
        while n_bytes > 0 and (part := file.read(min(n_bytes, _AT_ONCE))):
            hashed.update(part)
            n_bytes -= len(part)
        return hashed.digest()

    def _path(self, name):
        return self._folder / f"{name.replace(' ', '-')}.pt"

    def _unreadable(self, path, what):
        return ValueError(
            f"{self._told} cannot be read: {path.name!r} {what}. Delete the folder to start the "
            f"fit anew."
        )

    def _not_written(self, error):
        return OSError(
            error.errno,
            f"{self._told} cannot be written ({error.strerror}). What was saved there before is "
            f"whole, and the same fit goes on from it once the folder can be written",
        )


class _File(BufferedRandom):
    """A file that remembers why it could not be written, where torch has an error of its own."""

    error = None

    def write(self, data):
        try:
            return super().write(data)
        except OSError as error:
            self.error = error
            raise


class NoCheckpoint:
    """Where nothing is kept."""

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


def digest(X):
    """A short text that differs between data sets: shape, type and every number count."""
    if hasattr(X, "digest"):
        return X.digest()
    hashed = blake2b(repr((X.shape, X.dtype.str)).encode(), digest_size=16)
    parts = (X.indptr, X.indices, X.data) if sp.issparse(X) else (X,)
    for part in parts:
        step = max(1, _AT_ONCE * len(part) // max(1, part.size))
        for start in range(0, len(part), step):
            hashed.update(np.ascontiguousarray(part[start : start + step]).data)
    return hashed.hexdigest()


def stable_repr(value):
    """A text that is the same for the same value of a parameter, in another process too."""
    if isinstance(value, torch.nn.Module):
        weights = [
            weight.detach().double().cpu().view(-1) for weight in value.state_dict().values()
        ]
        return f"{value!r} of weights {digest(torch.cat(weights).numpy()) if weights else 'none'}"
    if hasattr(value, "__qualname__"):  # a function or a class, whose repr is an address
        return f"{value.__module__}.{value.__qualname__}"
    if isinstance(value, (list, tuple)):
        return f"({', '.join(map(stable_repr, value))})"
    return repr(value.item() if isinstance(value, np.generic) else value)


def _told(known, identity):
    """What the known identity has that the other has not."""
    names = [name for name in identity if identity[name] != known.get(name)]
    others = [_OTHER[name] for name in names if name in _OTHER]
    names = [name for name in names if name not in _OTHER]
    if names:
        there, here = (
            ", ".join(f"{name}={of.get(name, 'nothing')}" for name in names)
            for of in (known, identity)
        )
        others.append(f"{there} instead of {here}")
    return " and with ".join(others)


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

    def load_or_compute(self, name, compute):
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
