"""Where to compute, and what kinds of devices can do."""

import os
import platform
import re
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from multiprocessing import parent_process
from pathlib import Path
from tempfile import gettempdir

import torch
from filelock import FileLock

from ._parallel import n_processes

# The process that imported skae; a fork of it has another number.
_PROCESS = os.getpid()


def _multiplies_bfloat16_on_cpu():
    """Whether it has instructions that multiply bfloat16 faster than float32.

    Intel's processors do so in AMX tiles alone: their AVX-512 instructions for bfloat16 have half
    the speed of those for float32 (docs/design.md).
    """
    if _has("_is_amx_tile_supported"):
        return True
    return _has("_is_avx512_bf16_supported") and "GenuineIntel" not in _vendor_of_processor()


def _has(query):
    """What a query of `torch.cpu` returns; false where this version of torch lacks it."""
    return getattr(torch.cpu, query, bool)()


@cache
def _vendor_of_processor():
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        return cpuinfo.read_text().partition("vendor_id")[2].partition("\n")[0]
    return platform.processor()  # on Windows it ends with the vendor's name


def _free_beside_cache(device):
    """What the system has free, and what torch's cache holds of it for tensors to come."""
    module = torch.get_device_module(device)
    cached = module.memory_reserved(device) - module.memory_allocated(device)
    return module.mem_get_info(device)[0] + cached


@dataclass(frozen=True)
class Kind:
    """What devices of one kind can do.

    Attributes
    ----------
    is_available : callable
        Whether there is one.
    has_float64 : callable
        Whether a device computes in float64, and has torch's solvers, which want it.
    multiplies_bfloat16 : callable
        Whether a device multiplies bfloat16 faster than float32.
    free_bytes : callable
        Room for new tensors on a device.
    """

    is_available: Callable[[], bool]
    has_float64: Callable[[torch.device], bool] = lambda device: True
    multiplies_bfloat16: Callable[[torch.device], bool] = lambda device: False
    free_bytes: Callable[[torch.device], float] = lambda device: float("inf")


_KINDS = {
    "cpu": Kind(
        is_available=lambda: True,
        multiplies_bfloat16=lambda device: _multiplies_bfloat16_on_cpu(),
        free_bytes=lambda device: min(_free_on_machine(), _free_in_container()),
    ),
    "cuda": Kind(
        is_available=lambda: torch.cuda.is_available(),
        multiplies_bfloat16=lambda device: torch.cuda.is_bf16_supported(including_emulation=False),
        free_bytes=_free_beside_cache,
    ),
    "mps": Kind(
        is_available=lambda: torch.backends.mps.is_available(),
        has_float64=lambda device: False,
        free_bytes=lambda device: (
            torch.mps.recommended_max_memory() - torch.mps.current_allocated_memory()
        ),
    ),
    "xpu": Kind(
        is_available=lambda: torch.xpu.is_available(),
        has_float64=lambda device: bool(torch.xpu.get_device_properties(device).has_fp64),
        free_bytes=_free_beside_cache,
    ),
}


def _kind_of(device):
    """What the device can do; of a kind that is not in the table, what its module in torch says."""
    if device.type in _KINDS:
        return _KINDS[device.type]
    try:
        return Kind(is_available=torch.get_device_module(device).is_available)
    except (RuntimeError, AttributeError):  # such as "meta", which computes nothing
        return Kind(is_available=lambda: False)


def resolve_device(device):
    """``device`` as a `torch.device` that this machine has."""
    if device == "auto":
        if torch.cuda.is_available() and n_processes() > 1:
            return torch.device("cuda", torch.cuda.current_device())
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        resolved = torch.device(device)
    except RuntimeError:
        raise ValueError(
            f"device={device!r} must be 'auto' or a device that PyTorch knows, such as 'cpu', "
            f"'cuda' or 'cuda:1'."
        ) from None
    kind = resolved.type.upper()
    if not _kind_of(resolved).is_available():
        available = " and ".join(repr(name) for name, kind in _KINDS.items() if kind.is_available())
        raise ValueError(
            f"device={device!r} needs a {kind} device, but this PyTorch ({torch.__version__}) "
            f"finds none, only {available}: use device='cpu' or 'auto'."
        )
    n_devices = torch.get_device_module(resolved).device_count()
    if (resolved.index or 0) >= n_devices:
        raise ValueError(f"device={device!r} must be one of the {n_devices} {kind} devices.")
    return resolved


def multiplies_bfloat16(device):
    """Whether the device multiplies bfloat16 faster than float32."""
    return _kind_of(device).multiplies_bfloat16(device)


def in_bfloat16(device_type, enabled):
    """A context in which products are bfloat16, if that is enabled.

    Without torch's cache of weights in bfloat16, which all threads share: it would be emptied in
    the middle of another thread's step, and inside of the user's autocast outlive a step of ours.
    """
    return torch.autocast(device_type, torch.bfloat16, enabled=enabled, cache_enabled=False)


def has_float64(device):
    """Whether the device computes in float64, and has torch's solvers."""
    return _kind_of(device).has_float64(device)


def accurate_device(device):
    """The device, or the CPU where that one has no float64."""
    return device if has_float64(device) else torch.device("cpu")


def accurate(tensor):
    """The tensor where float64 and solvers are to be had: on its device or on the CPU."""
    return tensor.to(accurate_device(tensor.device))


def in_float64(tensor):
    """The tensor in float64, on its device or on the CPU."""
    return accurate(tensor).double()


def supported_dtype(dtype, device):
    """The dtype, or float32 where the device has no float64."""
    return torch.float32 if dtype == torch.float64 and not has_float64(device) else dtype


def free_bytes(device):
    """Room for new tensors on the device, as far as this platform tells; else infinity."""
    return _kind_of(device).free_bytes(device)


def is_out_of_memory(error):
    """Whether a device other than the CPU had no room."""
    # Apple's allocator raises a plain RuntimeError.
    return isinstance(error, torch.OutOfMemoryError) or "MPS backend out of memory" in str(error)


def in_pieces(numbers, compute):
    """Results of ``compute`` for pieces of an array or range, halved where a device has no room."""
    try:
        return [compute(numbers)]
    except RuntimeError as error:
        if len(numbers) < 2 or not is_out_of_memory(error):
            raise
    # Outside of the except clause, whose traceback would hold on to the tensors.
    half = len(numbers) // 2
    return [*in_pieces(numbers[:half], compute), *in_pieces(numbers[half:], compute)]


def in_turn_with_room(slices, compute):
    """Call ``compute`` for slices, and for smaller ones from where a device has no room on.

    It must change nothing before it has all the memory that it needs.
    """
    most = None
    for part in slices:
        start = part.start
        while start < part.stop:
            stop = part.stop if most is None else min(start + most, part.stop)
            try:
                compute(slice(start, stop))
            except RuntimeError as error:
                if stop - start < 2 or not is_out_of_memory(error):
                    raise
                most = (stop - start) // 2
            else:
                start = stop


@contextmanager
def explaining_lack_of_memory(task, device):
    """Raise MemoryError, with what helps, where a device has no room for the smallest piece."""
    try:
        yield
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        device = resolve_device(device)
        wanted = re.search(r"tried to allocate ([\d.]+ \w+)", str(error), re.IGNORECASE)
        wanted = f" and one step needs {wanted[1]}" if wanted else ""
        raise MemoryError(
            f"device={str(device)!r} has no room for {task}: {free_bytes(device) / 1e9:.2f} GB are "
            f"free{wanted}. Use device='cpu', a smaller batch_size, or free what else is there."
        ) from error


def empty_cache(device):
    """Give memory that torch keeps for tensors to come back to the system."""
    getattr(torch.get_device_module(device), "empty_cache", lambda: None)()


def _free_on_machine():
    meminfo = Path("/proc/meminfo")
    if meminfo.exists():
        for line in meminfo.read_text().splitlines():
            if line.startswith("MemAvailable"):
                return int(line.split()[1]) * 1024
    if "SC_PHYS_PAGES" in getattr(os, "sysconf_names", {}):
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return float("inf")


def _free_in_container():
    """What the control group of this process leaves, where Linux limits it."""
    most, used = (Path("/sys/fs/cgroup", f"memory.{name}") for name in ("max", "current"))
    try:
        return int(most.read_text()) - int(used.read_text())
    except (OSError, ValueError):  # no such file, or the limit is "max"
        return float("inf")


@contextmanager
def taking_turns(device):
    """On a GPU, let one worker process of the same parent in at a time.

    Each of ``n_jobs`` workers would else claim the memory of the same device.
    """
    if device.type == "cpu" or parent_process() is None or n_processes() > 1:
        yield
        return
    index = device.index
    if index is None:
        index = getattr(torch.get_device_module(device), "current_device", int)()
    with FileLock(Path(gettempdir(), f"skae-{os.getppid()}-{device.type}-{index}.lock")):
        try:
            yield
        finally:
            empty_cache(device)  # which the next worker would find full


def survive_fork():
    """In a forked process, compute in one thread.

    The parent's threads are not there, and GNU OpenMP would wait for them forever.
    """
    if os.getpid() != _PROCESS:
        torch.set_num_threads(1)
