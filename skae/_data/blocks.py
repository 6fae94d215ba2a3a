"""Rows stored in blocks: in files, in memory or in a dask array, used as one X."""

import sys
from abc import ABC, abstractmethod
from collections.abc import Iterable
from functools import partial
from itertools import accumulate, pairwise
from math import prod
from operator import getitem
from os import PathLike
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch

from .._runtime.storage import digest
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


# Blocks in memory and in files


class RowBlocks(Blocks):
    """Rows in blocks, stacked vertically and read a batch at a time.

    For `fit`, `transform`, `score` and `score_samples` of data that does not fit into memory:
    an HDF5 dataset, a zarr array, files. `DenseAutoencoder` reads the blocks in order, some ten
    times; plain and convolutional networks draw rows at random, for which blocks should be of a
    kind that is quick to read row by row, such as memory-mapped arrays.

    Parameters
    ----------
    blocks : list
        Each is a NumPy array or memmap, a SciPy sparse matrix or array, the path of an .npy file
        (an array, which is memory-mapped) or .npz file (a sparse matrix, of which one at a time is
        loaded), or anything else with ``shape``, ``dtype`` and rows by slices, such as an HDF5
        dataset or a zarr array. All are sparse or none, with as many columns; what has more than
        two axes is read as flat rows.

    Attributes
    ----------
    shape : tuple of int
        Number of rows and of columns.
    dtype : numpy.dtype
        That of the first block, to which others are converted; a floating one if they are sparse.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_digits
    >>> from skae import DenseAutoencoder, RowBlocks
    >>> X = load_digits().data
    >>> blocks = RowBlocks([X[:1000], X[1000:]])
    >>> blocks.shape
    (1797, 64)
    >>> linear = DenseAutoencoder(8, hidden_layer_sizes=())
    >>> np.allclose(linear.fit(blocks).transform(blocks), linear.fit(X).transform(X))
    True
    """

    def __init__(self, blocks: Iterable[Any]) -> None:
        self._blocks = list(blocks)
        if not self._blocks:
            raise ValueError("blocks=[] must be one block of rows or more.")
        shapes = [_shape_of(block) for block in self._blocks]
        first = _open(self._blocks[0])
        self.is_sparse = sp.issparse(first)
        self.dtype = first.dtype
        if self.is_sparse:  # sparse rows have the precision of their codes everywhere
            self.dtype = output_dtype(first.dtype)
        for shape in shapes:
            if shape[1] != shapes[0][1]:
                raise ValueError(
                    f"blocks must have as many columns as the first, {shapes[0][1]}, got one of "
                    f"shape {shape}."
                )
        ends = accumulate((n_rows for n_rows, _ in shapes), initial=0)
        self.row_slices = [slice(*pair) for pair in pairwise(ends)]
        self.shape = self.row_slices[-1].stop, shapes[0][1]

    def __getitem__(self, index):
        """Return rows as an array or CSR matrix, by a slice without a step or by indices."""
        if isinstance(index, tuple) and index[1:] == (Ellipsis,):  # scikit-learn selects rows so
            index = index[0]
        if isinstance(index, slice):
            start, stop, _ = index.indices(len(self))
            return self._stacked(
                [block[overlap(rows, start, stop)] for rows, block in self.blocks(start, stop)]
            )
        indices = np.asarray(index)
        order = np.argsort(indices, kind="stable")
        ordered, parts = indices[order], []
        ends = (ordered[0], ordered[-1] + 1) if len(ordered) else (0, 0)
        for rows, block in self.blocks(*ends):
            own = ordered[(ordered >= rows.start) & (ordered < rows.stop)] - rows.start
            if len(own):
                parts.append(block[own])
        return self._stacked(parts)[np.argsort(order)]

    def each(self, function, arguments):
        """Call a function with each block.

        Parameters
        ----------
        function : callable
            Called with a block and its further arguments.
        arguments : list of tuple
            The further arguments, one tuple for each block.

        Yields
        ------
        result : object
        """
        for (_, block), args in zip(self.blocks(), arguments, strict=True):
            yield function(block, *args)

    def total(self, function, arguments):
        """Sum the results of a function of each block.

        Parameters
        ----------
        function : callable
            Called with a block and its further arguments.
        arguments : list of tuple
            As in `each`.

        Returns
        -------
        total : object
            The sum.
        """
        return sum(self.each(function, arguments))

    def blocks(self, start=0, stop=None):
        """Open the blocks one after the other.

        Parameters
        ----------
        start, stop : int
            Only blocks with rows in this range are opened.

        Yields
        ------
        rows : slice
            The rows of the block.
        block : array-like or CSR matrix
        """
        stop = len(self) if stop is None else stop
        for rows, block in zip(self.row_slices, self._blocks, strict=True):
            if overlap(rows, start, stop):
                yield rows, self._converted(_open(block))

    def _converted(self, block):
        if sp.issparse(block) is not self.is_sparse:
            raise ValueError("blocks must all be sparse or none: the first decides.")
        return canonical_csr(block, self.dtype) if self.is_sparse else block


class ArrayAdapter:
    """Rows of an HDF5 dataset, zarr array or the like by NumPy's indexing, flattened."""

    def __init__(self, array):
        self._array = array
        self.shape = _shape_of(array)
        self.dtype = np.dtype(array.dtype)
        self.row_bytes = self.shape[1] * self.dtype.itemsize

    def __getitem__(self, index):
        if isinstance(index, slice):
            rows = np.asarray(self._array[index])
        else:  # not every kind supports a list of indices
            rows = np.stack([np.asarray(self._array[int(i)]) for i in index])
        return rows.reshape(len(rows), -1)


def is_chunked(X):
    """Whether X is an array that is read in chunks, such as an HDF5 dataset or a zarr array."""
    return hasattr(X, "chunks") and hasattr(X, "dtype") and not is_dask(X)


def _open(block):
    if isinstance(block, (str, PathLike)):
        if str(block).endswith(".npz"):
            return sp.load_npz(block)
        block = np.load(block, mmap_mode="r")
    if sp.issparse(block) or (isinstance(block, np.ndarray) and block.ndim == 2):
        return block
    return ArrayAdapter(block)


def _shape_of(block):
    """(rows, columns) of a block; does not load a sparse matrix from its file."""
    if not isinstance(block, (str, PathLike)):
        shape = block.shape
    elif str(block).endswith(".npz"):
        with np.load(block) as file:
            shape = file["shape"]
    else:
        shape = np.load(block, mmap_mode="r").shape
    n_rows, *others = map(int, shape)
    return n_rows, prod(others)


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
        selected = [overlap(rows, start, stop) for rows in self.row_slices]
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


def overlap(rows, start, stop):
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
