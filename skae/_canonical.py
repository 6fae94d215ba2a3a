"""The one form of numbers and of sparse matrices that everything works on."""

import numpy as np
import scipy.sparse as sp


def output_dtype(dtype):
    """float32 where it holds every number of the given dtype, else float64."""
    return np.dtype(np.float32 if np.can_cast(dtype, np.float32) else np.float64)


def canonical_csr(X, dtype):
    """A sparse matrix as CSR with sorted indices, each once; the one that was given stays as is."""
    X = X.tocsr().astype(dtype, copy=False)
    if not X.has_canonical_format:
        X = X.copy()
        X.sum_duplicates()
    return X


def flat_rows(X):
    """Rows as they are, and pictures as one row each."""
    X = X if hasattr(X, "shape") else np.asarray(X)
    return np.reshape(X, (X.shape[0], -1)) if len(X.shape) > 2 else X


def dense_array(X):
    """A sparse matrix, or anything like an array, as a dense one: for a few rows."""
    return X.toarray() if sp.issparse(X) else np.asarray(X)
