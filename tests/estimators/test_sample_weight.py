"""`sample_weight`: rows that count more or less than once."""

import numpy as np
import pytest
import scipy.sparse as sp

from skae import ConvAutoencoder, DenseAutoencoder


@pytest.fixture
def weighted_digits(digits):
    """Rows, integer weights for them, and the rows repeated as often."""
    X = digits[0][:400]
    weights = np.random.default_rng(0).integers(0, 4, size=len(X))
    return X, weights, np.repeat(X, weights, axis=0)


def linear(storage, **parameters):
    kind = {"pictures": ConvAutoencoder}.get(storage, DenseAutoencoder)
    if kind is DenseAutoencoder:
        parameters["hidden_layer_sizes"] = ()
    else:
        # So few are validation rows that no network takes part.
        parameters |= {"validation_fraction": 0.01, "input_shape": (8, 8)}
    return kind(6, random_state=0, **parameters)


STORAGES = {
    "array": np.asarray,
    "sparse": sp.csr_matrix,
    "pictures": np.asarray,
}


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("whiten", [False, True])
def test_integer_weights_are_repetition(weighted_digits, digits, storage, whiten):
    X, weights, repeated = weighted_digits
    X_test = STORAGES[storage](digits[1])
    weighted = linear(storage, whiten=whiten).fit(STORAGES[storage](X), sample_weight=weights)
    reference = linear(storage, whiten=whiten).fit(STORAGES[storage](repeated))
    np.testing.assert_allclose(weighted.mean_, reference.mean_, rtol=1e-10)
    np.testing.assert_allclose(weighted.components_, reference.components_, atol=1e-8)
    np.testing.assert_allclose(
        weighted.explained_variance_ratio_, reference.explained_variance_ratio_, rtol=1e-9
    )
    np.testing.assert_allclose(
        weighted.transform(X_test), reference.transform(X_test), rtol=1e-7, atol=1e-7
    )


@pytest.mark.parametrize("storage", [np.asarray, sp.csr_matrix])
@pytest.mark.parametrize("n_columns", [20, 900])
def test_every_solver_uses_weights(storage, n_columns):
    # Covariance, and Gram matrix for more columns than rows.
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 12)) @ rng.normal(size=(12, n_columns))
    weights = rng.integers(1, 4, size=60)
    weighted = linear("array").fit(storage(X), sample_weight=weights)
    repeated = linear("array").fit(storage(np.repeat(X, weights, axis=0)))
    np.testing.assert_allclose(weighted.components_, repeated.components_, atol=1e-8)


def test_krylov_iteration_uses_weights(wide):
    X = wide
    weights = np.random.default_rng(0).integers(1, 4, size=X.shape[0])
    weighted = linear("array").fit(X, sample_weight=weights)
    repeated = linear("array").fit(X[np.repeat(np.arange(X.shape[0]), weights)])
    assert weighted.score(X, sample_weight=weights) == pytest.approx(
        repeated.score(X, sample_weight=weights), abs=1e-4
    )


def test_the_score_of_weighted_rows_is_that_of_repeated_ones(weighted_digits, quick):
    X, weights, repeated = weighted_digits
    autoencoder = quick().fit(X)
    assert autoencoder.score(X, sample_weight=weights) == pytest.approx(autoencoder.score(repeated))


@pytest.mark.parametrize("linear_path", [True, False])
def test_networks_learn_the_rows_that_count(digits, quick, linear_path):
    X, _, y, _ = digits
    low, high = X[y < 5], X[y >= 5]
    settings = {"linear_path": linear_path, "max_epochs": 20, "learning_rate": 0.003}
    plain = quick(2, **settings).fit(X)
    before = [-plain.score_samples(rows).mean() for rows in (low, high)]
    for heavy, weights in enumerate([np.where(y < 5, 100, 1), np.where(y < 5, 1, 100)]):
        autoencoder = quick(2, **settings).fit(X, sample_weight=weights)
        errors = [-autoencoder.score_samples(rows).mean() for rows in (low, high)]
        assert errors[heavy] < before[heavy]
        assert errors[1 - heavy] > before[1 - heavy]


def test_a_weight_of_zero_leaves_the_row_out(digits, quick):
    X = digits[0][:500]
    weights = np.r_[np.ones(400), np.zeros(100)]
    np.testing.assert_array_equal(
        quick().fit(X, sample_weight=weights).transform(X), quick().fit(X[:400]).transform(X)
    )


def test_equal_weights_change_no_bit(digits, quick):
    X = digits[0]
    weighted = quick().fit(X, sample_weight=np.full(len(X), 0.3))
    np.testing.assert_array_equal(weighted.transform(X), quick().fit(X).transform(X))


@pytest.mark.parametrize(
    ("weights", "sentence"),
    [
        (np.zeros(100), "sample_weight is zero|one non-zero number"),
        (np.r_[1.0, np.zeros(99)], "sample_weight leaves one row of positive weight"),
        (-np.ones(100), "[Nn]egative values in data"),
        (np.ones(99), "sample_weight.shape == .99,., expected .100,."),
        (np.full(100, np.nan), "sample_weight contains NaN"),
    ],
)
def test_impossible_weights_are_refused(digits, quick, weights, sentence):
    with pytest.raises(ValueError, match=sentence):
        quick().fit(digits[0][:100], sample_weight=weights)


@pytest.mark.parametrize("convert", [np.float16, str])
def test_weights_of_small_and_odd_types_count_as_numbers(convert, digits):
    weights = np.full(len(digits[0]), 100.0)
    model, expected = (
        DenseAutoencoder(3, hidden_layer_sizes=()).fit(digits[0], sample_weight=w)
        for w in (weights.astype(convert), weights)
    )
    np.testing.assert_allclose(model.explained_variance_, expected.explained_variance_)
    for weight in (np.nan, np.inf):
        with pytest.raises(ValueError, match=f"sample_weight={weight} must be finite"):
            model.score(digits[0], sample_weight=weight)
