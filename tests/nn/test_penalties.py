"""Sparse, contractive and variational codes, compared with known results."""

import numpy as np
import pytest
import torch
from scipy.special import expit
from sklearn.decomposition import PCA

from skae import ConvAutoencoder, DenseAutoencoder
from skae._nn.autoencoders import PlainAutoencoder
from skae._nn.layers import perceptron, use_generator
from skae._nn.losses import SquaredError
from skae._nn.penalties import ContractivePenalty


@pytest.fixture
def plain():
    """A function that makes a plain `DenseAutoencoder`."""

    def make(latent_dim=6, **parameters):
        parameters = {"hidden_layer_sizes": (32,), "random_state": 0, **parameters}
        return DenseAutoencoder(latent_dim, linear_path=False, **parameters)

    return make


@pytest.mark.slow
def test_sparse_linear_codes_are_independent_components(plain):
    rng = np.random.RandomState(0)
    sources = rng.laplace(size=(1200, 4))
    X = sources @ rng.normal(size=(4, 12)) + 0.5 * rng.normal(size=(1200, 12))

    def found(penalty):
        codes = plain(
            4,
            penalty=penalty,
            alpha=3.0,
            hidden_layer_sizes=(),
            learning_rate=0.01,
            weight_decay=0.0,
            max_epochs=200,
        ).fit_transform(X)
        return np.sort(np.abs(np.corrcoef(codes.T, sources.T)[:4, 4:]).max(axis=0))

    # In a local optimum two codes may follow the same source, and one source is missing.
    assert found("l1")[1] > 0.97
    assert found(None)[1] < 0.9


def test_the_contractive_penalty_is_the_squared_jacobian():
    rng, generator = np.random.RandomState(0), torch.Generator().manual_seed(0)
    weights, x = rng.normal(size=(3, 5)) / 2, rng.normal(size=(40, 5))
    layer = torch.nn.Linear(5, 3, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(weights))
    encoder = torch.nn.Sequential(layer, torch.nn.Sigmoid())
    module = PlainAutoencoder(3, encoder, perceptron([3, 5], "relu"), SquaredError()).train()
    penalty, x = ContractivePenalty(alpha=2.0), torch.from_numpy(x).float()
    z = module.encode(x)
    with use_generator(generator, penalty):
        estimates = [penalty(module, x, z, None).detach().numpy() for _ in range(2000)]
    # Rifai et al. (2011), equation 4: |J|^2 = sum_j (h_j (1 - h_j))^2 |W_j|^2.
    h = expit(x.numpy() @ weights.T)
    norms = np.square(h * (1 - h)) * np.square(weights).sum(axis=1)
    expected = 2.0 * (norms / h.var(axis=0)).mean(axis=1)
    np.testing.assert_allclose(np.mean(estimates, axis=0), expected, rtol=0.15)


@pytest.mark.slow
def test_contractive_codes_change_less_with_noise(plain, digits):
    X_train, X_test, _, _ = digits
    noise = np.random.RandomState(0).normal(size=X_test.shape)

    def moved(penalty):
        autoencoder = plain(penalty=penalty, max_epochs=25).fit(X_train)
        codes = autoencoder.transform(X_test)
        squares = np.square(autoencoder.transform(X_test + noise) - codes)
        return (squares.mean(axis=0) / codes.var(axis=0)).mean()

    assert moved("contractive") < 0.5 * moved(None)


@pytest.fixture(scope="module")
def probabilistic_pca(digits):
    """A linear variational autoencoder of 3 dimensions, and PCA of the same rows."""
    autoencoder = DenseAutoencoder(
        3,
        linear_path=False,
        penalty="variational",
        hidden_layer_sizes=(),
        learning_rate=0.005,
        weight_decay=0.0,
        max_epochs=150,
        random_state=0,
    )
    return autoencoder.fit(digits[0]), PCA(3).fit(digits[0])


@pytest.mark.slow
def test_a_linear_variational_autoencoder_is_probabilistic_pca(probabilistic_pca, digits):
    """Lucas et al. (2019): same directions; posterior means shrink by noise / variance."""
    autoencoder, pca = probabilistic_pca
    X, noise = digits[0], pca.noise_variance_
    variances = pca.explained_variance_
    total = X.var(axis=0, ddof=1).sum()
    unexplained = (noise**2 / variances).sum() + total - variances.sum()
    assert autoencoder.score(X) == pytest.approx(1 - unexplained / total, abs=0.002)
    codes = autoencoder.transform(X)
    assert codes.var(axis=0).sum() == pytest.approx((1 - noise / variances).sum(), rel=0.05)
    X_hat = autoencoder.inverse_transform(codes)
    centred = X_hat - X_hat.mean(axis=0)
    residual = centred - centred @ pca.components_.T @ pca.components_
    assert np.square(residual).sum() < 0.01 * np.square(centred).sum()


@pytest.mark.slow
def test_samples_have_the_mean_and_variance_of_the_model(probabilistic_pca, digits):
    autoencoder, pca = probabilistic_pca
    samples = autoencoder.sample(5000, random_state=0)
    explained = (pca.explained_variance_ - pca.noise_variance_).sum()
    assert samples.var(axis=0).sum() == pytest.approx(explained, rel=0.1)
    assert np.abs(samples.mean(axis=0) - digits[0].mean(axis=0)).max() < 0.5
    assert samples.tobytes() == autoencoder.sample(5000, random_state=0).tobytes()
    assert autoencoder.sample().shape == (1, 64)
    for n_samples in (0, 2.0, True):
        with pytest.raises(ValueError, match=f"n_samples={n_samples} must be a positive integer"):
            autoencoder.sample(n_samples)


@pytest.mark.slow
def test_alpha_is_the_weight_of_the_penalty(plain, digits):
    X_train, X_test, _, _ = digits

    def model(alpha):
        return plain(2, penalty="variational", loss="bce", alpha=alpha, max_epochs=25).fit(
            X_train / 16
        )

    loose, tight = model(0.1), model(10.0)
    assert loose.score(X_test / 16) > tight.score(X_test / 16)
    assert np.square(tight.transform(X_test / 16)).mean() < 1
    assert np.square(loose.transform(X_test / 16)).mean() > 1


@pytest.mark.parametrize("penalty", ["contractive", "variational"])
def test_convolutional_autoencoders_support_penalties(penalty, digits):
    X_train, X_test, _, _ = digits
    autoencoder = ConvAutoencoder(
        4,
        linear_path=False,
        input_shape=(8, 8),
        channels=(4,),
        hidden_layer_sizes=(32,),
        penalty=penalty,
        max_epochs=12,
        random_state=0,
    ).fit(X_train)
    assert 0.2 < autoencoder.score(X_test) < 1
    if penalty == "variational":
        assert autoencoder.sample(3).shape == (3, 64)


def test_incompatible_parameters_raise_an_error(plain, digits):
    with pytest.raises(ValueError, match="penalty='l1' needs linear_path=False"):
        DenseAutoencoder(penalty="l1", linear_path=True).fit(digits[0])
    with pytest.raises(ValueError, match=r"needs a loss that is a likelihood.* loss='cosine'"):
        plain(penalty="variational", loss="cosine").fit(digits[0])
    with pytest.raises(ValueError, match=r"encoder must turn .* into rows of shape \(12,\)"):
        plain(6, penalty="variational", encoder=torch.nn.Linear(64, 6)).fit(digits[0])


@pytest.mark.parametrize(
    ("signal", "channel_axis", "bottleneck", "truncations"),
    [
        (False, None, "dense", (1,)),
        (False, 0, "channels", None),
        (False, -1, "map", (1,)),
        (True, None, "map", None),
        (True, 0, "dense", None),
        (True, -1, "channels", (1,)),
    ],
)
def test_variational_codes_of_every_layout(signal, channel_axis, bottleneck, truncations):
    extents = (18,) if signal else (8, 6)
    shape = {None: extents, 0: (2, *extents), -1: (*extents, 2)}[channel_axis]
    X = np.random.default_rng(0).normal(size=(40, *shape))
    autoencoder = ConvAutoencoder(
        None if bottleneck == "map" else 5,
        channel_axis=channel_axis,
        channels=(4,),
        bottleneck=bottleneck,
        hidden_layer_sizes=(8,) if bottleneck == "dense" else "auto",
        linear_path=False,
        penalty="variational",
        truncations=truncations,
        max_epochs=1,
        random_state=0,
    )
    codes = autoencoder.fit_transform(X)
    length = 5 if bottleneck != "map" else 9 if signal else 12
    assert codes.shape == (40, length)
    assert autoencoder.inverse_transform(codes).shape == X.shape
    assert autoencoder.sample(3).shape == (3, *shape)
