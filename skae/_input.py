"""What estimators take as X: checked, and in the form that everything behind them works on."""

import numpy as np
import scipy.sparse as sp
from sklearn.utils import check_array
from sklearn.utils.validation import _check_n_features, validate_data

from ._blocks import Blocks, in_blocks, is_dask, pieces
from ._canonical import canonical_csr, output_dtype

# Of larger values float32, in which networks are trained, cannot hold every sum.
_LARGEST = 1e32


def validated(estimator, X, *, reset, in_random_order):
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
    X = in_blocks(X)
    if is_dask(X):
        from ._dask import DaskBlocks

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
    for _ in X.ask(_check):
        pass
    return X


def _check(block):
    """Raise ValueError where a block of rows is no X."""
    for part in pieces(block):
        with np.errstate(invalid="ignore"):
            part = check_array(part, accept_sparse="csr", dtype="numeric", input_name="X")
        _check_range(part)
