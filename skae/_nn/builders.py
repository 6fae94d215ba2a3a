"""Networks that the parameters name, custom networks, and whether they fit into memory."""

from collections.abc import Callable
from copy import deepcopy
from threading import Lock

import torch
from torch import nn

from .._runtime.device import free_bytes
from .autoencoders import PlainAutoencoder, VariationalAutoencoder
from .layers import Dropout, Gain, perceptron
from .penalties import ContractivePenalty, SparsityPenalty

PENALTIES = {"l1": SparsityPenalty, "contractive": ContractivePenalty}


def plain_autoencoder(latent_dim, encoder, decoder, loss, activation, penalty, alpha):
    """A `PlainAutoencoder`, with a penalty of `PENALTIES`, or "variational", or None."""
    if penalty == "variational":
        return VariationalAutoencoder(
            alpha, latent_dim, encoder, decoder, loss, activation=activation
        )
    module = PlainAutoencoder(latent_dim, encoder, decoder, loss, activation=activation)
    if penalty is not None:
        module.penalties.append(PENALTIES[penalty](alpha))
    return module


# torch's own layers draw their weights from what the whole process shares: one at a time.
_LOCK = Lock()


def custom_network(given, name, inputs, outputs, seed, *, with_gain, one_row=False):
    """A copy of the module that was given, or what the function that was given makes.

    Parameters
    ----------
    given : Module or callable
        A callable is called with ``inputs`` and ``outputs``, and its random weights have ``seed``.
    name : str
        The parameter that it is the value of.
    inputs, outputs : int or tuple of int
        Shape of one row of what it takes and returns.
    seed : int
    with_gain : bool
        Whether a `Gain` follows, so that it can start at zero.
    one_row : bool, default=False
        Whether it will be trained on single rows.
    """
    if isinstance(given, nn.Module):
        network = deepcopy(given)
    else:
        network = _made(given, name, inputs, outputs, seed)
    _check_shapes(network, name, *(_shape(sizes) for sizes in (inputs, outputs)))
    if one_row:
        check_one_row(network, name, inputs, "batch_size=1")
    network = _with_own_dropout(network).float()
    return nn.Sequential(network, Gain(outputs)) if with_gain else network


def _made(given, name, inputs, outputs, seed):
    """What the function that was given makes."""
    with _LOCK, torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        try:
            network = given(inputs, outputs)
        except (RuntimeError, TypeError, ValueError) as error:
            raise ValueError(
                f"{name} must be a torch.nn.Module or make one when it is called with "
                f"({inputs}, {outputs}), but {given!r} fails: {error}"
            ) from error
    if not isinstance(network, nn.Module):
        raise ValueError(f"{name} must make a torch.nn.Module, got {type(network).__name__}.")
    return network


def _shape(sizes):
    return (sizes,) if isinstance(sizes, int) else tuple(sizes)


def _check_shapes(network, name, inputs, outputs):
    """Raise ValueError if two rows of zeros do not go through as they should."""
    expected = f"{name} must turn rows of shape {inputs} into rows of shape {outputs}"
    try:
        with torch.inference_mode():
            rows = torch.zeros(2, *inputs, dtype=torch.float32)
            result = network.float().cpu().eval()(rows)
    except (RuntimeError, ValueError, TypeError) as error:
        raise ValueError(f"{expected}, but fails on the former: {error}") from error
    found = getattr(result, "shape", type(result).__name__)
    if found != (2, *outputs):
        found = tuple(found[1:]) if isinstance(found, torch.Size) else found
        raise ValueError(f"{expected}, but returns {found}.")


def check_one_row(network, name, inputs, cause):
    """Raise ValueError if the network cannot be trained on one row, as with batch normalisation.

    Parameters
    ----------
    network : Module
    name : str
        The parameter that it is the value of.
    inputs : int or tuple of int
        Shape of one row.
    cause : str
        What the sentence names as the reason for training on one row.
    """
    try:
        with _LOCK, torch.random.fork_rng(devices=[]), torch.no_grad():
            deepcopy(network).train()(torch.zeros(1, *_shape(inputs)))
    except (RuntimeError, ValueError) as error:
        raise ValueError(
            f"{cause} is too small for {name}, which cannot be trained on one row: {error}"
        ) from error


def _with_own_dropout(network):
    """The network with every `torch.nn.Dropout` replaced by one with a generator of its own."""
    if type(network) is nn.Dropout:
        return Dropout(network.p)
    for name, child in network.named_children():
        setattr(network, name, _with_own_dropout(child))
    return network


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
