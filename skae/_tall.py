"""Tall tensors: a row for each row of X, in a nameless file where they would fill the memory."""

from tempfile import TemporaryFile

import numpy as np
import torch

from ._device import accurate, accurate_device, free_bytes, is_out_of_memory
from ._threads import in_threads, slices_of_work

# One batch of dense rows, or one block of non-zeros, stays near this size.
_BATCH_BYTES = 64 * 2**20

# A tall tensor of more bytes waits in a file, which the system keeps in memory as it has room.
_LARGE = 256 * 2**20

# One of more bytes stays on a device that is not the CPU if it takes less than this share of what
# is free there: a fit has up to four at a time.
_SHARE_OF_DEVICE = 0.2


def batch_slices(n_rows, row_bytes, batch_bytes=None):
    """Slices that cut n_rows into batches of about batch_bytes each."""
    step = max(1, int((batch_bytes or _BATCH_BYTES) // max(1, row_bytes)))
    return [slice(start, min(start + step, n_rows)) for start in range(0, n_rows, step)]


def tall_zeros(n_rows, like):
    """Zeros with as many columns as ``like``, of its type.

    They are on its device, or on the CPU where a device has no room: whoever computes with them
    moves its other operands, or a batch of rows.
    """
    n_bytes = n_rows * like.shape[1] * like.itemsize
    if _stays_on_device(n_bytes, like.device):
        try:
            return like.new_zeros(n_rows, like.shape[1])
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
    if n_bytes <= _LARGE:
        return torch.zeros(n_rows, like.shape[1], dtype=like.dtype, device="cpu")
    with TemporaryFile(prefix="skae-") as file:
        file.truncate(n_bytes)
        dtype = np.float64 if like.dtype == torch.float64 else np.float32
        return torch.from_numpy(np.memmap(file, dtype, "r+", shape=(n_rows, like.shape[1])))


def _stays_on_device(n_bytes, device):
    if n_bytes <= _LARGE:
        return True
    return device.type != "cpu" and n_bytes <= _SHARE_OF_DEVICE * free_bytes(device)


def parts_of(tall):
    """Slices of its rows."""
    return batch_slices(len(tall), tall.shape[1] * tall.itemsize)


def squared_lengths(tall):
    """Squared length of each row, in float64: ndarray of shape (n,)."""
    squares = np.empty(len(tall))
    for part in parts_of(tall):
        lengths = torch.linalg.vector_norm(accurate(tall[part]), dim=1, dtype=torch.float64)
        squares[part] = lengths.square().cpu()
    return squares


def gram_of(tall, weights, device, unit):
    """``Y' W Y`` for a tall Y and the weights of its rows, computed on a device: in float64.

    In a unit of Y, in which it stays within the range of float32.
    """
    n_columns = tall.shape[1]
    gram = torch.zeros(n_columns, n_columns, dtype=torch.float64, device=accurate_device(device))
    for part in parts_of(tall):
        y = tall[part].to(device) / unit
        gram += cross(y * torch.from_numpy(weights[part, None]).to(y), y).to(gram.device)
    return gram


def cross(left, right):
    """``left' right`` for two with the same number of rows, in threads."""
    n_operations = 2 * left.numel() * right.shape[1]
    parts = slices_of_work(len(left), n_operations, left.device)
    sums = in_threads(lambda part: left[part].T @ right[part], parts)
    total = sums[0]
    for further in sums[1:]:
        total += further
    return total


def product_of(one, other, device):
    """``Y' Z`` for two tall tensors Y and Z, computed on a device."""
    product = one.new_zeros(one.shape[1], other.shape[1], device=device)
    for part in parts_of(one):
        product += cross(one[part].to(device), other[part].to(device))
    return product


def turned(tall, matrix):
    """``Y M`` for a tall Y, part by part in its own place, computed where the matrix M is."""

    def turn(part):
        tall[part] = tall[part].to(matrix.device) @ matrix

    for batch in parts_of(tall):
        n_rows = batch.stop - batch.start
        n_operations = 2 * n_rows * matrix.numel()
        parts = slices_of_work(n_rows, n_operations, matrix.device)
        in_threads(turn, [slice(batch.start + p.start, batch.start + p.stop) for p in parts])
    return tall


def in_float32(tall):
    """A tall tensor in float32: itself if it is so already."""
    if tall.dtype == torch.float32:
        return tall
    narrow = tall_zeros(len(tall), tall[:1].float())
    for part in parts_of(tall):
        narrow[part] = tall[part]
    return narrow
