import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.decomposition import PCA

from skae import ConvAutoencoder, DenseAutoencoder
from skae._data.splits import held_out_runs


def test_a_share_gives_the_shortest_code_that_reaches_it(digits, quick):
    X_train, X_test, _, _ = digits
    autoencoder = quick(0.8, hidden_layer_sizes=()).fit(X_train)
    k = autoencoder.latent_dim_
    shares = {j: quick(j, hidden_layer_sizes=()).fit(X_train).score(X_test) for j in (k - 2, k + 2)}
    assert shares[k - 2] < 0.8 < shares[k + 2]


@pytest.mark.parametrize("share", [0.5, 0.9])
def test_the_length_is_that_of_pca_on_validation_rows(share):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(3000, 40)) * 0.85 ** np.arange(40)
    _, validation = held_out_runs(3000, 0.2, np.random.RandomState(0))
    pca = PCA().fit(np.delete(X, validation, axis=0))
    squares = np.square(pca.transform(X[validation])).sum(axis=0)
    explained = np.cumsum(squares) / np.square(X[validation] - pca.mean_).sum()
    expected = 1 + np.searchsorted(explained, share)
    autoencoder = DenseAutoencoder(share, hidden_layer_sizes=(), random_state=0)
    assert abs(autoencoder.fit(X).latent_dim_ - expected) <= 1
    assert autoencoder.fit(sp.csr_matrix(X)).latent_dim_ == autoencoder.fit(X).latent_dim_


def test_wide_sparse_rows_have_a_shortest_code_too(wide):
    X = wide[:150]
    shorter, longer = (
        DenseAutoencoder(share, hidden_layer_sizes=(), random_state=0).fit(X)
        for share in (0.05, 0.2)
    )
    assert 1 <= shorter.latent_dim_ <= longer.latent_dim_ < X.shape[0]
    assert longer.transform(X).shape == (X.shape[0], longer.latent_dim_)


def test_a_share_out_of_reach_warns(wide):
    X = wide[:120]
    with pytest.warns(UserWarning, match=r"latent_dim=0.999 is out of reach: all 120 .* explain"):
        autoencoder = DenseAutoencoder(0.999, hidden_layer_sizes=(), random_state=0).fit(X)
    assert autoencoder.latent_dim_ == 120


def test_convolutions_take_a_share_as_well(digits):
    images = digits[0][:400].reshape(-1, 8, 8)
    brief = {"channels": (4,), "hidden_layer_sizes": (8,), "max_epochs": 1, "random_state": 0}
    linear = DenseAutoencoder(0.7, hidden_layer_sizes=(), random_state=0).fit(digits[0][:400])
    autoencoder = ConvAutoencoder(0.7, **brief).fit(images)
    assert autoencoder.transform(images).shape == (400, linear.latent_dim_)


def test_partial_fit_refuses_a_share(digits, quick):
    with pytest.raises(ValueError, match=r"latent_dim=0.9 must be an integer for partial_fit"):
        quick(0.9).partial_fit(digits[0])
