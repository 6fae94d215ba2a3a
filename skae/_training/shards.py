"""Training steps in two threads: each takes half of every batch, and half of the weights.

One step of a network of medium size takes some milliseconds. Divided among threads operation by
operation it would wait for the slower thread dozens of times; here it does so three times. The
halves depend on nothing but the batch, so that the bits of the weights do not depend on the number
of threads.
"""

from copy import deepcopy

import torch
from torch import nn
from torch.nn.modules.conv import _ConvNd

from .._runtime.execution import in_threads

# Halves of a batch of less work, in floating-point operations of a forward pass, are not worth
# their overhead; weights beyond so many should not have a second set of gradients, and are so
# large that every operation is worth all threads.
_LEAST_WORK, _MOST_WEIGHTS = 1.5e8, 2**25


def n_weights(module):
    return sum(weight.numel() for weight in module.parameters())


def is_huge(module):
    """Whether single operations of a module are large enough to be divided among threads."""
    return n_weights(module) > _MOST_WEIGHTS


def worth_halves(module, rows, batch_size):
    """Whether training on batches of a `RowSet` should be divided."""
    if is_huge(module) or min(len(rows), batch_size) < 2:
        return False
    return _flops_of_row(module, rows) * batch_size > _LEAST_WORK


def _flops_of_row(module, rows):
    """Floating-point operations of the forward pass of one row."""
    if not any(isinstance(layer, _ConvNd) for layer in module.modules()):
        return 2 * n_weights(module)
    from torch.utils.flop_counter import FlopCounterMode  # takes a second to import

    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module.eval()(rows.fetch(rows.numbers[:1]))  # in training it would draw
    return counter.get_total_flops()


class Shards:
    """A module and copies of it that share its weights, each with gradients of its own.

    Parameters
    ----------
    module : Module
    n : int
    """

    def __init__(self, module, n):
        self.modules = [module, *(_sharing_weights(module) for _ in range(n - 1))]
        self._weights = [list(shard.parameters()) for shard in self.modules]
        self._groups = _of_equal_size(self._weights[0], n)

    def each(self, function, *parts):
        """``function(shard, part, ...)`` of every shard and its parts."""
        calls = zip(self.modules, *parts, strict=False)
        return in_threads(lambda call: function(*call), calls)

    def add_gradients(self):
        """Add the gradients of the copies to those of the module, always in the same order."""

        def add(places):
            for first, *others in ([w[i] for w in self._weights] for i in places):
                for other in others:
                    if other.grad is None:
                        continue
                    if first.grad is None:
                        first.grad = other.grad
                    else:
                        first.grad += other.grad
                    other.grad = None

        in_threads(add, self._groups)


def _sharing_weights(module):
    """A copy of the module with the same memory for weights and buffers."""
    memo = {id(buffer): buffer for buffer in module.buffers()}
    memo |= {
        id(weight): nn.Parameter(weight.detach(), weight.requires_grad)
        for weight in module.parameters()
    }
    return deepcopy(module, memo)


def _of_equal_size(weights, n):
    """Indices of the weights in n groups of about the same number of entries."""
    groups, sizes = [[] for _ in range(n)], [0] * n
    for i in sorted(range(len(weights)), key=lambda i: -weights[i].numel()):
        smallest = sizes.index(min(sizes))
        groups[smallest].append(i)
        sizes[smallest] += weights[i].numel()
    return groups


class AdamWInParts(torch.optim.Optimizer):
    """AdamW whose step is divided among threads, by weights.

    Parameters
    ----------
    groups : list of dict
        One group of parameters, as skorch makes it.
    n_parts : int
    **settings
        Those of `torch.optim.AdamW`.
    """

    def __init__(self, groups, n_parts, **settings):
        weights = [weight for group in groups for weight in group["params"]]
        self._parts = [
            torch.optim.AdamW([weights[i] for i in group], fused=True, **settings)
            for group in _of_equal_size(weights, n_parts)
            if group
        ]
        super().__init__(
            [group for part in self._parts for group in part.param_groups],
            self._parts[0].defaults,
        )
        self._share_groups()

    def _share_groups(self):
        """Let schedules, which change the groups of this optimizer, change those of the parts."""
        self.param_groups = [group for part in self._parts for group in part.param_groups]

    def step(self, closure=None):
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        in_threads(lambda part: part.step(), self._parts)
        return loss

    def state_dict(self):
        return {"parts": [part.state_dict() for part in self._parts]}

    def load_state_dict(self, state_dict):
        for part, state in zip(self._parts, state_dict["parts"], strict=True):
            part.load_state_dict(state)
        self._share_groups()
