"""A simulated CUDA device, for code that is to run, and to be counted, where there is no GPU.

Its memory is main memory and its kernels are those of the CPU (`device.cpp`). It raises what CUDA
raises: tensors of two devices in one operation, a CPU generator for a draw on the device, NumPy
arrays from its tensors. New memory is filled with large numbers, so that reading before writing is
noticed. It does not show how long anything takes, how real kernels round, or errors that arrive
later.
"""

import ctypes
import os
import sys
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

_NAMES = (
    "bytes_in_use",
    "peak_bytes",
    "allocations",
    "copies_to_device",
    "bytes_to_device",
    "copies_to_host",
    "bytes_to_host",
    "waits",
    "launches",
)

# Memory that the device reports.
_TOTAL = 80 * 2**30


def _operations():
    import torch

    return torch.ops.simulated_cuda


def stats():
    """Counts since `reset`: launches, copies with their bytes, waits of the host, memory."""
    return dict(zip(_NAMES, _operations().stats(), strict=True))


def operations():
    """How often each operation was launched: a dict by name."""
    counts = (line.split(" ", 1) for line in _operations().ops())
    return {name: int(count) for count, name in counts}


def reset():
    """Set all counts to zero."""
    _operations().reset()


def limit(n_bytes):
    """Set the memory of the device."""
    _operations().limit(n_bytes)


def fail_after(n):
    """Let an allocation fail for lack of memory after n others."""
    _operations().fail_after(n)


def install():
    """Let this process have two simulated CUDA devices. Must be called before torch is imported."""
    if "torch" in sys.modules:
        raise RuntimeError("torch was imported before the simulated device: it needs to be first")
    folder = Path(find_spec("torch").submodule_search_locations[0], "lib")
    for name in ("libc10.so", "libtorch_cpu.so"):
        ctypes.CDLL(str(folder / name), mode=ctypes.RTLD_GLOBAL)
    ctypes.CDLL(os.environ["SIMULATED_CUDA"])
    import torch

    _replace_functions(torch.cuda)
    _replace_storages()
    torch._C._cuda_getDevice = lambda: _current()
    torch._C._cuda_setDevice = lambda device: _operations().set_current(device)
    torch._C._cuda_exchangeDevice = torch._C._cuda_maybeExchangeDevice = _exchange
    torch.cuda.default_generators = tuple(
        torch.Generator(f"cuda:{i}").manual_seed(0) for i in range(2)
    )


def _current():
    return _operations().current()


def _exchange(index):
    before = _current()
    if index is not None and index >= 0:
        _operations().set_current(index)
    return before


def _index_of(device):
    import torch

    if isinstance(device, int):
        return device
    index = None if device is None else torch.device(device).index
    return _current() if index is None else index


def _memory(device=None):
    total = min(_operations().total(), _TOTAL)
    return total - stats()["bytes_in_use"], total


def _replace_functions(cuda):
    """Replace what `torch.cuda` computes with its compiled part, which this torch does not have.

    Each replacement is a function of its own: torch.compile refuses one under two names.
    """
    properties = SimpleNamespace(
        name="simulated",
        major=9,
        minor=0,
        total_memory=_TOTAL,
        multi_processor_count=132,
        gcnArchName="",
    )

    def returning(value):
        return lambda *args, **kwargs: value

    replacements = {
        "device_count": returning(2),
        "current_device": lambda: _current(),
        "set_device": lambda device: _operations().set_current(_index_of(device)),
        "_exchange_device": lambda index: _exchange(index),
        "_maybe_exchange_device": lambda index: _exchange(index),
        "get_device_properties": returning(properties),
        "get_device_capability": returning((properties.major, properties.minor)),
        "get_device_name": returning(properties.name),
        "mem_get_info": _memory,
        "memory_allocated": lambda device=None: stats()["bytes_in_use"],
        "memory_reserved": lambda device=None: stats()["bytes_in_use"],
        "max_memory_allocated": lambda device=None: stats()["peak_bytes"],
    }
    for name in ("is_available", "is_initialized", "is_bf16_supported"):
        replacements[name] = returning(True)
    for name in ("_is_in_bad_fork", "is_current_stream_capturing"):
        replacements[name] = returning(False)
    for name in ("_lazy_init", "init", "synchronize", "empty_cache", "reset_peak_memory_stats"):
        replacements[name] = returning(None)
    for name in ("manual_seed", "manual_seed_all", "seed", "seed_all"):
        replacements[name] = returning(None)
    for name, function in replacements.items():
        setattr(cuda, name, function)


def _replace_storages():
    """Let storages move to the device and be copied there: this torch can do so with tensors."""
    import torch

    move, clone = torch._utils._to, torch.UntypedStorage.clone

    def as_bytes(storage):
        return torch.empty(0, dtype=torch.uint8, device=storage.device).set_(storage)

    def to(self, device, non_blocking=False):
        device = torch.device(device)
        is_untyped = isinstance(self, torch.UntypedStorage)
        if is_untyped and device.type == "cuda" and self.device != device:
            return as_bytes(self).to(device).untyped_storage()
        return move(self, device, non_blocking)

    def cloned(self):
        if self.device.type != "cuda":
            return clone(self)
        return as_bytes(self).clone().untyped_storage()

    torch._utils._to = torch.storage._to = to
    torch.UntypedStorage.clone = torch.storage._StorageBase.clone = cloned
