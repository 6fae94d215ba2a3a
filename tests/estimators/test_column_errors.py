"""`reconstruction_errors`: which column is to blame."""

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.base import clone
from sklearn.utils import estimator_checks

import skae
from skae import ConvAutoencoder, DenseAutoencoder
from skae._nn.losses import LOSSES

QUICK = {"max_epochs": 2, "random_state": 0}


@pytest.fixture(scope="module")
def counts():
    rng = np.random.default_rng(0)
    rates = rng.gamma(0.5, size=(200, 3)) @ rng.gamma(0.5, size=(3, 25))
    return rng.poisson(3 * rates).clip(0, 250).astype(np.float64)


@pytest.fixture(scope="module")
def trained(digits):
    autoencoder = DenseAutoencoder(4, hidden_layer_sizes=(32,), max_epochs=8, random_state=0)
    autoencoder.fit(digits[0])
    assert autoencoder.nonlinear_gain_ > 0
    return autoencoder


def assert_consistent(autoencoder, X, rtol=1e-5):
    """Columns add up to the error of the row, and none is negative."""
    errors, totals = autoencoder.reconstruction_errors(X), -autoencoder.score_samples(X)
    assert errors.dtype == np.float64
    assert (errors >= 0).all()
    sums = errors.reshape(len(errors), -1).sum(axis=1)
    np.testing.assert_allclose(sums, totals, rtol=rtol, atol=1e-5 * totals.max())
    return errors


ESTIMATORS = {
    "PCA": DenseAutoencoder(4, hidden_layer_sizes=()),
    "networks": DenseAutoencoder(4, hidden_layer_sizes=(16,), **QUICK),
    "whitened": DenseAutoencoder(4, hidden_layer_sizes=(16,), whiten=True, **QUICK),
    "conv": ConvAutoencoder(4, input_shape=(5, 5), channels=(4,), **QUICK),
}


@pytest.mark.parametrize("autoencoder", ESTIMATORS.values(), ids=ESTIMATORS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_squared_errors_are_those_of_the_reconstruction(counts, autoencoder, dtype):
    X = counts.astype(dtype)
    autoencoder = clone(autoencoder).fit(X)
    errors = assert_consistent(autoencoder, X)
    X_hat = autoencoder.inverse_transform(autoencoder.transform(X))
    np.testing.assert_allclose(errors, np.square(X - X_hat), rtol=1e-3, atol=1e-3)


def xlogy(x, y):
    return x * np.log(np.where(x > 0, y, 1))


def of_counts(x, rates):
    return 2 * (xlogy(x, x / rates) - x + rates)


def directions(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


FORMULAS = {
    "mse": lambda x, y: (x - y) ** 2,
    "mae": lambda x, y: abs(x - y),
    "bce": lambda x, y: 2 * (xlogy(x, x / y) + xlogy(1 - x, (1 - x) / (1 - y))),
    "poisson": of_counts,
    "multinomial": lambda x, y: of_counts(x, x.sum(axis=1, keepdims=True) * y),
    "cosine": lambda x, y: (directions(x) - directions(y)) ** 2 / 2,
}


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("kind", [DenseAutoencoder, ConvAutoencoder])
def test_columns_add_up_to_the_error_of_the_row_with_every_loss(counts, kind, loss):
    X = counts[counts.any(axis=1)]
    X = X / X.max() if loss == "bce" else X
    autoencoder = kind(3, loss=loss, linear_path=False, hidden_layer_sizes=(16,), **QUICK)
    if kind is ConvAutoencoder:
        autoencoder.set_params(input_shape=(5, 5), channels=(4,))
    errors = assert_consistent(autoencoder.fit(X), X, rtol=1e-4)
    if loss != "huber":  # whose unit is that of training
        X_hat = autoencoder.inverse_transform(autoencoder.transform(X))
        expected = FORMULAS[loss](X, X_hat)
        np.testing.assert_allclose(errors, expected, rtol=1e-3, atol=1e-4 * expected.max())


@pytest.mark.parametrize("linear_path", [True, False])
def test_every_kind_of_storage_gives_the_same_errors(counts, linear_path):
    autoencoder = DenseAutoencoder(3, hidden_layer_sizes=(16,), linear_path=linear_path, **QUICK)
    autoencoder.fit(counts)
    errors = autoencoder.reconstruction_errors(counts)
    columns = autoencoder.reconstruction_errors(counts, top=4)
    mean = autoencoder.reconstruction_errors(counts, mean=True)
    np.testing.assert_allclose(mean, errors.mean(axis=0))
    np.testing.assert_array_equal(columns[0], np.take_along_axis(errors, columns[1], axis=1))
    np.testing.assert_array_equal(columns[0], -np.sort(-errors, axis=1)[:, :4])
    for same in (
        sp.csr_matrix(counts),
        sp.csc_array(counts),
        counts.astype(np.float32),
        counts.astype(np.uint8),
    ):
        close = {"rtol": 1e-4, "atol": 1e-4}
        np.testing.assert_allclose(autoencoder.reconstruction_errors(same), errors, **close)
        found = autoencoder.reconstruction_errors(same, mean=True)
        np.testing.assert_allclose(found, mean, **close)
        found, _ = autoencoder.reconstruction_errors(same, top=np.int64(4))
        np.testing.assert_allclose(found, columns[0], **close)


def test_dask_arrays_stay_lazy_or_are_reduced_by_workers(counts):
    array = pytest.importorskip("dask.array")
    lazy = array.from_array(counts, chunks=(50, 25))
    autoencoder = DenseAutoencoder(3, hidden_layer_sizes=()).fit(counts)
    errors = autoencoder.reconstruction_errors(counts)
    result = autoencoder.reconstruction_errors(lazy)
    assert isinstance(result, array.Array)
    assert result.shape == errors.shape
    np.testing.assert_allclose(result.compute(), errors, atol=1e-8)
    mean = autoencoder.reconstruction_errors(lazy, mean=True)
    np.testing.assert_allclose(mean, errors.mean(axis=0), atol=1e-8)
    largest, columns = autoencoder.reconstruction_errors(lazy, top=2)
    np.testing.assert_allclose(largest, np.take_along_axis(errors, columns, 1), atol=1e-8)


def test_errors_of_pictures_have_the_shape_of_pictures(digits):
    images = digits[1].reshape(-1, 8, 8)
    autoencoder = ConvAutoencoder(3, channels=(4,), **QUICK).fit(images)
    errors = autoencoder.reconstruction_errors(images)
    assert errors.shape == images.shape
    np.testing.assert_allclose(errors.sum(axis=(1, 2)), -autoencoder.score_samples(images), 1e-4)
    mean = autoencoder.reconstruction_errors(images, mean=True)
    np.testing.assert_allclose(mean, errors.mean(axis=0))
    largest, columns = autoencoder.reconstruction_errors(images, top=1)
    np.testing.assert_array_equal(columns[:, 0], errors.reshape(-1, 64).argmax(axis=1))
    np.testing.assert_array_equal(largest[:, 0], errors.max(axis=(1, 2)))


def test_shorter_and_saved_codes_have_their_errors(trained, digits, tmp_path):
    skae.save(trained, tmp_path / "model.skae")
    loaded = skae.load(tmp_path / "model.skae")
    np.testing.assert_array_equal(
        loaded.reconstruction_errors(digits[1]), trained.reconstruction_errors(digits[1])
    )
    shorter = DenseAutoencoder(4, hidden_layer_sizes=()).fit(digits[0]).truncate(2)
    assert_consistent(shorter, digits[1])


@pytest.mark.parametrize("top", [0, 65, True, "many"])
def test_a_wrong_number_of_columns_is_refused(trained, digits, top):
    with pytest.raises(ValueError, match=r"top=.* an integer from 1 to n_features=64"):
        trained.reconstruction_errors(digits[1], top=top)


def test_the_largest_of_a_mean_are_refused(trained, digits):
    with pytest.raises(ValueError, match="top=3 needs mean=False"):
        trained.reconstruction_errors(digits[1], top=3, mean=True)


@pytest.mark.parametrize(
    "check", ["check_n_features_in_after_fitting", "check_dataframe_column_names_consistency"]
)
def test_the_input_is_checked_as_that_of_other_methods(check):
    kind = DenseAutoencoder(2, hidden_layer_sizes=())
    getattr(estimator_checks, check)("DenseAutoencoder", kind)
    X = np.random.default_rng(0).normal(size=(20, 5))
    with pytest.raises(ValueError, match="X has 4 features, but DenseAutoencoder is expecting 5"):
        kind.fit(X).reconstruction_errors(X[:, :4])
