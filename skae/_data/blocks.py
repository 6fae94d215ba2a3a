"""Rows that lie in blocks, on disk, in memory or in a dask array, as one X."""

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

# So many sums of blocks of a dask array are added up by one task.
_AT_ONCE = 8


def _digest_of_block(block):
    return "".join(map(digest, row_batches(block)))


class Blocks(ABC):
    """Rows that are asked block by block.

    Attributes
    ----------
    shape : tuple of int
    dtype : numpy.dtype
    is_sparse : bool
    row_slices : list of slice
        The rows of each block, in order.
    device : torch.device or None
        Where blocks are computed with; None for where everything else is.
    """

    ndim = 2
    device = None

    def __len__(self):
        return self.shape[0]

    def digest(self):
        """A short text that differs between data sets, as `storage.digest` makes it."""
        return digest(np.frombuffer("".join(self.apply(_digest_of_block)).encode(), np.uint8))

    @abstractmethod
    def each(self, function, arguments):
        """Iterate over ``function(block, *part)`` for each block and part of ``arguments``."""

    @abstractmethod
    def total(self, function, arguments):
        """The sum of these."""

    def check_random_access(self):  # noqa: B027, most have it
        """Raise ValueError if rows cannot be drawn at random."""

    def _stacked(self, parts):
        """Arrays or CSR matrices, one below the other."""
        if self.is_sparse:
            empty = sp.csr_matrix((0, self.shape[1]), dtype=self.dtype)
            return sp.vstack(parts or [empty], format="csr")
        if len(parts) == 1:
            return np.asarray(parts[0], dtype=self.dtype)
        return np.concatenate([np.empty((0, self.shape[1])), *parts]).astype(self.dtype, copy=False)

    def min(self):
        return min(self.apply(_least))

    def max(self):
        return max(self.apply(_largest))

    def apply(self, function):
        """Iterate over ``function(block)`` for each block."""
        return self.each(function, [()] * len(self.row_slices))


def overlap(rows, start, stop):
    """Which rows of a block lie between two of all: a slice; None if there are none."""
    if rows.start < stop and rows.stop > start:
        return slice(max(0, start - rows.start), stop - rows.start)
    return None


def _least(block):
    return min(part.min() for part in row_batches(block))


def _largest(block):
    return max(part.max() for part in row_batches(block))


def row_batches(block):
    """Some rows after others of a block, as arrays or CSR matrices of a bounded size."""
    entries = block.nnz / max(1, block.shape[0]) if sp.issparse(block) else block.shape[1]
    for rows in batch_slices(block.shape[0], 16 * entries):
        yield block[rows]


class RowBlocks(Blocks):
    """Rows in blocks, one below the other, read a piece at a time.

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
        shapes = [_shape(block) for block in self._blocks]
        first = _opened(self._blocks[0])
        self.is_sparse = sp.issparse(first)
        self.dtype = first.dtype
        if self.is_sparse:  # as everywhere, in the precision of its codes
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
        """Some rows, as an array or CSR matrix: a slice without a step, or row numbers."""
        if isinstance(index, slice):
            start, stop, _ = index.indices(len(self))
            return self._stacked(
                [block[overlap(rows, start, stop)] for rows, block in self.blocks(start, stop)]
            )
        numbers = np.asarray(index)
        order = np.argsort(numbers, kind="stable")
        found, parts = numbers[order], []
        for rows, block in self.blocks(*((found[0], found[-1] + 1) if len(found) else (0, 0))):
            taken = found[(found >= rows.start) & (found < rows.stop)] - rows.start
            if len(taken):
                parts.append(block[taken])
        return self._stacked(parts)[np.argsort(order)]

    def each(self, function, arguments):
        """Ask each block.

        Parameters
        ----------
        function : callable
            What is called with each block.
        arguments : list of tuple
            What it is called with besides, one for each block.

        Yields
        ------
        answer : object
        """
        for (_, block), part in zip(self.blocks(), arguments, strict=True):
            yield function(block, *part)

    def total(self, function, arguments):
        """Sum up what the blocks say.

        Parameters
        ----------
        function : callable
            What is called with each block.
        arguments : list of tuple
            As in `each`.

        Returns
        -------
        total : object
            The sum.
        """
        return sum(self.each(function, arguments))

    def blocks(self, start=0, stop=None):
        """Open the blocks, one after the other.

        Parameters
        ----------
        start, stop : int
            Only those with rows between these.

        Yields
        ------
        rows : slice
            Numbers of the rows of the block.
        block : array-like or CSR matrix
        """
        stop = len(self) if stop is None else stop
        for rows, block in zip(self.row_slices, self._blocks, strict=True):
            if overlap(rows, start, stop):
                yield rows, self._converted(_opened(block))

    def _converted(self, block):
        if sp.issparse(block) is not self.is_sparse:
            raise ValueError("blocks must all be sparse or none: the first decides.")
        return canonical_csr(block, self.dtype) if self.is_sparse else block


class ArrayAdapter:
    """An array of another kind, such as an HDF5 dataset, with NumPy's way to take rows."""

    def __init__(self, array):
        self._array = array
        self.shape = _shape(array)
        self.dtype = np.dtype(array.dtype)
        self.row_bytes = self.shape[1] * self.dtype.itemsize

    def __getitem__(self, index):
        if isinstance(index, slice):
            rows = np.asarray(self._array[index])
        else:  # not every kind takes a list of rows
            rows = np.stack([np.asarray(self._array[int(i)]) for i in index])
        return rows.reshape(len(rows), -1)


def as_blocks(X):
    """X as `RowBlocks` if it is an array that is read by chunks, such as an HDF5 dataset."""
    is_store = hasattr(X, "chunks") and hasattr(X, "dtype") and not is_dask(X)
    return RowBlocks([X]) if is_store else X


def is_dask(X):
    """Whether X is a dask array, without importing dask."""
    return hasattr(X, "dask") and hasattr(X, "to_delayed") and hasattr(X, "chunks")


def _opened(block):
    if isinstance(block, (str, PathLike)):
        if str(block).endswith(".npz"):
            return sp.load_npz(block)
        block = np.load(block, mmap_mode="r")
    if sp.issparse(block) or (isinstance(block, np.ndarray) and block.ndim == 2):
        return block
    return ArrayAdapter(block)


def _shape(block):
    """(rows, columns) of a block; a sparse matrix in a file is not loaded for it."""
    if not isinstance(block, (str, PathLike)):
        shape = block.shape
    elif str(block).endswith(".npz"):
        with np.load(block) as file:
            shape = file["shape"]
    else:
        shape = np.load(block, mmap_mode="r").shape
    n_rows, *others = map(int, shape)
    return n_rows, prod(others)


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
        asked = [overlap(rows, start, stop) for rows in self.row_slices]
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
        import dask

        tasks = self._tasks(function, arguments)
        while len(tasks) > 1:
            starts = range(0, len(tasks), _AT_ONCE)
            tasks = [dask.delayed(sum)(tasks[start : start + _AT_ONCE]) for start in starts]
        return _computed(tasks)[0]

    def _tasks(self, function, arguments, blocks=None):
        import dask

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
    import dask

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


def lazy_result(estimator, method, X, n_columns=None, dtype=None):
    """What a method of a fitted estimator says of a dask array, when it is asked for."""
    import dask

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
