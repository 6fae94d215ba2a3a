"""The parameters that every autoencoder has: what they may be, and what "auto" and None mean."""

from contextlib import contextmanager
from numbers import Integral, Real
from os import PathLike

import numpy as np
import torch
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from skorch.callbacks import Callback

from . import _defaults
from ._device import multiplies_bfloat16
from ._forms import PENALTIES
from ._gate import LONGEST_NONLINEAR_CODE
from ._losses import LOSSES, LOSSES_WITH_LINK
from ._modules import ACTIVATIONS
from ._ordered import powers_of_two
from ._parallel import n_processes
from ._training import TrainingOptions
from ._variational import LIKELIHOODS

# More than any count of rows, columns, units or epochs; above it torch overflows.
LARGEST = 2**31 - 1

# Networks see entries of at most a few standard deviations: more noise than this hides X.
_MOST_NOISE = 1000

# Beyond this float32 overflows, or training ends at once.
_LARGEST_FACTOR = 1e6

_COUNT = Interval(Integral, 1, LARGEST, closed="both")
_FACTOR = Interval(Real, 0, _LARGEST_FACTOR, closed="both")

CONSTRAINTS = {
    "hidden_layer_sizes": [
        _COUNT,
        "array-like",
        StrOptions({"auto"}),
    ],
    "latent_dim": [
        _COUNT,
        Interval(Real, 0, 1, closed="neither"),
        None,
    ],
    "activation": [StrOptions(ACTIVATIONS.keys())],
    "linear_path": ["boolean", StrOptions({"auto"})],
    "output_activation": [StrOptions(ACTIVATIONS.keys()), None],
    "loss": [StrOptions(set(LOSSES))],
    "encoder": [torch.nn.Module, callable, None],
    "decoder": [torch.nn.Module, callable, None],
    "truncations": ["array-like", StrOptions({"auto"}), None],
    "penalty": [StrOptions({*PENALTIES, "variational"}), None],
    "alpha": [_FACTOR],
    "whiten": ["boolean"],
    "corruption": [Interval(Real, 0, 1, closed="left"), StrOptions({"auto"})],
    "noise": [Interval(Real, 0, _MOST_NOISE, closed="both")],
    "max_epochs": [_COUNT, StrOptions({"auto"})],
    "batch_size": [_COUNT, StrOptions({"auto"})],
    "learning_rate": [Interval(Real, 0, _LARGEST_FACTOR, closed="right"), StrOptions({"auto"})],
    "weight_decay": [_FACTOR],
    "early_stopping": ["boolean"],
    "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
    "n_iter_no_change": [_COUNT],
    "tol": [_FACTOR],
    "device": [str, torch.device],
    "precision": [StrOptions({"auto", "float32", "bfloat16"})],
    "warm_start": ["boolean"],
    "checkpoint": [str, PathLike, None],
    "memory": [str, HasMethods(["cache"]), None],
    "callbacks": [list, tuple, None],
    "random_state": ["random_state"],
    "verbose": ["verbose"],
}


def as_python_number(value):
    """A NumPy scalar, an array without axes or a fraction as Python's own number; else the value.

    Examples
    --------
    >>> import numpy as np
    >>> as_python_number(np.uint8(4)), as_python_number(np.array(0.5)), as_python_number("auto")
    (4, 0.5, 'auto')
    """
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value[()]
    if isinstance(value, np.bool_):
        return bool(value)
    if isinstance(value, Integral) and not isinstance(value, int):
        return int(value)
    if isinstance(value, Real) and type(value) not in (bool, int, float):
        return float(value)
    return value


@contextmanager
def python_numbers(estimator):
    """Let the parameters of an estimator be Python's own numbers in here.

    A np.uint8 overflows where an int does not, and torch refuses most of NumPy's numbers.
    """
    given = {
        name: value
        for name, value in estimator.get_params(deep=False).items()
        if as_python_number(value) is not value
    }
    vars(estimator).update({name: as_python_number(value) for name, value in given.items()})
    try:
        yield
    finally:
        vars(estimator).update(given)


def resolve_linear_path(estimator):
    """Whether codes start from PCA's; "auto": where the loss is the one that PCA minimizes."""
    if not isinstance(estimator.linear_path, str):
        return bool(estimator.linear_path)
    return (
        estimator.loss == "mse"
        and estimator.penalty is None
        and estimator.output_activation is None
    )


def resolve_latent_dim(wanted, linear_path, n_samples, n_features):
    """The length of the code."""
    if wanted is None:
        return min(32, n_samples, n_features)
    if linear_path and wanted > min(n_samples, n_features):
        raise ValueError(
            f"latent_dim={wanted} must be at most min(n_samples={n_samples}, "
            f"n_features={n_features}) = {min(n_samples, n_features)}, as in PCA, from which "
            f"the code starts; with linear_path=False it may have any length."
        )
    return int(wanted)


def resolve_hidden_layer_sizes(sizes, auto):
    """A tuple of integers; ``auto`` for "auto"."""
    if isinstance(sizes, str):  # "auto"
        return auto
    sizes = (sizes,) if isinstance(sizes, Integral) else sizes
    return positive_integers(sizes, "hidden_layer_sizes")


def resolve_truncations(wanted, latent_dim):
    """The lengths that codes may be cut to, in order."""
    if wanted is None:
        return ()
    if isinstance(wanted, str):  # "auto"
        return powers_of_two(latent_dim)
    lengths = tuple(sorted(set(positive_integers(wanted, "truncations"))))
    if lengths and lengths[-1] >= latent_dim:
        raise ValueError(
            f"truncations={wanted!r} must be shorter than the code, which has {latent_dim} numbers."
        )
    return lengths


def positive_integers(sizes, name):
    """The value of a parameter that takes a tuple of positive integers."""
    given, sizes = sizes, np.atleast_1d(np.asarray(sizes, dtype=object))
    sizes = tuple(map(as_python_number, sizes))
    if not all(isinstance(size, Integral) and 0 < size <= LARGEST for size in sizes):
        raise ValueError(
            f"{name}={given!r} must be a tuple of positive integers, of {LARGEST} at most."
        )
    return sizes


def check_folders(estimator):
    """Raise ValueError for an empty name: it would be the folder that the program runs in."""
    for name in ("checkpoint", "memory"):
        given = getattr(estimator, name)
        if isinstance(given, str) and not given:
            raise ValueError(f"{name}='' must be the name of a folder, or None.")


def check_callbacks(callbacks):
    """Raise ValueError for anything that skorch does not call."""
    for given in callbacks or ():
        callback = given
        if isinstance(given, tuple) and len(given) == 2 and isinstance(given[0], str):
            callback = given[1]
        kind = callback if isinstance(callback, type) else type(callback)
        if not issubclass(kind, Callback):
            raise ValueError(
                f"callbacks must be a list of skorch.callbacks.Callback objects, got {given!r} "
                f"in it."
            )


def check_combinations(estimator):
    """Refuse parameters that are sound alone and not together."""
    linear_path = resolve_linear_path(estimator)
    if estimator.output_activation is not None and linear_path:
        raise ValueError(
            f"output_activation={estimator.output_activation!r} needs linear_path=False: with the "
            f"linear path the output is a sum that starts from PCA's."
        )
    if estimator.loss != "mse" and linear_path:
        raise ValueError(
            f"loss={estimator.loss!r} needs linear_path=False: principal components are those of "
            f"the squared error, loss='mse'."
        )
    if estimator.penalty is not None and linear_path:
        raise ValueError(
            f"penalty={estimator.penalty!r} needs linear_path=False: PCA's part of a code cannot "
            f"follow it."
        )
    if estimator.penalty == "variational" and estimator.loss not in LIKELIHOODS:
        raise ValueError(
            f"penalty='variational' needs a loss that is a likelihood, one of "
            f"{', '.join(sorted(LIKELIHOODS))}, got loss={estimator.loss!r}."
        )
    if estimator.penalty == "contractive" and estimator.batch_size == 1:
        raise ValueError(
            "penalty='contractive' needs batch_size of at least 2, got 1: it measures each code by "
            "its deviation in the batch."
        )
    if estimator.encoder is not None and linear_path:
        latent_dim = estimator.latent_dim or 0
        if latent_dim > LONGEST_NONLINEAR_CODE:
            raise ValueError(
                f"encoder needs latent_dim <= {LONGEST_NONLINEAR_CODE} with the linear path, got "
                f"{latent_dim}: beyond that PCA's code is kept, and only a decoder is trained."
            )
    if estimator.output_activation is not None and estimator.loss in LOSSES_WITH_LINK:
        raise ValueError(
            f"output_activation={estimator.output_activation!r} needs another loss than "
            f"{estimator.loss!r}, which has a range of its own."
        )
    if estimator.checkpoint is not None and estimator.warm_start:
        raise ValueError(
            f"checkpoint={str(estimator.checkpoint)!r} needs warm_start=False: a call that "
            f"starts from fitted weights is not the same call again."
        )
    if n_processes() > 1 and not isinstance(estimator.random_state, Integral):
        raise ValueError(
            f"random_state={estimator.random_state!r} must be an integer where {n_processes()} "
            f"processes share a fit: all have to do the same."
        )
    if n_processes() > 1 and estimator.checkpoint is not None:
        raise ValueError(
            f"checkpoint={str(estimator.checkpoint)!r} needs a fit of one process, not of "
            f"{n_processes()}."
        )
    if estimator.checkpoint is not None and not isinstance(estimator.random_state, Integral):
        raise ValueError(
            f"checkpoint={str(estimator.checkpoint)!r} needs an integer random_state, not "
            f"{estimator.random_state!r}: only then does the same call do the same again."
        )


def training_options(estimator, schedule, n_samples, device):
    """The parameters of training, with every "auto" resolved.

    Parameters
    ----------
    estimator : BaseAutoencoder
    schedule : tuple
        Steps, fewest epochs, largest batch and highest learning rate that "auto" means.
    n_samples : int
    device : torch.device
    """
    n_steps, fewest_epochs, largest_batch, auto_rate = schedule
    n_fitted = max(1, int(n_samples * (1 - estimator.validation_fraction)))
    batch_size, max_epochs = estimator.batch_size, estimator.max_epochs
    learning_rate, precision = estimator.learning_rate, estimator.precision
    if batch_size == "auto":
        batch_size = _defaults.batch_size(n_fitted, largest_batch)
    if max_epochs == "auto":
        max_epochs = _defaults.max_epochs(n_fitted, batch_size, n_steps, fewest_epochs)
    return TrainingOptions(
        loss=LOSSES[estimator.loss],
        max_epochs=max_epochs,
        batch_size=batch_size,
        learning_rate=auto_rate if learning_rate == "auto" else learning_rate,
        weight_decay=estimator.weight_decay,
        early_stopping=estimator.early_stopping,
        n_iter_no_change=estimator.n_iter_no_change,
        tol=estimator.tol,
        bfloat16=precision == "bfloat16" or (precision == "auto" and multiplies_bfloat16(device)),
        device=device,
        callbacks=tuple(estimator.callbacks or ()),
        limited=estimator.max_epochs != "auto",
        divisible=estimator.encoder is None and estimator.decoder is None,
    )
