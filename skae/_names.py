"""Parameters by the names that other libraries have for them: which of ours is meant."""

from collections.abc import Callable, Iterable
from difflib import get_close_matches
from functools import wraps
from inspect import signature
from typing import Any, ParamSpec, Self

P = ParamSpec("P")

_OURS = {
    "latent_dim": (
        "n_components",
        "code_size",
        "embedding_dim",
        "encoding_dim",
        "latent_size",
        "n_latent",
    ),
    "hidden_layer_sizes": (
        "hidden_dim",
        "hidden_dims",
        "hidden_layers",
        "hidden_size",
        "hidden_sizes",
        "hidden_units",
        "hidden_neurons",
        "layer_sizes",
        "n_hidden",
        "n_layers",
    ),
    "max_epochs": ("epochs", "epoch_num", "max_iter", "n_epochs", "num_epochs"),
    "learning_rate": ("eta0", "learning_rate_init", "lr"),
    "weight_decay": ("l2", "l2_regularizer"),
    "n_iter_no_change": ("patience",),
    "validation_fraction": ("validation_size", "validation_split", "val_split"),
    "loss": ("criterion", "loss_fn", "loss_function"),
    "activation": ("activation_function", "hidden_activation", "hidden_activation_name"),
    "corruption": ("masking", "masking_fraction"),
    "noise": ("noise_level", "noise_std"),
    "random_state": ("seed",),
    "channels": ("filters", "n_channels", "n_filters"),
    "input_shape": ("image_shape", "image_size"),
}
_NOT_NEEDED = {
    **dict.fromkeys(
        ("svd_solver", "algorithm"),
        "the shape of X decides how the principal directions are found",
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
    **dict.fromkeys(("optimizer", "solver"), "networks are trained by AdamW"),
    **dict.fromkeys(("dropout", "dropout_rate"), "it follows from the number of rows"),
    "shuffle": "rows are in another order in every epoch",
    "n_jobs": "torch.set_num_threads says how many threads are used",
}
_MEANT = {other: ours for ours, others in _OURS.items() for other in others}


def naming_ours(init: Callable[P, None]) -> Callable[P, None]:
    """Let a constructor refuse a name that it does not have with a sentence; its signature stays.

    scikit-learn reads parameters from the signature, so that it must not hold ``**kwargs``.
    """
    known = set(signature(init).parameters) - {"self"}

    @wraps(init)
    def __init__(*args: P.args, **kwargs: P.kwargs) -> None:  # noqa: N807
        sentence = unknown_names(type(args[0]).__name__, kwargs, known)
        if sentence:
            raise TypeError(sentence)
        init(*args, **kwargs)

    return __init__


class OurNamesMixin:
    """`set_params` that refuses other names likewise, for estimators of scikit-learn."""

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
    """Sentences about the names that are not known; empty if all are.

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
    ours: Any = _MEANT.get(name)
    if ours in known:
        return f": it is called {ours} here."
    if name in _NOT_NEEDED:
        return f" and needs none: {_NOT_NEEDED[name]}."
    close = get_close_matches(name, known, n=1, cutoff=0.75)
    if close:
        return f": did you mean {close[0]}?"
    return f"; its parameters are {', '.join(known)}."
