"""Rows with missing entries: the filled rows, and the observed entries that losses compare."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class CompletedArray:
    """A dense X whose missing entries are filled.

    Attributes
    ----------
    filled : ndarray of shape (n, p)
        Without NaN.
    observed : ndarray of shape (n, p)
        X as it was given, NaN where an entry is missing.
    mean : ndarray of shape (p,)
        Mean of the observed entries of each column.
    loadings : ndarray of shape (p, q)
        Of the model that has filled the missing entries.
    """

    filled: np.ndarray
    observed: np.ndarray
    mean: np.ndarray
    loadings: np.ndarray

    shape = property(lambda self: self.filled.shape)
    dtype = property(lambda self: self.filled.dtype)


def has_missing(X):
    """Whether X is an array with NaN among its entries."""
    return isinstance(X, np.ndarray) and X.dtype.kind == "f" and bool(np.isnan(X).any())


def check_observed(X):
    """Raise ValueError if all entries of a row are missing."""
    empty = np.flatnonzero(np.isnan(X).all(axis=1))
    if len(empty):
        raise ValueError(
            f"Input X contains NaN in all columns of {len(empty)} row(s), the first at index "
            f"{empty[0]}: a row needs an observed entry, leave these out."
        )


def observed_mean(X, weights):
    """Weighted mean of the observed entries of each column, in float64: shape (p,).

    Raises
    ------
    ValueError
        If all entries of a column are missing.
    """
    weights = np.ones(len(X)) if weights is None else weights
    total, count = np.zeros(X.shape[1]), np.zeros(X.shape[1])
    step = max(1, 2**23 // X.shape[1])
    for start in range(0, len(X), step):
        part = X[start : start + step].astype(np.float64)
        w, is_observed = weights[start : start + step], ~np.isnan(part)
        total += w @ np.where(is_observed, part, 0.0)
        count += w @ is_observed
    empty = np.flatnonzero(count == 0)
    if len(empty):
        names = ", ".join(map(str, empty[:5])) + (", ..." if len(empty) > 5 else "")
        raise ValueError(
            f"X must have an observed entry in each column for missing_values=np.nan, but all "
            f"entries of {len(empty)} column(s) are NaN (by index: {names}): leave them out."
        )
    return total / count
