"""Rows of a dask array, asked where they are."""

import sys
from functools import partial
from itertools import accumulate, pairwise
from operator import getitem

import dask
import numpy as np
import scipy.sparse as sp
import torch

from ._blocks import Blocks, inside
from ._canonical import canonical_csr, output_dtype

# So many sums are added up by one task.
_AT_ONCE = 8


class DaskBlocks(Blocks):
    """The blocks of rows of a dask array, of NumPy arrays or SciPy sparse matrices.

    Functions go to the blocks, on whatever scheduler is active; what comes back is as small as
    their results, and sums are added up on the way.
    """

    device = torch.device("cpu")  # of the workers

    def __init__(self, X):
        if X.ndim != 2 or np.isnan(X.shape).any():
            raise ValueError(
                f"X is a dask array of shape {X.shape}, but must have two axes of known length: "
                f"compute_chunk_sizes() finds it out."
            )
        X = _in_whole_rows(X)
        self.shape = tuple(map(int, X.shape))
        self.is_sparse = sp.issparse(X._meta)
        self.dtype = output_dtype(X.dtype) if self.is_sparse else X.dtype
        self.row_slices = [slice(*ends) for ends in pairwise(accumulate(X.chunks[0], initial=0))]
        self._blocks = X.to_delayed().ravel().tolist()

    def __getitem__(self, index):
        """The rows of a slice without a step, as an array or CSR matrix."""
        start, stop, _ = index.indices(len(self))
        asked = [inside(rows, start, stop) for rows in self.row_slices]
        blocks = [block for block, rows in zip(self._blocks, asked, strict=True) if rows]
        arguments = [(rows,) for rows in asked if rows]
        return self._stacked(_computed(self._tasks(getitem, arguments, blocks)))

    def check_random_access(self):
        raise ValueError(
            "dask arrays are for DenseAutoencoder with linear_path=True: other networks draw rows "
            "at random. Give them the zarr array or the files."
        )

    def each(self, function, arguments):
        return _computed(self._tasks(function, arguments))

    def total(self, function, arguments):
        tasks = self._tasks(function, arguments)
        while len(tasks) > 1:
            starts = range(0, len(tasks), _AT_ONCE)
            tasks = [dask.delayed(sum)(tasks[start : start + _AT_ONCE]) for start in starts]
        return _computed(tasks)[0]

    def _tasks(self, function, arguments, blocks=None):
        blocks = self._blocks if blocks is None else blocks
        # One node of the graph, however large what the function carries and however many blocks.
        ask = dask.delayed(partial(_ask, function, self.dtype if self.is_sparse else None))
        return [
            ask(block, tuple(map(_apart, part)))
            for block, part in zip(blocks, arguments, strict=True)
        ]


def _apart(value):
    """A tensor without the one it is a view of, which would travel with it."""
    return value.clone() if isinstance(value, torch.Tensor) else value


def _computed(tasks):
    if "distributed" not in sys.modules:
        # Nothing to warn, and what is set before it has loaded its defaults would replace them.
        return dask.compute(*tasks)
    # What we send is large on purpose: a worker that dies then takes nothing of ours with it.
    with dask.config.set({"distributed.admin.large-graph-warning-threshold": "1TB"}):
        return dask.compute(*tasks)


def _ask(function, dtype, block, part):
    block = np.asarray(block) if dtype is None else canonical_csr(block, dtype)
    return function(block, *part)


def _in_whole_rows(X):
    return X.rechunk({1: -1}) if X.numblocks[1] > 1 else X


def lazily(estimator, method, X, n_columns=None, dtype=None):
    """What a method of a fitted estimator says of a dask array, when it is asked for."""
    X = _in_whole_rows(X)
    chunks = (X.chunks[0],) if n_columns is None else (X.chunks[0], (n_columns,))
    return X.map_blocks(
        _say,
        dask.delayed(estimator),
        method,
        dtype=dtype,
        chunks=chunks,
        drop_axis=1 if n_columns is None else None,
        meta=np.empty((0,) * len(chunks), dtype=dtype),
    )


def _say(block, estimator, method):
    return getattr(estimator, method)(block)
