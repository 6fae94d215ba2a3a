"""linear_path="auto": PCA's path where the loss is PCA's; and after fit, what was fitted."""

import copy
import pickle

import numpy as np
import pytest
import torch

import skae
from skae import ConvAutoencoder, DenseAutoencoder

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

BRIEF = {"hidden_layer_sizes": (8,), "max_epochs": 2, "random_state": 0}
PLAIN = [
    {"loss": "poisson"},
    {"penalty": "variational"},
    {"output_activation": "sigmoid"},
]


@pytest.fixture
def rows(digits):
    return digits[0][:200] / 16


def make(kind, latent_dim=3, **parameters):
    return kind(latent_dim, **BRIEF, **({} if kind is DenseAutoencoder else CONV), **parameters)


CONV = {"channels": (4,), "input_shape": (8, 8)}


@pytest.mark.parametrize("kind", [DenseAutoencoder, ConvAutoencoder])
@pytest.mark.parametrize("parameters", PLAIN, ids=str)
def test_what_needs_the_plain_network_gets_it(kind, parameters, rows):
    estimator = make(kind, **parameters).fit(rows)
    assert estimator.linear_path == "auto"
    assert not hasattr(estimator, "components_")
    expected = make(kind, linear_path=False, **parameters).fit(rows)
    np.testing.assert_array_equal(estimator.transform(rows), expected.transform(rows))
    assert not hasattr(estimator, "partial_fit")
    assert hasattr(estimator, "sample") == (parameters.get("penalty") == "variational")


@pytest.mark.parametrize("kind", [DenseAutoencoder, ConvAutoencoder])
def test_squared_errors_have_the_linear_path(kind, rows):
    estimator, expected = (make(kind, **given).fit(rows) for given in ({}, {"linear_path": True}))
    assert estimator.components_.shape == (3, 64)
    np.testing.assert_array_equal(estimator.transform(rows), expected.transform(rows))


@pytest.mark.parametrize("kind", [DenseAutoencoder, ConvAutoencoder])
@pytest.mark.parametrize("parameters", PLAIN, ids=str)
def test_the_linear_path_is_refused_where_it_is_asked_for_by_name(kind, parameters, rows):
    name = next(iter(parameters))
    with pytest.raises(ValueError, match=rf"{name}=.* needs linear_path=False"):
        make(kind, linear_path=True, **parameters).fit(rows)


CHANGES = [
    {"linear_path": False},
    {"linear_path": True, "loss": "poisson"},
    {"penalty": "variational", "whiten": True, "truncations": (1,)},
]


@pytest.mark.parametrize("change", CHANGES, ids=str)
@pytest.mark.parametrize("kind", [DenseAutoencoder, ConvAutoencoder])
@pytest.mark.parametrize("parameters", [{"loss": "mae"}, {"whiten": True}], ids=str)
def test_what_is_set_after_fit_waits_for_the_next_fit(kind, parameters, change, rows, tmp_path):
    estimator = make(kind, **parameters).fit(rows)

    def told(fitted):
        codes = fitted.transform(rows)
        return [codes, fitted.inverse_transform(codes), fitted.score_samples(rows)]

    before, can_sample = told(estimator), hasattr(estimator, "sample")
    estimator.set_params(**change)
    skae.save(estimator, tmp_path / "saved")
    others = [copy.copy(estimator), pickle.loads(pickle.dumps(estimator))]
    others.append(skae.load(tmp_path / "saved"))
    for fitted in [estimator, *others]:
        for value, expected in zip(told(fitted), before, strict=True):
            np.testing.assert_array_equal(value, expected)
        assert hasattr(fitted, "sample") == can_sample


@pytest.mark.parametrize("kind", [DenseAutoencoder, ConvAutoencoder])
def test_truncate_cuts_what_was_fitted(kind, rows):
    pca = make(kind).set_params(hidden_layer_sizes=(), max_epochs=1, tol=1e6).fit(rows)
    cut = pca.truncate(2)
    pca.set_params(linear_path=False)
    np.testing.assert_array_equal(pca.truncate(2).transform(rows), cut.transform(rows))
    assert len(pca.truncate(2).explained_variance_) == 2


@pytest.mark.parametrize(
    "parameters",
    [
        {"noise": 1.0, "latent_dim": 32},
        {"corruption": 0.5, "latent_dim": 32},
        {"corruption": 0.5, "hidden_layer_sizes": ()},
        {"encoder": torch.nn.Linear(64, 63), "latent_dim": 63},  # PCA leaves too little
    ],
)
def test_what_is_for_an_encoder_is_warned_of_where_none_is_trained(digits, quick, parameters):
    (name,) = set(parameters) - {"latent_dim", "hidden_layer_sizes"}
    with pytest.warns(UserWarning, match=f"^{name} has no effect: .* no encoder was trained"):
        quick(**parameters).fit(digits[0][:400])
    quick(noise=1.0, max_epochs=1).fit(digits[0][:400])
