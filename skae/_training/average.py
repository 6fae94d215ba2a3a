"""The average of the weights of a training, in which the last part of it counts most."""

from copy import deepcopy

import torch
from torch.nn.modules.batchnorm import _NormBase

# How much more the last steps count. From 4 to 16 the results differ little.
_ETA = 8


class AveragedModule:
    """A copy of a module whose weights are the polynomial-decay average of those in training.

    After step t it moves by ``(eta + 1) / (t + eta)`` of the way to the present weights (Shamir and
    Zhang, 2013, section 4): the weight of step i in the average is near ``(i / t) ** eta``. At a
    constant learning rate it takes the place of a schedule, which would depend on the number of
    steps.

    Parameters
    ----------
    module : Module
        It is trained elsewhere; `update` is called after each step.
    n_steps : int, default=0
        Number of earlier steps that its weights are taken to be the average of.

    Attributes
    ----------
    module : Module
        The average, in evaluation mode.
    n_steps : int
    """

    def __init__(self, module, n_steps=0):
        self._source = module
        self.module = deepcopy(module).eval()
        self.n_steps = n_steps
        self._averaged = _averaged_tensors(self.module)
        self._of_source = _averaged_tensors(module)

    @torch.no_grad()
    def update(self, smallest_share=0.0):
        """Take the weights after one more step; their share is at least ``smallest_share``."""
        self.n_steps += 1
        share = max(smallest_share, min(1.0, (_ETA + 1) / (self.n_steps + _ETA)))
        for averaged, present in zip(self._averaged, self._of_source, strict=True):
            torch._foreach_lerp_(averaged, present, share)

    @torch.no_grad()
    def copy_buffers(self):
        """Take what is not averaged: buffers other than the statistics of normalisation layers."""
        averaged = {id(tensor) for group in self._averaged for tensor in group}
        for own, present in zip(self.module.buffers(), self._source.buffers(), strict=True):
            if id(own) not in averaged:
                own.copy_(present)

    def restart(self):
        """Begin a new average at the present weights."""
        self.n_steps = 0
        self.module.load_state_dict(self._source.state_dict())

    def to(self, device):
        """Move the average to a device, where the module is already."""
        self.module.to(device)
        self._averaged = _averaged_tensors(self.module)
        self._of_source = _averaged_tensors(self._source)


def _averaged_tensors(module):
    """Lists of the weights and of the running statistics, each of one dtype."""
    tensors = list(module.parameters())
    for layer in module.modules():
        if isinstance(layer, _NormBase) and layer.running_mean is not None:
            tensors += [layer.running_mean, layer.running_var]
    groups = {}
    for tensor in tensors:
        groups.setdefault((tensor.dtype, tensor.device), []).append(tensor)
    return list(groups.values())
