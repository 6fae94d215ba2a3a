"""Attributes with the names of PCA have PCA's definitions."""

import dask.array as da
import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.datasets import load_iris
from sklearn.decomposition import PCA

import skae
from skae import ConvAutoencoder, DenseAutoencoder

NAMES = ("singular_values_", "noise_variance_", "n_samples_", "n_components_")


def assert_those_of(pca, autoencoder, rtol=1e-6):
    for name in NAMES:
        expected, found = np.asarray(getattr(pca, name)), getattr(autoencoder, name)
        rounding = 1e-7 * pca.singular_values_.max()  # the root of float64's
        np.testing.assert_allclose(found, expected, rtol=rtol, atol=rounding, err_msg=name)


@pytest.mark.parametrize("latent_dim", [1, 61])
def test_those_of_digits_are_pcas(digits, latent_dim):
    linear = DenseAutoencoder(latent_dim, hidden_layer_sizes=()).fit(digits[0])
    assert_those_of(PCA(latent_dim, svd_solver="full").fit(digits[0]), linear)


@pytest.mark.parametrize(
    "X",
    [
        load_iris().data,
        np.random.default_rng(0).normal(size=(12, 40)),
        np.random.default_rng(0).normal(size=(30, 4)) @ np.ones((4, 9)),
    ],
    ids=["iris", "more columns than rows", "rank one"],
)
@pytest.mark.parametrize("latent_dim", [2, 4])
def test_those_of_small_data_are_pcas(X, latent_dim):
    linear = DenseAutoencoder(latent_dim, hidden_layer_sizes=()).fit(X)
    assert_those_of(PCA(latent_dim, svd_solver="full").fit(X), linear, rtol=1e-5)


def test_those_of_sparse_rows_and_blocks_are_those_of_dense_rows(digits):
    X = digits[0]
    pca = PCA(5, svd_solver="full").fit(X)
    for same in (sp.csr_matrix(X), da.from_array(X, chunks=(500, 64))):
        assert_those_of(pca, DenseAutoencoder(5, hidden_layer_sizes=()).fit(same), rtol=1e-5)


def test_those_with_networks_are_those_of_the_linear_part(digits, tmp_path):
    pca = PCA(4, svd_solver="full").fit(digits[0])
    dense = DenseAutoencoder(4, hidden_layer_sizes=(32,), max_epochs=8, random_state=0)
    conv = ConvAutoencoder(4, input_shape=(8, 8), channels=(4,), max_epochs=1, random_state=0)
    assert dense.fit(digits[0]).nonlinear_gain_ > 0
    for autoencoder in (dense, conv.fit(digits[0])):
        assert_those_of(pca, autoencoder, rtol=1e-5)
        skae.save(autoencoder, tmp_path / "model.skae")
        assert_those_of(pca, skae.load(tmp_path / "model.skae"), rtol=1e-5)


def test_those_of_a_shorter_code_are_those_of_its_length(digits):
    shorter = DenseAutoencoder(8, hidden_layer_sizes=()).fit(digits[0]).truncate(3)
    assert_those_of(PCA(3, svd_solver="full").fit(digits[0]), shorter)


@pytest.mark.parametrize("hidden", [(), (32,)])
def test_those_of_batches_are_those_of_all_rows_so_far(digits, hidden, tmp_path):
    X, k = digits[0], 6
    autoencoder = DenseAutoencoder(k, hidden_layer_sizes=hidden, random_state=0)
    if hidden:
        autoencoder.set_params(max_epochs=30).fit(X[:780])
    for start in range(780 if hidden else 0, 1300, 260):
        autoencoder.partial_fit(X[start : start + 260])
    assert autoencoder.n_samples_ == len(X)
    assert (autoencoder.nonlinear_gain_ > 0) == bool(hidden)
    exact = PCA(k, svd_solver="full").fit(X)
    values = np.sort(autoencoder.singular_values_)[::-1]
    # With networks the directions are rotated within their span.
    np.testing.assert_allclose(values, exact.singular_values_, rtol=0.05 if hidden else 0.02)
    assert autoencoder.noise_variance_ == pytest.approx(exact.noise_variance_, rel=0.02)
    skae.save(autoencoder, tmp_path / "model.skae")
    assert skae.load(tmp_path / "model.skae").n_samples_ == len(X)
