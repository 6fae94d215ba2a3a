"""How public calls compute: in neutral settings, in threads that take large parts of the work."""

import ctypes
import os
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from copy import copy
from functools import cache, wraps
from multiprocessing import parent_process
from pathlib import Path
from tempfile import gettempdir
from threading import local
from typing import Concatenate, ParamSpec, TypeVar

import numpy as np
import torch
from filelock import FileLock
from threadpoolctl import ThreadpoolController
from torch.utils._python_dispatch import TorchDispatchMode

from .device import empty_cache, explaining_lack_of_memory, n_processes

# Of these kinds of device autocast is switched off.
_AUTOCAST = ("cpu", "cuda", "mps", "xpu")

_USUAL_ERRORS = {"divide": "warn", "over": "warn", "under": "ignore", "invalid": "warn"}


@contextmanager
def neutral_surroundings():
    """Defaults of torch and NumPy for this thread: what was set before is back afterwards."""
    with ExitStack() as stack:
        for kind in _AUTOCAST:
            if torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        if torch.get_default_device().type != "cpu":  # such a context slows down every operation
            stack.enter_context(torch.device("cpu"))
        if _products_are_rounded():
            stack.enter_context(_FullPrecision())
        errors = np.geterr()
        raised = {name: _USUAL_ERRORS[name] for name in errors if errors[name] != "ignore"}
        stack.enter_context(np.errstate(**raised))
        yield


def _products_are_rounded():
    """Whether torch may round the factors of products of float32 matrices."""
    try:
        return torch.get_float32_matmul_precision() != "highest"
    except RuntimeError:  # kinds of device have settings of their own
        return True


class _FullPrecision(TorchDispatchMode):
    """Products of float32 matrices by way of float64.

    `torch.set_float32_matmul_precision` holds for all threads: it cannot be set for one call.
    """

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        product = _PRODUCTS.get(func.overloadpacket)
        if product is None:
            with self:  # in inference mode torch hands operations over before it takes them apart
                result = func.decompose(*args, **kwargs)
            return func(*args, **kwargs) if result is NotImplemented else result
        if not all(_is_rounded(value) for value in args if isinstance(value, torch.Tensor)):
            return func(*args, **kwargs)
        out = kwargs.pop("out", args[0] if func.overloadpacket in _IN_PLACE else None)
        wide = [v.double() if isinstance(v, torch.Tensor) else v for v in args]
        result = product(*wide, **kwargs).float()
        return result if out is None else out.copy_(result)


def _is_rounded(factor):
    return factor.dtype == torch.float32 and factor.device.type in ("cpu", "cuda")


_aten = torch.ops.aten

_IN_PLACE = {_aten.addmm_, _aten.addmv_, _aten.baddbmm_}

_PRODUCTS = {
    _aten.mm: _aten.mm,
    _aten.mv: _aten.mv,
    _aten.bmm: _aten.bmm,
    _aten.addmm: _aten.addmm,
    _aten.addmm_: _aten.addmm,
    _aten.addmv: _aten.addmv,
    _aten.addmv_: _aten.addmv,
    _aten.baddbmm: _aten.baddbmm,
    _aten.baddbmm_: _aten.baddbmm,
}

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


P = ParamSpec("P")

T = TypeVar("T")

S = TypeVar("S")


def in_neutral_surroundings(function: Callable[P, T]) -> Callable[P, T]:
    """A public function that gives the same whatever is set around its call.

    Each of its operations runs in one thread; `_threads` divides what is large.
    """

    @wraps(function)
    def neutral(*args: P.args, **kwargs: P.kwargs) -> T:
        with neutral_surroundings(), one_thread_each():
            return function(*args, **kwargs)

    return neutral


def on_one_state(method: Callable[Concatenate[S, P], T]) -> Callable[Concatenate[S, P], T]:
    """A public method that works on the estimator as it is when the call begins.

    In another thread it may be fitted anew meanwhile. The surroundings are neutral, and a device
    without room gets a sentence.
    """

    @wraps(method)
    def steady(self: S, *args: P.args, **kwargs: P.kwargs) -> T:
        state = copy(self)
        with (
            neutral_surroundings(),
            one_thread_each(),
            explaining_lack_of_memory(method.__name__, state.device),
        ):
            return method(state, *args, **kwargs)

    return steady


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
