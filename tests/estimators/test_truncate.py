"""Codes that can be truncated after `fit`."""

import pickle

import numpy as np
import pytest
from sklearn.base import clone

from skae import ConvAutoencoder, DenseAutoencoder


@pytest.fixture(scope="module")
def ordered(digits):
    return DenseAutoencoder(
        8, truncations="auto", hidden_layer_sizes=(256, 128), max_epochs=20, random_state=0
    ).fit(digits[0])


def linear(latent_dim, X):
    return DenseAutoencoder(latent_dim, hidden_layer_sizes=()).fit(X)


@pytest.mark.slow
def test_truncated_codes_are_better_than_pca_of_that_length(ordered, digits):
    X_train, X_test, _, _ = digits
    assert ordered.nonlinear_gain_ > 0
    for length in (1, 2, 4):
        shorter = ordered.truncate(length)
        assert shorter.score(X_test) > linear(length, X_train).score(X_test) + 0.02
        assert shorter.nonlinear_gain_ > 0


@pytest.mark.slow
def test_a_truncated_model_has_the_first_dimensions_and_attributes_of_its_length(ordered, digits):
    X_test = digits[1]
    codes = ordered.transform(X_test)
    shorter = pickle.loads(pickle.dumps(ordered.truncate(4)))
    np.testing.assert_allclose(shorter.transform(X_test), codes[:, :4], rtol=1e-5, atol=1e-5)
    assert shorter.latent_dim_ == shorter.get_params()["latent_dim"] == 4
    assert shorter.components_.shape == (4, 64)
    assert shorter.explained_variance_ratio_.shape == (4,)
    assert list(shorter.get_feature_names_out()) == [f"denseautoencoder{i}" for i in range(4)]
    errors = np.square(X_test - shorter.inverse_transform(codes[:, :4])).sum(axis=1)
    np.testing.assert_allclose(-shorter.score_samples(X_test), errors, rtol=1e-4)
    assert ordered.transform(X_test).tobytes() == codes.tobytes()  # unchanged
    assert shorter.truncate(2).transform(X_test).shape == (len(X_test), 2)
    assert clone(shorter).fit(digits[0]).latent_dim_ == 4


@pytest.mark.slow
def test_lengths_without_training_raise_an_error(ordered, digits):
    with pytest.raises(
        ValueError, match=r"latent_dim=3 .* of 8 dimensions .* to: 1, 2, 4\. Add it to truncations"
    ):
        ordered.truncate(3)
    for latent_dim in (2.0, True):
        with pytest.raises(ValueError, match=f"latent_dim={latent_dim} must be one of the lengths"):
            ordered.truncate(latent_dim)
    with pytest.raises(ValueError, match=r"truncations=\(8, 2\) must be shorter .* 8 dimensions"):
        DenseAutoencoder(8, truncations=(8, 2)).fit(digits[0])
    with pytest.raises(ValueError, match=r"truncations=\(0,\) must be a tuple of positive"):
        DenseAutoencoder(8, truncations=(0,)).fit(digits[0])
    assert not hasattr(ordered, "partial_fit")


def test_pca_can_be_truncated_to_any_length(digits):
    X_train, X_test, _, _ = digits
    shorter = linear(8, X_train).truncate(3)
    pca = linear(3, X_train)
    np.testing.assert_allclose(shorter.score(X_test), pca.score(X_test), rtol=1e-9)
    codes = shorter.transform(X_test)
    np.testing.assert_allclose(np.abs(codes), np.abs(pca.transform(X_test)), rtol=1e-6, atol=1e-9)
    assert shorter.partial_fit(X_test).transform(X_test).shape == (len(X_test), 3)


@pytest.mark.parametrize("linear_path", [True, False])
def test_convolutional_codes_can_be_truncated(digits, linear_path):
    X_train, X_test, _, _ = digits
    autoencoder = ConvAutoencoder(
        6,
        input_shape=(8, 8),
        channels=(8,),
        hidden_layer_sizes=(32,),
        linear_path=linear_path,
        truncations=(2,),
        whiten=True,
        max_epochs=12,
        random_state=0,
    ).fit(X_train)
    shorter = autoencoder.truncate(2)
    codes = shorter.transform(X_test)
    np.testing.assert_allclose(codes, autoencoder.transform(X_test)[:, :2], rtol=1e-4, atol=1e-4)
    errors = np.square(X_test - shorter.inverse_transform(codes)).sum(axis=1)
    np.testing.assert_allclose(-shorter.score_samples(X_test), errors, rtol=1e-3)
    assert shorter.score(X_test) > linear(2, X_train).score(X_test)


def test_codes_of_sparse_counts_can_be_truncated(wide):
    X_train, X_test = wide[:300], wide[300:400]
    autoencoder = DenseAutoencoder(
        4, truncations=(2,), hidden_layer_sizes=(16,), max_epochs=4, random_state=0
    ).fit(X_train)
    shorter = autoencoder.truncate(2)
    codes = autoencoder.transform(X_test)
    np.testing.assert_allclose(shorter.transform(X_test), codes[:, :2], rtol=1e-4, atol=1e-5)
    X_hat = shorter.inverse_transform(codes[:, :2])
    errors = np.square(X_test.toarray() - X_hat).sum(axis=1)
    np.testing.assert_allclose(-shorter.score_samples(X_test), errors, rtol=1e-3)
