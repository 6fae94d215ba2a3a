"""Checks of parameters, alone and in combination; names that other libraries use for them."""

from collections.abc import Callable, Iterable
from contextlib import contextmanager
from difflib import get_close_matches
from functools import wraps
from inspect import signature
from numbers import Integral, Real
from os import PathLike
from typing import Any, ParamSpec, Self, TypeVar

import numpy as np
import torch
from sklearn.utils import check_random_state, metaestimators
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from skorch.callbacks import Callback

from .._nn.layers import ACTIVATIONS
from .._nn.losses import LOSSES
from .._nn.penalties import PENALTIES
from .._version import DOCUMENTATION
from .auto import LARGEST, as_python_number


class DocumentedMixin:
    """Links scikit-learn's HTML diagram to the API reference; a base before BaseEstimator."""

    _doc_link_module = "skae"
    # Without an anchor, since scikit-learn appends "#:~:text=..." to link single parameters.
    _doc_link_template = (
        f"{DOCUMENTATION}/en/stable/api/{{estimator_module}}.{{estimator_name}}.html"
    )


def random_state_of(given):
    """A `RandomState`; fresh entropy for None.

    For scikit-learn None is NumPy's global generator, which would be advanced.
    """
    return check_random_state(np.random.RandomState() if given is None else given)


P = ParamSpec("P")

M = TypeVar("M", bound=Callable[..., Any])


def available_if(check: Callable[[Any], bool]) -> Callable[[M], M]:
    """Decorate a method that an estimator has only if the check of it returns True.

    It is scikit-learn's decorator, with types, so that calls of the method have theirs.
    """
    return metaestimators.available_if(check)


# Names of parameters here, and of the same parameters in Keras, PyOD, skorch, UMAP and others.
_OTHER_NAMES = {
    "latent_dim": "bottleneck_dim bottleneck_size code_dim code_size embedding_dim embedding_size "
    "encoding_dim encoding_size latent latent_features latent_size latents n_components n_factors "
    "n_latent n_latents nz z_dim z_dims z_size",
    "hidden_layer_sizes": "decoder_neuron_list decoder_neurons encoder_neuron_list encoder_neurons "
    "hidden_dim hidden_dims hidden_layers hidden_neuron_list hidden_neurons hidden_size "
    "hidden_sizes hidden_units layer_sizes layers n_hidden n_layers units",
    "max_epochs": "epoch_num epochs max_iter n_epochs n_training_epochs nb_epoch num_epochs",
    "batch_size": "batch bs minibatch_size train_batch_size",
    "learning_rate": "eta0 learning_rate_init lr",
    "weight_decay": "l2 l2_reg l2_regularizer",
    "alpha": "alpha_l1 beta beta_kl kl_beta kl_weight l1_weight lambda_",
    "penalty": "activity_regularizer l1 regularizer sparsity",
    "validation_fraction": "test_size val_fraction val_size val_split validation_size "
    "validation_split",
    "loss": "criterion loss_fn loss_func loss_function objective reconstruction_loss",
    "activation": "act activation_fn activation_function hidden_activation hidden_activation_name",
    "output_activation": "final_activation last_activation output_activation_name",
    "corruption": "corruption_level mask_ratio masking masking_fraction",
    "noise": "gaussian_noise noise_factor noise_level noise_scale noise_sd noise_std",
    "random_state": "manual_seed random_seed seed",
    "device": "accelerator cuda gpu use_cuda use_gpu",
    "channels": "conv_filters filters hidden_channels n_channels n_filters num_filters",
    "input_shape": "image_shape image_size img_size",
    "kernel_size": "filter_size kernel",
    "encoder": "encoder_net encoder_network module__encoder",
    "decoder": "decoder_net decoder_network module__decoder",
    "precision": "amp dtype fp16 mixed_precision",
    "tol": "tolerance",
    "verbose": "progress_bar verbosity",
    "contamination": "nu outlier_fraction outliers_fraction",
    "estimator": "autoencoder base_estimator detector",
}

# Parameters of other libraries that have no counterpart, and why.
_NOT_NEEDED = {
    **dict.fromkeys(
        ("svd_solver", "algorithm"),
        "the solver for the principal directions follows from the shape of X",
    ),
    **dict.fromkeys(
        ("iterated_power", "n_oversamples", "power_iteration_normalizer"),
        "the principal directions are found to a tolerance, not in a given number of iterations",
    ),
    "n_iter": (
        "the principal directions are found to a tolerance; the number of epochs is called "
        "max_epochs"
    ),
    "copy": "X is never changed",
    **dict.fromkeys(
        ("input_dim", "input_size", "n_features", "n_inputs"), "it is read from X in fit"
    ),
    **dict.fromkeys(
        ("optimizer", "solver", "momentum", "betas", "eps", "scheduler", "lr_scheduler"),
        "networks are trained by AdamW at a constant rate",
    ),
    **dict.fromkeys(
        ("dropout", "dropout_rate", "dropout_p"),
        "training ends before networks overfit; what masks inputs is called corruption here",
    ),
    **dict.fromkeys(
        ("metric", "min_dist", "n_neighbors", "perplexity"),
        "nothing is computed from the neighbours of rows",
    ),
    "threshold": "AnomalyDetector finds it, offset_, from the contamination",
    "contamination": "AnomalyDetector has it",
    **dict.fromkeys(
        ("preprocessing", "center", "normalize", "scale", "standardize"),
        "a StandardScaler comes before the autoencoder in a pipeline",
    ),
    **dict.fromkeys(("batch_norm", "batchnorm", "bn"), "the networks have no such layers"),
    "shuffle": "every epoch takes the rows in another random order",
    **dict.fromkeys(
        ("patience", "n_iter_no_change", "min_delta"),
        "validation rows decide when training ends: see tol",
    ),
    **dict.fromkeys(
        ("n_jobs", "num_workers", "n_threads"),
        "the number of threads is set by torch.set_num_threads",
    ),
}

_NAME_HERE = {other: here for here, others in _OTHER_NAMES.items() for other in others.split()}


def with_name_hints(init: Callable[P, None]) -> Callable[P, None]:
    """Make a constructor raise with the right name for a parameter that it does not have.

    The signature does not change: scikit-learn reads parameters from it, and forbids ``**kwargs``.
    """
    known = set(signature(init).parameters) - {"self"}

    @wraps(init)
    def __init__(*args: P.args, **kwargs: P.kwargs) -> None:  # noqa: N807
        sentence = unknown_names(type(args[0]).__name__, kwargs, known)
        if sentence:
            raise TypeError(sentence)
        init(*args, **kwargs)

    return __init__


class NameHintsMixin:
    """`set_params` that raises likewise, for estimators of scikit-learn."""

    def set_params(self, **params: Any) -> Self:
        """Set parameters.

        Parameters
        ----------
        **params : dict
            Parameters by name.

        Returns
        -------
        self : object
            The estimator.
        """
        names = (name for name in params if "__" not in name)
        sentence = unknown_names(type(self).__name__, names, self.get_params(deep=False))
        if sentence:
            raise ValueError(sentence)
        return super().set_params(**params)


def unknown_names(owner: str, names: Iterable[str], known: Iterable[str]) -> str:
    """Sentences that explain the unknown names; empty if there are none.

    Examples
    --------
    >>> unknown_names("Model", ["n_components"], ["latent_dim"])
    'Model has no parameter n_components: it is called latent_dim here.'
    >>> unknown_names("Model", ["latent_dims"], ["latent_dim"])
    'Model has no parameter latent_dims: did you mean latent_dim?'
    """
    known = sorted(known)
    return " ".join(
        f"{owner} has no parameter {name}{_explained(name, known)}"
        for name in names
        if name not in known
    )


def _explained(name: str, known: list[str]) -> str:
    name_here: Any = _NAME_HERE.get(name)
    if name_here in known:
        return f": it is called {name_here} here."
    if "estimator" in known and (name_here or name in CONSTRAINTS):
        own = name_here or name
        return f": {own} is one of the autoencoder, estimator=DenseAutoencoder({own}=...)."
    if name in _NOT_NEEDED:
        return f" and needs none: {_NOT_NEEDED[name]}."
    close = get_close_matches(name, known, n=1, cutoff=0.75)
    if close:
        return f": did you mean {close[0]}?"
    return f"; its parameters are {', '.join(known)}."


# Inputs of networks are at most a few standard deviations: more noise than this hides X.
_LARGEST_NOISE = 1000

# Beyond this float32 overflows, or training stops at once.
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
    "loss": [StrOptions(LOSSES.keys())],
    "encoder": [torch.nn.Module, callable, None],
    "decoder": [torch.nn.Module, callable, None],
    "truncations": ["array-like", StrOptions({"auto"}), None],
    "penalty": [StrOptions({*PENALTIES, "variational"}), None],
    "alpha": [_FACTOR],
    "supervision": [_FACTOR],
    "fit_inverse_transform": ["boolean"],
    "whiten": ["boolean", Interval(Real, 0, 1, closed="both")],
    "corruption": [Interval(Real, 0, 1, closed="left"), StrOptions({"auto"})],
    "noise": [Interval(Real, 0, _LARGEST_NOISE, closed="both")],
    "missing_values": ["nan", None],
    "max_epochs": [_COUNT, StrOptions({"auto"})],
    "batch_size": [_COUNT, StrOptions({"auto"})],
    "learning_rate": [Interval(Real, 0, _LARGEST_FACTOR, closed="right"), StrOptions({"auto"})],
    "weight_decay": [_FACTOR],
    "early_stopping": ["boolean"],
    "validation_fraction": [Interval(Real, 0, 1, closed="neither"), StrOptions({"auto"})],
    "tol": [_FACTOR],
    "device": [str, torch.device],
    "precision": [StrOptions({"auto", "float32", "bfloat16"})],
    "warm_start": ["boolean"],
    "checkpoint": [str, PathLike, None],
    "memory": [str, PathLike, HasMethods(["cache"]), None],
    "callbacks": [list, tuple, None],
    "random_state": ["random_state"],
    "verbose": ["verbose"],
}


@contextmanager
def python_numbers(estimator):
    """Convert NumPy scalars among the parameters to Python numbers for the time of the context.

    A np.uint8 overflows where an int does not, and torch refuses most NumPy scalars.
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


def check_folders(estimator):
    """Raise ValueError for an empty name, which would be the working directory."""
    for name in ("checkpoint", "memory"):
        given = getattr(estimator, name)
        if isinstance(given, str) and not given:
            raise ValueError(f"{name}='' must be the name of a folder, or None.")


def check_callbacks(callbacks):
    """Raise ValueError for anything but skorch callbacks."""
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
