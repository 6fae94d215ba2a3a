"""Where to compute."""

import os
import platform
from contextlib import contextmanager
from functools import cache
from multiprocessing import parent_process
from pathlib import Path
from tempfile import gettempdir

import torch
from filelock import FileLock

from ._parallel import n_processes

# The process that imported skae; a fork of it has another number.
_PROCESS = os.getpid()


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
    if resolved.type == "cuda":
        n_devices = torch.cuda.device_count()
        if not torch.cuda.is_available():
            raise ValueError(
                f"device={device!r} needs a CUDA device, but this PyTorch ({torch.__version__}) "
                f"finds none: use device='cpu' or 'auto'."
            )
        if (resolved.index or 0) >= n_devices:
            raise ValueError(f"device={device!r} must be one of the {n_devices} CUDA devices.")
    elif resolved.type != "cpu":
        raise ValueError(f"device={device!r} must be 'auto', 'cpu' or a CUDA device.")
    return resolved


def multiplies_bfloat16(device):
    """Whether the device multiplies bfloat16 faster than float32.

    Intel's processors do so in AMX tiles alone: their AVX-512 instructions for bfloat16 have half
    the speed of those for float32 (docs/design.md).
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if _has("_is_amx_tile_supported"):
        return True
    return _has("_is_avx512_bf16_supported") and "GenuineIntel" not in _vendor_of_processor()


def _has(query):
    """What a query of `torch.cpu` says; no where this version of torch lacks it."""
    return getattr(torch.cpu, query, bool)()


@cache
def _vendor_of_processor():
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        return cpuinfo.read_text().partition("vendor_id")[2].partition("\n")[0]
    return platform.processor()  # on Windows it ends with the vendor's name


@contextmanager
def taking_turns(device):
    """On a GPU, let one worker process of the same parent in at a time.

    Each of ``n_jobs`` workers would else claim the memory of the same device.
    """
    if device.type != "cuda" or parent_process() is None or n_processes() > 1:
        yield
        return
    index = torch.cuda.current_device() if device.index is None else device.index
    with FileLock(Path(gettempdir(), f"skae-{os.getppid()}-cuda-{index}.lock")):
        yield


def survive_fork():
    """In a forked process, compute in one thread.

    The parent's threads are not there, and GNU OpenMP would wait for them forever.
    """
    if os.getpid() != _PROCESS:
        torch.set_num_threads(1)
