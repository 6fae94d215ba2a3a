"""`partial_fit`: rows that come in batches."""

import pickle

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.base import clone
from sklearn.decomposition import PCA

from skae import DenseAutoencoder, load, save


def in_batches(model, X, n_passes=1, size=130):
    order = np.random.default_rng(0)
    for _ in range(n_passes):
        rows = order.permutation(X.shape[0])
        for indices in np.array_split(rows, X.shape[0] // size):
            model.partial_fit(X[indices])
    return model


def linear(latent_dim=6):
    return DenseAutoencoder(latent_dim, hidden_layer_sizes=())


@pytest.mark.parametrize("storage", [np.asarray, sp.csr_matrix, sp.csr_array])
def test_one_pass_of_the_linear_form_is_pca(digits, storage):
    X, X_test, _, _ = digits
    pca = PCA(6, svd_solver="full").fit(X)
    stream = in_batches(linear(), storage(X))
    np.testing.assert_allclose(stream.mean_, pca.mean_, atol=1e-10)
    np.testing.assert_allclose(
        stream.explained_variance_ratio_, pca.explained_variance_ratio_, rtol=1e-6
    )
    np.testing.assert_allclose(stream.explained_variance_, pca.explained_variance_, rtol=1e-6)
    projector = stream.components_.T @ stream.components_
    np.testing.assert_allclose(projector, pca.components_.T @ pca.components_, atol=1e-6)
    np.testing.assert_allclose(
        stream.inverse_transform(stream.transform(X_test)),
        pca.inverse_transform(pca.transform(X_test)),
        atol=1e-4,
    )


def test_components_keep_the_signs_of_pca_from_batch_to_batch(digits):
    X = digits[0]
    stream = linear(4)
    for batch in np.array_split(X, 6):
        components = stream.partial_fit(batch).components_
        assert (components.max(axis=1) > -components.min(axis=1)).all()
    expected = linear(4).fit(X).components_
    assert (np.sum(components * expected, axis=1) > 0.9).all()


@pytest.mark.parametrize(
    "changed", [{"latent_dim": 5}, {"hidden_layer_sizes": (8,)}, {"learning_rate": 0.1}]
)
def test_what_a_stream_depends_on_cannot_change_between_batches(digits, quick, changed):
    X = digits[0]
    stream = quick(4).partial_fit(X[:200])
    codes = stream.transform(X)
    with pytest.raises(ValueError, match=f"{next(iter(changed))}=.* when the batches began"):
        stream.set_params(**changed).partial_fit(X[200:400])
    np.testing.assert_array_equal(stream.transform(X), codes)
    with pytest.raises(ValueError, match="latent_dim=5 was 4"):
        quick(4).fit(X).set_params(latent_dim=5).partial_fit(X)


def test_networks_gain_on_pca_and_come_near_to_fit(digits, quick):
    X, X_test, _, _ = digits
    autoencoder = quick(8, hidden_layer_sizes=(64,), batch_size=32)
    stream = in_batches(clone(autoencoder), X, n_passes=12)
    pca = linear(8).fit(X).score(X_test)
    whole = autoencoder.fit(X).score(X_test)
    assert stream.nonlinear_gain_ > 0
    assert stream.score(X_test) > pca + 0.03
    assert stream.score(X_test) > 0.96 * whole
    same = stream.truncate(8).partial_fit(X[:200])
    np.testing.assert_array_equal(
        same.transform(X_test), stream.partial_fit(X[:200]).transform(X_test)
    )


def test_noise_leaves_pca(quick):
    X = np.random.default_rng(0).normal(size=(1000, 30))
    stream = in_batches(quick(5), X)
    assert stream.nonlinear_gain_ == 0.0
    assert stream.module_.decoder is None


def test_a_pickle_goes_on_the_same(digits, quick):
    X, X_test, _, _ = digits
    stream = in_batches(quick(4), X)
    copy = pickle.loads(pickle.dumps(stream))
    np.testing.assert_array_equal(
        copy.partial_fit(X[:200]).transform(X_test), stream.partial_fit(X[:200]).transform(X_test)
    )


def test_fit_forgets_the_stream(digits, quick):
    X = digits[0]
    autoencoder = in_batches(quick(4), X[:500]).fit(X)
    np.testing.assert_array_equal(autoencoder.transform(X), quick(4).fit(X).transform(X))


def test_a_plain_fit_leaves_no_basis_to_go_on_from(digits, quick):
    X = digits[0]
    autoencoder = quick(4).fit(X).set_params(linear_path=False).fit(X).set_params(linear_path=True)
    expected = quick(4).partial_fit(X[:200]).transform(X)
    np.testing.assert_array_equal(autoencoder.partial_fit(X[:200]).transform(X), expected)


def test_a_failed_batch_leaves_no_trace(digits, quick):
    X = digits[0]
    stream = in_batches(quick(4), X)
    codes = stream.transform(X)
    with pytest.raises(ValueError, match="63 features"):
        stream.partial_fit(X[:, :-1])
    with pytest.raises(ValueError, match="NaN"):
        stream.partial_fit(np.full((10, 64), np.nan))
    np.testing.assert_array_equal(stream.transform(X), codes)


def test_a_truncated_stream_goes_on(digits):
    X = digits[0]
    short = in_batches(linear(6), X[:700]).truncate(3)
    assert short.explained_variance_.shape == (3,)
    short = in_batches(short, X[700:])
    pca = PCA(3, svd_solver="full").fit(X)
    np.testing.assert_allclose(short.mean_, pca.mean_, atol=1e-10)
    np.testing.assert_allclose(
        short.explained_variance_ratio_.sum(), pca.explained_variance_ratio_.sum(), rtol=2e-2
    )
    assert short.transform(X).shape == (len(X), 3)


def test_a_stream_that_kept_pca_truncates_to_pca(quick):
    X = np.random.default_rng(0).normal(size=(1000, 30)) * np.linspace(1, 4, 30)
    stream = in_batches(quick(5), X)
    assert stream.nonlinear_gain_ == 0.0
    assert (np.diff(stream.explained_variance_) < 0).all()
    short = stream.truncate(2)
    # Products of two widths: their last bits depend on the processor.
    np.testing.assert_allclose(short.transform(X), stream.transform(X)[:, :2], atol=1e-12)
    n_components = in_batches(linear(5), X).components_[:2]
    np.testing.assert_allclose(np.abs(short.components_ @ n_components.T), np.eye(2), atol=1e-3)
    assert short.partial_fit(X[:100]).transform(X).shape == (1000, 2)


def test_a_loaded_stream_is_told_apart_from_a_truncated_one(digits, tmp_path):
    X = digits[0]
    stream = in_batches(linear(6), X)
    save(stream, tmp_path / "stream.skae")
    loaded = load(tmp_path / "stream.skae")
    with pytest.raises(ValueError, match=r"was saved by skae\.save"):
        loaded.partial_fit(X)
    with pytest.raises(ValueError, match=r"was saved by skae\.save"):
        loaded.truncate(6).partial_fit(X)
    loaded.fit(X).partial_fit(X)
    # The file of a truncated stream holds all that going on needs.
    save(stream.truncate(3), tmp_path / "short.skae")
    load(tmp_path / "short.skae").partial_fit(X)
