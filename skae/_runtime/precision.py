"""torch's settings that let it round the factors of float32, held at full precision in a call.

They belong to the process. What the user has set is restored when the last of the calls that hold
it ends, in whatever thread, unless it was changed meanwhile.
"""

from contextlib import contextmanager, nullcontext
from threading import Lock

import torch
from torch.nn.modules.conv import _ConvNd

_ROUNDED = ("tf32", "bf16")


class _Precision:
    """A setting of torch: an older one, and newer ones that are set with it or by themselves.

    Parameters
    ----------
    get, set_to : callable
        Getter and setter of the older one.
    full : object
        Its value with which nothing is rounded.
    newer : list of object
        Parts of `torch.backends` that have ``fp32_precision``, from torch 2.9.
    """

    def __init__(self, get, set_to, full, newer):
        self._get, self._set, self._full = get, set_to, full
        self._newer = [part for part in newer if hasattr(part, "fp32_precision")]
        self._lock, self._n_calls = Lock(), 0
        self._before = self._held = None

    @contextmanager
    def held(self):
        """Do not round within this context."""
        with self._lock:
            self._n_calls += 1
            state = self._state()
            if self._rounds(*state):
                self._before = state
                self._apply_full(*state)
                self._held = self._state()
        try:
            yield
        finally:
            with self._lock:
                self._n_calls -= 1
                if self._n_calls == 0 and self._before is not None:
                    if self._state() == self._held:
                        self._restore(*self._before)
                    self._before = None

    def _state(self):
        try:
            older = self._get()
        except RuntimeError:  # the user has set newer ones, which the older one cannot express
            older = None
        return older, [part.fp32_precision for part in self._newer]

    def _rounds(self, older, newer):
        if self._newer:
            return any(precision in _ROUNDED for precision in newer)
        return older not in (None, self._full)

    def _apply_full(self, older, newer):
        if older is not None:
            self._set(self._full)
        for part in self._newer:
            if part.fp32_precision in _ROUNDED:
                part.fp32_precision = "ieee"

    def _restore(self, older, newer):
        if older is not None:
            self._set(older)
        for part, precision in zip(self._newer, newer, strict=True):
            if part.fp32_precision != precision:
                part.fp32_precision = "none"  # as `torch.backends.fp32_precision` says
            if part.fp32_precision != precision:
                part.fp32_precision = precision


def _parts(*names):
    """Settings of `torch.backends` that this version of torch has."""
    found = []
    for library, name in names:
        part = getattr(getattr(torch.backends, library), name, None)
        found += [] if part is None else [part]
    return found


_PRODUCTS = _Precision(
    torch.get_float32_matmul_precision,
    torch.set_float32_matmul_precision,
    "highest",
    _parts(("cuda", "matmul"), ("mkldnn", "matmul")),
)
_CUDNN = _Precision(
    lambda: torch.backends.cudnn.allow_tf32,
    lambda value: setattr(torch.backends.cudnn, "allow_tf32", value),
    False,
    _parts(("cudnn", "conv"), ("cudnn", "rnn")),
)
_MKLDNN = _Precision(lambda: None, lambda value: None, None, _parts(("mkldnn", "conv")))


def full_precision_products():
    """Within this context torch does not round the factors of products of matrices."""
    return _PRODUCTS.held()


def full_precision_convolutions(module, device):
    """Within this context convolutions of the module do not round: TF32 is torch's default."""
    if not any(isinstance(part, _ConvNd) for part in module.modules()):
        return nullcontext()
    return (_CUDNN if device.type == "cuda" else _MKLDNN).held()
