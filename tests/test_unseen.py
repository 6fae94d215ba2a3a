import numpy as np
import pytest
import scipy.sparse as sp
import torch
from sklearn.decomposition import PCA

from skae._data.rows import rows_of
from skae._data.splits import held_out_runs
from skae._pca.holdout import scores_without
from skae._pca.solvers import principal_basis


def test_runs_of_neighbouring_rows_are_held_out():
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


@pytest.mark.parametrize("convert", [np.array, sp.csr_matrix])
@pytest.mark.parametrize("shape", [(120, 30), (60, 200)])
def test_validation_rows_have_the_scores_of_a_pca_without_them(convert, shape):
    n, p = shape
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, p)) * 0.9 ** np.arange(p)
    X[n // 2] += 30  # a validation row that would turn the basis towards itself
    validation = np.arange(n // 2, n // 2 + 12)
    fitted = np.setdiff1d(np.arange(n), validation)
    rows = rows_of(convert(X), mean=X[fitted].mean(axis=0), dtype=torch.float64)
    basis = principal_basis(rows, min(n, p))
    k = 5
    scores = scores_without(rows, rows.times(basis.directions), validation, k).numpy()
    pca = PCA(k, svd_solver="full").fit(X[fitted])
    expected = np.square(pca.transform(X)).sum(axis=1)
    np.testing.assert_allclose(np.square(scores[:, :k]).sum(axis=1), expected, rtol=1e-3)
