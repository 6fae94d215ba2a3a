"""Processes that share a training: their number, their parts of a batch, and means over them."""

import torch
from torch import distributed
from torch.nn.parallel import DistributedDataParallel


def n_processes():
    """Return how many processes share a training."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return 1
    return distributed.get_world_size()


def rank():
    """Return the index of this process among them."""
    return distributed.get_rank() if n_processes() > 1 else 0


def indices_of_rank(indices, own=None):
    """Return this process's share of the rows of a batch, and the weight of its loss.

    With these weights the mean of the processes' gradients is the gradient of the batch.

    Parameters
    ----------
    indices : ndarray of int or Indices
        Those of the batch.
    own : slice, default=None
        The rows that this process has, if each has its own: its share is those in the batch, from
        an ndarray of indices. Else the processes take equal shares.
    """
    if own is None:
        share, any_row = indices[rank() :: n_processes()], indices[:1]
    else:
        share = indices[(indices >= own.start) & (indices < own.stop)]
        any_row = 0 * indices[:1] + own.start
    if not len(share):
        return any_row, 0.0
    return share, len(share) * n_processes() / len(indices)


def data_parallel(module):
    """Wrap a module so that its gradients are averaged over the processes."""
    device = next(module.parameters()).device
    return DistributedDataParallel(module, device_ids=None if device.type == "cpu" else [device])


def mean_over_processes(value, device):
    """Return the mean of a number over the processes, so that all make the same decisions."""
    if n_processes() == 1:
        return value
    return float(averaged(torch.tensor(value, dtype=torch.float64, device=device)))


def averaged(tensor):
    """Return the mean of a tensor over the processes, without waiting for its device."""
    if n_processes() == 1:
        return tensor
    shared = tensor.clone()
    distributed.all_reduce(shared)
    return shared / n_processes()
