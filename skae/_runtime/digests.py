"""Checksums of data and of networks, and texts of parameters that are the same in every process."""

from functools import partial
from hashlib import blake2b

import numpy as np
import scipy.sparse as sp
import torch

from .tensors import array_of

# Array elements that are hashed at a time.
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
