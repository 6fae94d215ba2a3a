import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.decomposition import PCA

from skae import DenseAutoencoder
from skae._data.rows import rows_of
from skae._pca import solvers as solvers_module
from skae._pca.solvers import principal_basis
from skae._runtime.execution import single_threaded_operations


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


@settings(deadline=None, max_examples=40)
@given(matrices(), st.sampled_from([np.asarray, sp.csr_matrix]))
def test_full_eigenproblems_capture_what_pca_captures(drawn, convert):
    X, k = drawn
    assert_as_good_as_pca(X, k, convert, 1e-6)


@settings(deadline=None, max_examples=25)
@given(matrices(), st.sampled_from([np.asarray, sp.csr_matrix]))
def test_krylov_captures_what_pca_captures(drawn, convert):
    X, k = drawn
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(solvers_module, "uses_full_eigenproblem", lambda *args: False)
        patch.setattr(solvers_module, "_BLOCK_SIZE", 3)
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


SPECTRA = {
    "fast": lambda j: 0.9**j,
    "slow": lambda j: (1.0 + j) ** -0.5,
    "flat": lambda j: np.ones(len(j)),
    "steps": lambda j: 2.0 ** -(j // 50),
    "one giant": lambda j: np.where(j == 0, 1e3, (1.0 + j) ** -0.3),
    "rank 40": lambda j: np.where(j < 40, 1.0, 0.0),
}


def with_empty_columns(X, n_columns=17_000):
    """Sparse rows so wide that their directions are found by Krylov iteration."""
    return sp.csr_matrix((X.ravel(), *indices_of(X)), shape=(len(X), n_columns))


def indices_of(X):
    return np.tile(np.arange(X.shape[1]), len(X)), np.arange(0, X.size + 1, X.shape[1])


@pytest.mark.parametrize("n_directions", [16, 300])
@pytest.mark.parametrize("spectrum", SPECTRA)
def test_krylov_lacks_half_a_thousandth_of_the_variance_at_most(spectrum, n_directions):
    rng = np.random.default_rng(0)
    scales = SPECTRA[spectrum](np.arange(500))
    left, right = (np.linalg.qr(rng.normal(size=(side, 500)))[0] for side in (660, 520))
    A = left * scales @ right.T
    X = (A - A.mean(axis=0)).astype(np.float32)
    generator = torch.Generator().manual_seed(0)
    basis = principal_basis(rows_of(with_empty_columns(X)), n_directions, generator=generator)
    squares = np.linalg.svd(X.astype(np.float64), compute_uv=False) ** 2
    kept = captured(X.astype(np.float64), basis.directions[:520])
    assert kept / squares.sum() >= squares[:n_directions].sum() / squares.sum() - 0.0005
    assert basis.variances.sum() * (len(X) - 1) == pytest.approx(kept, rel=1e-4)
    V = basis.directions.double()
    np.testing.assert_allclose(V.T @ V, np.eye(n_directions), atol=3e-5)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("convert", [np.asarray, sp.csr_matrix, with_empty_columns])
def test_rows_in_a_plane_have_no_variance_beyond_it(dtype, convert):
    rng = np.random.default_rng(0)
    n_rows = 660 if convert is with_empty_columns else 90
    plane = rng.normal(size=(n_rows, 7)) @ rng.normal(size=(7, 150)) + 2
    rows = rows_of(convert(plane.astype(dtype)), dtype=torch.from_numpy(plane.astype(dtype)).dtype)
    basis = principal_basis(rows, 12)
    assert basis.share_beyond(7) == basis.share_beyond(12) == 0.0
    assert basis.share_beyond(6) > 0.001
    plane[:, 0] += 0.1 * rng.normal(size=n_rows)
    rows = rows_of(convert(plane.astype(dtype)), dtype=rows.dtype)
    assert principal_basis(rows, 12).share_beyond(7) > 0


@pytest.mark.parametrize("kind", ["sparse", "dense"])
def test_bits_do_not_depend_on_the_number_of_threads(kind):
    # So large that both are computed in several parts.
    X = np.random.default_rng(0).normal(size=(5500, 800)).astype(np.float32)
    X = with_empty_columns(X) if kind == "sparse" else X[:2000]
    before, found = torch.get_num_threads(), []
    try:
        for n_threads in (1, 2, 3):
            torch.set_num_threads(n_threads)
            with single_threaded_operations():
                rows = rows_of(X)
                basis = principal_basis(rows, 20, generator=torch.Generator().manual_seed(0))
                scores = rows.times(basis.directions)
                found.append((basis.directions, basis.variances, scores, rows.squared_norms()))
    finally:
        torch.set_num_threads(before)
    for other in found[1:]:
        for one, two in zip(found[0], other, strict=True):
            np.testing.assert_array_equal(one, two)
