"""The checkpoint of one fit: a folder from which the same fit continues to the same bits."""

import os
from contextlib import suppress
from hashlib import blake2b
from io import BufferedRandom, FileIO
from pathlib import Path

import torch
from filelock import FileLock, Timeout

# Bytes of a file that are hashed at a time.
_CHUNK_SIZE = 2**22

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
