"""Networks as plain data, and back: the class of each layer, what it was made from, its children.

Only the layers listed here are described or built, so that building one runs nothing else.
"""

import inspect

import torch
from torch import nn

from ._convolutions import Fold, Unfold
from ._losses import LOSSES
from ._modules import ACTIVATIONS, LinearPathAutoencoder, PlainAutoencoder, ResidualAutoencoder
from ._ordered import Completion, NestedLoss
from ._own import Gain
from ._penalties import ContractivePenalty, SparsityPenalty
from ._random import Corruption, Dropout, RandomLayer
from ._variational import VariationalAutoencoder

# Of torch: made again by their constructors, from attributes of the same names.
# Activations that the parameters name come from `ACTIVATIONS`.
_LAYERS = {
    layer.__name__: layer
    for layer in (
        nn.BatchNorm1d,
        nn.BatchNorm2d,
        nn.Conv1d,
        nn.Conv2d,
        nn.ConvTranspose1d,
        nn.ConvTranspose2d,
        nn.Flatten,
        nn.GroupNorm,
        nn.Identity,
        nn.LayerNorm,
        nn.LeakyReLU,
        nn.Linear,
        nn.Unflatten,
    )
}

# Of torch and of skae: made again by putting attributes, tensors and children in their places.
_HOLDERS = {
    holder.__name__: holder
    for holder in (
        nn.ModuleList,
        nn.ParameterDict,
        nn.Sequential,
        Completion,
        ContractivePenalty,
        Corruption,
        Dropout,
        Fold,
        Gain,
        LinearPathAutoencoder,
        NestedLoss,
        PlainAutoencoder,
        RandomLayer,
        ResidualAutoencoder,
        SparsityPenalty,
        Unfold,
        VariationalAutoencoder,
        *LOSSES.values(),
    )
}


def blueprint(module):
    """What `built` makes the module again from, but for its weights.

    Raises
    ------
    ValueError
        If a layer is none of those listed here.

    Examples
    --------
    >>> from torch import nn
    >>> blueprint(nn.Sequential(nn.Flatten()))["children"]
    {'0': {'class': 'Flatten', 'attributes': {'end_dim': -1, 'start_dim': 1}}}
    """
    kind = type(module)
    if _layers().get(kind.__name__) is kind:
        return {"class": kind.__name__, "attributes": _arguments(module)}
    if _HOLDERS.get(kind.__name__) is not kind:
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
        "children": {name: child and blueprint(child) for name, child in module._modules.items()},
    }


def built(plan, state, prefix=""):
    """The module of a `blueprint`, in evaluation, with the tensors of a state dict.

    Raises
    ------
    ValueError, KeyError, TypeError, RuntimeError
        If the blueprint is none, or the tensors do not fit it.
    """
    with torch.device("meta"):  # where nothing is drawn, and no size is too large
        module = _skeleton(plan, state, prefix)
    module.load_state_dict(state, assign=True)
    return module.eval()


def _skeleton(plan, state, prefix):
    name, layers = plan["class"], _layers()
    if name in layers:
        return layers[name](**plan["attributes"])
    if name not in _HOLDERS:
        raise ValueError(f"{name!r} is no layer that skae knows")
    if name == "ParameterDict":
        like = {key: torch.empty(state[prefix + key].shape) for key in plan["parameters"]}
        return nn.ParameterDict(like)
    module = _HOLDERS[name].__new__(_HOLDERS[name])
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


def _arguments(layer):
    """What a layer of torch was made with."""
    names = set(inspect.signature(type(layer)).parameters) & set(dir(layer))
    arguments = {name: getattr(layer, name) for name in sorted(names)}
    if "bias" in arguments:
        arguments["bias"] = layer.bias is not None
    return arguments
