import numpy as np
import pytest
import scipy.sparse as sp
import torch

from skae._data.rows import rows_of
from skae._runtime.tensors import batch_slices


@pytest.fixture
def sample():
    rng = np.random.default_rng(0)
    return rng.normal(size=(40, 150)) * (rng.random((40, 150)) < 0.2) + 0.1 * (
        rng.random(150) < 0.3
    )


@pytest.mark.parametrize("convert", [np.array, sp.csr_matrix, sp.csr_array, np.asfortranarray])
def test_products_are_those_of_the_centred_matrix(sample, convert):
    X = sample
    A = X - X.mean(axis=0)
    W, Q = torch.randn(150, 70, dtype=torch.float64), torch.randn(40, 70, dtype=torch.float64)
    rows = rows_of(convert(X), dtype=torch.float64)
    for _ in range(2):
        np.testing.assert_allclose(rows.times(W), A @ W.numpy(), atol=1e-12)
        np.testing.assert_allclose(rows.transposed_times(Q), A.T @ Q.numpy(), atol=1e-12)
        rows.prepare_for_many_products()
    np.testing.assert_allclose(rows.squared_norms(), np.square(A).sum(axis=1), atol=1e-12)


def test_a_given_mean_is_subtracted(sample):
    X = sample
    mean = np.arange(150.0)
    for kind in (np.array, sp.csr_matrix):
        rows = rows_of(kind(X), mean=mean, dtype=torch.float64)
        identity = torch.eye(150, dtype=torch.float64)
        np.testing.assert_allclose(rows.times(identity), X - mean, atol=1e-10)
        np.testing.assert_allclose(rows.covariance(), (X - mean).T @ (X - mean), atol=1e-8)
        np.testing.assert_allclose(rows.gram(), (X - mean) @ (X - mean).T, atol=1e-8)


@pytest.mark.parametrize("convert", [np.array, sp.csr_matrix])
def test_dense_returns_the_rows_of_the_index(sample, convert):
    X = sample
    rows = rows_of(convert(X))
    picked = np.array([7, 3, 3, 39])
    np.testing.assert_array_equal(rows.dense(picked), X[picked].astype(np.float32))
    np.testing.assert_array_equal(rows.dense(slice(5, 9)), X[5:9].astype(np.float32))


def test_sixty_four_bit_indices_give_the_same_products(sample):
    narrow = sp.csr_matrix(sample)
    wide = narrow.copy()
    wide.indices, wide.indptr = wide.indices.astype(np.int64), wide.indptr.astype(np.int64)
    W, Q = torch.randn(150, 3), torch.randn(40, 3)
    assert torch.equal(rows_of(narrow).times(W), rows_of(wide).times(W))
    assert torch.equal(rows_of(narrow).transposed_times(Q), rows_of(wide).transposed_times(Q))


def test_slices_cover_all_rows_once():
    slices = batch_slices(10, row_bytes=30, batch_bytes=100)
    assert [(s.start, s.stop) for s in slices] == [(0, 3), (3, 6), (6, 9), (9, 10)]
    assert batch_slices(2, row_bytes=10**12) == [slice(0, 1), slice(1, 2)]
