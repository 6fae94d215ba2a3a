"""Rows of an array, a memmap or a sparse matrix: batches, and products with a tall matrix.

Everything that depends on how the data is stored lives here. Both kinds of rows stand for the
*centred* matrix ``A = X - 1 mean'`` and never build it: a dense batch is centred before its
product, a sparse one after it.
"""

from abc import ABC, abstractmethod
from functools import partial
from math import frexp, ldexp

import numpy as np
import scipy.sparse as sp
import torch

from ._blocks import Blocks
from ._device import accurate_device, in_float64, in_turn_with_room
from ._sparse_product import (
    add_products,
    column_blocks,
    columns_of_csr,
    only_needed,
    rows_of_csr,
    slices_of_entries,
    tensor_of,
    transposed_blocks,
)
from ._tall import batch_slices, tall_zeros
from ._threads import in_threads, slices_of_work

# From so many columns of the tall matrix on, even a single product is worth it.
_MANY_COLUMNS = 512

# A transpose of more bytes is not kept, but made again in parts of so many.
_LARGE, _PART = 2**30, 256 * 2**20

# Bytes of dense rows that one thread takes at a time, and at least so many rows.
_DENSE_PART, _DENSE_ROWS = 16 * 2**20, 256

# Products of p x p that are added up at a time.
_AT_ONCE = 4

# A difference of squares that is a smaller share of them is what rounding left of zero.
_CANCELLED = 16 * np.finfo(np.float64).eps


def rows_of(X, *, mean=None, weights=None, dtype=torch.float32, device="cpu"):
    """Wrap X, a 2-D array, a CSR matrix or blocks of these, as `Rows`.

    Parameters
    ----------
    X : ndarray, CSR matrix or array, or Blocks, of shape (n, p)
    mean : ndarray of shape (p,), default=None
        What is subtracted from each row; the (weighted) mean of the rows if None.
    weights : ndarray of shape (n,), default=None
        How often each row counts in the mean and the covariance, of mean one; once if None.
    dtype : torch.dtype
        Precision of batches and products.
    device : str or torch.device
        Where batches and products live.
    """
    kind = SparseRows if sp.issparse(X) else DenseRows
    if isinstance(X, Blocks):
        kind = StackedRows
    return kind(X, mean, weights, dtype, torch.device(device))


def power_of_two(number):
    """One near to a positive number, by which to divide exactly; 1.0 for zero."""
    return ldexp(1.0, frexp(number)[1])


def weights_of(rows):
    """How often each row counts, in float64: shape (n,)."""
    return np.ones(len(rows)) if rows.weights is None else rows.weights


def torch_dtype(dtype):
    """The torch counterpart of a NumPy dtype."""
    return torch.from_numpy(np.empty(0, dtype)).dtype


class Rows(ABC):
    """The centred rows of X: ``A = X - 1 mean'`` of shape (n, p)."""

    def __init__(self, X, mean, weights, dtype, device):
        self.X = X
        self.weights = weights
        self.shape = X.shape
        self.dtype = dtype
        self.device = device
        self.mean = self._column_mean() if mean is None else np.asarray(mean, dtype=np.float64)
        self._mean = torch.from_numpy(self.mean).to(dtype).to(device)
        self._norms = None

    def __len__(self):
        return self.shape[0]

    @abstractmethod
    def _column_mean(self):
        """Mean of each column in float64, shape (p,)."""

    def _column_sum(self):
        return len(self) * self.mean

    @abstractmethod
    def dense(self, index):
        """The rows at ``index`` (a slice or an array), not centred, as a dense tensor."""

    @abstractmethod
    def times(self, W):
        """``A W`` for a tensor W of shape (p, c): shape (n, c)."""

    @abstractmethod
    def transposed_times(self, Q):
        """``A' Q`` for a tensor Q of shape (n, c): shape (p, c)."""

    def prepare_for_many_products(self):  # noqa: B027, rows may well have nothing to do
        """Rearrange the rows, if that makes `times` and `transposed_times` faster."""

    def squared_norms(self):
        """Squared length of each centred row in float64, shape (n,)."""
        if self._norms is None:
            self._norms = self._squared_norms()
        return self._norms

    @abstractmethod
    def _squared_norms(self):
        """What `squared_norms` remembers."""

    @abstractmethod
    def covariance(self):
        """``A' W A`` in float64, shape (p, p)."""

    def gram(self):
        """``A A'`` in float64, shape (n, n)."""
        # In a unit of their length, or squares of large or small float32 would not be numbers.
        n, unit = len(self), power_of_two(self.squared_norms().max() ** 0.5)
        gram = torch.empty(n, n, dtype=torch.float64, device=accurate_device(self.device))

        def multiply(rows):
            gram[:, rows] = in_float64(self.times(self.centred(rows).T / unit)) * unit

        in_turn_with_room(self.slices(), multiply)
        return gram

    def centred(self, index):
        """The rows at ``index`` of A, as a dense tensor."""
        return self.dense(index) - self._mean

    def slices(self):
        """Slices of rows that are small enough to be dense one at a time."""
        return batch_slices(self.shape[0], self.shape[1] * self.dtype.itemsize)


class DenseRows(Rows):
    """Rows of a NumPy array or memmap of any real dtype and memory order."""

    def _column_mean(self):
        total = np.zeros(self.shape[1])
        for rows in batch_slices(self.shape[0], self.shape[1] * 8):
            if self.weights is None:
                total += self._part(rows).sum(axis=0, dtype=np.float64)
            else:
                total += self.weights[rows] @ self._part(rows)
        return total / self.shape[0]

    def _part(self, rows):
        # In one order, on which sums depend, whatever that of X is.
        return np.ascontiguousarray(self.X[rows])

    def dense(self, index):
        numpy_dtype = np.float64 if self.dtype == torch.float64 else np.float32
        batch = np.ascontiguousarray(self.X[index], dtype=numpy_dtype)
        return tensor_of(batch).to(self.device)

    def times(self, W):
        product = tall_zeros(self.shape[0], W)

        def multiply(rows):
            product[rows] = self.centred(rows) @ W

        self._each_of(multiply, 2 * self.shape[0] * W.numel())
        return product

    def _each_of(self, function, n_operations):
        """Call a function of slices of rows, in threads where there is enough to do."""
        n, row_bytes = self.shape[0], self.shape[1] * self.dtype.itemsize
        parts = slices_of_work(n, n_operations, self.device)
        most = max(_DENSE_PART, _DENSE_ROWS * row_bytes)
        if len(parts) == 1:
            in_turn_with_room(batch_slices(n, row_bytes, most), function)
        else:
            step = min(parts[0].stop * row_bytes, most)
            in_threads(function, batch_slices(n, row_bytes, step))

    def transposed_times(self, Q):
        product = torch.zeros(self.shape[1], Q.shape[1], dtype=Q.dtype, device=self.device)

        def multiply(rows):
            batch, q = self.dense(rows), Q[rows].to(self.device)

            def add(columns):
                centred = batch[:, columns] - self._mean[columns]
                product[columns].addmm_(centred.T, q)

            n_operations = 2 * batch.numel() * q.shape[1]
            in_threads(add, slices_of_work(self.shape[1], n_operations, self.device))

        in_turn_with_room(self.slices(), multiply)
        return product

    def covariance(self):
        p = self.shape[1]
        covariance = torch.zeros(p, p, dtype=torch.float64, device=accurate_device(self.device))

        def multiply(rows):
            batch = in_float64(self.centred(rows))
            weighted = batch
            if self.weights is not None:
                weighted = torch.from_numpy(self.weights[rows, None]).to(batch) * batch

            def add(columns):
                # Nothing below the diagonal: that is copied in the end.
                beyond = slice(columns.start, None)
                covariance[columns, beyond].addmm_(batch[:, columns].T, weighted[:, beyond])

            in_threads(add, slices_of_work(p, 2 * p * batch.numel(), covariance.device))

        in_turn_with_room(self.slices(), multiply)
        return covariance.triu_() + covariance.triu(1).T

    def _squared_norms(self):
        norms = np.empty(self.shape[0])

        def measure(rows):
            centred = self._part(rows).astype(np.float64) - self.mean
            norms[rows] = np.einsum("ij,ij->i", centred, centred)

        # Read and converted rather than multiplied: a dozen operations' worth for each number.
        self._each_of(measure, 12 * self.shape[0] * self.shape[1])
        return norms


class SparseRows(Rows):
    """Rows of a SciPy CSR matrix or array, with 32- or 64-bit indices.

    ``A' Q`` uses a transpose of X, which is made once, when first asked for; that of a very large X
    is made anew for each product, part by part.
    """

    def __init__(self, X, mean, weights, dtype, device):
        super().__init__(X, mean, weights, dtype, device)
        self._transpose = None
        self._column_blocks = None

    def _column_mean(self):
        # Not X.sum: that adds float32 up in float32.
        weights = weights_of(self)
        parts = slices_of_entries(self.X.indptr)
        total = sum(in_threads(lambda rows: self.X[rows].T @ weights[rows], parts))
        return total / self.shape[0]

    def dense(self, index):
        numpy_dtype = np.float64 if self.dtype == torch.float64 else np.float32
        return torch.from_numpy(self.X[index].astype(numpy_dtype).toarray()).to(self.device)

    def times(self, W):
        needs_few = 2 * self.X.nnz < self.shape[1]
        if W.shape[1] >= _MANY_COLUMNS and not needs_few:
            self.prepare_for_many_products()
        product = tall_zeros(self.shape[0], W)
        if self._column_blocks is not None:
            add_products(self._column_blocks, W, product, self.X.nnz, self.device)
        elif needs_few:
            X, needed = only_needed(self.X, W)
            add_products(rows_of_csr(X), needed, product, X.nnz, self.device)
        else:
            add_products(rows_of_csr(self.X), W, product, self.X.nnz, self.device)
        return product.sub_(self._mean_times(W).to(product.device))

    def transposed_times(self, Q):
        product = torch.zeros(self.shape[1], Q.shape[1], dtype=Q.dtype, device=self.device)
        if self._is_large:
            for rows in self._slices_of_entries(_PART):
                blocks = transposed_blocks(self.X[rows], self._numpy_dtype)
                add_products(columns_of_csr(blocks), Q[rows], product, self.X.nnz, self.device)
        else:
            add_products(columns_of_csr(self._transposed()), Q, product, self.X.nnz, self.device)
        return product.addr_(self._mean, Q.sum(dim=0).to(self.device), alpha=-1)

    @property
    def _is_large(self):
        return 16 * self.X.nnz > _LARGE

    def _slices_of_entries(self, batch_bytes=None):
        """Slices of rows by the size of their non-zeros."""
        return batch_slices(self.shape[0], 16 * self.X.nnz / self.shape[0], batch_bytes)

    @property
    def _numpy_dtype(self):
        return np.float64 if self.dtype == torch.float64 else np.float32

    def _transposed(self):
        if self._transpose is None:
            self._transpose = transposed_blocks(self.X, self._numpy_dtype)
        return self._transpose

    def prepare_for_many_products(self):
        if self._column_blocks is None and not self._is_large:
            self._column_blocks = column_blocks(self.X, self._transposed())

    def _mean_times(self, W):
        # Short sums, added up in float64: one float32 sum of all terms would cost three digits.
        def multiply(part):
            terms = zip(self._mean[part].split(256), W[part].split(256), strict=True)
            return sum(in_float64(mean @ block) for mean, block in terms)

        # It is the reading of W that takes long.
        parts = slices_of_work(len(W), 16 * W.numel(), self.device)
        return sum(in_threads(multiply, parts)).to(W)

    def covariance(self):
        # (X - 1 m')' W (X - 1 m') = X'W X - s m' - m s' + n m m', with s = X'W 1 and sum W = n.
        weights, n = weights_of(self), len(self)
        squares, sums = np.zeros((self.shape[1], self.shape[1])), np.zeros(self.shape[1])

        def products(rows):
            X = self.X[rows].astype(np.float64)
            weighted = sp.diags(weights[rows]) @ X
            return X.T @ weighted, weighted.T @ np.ones(weighted.shape[0])

        parts = slices_of_entries(self.X.indptr)
        for start in range(0, len(parts), _AT_ONCE):
            for product, column_sums in in_threads(products, parts[start : start + _AT_ONCE]):
                squares += product.toarray()
                sums += column_sums
        cross = np.outer(sums, self.mean)
        centred = squares - cross - cross.T + n * np.outer(self.mean, self.mean)
        return torch.from_numpy(centred).to(accurate_device(self.device))

    def _squared_norms(self):
        # |x - m|^2 = |x|^2 + |m|^2 - 2 x'm, in float64 because the terms nearly cancel.
        norms = np.full(self.shape[0], self.mean @ self.mean)

        def measure(rows):
            offsets = self.X.indptr[rows.start : rows.stop + 1]
            filled = np.flatnonzero(np.diff(offsets))
            if not len(filled):
                return
            entries, starts = slice(offsets[0], offsets[-1]), offsets[filled] - offsets[0]
            values = self.X.data[entries].astype(np.float64)
            means = self.mean[self.X.indices[entries]]
            means *= values
            lengths = norms[rows.start + filled]
            lengths += np.add.reduceat(np.square(values, out=values), starts)
            left = lengths - 2 * np.add.reduceat(means, starts)
            norms[rows.start + filled] = np.where(left <= _CANCELLED * lengths, 0.0, left)

        in_threads(measure, slices_of_entries(self.X.indptr))
        return norms


class StackedRows(Rows):
    """Rows of blocks that lie one below the other, each opened and read where it is."""

    def _asked(self, method, *arguments, centred=True):
        """A function of a block and its part of each argument, and those parts for each block."""
        device = self.X.device or self.device
        ask = partial(_answer, method, self.mean if centred else None, self.dtype, device)
        tall = (self.weights, *arguments)
        parts = [
            tuple(None if values is None else values[rows] for values in tall)
            for rows in self.X.row_slices
        ]
        return ask, parts

    def _column_mean(self):
        return self.X.total(*self._asked("_column_sum", centred=False)) / len(self)

    def dense(self, index):
        rows = rows_of(self.X[index], mean=self.mean, dtype=self.dtype, device=self.device)
        return rows.dense(slice(None))

    def times(self, W):
        product = tall_zeros(len(self), W)
        ask, parts = self._asked("times")
        answers = self.X.each(partial(ask, W=W.to(self.X.device or self.device)), parts)
        for rows, part in zip(self.X.row_slices, answers, strict=True):
            product[rows] = part
        return product

    def transposed_times(self, Q):
        Q = Q.to(self.X.device or Q.device)
        return self.X.total(*self._asked("transposed_times", Q)).to(self.device)

    def _squared_norms(self):
        return np.concatenate(list(self.X.each(*self._asked("squared_norms"))))

    def covariance(self):
        return self.X.total(*self._asked("covariance")).to(accurate_device(self.device))


def _answer(method, mean, dtype, device, block, weights, *arguments, **others):
    """What the rows of a block say."""
    rows = rows_of(block, mean=mean, weights=weights, dtype=dtype, device=device)
    return getattr(rows, method)(*arguments, **others)
