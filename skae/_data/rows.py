"""X of any kind as centred rows; those of sparse matrices and of blocks."""

from functools import partial

import numpy as np
import scipy.sparse as sp
import torch

from .._runtime.device import (
    float64_device,
    in_float64,
    is_out_of_memory,
    resolve_device,
    sparse_device,
)
from .._runtime.execution import in_threads, slices_of_work
from .._runtime.tensors import (
    batch_slices,
    on_host,
    zeros_for_rows,
)
from .arrays import is_tensor
from .blocks import Blocks
from .dense_rows import CompletedRows, DenseRows, Rows, TensorRows, weights_of
from .incomplete import CompletedArray
from .resident import Resident, ResidentMatrix, mean_times, subtract_outer
from .sparse import (
    add_products,
    column_blocks,
    columns_of_csr,
    rows_of_csr,
    slices_of_entries,
    some_columns,
    some_rows,
    transposed_blocks,
    without_unused_rows,
)

# With at least so many columns, a single product is worth the rearrangement of sparse rows.
_MANY_COLUMNS = 512

# A transpose of more bytes than the first is not kept, but made for each product, in parts of the
# second size.
_LARGE, _PART = 2**30, 256 * 2**20

# Sparse p x p products that are in memory at a time.
_PRODUCTS_AT_ONCE = 4

# Means of which the squares are so many times the variance are subtracted before products.
_LARGE_MEAN = 1e4

# A difference of squares that is a smaller share of their sum is taken for zero.
_CANCELLATION = 16 * np.finfo(np.float64).eps


def rows_of(X, *, mean=None, weights=None, dtype=torch.float32, device="cpu"):
    """Return X, a 2-D array, a CSR matrix or blocks of these, as `Rows`.

    Parameters
    ----------
    X : ndarray, CSR matrix or array, Blocks, CompletedArray, or tensor on an accelerator
        Of shape (n, p).
    mean : ndarray of shape (p,), default=None
        Subtracted from each row; the (weighted) mean of the rows if None.
    weights : ndarray of shape (n,), default=None
        Weight of each row in the mean and the covariance, of mean one; equal weights if None.
    dtype : torch.dtype
        Precision of batches and products.
    device : str or torch.device
        Of batches and products.
    """
    kind = SparseRows if sp.issparse(X) else DenseRows
    if is_tensor(X):
        kind = TensorRows
    if isinstance(X, Blocks):
        kind = BlockRows
    if isinstance(X, CompletedArray):
        kind = CompletedRows
    return kind(X, mean, weights, dtype, torch.device(device))


class SparseRows(Rows):
    """Rows of a SciPy CSR matrix or array, with 32- or 64-bit indices.

    ``A' Q`` uses a transpose of X, which is made once, when it is first needed; that of a very
    large X is made again for each product, part by part.
    """

    def __init__(self, X, mean, weights, dtype, device):
        super().__init__(X, mean, weights, dtype, device)
        self._resident = Resident(ResidentMatrix, X, dtype, sparse_device(device))
        self._transpose = None
        self._column_blocks = None

    def _column_mean(self):
        # X.sum would add float32 in float32.
        weights = weights_of(self)
        parts = slices_of_entries(self.X.indptr)
        total = sum(in_threads(lambda rows: some_rows(self.X, rows).T @ weights[rows], parts))
        return total / self.shape[0]

    def _has_nonzero(self):
        found = np.zeros(self.shape[1], dtype=bool)
        found[self.X.indices] = True
        return found

    def _at_columns(self, columns):
        return some_columns(self.X, columns)

    def dense(self, index):
        if self._resident:
            return self._resident.dense(index)
        index = on_host(index)
        numpy_dtype = np.float64 if self.dtype == torch.float64 else np.float32
        return torch.from_numpy(self.X[index].astype(numpy_dtype).toarray()).to(self.device)

    def times(self, W):
        product = zeros_for_rows(self.shape[0], W)
        if not self._resident.multiply("times", W, product):
            self._add_times(W, product)
        return product.sub_(self._mean_times(W).to(product.device))

    def _add_times(self, W, product):
        """Add ``X W`` to the product, in parts."""
        needs_few = 2 * self.X.nnz < self.shape[1]
        if W.shape[1] >= _MANY_COLUMNS and not needs_few:
            self._divide_into_blocks()
        if self._column_blocks is not None:
            add_products(self._column_blocks, W, product, self.X.nnz, self.device)
        elif needs_few:
            X, needed = without_unused_rows(self.X, W)
            add_products(rows_of_csr(X), needed, product, X.nnz, self.device)
        else:
            add_products(rows_of_csr(self.X), W, product, self.X.nnz, self.device)

    def transposed_times(self, Q):
        product = torch.zeros(self.shape[1], Q.shape[1], dtype=Q.dtype, device=self.device)
        if not self._resident.multiply("transposed_times", Q, product):
            self._add_transposed_times(Q, product)
        return subtract_outer(product, self._mean, Q.sum(dim=0).to(self.device))

    def _add_transposed_times(self, Q, product):
        """Add ``X' Q`` to the product, in parts."""
        if self._is_large:
            for rows in self._slices_of_entries(_PART):
                blocks = transposed_blocks(some_rows(self.X, rows), self._numpy_dtype)
                add_products(columns_of_csr(blocks), Q[rows], product, self.X.nnz, self.device)
        else:
            add_products(columns_of_csr(self._transposed()), Q, product, self.X.nnz, self.device)

    @property
    def _is_large(self):
        return 16 * self.X.nnz > _LARGE

    def _slices_of_entries(self, batch_bytes=None):
        """Slices of rows whose non-zeros have a given size."""
        return batch_slices(self.shape[0], 16 * self.X.nnz / self.shape[0], batch_bytes)

    @property
    def _numpy_dtype(self):
        return np.float64 if self.dtype == torch.float64 else np.float32

    def _transposed(self):
        if self._transpose is None:
            self._transpose = transposed_blocks(self.X, self._numpy_dtype)
        return self._transpose

    def prepare_for_many_products(self):
        if not self._is_large and not self._resident:
            self._transposed()
            self._divide_into_blocks()

    def _divide_into_blocks(self):
        """Divide X into blocks of columns, by way of a transpose that is kept only if it was."""
        if self._column_blocks is None and not self._is_large and not self._resident:
            self._column_blocks = column_blocks(self.X, self._numpy_dtype, self._transpose)

    def _mean_times(self, W):
        # Short sums, added in float64: one float32 sum of all terms would lose three digits.
        if W.device.type != "cpu":
            return mean_times(self._mean.to(W), W)

        def multiply(part):
            terms = zip(self._mean[part].split(256), W[part].split(256), strict=True)
            return sum(in_float64(mean @ block) for mean, block in terms)

        # Counted as 16 operations for each value: reading W takes longer than multiplying.
        parts = slices_of_work(len(W), 16 * W.numel(), self.device)
        return sum(in_threads(multiply, parts)).to(W)

    def covariance(self, unit=1.0):
        # (X - 1 m')' W (X - 1 m') = X'W X - s m' - m s' + n m m', with s = X'W 1 and sum W = n.
        weights, n, mean = weights_of(self), len(self), self.mean / unit
        if n * mean @ mean > _LARGE_MEAN * (self.squared_norms() / unit**2).sum():
            return super().covariance(unit)  # these terms would cancel
        squares, sums = np.zeros((self.shape[1], self.shape[1])), np.zeros(self.shape[1])

        def products(rows):
            X = some_rows(self.X, rows).astype(np.float64) / unit
            weighted = sp.diags(weights[rows]) @ X
            return X.T @ weighted, weighted.T @ np.ones(weighted.shape[0])

        parts = slices_of_entries(self.X.indptr)
        for start in range(0, len(parts), _PRODUCTS_AT_ONCE):
            some = parts[start : start + _PRODUCTS_AT_ONCE]
            for product, column_sums in in_threads(products, some):
                squares += product.toarray()
                sums += column_sums
        mixed = np.outer(sums, mean)
        centred = squares - mixed - mixed.T + n * np.outer(mean, mean)
        return torch.from_numpy(centred).to(float64_device(self.device))

    def _squared_norms(self):
        # |x - m|^2 = |x|^2 + |m|^2 - 2 x'm, in float64 because the terms nearly cancel.
        norms = np.full(self.shape[0], self.mean @ self.mean)

        def measure(rows):
            offsets = self.X.indptr[rows.start : rows.stop + 1]
            nonempty = np.flatnonzero(np.diff(offsets))
            if not len(nonempty):
                return
            entries, starts = slice(offsets[0], offsets[-1]), offsets[nonempty] - offsets[0]
            values = self.X.data[entries].astype(np.float64)
            means = self.mean[self.X.indices[entries]]
            means *= values
            squares = norms[rows.start + nonempty]
            squares += np.add.reduceat(np.square(values, out=values), starts)
            norm = squares - 2 * np.add.reduceat(means, starts)
            norms[rows.start + nonempty] = np.where(norm <= _CANCELLATION * squares, 0.0, norm)

        in_threads(measure, slices_of_entries(self.X.indptr))
        return norms


class BlockRows(Rows):
    """Rows of `Blocks`: each method is called with the rows of one block at a time."""

    def _call(self, method, *arguments, centred=True):
        """The function and arguments that `Blocks.each` needs to call a method of `Rows`."""
        call, device = _call_method, self.device
        if self.X.has_workers:
            # The CPU of a machine with an accelerator is what the user asked for.
            is_chosen = device.type == "cpu" and resolve_device("auto").type != "cpu"
            call, device = _call_on_worker, "cpu" if is_chosen else "auto"
        function = partial(call, method, self.mean if centred else None, self.dtype, device)
        arguments = (self.weights, *arguments)
        parts = [
            tuple(None if values is None else values[rows] for values in arguments)
            for rows in self.X.row_slices
        ]
        return function, parts

    def _column_mean(self):
        return self.X.total(*self._call("_column_sum", centred=False)) / len(self)

    def dense(self, index):
        return self._dense(self.X[on_host(index)])

    @property
    def own(self):
        return self.X.own

    def own_dense(self, index):
        return (
            self.dense(index) if self.own is None else self._dense(self.X.own_rows(on_host(index)))
        )

    def of_all(self, values):
        return values if self.own is None else self.X.of_all_rows(values, "values")

    def _dense(self, X):
        rows = rows_of(X, mean=self.mean, dtype=self.dtype, device=self.device)
        return rows.dense(slice(None))

    def times(self, W):
        product = zeros_for_rows(len(self), W)
        function, parts = self._call("times")
        W = W.to("cpu" if self.X.has_workers else self.device)
        products = self.X.each(partial(function, W=W), parts)
        for rows, part in zip(self.X.row_slices, products, strict=True):
            product[rows] = part
        return product

    def transposed_times(self, Q):
        Q = Q.cpu() if self.X.has_workers else Q
        return self.X.total(*self._call("transposed_times", Q)).to(self.device)

    def _squared_norms(self):
        return np.concatenate(list(self.X.each(*self._call("squared_norms"))))

    def covariance(self, unit=1.0):
        function, parts = self._call("covariance")
        total = self.X.total(partial(function, unit=unit), parts)
        return total.to(float64_device(self.device))


def _call_method(method, mean, dtype, device, block, weights, *arguments, **keywords):
    """Call a method of the rows of a block."""
    rows = rows_of(block, mean=mean, weights=weights, dtype=dtype, device=device)
    return getattr(rows, method)(*arguments, **keywords)


def _call_on_worker(method, mean, dtype, device, block, weights, *arguments, **keywords):
    """Do so on a device of this process, or on its CPU if the device has no room for the block."""

    def call(device):
        moved = [_moved(value, device) for value in arguments]
        named = {name: _moved(value, device) for name, value in keywords.items()}
        return _moved(
            _call_method(method, mean, dtype, device, block, weights, *moved, **named), "cpu"
        )

    try:
        return call(resolve_device(device))
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
    return call(torch.device("cpu"))


def _moved(value, device):
    """A tensor on a device; other values unchanged."""
    return value.to(device) if isinstance(value, torch.Tensor) else value
