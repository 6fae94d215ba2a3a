"""Networks and values as JSON and arrays, and back, without running anything."""

import inspect
import math
import os

import numpy as np
import torch
from torch import nn

from .._runtime.tensors import tensor_of
from .conv import Layout
from .layers import ACTIVATIONS, Stored

# Of torch: made again by their constructors, from attributes of the same names.
# Activations that the parameters name come from `ACTIVATIONS`.
_LAYERS = {
    layer.__name__: layer
    for layer in (
        nn.AdaptiveAvgPool1d,
        nn.AdaptiveAvgPool2d,
        nn.AvgPool1d,
        nn.AvgPool2d,
        nn.BatchNorm1d,
        nn.BatchNorm2d,
        nn.CELU,
        nn.Conv1d,
        nn.Conv2d,
        nn.ConvTranspose1d,
        nn.ConvTranspose2d,
        nn.Dropout,
        nn.Dropout1d,
        nn.Dropout2d,
        nn.Flatten,
        nn.GRU,
        nn.GroupNorm,
        nn.Hardswish,
        nn.Hardtanh,
        nn.Identity,
        nn.InstanceNorm1d,
        nn.InstanceNorm2d,
        nn.LSTM,
        nn.LayerNorm,
        nn.LeakyReLU,
        nn.Linear,
        nn.MaxPool1d,
        nn.MaxPool2d,
        nn.Mish,
        nn.PReLU,
        nn.PixelShuffle,
        nn.PixelUnshuffle,
        nn.ReLU6,
        nn.SELU,
        nn.Softmax,
        nn.Softsign,
        nn.Unflatten,
        nn.Upsample,
        nn.ZeroPad2d,
    )
}

# Of torch: made again by putting parameters and children in their places.
_CONTAINERS = {
    holder.__name__: holder for holder in (nn.ModuleList, nn.ParameterDict, nn.Sequential)
}


def specification(module):
    """The specification from which `built` makes the module again, without its weights.

    Raises
    ------
    ValueError
        If a layer is none of those listed here.

    Examples
    --------
    >>> from torch import nn
    >>> specification(nn.Sequential(nn.Flatten()))["children"]
    {'0': {'class': 'Flatten', 'attributes': {'end_dim': -1, 'start_dim': 1}}}
    """
    kind = type(module)
    if module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module):
        raise ValueError(f"{kind.__qualname__} has hooks or a forward of its own")
    if _layers().get(kind.__name__) is kind:
        return {"class": kind.__name__, "attributes": _arguments(module)}
    if _holders().get(kind.__name__) is not kind:
        raise ValueError(f"{kind.__module__}.{kind.__qualname__} is no layer that skae can save")
    attributes = {
        name: value
        for name, value in vars(module).items()
        if not name.startswith("_") and name not in ("training", "generator")
    }
    return {
        "class": kind.__name__,
        "attributes": attributes,
        "parameters": list(module._parameters),
        "buffers": list(module._buffers),
        "children": {
            name: child and specification(child) for name, child in module._modules.items()
        },
    }


def built(plan, state, prefix=""):
    """The module of a `specification`, in evaluation mode, with the tensors of a state dict.

    Raises
    ------
    ValueError, KeyError, TypeError, RuntimeError
        If the specification is invalid, or the tensors do not fit it.
    """
    with torch.device("meta"):  # where nothing is drawn, and no size is too large
        module = _skeleton(plan, state, prefix)
    module.load_state_dict(state, assign=True)
    return module.eval()


def _skeleton(plan, state, prefix):
    name, layers, holders = plan["class"], _layers(), _holders()
    if name in layers:
        return layers[name](**plan["attributes"])
    if name not in holders:
        raise ValueError(f"{name!r} is no layer that skae knows")
    if name == "ParameterDict":
        like = {key: torch.empty(state[prefix + key].shape) for key in plan["parameters"]}
        return nn.ParameterDict(like)
    module = holders[name].__new__(holders[name])
    nn.Module.__init__(module)
    for attribute, value in plan["attributes"].items():
        if hasattr(module, attribute):
            raise ValueError(f"{name} has no attribute {attribute!r} of its own")
        setattr(module, attribute, value)
    for parameter in plan["parameters"]:
        like = torch.empty(state[prefix + parameter].shape)
        module.register_parameter(parameter, nn.Parameter(like))
    for buffer in plan["buffers"]:
        module.register_buffer(buffer, torch.empty(state[prefix + buffer].shape))
    for child, its_plan in plan["children"].items():
        made = its_plan and _skeleton(its_plan, state, f"{prefix}{child}.")
        module.register_module(child, made)
    return module


def _layers():
    """Layers of torch by the names of their classes."""
    return _LAYERS | {layer.__name__: layer for layer in ACTIVATIONS.values()}


def _holders():
    """Containers of torch, and all classes of skae's `Stored`, by their names."""
    found, classes = dict(_CONTAINERS), Stored.__subclasses__()
    while classes:
        kind = classes.pop()
        found[kind.__name__] = kind
        classes += kind.__subclasses__()
    return found


def _arguments(layer):
    """What a layer of torch was made with."""
    is_recurrent = isinstance(layer, nn.RNNBase)
    # The constructor of a recurrent layer takes what that of its base takes, but for its mode.
    kind = nn.RNNBase if is_recurrent else type(layer)
    names = set(inspect.signature(kind).parameters) & set(dir(layer))
    if is_recurrent:
        names -= {"mode"} if layer.mode == "LSTM" else {"mode", "proj_size"}
    arguments = {name: getattr(layer, name) for name in sorted(names)}
    if "bias" in arguments:
        arguments["bias"] = layer.bias is not None and layer.bias is not False
    return arguments


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
        plan = _checked_specification(value, name)
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


def _checked_specification(module, name):
    try:
        return specification(module)
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
