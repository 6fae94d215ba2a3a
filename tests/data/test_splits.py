import numpy as np
import pytest

from skae._data.splits import held_out_runs


def test_runs_of_neighbours_are_held_out():
    fitted, validation = held_out_runs(5000, 0.1, np.random.RandomState(0))
    assert sorted([*fitted, *validation]) == list(range(5000))
    assert len(validation) == pytest.approx(500, abs=32)
    n_runs = 1 + np.count_nonzero(np.diff(validation) > 1)
    assert n_runs <= 500 / 16


def test_few_rows_are_held_out_one_by_one():
    _, validation = held_out_runs(40, 0.2, np.random.RandomState(0))
    assert len(validation) == 8


def test_too_few_rows_leave_nothing_to_hold_out():
    _, validation = held_out_runs(5, 0.1, np.random.RandomState(0))
    assert len(validation) == 0
