import numpy as np
import pytest
import scipy.sparse as sp
import torch
from sklearn.metrics import log_loss, mean_poisson_deviance
from sklearn.metrics.pairwise import cosine_distances
from sklearn.preprocessing import MinMaxScaler

from skae import AnomalyDetector, ConvAutoencoder, DenseAutoencoder
from skae._nn.losses import LOSSES


@pytest.fixture
def rows():
    """Counts, and outputs of a network for them."""
    rng = np.random.default_rng(0)
    return rng.poisson(2.0, size=(6, 40)).astype(float), rng.normal(size=(6, 40))


def mean_loss(name, output, x):
    return LOSSES[name]()(torch.from_numpy(output), torch.from_numpy(x)).item()


def test_squared_error_is_the_mean_squared_distance_of_rows(rows):
    x, output = rows
    expected = np.mean(np.linalg.norm(x - output, axis=1) ** 2)
    assert mean_loss("mse", output, x) == pytest.approx(expected)


def test_absolute_error_is_the_mean_city_block_distance_of_rows(rows):
    x, output = rows
    assert mean_loss("mae", output, x) == pytest.approx(np.abs(x - output).sum(axis=1).mean())


def test_huber_is_quadratic_in_small_errors_and_linear_in_large_ones(rows):
    x, _ = rows
    assert mean_loss("huber", x + 0.5, x) == pytest.approx(40 * 0.25)
    assert mean_loss("huber", x + 10, x) == pytest.approx(40 * 19)
    assert mean_loss("huber", x - 11, x) == pytest.approx(40 * 21)


def test_poisson_deviance_equals_scikit_learns(rows):
    x, output = rows
    expected = 40 * mean_poisson_deviance(x.ravel(), np.exp(output).ravel())
    assert mean_loss("poisson", output, x) == pytest.approx(expected)


def test_binary_cross_entropy_is_twice_the_log_loss(rows):
    x, output = rows
    x = (x > 2).astype(float)
    probability = 1 / (1 + np.exp(-output))
    expected = 2 * 40 * log_loss(x.ravel(), probability.ravel())
    assert mean_loss("bce", output, x) == pytest.approx(expected)


def test_multinomial_deviance_equals_poissons_if_totals_agree(rows):
    x, output = rows
    shares = np.exp(output) / np.exp(output).sum(axis=1, keepdims=True)
    rates = np.log(shares * x.sum(axis=1, keepdims=True))
    assert mean_loss("multinomial", output, x) == pytest.approx(mean_loss("poisson", rates, x))


def test_cosine_distance_equals_scikit_learns(rows):
    x, output = rows
    expected = np.diag(cosine_distances(x, output)).mean()
    assert mean_loss("cosine", output, x) == pytest.approx(expected)
    assert mean_loss("cosine", output, 0 * x) == 0


@pytest.mark.parametrize("name", LOSSES)
def test_the_loss_of_a_perfect_reconstruction_is_zero(rows, name):
    x = rows[0] / 10 + 0.01
    if name == "bce":
        x = x / x.max()
    output = {"bce": lambda: np.log(x / (1 - x + 1e-300)), "poisson": lambda: np.log(x)}
    output = output.get(name, lambda: np.log(x) if name == "multinomial" else x)()
    assert mean_loss(name, output, x) == pytest.approx(0, abs=1e-9)


@pytest.fixture
def plain():
    def make(loss, **parameters):
        parameters = {"hidden_layer_sizes": (32,), "max_epochs": 20, "random_state": 0} | parameters
        return DenseAutoencoder(8, linear_path=False, loss=loss, **parameters)

    return make


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(LOSSES) - {"mse"}))
def test_a_network_learns_by_its_loss_on_every_form_of_x(digits, plain, name):
    X_train, X_test = (X[:600] / 16 if name == "bce" else X[:600] for X in digits[:2])
    autoencoder = plain(name).fit(X_train)
    assert autoencoder.score(X_test) > 0.3
    last = autoencoder.history_[-1]
    assert last["variance_explained"] == pytest.approx(autoencoder.score(X_test), abs=0.2)
    errors = -autoencoder.score_samples(X_test)
    assert last["valid_loss"] == pytest.approx(errors.mean(), rel=0.3)
    sparse = plain(name).fit(sp.csr_array(X_train))
    np.testing.assert_allclose(
        sparse.transform(X_test), autoencoder.transform(X_test), rtol=1e-3, atol=1e-3
    )


@pytest.mark.slow
def test_reconstructions_are_in_the_range_of_the_data(digits, plain):
    X_train, X_test, _, _ = digits
    shares = plain("multinomial").fit(X_train)
    X_hat = shares.inverse_transform(shares.transform(X_test))
    np.testing.assert_allclose(X_hat.sum(axis=1), 1, rtol=1e-4)
    counts = plain("poisson").fit(X_train)
    X_hat = counts.inverse_transform(counts.transform(X_test))
    assert (X_hat > 0).all()
    assert X_hat.sum() == pytest.approx(X_test.sum(), rel=0.05)


def test_losses_of_errors_and_of_directions_do_not_depend_on_the_unit(digits, plain):
    X_train, X_test, _, _ = digits
    for name, degree in (("mae", 1), ("huber", 2), ("cosine", 0)):
        one = plain(name, max_epochs=3).fit(X_train)
        other = plain(name, max_epochs=3).fit(1000 * X_train)
        np.testing.assert_allclose(
            other.score_samples(1000 * X_test),
            1000.0**degree * one.score_samples(X_test),
            rtol=1e-2,
        )


@pytest.mark.slow
def test_pictures_train_by_cross_entropy(digits):
    images = (digits[0] / 16).reshape(-1, 8, 8)
    autoencoder = ConvAutoencoder(
        8,
        linear_path=False,
        loss="bce",
        channels=(8,),
        hidden_layer_sizes=(32,),
        max_epochs=12,
        random_state=0,
    ).fit(images)
    X_hat = autoencoder.inverse_transform(autoencoder.transform(images))
    assert X_hat.min() >= 0
    assert X_hat.max() <= 1
    assert autoencoder.score(images) > 0.2


@pytest.mark.parametrize(
    ("parameters", "sentence"),
    [
        ({"loss": "poisson", "linear_path": False}, "needs non-negative X, got a minimum of -3"),
        ({"loss": "multinomial", "linear_path": False}, "needs non-negative X, got a minimum of"),
        ({"loss": "bce", "linear_path": False}, r"needs X in \[0, 1\], got a minimum of -3 and"),
        ({"loss": "mae", "linear_path": True}, "loss='mae' needs linear_path=False"),
        (
            {"loss": "bce", "linear_path": False, "output_activation": "sigmoid"},
            "output_activation='sigmoid' needs another loss than 'bce'",
        ),
    ],
)
def test_x_outside_the_domain_of_a_loss_raises_an_error(digits, parameters, sentence):
    X = digits[0].copy()
    X[5, 5] = -3
    for convert in (np.array, sp.csr_matrix):
        with pytest.raises(ValueError, match=sentence):
            DenseAutoencoder(4, **parameters).fit(convert(X))


@pytest.mark.parametrize("loss", ["bce", "poisson", "multinomial"])
def test_errors_of_rows_outside_the_domain_of_a_loss_are_not_numbers_but_refused(digits, loss):
    X = digits[0][:100] / 16
    model = DenseAutoencoder(2, loss=loss, hidden_layer_sizes=(4,), max_epochs=1, random_state=0)
    detector = AnomalyDetector(model).fit(X)
    model.fit(X)
    for method in (
        model.score,
        model.score_samples,
        model.reconstruction_errors,
        detector.predict,
    ):
        with pytest.raises(ValueError, match=f"loss='{loss}' needs"):
            method(X - 1)
    if loss == "bce":  # such as rows of a test set after MinMaxScaler
        assert np.isfinite(model.transform(X - 1)).all()
    else:
        with pytest.raises(ValueError, match=f"loss='{loss}' needs"):
            model.transform(X - 1)


def test_values_beyond_one_by_rounding_count_as_one(digits, plain):
    X = MinMaxScaler().fit_transform(digits[0]) * (1 + 2e-16)
    assert X.max() > 1
    assert np.isfinite(plain("bce", max_epochs=1).fit(X).score_samples(X)).all()
    with pytest.raises(ValueError, match=r"got a minimum of 0 and a maximum of 1\.001\."):
        plain("bce").fit(1.001 * X)


@pytest.mark.parametrize(("name", "unit"), [("cosine", 1e14), ("poisson", 1e30), ("mae", 1e30)])
def test_large_units_do_not_hide_what_a_network_misses(digits, plain, name, unit):
    X = digits[0] * unit
    model = plain(name, max_epochs=1).fit(X)
    assert model.score_samples(X).mean() < 0
    assert model.score(X) < 1
