"""What was fitted does not depend on parameters that are set afterwards."""

import pickle
import pickletools

import numpy as np
import pytest
from sklearn.base import clone

from skae import ConvAutoencoder, DenseAutoencoder

BRIEF = {"max_epochs": 2, "batch_size": 64, "random_state": 0}
MODELS = {
    "linear": DenseAutoencoder(4, hidden_layer_sizes=()),
    "networks": DenseAutoencoder(4, hidden_layer_sizes=(32,), learning_rate=0.01, **BRIEF),
    "whitened": DenseAutoencoder(4, hidden_layer_sizes=(), whiten=True),
    "plain": DenseAutoencoder(4, hidden_layer_sizes=(16,), linear_path=False, **BRIEF),
    "convolutions": ConvAutoencoder(4, input_shape=(8, 8), channels=(8,), **BRIEF),
    "plain convolutions": ConvAutoencoder(
        4, input_shape=(8, 8), channels=(8,), linear_path=False, **BRIEF
    ),
}
CHANGES = [
    {"linear_path": False},
    {"linear_path": True},
    {"latent_dim": 2},
    {"whiten": True},
    {"whiten": False},
    {"activation": "relu", "hidden_layer_sizes": (5,)},
    {"loss": "poisson", "linear_path": False},
    {"penalty": "variational", "linear_path": False},
    {"encoder": print, "decoder": print},
    {"truncations": (1,)},
    {"random_state": 7, "max_epochs": 1},
]


@pytest.fixture(scope="module")
def fitted(digits):
    return {name: clone(model).fit(digits[0][:600]) for name, model in MODELS.items()}


@pytest.mark.parametrize("name", MODELS)
def test_parameters_set_after_fit_change_nothing(name, fitted, digits):
    X, model = digits[1][:20], fitted[name]
    codes = model.transform(X)
    before = model.inverse_transform(codes), model.score_samples(X), model.score(X)
    for change in CHANGES:
        other = pickle.loads(pickle.dumps(model)).set_params(**change)
        np.testing.assert_array_equal(other.transform(X), codes)
        after = other.inverse_transform(codes), other.score_samples(X), other.score(X)
        for one, same in zip(before, after, strict=True):
            np.testing.assert_array_equal(one, same)
        assert other.get_feature_names_out().shape == (4,)


@pytest.mark.parametrize("name", MODELS)
def test_what_is_learnt_cannot_be_set(name, fitted):
    with pytest.raises(AttributeError, match="mean_ is learnt by fit"):
        fitted[name].mean_ = np.zeros(64)


@pytest.mark.parametrize("name", MODELS)
def test_a_pickle_names_nothing_private(name, fitted):
    text = pickle.dumps(fitted[name], protocol=2)
    names = [argument for code, argument, _ in pickletools.genops(text) if code.name == "GLOBAL"]
    ours = [name for name in names if name.startswith("skae")]
    assert ours == [f"skae {type(fitted[name]).__name__}"]
