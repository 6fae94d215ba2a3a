"""Which parameters exclude each other: one table, and the sentence for each of its lines."""

from collections.abc import Callable
from dataclasses import dataclass
from numbers import Integral
from os import PathLike
from types import SimpleNamespace
from typing import Any

from .._nn.losses import LOSSES
from .._runtime.process_group import n_processes
from .._training.gate import LONGEST_NONLINEAR_CODE
from .auto import resolve_linear_path


@dataclass(frozen=True)
class Need:
    """What a parameter needs of the others.

    Attributes
    ----------
    parameter : str
        Its name, with which the message starts.
    is_asked : callable
        Whether the values of all parameters ask for it.
    is_met : callable
        Whether these values meet it.
    sentence : str
        What is needed and why; ``{name}`` stands for the value of a parameter.
    """

    parameter: str
    is_asked: Callable[[Any], bool]
    is_met: Callable[[Any], bool]
    sentence: str


def _is_given(name: str) -> Callable[[Any], bool]:
    return lambda values: getattr(values, name) is not None


def _is_plain(values: Any) -> bool:
    return not values.linear_path


def _losses(has: Callable[[Any], bool]) -> str:
    return ", ".join(sorted(name for name, loss in LOSSES.items() if has(loss)))


# What is valid alone and not together. ``linear_path`` is what "auto" stands for here.
NEEDS = [
    Need(
        "output_activation",
        _is_given("output_activation"),
        _is_plain,
        "needs linear_path=False: with the linear path the output is a sum that starts from PCA's",
    ),
    Need(
        "loss",
        lambda values: values.loss != "mse",
        _is_plain,
        "needs linear_path=False: principal components are those of the squared error, loss='mse'",
    ),
    Need(
        "missing_values",
        _is_given("missing_values"),
        lambda values: LOSSES[values.loss].degree,
        "needs a loss of the differences of entries, one of "
        f"{_losses(lambda loss: loss.degree)}, got loss={{loss!r}}",
    ),
    Need(
        "missing_values",
        _is_given("missing_values"),
        lambda values: values.truncations is None,
        "needs truncations=None, got truncations={truncations!r}: shorter codes would be trained "
        "on entries that are missing",
    ),
    Need(
        "penalty",
        _is_given("penalty"),
        _is_plain,
        "needs linear_path=False: it cannot change PCA's part of a code",
    ),
    Need(
        "penalty",
        lambda values: values.penalty == "variational",
        lambda values: LOSSES[values.loss].is_likelihood,
        "needs a loss that is a likelihood, one of "
        f"{_losses(lambda loss: loss.is_likelihood)}, got loss={{loss!r}}",
    ),
    Need(
        "penalty",
        lambda values: values.penalty == "contractive",
        lambda values: values.batch_size != 1,
        "needs batch_size of at least 2, got 1: it divides codes by their standard deviation in "
        "the batch",
    ),
    Need(
        "encoder",
        lambda values: values.encoder is not None and values.linear_path,
        lambda values: (values.latent_dim or 0) <= LONGEST_NONLINEAR_CODE,
        f"needs latent_dim <= {LONGEST_NONLINEAR_CODE} with the linear path, got {{latent_dim}}: "
        f"beyond that PCA's code is kept, and only a decoder is trained",
    ),
    Need(
        "output_activation",
        _is_given("output_activation"),
        lambda values: not LOSSES[values.loss].has_link(),
        "needs another loss than {loss!r}, which determines the range of the output",
    ),
    Need(
        "checkpoint",
        _is_given("checkpoint"),
        lambda values: not values.warm_start,
        "needs warm_start=False: a repeated call would start from other weights",
    ),
    Need(
        "random_state",
        lambda values: values.n_processes > 1,
        lambda values: isinstance(values.random_state, Integral),
        "must be an integer where {n_processes} processes share a fit: all must use the same "
        "random numbers",
    ),
    Need(
        "checkpoint",
        _is_given("checkpoint"),
        lambda values: values.n_processes == 1,
        "needs a fit of one process, not of {n_processes}",
    ),
    Need(
        "checkpoint",
        _is_given("checkpoint"),
        lambda values: isinstance(values.random_state, Integral),
        "needs an integer random_state, not {random_state!r}: only then does the same call give "
        "the same result",
    ),
]


def check_combinations(estimator):
    """Raise ValueError for parameters that are valid alone and not together."""
    # A subclass may take fewer parameters, and set the others itself.
    given = {**estimator.get_params(deep=False), **vars(estimator)}
    values = SimpleNamespace(**given, n_processes=n_processes())
    values.linear_path = resolve_linear_path(estimator)
    for need in NEEDS:
        if need.is_asked(values) and not need.is_met(values):
            given = getattr(values, need.parameter)
            named = need.parameter if callable(given) else f"{need.parameter}={_shown(given)}"
            raise ValueError(f"{named} {need.sentence.format(**vars(values))}.")


def _shown(given):
    if isinstance(given, PathLike):
        given = str(given)
    return "np.nan" if given != given else repr(given)
