"""A folder in which a fit leaves what it needs to go on after it was killed.

A fit with an integer `random_state` is deterministic: started again it does the same once more.
So nothing need be stored but the results of its long steps, each under a name, and the state of
training after every epoch; what is found in the folder is not computed again.
"""

import os
from hashlib import blake2b
from pathlib import Path

import numpy as np
import scipy.sparse as sp
import torch

from ._blocks import Blocks, pieces

# Numbers that are hashed at a time.
_AT_ONCE = 2**22


class Checkpoint:
    """The folder of one fit.

    Parameters
    ----------
    folder : path-like
        Made if there is none.
    identity : dict of str to str
        What makes this fit the same as the one that left the folder, by name.

    Raises
    ------
    ValueError
        If the folder belongs to a fit of another identity.
    """

    def __init__(self, folder, identity):
        self._folder = Path(folder)
        if self._folder.exists() and not self._folder.is_dir():
            raise ValueError(f"checkpoint={os.fspath(folder)!r} is a file: it must be a folder.")
        self._folder.mkdir(parents=True, exist_ok=True)
        known = self.load("identity")
        if known is None:
            self.save("identity", identity)
        elif known != identity:
            names = [name for name in identity if identity[name] != known.get(name)]
            raise ValueError(
                f"checkpoint={os.fspath(folder)!r} belongs to another fit, with "
                f"{_told(known, names)} instead of {_told(identity, names)}: give this one a "
                f"folder of its own, or delete that one."
            )

    def load(self, name):
        """What was saved under the name; None if nothing was."""
        path = self._path(name)
        return torch.load(path, weights_only=True) if path.exists() else None

    def save(self, name, state):
        """Save tensors, numbers and strings in lists and dicts; whole or not at all."""
        path = self._path(name)
        unfinished = path.with_suffix(".unfinished")
        with open(unfinished, "wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, path)

    def recall(self, name, compute):
        """What was saved under the name, else ``compute()``, which is then saved."""
        state = self.load(name)
        if state is None:
            state = compute()
            self.save(name, state)
        return state

    def _path(self, name):
        return self._folder / f"{name.replace(' ', '-')}.pt"


class NoCheckpoint:
    """Where nothing is kept."""

    def load(self, name):
        return None

    def save(self, name, state):
        pass

    def recall(self, name, compute):
        return compute()


NOWHERE = NoCheckpoint()


def digest(X):
    """A short text that differs between data sets: shape, type and every number count."""
    if isinstance(X, Blocks):
        return digest(np.frombuffer("".join(X.ask(_digest_of_block)).encode(), np.uint8))
    hashed = blake2b(repr((X.shape, X.dtype.str)).encode(), digest_size=16)
    parts = (X.indptr, X.indices, X.data) if sp.issparse(X) else (X,)
    for part in parts:
        step = max(1, _AT_ONCE * len(part) // max(1, part.size))
        for start in range(0, len(part), step):
            hashed.update(np.ascontiguousarray(part[start : start + step]).data)
    return hashed.hexdigest()


def _digest_of_block(block):
    return "".join(map(digest, pieces(block)))


def description(value):
    """A text that is the same for the same value of a parameter, in another process too."""
    if isinstance(value, torch.nn.Module):
        weights = [
            weight.detach().double().cpu().view(-1) for weight in value.state_dict().values()
        ]
        return f"{value!r} of weights {digest(torch.cat(weights).numpy()) if weights else 'none'}"
    if hasattr(value, "__qualname__"):  # a function or a class, whose repr is an address
        return f"{value.__module__}.{value.__qualname__}"
    return repr(value)


def _told(identity, names):
    return ", ".join(f"{name}={identity.get(name, 'nothing')}" for name in names)
