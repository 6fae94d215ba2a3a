import numpy as np
import pytest

from skae._data.splits import held_out_rows, held_out_runs


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


def sizes_of_groups(rng, n_groups=120, largest=30):
    return np.repeat(np.arange(n_groups), rng.integers(1, largest, size=n_groups))


@pytest.mark.parametrize(("seed", "fraction"), [(0, 0.1), (1, 0.3), (2, 0.7)])
def test_groups_are_held_out_whole(seed, fraction):
    rng = np.random.default_rng(seed)
    groups = rng.permutation(sizes_of_groups(rng))
    n = len(groups)
    fitted, validation = held_out_rows(n, fraction, np.random.RandomState(seed), groups)
    assert sorted([*fitted, *validation]) == list(range(n))
    assert not set(groups[fitted]) & set(groups[validation])
    assert len(validation) == pytest.approx(fraction * n, abs=15)
    again = held_out_rows(n, fraction, np.random.RandomState(seed), groups)[1]
    np.testing.assert_array_equal(again, validation)


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([900, 50, 50], {1, 2}),  # the large one is never held out
        ([400, 350, 250], {2}),  # all are too large: the smallest
        ([999, 1], {1}),
        ([500, 500], {0, 1}),
    ],
)
def test_large_groups(sizes, expected):
    groups = np.repeat(np.arange(len(sizes)), sizes)
    seen = set()
    for seed in range(20):
        fitted, validation = held_out_rows(1000, 0.1, np.random.RandomState(seed), groups)
        assert len(fitted) >= 2
        assert not set(groups[fitted]) & set(groups[validation])
        seen |= set(groups[validation])
    assert seen == expected


@pytest.mark.parametrize("fraction", [0.1, 0.5, 0.999])
@pytest.mark.parametrize("n_rows", [2, 3, 5, 29])
def test_two_rows_and_a_group_remain_for_training(n_rows, fraction):
    for seed in range(20):
        groups = np.random.default_rng(seed).integers(0, 1 + seed % 5, size=n_rows)
        if len(set(groups)) == 1:
            groups[0] = 7
        fitted, validation = held_out_rows(n_rows, fraction, np.random.RandomState(seed), groups)
        assert len(fitted) >= 2
        assert bool(len(validation)) == (min(int(fraction * n_rows), n_rows - 2) > 0)


def test_a_single_group_gives_runs_and_a_warning():
    with pytest.warns(UserWarning, match="groups has a single group for all 500 rows"):
        _, validation = held_out_rows(500, 0.1, np.random.RandomState(0), np.zeros(500, int))
    expected = held_out_runs(500, 0.1, np.random.RandomState(0))[1]
    np.testing.assert_array_equal(validation, expected)
