"""The range of the values of X: what can be computed with, and what a network can reconstruct."""

import warnings

import numpy as np
import scipy.sparse as sp

from .arrays import is_tensor

# Networks are trained in float32, in which sums of larger values may overflow. Squares in float64
# vanish where all values are smaller than the second.
_LARGEST, _SMALLEST = 1e32, 1e-160

# How far values may be beyond 0 or 1 by rounding.
_ROUNDING = 1e-6

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
    if smallest < low - _ROUNDING or largest > high + _ROUNDING:
        warnings.warn(
            f"output_activation={activation!r} reconstructs values from {low:g} to {high:g}, but X "
            f"has values from {smallest:.3g} to {largest:.3g}: scale X, for example by "
            f"MinMaxScaler, or leave output_activation out.",
            UserWarning,
            stacklevel=2,
        )


def rounding_of_mean(mean, n_rows, degree=2, *, of_counts=False):
    """The most that the deviances of equal rows from their mean sum up to, by rounding.

    Parameters
    ----------
    mean : ndarray of shape (p,)
    n_rows : float
    degree : int, default=2
        That of the loss: 2 for squared distances.
    of_counts : bool, default=False
        Whether deviances grow with the counts in a row although the degree is 0.
    """
    mean, rounding = mean.astype(np.float64), 10 * np.finfo(np.float64).eps
    if degree:
        return n_rows * (rounding * np.linalg.norm(mean, degree)) ** degree
    return n_rows * rounding * (np.abs(mean).sum() if of_counts else len(mean))
