"""How much memory this process holds, and held at most."""

import resource
import sys
from pathlib import Path
from threading import Event, Thread


def peak_resident_bytes():
    """Most memory this process has held at once, interpreter, libraries and data included."""
    status = Path("/proc/self/status")
    if status.exists():  # unlike getrusage this does not inherit the parent's peak
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
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
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith("RssAnon")).split()[1])
