"""How much memory this process holds, and held at most."""

import re
import sys
from pathlib import Path
from threading import Event, Thread

try:
    import resource
except ImportError:  # on Windows
    resource = None


def peak_resident_bytes():
    """Most memory this process has held at once, interpreter, libraries and data included.

    NaN on Windows, where the standard library does not report it.
    """
    peak = _bytes_in_status("VmHWM")
    if peak is not None:  # unlike getrusage this does not inherit the parent's peak
        return peak
    if resource is None:
        return float("nan")
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


class GrowthOfMemory:
    """Watches how much memory the process holds for itself beyond what it held at first."""

    def __enter__(self):
        self._done, self._first, self._most = Event(), held(), 0
        self._watch = Thread(target=self._look)
        self._watch.start()
        return self

    def _look(self):
        while not self._done.wait(0.02):
            self._most = max(self._most, held())

    def __exit__(self, *_):
        self._done.set()
        self._watch.join()

    @property
    def gigabytes(self):
        return (self._most - self._first) / 1e9

    @property
    def peak_gigabytes(self):
        return self._most / 1e9


def held():
    """Bytes of memory of this process that no file stands behind."""
    n_bytes = _bytes_in_status("RssAnon")
    if n_bytes is None:
        raise NotImplementedError("memory without that of files can be measured on Linux alone")
    return n_bytes


def _bytes_in_status(name):
    """A size that Linux reports of this process; None elsewhere."""
    try:
        status = Path("/proc/self/status").read_text(encoding="utf-8")
    except OSError:
        return None
    size = re.search(rf"^{name}:\s*(\d+)", status, re.MULTILINE)
    return int(size[1]) * 1024 if size else None
