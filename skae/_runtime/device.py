"""Devices: what each kind can do, how much memory is free, and what happens where there is none."""

import platform
import re
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import psutil
import torch
from torch.nn.functional import embedding_bag

from .process_group import n_processes


@dataclass(frozen=True)
class DeviceKind:
    """Properties of the devices of one kind.

    Attributes
    ----------
    is_available : callable
        Whether this machine has one.
    has_float64 : callable
        Whether a device supports float64, and torch's solvers, which need it.
    multiplies_sparse : callable
        Whether a device computes products with sparse rows.
    multiplies_bfloat16 : callable
        Whether a device multiplies bfloat16 faster than float32.
    free_bytes : callable
        Memory for new tensors on a device.
    """

    is_available: Callable[[], bool]
    has_float64: Callable[[torch.device], bool] = lambda device: _computes(_solve, device)
    multiplies_sparse: Callable[[torch.device], bool] = lambda device: _computes(_embed, device)
    multiplies_bfloat16: Callable[[torch.device], bool] = lambda device: False
    free_bytes: Callable[[torch.device], float] = lambda device: _free_beside_cache(device)


_KINDS = {
    "cpu": DeviceKind(
        is_available=lambda: True,
        has_float64=lambda device: True,
        multiplies_sparse=lambda device: True,
        multiplies_bfloat16=lambda device: _multiplies_bfloat16_on_cpu(),
        free_bytes=lambda device: min(_free_on_machine(), _free_in_container()),
    ),
    "cuda": DeviceKind(
        is_available=lambda: torch.cuda.is_available(),
        has_float64=lambda device: True,
        multiplies_sparse=lambda device: True,
        multiplies_bfloat16=lambda device: torch.cuda.is_bf16_supported(including_emulation=False),
    ),
    "mps": DeviceKind(
        is_available=lambda: torch.backends.mps.is_available(),
        has_float64=lambda device: False,
        free_bytes=lambda device: (
            torch.mps.recommended_max_memory() - torch.mps.current_allocated_memory()
        ),
    ),
    "xpu": DeviceKind(
        is_available=lambda: torch.xpu.is_available(),
        has_float64=lambda device: bool(torch.xpu.get_device_properties(device).has_fp64),
    ),
}


def resolve_device(device):
    """Return ``device`` as a `torch.device`, after checking that this machine has it."""
    if device == "auto":
        return _automatic_device()
    try:
        resolved = torch.device(device)
    except RuntimeError:
        raise ValueError(
            f"device={device!r} must be 'auto' or a device that PyTorch supports, such as 'cpu', "
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
    return torch.device("cpu") if resolved.type == "cpu" else resolved  # without an index


def _automatic_device():
    """The accelerator that torch finds if it can train in torch and has float64, else the CPU.

    Without float64 the codes of float64 rows would be less accurate than those of a CPU.
    """
    accelerator = torch.accelerator.current_accelerator()
    if accelerator is None or not _kind_of(accelerator).is_available():
        return torch.device("cpu")
    device = torch.device(accelerator.type)
    if not has_float64(device) or not _computes(_train, device):
        return torch.device("cpu")
    if n_processes() > 1:
        return torch.device(device.type, torch.get_device_module(device).current_device())
    return device


def autocast_kinds():
    """Return the kinds of device for which autocast may be enabled."""
    accelerator = torch.accelerator.current_accelerator()
    return {"cpu", "cuda"} if accelerator is None else {"cpu", "cuda", accelerator.type}


def sparse_device(device):
    """Return the device, or the CPU if the device computes no products with sparse rows."""
    return device if _kind_of(device).multiplies_sparse(device) else torch.device("cpu")


def multiplies_bfloat16(device):
    """Whether the device multiplies bfloat16 faster than float32."""
    return _kind_of(device).multiplies_bfloat16(device)


def in_bfloat16(device_type, enabled):
    """Return a context in which products are computed in bfloat16, if enabled.

    torch's cache of weights in bfloat16 is disabled because all threads share it: it would be
    emptied during another thread's step, and inside the user's autocast it would outlive a step.
    """
    return torch.autocast(device_type, torch.bfloat16, enabled=enabled, cache_enabled=False)


def has_float64(device):
    """Whether the device supports float64 and torch's solvers."""
    return _kind_of(device).has_float64(device)


def float64_device(device):
    """Return the device, or the CPU if the device has no float64."""
    return device if has_float64(device) else torch.device("cpu")


def on_float64_device(tensor):
    """Return a tensor on its device, or on the CPU if its device has no float64."""
    return tensor.to(float64_device(tensor.device))


def in_float64(tensor):
    """Return a tensor in float64, on its device or on the CPU if its device has no float64."""
    return on_float64_device(tensor).double()


def supported_dtype(dtype, device):
    """Return the dtype, or float32 if the device has no float64."""
    return torch.float32 if dtype == torch.float64 and not has_float64(device) else dtype


def _kind_of(device):
    """The kind of a device; for one that is not in the table, from its module in torch."""
    if device.type in _KINDS:
        return _KINDS[device.type]
    try:
        return DeviceKind(is_available=torch.get_device_module(device).is_available)
    except (RuntimeError, AttributeError):  # such as "meta", which computes nothing
        return DeviceKind(is_available=lambda: False)


@cache
def _computes(operation, device):
    """Whether a small operation works on a device: a driver or a build of torch may lack it."""
    try:
        return bool(operation(device))
    except (RuntimeError, TypeError) as error:  # TypeError: no float64
        return is_out_of_memory(error)  # then it would work, with more memory


def _solve(device):
    matrix = torch.eye(2, dtype=torch.float64, device=device)
    return torch.linalg.eigh(matrix)[0].sum().item() == 2


def _embed(device):
    indices = torch.arange(2, device=device)
    rows = torch.eye(2, dtype=torch.float32, device=device)
    offsets = torch.tensor([0, 2], device=device)
    options = {"mode": "sum", "per_sample_weights": rows[0], "include_last_offset": True}
    return embedding_bag(indices, rows, offsets, **options)[0, 0].item() == 1


@torch.inference_mode(False)
@torch.enable_grad()
def _train(device):
    weight = torch.ones(2, 2, dtype=torch.float32, device=device, requires_grad=True)
    (weight @ weight).square().sum().backward()
    torch.optim.AdamW([weight], lr=0.1).step()
    return weight.sum().item() < 4


def _multiplies_bfloat16_on_cpu():
    """Whether the CPU has instructions that multiply bfloat16 faster than float32.

    On Intel's processors only AMX tiles do: their AVX-512 instructions for bfloat16 have half the
    speed of those for float32 (docs/design.md).
    """
    if _has("_is_amx_tile_supported"):
        return True
    return _has("_is_avx512_bf16_supported") and "GenuineIntel" not in _vendor_of_processor()


def _has(query):
    """The result of a query of `torch.cpu`; false if this version of torch does not have it."""
    return getattr(torch.cpu, query, bool)()


@cache
def _vendor_of_processor():
    try:
        return (
            Path("/proc/cpuinfo")
            .read_text(encoding="utf-8")
            .partition("vendor_id")[2]
            .partition("\n")[0]
        )
    except OSError:  # not on Linux
        return platform.processor()  # on Windows it ends with the vendor's name


# Memory of devices


def free_bytes(device):
    """Return the free memory of a device; infinity if the platform does not report it."""
    return _kind_of(device).free_bytes(device)


def is_out_of_memory(error):
    """Whether an error reports that a device lacks memory."""
    # Apple's allocator, the one of the CPU, and the libraries of CUDA for their own work space.
    messages = (
        "backend out of memory",
        "error: out of memory",
        "_ALLOC_FAILED",
        "DefaultCPUAllocator: ",
    )
    return isinstance(error, torch.OutOfMemoryError) or any(part in str(error) for part in messages)


def in_pieces(indices, compute):
    """Return ``[compute(indices)]``, or the results of its halves if a device lacks memory."""
    try:
        return [compute(indices)]
    except RuntimeError as error:
        if len(indices) < 2 or not is_out_of_memory(error):
            raise
    # Outside of the except clause, whose traceback would keep the tensors alive.
    half = len(indices) // 2
    return [*in_pieces(indices[:half], compute), *in_pieces(indices[half:], compute)]


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
def explain_out_of_memory(task, get_device):
    """Raise MemoryError with advice if a device lacks memory for the smallest piece of a task.

    ``get_device()`` returns the device, which may be known only during the task.
    """
    try:
        yield
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        device = resolve_device(get_device())
        needed = re.search(r"tried to allocate ([\d.]+ \w+)", str(error), re.IGNORECASE)
        needed = f" and one step needs {needed[1]}" if needed else ""
        advice = "a smaller batch_size, or free other memory there"
        first = "fewer rows at a time" if device.type == "cpu" else "device='cpu'"
        raise MemoryError(
            f"device={str(device)!r} has no room for {task}: {free_bytes(device) / 1e9:.2f} GB are "
            f"free{needed}. Use {first}, {advice}."
        ) from error


def empty_cache(device):
    """Return memory that torch reserves for new tensors to the system."""
    getattr(torch.get_device_module(device), "empty_cache", lambda: None)()


def _free_beside_cache(device):
    """Free memory of the device, and memory that torch's cache reserves for new tensors."""
    module = torch.get_device_module(device)
    if not hasattr(module, "mem_get_info"):
        return float("inf")
    cached = module.memory_reserved(device) - module.memory_allocated(device)
    return module.mem_get_info(device)[0] + cached


def _free_on_machine():
    """Available memory of the machine; infinity where the system does not tell."""
    try:
        return psutil.virtual_memory().available
    except OSError:  # a sandbox may hide /proc
        return float("inf")


def _free_in_container():
    """Free memory of the control group of this process, if Linux limits it: psutil has no such."""
    limit, used = (Path("/sys/fs/cgroup", f"memory.{name}") for name in ("max", "current"))
    try:
        return int(limit.read_text(encoding="utf-8")) - int(used.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # no such file, or the limit is "max"
        return float("inf")
