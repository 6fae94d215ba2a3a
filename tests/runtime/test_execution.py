import threading

import pytest
import torch

from skae._runtime.execution import (
    in_threads,
    multithreaded_operations,
    single_threaded_operations,
)


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_matrix_products_run_in_one_thread_too(two_threads):
    def n_threads_of_each_pool():
        lines = torch.__config__.parallel_info().splitlines()
        return {line.split()[-1] for line in lines if "get_max_threads()" in line}

    before = n_threads_of_each_pool()
    with single_threaded_operations():
        assert n_threads_of_each_pool() == {"1"}
        assert in_threads(lambda _: n_threads_of_each_pool(), range(4)) == [{"1"}] * 4
        with multithreaded_operations():
            assert n_threads_of_each_pool() == {"2"}
    assert n_threads_of_each_pool() == before


def test_parts_are_shared_and_results_keep_their_order(two_threads):
    both_at_once = threading.Barrier(2, timeout=30)

    def square(i):
        both_at_once.wait()  # passes only if two threads are at work
        return i * i, torch.get_num_threads()

    with single_threaded_operations():
        assert in_threads(square, range(6)) == [(i * i, 1) for i in range(6)]


def test_an_error_in_any_part_is_raised_after_all_have_ended(two_threads):
    running = []

    def work(i):
        running.append(i)
        if i == 3:
            raise ZeroDivisionError
        running.remove(i)

    with single_threaded_operations():
        with pytest.raises(ZeroDivisionError):
            in_threads(work, range(8))
        assert running == [3]
        assert in_threads(str, [1, 2]) == ["1", "2"]


@pytest.mark.parametrize("mode", [torch.inference_mode, torch.no_grad, torch.enable_grad])
def test_threads_are_in_the_mode_of_their_caller(two_threads, mode):
    both_at_once = threading.Barrier(2, timeout=30)

    def seen(_):
        both_at_once.wait()
        return torch.is_inference_mode_enabled(), torch.is_grad_enabled()

    with single_threaded_operations(), mode():
        expected = torch.is_inference_mode_enabled(), torch.is_grad_enabled()
        assert in_threads(seen, range(2)) == [expected] * 2
