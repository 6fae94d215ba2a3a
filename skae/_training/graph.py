"""CUDA graphs of training steps: forward and backward pass recorded once, and replayed."""

from collections.abc import Callable

import torch

from .._runtime.process_group import n_processes

# Steps before the recording: libraries choose and load their kernels in these.
_N_STEPS_BEFORE = 8

# Largest difference of the first replay from the same step without a graph, as a share of the
# largest gradient of each weight. Libraries may choose other kernels for a graph, and bfloat16 has
# three digits.
_TOLERANCE = 0.02


def records_steps(rows, options):
    """Whether a CUDA graph may compute steps: not with users' code, labels or missing entries."""
    if options.callbacks or options.has_custom:
        return False
    if rows.labels is not None or rows.targets is not None:
        return False
    return n_processes() == 1 and can_record(options.device)


def can_record(device):
    """Whether this PyTorch can record a CUDA graph with the draws of a generator on the device."""
    is_cuda = device.type == "cuda" and torch.backends.cuda.is_built()
    return is_cuda and hasattr(torch.cuda.CUDAGraph, "register_generator_state")


class RecordedStep:
    """The loss and the gradients of whole batches, from a graph that is replayed for each batch.

    The host starts one graph in place of dozens of operations. Batches of another size are left to
    the caller, and so are all batches if the recording fails or if the first replay differs from
    the same step without a graph. A step must consist of operations on the device alone, without
    decisions that depend on values.

    Parameters
    ----------
    compute : callable
        ``compute(inputs)`` returns the loss of ``inputs = (x, weights of the rows or None)``, and
        adds its gradients to the weights of the module.
    module : Module
    generator : torch.Generator
        Draws dropout and noise in each step.
    batch_size : int
    """

    def __init__(
        self,
        compute: Callable[[tuple], torch.Tensor],
        module: torch.nn.Module,
        generator: torch.Generator,
        batch_size: int,
    ):
        self._compute = compute
        self._module = module
        self._weights = list(module.parameters())
        self._generator = generator
        self._batch_size = batch_size
        self._n_steps = 0
        self._replay = self._inputs = self._loss = self._gradients = None
        self._is_disabled = False

    def disable(self):
        """Drop the graph with its memory; no batch is computed by it from now on."""
        self._is_disabled = True
        self._replay = self._inputs = self._loss = self._gradients = None

    def loss(self, inputs):
        """The loss of a batch, whose gradients the weights have then; None if it is not computed.

        The weights must have no gradients.
        """
        is_here = inputs[0].device.type == self._generator.device.type
        if self._is_disabled or not is_here or len(inputs[0]) != self._batch_size:
            return None
        self._n_steps += 1
        if self._n_steps <= _N_STEPS_BEFORE:
            return None
        if self._replay is None:
            return self._record(inputs)
        for own, given in zip(self._inputs, inputs, strict=True):
            if own is not None:
                own.copy_(given)
        self._replay()
        self._set_gradients(self._gradients)
        return self._loss.clone()  # a caller may keep it

    def _record(self, inputs):
        """Record the graph, and compare its first replay with a step without it: the loss."""
        before = self._state()
        loss = self._compute(inputs).detach()
        gradients, after = [weight.grad for weight in self._weights], self._state()
        self._set_gradients([None] * len(self._weights))
        self._set_state(before)
        self._inputs = tuple(None if values is None else values.clone() for values in inputs)
        try:
            self._replay, self._loss, self._gradients = record(
                lambda: self._compute(self._inputs).detach(), self._weights, self._generator
            )
            self._replay()
            is_same = _are_close([self._loss, *self._gradients], [loss, *gradients])
        except RuntimeError:  # an operation that cannot be recorded, or no memory
            is_same = False
        if not is_same:
            self.disable()
            self._set_state(after)
        self._set_gradients(gradients)
        return loss

    def _set_gradients(self, gradients):
        for weight, gradient in zip(self._weights, gradients, strict=True):
            weight.grad = gradient

    def _state(self):
        """What a step changes beside gradients: the generator, and buffers."""
        return self._generator.get_state(), [buffer.clone() for buffer in self._module.buffers()]

    def _set_state(self, state):
        self._generator.set_state(state[0])
        for buffer, value in zip(self._module.buffers(), state[1], strict=True):
            buffer.copy_(value)


def _are_close(found, expected):
    """Whether tensors agree with others, within the tolerance; there are Nones in both."""
    differences = [torch.zeros(())]
    for one, other in zip(found, expected, strict=True):
        if (one is None) != (other is None):
            return False
        if one is not None:
            size = other.abs().max().clamp_min(torch.finfo(other.dtype).tiny)
            differences.append(((one - other).abs().max() / size).cpu())
    return bool(torch.stack(differences).max() <= _TOLERANCE)


def record(function, weights, generator):
    """Record what a function does on the device.

    Returns
    -------
    replay : callable
        Does it again.
    result : Tensor
        What the function returns, as it is after each replay.
    gradients : list of Tensor or None
        Those of the weights likewise.
    """
    graph = torch.cuda.CUDAGraph()
    graph.register_generator_state(generator)
    # Other threads may train, or encode, at the same time.
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        result = function()
    return graph.replay, result, [weight.grad for weight in weights]
