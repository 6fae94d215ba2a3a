import numpy as np
import pytest
import scipy.sparse as sp
import torch
from sklearn.decomposition import PCA

from skae._data.rows import rows_of
from skae._pca.holdout import scores_without_validation
from skae._pca.solvers import principal_basis


@pytest.mark.parametrize("convert", [np.array, sp.csr_matrix])
@pytest.mark.parametrize("shape", [(120, 30), (60, 200)])
def test_validation_scores_are_those_of_pca_without_validation_rows(convert, shape):
    n, p = shape
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, p)) * 0.9 ** np.arange(p)
    X[n // 2] += 30  # a validation row that would bend the basis towards itself
    validation = np.arange(n // 2, n // 2 + 12)
    fitted = np.setdiff1d(np.arange(n), validation)
    rows = rows_of(convert(X), mean=X[fitted].mean(axis=0), dtype=torch.float64)
    basis = principal_basis(rows, min(n, p))
    k = 5
    new_scores = scores_without_validation(
        rows, rows.times(basis.directions), validation, k
    ).numpy()
    pca = PCA(k, svd_solver="full").fit(X[fitted])
    expected = np.square(pca.transform(X)).sum(axis=1)
    np.testing.assert_allclose(np.square(new_scores[:, :k]).sum(axis=1), expected, rtol=1e-3)
