"""The model of the observed entries, which fills missing ones."""

import numpy as np
import pytest

from skae._data.incomplete import CompletedArray, has_missing, observed_mean
from skae._data.rows import rows_of
from skae._pca.missing import completed, fill


@pytest.fixture
def low_rank():
    """Rows of rank 3 in 20 columns, with a little noise."""
    rng = np.random.RandomState(0)
    X = rng.standard_normal((300, 3)) @ rng.standard_normal((3, 20))
    return X + 0.01 * rng.standard_normal(X.shape) + 5


def with_hidden(X, share, seed=1):
    return np.where(np.random.RandomState(seed).random_sample(X.shape) < share, np.nan, X)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5])
def test_rows_of_low_rank_are_completed_to_the_noise(low_rank, share):
    X = completed(with_hidden(low_rank, share), None)
    assert not np.isnan(X.filled).any()
    new = np.random.RandomState(2).permutation(low_rank)[:50]
    hidden = with_hidden(new, 0.4)
    filled = fill(hidden, X.mean, X.loadings)
    missing = np.isnan(hidden)
    np.testing.assert_array_equal(filled[~missing], new[~missing])
    assert np.square(filled - new)[missing].mean() < 0.01 * low_rank.var()


def test_a_fill_is_ridge_regression_on_the_loadings(low_rank):
    X = completed(with_hidden(low_rank, 0.3), None)
    row = with_hidden(low_rank[:1], 0.5)
    seen = ~np.isnan(row[0])
    L, L_seen = X.loadings, X.loadings[seen]
    z = np.linalg.solve(L_seen.T @ L_seen + np.eye(L.shape[1]), L_seen.T @ (row - X.mean)[0, seen])
    expected = np.where(seen, row[0], L @ z + X.mean)
    np.testing.assert_allclose(fill(row, X.mean, L)[0], expected)


def test_filling_does_not_depend_on_other_rows_or_on_the_scale(low_rank):
    hidden = with_hidden(low_rank, 0.3)
    X = completed(hidden, None)
    np.testing.assert_allclose(fill(hidden[:5], X.mean, X.loadings), X.filled[:5], rtol=1e-10)
    large = completed(1e20 * hidden, None)
    np.testing.assert_allclose(large.filled, 1e20 * X.filled, rtol=1e-6)
    # Not a number in a column must not raise a warning, nor change the dtype.
    assert fill(hidden.astype(np.float32), X.mean, X.loadings).dtype == np.float32


def test_weights_count_in_the_mean_and_in_the_model(low_rank):
    hidden = with_hidden(low_rank, 0.3)
    weights = np.where(np.arange(300) < 100, 2.98, 0.01)
    of_weights, of_part = completed(hidden, weights), completed(hidden[:100], None)
    np.testing.assert_allclose(of_weights.mean, of_part.mean, atol=0.1)
    mean = np.ma.average(np.ma.masked_invalid(hidden), axis=0, weights=weights)
    np.testing.assert_allclose(observed_mean(hidden, weights), mean)


def test_completed_rows_are_filled_ones_with_norms_of_the_observed_entries(low_rank):
    hidden = with_hidden(low_rank, 0.3)
    X = completed(hidden, None)
    assert isinstance(X, CompletedArray)
    rows = rows_of(X)
    np.testing.assert_allclose(rows.dense([2, 5]), X.filled[[2, 5]], rtol=1e-6)
    np.testing.assert_array_equal(rows.observed.dense([2, 5]).isnan(), np.isnan(hidden[[2, 5]]))
    np.testing.assert_allclose(
        rows.observed_norms(), np.nansum((hidden - X.mean) ** 2, axis=1), rtol=1e-10
    )
    assert has_missing(hidden)
    assert not has_missing(X.filled)
