"""Tensors from arrays; tensors with one row per row of X, memory-mapped if large."""

import os
from contextlib import suppress
from math import frexp, ldexp
from tempfile import TemporaryFile

import numpy as np
import torch

from .device import float64_device, free_bytes, is_out_of_memory, on_float64_device
from .execution import in_threads, slices_of_work

# Approximate bytes of a batch of dense rows, or of a block of non-zeros.
_BATCH_BYTES = 64 * 2**20

# Tensors of more bytes are memory-mapped: the system keeps in memory what there is room for.
_LARGE = 256 * 2**20

# A larger tensor stays on a device other than the CPU if it takes less than this share of the free
# memory there: a fit has up to four such tensors at a time.
_SHARE_OF_DEVICE = 0.2

_WITHIN_FLOAT32 = {
    torch.float32,
    torch.float16,
    torch.bfloat16,
    torch.bool,
    torch.uint8,
    torch.int8,
    torch.int16,
}


def power_of_two(number):
    """Return a power of two close to a positive number, for exact division; 1.0 for zero."""
    return ldexp(1.0, frexp(number)[1])


def torch_dtype(dtype):
    """Return the torch counterpart of a NumPy dtype."""
    return torch.from_numpy(np.empty(0, dtype)).dtype


def output_dtype(dtype):
    """Return float32 if it represents every number of a dtype of NumPy or torch, else float64."""
    if isinstance(dtype, torch.dtype):
        return np.dtype(np.float32 if dtype in _WITHIN_FLOAT32 else np.float64)
    return np.dtype(np.float32 if np.can_cast(dtype, np.float32) else np.float64)


def tensor_of(array):
    """Return a NumPy array as a tensor, sharing its memory unless that is read-only."""
    return torch.from_numpy(array if array.flags.writeable else array.copy())


def array_of(tensor):
    """Return a tensor as a NumPy array, which has no bfloat16; on the CPU they share memory."""
    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).cpu().numpy()


class Indices:
    """Indices of rows on the CPU and on a device; slices of them need no further copy.

    Parameters
    ----------
    on_host : ndarray of int
    device : torch.device
    on_device : Tensor, default=None
        The same indices on the device, if they are there already.
    """

    def __init__(self, on_host, device, on_device=None):
        self.on_host = on_host
        self._on_device = torch.from_numpy(on_host).to(device) if on_device is None else on_device

    def __len__(self):
        return len(self.on_host)

    def __getitem__(self, part):
        return Indices(self.on_host[part], None, self._on_device[part])

    def on(self, device):
        """The indices as a tensor on a device."""
        return self._on_device.to(device)


def on_host(index):
    """Return an index of rows as NumPy takes it: a slice or an ndarray."""
    return index.on_host if isinstance(index, Indices) else index


def rows_at(tensor, indices):
    """Return the rows of a tensor with given indices: an ndarray or `Indices`."""
    if not isinstance(indices, Indices):
        return tensor[indices]
    return tensor[indices.on_host if tensor.device.type == "cpu" else indices.on(tensor.device)]


def batch_slices(n_rows, row_bytes, batch_bytes=None):
    """Return slices that divide ``n_rows`` rows into batches of about ``batch_bytes`` each."""
    step = max(1, int((batch_bytes or _BATCH_BYTES) // max(1, row_bytes)))
    return [slice(start, min(start + step, n_rows)) for start in range(0, n_rows, step)]


def row_slices(tensor):
    """Return slices that divide the rows of a tensor into batches."""
    return batch_slices(len(tensor), tensor.shape[1] * tensor.itemsize)


def zeros_for_rows(n_rows, like):
    """Return zeros with ``n_rows`` rows, and the columns and dtype of ``like``.

    They are on the device of ``like``, or on the CPU if that device lacks memory: the caller moves
    its other operands, or one batch of rows at a time.
    """
    n_bytes = n_rows * like.shape[1] * like.itemsize
    if fits_on_device(n_bytes, like.device, _SHARE_OF_DEVICE):
        try:
            return like.new_zeros(n_rows, like.shape[1])
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
    if n_bytes > _LARGE:
        with suppress(OSError):  # no folder for temporary files, or no room in it
            return torch.from_numpy(_zeros_in_file((n_rows, like.shape[1]), like.dtype))
    return torch.zeros(n_rows, like.shape[1], dtype=like.dtype, device="cpu")


def _zeros_in_file(shape, dtype):
    """Return zeros in an anonymous file; OSError where the disk has no room for it."""
    dtype = np.dtype(np.float64 if dtype == torch.float64 else np.float32)
    n_bytes = shape[0] * shape[1] * dtype.itemsize
    with TemporaryFile(prefix="skae-") as file:
        if hasattr(os, "posix_fallocate"):
            # A write to a page that the disk has no room for would end the process.
            os.posix_fallocate(file.fileno(), 0, n_bytes)
        else:
            file.truncate(n_bytes)
        return np.memmap(file, dtype, "r+", shape=shape)


def in_float32(tensor):
    """Return a tensor with many rows in float32: the same tensor if it already is."""
    if tensor.dtype == torch.float32:
        return tensor
    converted = zeros_for_rows(len(tensor), tensor[:1].float())
    for rows in row_slices(tensor):
        converted[rows] = tensor[rows]
    return converted


def squared_row_norms(tensor):
    """Return the squared length of each row in float64: an ndarray of shape (n,)."""
    squares = np.empty(len(tensor))
    for rows in row_slices(tensor):
        batch = on_float64_device(tensor[rows])
        norms = torch.linalg.vector_norm(batch, dim=1, dtype=torch.float64)
        squares[rows] = norms.square().cpu()
    return squares


def transposed_product(left, right):
    """Return ``left' right`` for tensors with as many rows, computed in threads."""
    n_operations = 2 * left.numel() * right.shape[1]
    parts = slices_of_work(len(left), n_operations, left.device)
    products = in_threads(lambda part: left[part].T @ right[part], parts)
    total = products[0]
    for product in products[1:]:
        total += product
    return total


def batched_transposed_product(left, right, device):
    """Return ``left' right``, computed on a device one batch of rows at a time."""
    product = left.new_zeros(left.shape[1], right.shape[1], device=device)
    for rows in row_slices(left):
        product += transposed_product(left[rows].to(device), right[rows].to(device))
    return product


def weighted_gram(tensor, weights, device, unit):
    """Return ``Y' W Y`` in float64 for a tensor Y and row weights W, computed on a device.

    The result is in squares of ``unit``, in which products do not overflow float32.
    """
    n_columns = tensor.shape[1]
    gram = torch.zeros(n_columns, n_columns, dtype=torch.float64, device=float64_device(device))
    for rows in row_slices(tensor):
        y = tensor[rows].to(device) / unit
        weighted = y * torch.from_numpy(weights[rows, None]).to(y)
        gram += transposed_product(weighted, y).to(gram.device)
    return gram


def matmul_(tensor, matrix):
    """Replace a tensor Y by ``Y M`` in place, batch by batch, computed on the device of M."""

    def multiply(rows):
        tensor[rows] = tensor[rows].to(matrix.device) @ matrix

    for batch in row_slices(tensor):
        n_rows = batch.stop - batch.start
        n_operations = 2 * n_rows * matrix.numel()
        parts = slices_of_work(n_rows, n_operations, matrix.device)
        in_threads(multiply, [slice(batch.start + p.start, batch.start + p.stop) for p in parts])
    return tensor


def fits_on_device(n_bytes, device, share):
    """Whether a tensor is small, or smaller than a share of the free memory of a device."""
    if n_bytes <= _LARGE:
        return True
    return device.type != "cpu" and n_bytes <= share * free_bytes(device)
