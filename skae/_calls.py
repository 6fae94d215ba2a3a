"""Public calls: in neutral surroundings, on one state of the estimator, one thread an operation."""

from collections.abc import Callable
from copy import copy
from functools import wraps
from typing import Concatenate, ParamSpec, TypeVar

from ._device import explaining_lack_of_memory
from ._environment import neutral_surroundings
from ._threads import one_thread_each

P = ParamSpec("P")
T = TypeVar("T")
S = TypeVar("S")


def in_neutral_surroundings(function: Callable[P, T]) -> Callable[P, T]:
    """A public function that gives the same whatever is set around its call.

    Each of its operations runs in one thread; `_threads` divides what is large.
    """

    @wraps(function)
    def neutral(*args: P.args, **kwargs: P.kwargs) -> T:
        with neutral_surroundings(), one_thread_each():
            return function(*args, **kwargs)

    return neutral


def on_one_state(method: Callable[Concatenate[S, P], T]) -> Callable[Concatenate[S, P], T]:
    """A public method that works on the estimator as it is when the call begins.

    In another thread it may be fitted anew meanwhile. The surroundings are neutral, and a device
    without room gets a sentence.
    """

    @wraps(method)
    def steady(self: S, *args: P.args, **kwargs: P.kwargs) -> T:
        state = copy(self)
        with (
            neutral_surroundings(),
            one_thread_each(),
            explaining_lack_of_memory(method.__name__, state.device),
        ):
            return method(state, *args, **kwargs)

    return steady
