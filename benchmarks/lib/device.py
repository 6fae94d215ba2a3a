"""Seconds, memory, launches and busy time of a device while a function runs."""

import time
from contextlib import suppress

import torch


def name_of(device):
    """The name of the processor of a CUDA device."""
    return torch.cuda.get_device_name(device)


def measured(function, device):
    """Call a function: its result, and seconds and peak memory of the device."""
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    torch.cuda.synchronize(device)
    before = torch.cuda.memory_allocated(device)
    start = time.perf_counter()
    result = function()
    torch.cuda.synchronize(device)
    seconds = time.perf_counter() - start
    peak = torch.cuda.max_memory_allocated(device) - before
    return result, {"seconds": seconds, "device_gb": peak / 1e9}


def profiled(function, device):
    """Launches, and share of the time in which the device computed, while a function runs.

    The profiler makes it slower: no time is taken from this run but for the share.
    """
    with suppress(ImportError):
        return _simulated(function)
    torch.cuda.synchronize(device)
    activities = [torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=activities) as profile:
        start = time.perf_counter()
        function()
        torch.cuda.synchronize(device)
        seconds = time.perf_counter() - start
    on_device = [e for e in profile.events() if e.device_type == torch.autograd.DeviceType.CUDA]
    busy = sum(event.time_range.elapsed_us() for event in on_device) / 1e6
    return {"launches": len(on_device), "busy": busy / seconds}


def _simulated(function):
    """The same on the simulated device of the tests, which has no time."""
    import simulated_cuda

    simulated_cuda.reset()
    function()
    return {"launches": simulated_cuda.stats()["launches"], "busy": None}
