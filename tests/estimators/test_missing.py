"""`missing_values=np.nan`: NaN in dense X is a missing entry."""

import pickle

import dask.array as da
import numpy as np
import pytest
import scipy.sparse as sp
import torch
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline

import skae
from skae import ConvAutoencoder, DenseAutoencoder
from skae._nn.losses import SquaredError
from skae._training.observed import ObservedEntries


def with_hidden(X, share=0.3, seed=0):
    return np.where(np.random.RandomState(seed).random_sample(X.shape) < share, np.nan, X)


def error_of_hidden(X_hat, X, incomplete, mean):
    """Share of the variance of the hidden entries that is not explained."""
    hidden = np.isnan(incomplete)
    return np.square(X_hat - X)[hidden].sum() / np.square(X - mean)[hidden].sum()


def imputed(autoencoder, X):
    return autoencoder.inverse_transform(autoencoder.transform(X))


@pytest.fixture(scope="module")
def hidden(digits):
    return with_hidden(digits[0]), with_hidden(digits[1], seed=1)


@pytest.fixture(scope="module")
def fitted(hidden):
    """An autoencoder of digits with hidden entries, with networks."""
    return DenseAutoencoder(
        16, hidden_layer_sizes=(128,), missing_values=np.nan, max_epochs=40, random_state=0
    ).fit(hidden[0])


@pytest.mark.slow
def test_hidden_entries_of_new_rows_are_imputed_better_than_by_the_mean_with_pca(
    fitted, digits, hidden
):
    A, B = hidden
    error = error_of_hidden(imputed(fitted, B), digits[1], B, fitted.mean_)
    assert fitted.nonlinear_gain_ > 0.1
    pca = make_pipeline(SimpleImputer(), PCA(16)).fit(A)
    X_hat = pca[-1].inverse_transform(pca.transform(B))
    assert error < 0.8 * error_of_hidden(X_hat, digits[1], B, fitted.mean_)


@pytest.mark.slow
def test_complete_rows_have_the_codes_of_the_same_networks(fitted, digits):
    Z = fitted.transform(digits[1])
    assert not np.isnan(Z).any()
    hidden = digits[1].copy()
    hidden[0, 20] = np.nan
    others = fitted.transform(hidden)
    np.testing.assert_allclose(others[1:], Z[1:], rtol=1e-5, atol=1e-4)
    assert 0 < np.abs(others[0] - Z[0]).max() < np.abs(Z[0]).max()


def test_score_is_of_the_observed_entries(fitted, hidden):
    X, X_hat = hidden[1], imputed(fitted, hidden[1])
    errors = np.nansum((X - X_hat) ** 2, axis=1)
    np.testing.assert_allclose(fitted.score_samples(X), -errors, rtol=1e-4)
    total = np.nansum((X - fitted.mean_) ** 2)
    assert fitted.score(X) == pytest.approx(1 - errors.sum() / total, rel=1e-4)


@pytest.mark.parametrize(
    "parameters",
    [
        {"hidden_layer_sizes": ()},
        {"hidden_layer_sizes": (32,), "max_epochs": 4, "validation_fraction": 0.3},
        {"hidden_layer_sizes": (32,), "max_epochs": 4, "loss": "huber"},
        {"hidden_layer_sizes": (32,), "max_epochs": 4, "penalty": "variational"},
        {"latent_dim": 0.5, "hidden_layer_sizes": (32,), "max_epochs": 4, "whiten": True},
    ],
)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_every_form_gives_finite_codes_the_same_each_time(parameters, hidden, tmp_path):
    dtype = np.float64 if parameters.get("linear_path", True) else np.float32
    X = hidden[0][:200].astype(dtype)
    make = DenseAutoencoder(
        **{"latent_dim": 4, "missing_values": np.nan, "random_state": 0, **parameters}
    )
    first, second = clone(make).fit(X), clone(make).fit(X)
    rows = hidden[1][:100].astype(dtype)
    Z = first.transform(rows)
    assert Z.dtype == dtype
    assert np.isfinite(Z).all()
    np.testing.assert_array_equal(second.transform(rows), Z)
    assert 0 < first.score(X) < 1
    skae.save(first, tmp_path / "missing.skae")
    for copy in (skae.load(tmp_path / "missing.skae"), pickle.loads(pickle.dumps(first))):
        assert np.isnan(copy.missing_values)
        np.testing.assert_array_equal(copy.transform(rows), Z)


@pytest.mark.parametrize("linear_path", [True, False])
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_pictures_with_hidden_pixels(linear_path, digits, hidden):
    images = hidden[0][:600].reshape(-1, 8, 8)
    autoencoder = ConvAutoencoder(
        8,
        channels=(8,),
        hidden_layer_sizes=(32,),
        max_epochs=8,
        linear_path=linear_path,
        missing_values=np.nan,
        random_state=0,
    ).fit(images)
    X_hat = imputed(autoencoder, hidden[1].reshape(-1, 8, 8))
    assert X_hat.shape == (len(hidden[1]), 8, 8)
    X_hat, mean = X_hat.reshape(-1, 64), autoencoder.mean_
    assert error_of_hidden(X_hat, digits[1], hidden[1], mean) < 0.7


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_labels_groups_and_weights_take_part(digits, hidden):
    weights = np.where(np.arange(600) < 300, 1.0, 0.0)
    parameters = {"hidden_layer_sizes": (32,), "max_epochs": 4, "random_state": 0}
    make = DenseAutoencoder(4, missing_values=np.nan, supervision=1.0, **parameters)
    groups = np.arange(600) // 10
    whole = clone(make).fit(hidden[0][:600], digits[2][:600], sample_weight=weights, groups=groups)
    part = clone(make).fit(hidden[0][:300], digits[2][:300], groups=groups[:300])
    np.testing.assert_array_equal(whole.transform(hidden[1][:50]), part.transform(hidden[1][:50]))
    assert "train_label_loss" in whole.history_[0]


def test_what_was_fitted_counts_and_not_what_is_set_afterwards(hidden):
    pca = DenseAutoencoder(2, hidden_layer_sizes=(), missing_values=np.nan).fit(hidden[0][:300])
    Z = pca.transform(hidden[1])
    np.testing.assert_array_equal(pca.set_params(missing_values=None).transform(hidden[1]), Z)
    complete = DenseAutoencoder(2, hidden_layer_sizes=()).fit(np.eye(64))
    with pytest.raises(ValueError, match=r"contains NaN. Set missing_values=np.nan before fit"):
        complete.set_params(missing_values=np.nan).transform(hidden[1])


def test_what_is_refused_gets_a_sentence(hidden):
    make = DenseAutoencoder(2, hidden_layer_sizes=(8,), missing_values=np.nan)
    with pytest.raises(ValueError, match=r"contains NaN. Set missing_values=np.nan before fit"):
        DenseAutoencoder(2).fit(hidden[0])
    for rows in (sp.csr_array(hidden[0]), da.from_array(hidden[0])):
        with pytest.raises(ValueError, match="entries of a dense array in main memory, and"):
            clone(make).fit(rows)
    with pytest.raises(ValueError, match="infinity"):
        clone(make).fit(np.where(np.isnan(hidden[0]), np.inf, hidden[0]))
    with pytest.raises(ValueError, match="X has a value of 1e"):
        clone(make).fit(np.where(hidden[0] == 16, 1e33, hidden[0]))
    with pytest.raises(ValueError, match=r"1 column.s. are NaN .by index: 5."):
        clone(make).fit(np.where(np.arange(64) == 5, np.nan, hidden[0]))
    for name, value in (("loss", "poisson"), ("truncations", "auto")):
        with pytest.raises(ValueError, match=rf"missing_values=np.nan needs .*{name}"):
            clone(make).set_params(**{name: value}).fit(hidden[0])
    with pytest.raises(ValueError, match=r"'missing_values' parameter .* must be"):
        DenseAutoencoder(2, missing_values=-1).fit(hidden[0])
    with pytest.raises(AttributeError, match="partial_fit") as raised:
        make.partial_fit(hidden[0])
    assert "partial_fit needs missing_values=None" in str(raised.value.__cause__)


def test_missing_entries_add_nothing_to_a_loss_or_its_gradient():
    output = torch.tensor([[1.0, 2.0, 3.0]], requires_grad=True)
    loss = ObservedEntries(SquaredError())(output, torch.tensor([[0.0, torch.nan, 5.0]]))
    loss.backward()
    assert loss.item() == 5.0
    assert output.grad.tolist() == [[2.0, 0.0, -4.0]]


def test_rows_without_an_observed_entry_are_refused(hidden):
    pca = DenseAutoencoder(2, hidden_layer_sizes=(), missing_values=np.nan)
    rows = np.vstack([hidden[0][:100], np.full((2, 64), np.nan)])
    sentence = r"NaN in all columns of 2 row\(s\), the first at index 100"
    with pytest.raises(ValueError, match=sentence):
        pca.fit(rows)
    with pytest.raises(ValueError, match=sentence):
        pca.fit(rows[:100]).score(rows)
