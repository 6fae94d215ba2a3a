"""The surroundings of a call: what is set around it, in torch or NumPy, changes no digit of ours.

Only what a thread has to itself is set, for as long as a call lasts. What torch keeps for the whole
process stays as it is: types are named wherever tensors are made, and products are widened.
"""

from contextlib import ExitStack, contextmanager

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode

# Of these kinds of device autocast is switched off.
_AUTOCAST = ("cpu", "cuda", "mps", "xpu")

_USUAL_ERRORS = {"divide": "warn", "over": "warn", "under": "ignore", "invalid": "warn"}


@contextmanager
def neutral_surroundings():
    """Defaults of torch and NumPy for this thread: what was set before is back afterwards."""
    with ExitStack() as stack:
        for kind in _AUTOCAST:
            if torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        if torch.get_default_device().type != "cpu":  # such a context slows down every operation
            stack.enter_context(torch.device("cpu"))
        if _products_are_rounded():
            stack.enter_context(_FullPrecision())
        errors = np.geterr()
        raised = {name: _USUAL_ERRORS[name] for name in errors if errors[name] != "ignore"}
        stack.enter_context(np.errstate(**raised))
        yield


def _products_are_rounded():
    """Whether torch may round the factors of products of float32 matrices."""
    try:
        return torch.get_float32_matmul_precision() != "highest"
    except RuntimeError:  # kinds of device have settings of their own
        return True


class _FullPrecision(TorchDispatchMode):
    """Products of float32 matrices by way of float64.

    `torch.set_float32_matmul_precision` holds for all threads: it cannot be set for one call.
    """

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        product = _PRODUCTS.get(func.overloadpacket)
        if product is None:
            with self:  # in inference mode torch hands operations over before it takes them apart
                result = func.decompose(*args, **kwargs)
            return func(*args, **kwargs) if result is NotImplemented else result
        if not all(_is_rounded(value) for value in args if isinstance(value, torch.Tensor)):
            return func(*args, **kwargs)
        out = kwargs.pop("out", args[0] if func.overloadpacket in _IN_PLACE else None)
        wide = [v.double() if isinstance(v, torch.Tensor) else v for v in args]
        result = product(*wide, **kwargs).float()
        return result if out is None else out.copy_(result)


def _is_rounded(factor):
    return factor.dtype == torch.float32 and factor.device.type in ("cpu", "cuda")


_aten = torch.ops.aten

_IN_PLACE = {_aten.addmm_, _aten.addmv_, _aten.baddbmm_}

_PRODUCTS = {
    _aten.mm: _aten.mm,
    _aten.mv: _aten.mv,
    _aten.bmm: _aten.bmm,
    _aten.addmm: _aten.addmm,
    _aten.addmm_: _aten.addmm,
    _aten.addmv: _aten.addmv,
    _aten.addmv_: _aten.addmv,
    _aten.baddbmm: _aten.baddbmm,
    _aten.baddbmm_: _aten.baddbmm,
}
