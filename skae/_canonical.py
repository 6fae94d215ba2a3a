"""The one form of numbers and of sparse matrices that everything works on."""

import numpy as np


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
