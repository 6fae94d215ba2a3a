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
    with torch.device("meta"):
        module = build()
    return _BYTES_PER_WEIGHT * sum(weight.numel() for weight in module.parameters())


def refuse_too_large(sizes, device):
    """Raise MemoryError, with what would fit, if the plain network of these sizes does not."""
    n_features, *hidden, latent_dim = sizes
    needed, available = _bytes_of_layers(sizes), free_bytes(device)
    if needed <= available:
        return
    width = 2048
    while width > 1 and _bytes_of_layers([n_features, width, latent_dim]) > available:
        width //= 2
    fitting = _bytes_of_layers([n_features, width, latent_dim])
    raise MemoryError(
        f"hidden_layer_sizes={tuple(hidden)} on {n_features} columns needs {needed / 1e9:.1f} GB "
        f"to train, but {available / 1e9:.1f} GB are available: hidden_layer_sizes=({width},) "
        f"needs {fitting / 1e9:.1f} GB, and linear_path=True trains on principal component scores "
        f"and needs none of it."
    )


def _bytes_of_layers(sizes):
    """What training a plain network of these sizes, and its mirror image, takes."""
    return bytes_to_train(lambda: nn.ModuleList([perceptron(sizes, "relu") for _ in range(2)]))
