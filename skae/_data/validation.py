"""X and `sample_weight`: validate_rows, in the form that the rest of the package works on."""

import numpy as np
import scipy.sparse as sp
from sklearn.utils import check_array
from sklearn.utils.validation import _check_n_features, _check_sample_weight, validate_data

from .._runtime.tensors import output_dtype
from .blocks import Blocks, DaskBlocks, as_blocks, is_dask, row_batches
from .sparse import canonical_csr


def flat_rows(X):
    """Rows as they are, and pictures as one row each."""
    X = X if hasattr(X, "shape") else np.asarray(X)
    return np.reshape(X, (X.shape[0], -1)) if len(X.shape) > 2 else X


def dense_array(X):
    """A sparse matrix, or anything like an array, as a dense one: for a few rows."""
    return X.toarray() if sp.issparse(X) else np.asarray(X)


# Of larger values float32, in which networks are trained, cannot hold every sum.
_LARGEST = 1e32


def validate_rows(estimator, X, *, reset, in_random_order):
    """X as an array, a CSR matrix in floating point, or `Blocks`.

    Parameters
    ----------
    estimator : BaseEstimator
    X : array-like, sparse matrix or array, HDF5 dataset, zarr array, RowBlocks or dask array
    reset : bool
        Whether the estimator is to be fitted to X, or X to be like what it was fitted to.
    in_random_order : bool
        Whether fitting will take rows in random order.
    """
    X = as_blocks(X)
    if is_dask(X):
        X = DaskBlocks(X)
    if isinstance(X, Blocks):
        if reset and in_random_order:
            X.check_random_access()
        return _validated_blocks(estimator, X, reset)
    with np.errstate(invalid="ignore"):  # a sum of X, by which scikit-learn looks for NaN
        X = validate_data(
            estimator,
            X,
            reset=reset,
            accept_sparse="csr",
            dtype="numeric",
            ensure_min_samples=2 if reset else 1,
        )
    _check_range(X)
    return canonical_csr(X, output_dtype(X.dtype)) if sp.issparse(X) else X


def _check_range(X):
    """Raise ValueError where X has values that are too large to compute with."""
    values = X.data if sp.issparse(X) else X
    if values.dtype.kind != "f" or not values.size:
        return
    for value in map(float, (values.min(), values.max())):
        if abs(value) > _LARGEST:
            raise ValueError(
                f"X has a value of {value:.3g}, but all must be between {-_LARGEST:.0e} and "
                f"{_LARGEST:.0e}: divide X by its scale."
            )


def _validated_blocks(estimator, X, reset):
    _check_n_features(estimator, X, reset=reset)
    if reset:
        vars(estimator).pop("feature_names_in_", None)
    if len(X) < 1 + reset:
        raise ValueError(f"{type(X).__name__} of {len(X)} row(s) must have {1 + reset} at least.")
    for _ in X.apply(_check):
        pass
    return X


def _check(block):
    """Raise ValueError where a block of rows is no X."""
    for part in row_batches(block):
        with np.errstate(invalid="ignore"):
            part = check_array(part, accept_sparse="csr", dtype="numeric", input_name="X")
        _check_range(part)


# Less than so many times the precision of a row is taken for rounding.
_ROUNDING = 100


def apply_sample_weight(X, sample_weight):
    """The rows that count, and how often: weights of mean one, None where all count the same."""
    if sample_weight is None:
        return X, None
    weights = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
    if not weights.any():
        raise ValueError("sample_weight is zero for every row: at least one must count.")
    if not weights.all():
        if isinstance(X, Blocks):
            raise ValueError("sample_weight is zero for some rows of blocks: leave them out.")
        X, weights = X[weights > 0], weights[weights > 0]
    if (weights == weights[0]).all():
        return X, None
    return X, weights / weights.mean()


def standard_deviations(codes, weights, sample_weight):
    """Standard deviation of each code; weights above one count like so many rows."""
    codes = codes.astype(np.float64)  # squares of large float32 are no numbers
    if weights is None:
        return codes.std(axis=0, ddof=1)
    n_rows = max(float(np.sum(sample_weight)), len(codes))
    centred = codes - np.average(codes, axis=0, weights=weights)
    return np.sqrt(weights @ centred**2 / len(codes) * n_rows / (n_rows - 1))


def whitening_divisors(deviations, dtype):
    """By what to divide codes of a dtype to whiten them: 1 for those whose deviation is rounding.

    That is about the last place of a whole row, which has the length of all deviations together.
    """
    least = _ROUNDING * np.finfo(dtype).eps * np.sqrt(np.square(deviations).sum())
    return np.where(deviations > least, deviations, 1).astype(dtype)
