"""Values as JSON and arrays, and back.

What JSON lacks becomes an object of one entry, whose name says what it is: ``{"tuple": [1, 2]}``.
Arrays stand apart, under names; nothing that is read is run.
"""

import math
import os

import numpy as np
import torch
from torch import nn

from ._blueprint import blueprint, built
from ._convolutions import Layout
from ._rows import tensor_of


def encoded(value, name, arrays):
    """A value as JSON has it; its arrays go to the dict ``arrays``, under ``name`` and longer ones.

    Raises
    ------
    ValueError
        If it cannot be told as data.

    Examples
    --------
    >>> arrays = {}
    >>> encoded((1, np.arange(3)), "pair", arrays)
    {'tuple': [1, {'array': ['pair.1', [0]]}]}
    >>> arrays
    {'pair.1': array([0, 1, 2])}
    """
    if value is None or isinstance(value, (bool, str, int)):
        return value
    if isinstance(value, (float, np.floating)):
        return float(value) if math.isfinite(value) else {"float": str(float(value))}
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, list):
        return [encoded(v, f"{name}.{i}", arrays) for i, v in enumerate(value)]
    if isinstance(value, tuple):
        return {"tuple": encoded(list(value), name, arrays)}
    if isinstance(value, dict):
        pairs = [[k, encoded(v, f"{name}.{k}", arrays)] for k, v in value.items()]
        return {"dict": pairs}
    if isinstance(value, np.ndarray) and value.dtype == object:
        return {"names": [str(entry) for entry in value]}
    if isinstance(value, np.ndarray):
        return {"array": _stored(value, name, arrays)}
    if isinstance(value, nn.Module):
        tensors = {
            key: _stored(tensor.detach().cpu().numpy(), f"{name}.{key}", arrays)
            for key, tensor in value.state_dict().items()
        }
        plan = _blueprint(value, name)
        return {"module": {"tensors": tensors, "plan": encoded(plan, name, arrays)}}
    if isinstance(value, Layout):
        return {"layout": encoded((value.shape, value.channel_axis), name, arrays)}
    if isinstance(value, torch.device):
        return {"device": str(value)}
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, np.random.RandomState):
        return {"random_state": encoded(value.get_state(legacy=False), name, arrays)}
    raise ValueError(
        f"{name}={value!r} cannot be written to a file that runs nothing: set another, or use "
        f"pickle."
    )


def decoded(value, arrays):
    """The value that `encoded` made this of.

    Raises
    ------
    Exception
        Of any kind, if it made no such thing.
    """
    if isinstance(value, list):
        return [decoded(entry, arrays) for entry in value]
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    match kind:
        case "float":
            return float(content)
        case "tuple":
            return tuple(decoded(content, arrays))
        case "dict":
            return {key: decoded(entry, arrays) for key, entry in content}
        case "names":
            return np.array([str(entry) for entry in content], dtype=object)
        case "array":
            return _restored(content, arrays)
        case "module":
            tensors = {
                key: tensor_of(_restored(entry, arrays)).clone()  # where torch aligns it
                for key, entry in content["tensors"].items()
            }
            return built(decoded(content["plan"], arrays), tensors)
        case "layout":
            shape, channel_axis = decoded(content, arrays)
            return Layout(shape, channel_axis)
        case "device":
            return torch.device(content)
        case "random_state":
            random_state = np.random.RandomState()
            random_state.set_state(decoded(content, arrays))
            return random_state
    raise ValueError(f"{kind!r} is no kind of value")


def _blueprint(module, name):
    try:
        return blueprint(module)
    except ValueError as error:
        raise ValueError(f"{name} cannot be written: {error}. Use pickle.") from None


def _stored(array, name, arrays):
    """The name of an array and the order of its axes in memory, on which sums depend."""
    # Axes of length one last, as torch lays out pictures of one channel.
    order = sorted(range(array.ndim), key=lambda axis: (-array.strides[axis], -array.shape[axis]))
    arrays[name] = np.asarray(array.transpose(order), order="C")
    return [name, order]


def _restored(entry, arrays):
    name, order = entry
    return arrays[name].transpose(np.argsort(order)) if order else arrays[name]
