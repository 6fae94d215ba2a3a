"""The linear form is PCA: as close to the truth as PCA with the full solver of the same dtype."""

import pickle
from pathlib import Path

import dask.array as da
import numpy as np
import pytest
import scipy.sparse as sp
import torch
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA

import skae
from skae import DenseAutoencoder

ROOT = Path(__file__).parents[2]
EIGHT_DECADES = np.logspace(0, -8, 25)


@pytest.fixture(autouse=True)
def benchmarks_importable(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))


def made(*arguments):
    """Rows with a given spectrum, and their truth."""
    from benchmarks import fidelity

    return fidelity.made(*arguments)


def linear(k, **parameters):
    return DenseAutoencoder(k, hidden_layer_sizes=(), random_state=0, **parameters)


def assert_errors_at_most_twice_those_of_pca(X, truth, k, weighted):
    from benchmarks.fidelity import excesses, measure

    row = {"dtype": str(X.dtype), **measure(X, truth, k, weighted, 0)}
    assert max(excesses(row).values()) <= 1, row


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(200, 60), (60, 200)])
def test_a_spectrum_of_eight_decades_is_found_to_the_digits_of_its_dtype(shape, dtype, weighted):
    X, truth = made(shape, EIGHT_DECADES, np.random.default_rng(0), weighted)
    truth = truth if dtype is np.float64 else None
    assert_errors_at_most_twice_those_of_pca(X.astype(dtype), truth, 25, weighted)


@pytest.mark.parametrize("weighted", [False, True])
def test_real_rows_and_columns_of_other_scales_are_as_close_as_those_of_pca(weighted):
    X = load_digits().data[:400].astype(np.float32)
    assert_errors_at_most_twice_those_of_pca(X, None, 40, weighted)
    X = (X[:, 20:28] + 1) * np.float32(10) ** np.arange(8, dtype=np.float32)
    assert_errors_at_most_twice_those_of_pca(X, None, 8, weighted)


@pytest.mark.parametrize(("scale", "shape"), [(1e-150, (80, 12)), (1e30, (12, 80))])
def test_the_scale_of_rows_does_not_change_directions(shape, scale):
    X = np.random.default_rng(0).normal(size=shape) * 0.8 ** np.arange(shape[1])
    one, scaled = linear(8).fit(X), linear(8).fit(X * scale)
    np.testing.assert_allclose(scaled.components_, one.components_, atol=1e-9)
    np.testing.assert_allclose(
        scaled.explained_variance_ratio_, one.explained_variance_ratio_, rtol=1e-6
    )


def test_rows_whose_squares_vanish_are_refused():
    X = np.random.default_rng(0).normal(size=(30, 5)) * 1e-200
    with pytest.raises(ValueError, match=r"no value beyond .*e-200, but its scale must be 1e-160"):
        linear(2).fit(X)
    with pytest.raises(ValueError, match="divide X by its scale"):
        linear(2).fit(da.from_array(X, chunks=(15, 5)))
    assert linear(2).fit(np.zeros((5, 3))).transform(X[:, :3]).shape == (30, 2)


def test_a_large_offset_of_sparse_rows_costs_no_digits():
    X = np.random.default_rng(0).normal(size=(200, 30)) * np.linspace(2, 1, 30)
    X[:, :4] += 1e7
    exact = PCA(5, svd_solver="full").fit(X)
    found = linear(5).fit(sp.csr_array(X))
    np.testing.assert_allclose(found.explained_variance_, exact.explained_variance_, rtol=1e-8)


@pytest.mark.parametrize("kind", ["float16", "memory-mapped", "tensor", "bfloat16"])
def test_other_kinds_of_rows_keep_the_promise(kind, tmp_path):
    X, _ = made((120, 50), np.logspace(0, -3, 20), np.random.default_rng(0))
    X = (10 * X + 1).astype(np.float32)
    if kind == "float16":
        given, X = X.astype(np.float16), X.astype(np.float16).astype(np.float32)
    elif kind == "memory-mapped":
        np.save(tmp_path / "X.npy", X)
        given = np.load(tmp_path / "X.npy", mmap_mode="r")
    else:
        given = torch.from_numpy(X)
        if kind == "bfloat16":
            given = given.bfloat16()
            X = given.float().numpy()
    exact = PCA(12, svd_solver="full").fit(X.astype(np.float64))
    found = linear(12).fit(given)
    cosines = np.sum(np.asarray(found.components_, np.float64) * exact.components_, axis=1)
    np.testing.assert_allclose(cosines, 1, atol=1e-6)
    np.testing.assert_allclose(found.explained_variance_, exact.explained_variance_, rtol=1e-5)


@pytest.mark.parametrize("shape", [(40, 7), (12, 30)])
@pytest.mark.parametrize("whiten", [False, True])
def test_integer_weights_are_repetitions_in_every_attribute(shape, whiten):
    rng = np.random.default_rng(0)
    X = rng.normal(size=shape) * np.linspace(3, 1, shape[1])
    for weights in (rng.integers(1, 4, len(X)), np.full(len(X), 2)):
        weighted = linear(3, whiten=whiten).fit(X, sample_weight=weights)
        repeated = linear(3, whiten=whiten).fit(np.repeat(X, weights, axis=0))
        for name in (
            "mean_",
            "components_",
            "explained_variance_",
            "explained_variance_ratio_",
            "singular_values_",
            "noise_variance_",
        ):
            found, expected = getattr(weighted, name), getattr(repeated, name)
            np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-12, err_msg=name)
        np.testing.assert_allclose(weighted.transform(X), repeated.transform(X), rtol=1e-7)
        if whiten:
            Z = weighted.transform(np.repeat(X, weights, axis=0))
            np.testing.assert_allclose(Z.var(axis=0, ddof=1), 1, rtol=1e-9)


def with_unused_columns(X, n_columns, convert):
    wide = np.zeros((len(X), n_columns), X.dtype)
    columns = np.sort(np.random.default_rng(1).permutation(n_columns)[: X.shape[1]])
    wide[:, columns] = X
    return convert(wide), columns


@pytest.mark.parametrize("convert", [np.asarray, sp.csr_matrix])
@pytest.mark.parametrize("hidden", [(), (16,)])
def test_columns_without_values_change_nothing_and_cost_nothing(convert, hidden, tmp_path):
    X = load_digits().data[:600, 18:30]
    wide, columns = with_unused_columns(X, 2000, convert)
    parameters = {"hidden_layer_sizes": hidden, "max_epochs": 30, "random_state": 0}
    narrow = DenseAutoencoder(3, **parameters).fit(X)
    model = DenseAutoencoder(3, **parameters).fit(wide)
    assert (model.nonlinear_gain_ > 0) == bool(hidden)
    assert model.components_.shape == (3, 2000)
    np.testing.assert_allclose(model.components_[:, columns], narrow.components_, atol=1e-9)
    # Networks take more directions than there are columns in use: the others are rounding there.
    rounding = 1e-3 if hidden else 0.0
    assert np.abs(np.delete(model.components_, columns, axis=1)).max() <= rounding
    np.testing.assert_allclose(model.mean_[columns], narrow.mean_)
    skae.save(model, tmp_path / "model.skae")
    copies = [model, pickle.loads(pickle.dumps(model)), skae.load(tmp_path / "model.skae")]
    for copy in copies:
        Z = copy.transform(wide)
        np.testing.assert_array_equal(Z, model.transform(wide))
        X_hat = copy.inverse_transform(Z)
        assert X_hat.shape == wide.shape
        assert np.abs(np.delete(X_hat, columns, axis=1)).max() <= rounding
        errors = np.square(X_hat[:, columns] - X).sum(axis=1)
        np.testing.assert_allclose(-copy.score_samples(wide), errors, rtol=1e-6, atol=1e-6)
    if not hidden:
        np.testing.assert_allclose(model.transform(wide), narrow.transform(X), atol=1e-9)
        assert len(pickle.dumps(model)) < 2 * len(pickle.dumps(narrow)) + 1000
        assert (tmp_path / "model.skae").stat().st_size < 20_000
