"""Centred rows: what all kinds of them have in common, and rows of dense arrays and tensors.

All kinds of rows represent the centred matrix ``A = X - 1 mean'`` without building it: a dense
batch is centred before a product, a sparse product after it.
"""

from abc import ABC, abstractmethod

import numpy as np
import torch

from .._runtime.device import float64_device, in_float64, in_turn_with_room
from .._runtime.execution import in_threads, slices_of_work
from .._runtime.tensors import (
    batch_slices,
    on_host,
    rows_at,
    tensor_of,
    zeros_for_rows,
)
from .resident import Resident, ResidentArray

# Bytes of dense rows that one thread multiplies at a time, and the fewest rows.
_DENSE_PART, _DENSE_ROWS = 16 * 2**20, 256


def weights_of(rows):
    """Return the weight of each row in float64: shape (n,)."""
    return np.ones(len(rows)) if rows.weights is None else rows.weights


def sum_of_products(side, slices, get_batch, device):
    """Return the sum of ``B' B`` over batches B in float64: shape (side, side).

    Parameters
    ----------
    side : int
        Number of columns of each batch.
    slices : list of slice
    get_batch : callable
        The batch of a slice: a float64 tensor.
    device : torch.device
    """
    total = torch.zeros(side, side, dtype=torch.float64, device=float64_device(device))

    def multiply(part):
        batch = get_batch(part)

        def add(columns):
            # On and above the diagonal: the rest is copied at the end.
            right = slice(columns.start, None)
            total[columns, right].addmm_(batch[:, columns].T, batch[:, right])

        in_threads(add, slices_of_work(side, 2 * side * batch.numel(), total.device))

    in_turn_with_room(slices, multiply)
    return total.triu_() + total.triu(1).T


class Rows(ABC):
    """The centred rows of X: ``A = X - 1 mean'`` of shape (n, p).

    If each process of a group has its own rows, ``own`` is the slice of those of this process, else
    None. ``is_dense`` says whether X is a dense array in memory. ``columns`` are the indices of the
    columns of X among ``n_features``, of which the others are left out; None if these are all.
    """

    own = columns = None
    is_dense = False

    def __init__(self, X, mean, weights, dtype, device):
        self.X = X
        self.weights = weights
        self.shape = X.shape
        self.n_features = X.shape[1]
        self.dtype = dtype
        self.device = device
        self.mean = self._column_mean() if mean is None else np.asarray(mean, dtype=np.float64)
        self._mean = torch.from_numpy(self.mean).to(dtype).to(device)
        self._norms = None

    def __len__(self):
        return self.shape[0]

    @abstractmethod
    def _column_mean(self):
        """The mean of each column in float64: shape (p,)."""

    def _column_sum(self):
        return len(self) * self.mean

    @abstractmethod
    def dense(self, index):
        """Return rows at a slice, an ndarray or `Indices`, not centred, as a dense tensor."""

    def own_dense(self, index):
        """The same of rows that this process has, without the other processes."""
        return self.dense(index)

    def of_all(self, values):
        """Values of all rows from those of the rows that this process has: an ndarray."""
        return values

    @abstractmethod
    def times(self, W):
        """Return ``A W`` for a tensor W of shape (p, c): shape (n, c)."""

    @abstractmethod
    def transposed_times(self, Q):
        """Return ``A' Q`` for a tensor Q of shape (n, c): shape (p, c)."""

    def prepare_for_many_products(self):  # noqa: B027, optional
        """Rearrange the rows if that makes `times` and `transposed_times` faster."""

    def squared_norms(self):
        """Return the squared length of each centred row in float64: shape (n,)."""
        if self._norms is None:
            self._norms = self._squared_norms()
        return self._norms

    @abstractmethod
    def _squared_norms(self):
        """Compute the result of `squared_norms`, which stores it."""

    @property
    def _kind(self):
        """The class of the same rows with other columns or in another precision."""
        return type(self)

    def in_dtype(self, dtype):
        """The same rows with products in another precision: on the CPU if the device lacks it."""
        if self.dtype == dtype:
            return self
        device = float64_device(self.device) if dtype == torch.float64 else self.device
        rows = self._kind(self.X, self.mean, self.weights, dtype, device)
        rows._norms, rows.columns, rows.n_features = self._norms, self.columns, self.n_features
        return rows

    def in_float64(self):
        """The same rows, of which products are computed in float64."""
        return self.in_dtype(torch.float64)

    def of_used_columns(self, at_least):
        """The rows without columns of zeros, of which ``columns`` has the indices of the others.

        They have ``at_least`` columns, if there are as many. Where fewer than half of the columns
        would be left out these are the same rows.
        """
        p = self.shape[1]
        is_used = self.mean != 0
        if 2 * is_used.sum() > p:
            return self
        is_used |= self._has_nonzero()
        n_more = max(0, min(at_least, p) - int(is_used.sum()))
        is_used[np.flatnonzero(~is_used)[:n_more]] = True
        columns = np.flatnonzero(is_used)
        return self if 2 * len(columns) > p else self.of_columns(columns)

    def _has_nonzero(self):
        """Whether each column has a value that is not zero: shape (p,)."""
        return np.ones(self.shape[1], dtype=bool)

    def of_columns(self, columns):
        """The rows of some columns, given their indices in increasing order."""
        X = self._at_columns(columns)
        rows = self._kind(X, self.mean[columns], self.weights, self.dtype, self.device)
        rows.columns, rows.n_features = columns, self.n_features
        return rows

    def _at_columns(self, columns):
        """X with some of its columns."""
        return self.X[:, columns]

    def covariance(self, unit=1.0):
        """Return ``A' W A / unit^2`` in float64 for the weights W: shape (p, p).

        A power of two near the length of a row as the unit keeps squares of large and small values
        from overflowing or vanishing.
        """

        def batch(rows):
            return self._weighted(in_float64(self.centred(rows)), rows).div_(unit)

        return sum_of_products(self.shape[1], self.slices(), batch, self.device)

    def gram(self, unit=1.0):
        """Return ``A A' / unit^2`` in float64, without weights: shape (n, n)."""
        n = len(self)
        gram = torch.empty(n, n, dtype=torch.float64, device=float64_device(self.device))

        def multiply(rows):
            gram[:, rows] = in_float64(self.times(self.centred(rows).T / unit)) / unit

        in_turn_with_room(self.slices(), multiply)
        return gram

    def _weighted(self, values, rows):
        """Multiply values of some rows by the square roots of their weights, in place."""
        if self.weights is None:
            return values
        return values.mul_(torch.from_numpy(self.weights[rows, None]).sqrt().to(values))

    def centred_columns(self, columns):
        """Return a slice of the columns of A as a dense tensor of shape (n, c)."""
        return torch.cat([self.centred(rows)[:, columns] for rows in self.slices()])

    def column_slices(self):
        """Return slices of columns that are small enough to be made dense."""
        return batch_slices(self.shape[1], self.shape[0] * self.dtype.itemsize)

    def centred(self, index):
        """Return the rows at ``index`` of A as a dense tensor."""
        return self.dense(index) - self._mean

    def slices(self):
        """Return slices of rows that are small enough to be made dense."""
        return batch_slices(self.shape[0], self.shape[1] * self.dtype.itemsize)


class DenseRows(Rows):
    """Rows of a NumPy array or memmap of any real dtype and memory order."""

    is_dense = True

    def __init__(self, X, mean, weights, dtype, device):
        super().__init__(X, mean, weights, dtype, device)
        self._resident = Resident(ResidentArray, X, dtype, device)

    def _column_mean(self):
        total = np.zeros(self.shape[1])
        for rows in batch_slices(self.shape[0], self.shape[1] * 8):
            if self.weights is None:
                total += self._contiguous(rows).sum(axis=0, dtype=np.float64)
            else:
                total += self.weights[rows] @ self._contiguous(rows)
        return total / self.shape[0]

    def _has_nonzero(self):
        found = np.zeros(self.shape[1], dtype=bool)
        for rows in self.slices():
            found |= (self.X[rows] != 0).any(axis=0)
        return found

    def _contiguous(self, rows):
        # The rounding of sums depends on the memory order: use the same order for every X.
        return np.ascontiguousarray(self.X[rows])

    def dense(self, index):
        if self._resident:
            return self._resident.dense(index)
        index = on_host(index)
        numpy_dtype = np.float64 if self.dtype == torch.float64 else np.float32
        batch = np.ascontiguousarray(self.X[index], dtype=numpy_dtype)
        return tensor_of(batch).to(self.device)

    def times(self, W):
        product = zeros_for_rows(self.shape[0], W)

        def multiply(rows):
            product[rows] = self.centred(rows) @ W

        if self.device.type == "cpu":
            self._apply_to_slices(multiply, 2 * self.shape[0] * W.numel())
        else:
            in_turn_with_room(self.slices(), multiply)
        return product

    def _apply_to_slices(self, function, n_operations):
        """Call a function on the CPU with slices of rows, in threads if that is worth it."""
        n, row_bytes = self.shape[0], self.shape[1] * self.dtype.itemsize
        parts = slices_of_work(n, n_operations)
        max_bytes = max(_DENSE_PART, _DENSE_ROWS * row_bytes)
        if len(parts) == 1:
            in_turn_with_room(batch_slices(n, row_bytes, max_bytes), function)
        else:
            part_bytes = min(parts[0].stop * row_bytes, max_bytes)
            in_threads(function, batch_slices(n, row_bytes, part_bytes))

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

    def gram(self, unit=1.0):
        def batch(columns):
            return in_float64(self.centred_columns(columns)).div_(unit).T

        return sum_of_products(len(self), self.column_slices(), batch, self.device)

    def centred_columns(self, columns):
        if self._resident:
            return super().centred_columns(columns)
        numpy_dtype = np.float64 if self.dtype == torch.float64 else np.float32
        values = np.ascontiguousarray(self.X[:, columns], dtype=numpy_dtype)
        return tensor_of(values).to(self.device) - self._mean[columns]

    def _squared_norms(self):
        norms = np.empty(self.shape[0])

        def measure(rows):
            centred = self._contiguous(rows).astype(np.float64) - self.mean
            norms[rows] = np.einsum("ij,ij->i", centred, centred)

        # Reading and converting a value takes as long as a dozen multiplications.
        self._apply_to_slices(measure, 12 * self.shape[0] * self.shape[1])
        return norms


class TensorRows(DenseRows):
    """Rows of a tensor on an accelerator, whose batches are not copied to the CPU."""

    def _column_mean(self):
        weights = torch.from_numpy(weights_of(self)).to(float64_device(self.X.device))
        total = weights.new_zeros(self.shape[1])
        self._in_float64(lambda rows, x: total.add_(weights[rows] @ x))
        return total.cpu().numpy() / self.shape[0]

    def dense(self, index):
        return rows_at(self.X, index).to(self.device).to(self.dtype)

    def _has_nonzero(self):
        return (self.X != 0).any(dim=0).cpu().numpy()

    def _at_columns(self, columns):
        return self.X[:, torch.from_numpy(columns).to(self.X.device)]

    def centred_columns(self, columns):
        return self.X[:, columns].to(self.device).to(self.dtype) - self._mean[columns]

    def _squared_norms(self):
        mean = torch.from_numpy(self.mean).to(float64_device(self.X.device))
        norms = mean.new_empty(self.shape[0])
        self._in_float64(lambda rows, x: norms[rows].copy_((x - mean).square_().sum(dim=1)))
        return norms.cpu().numpy()

    def _in_float64(self, function):
        """Call a function with slices of rows and these rows in float64."""
        batches = batch_slices(self.shape[0], self.shape[1] * 8)
        in_turn_with_room(batches, lambda rows: function(rows, in_float64(self.X[rows])))


class CompletedRows(DenseRows):
    """Rows whose missing entries are filled; ``observed`` has NaN in their place."""

    def __init__(self, X, mean, weights, dtype, device):
        mean = X.mean if mean is None else mean
        super().__init__(X.filled, mean, weights, dtype, device)
        self.completed = X
        self.observed = DenseRows(X.observed, mean, weights, dtype, device)

    def of_used_columns(self, at_least):
        return self  # networks compare the observed entries of all columns

    @property
    def _kind(self):
        return DenseRows  # products are those of the filled rows

    def observed_norms(self):
        """Return the squared distance of the observed entries of each row from the mean."""
        norms = np.empty(len(self))
        for rows in self.slices():
            centred = self.completed.observed[rows].astype(np.float64) - self.mean
            norms[rows] = np.nansum(np.square(centred), axis=1)
        return norms
