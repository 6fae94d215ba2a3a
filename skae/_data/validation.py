"""Validation of X, y and `sample_weight`, and their conversion to the forms used for computing."""

import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from numbers import Number, Real

import numpy as np
import scipy.sparse as sp
import torch
from sklearn.utils import check_array
from sklearn.utils._missing import is_pandas_na
from sklearn.utils.validation import _check_n_features, _check_sample_weight, validate_data

from .._runtime.device import has_float64
from .._runtime.tensors import output_dtype
from .arrays import in_main_memory, is_tensor
from .blocks import Blocks, DaskBlocks, StoredRows, is_chunked, is_dask, row_batches
from .frames import check_frame
from .incomplete import check_observed, has_missing
from .items import as_rows, check_two_axes
from .ranges import check_range, largest_of, warn_of_output_range
from .sparse import canonical_csr

# Kinds of storage beside arrays and sparse matrices: a test of X, and its conversion to `Blocks`.
BLOCK_KINDS = [
    (is_dask, DaskBlocks),
    (is_chunked, StoredRows),
]

# An object with a shape has one of these if it is an array, a frame or sparse.
_OF_ARRAYS = ("__array__", "__array_interface__", "__dlpack__", "tocsr", "columns", "iloc")

# The most different whole numbers of type float that are classes without a question.
_MANY_CLASSES = 20

# A standard deviation below this multiple of the precision of a row is taken for rounding.
_ROUNDING = 100


def as_blocks(X):
    """Return X as `Blocks` if it is of one of `BLOCK_KINDS`, else unchanged if it is an array."""
    for is_kind, convert in BLOCK_KINDS:
        if is_kind(X):
            return convert(X)
    if isinstance(X, Blocks) or not hasattr(X, "shape"):
        return X
    if not any(hasattr(X, name) for name in _OF_ARRAYS):
        raise TypeError(
            f"X is a {type(X).__name__}, which is no array that is known here: pass X[:] if it "
            f"fits into memory, else its HDF5 datasets, zarr arrays or dask arrays."
        )
    return X


def validate_rows(estimator, X, *, reset, in_random_order, missing=False):
    """Validate X and return it as an array, a CSR matrix in floating point, or `Blocks`.

    Parameters
    ----------
    estimator : BaseEstimator
    X : array-like, data frame, sparse matrix or array, HDF5 dataset, zarr array or dask array
    reset : bool
        Whether the estimator is fitted to X; otherwise X must match what it was fitted to.
    in_random_order : bool
        Whether fitting reads rows in random order.
    missing : bool, default=False
        Whether NaN in dense X is a missing entry; otherwise it is refused.
    """
    X = as_rows(X)
    check_two_axes(X, estimator)
    X = as_blocks(X)
    if isinstance(X, Blocks):
        if reset and in_random_order:
            X.check_random_access()
        with _explaining_nan(missing):
            return _validated_blocks(estimator, X, reset)
    check_frame(X)
    if isinstance(X, torch.Tensor) and X.dtype == torch.bfloat16:
        X = X.float()  # NumPy has no such type
    missing_allowed = missing and not sp.issparse(X) and not is_tensor(X)
    # scikit-learn finds NaN by a sum of X.
    with np.errstate(invalid="ignore"), _explaining_nan(missing):
        X = validate_data(
            estimator,
            X,
            reset=reset,
            accept_sparse="csr",
            dtype="numeric",
            ensure_all_finite="allow-nan" if missing_allowed else True,
            ensure_min_samples=2 if reset else 1,
        )
    check_range(largest_of(X), reset)
    if reset:
        warn_of_output_range(estimator, X)
    if missing_allowed and has_missing(X):
        check_observed(X)
    return canonical_csr(X, output_dtype(X.dtype)) if sp.issparse(X) else X


def validate_codes(Z):
    """Validate codes and return them as an array, or a tensor, of float32 or float64."""
    dtypes = [np.float64, np.float32]
    if is_tensor(Z):
        dtypes = [torch.float64, torch.float32] if has_float64(Z.device) else torch.float32
    return check_array(as_rows(Z), dtype=dtypes, input_name="X")


@contextmanager
def _explaining_nan(missing):
    """Raise scikit-learn's error for NaN in X with the parameter that allows it."""
    try:
        yield
    except ValueError as error:
        if "contains NaN" not in str(error):
            raise
        sentence = (
            "missing_values=np.nan takes NaN as missing entries of a dense array in main memory, "
            "and not of sparse or stored rows."
            if missing
            else "Set missing_values=np.nan before fit to take NaN in dense X as missing entries."
        )
        raise ValueError(f"Input X contains NaN. {sentence}") from None


def validate_groups(groups, n_rows):
    """Return the number of the group of each row: 0 for the first group, 1 for the next; or None.

    The names of groups do not matter: rows that are grouped in the same way have the same numbers.
    """
    groups = in_main_memory(groups, "groups")
    if groups is None:
        return None
    # NumPy would make strings of a list of numbers and strings, and of NaN among strings.
    names = list(groups) if isinstance(groups, (list, tuple)) else np.asarray(groups)
    shape = (len(names),) if isinstance(names, list) else names.shape
    if shape != (n_rows,):
        raise ValueError(
            f"groups must be an array of shape (n_samples,) = ({n_rows},), the group of each row "
            f"of X, got the shape {shape}."
        )
    numbers, numbers_of_rows = {}, np.empty(n_rows, dtype=np.int64)
    for row, name in enumerate(names if isinstance(names, list) else names.tolist()):
        try:
            numbers_of_rows[row] = numbers.setdefault(name, len(numbers))
        except TypeError:
            raise ValueError(
                f"groups must be numbers, strings or other hashable values, got {name!r} in it."
            ) from None
        if _is_missing(name):
            raise ValueError(
                f"groups must have a group for each row of X, got {name!r} in it. Give a row that "
                f"belongs to no other a group of its own."
            )
    return numbers_of_rows


def apply_sample_weight(X, sample_weight, *others):
    """Return the rows with positive weight and their weights of mean one; None if all are equal.

    Further arguments are arrays with an entry for each row, or None. The entries of rows of weight
    zero are left out, and what remains is returned after the weights.
    """
    if sample_weight is None:
        return X, None, *others
    if isinstance(sample_weight, Real) and not np.isfinite(sample_weight):
        raise ValueError(f"sample_weight={sample_weight!r} must be finite.")
    like = np.empty((X.shape[0], 0), dtype=np.float64)  # weights are ndarrays for every kind of X
    weights = _check_sample_weight(
        in_main_memory(sample_weight, "sample_weight"),
        like,
        dtype=np.float64,
        ensure_non_negative=True,
    )
    if not weights.any():
        raise ValueError("sample_weight is zero for every row: at least one must count.")
    if not weights.all():
        if isinstance(X, Blocks):
            raise ValueError("sample_weight is zero for some rows of a stored X: leave them out.")
        counts = weights > 0
        X, weights = X[counts], weights[counts]
        others = [other if other is None else other[counts] for other in others]
    if (weights == weights[0]).all():
        return X, None, *others
    return X, weights / weights.mean(), *others


@dataclass(frozen=True)
class Labels:
    """Classes or regression targets of rows.

    Attributes
    ----------
    values : ndarray of shape (n,)
        Index of the class, or target; NaN for a row without a label.
    n_classes : int
        0 for a regression.
    """

    values: np.ndarray
    n_classes: int

    @property
    def are_known(self):
        """Whether each row has a label."""
        return ~np.isnan(self.values)

    def weighted(self, weights, indices):
        """Labels and their weights, of mean one over the rows with given indices: shape (n, 2)."""
        weights = np.where(self.are_known, weights, 0.0)
        mean = weights[indices].mean()
        labels = np.column_stack([np.nan_to_num(self.values), weights / mean if mean else weights])
        return torch.from_numpy(labels).float()

    def standardised(self, weights):
        """The same with regression targets of weighted mean 0 and variance 1."""
        if self.n_classes:
            return self
        known, weights = self.are_known, weights[self.are_known]
        values = self.values - np.average(self.values[known], weights=weights)
        values /= np.abs(values[known]).max()  # squares of tiny values are zero
        values /= np.sqrt(np.average(values[known] ** 2, weights=weights))
        return Labels(values, 0)


def validate_labels(y, n_rows, supervision, counted=slice(None)):
    """Return the targets y of the rows that count as `Labels`.

    Classes are of any type; a float y that is not all whole numbers is a regression target. A float
    y of many different whole numbers, which might be either, is refused. A row without a label has
    -1 among classes that are integers, and NaN among regression targets.
    """
    wanted = f"supervision={supervision:g} needs y, one class or one target for each row"
    if y is None or sp.issparse(y):
        raise ValueError(f"{wanted}, got {'None' if y is None else 'a sparse matrix'}.")
    y = in_main_memory(y, "y")
    # NumPy would make a string of a number in a list.
    y = np.asarray(y, dtype=object if isinstance(y, (list, tuple)) else None)
    y = y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y
    if y.ndim != 1:
        raise ValueError(f"{wanted}, got an array of shape {y.shape}.")
    if len(y) != n_rows:
        raise ValueError(f"{wanted}, got {len(y)} for {n_rows} rows.")
    y = y[counted]
    if y.dtype.kind == "O":
        y = _array_of_one_type(y)
    if y.dtype.kind not in "biufUSO":
        raise ValueError(f"{wanted}, got values of type {y.dtype}.")
    is_float = y.dtype.kind == "f"
    if is_float and np.isinf(y).any():
        raise ValueError("y has infinite values, which are neither classes nor targets.")
    known = y[~np.isnan(y)] if is_float else y
    is_regression = is_float and (known != np.floor(known)).any()
    if is_float and not is_regression and 0 < len(known) < len(y):
        raise ValueError(
            "y has NaN among its classes: a class is an integer, a string or another object, and "
            "-1 marks rows without a label. NaN does so among targets that are not all whole "
            "numbers."
        )
    is_labelled = ~np.isnan(y) if is_float else np.ones(len(y), dtype=bool)
    if not is_regression and y.dtype.kind in "if":
        is_labelled &= y != -1
    values, indices = np.unique(y[is_labelled], return_inverse=True)
    if not is_regression and y.dtype.kind in "iuf":
        _check_are_classes(y.dtype, len(values), int(is_labelled.sum()))
    if len(values) < 2:
        kind = "different targets" if is_regression else "classes"
        got = f"{values[0]!s} for every row with one" if len(values) else "no row with one"
        raise ValueError(f"y must have labels of two {kind} at least, got {got}.")
    labels = np.full(len(y), np.nan, dtype=np.float64)
    labels[is_labelled] = y[is_labelled] if is_regression else indices
    return Labels(labels, 0 if is_regression else len(values))


def _check_are_classes(dtype, n_values, n_labels):
    """Raise ValueError, or warn, if whole numbers are more probably targets than classes.

    scikit-learn takes them for classes as well, but does not train on them before one says so.
    """
    described = f"y has {n_values} different whole numbers of type {dtype} in {n_labels} rows"
    as_target = "pass y + 0.5 for a regression target, which is standardised"
    if dtype.kind == "f" and n_values > _MANY_CLASSES:
        raise ValueError(f"{described}: pass y.astype(int) for classes, and {as_target}.")
    if dtype.kind != "f" and n_values > _MANY_CLASSES and n_labels < 10 * n_values:
        warnings.warn(
            f"{described}, which are taken for classes: {as_target}.", UserWarning, stacklevel=4
        )


def _array_of_one_type(y):
    """Objects as an array of numbers, or unchanged; raises ValueError if they are no classes."""
    missing = sum(is_pandas_na(value) or value is None or value != value for value in y)
    kinds = {_kind(value) for value in y if not is_pandas_na(value) and value is not None}
    if kinds == {"numbers"} and not any(is_pandas_na(v) or v is None for v in y):
        return np.array(y.tolist())
    if missing:
        raise ValueError(
            f"y has {missing} missing value(s) among its classes: number the classes, and mark "
            f"rows without a label by -1."
        )
    if len(kinds) > 1 or kinds & {"list", "tuple", "set", "ndarray", "dict"}:
        raise ValueError(
            f"y has {' and '.join(sorted(kinds))}: classes must be of one type, one for each row. "
            f"Number them to mark rows without a label by -1."
        )
    return y.astype(str) if kinds == {"strings"} else y


def _kind(value):
    if isinstance(value, (Number, np.bool_)):
        return "numbers"
    return "strings" if isinstance(value, str) else type(value).__name__


def count_of(sample_weight, n_rows):
    """Return how many rows the weights count: their sum, or the number of rows if that is more.

    Weights are repetitions then; those with a smaller sum are shares.
    """
    if sample_weight is None:
        return n_rows
    weights = np.asarray(sample_weight).astype(np.float64)  # the sum of float16 overflows
    total = float(weights.sum()) * (n_rows if weights.ndim == 0 else 1)
    return max(int(total) if total.is_integer() else total, n_rows)


def standard_deviations(codes, weights, sample_weight):
    """Return the standard deviation of each dimension of codes, of rows as `count_of` counts."""
    codes = codes.astype(np.float64)  # the squares of large float32 overflow
    n_rows = count_of(sample_weight, len(codes))
    weights = np.ones(len(codes)) if weights is None else weights
    centred = codes - np.average(codes, axis=0, weights=weights)
    return np.sqrt(weights @ centred**2 / len(codes) * n_rows / (n_rows - 1))


def whitening_divisors(stds, dtype, power):
    """Return powers of the standard deviations of codes; 1 where a standard deviation is rounding.

    The rounding of a row is relative to its length, the root of the sum of all variances.
    """
    rounding = _ROUNDING * np.finfo(dtype).eps * np.sqrt(np.square(stds).sum())
    return np.where(stds > rounding, stds**power, 1).astype(dtype)


def flat_rows(X):
    """Return X with each sample as one flat row; rows are returned unchanged."""
    X = X if hasattr(X, "shape") else np.asarray(X)
    if len(X.shape) <= 2:
        return X
    return X.flatten(1) if is_tensor(X) else np.reshape(X, (X.shape[0], prod(X.shape[1:])))


def dense_array(X):
    """Return a sparse matrix or array-like as a dense array: for a few rows."""
    return X.toarray() if sp.issparse(X) else np.asarray(in_main_memory(X, "X"))


def _is_missing(name):
    """Whether the name of a group is None, NaN, NaT or pandas' NA."""
    differs = name != name
    return name is None or not isinstance(differs, (bool, np.bool_)) or bool(differs)


def _validated_blocks(estimator, X, reset):
    _check_n_features(estimator, X, reset=reset)
    if reset:
        vars(estimator).pop("feature_names_in_", None)
    if len(X) < 1 + reset:
        raise ValueError(f"X has {len(X)} row(s), but must have {1 + reset} at least.")
    check_range(max(X.apply(_checked_block), key=abs), reset)
    return X


def _checked_block(block):
    """The value of a block that is largest in size; raises ValueError if it is not a valid X."""
    largest = 0.0
    for batch in row_batches(block):
        with np.errstate(invalid="ignore"):
            batch = check_array(batch, accept_sparse="csr", dtype="numeric", input_name="X")
        largest = max(largest, largest_of(batch), key=abs)
        check_range(largest, False)
    return largest
