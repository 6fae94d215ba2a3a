"""Threads: work in few, large parts, each of which one thread computes.

torch divides every single operation among all threads, and each operation then ends with its
slowest thread. Beside another busy process that one waits for its turn, a few milliseconds
thousands of times. So operations run in one thread here, and what is large is cut into parts that
threads take one after the other. The parts depend on the size of the work alone: results have the
same bits for any number of threads.

How many threads there are is what `torch.get_num_threads` returned where the estimator was called:
``torch.set_num_threads`` and ``OMP_NUM_THREADS`` decide it. Nothing here changes it for others, nor
for the calling thread beyond the call.
"""

import ctypes
from collections import deque
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from threading import local

import torch
from threadpoolctl import ThreadpoolController

from ._environment import neutral_surroundings

# Operations worth a thread of their own, some milliseconds; and the most parts of a product.
_WORK_OF_PART, _MOST_PARTS = 2e8, 16

# Of the outermost `one_thread_each` around: n_threads, the pool of the others, and whether they are
# at work.
_here = local()


def n_threads():
    """How many threads may compute."""
    return getattr(_here, "n_threads", None) or torch.get_num_threads()


@contextmanager
def one_thread_each():
    """Let every operation of the calling thread run in one thread, until the block ends.

    Within it `in_threads` has other threads to share work with.
    """
    if getattr(_here, "n_threads", None):
        yield
        return
    _here.n_threads, _here.pool, _here.is_sharing = torch.get_num_threads(), None, False
    try:
        with _limited_to(1):
            yield
    finally:
        if _here.pool is not None:
            _here.pool.shutdown()
        _here.n_threads = _here.pool = None


@contextmanager
def all_threads_each(wanted=True):
    """Within `one_thread_each`, let every operation use all threads: for very large ones."""
    if not wanted or not getattr(_here, "n_threads", None):
        yield
        return
    with _limited_to(_here.n_threads):
        yield


@contextmanager
def _limited_to(n):
    # These settings are of the calling thread alone, unlike that of torch.set_num_threads.
    before = _set_mkl_threads()(n)
    try:
        with _controller().limit(limits=n, user_api="openmp"):
            yield
    finally:
        _set_mkl_threads()(before)


@cache
def _controller():
    return ThreadpoolController()  # which looks through all loaded libraries


@cache
def _set_mkl_threads():
    """MKL's own function, where torch has MKL: `torch.set_num_threads` has told it a number."""
    library = Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"
    try:
        return ctypes.CDLL(str(library)).MKL_Set_Num_Threads_Local
    except (OSError, AttributeError):
        return lambda n: 0


def in_threads(function, parts):
    """``[function(part) for part in parts]``, in as many threads as there are.

    If one of them fails, the parts that are left are not begun, and its error is raised.
    """
    parts = list(parts)
    if len(parts) < 2 or n_threads() < 2 or getattr(_here, "is_sharing", True):
        return in_turn(function, parts)
    results = [None] * len(parts)
    waiting = _Queue(enumerate(parts))

    def work():
        try:
            for place, part in waiting:
                results[place] = function(part)
        finally:
            waiting.close()

    # Settings of each thread: what one makes in inference mode, another may not change without.
    infers, learns = torch.is_inference_mode_enabled(), torch.is_grad_enabled()

    def help_out():
        with torch.inference_mode(infers), torch.set_grad_enabled(learns):
            work()

    if _here.pool is None:
        _here.pool = ThreadPoolExecutor(n_threads() - 1, "skae", _start)
    n_helpers = min(n_threads(), len(parts)) - 1
    helpers = [_here.pool.submit(help_out) for _ in range(n_helpers)]
    _here.is_sharing = True  # parts are not divided again
    try:
        work()
    finally:
        wait(helpers)  # before anybody touches what they write to
        _here.is_sharing = False
    for helper in helpers:
        helper.result()
    return results


def in_turn(function, parts):
    """The same in one thread."""
    return [function(part) for part in parts]


class _Queue:
    """An iterator that several threads may share, and one may close."""

    def __init__(self, items):
        self._items = deque(items)

    def __iter__(self):
        return self

    def __next__(self):
        try:
            return self._items.popleft()
        except IndexError:
            raise StopIteration from None

    def close(self):
        self._items.clear()


def _start():
    """Prepare a new thread: what the caller has set for its own, for as long as it lives."""
    torch.get_num_threads()  # which sets the number of a new thread, the first time
    _here.set_for_good = ExitStack()
    _here.set_for_good.enter_context(neutral_surroundings())
    _here.set_for_good.enter_context(_limited_to(1))
    _here.n_threads = 1


def slices_of_work(n_items, n_operations, device=None):
    """Slices of n items, each worth a thread by the operations that all of them take.

    They depend on these two numbers alone. One slice for a device that is not the CPU.
    """
    n_parts = int(min(max(n_operations // _WORK_OF_PART, 1), _MOST_PARTS))
    if device is not None and device.type != "cpu":
        n_parts = 1
    step = max(1, -(-n_items // n_parts))
    return [slice(start, min(start + step, n_items)) for start in range(0, n_items, step)]
