import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.decomposition import PCA

from skae import DenseAutoencoder, _basis
from skae._basis import principal_basis
from skae._rows import rows_of


def captured(A, directions):
    return np.square(A @ directions.double().numpy()).sum()


def assert_as_good_as_pca(X, k, convert, tolerance):
    rows = rows_of(convert(X), dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    basis = principal_basis(rows, k, tol=1e-5, generator=generator)
    A = X - X.mean(axis=0)
    V = basis.directions
    np.testing.assert_allclose(V.T @ V, np.eye(k), atol=1e-5)
    best = np.square(np.linalg.svd(A, compute_uv=False)[:k]).sum()
    assert captured(A, V) >= (1 - tolerance) * best - 1e-12
    assert basis.total_variance == pytest.approx(A.var(axis=0, ddof=1).sum(), abs=1e-12)
    np.testing.assert_allclose(
        basis.variances,
        np.linalg.svd(A, compute_uv=False)[:k] ** 2 / (len(X) - 1),
        atol=1e-3 * max(1e-9, best / (len(X) - 1)),
    )


@st.composite
def matrices(draw):
    """Matrices of any shape, rank and spectrum, some with repeated rows or constant columns."""
    n, p = draw(st.integers(2, 40)), draw(st.integers(1, 40))
    rank = draw(st.integers(0, min(n, p)))
    decay = draw(st.floats(0.3, 1.0))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    X = rng.normal(size=(n, rank)) * decay ** np.arange(rank) @ rng.normal(size=(rank, p))
    if draw(st.booleans()):
        X[rng.integers(n)] = X[rng.integers(n)]
    if draw(st.booleans()):
        X[:, rng.integers(p)] = 3.0
    return X, draw(st.integers(1, min(n, p)))


@settings(deadline=None, max_examples=60)
@given(matrices(), st.sampled_from([np.asarray, sp.csr_matrix]))
def test_exact_roads_capture_what_pca_captures(drawn, convert):
    X, k = drawn
    assert_as_good_as_pca(X, k, convert, 1e-6)


@settings(deadline=None, max_examples=40)
@given(matrices(), st.sampled_from([np.asarray, sp.csr_matrix]))
def test_krylov_captures_what_pca_captures(drawn, convert):
    X, k = drawn
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_basis, "is_exact", lambda shape, n_directions: False)
        patch.setattr(_basis, "_BLOCK_SIZE", 3)
        assert_as_good_as_pca(X, k, convert, 1e-3)


@pytest.mark.parametrize("shape", [(300, 40), (40, 300)])
def test_directions_and_signs_are_those_of_scikit_learn(shape):
    X = np.random.default_rng(0).normal(size=shape) * np.linspace(1, 3, shape[1])
    pca = PCA(5, svd_solver="full").fit(X)
    basis = principal_basis(rows_of(X, dtype=torch.float64), 5)
    np.testing.assert_allclose(basis.directions.T, pca.components_, atol=1e-8)
    np.testing.assert_allclose(basis.variances, pca.explained_variance_, rtol=1e-8)


@pytest.mark.parametrize("convert", [np.asarray, sp.csr_matrix])
@pytest.mark.parametrize("shape", [(60, 25), (25, 60)])
def test_directions_of_tiny_variance_are_those_of_scikit_learn(shape, convert):
    rng = np.random.default_rng(0)
    X = (
        rng.normal(size=(shape[0], 12))
        * 10.0 ** -np.arange(0, 6, 0.5)
        @ rng.normal(size=(12, shape[1]))
    )
    pca = PCA(10, svd_solver="full").fit(X)
    basis = principal_basis(rows_of(convert(X), dtype=torch.float64), 10)
    np.testing.assert_allclose(basis.directions.T, pca.components_, atol=1e-4)


def test_krylov_on_real_bigrams_is_exact_pca(bigrams):
    X = bigrams[0]
    rows = rows_of(X)
    exact = principal_basis(rows, 50)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_basis, "is_exact", lambda shape, n_directions: False)
        krylov = principal_basis(rows, 50, generator=torch.Generator().manual_seed(0))
    assert krylov.variances.sum() >= 0.999 * exact.variances.sum()
    overlap = (krylov.directions.T @ exact.directions).diagonal()[:20]
    np.testing.assert_allclose(overlap, 1, atol=1e-3)


@pytest.mark.parametrize("convert", [np.asarray, sp.csr_matrix])
def test_directions_beyond_the_rank_depend_on_random_state_alone(convert):
    rng = np.random.default_rng(0)
    X, new = convert(rng.normal(size=(50, 64))), rng.normal(size=(5, 64))
    codes = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        # 50 rows vary around their mean in 49 directions.
        pca = DenseAutoencoder(50, hidden_layer_sizes=(), random_state=0).fit(X)
        assert torch.equal(torch.get_rng_state(), before)
        codes.append(pca.transform(new).tobytes())
    assert codes[0] == codes[1]
