"""X on a device other than the CPU: uploaded once, then multiplied and made dense there."""

from functools import cached_property

import numpy as np
import torch
from torch.nn.functional import embedding_bag

from .._runtime.device import empty_cache, in_float64, is_out_of_memory
from .._runtime.tensors import Indices, batch_slices, fits_on_device, row_slices, tensor_of

# Columns of the dense factor of a sparse product: 65,536 rows of them in float32 take 32 MB, which
# the cache of a large GPU holds. Few non-zeros are multiplied by all columns at once if the product
# has few entries too.
_PANEL, _FEW = 128, 2**20

# X stays on a device if it takes less than this share of the free memory there.
_SHARE_OF_DEVICE = 0.4

# Bytes for each non-zero: row or column and value, of X and of its transpose, and what sorting the
# non-zeros takes beside them.
_BYTES_OF_NONZERO = 48

# Terms of a product with the mean that are summed in its own precision.
_SHORT = 256

# Types of arrays that are uploaded as they are if they are shorter than the rows that are computed.
_SHORT_TYPES = (np.uint8, np.int8, np.int16, np.float16, np.float32)


class Resident:
    """X on a device while it fits, uploaded when it is first needed; nothing on the CPU.

    Parameters
    ----------
    kind : type
        `ResidentArray` or `ResidentMatrix`.
    X : ndarray or CSR matrix
    dtype : torch.dtype
        Of dense rows and products.
    device : torch.device
    """

    def __init__(self, kind, X, dtype, device):
        self._arguments = kind, X, dtype, device

    @cached_property
    def _uploaded(self):
        """The X of its kind; None on the CPU and without room."""
        kind, X, dtype, device = self._arguments
        if device.type == "cpu" or not fits_on_device(kind.n_bytes(X), device, _SHARE_OF_DEVICE):
            return None
        try:
            with torch.inference_mode(False):  # rows that are uploaded by `score` may be trained on
                return kind(X, dtype, device)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
        empty_cache(device)
        return None

    def __bool__(self):
        return self._uploaded is not None

    def dense(self, index):
        """The rows at ``index`` as a dense tensor on the device."""
        return self._uploaded.dense(index)

    def multiply(self, method, factor, product):
        """Compute a product by a method of X on the device; return whether that was possible.

        If the device has no room for it, X is removed from there.
        """
        if not self:
            return False
        try:
            getattr(self._uploaded, method)(factor, product)
            return True
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
        self._uploaded = None
        empty_cache(product.device)
        product.zero_()
        return False


class ResidentArray:
    """A NumPy array on a device, in its own type if that is short, and dense rows of it.

    Parameters
    ----------
    X : ndarray of shape (n, p)
    dtype : torch.dtype
    device : torch.device
    """

    def __init__(self, X, dtype, device):
        computed = np.dtype(np.float64 if dtype == torch.float64 else np.float32)
        is_short = X.dtype.itemsize <= computed.itemsize and X.dtype.type in _SHORT_TYPES
        stored = X.dtype if is_short else computed
        self.dtype = dtype
        kind = torch.from_numpy(np.empty(0, stored)).dtype
        self.values = torch.empty(X.shape, dtype=kind, device=device)
        for rows in batch_slices(len(X), X.shape[1] * stored.itemsize):
            self.values[rows] = tensor_of(np.ascontiguousarray(X[rows], dtype=stored))

    @staticmethod
    def n_bytes(X):
        """Memory that X takes at most on a device."""
        return X.shape[0] * X.shape[1] * max(X.dtype.itemsize, 4)

    def dense(self, index):
        """The rows at ``index`` in the precision of products."""
        return self.values[_on_device(index, self.values.device)].to(self.dtype)


class ResidentMatrix:
    """A CSR matrix on a device, its transpose, and their products with dense matrices.

    Sums of non-zeros are computed by `embedding_bag`, whose order of summation is fixed: the same
    bits in each run, which cuSPARSE does not promise.

    Parameters
    ----------
    X : CSR matrix of shape (n, p)
    dtype : torch.dtype
    device : torch.device
    """

    def __init__(self, X, dtype, device):
        numpy_dtype = np.float64 if dtype == torch.float64 else np.float32
        self.shape = X.shape
        self._offsets_on_host = X.indptr
        self.offsets = tensor_of(X.indptr).to(device)
        self.lengths = self.offsets.diff()
        self.indices = tensor_of(X.indices).to(device)
        self.values = tensor_of(X.data.astype(numpy_dtype, copy=False)).to(device)

    @staticmethod
    def n_bytes(X):
        """Memory that X takes on a device, with its transpose and the way to it."""
        return _BYTES_OF_NONZERO * X.nnz + 16 * sum(X.shape)

    def times(self, W, product):
        """Write ``X W`` into a tensor of shape (n, c), which may be on the CPU."""
        self._multiply((self.indices, self.offsets, self.values), W, product)

    def transposed_times(self, Q, product):
        """Write ``X' Q`` into a tensor of shape (p, c)."""
        self._multiply(self._transpose, Q, product)

    def _multiply(self, matrix, dense, product):
        indices, offsets, values = matrix
        is_small = max(len(values), product.numel()) <= _FEW
        width = max(dense.shape[1], 1) if is_small else _PANEL
        for start in range(0, dense.shape[1], width):
            columns = slice(start, start + width)
            product[:, columns] = embedding_bag(
                indices,
                dense[:, columns].to(values.device).contiguous(),
                offsets,
                mode="sum",
                per_sample_weights=values,
                include_last_offset=True,
            )

    @cached_property
    def _transpose(self):
        """Row indices, offsets and values of the transpose: non-zeros sorted by their column."""
        with torch.inference_mode(False):
            columns, order = self.indices.sort(stable=True)
            every = torch.arange(self.shape[1] + 1, dtype=columns.dtype, device=columns.device)
            offsets = torch.searchsorted(columns, every).to(columns.dtype)
            del columns, every
            rows = torch.repeat_interleave(self.lengths, output_size=len(order))
            return rows[order].to(offsets.dtype), offsets, self.values[order]

    def dense(self, index):
        """The rows at ``index`` as a dense tensor."""
        if isinstance(index, slice):
            index = np.arange(*index.indices(self.shape[0]))
        on_host = index.on_host if isinstance(index, Indices) else index
        # Counted on the host: a count on the device would have to be waited for.
        n_entries = int((self._offsets_on_host[on_host + 1] - self._offsets_on_host[on_host]).sum())
        index = _on_device(index, self.values.device)
        lengths = self.lengths[index]
        rows = torch.repeat_interleave(lengths, output_size=n_entries)
        shifts = self.offsets[index] - lengths.cumsum(0) + lengths
        entries = shifts[rows] + torch.arange(n_entries, device=rows.device)
        batch = self.values.new_zeros(len(index), self.shape[1])
        batch[rows, self.indices[entries]] = self.values[entries]
        return batch


def mean_times(mean, W):
    """``mean @ W`` as a float64 sum of short products, in few operations."""
    n_products = len(W) // _SHORT
    length = n_products * _SHORT
    left = mean[:length].view(n_products, 1, _SHORT)
    right = W[:length].unflatten(0, (n_products, _SHORT))
    total = in_float64(torch.bmm(left, right)).sum(dim=(0, 1))
    return (total + in_float64(mean[length:] @ W[length:]).to(total.device)).to(W)


def subtract_outer(product, mean, sums):
    """Subtract ``mean sums'`` from the product in place, without a temporary of its size."""
    if product.device.type == "cpu":
        return product.addr_(mean, sums, alpha=-1)
    for rows in row_slices(product):  # elsewhere torch computes the outer product first
        product[rows].addr_(mean[rows], sums, alpha=-1)
    return product


def _on_device(index, device):
    """An index of rows as a slice, or as a tensor on the device."""
    if isinstance(index, slice):
        return index
    if isinstance(index, Indices):
        return index.on(device)
    return torch.as_tensor(index, device=device)
