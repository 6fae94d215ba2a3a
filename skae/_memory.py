"""Whether a network fits into memory: told before any of it is allocated."""

from collections.abc import Callable

import torch
from torch import nn

from ._device import free_bytes
from ._modules import perceptron

# Training holds each weight in float32, its gradient and two moments of AdamW.
_BYTES_PER_WEIGHT = 4 * 4


def bytes_to_train(build: Callable[[], nn.Module]) -> int:
    """What training the module takes, batches apart; ``build`` is run without memory or numbers."""
    try:
        with torch.device("meta"):
            module = build()
    except RuntimeError:  # more than torch can count
        return float("inf")
    return _BYTES_PER_WEIGHT * sum(weight.numel() for weight in module.parameters())


def refuse_too_large(sizes, device, *, linear_path, n_networks=2):
    """Raise MemoryError, with what would fit, if perceptrons of these sizes do not.

    Parameters
    ----------
    sizes : list of int
        Width of the encoder's input, hidden layers and code; the decoder mirrors them.
    device : device
    linear_path : bool
        Whether the input is principal component scores, not the columns of X.
    n_networks : int
        1 for a decoder alone.
    """
    n_inputs, *hidden, latent_dim = sizes
    needed, available = _bytes_of_layers(sizes, n_networks), free_bytes(device)
    if needed <= available:
        return
    width = 2048
    while width > 1 and _bytes_of_layers([n_inputs, width, latent_dim], n_networks) > available:
        width //= 2
    fitting = _bytes_of_layers([n_inputs, width, latent_dim], n_networks)
    inputs, advice = "principal component scores", ""
    if not linear_path:
        inputs = "columns"
        advice = ", and linear_path=True trains on principal component scores and needs none of it"
    raise MemoryError(
        f"hidden_layer_sizes={tuple(hidden)} and latent_dim={latent_dim} on {n_inputs} {inputs} "
        f"need {_gigabytes(needed)} to train, but {_gigabytes(available)} are available: "
        f"hidden_layer_sizes=({width},) needs {_gigabytes(fitting)}{advice}."
    )


def refuse_too_large_module(build, parameters, device):
    """Raise MemoryError if training what ``build`` makes needs more than there is.

    Parameters
    ----------
    build : callable
        Makes the module; run without memory.
    parameters : dict
        What its size follows from, by name.
    device : device
    """
    needed, available = bytes_to_train(build), free_bytes(device)
    if needed > available:
        given = ", ".join(f"{name}={value!r}" for name, value in parameters.items())
        raise MemoryError(
            f"{given} need {_gigabytes(needed)} to train, but {_gigabytes(available)} are "
            f"available."
        )


def _gigabytes(n_bytes):
    return f"{n_bytes / 1e9:,.1f} GB"


def _bytes_of_layers(sizes, n_networks):
    """What training perceptrons of these sizes, mirrored or not, takes."""
    return n_networks * bytes_to_train(lambda: perceptron(sizes, "relu"))
