"""Settings and threads of a public call: neutral settings, large operations divided over threads.

Results do not depend on what the user has set in torch or NumPy, nor on the number of threads.
"""

import ctypes
import os
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager, suppress
from copy import copy
from functools import cache, wraps
from multiprocessing import parent_process
from pathlib import Path
from tempfile import gettempdir
from threading import Lock, local
from typing import Concatenate, ParamSpec, TypeVar

import numpy as np
import torch
from filelock import FileLock
from threadpoolctl import ThreadpoolController

from .device import (
    autocast_kinds,
    empty_cache,
    explain_out_of_memory,
)
from .precision import full_precision_products
from .process_group import n_processes

P = ParamSpec("P")

T = TypeVar("T")

S = TypeVar("S")


# Decorators and locks of public calls


def with_neutral_settings(function: Callable[P, T]) -> Callable[P, T]:
    """Decorate a public function so that settings around its call do not change its result.

    Each of its operations runs in one thread; `in_threads` divides large ones.
    """

    @wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> T:
        with neutral_settings(), single_threaded_operations():
            return function(*args, **kwargs)

    return wrapper


def on_snapshot(method: Callable[Concatenate[S, P], T]) -> Callable[Concatenate[S, P], T]:
    """Decorate a public method so that it works on a copy of the estimator made when it is called.

    Another thread may refit the estimator meanwhile. The method runs with neutral settings, and
    lack of memory on a device raises an error that explains it.
    """

    @wraps(method)
    def wrapper(self: S, *args: P.args, **kwargs: P.kwargs) -> T:
        snapshot = copy(self)
        with (
            neutral_settings(),
            single_threaded_operations(),
            explain_out_of_memory(method.__name__, lambda: snapshot.device),
        ):
            return method(snapshot, *args, **kwargs)

    return wrapper


@contextmanager
def device_lock(device):
    """On a GPU, admit one worker process of the same parent at a time.

    Otherwise each of ``n_jobs`` workers would claim the memory of the same device. Where the
    system has no lock, or refuses it, workers do not wait.
    """
    if device.type == "cpu" or parent_process() is None or n_processes() > 1:
        yield
        return
    index = device.index
    if index is None:
        index = getattr(torch.get_device_module(device), "current_device", int)()
    with ExitStack() as stack:
        with suppress(OSError, NotImplementedError):
            # Another user's file of that name may be left in the folder.
            path = Path(gettempdir(), f"skae-{os.getppid()}-{device.type}-{index}.lock")
            stack.enter_context(FileLock(path))
        stack.callback(empty_cache, device)  # the next worker would find that memory occupied
        yield


# Neutral settings of torch and NumPy

_DEFAULT_ERRORS = {"divide": "warn", "over": "warn", "under": "ignore", "invalid": "warn"}


@contextmanager
def neutral_settings():
    """Set settings of torch and NumPy to their defaults, and restore them after."""
    with full_precision_products(), _neutral_thread():
        yield


@contextmanager
def _neutral_thread():
    """Do so with those settings that each thread has for itself."""
    with ExitStack() as stack:
        for kind in autocast_kinds():
            if torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        if torch.get_default_device().type != "cpu":  # such a context slows down every operation
            stack.enter_context(torch.device("cpu"))
        errors = np.geterr()
        defaults = {name: _DEFAULT_ERRORS[name] for name in errors if errors[name] != "ignore"}
        stack.enter_context(np.errstate(**defaults))
        yield


# Threads

# Operations that are worth a thread, some milliseconds; and the most parts of a product.
_WORK_OF_PART, _MOST_PARTS = 2e8, 16

# State of the outermost `single_threaded_operations` of a thread: n_threads, the pool of the other
# threads, and whether they are busy.
_state = local()


def n_threads():
    """Return how many threads may compute."""
    return getattr(_state, "n_threads", None) or torch.get_num_threads()


@contextmanager
def single_threaded_operations():
    """Run each operation of the calling thread in one thread.

    Within this context `in_threads` has other threads to divide work among.
    """
    if getattr(_state, "n_threads", None):
        yield
        return
    _state.n_threads, _state.pool, _state.is_busy = torch.get_num_threads(), None, False
    try:
        with _thread_limit(1):
            yield
    finally:
        if _state.pool is not None:
            _state.pool.shutdown()
        _state.n_threads = _state.pool = None


@contextmanager
def multithreaded_operations(enabled=True):
    """Within `single_threaded_operations`, run each operation in all threads: for large ones."""
    if not enabled or not getattr(_state, "n_threads", None):
        yield
        return
    with _thread_limit(_state.n_threads):
        yield


def in_threads(function, parts):
    """Return ``[function(part) for part in parts]``, computed in all threads.

    If a call fails, the parts that are left are not started, and its error is raised.
    """
    parts = list(parts)
    if len(parts) < 2 or n_threads() < 2 or getattr(_state, "is_busy", True):
        return in_one_thread(function, parts)
    results = [None] * len(parts)
    queue = _Queue(enumerate(parts))

    def work():
        try:
            for i, part in queue:
                results[i] = function(part)
        finally:
            queue.close()

    # Each thread has its own modes. A tensor made in inference mode cannot be changed outside it.
    inference, grad = torch.is_inference_mode_enabled(), torch.is_grad_enabled()

    def help_out():
        with torch.inference_mode(inference), torch.set_grad_enabled(grad):
            work()

    if _state.pool is None:
        _state.pool = ThreadPoolExecutor(n_threads() - 1, "skae", _initialize_thread)
    n_helpers = min(n_threads(), len(parts)) - 1
    helpers = [_state.pool.submit(help_out) for _ in range(n_helpers)]
    _state.is_busy = True  # parts are not divided again
    try:
        work()
    finally:
        wait(helpers)  # the helpers may still write to what the caller uses next
        _state.is_busy = False
    for helper in helpers:
        helper.result()
    return results


def in_one_thread(function, parts):
    """Return ``[function(part) for part in parts]``: the serial form of `in_threads`."""
    return [function(part) for part in parts]


def slices_of_work(n_items, n_operations, device=None):
    """Divide items into slices that are each worth a thread, given their operations in total.

    The slices depend on these two numbers alone. On a device other than the CPU there is one.
    """
    n_parts = int(min(max(n_operations // _WORK_OF_PART, 1), _MOST_PARTS))
    if device is not None and device.type != "cpu":
        n_parts = 1
    step = max(1, -(-n_items // n_parts))
    return [slice(start, min(start + step, n_items)) for start in range(0, n_items, step)]


class _Queue:
    """An iterator that several threads share and each of them can close."""

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


def _initialize_thread():
    """Apply the settings of the calling thread to a new thread, for its lifetime."""
    torch.get_num_threads()  # the first call in a thread sets its number of threads
    _state.contexts = ExitStack()
    _state.contexts.enter_context(_neutral_thread())
    _state.contexts.enter_context(_thread_limit(1))
    _state.n_threads = 1


@contextmanager
def _thread_limit(n):
    # Unlike torch.set_num_threads, these settings belong to the calling thread alone.
    before = _set_mkl_threads()(n)
    try:
        with _controller().limit(limits=n, user_api="openmp"):
            yield
    finally:
        _set_mkl_threads()(before)


# Libraries' numbers of threads are those of the process: one caller at a time may change them.
_BLAS_LOCK = Lock()


@contextmanager
def single_threaded_blas():
    """Run a function of SciPy in one thread: its last bits would depend on their number."""
    with _BLAS_LOCK, _controller().limit(limits=1, user_api="blas"):
        yield


@cache
def _controller():
    return ThreadpoolController()  # the constructor searches all loaded libraries


@cache
def _set_mkl_threads():
    """Return MKL's thread-local setter where torch has MKL: `torch.set_num_threads` sets MKL's."""
    library = Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"
    try:
        return ctypes.CDLL(str(library)).MKL_Set_Num_Threads_Local
    except (OSError, AttributeError):
        return lambda n: 0


# The process that imported skae: a fork of it has another id.
_IMPORTING_PROCESS = os.getpid()


def single_thread_after_fork():
    """Compute in one thread if this process is a fork.

    A fork does not have its parent's threads, and GNU OpenMP would wait for them forever.
    """
    if os.getpid() != _IMPORTING_PROCESS:
        torch.set_num_threads(1)
