"""Training that several processes share: each takes its part of every batch.

That is what `torch.distributed` is for: where a script has made a process group, all its processes
make the same fit, and average their gradients after every batch.
"""

import torch
from torch import distributed
from torch.nn.parallel import DistributedDataParallel


def n_processes():
    """How many processes share a training."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return 1
    return distributed.get_world_size()


def rank():
    """Which of them this one is."""
    return distributed.get_rank() if n_processes() > 1 else 0


def own_part(numbers):
    """The part of this process of the rows of a batch, and the weight of their mean in that of all.

    With these weights the gradients of the processes average to that of the batch.
    """
    part = numbers[rank() :: n_processes()]
    if not len(part):
        return numbers[:1], 0.0
    return part, len(part) * n_processes() / len(numbers)


def in_parallel(module):
    """The module, its gradients averaged over the processes."""
    device = next(module.parameters()).device
    return DistributedDataParallel(module, device_ids=None if device.type == "cpu" else [device])


def agreed(number, device):
    """The mean of a number over the processes, so that all decide alike."""
    if n_processes() == 1:
        return number
    shared = torch.tensor(number, dtype=torch.float64, device=device)
    distributed.all_reduce(shared)
    return float(shared) / n_processes()
