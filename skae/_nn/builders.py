"""Plain autoencoders by parameter values, custom networks, and memory checks before training."""

from collections.abc import Callable
from copy import deepcopy
from threading import Lock

import torch
from torch import nn

from .._runtime.device import free_bytes
from .autoencoders import PlainAutoencoder, VariationalAutoencoder
from .layers import Dropout, Gain, perceptron
from .penalties import PENALTIES

# The layers of torch draw initial weights from the global generator: one thread at a time.
_LOCK = Lock()

# Training stores each weight in float32, its gradient and two moments of AdamW.
_BYTES_PER_WEIGHT = 4 * 4


def plain_autoencoder(latent_dim, encoder, decoder, loss, activation, penalty, alpha):
    """A `PlainAutoencoder` with a penalty by its name in `PENALTIES`, "variational" or None."""
    if penalty == "variational":
        return VariationalAutoencoder(
            alpha, latent_dim, encoder, decoder, loss, activation=activation
        )
    module = PlainAutoencoder(latent_dim, encoder, decoder, loss, activation=activation)
    if penalty is not None:
        module.penalties.append(PENALTIES[penalty](alpha))
    return module


def custom_network(custom, name, inputs, outputs, seed, *, with_gain, one_row=False):
    """A copy of the user's module, or the module that the user's callable returns.

    Parameters
    ----------
    custom : Module or callable
        A callable is called with ``inputs`` and ``outputs``; ``seed`` sets its initial weights.
    name : str
        Name of the parameter, for error messages.
    inputs, outputs : int or tuple of int
        Shape of one row of the network's input and output.
    seed : int
    with_gain : bool
        Whether to append a `Gain`, which allows the network to start at zero.
    one_row : bool, default=False
        Whether training batches have a single row.

    Raises
    ------
    ValueError
        If the network does not map rows of one shape to rows of the other.
    """
    if isinstance(custom, nn.Module):
        network = deepcopy(custom)
    else:
        network = _call(custom, name, inputs, outputs, seed)
    _check_shapes(network, name, *(_as_tuple(sizes) for sizes in (inputs, outputs)))
    if one_row:
        check_one_row(network, name, inputs, "batch_size=1")
    network = _with_seeded_dropout(network).float()
    return nn.Sequential(network, Gain(outputs)) if with_gain else network


def check_one_row(network, name, inputs, cause):
    """Raise ValueError if the network cannot be trained on one row, as with batch normalisation.

    Parameters
    ----------
    network : Module
    name : str
        Name of the parameter, for the error message.
    inputs : int or tuple of int
        Shape of one row.
    cause : str
        The reason for training on one row, for the error message.
    """
    try:
        with _LOCK, torch.random.fork_rng(devices=[]), torch.no_grad():
            deepcopy(network).train()(torch.zeros(1, *_as_tuple(inputs)))
    except (RuntimeError, ValueError) as error:
        raise ValueError(
            f"{cause} is too small for {name}, which cannot be trained on one row: {error}"
        ) from error


def check_perceptron_memory(sizes, device, *, linear_path, n_networks=2):
    """Raise MemoryError if training perceptrons of these sizes needs too much memory.

    The message names a size that fits.

    Parameters
    ----------
    sizes : list of int
        Width of the encoder's input, hidden layers and code; the decoder mirrors them.
    device : device
    linear_path : bool
        Whether the input is principal component scores instead of the columns of X.
    n_networks : int
        1 for a decoder alone.
    """
    n_inputs, *hidden, latent_dim = sizes
    needed, available = _perceptron_bytes(sizes, n_networks), free_bytes(device)
    if needed <= available:
        return
    width = 2048
    while width > 1 and _perceptron_bytes([n_inputs, width, latent_dim], n_networks) > available:
        width //= 2
    fitting = _perceptron_bytes([n_inputs, width, latent_dim], n_networks)
    inputs, advice = "principal component scores", ""
    if not linear_path:
        inputs = "columns"
        advice = ", and linear_path=True trains on principal component scores and needs none of it"
    raise MemoryError(
        f"hidden_layer_sizes={tuple(hidden)} and latent_dim={latent_dim} on {n_inputs} {inputs} "
        f"need {_gigabytes(needed)} to train, but {_gigabytes(available)} are available: "
        f"hidden_layer_sizes=({width},) needs {_gigabytes(fitting)}{advice}."
    )


def check_module_memory(build, parameters, device):
    """Raise MemoryError if training the module that ``build`` returns needs too much memory.

    Parameters
    ----------
    build : callable
        Returns the module; called without allocating memory.
    parameters : dict
        Parameters that determine the module's size, for the error message.
    device : device
    """
    needed, available = _training_bytes(build), free_bytes(device)
    if needed > available:
        values = ", ".join(f"{name}={value!r}" for name, value in parameters.items())
        raise MemoryError(
            f"{values} need {_gigabytes(needed)} to train, but {_gigabytes(available)} are "
            f"available."
        )


def _call(make, name, inputs, outputs, seed):
    """The network that the user's callable returns."""
    with _LOCK, torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        try:
            network = make(inputs, outputs)
        except (RuntimeError, TypeError, ValueError) as error:
            raise ValueError(
                f"{name} must be a torch.nn.Module or make one when it is called with "
                f"({inputs}, {outputs}), but {make!r} fails: {error}"
            ) from error
    if not isinstance(network, nn.Module):
        raise ValueError(f"{name} must make a torch.nn.Module, got {type(network).__name__}.")
    return network


def _check_shapes(network, name, inputs, outputs):
    """Raise ValueError unless two rows of zeros give an output of the expected shape."""
    expected = f"{name} must turn rows of shape {inputs} into rows of shape {outputs}"
    try:
        with torch.inference_mode():
            rows = torch.zeros(2, *inputs, dtype=torch.float32)
            result = network.float().cpu().eval()(rows)
    except (RuntimeError, ValueError, TypeError) as error:
        raise ValueError(f"{expected}, but fails on such rows: {error}") from error
    found = getattr(result, "shape", type(result).__name__)
    if found != (2, *outputs):
        found = tuple(found[1:]) if isinstance(found, torch.Size) else found
        raise ValueError(f"{expected}, but returns {found}.")


def _as_tuple(sizes):
    return (sizes,) if isinstance(sizes, int) else tuple(sizes)


def _with_seeded_dropout(network):
    """The network with each `torch.nn.Dropout` replaced by a `Dropout` with its own generator."""
    if type(network) is nn.Dropout:
        return Dropout(network.p)
    for name, child in network.named_children():
        setattr(network, name, _with_seeded_dropout(child))
    return network


def _perceptron_bytes(sizes, n_networks):
    """Bytes that training one perceptron of these sizes, or two mirrored ones, needs."""
    return n_networks * _training_bytes(lambda: perceptron(sizes, "relu"))


def _training_bytes(build: Callable[[], nn.Module]) -> int:
    """Bytes that training the module needs without its batches; ``build`` allocates no memory."""
    try:
        with torch.device("meta"):
            module = build()
    except RuntimeError:  # the number of weights overflows torch's integers
        return float("inf")
    return _BYTES_PER_WEIGHT * sum(weight.numel() for weight in module.parameters())


def _gigabytes(n_bytes):
    return f"{n_bytes / 1e9:,.1f} GB"
