"""Whether a network fits into memory: told before any of it is allocated."""

import os
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

# Training holds each weight in float32, its gradient and two moments of AdamW.
_BYTES_PER_WEIGHT = 4 * 4


def bytes_to_train(build: Callable[[], nn.Module]) -> int:
    """What training the module takes, batches apart; ``build`` is run without memory or numbers."""
    with torch.device("meta"):
        module = build()
    return _BYTES_PER_WEIGHT * sum(weight.numel() for weight in module.parameters())


def available_bytes(device: torch.device) -> float:
    """What is free on the device, as far as this platform tells; else infinity."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return min(_free_on_machine(), _free_in_container())


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
