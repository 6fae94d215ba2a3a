"""Rows of an array, a memmap or a sparse matrix: batches, and products with a tall matrix.

Everything that depends on how the data is stored lives here. Both kinds of rows stand for the
*centred* matrix ``A = X - 1 mean'`` and never build it: a dense batch is centred before its
product, a sparse one after it.
"""

from abc import ABC, abstractmethod
from functools import partial

import numpy as np
import scipy.sparse as sp
import torch
from torch.nn.functional import embedding_bag

from ._blocks import Blocks
from ._device import accurate_device, in_float64
from ._tall import batch_slices, tall_zeros

# Columns of a tall matrix that are gathered at a time; and how many of its rows, where many
# products are worth a rearrangement of X: 2,048 rows of 64 float32 stay in the nearest large cache.
_PANEL, _PANEL_ROWS = 64, 2048

# From so many columns of the tall matrix on, even a single product is worth it.
_MANY_COLUMNS = 512

# A transpose of more bytes is not kept, but made again in parts of so many.
_LARGE, _PART = 2**30, 256 * 2**20

# Fewer non-zeros of a row than these, on average, are not worth a sum of their own.
_LEAST_PER_SUM = 16


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


def weights_of(rows):
    """How often each row counts, in float64: shape (n,)."""
    return np.ones(len(rows)) if rows.weights is None else rows.weights


def tensor_of(array):
    """A NumPy array as a tensor, sharing its memory unless that is read-only."""
    return torch.from_numpy(array if array.flags.writeable else array.copy())


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
        n = len(self)
        gram = torch.empty(n, n, dtype=torch.float64, device=accurate_device(self.device))
        for rows in self.slices():
            gram[:, rows] = in_float64(self.times(self.centred(rows).T))
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
                total += self.X[rows].sum(axis=0, dtype=np.float64)
            else:
                total += self.weights[rows] @ self.X[rows]
        return total / self.shape[0]

    def dense(self, index):
        numpy_dtype = np.float64 if self.dtype == torch.float64 else np.float32
        batch = np.ascontiguousarray(self.X[index], dtype=numpy_dtype)
        return tensor_of(batch).to(self.device)

    def times(self, W):
        product = tall_zeros(self.shape[0], W)
        for rows in self.slices():
            product[rows] = self.centred(rows) @ W
        return product

    def transposed_times(self, Q):
        product = torch.zeros(self.shape[1], Q.shape[1], dtype=Q.dtype, device=self.device)
        for rows in self.slices():
            product.addmm_(self.centred(rows).T, Q[rows].to(self.device))
        return product

    def covariance(self):
        p = self.shape[1]
        covariance = torch.zeros(p, p, dtype=torch.float64, device=accurate_device(self.device))
        for rows in self.slices():
            batch = in_float64(self.centred(rows))
            weighted = batch
            if self.weights is not None:
                weighted = torch.from_numpy(self.weights[rows, None]).to(batch) * batch
            covariance.addmm_(batch.T, weighted)
        return covariance

    def _squared_norms(self):
        norms = np.empty(self.shape[0])
        for rows in batch_slices(self.shape[0], self.shape[1] * 8):
            centred = self.X[rows].astype(np.float64) - self.mean
            norms[rows] = np.einsum("ij,ij->i", centred, centred)
        return norms


class SparseRows(Rows):
    """Rows of a SciPy CSR matrix or array, with 32- or 64-bit indices.

    The products gather rows of the tall matrix with `embedding_bag`: the fastest sparse product
    PyTorch has on a CPU (docs/design.md has the figures). ``A' Q`` uses a transpose of X, which is
    made once, when first asked for; that of a very large X is made anew for each product, part by
    part.
    """

    def __init__(self, X, mean, weights, dtype, device):
        super().__init__(X, mean, weights, dtype, device)
        self._transpose = None
        self._blocks = [(slice(None), X)]

    def _column_mean(self):
        # Not X.sum: that adds float32 up in float32.
        weights = weights_of(self)
        total = sum(self.X[rows].T @ weights[rows] for rows in self._slices_of_entries())
        return total / self.shape[0]

    def dense(self, index):
        numpy_dtype = np.float64 if self.dtype == torch.float64 else np.float32
        return torch.from_numpy(self.X[index].astype(numpy_dtype).toarray()).to(self.device)

    def times(self, W):
        if W.shape[1] >= _MANY_COLUMNS:
            self.prepare_for_many_products()
        product = tall_zeros(self.shape[0], W)
        for columns, block in self._blocks:
            self._add_product(block, W[columns], product)
        return product.sub_(self._mean_times(W).to(product.device))

    def transposed_times(self, Q):
        product = torch.zeros(self.shape[1], Q.shape[1], dtype=Q.dtype, device=self.device)
        if self._is_large:
            for rows in self._slices_of_entries(_PART):
                self._add_product(self.X[rows].T.tocsr(), Q[rows], product)
        else:
            self._add_product(self._transposed(), Q, product)
        return product.addr_(self._mean, Q.sum(dim=0).to(self.device), alpha=-1)

    @property
    def _is_large(self):
        return 16 * self.X.nnz > _LARGE

    def _slices_of_entries(self, batch_bytes=None):
        """Slices of rows by the size of their non-zeros."""
        return batch_slices(self.shape[0], 16 * self.X.nnz / self.shape[0], batch_bytes)

    def _transposed(self):
        if self._transpose is None:
            self._transpose = self.X.T.tocsr()
        return self._transpose

    def prepare_for_many_products(self):
        if self._is_large:
            return
        n, p = self.shape
        most = self.X.nnz // (_LEAST_PER_SUM * n)
        if len(self._blocks) == 1 and min(most, p // _PANEL_ROWS) > 1:
            width = max(_PANEL_ROWS, -(-p // most))
            columns = [slice(start, start + width) for start in range(0, p, width)]
            transpose = self._transposed()
            self._blocks = [(part, transpose[part].T.tocsr()) for part in columns]

    def _mean_times(self, W):
        # Short sums, added up in float64: one float32 sum of all terms would cost three digits.
        parts = zip(self._mean.split(256), W.split(256), strict=True)
        return sum(in_float64(part @ block) for part, block in parts).to(W)

    def _add_product(self, csr, dense, product):
        """Add ``csr @ dense`` to product: for blocks of rows, panel by panel of columns."""
        for columns, sums in zip(
            dense.split(4 * _PANEL, dim=1), product.split(4 * _PANEL, dim=1), strict=True
        ):
            panels = [panel.to(self.device).contiguous() for panel in columns.split(_PANEL, dim=1)]
            for rows in batch_slices(csr.shape[0], 16 * csr.nnz / csr.shape[0]):
                self._add_sums(csr, rows, panels, sums[rows].split(_PANEL, dim=1))

    def _add_sums(self, csr, rows, panels, sums):
        """Add ``csr[rows] @ panel`` for each panel to its part of ``sums``."""
        offsets = csr.indptr[rows.start : rows.stop + 1]
        entries = slice(offsets[0], offsets[-1])
        indices = tensor_of(csr.indices[entries]).to(self.device)
        values = tensor_of(csr.data[entries]).to(panels[0])
        offsets = tensor_of((offsets - offsets[0]).astype(csr.indices.dtype)).to(self.device)
        for panel, out in zip(panels, sums, strict=True):
            out += embedding_bag(
                indices,
                panel,
                offsets,
                mode="sum",
                per_sample_weights=values,
                include_last_offset=True,
            ).to(out.device)

    def covariance(self):
        # (X - 1 m')' W (X - 1 m') = X'W X - s m' - m s' + n m m', with s = X'W 1 and sum W = n.
        weights, n = weights_of(self), len(self)
        squares, sums = np.zeros((self.shape[1], self.shape[1])), np.zeros(self.shape[1])
        for rows in self._slices_of_entries():
            X = self.X[rows].astype(np.float64)
            weighted = sp.diags(weights[rows]) @ X
            squares += (X.T @ weighted).toarray()
            sums += weighted.T @ np.ones(weighted.shape[0])
        cross = np.outer(sums, self.mean)
        centred = squares - cross - cross.T + n * np.outer(self.mean, self.mean)
        return torch.from_numpy(centred).to(accurate_device(self.device))

    def _squared_norms(self):
        # |x - m|^2 = |x|^2 - 2 x'm + |m|^2, in float64 because the terms nearly cancel.
        norms = np.empty(self.shape[0])
        for rows in self._slices_of_entries():
            X = self.X[rows]
            squares = sp.csr_matrix((np.square(X.data), X.indices, X.indptr), shape=X.shape)
            norms[rows] = squares @ np.ones(self.shape[1]) - 2 * (X @ self.mean)
        return np.maximum(norms + self.mean @ self.mean, 0.0)


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
