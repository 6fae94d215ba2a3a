"""Rows in blocks that are not in memory: stored arrays and dask arrays, used as one X."""

import sys
from abc import ABC, abstractmethod
from functools import partial
from itertools import accumulate, pairwise
from math import prod
from operator import getitem

import numpy as np
import scipy.sparse as sp
import torch

from .._runtime.digests import digest
from .._runtime.tensors import batch_slices, output_dtype
from .sparse import canonical_csr

# Results of blocks of a dask array that one task adds up.
_SUMS_PER_TASK = 8


class Blocks(ABC):
    """Rows in blocks: each function is called with one block at a time.

    A further kind of storage is a subclass and a line in `skae._data.validation.BLOCK_KINDS`.

    Attributes
    ----------
    shape : tuple of int
    dtype : numpy.dtype
    is_sparse : bool
    row_slices : list of slice
        The rows of each block, in order.
    has_workers : bool
        Whether functions are called by workers, which have devices of their own: what is sent to
        them and what they return is in main memory.
    own : slice or None
        The rows that this process has, if each process of a group has its own.
    """

    ndim = 2
    has_workers = False
    own = None

    def __len__(self):
        return self.shape[0]

    def digest(self):
        """Return a checksum of the rows, in the form of `storage.digest`."""
        return digest(np.frombuffer("".join(self.apply(_digest_of_block)).encode(), np.uint8))

    @abstractmethod
    def each(self, function, arguments):
        """Iterate over ``function(block, *args)`` for each block and its tuple of arguments."""

    @abstractmethod
    def total(self, function, arguments):
        """Return the sum of what `each` yields."""

    def of_all_rows(self, values, name):
        """Return an argument of `fit` with a value for each row."""
        return values

    def check_random_access(self):  # noqa: B027, most kinds have random access
        """Raise ValueError if rows cannot be read in random order."""

    def _stacked(self, parts):
        """Stack arrays or CSR matrices vertically."""
        if self.is_sparse:
            empty = sp.csr_matrix((0, self.shape[1]), dtype=self.dtype)
            return sp.vstack(parts or [empty], format="csr")
        if len(parts) == 1:
            return np.asarray(parts[0], dtype=self.dtype)
        return np.concatenate([np.empty((0, self.shape[1])), *parts]).astype(self.dtype, copy=False)

    def min(self):
        """Return the smallest value."""
        return min(self.apply(_block_min))

    def max(self):
        """Return the largest value."""
        return max(self.apply(_block_max))

    def apply(self, function):
        """Iterate over ``function(block)`` for each block."""
        return self.each(function, [()] * len(self.row_slices))


# One block: an array in a file


class StoredRows(Blocks):
    """The rows of an HDF5 dataset, a zarr array or the like: a single block, read in batches.

    More than two axes are read as flat rows.
    """

    is_sparse = False

    def __init__(self, array):
        self._block = ArrayAdapter(array)
        self.shape, self.dtype = self._block.shape, self._block.dtype
        self.row_slices = [slice(0, len(self))]

    def __getitem__(self, index):
        """Return the rows at NumPy's index of rows as an array."""
        if isinstance(index, slice) and index.step in (None, 1):
            return self._block[index]
        return self._block[np.arange(len(self))[index]]

    def each(self, function, arguments):
        return (function(self._block, *args) for args in arguments)

    def total(self, function, arguments):
        return sum(self.each(function, arguments))


class ArrayAdapter:
    """Rows of an HDF5 dataset, zarr array or the like by NumPy's indexing, flattened."""

    def __init__(self, array):
        n_rows, *others = map(int, array.shape)
        self._array = array
        self.shape = n_rows, prod(others)
        self.dtype = np.dtype(array.dtype)
        self.row_bytes = self.shape[1] * self.dtype.itemsize

    def __getitem__(self, index):
        if isinstance(index, slice):
            rows = np.asarray(self._array[index])
        elif len(index) == 0:
            rows = np.asarray(self._array[:0])
        else:  # not every kind supports a list of indices
            rows = np.stack([np.asarray(self._array[int(i)]) for i in index])
        return rows.reshape(len(rows), self.shape[1])


def is_chunked(X):
    """Whether X is an array that is read in chunks, such as an HDF5 dataset or a zarr array."""
    return hasattr(X, "chunks") and hasattr(X, "dtype") and not is_dask(X)


# Blocks of dask arrays


class DaskBlocks(Blocks):
    """The rows of a dask array of NumPy arrays or SciPy sparse matrices.

    The active dask scheduler calls functions where the blocks are. Only their results are
    returned, and sums are added up by the workers.
    """

    has_workers = True

    def __init__(self, X):
        if X.ndim != 2 or np.isnan(X.shape).any():
            raise ValueError(
                f"X is a dask array of shape {X.shape}, but must have two axes of known length: "
                f"call compute_chunk_sizes() first."
            )
        X = _with_whole_rows(X)
        self.shape = tuple(map(int, X.shape))
        self.is_sparse = sp.issparse(X._meta)
        self.dtype = output_dtype(X.dtype) if self.is_sparse else X.dtype
        self.row_slices = [slice(*ends) for ends in pairwise(accumulate(X.chunks[0], initial=0))]
        self._blocks = X.to_delayed().ravel().tolist()

    def __getitem__(self, index):
        """Return the rows of a slice without a step, as an array or CSR matrix."""
        start, stop, _ = index.indices(len(self))
        selected = [_overlap(rows, start, stop) for rows in self.row_slices]
        blocks = [block for block, rows in zip(self._blocks, selected, strict=True) if rows]
        arguments = [(rows,) for rows in selected if rows]
        return self._stacked(_compute(self._tasks(getitem, arguments, blocks)))

    def check_random_access(self):
        raise ValueError(
            "dask arrays are for DenseAutoencoder with linear_path=True: other networks read rows "
            "in random order. Use the zarr array or the files instead."
        )

    def each(self, function, arguments):
        return _compute(self._tasks(function, arguments))

    def total(self, function, arguments):
        import dask

        tasks = self._tasks(function, arguments)
        while len(tasks) > 1:
            starts = range(0, len(tasks), _SUMS_PER_TASK)
            tasks = [dask.delayed(sum)(tasks[start : start + _SUMS_PER_TASK]) for start in starts]
        return _compute(tasks)[0]

    def _tasks(self, function, arguments, blocks=None):
        import dask

        blocks = self._blocks if blocks is None else blocks
        # The function is one node of the graph: it may hold large arrays, and is sent only once.
        call = dask.delayed(partial(_call, function, self.dtype if self.is_sparse else None))
        return [
            call(block, tuple(map(_without_base, args)))
            for block, args in zip(blocks, arguments, strict=True)
        ]


def is_dask(X):
    """Whether X is a dask array, without importing dask."""
    return hasattr(X, "dask") and hasattr(X, "to_delayed") and hasattr(X, "chunks")


def lazy_result(estimator, method, X, n_columns=None, dtype=None):
    """Return a dask array of the results of a fitted estimator's method on the blocks of X.

    Results of None columns are of one axis. The dtype None is the `output_dtype` of X.
    """
    import dask

    dtype = output_dtype(X.dtype) if dtype is None else np.dtype(dtype)
    X = _with_whole_rows(X)
    chunks = (X.chunks[0],) if n_columns is None else (X.chunks[0], (n_columns,))
    return X.map_blocks(
        _call_method,
        dask.delayed(estimator),
        method,
        dtype=dtype,
        chunks=chunks,
        drop_axis=1 if n_columns is None else None,
        meta=np.empty((0,) * len(chunks), dtype=dtype),
    )


def _call(function, dtype, block, args):
    block = np.asarray(block) if dtype is None else canonical_csr(block, dtype)
    return function(block, *args)


def _call_method(block, estimator, method):
    return getattr(estimator, method)(block)


def _without_base(value):
    """Copy a tensor that is a view: its base would be sent too."""
    return value.clone() if isinstance(value, torch.Tensor) else value


def _compute(tasks):
    import dask

    if "distributed" not in sys.modules:
        # There is no warning to avoid, and a value set before distributed loads its defaults would
        # replace them.
        return dask.compute(*tasks)
    # Graphs are large on purpose: they contain all arguments, so that no data is lost if a worker
    # dies.
    with dask.config.set({"distributed.admin.large-graph-warning-threshold": "1TB"}):
        return dask.compute(*tasks)


def _with_whole_rows(X):
    return X.rechunk({1: -1}) if X.numblocks[1] > 1 else X


# Functions of one block


def row_batches(block):
    """Yield the rows of a block in batches of bounded size, as arrays or CSR matrices."""
    entries = block.nnz / max(1, block.shape[0]) if sp.issparse(block) else block.shape[1]
    for rows in batch_slices(block.shape[0], 16 * entries):
        yield block[rows]


def _overlap(rows, start, stop):
    """Return the slice of a block's rows that is between two row indices of X; None if empty."""
    if rows.start < stop and rows.stop > start:
        return slice(max(0, start - rows.start), stop - rows.start)
    return None


def _digest_of_block(block):
    return "".join(map(digest, row_batches(block)))


def _block_min(block):
    return min(part.min() for part in row_batches(block))


def _block_max(block):
    return max(part.max() for part in row_batches(block))
