"""The range of the values of X: what can be computed with, and what a network can reconstruct."""

import warnings

import numpy as np
import scipy.sparse as sp

from .arrays import is_tensor

# Networks are trained in float32, in which sums of larger values may overflow. Squares in float64
# vanish where all values are smaller than the second.
_LARGEST, _SMALLEST = 1e32, 1e-160

# Smallest and largest values of output activations that have a bound.
_OUTPUT_RANGES = {
    "sigmoid": (0, 1),
    "tanh": (-1, 1),
    "relu": (0, np.inf),
    "softplus": (0, np.inf),
    "elu": (-1, np.inf),
}


def largest_of(X):
    """The value of X that is largest in size; 1.0 if it is of integers, 0.0 if it has none."""
    values = X.data if sp.issparse(X) else X
    is_float = values.is_floating_point() if is_tensor(X) else values.dtype.kind == "f"
    if not is_float:
        return 1.0
    if 0 in values.shape:
        return 0.0
    if is_tensor(X):
        extremes = values.min(), values.max()
    else:  # numbers where there is NaN, too, unlike the result of `min`
        extremes = np.fmin.reduce(values, None), np.fmax.reduce(values, None)
    return max(map(float, extremes), key=abs)


def check_range(largest, reset):
    """Raise ValueError if X has values that are too large, or in `fit` too small, to compute with.

    Parameters
    ----------
    largest : float
        The value of `largest_of`.
    reset : bool
        Whether X is that of a fit.
    """
    if abs(largest) > _LARGEST:
        raise ValueError(
            f"X has a value of {largest:.3g}, but all must be between {-_LARGEST:.0e} and "
            f"{_LARGEST:.0e}: divide X by its scale."
        )
    if reset and 0 < abs(largest) < _SMALLEST:
        raise ValueError(
            f"X has no value beyond {abs(largest):.3g}, but its scale must be {_SMALLEST:.0e} at "
            f"least: divide X by its scale."
        )


def warn_of_output_range(estimator, X):
    """Warn if X has values that the output activation cannot reach."""
    activation = getattr(estimator, "output_activation", None)
    low, high = _OUTPUT_RANGES.get(activation, (-np.inf, np.inf))
    if is_tensor(X) or (low, high) == (-np.inf, np.inf):
        return
    values = X.data if sp.issparse(X) else X
    smallest, largest = np.fmin.reduce(values, None), np.fmax.reduce(values, None)
    if smallest < low or largest > high:
        warnings.warn(
            f"output_activation={activation!r} reconstructs values from {low:g} to {high:g}, but X "
            f"has values from {smallest:.3g} to {largest:.3g}: scale X, for example by "
            f"MinMaxScaler, or leave output_activation out.",
            UserWarning,
            stacklevel=2,
        )


def rounding_of_mean(mean, n_rows):
    """The most that the squared distances of equal rows from their mean sum up to, by rounding."""
    length = np.linalg.norm(mean.astype(np.float64))
    return n_rows * (10 * np.finfo(np.float64).eps * length) ** 2
