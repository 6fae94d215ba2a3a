"""Data at the edges: that hardly varies, of extreme scale, or in another memory order."""

import warnings

import numpy as np
import pytest
import scipy.sparse as sp
import zarr
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning

from skae import ConvAutoencoder, DenseAutoencoder

BRIEF = {"max_epochs": 2, "random_state": 0}
RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 8))


def stored(rows):
    return zarr.array(rows, chunks=(25, 4))


def plain(**parameters):
    return DenseAutoencoder(2, linear_path=False, hidden_layer_sizes=(8,), **BRIEF | parameters)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e20])
def test_scores_by_the_cosine_distance_are_at_most_one(dtype, scale):
    rows = np.repeat(scale * X[:1], 40, axis=0).astype(dtype)
    autoencoder = plain(loss="cosine").fit(rows)
    assert autoencoder.score(rows) <= 1
    assert (autoencoder.score_samples(rows) <= 0).all()


@pytest.mark.parametrize("storage", [np.asarray, sp.csr_array])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", [DenseAutoencoder, ConvAutoencoder])
@pytest.mark.filterwarnings("error:The loss exploded")
def test_columns_that_do_not_vary_leave_finite_losses(kind, dtype, storage):
    rows = np.repeat(1000.0 / 3 + X[:1], 45, axis=0).astype(dtype)
    autoencoder = kind(2, linear_path=False, **BRIEF).fit(storage(rows))
    assert all(np.isfinite(epoch["train_loss"]) for epoch in autoencoder.history_)
    codes = autoencoder.transform(storage(rows))
    np.testing.assert_allclose(autoencoder.inverse_transform(codes), rows, rtol=1e-5)


@pytest.mark.parametrize("storage", [np.asarray, sp.csr_array])
@pytest.mark.parametrize("shape", [(60, 8), (20, 60)])
@pytest.mark.parametrize("scale", [1e-30, 1e30])
@pytest.mark.parametrize("kind", [DenseAutoencoder, ConvAutoencoder])
def test_the_scale_of_float32_does_not_matter_to_principal_directions(kind, scale, shape, storage):
    rows = RNG.normal(size=shape).astype(np.float32)
    linear = kind(3, validation_fraction=1e-9, whiten=True, random_state=0).fit(storage(rows))
    scaled = kind(3, validation_fraction=1e-9, whiten=True, random_state=0)
    scaled.fit(storage(np.float32(scale) * rows))
    np.testing.assert_allclose(
        np.abs(np.sum(linear.components_ * scaled.components_, axis=1)), 1, atol=1e-4
    )
    assert scaled.score(storage(np.float32(scale) * rows)) == pytest.approx(
        linear.score(storage(rows)), abs=1e-4
    )


@pytest.mark.parametrize("latent_dim", [2, 0.1])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("scale", [2.0**-90, 2.0**66, 2.0**98])
@pytest.mark.parametrize("shape", [(60, 8), (40, 90)])
def test_the_scale_does_not_matter_to_validation_rows(shape, scale, dtype, latent_dim):
    rows = RNG.normal(size=shape).astype(dtype)
    found = [
        DenseAutoencoder(
            latent_dim,
            validation_fraction=0.5,
            hidden_layer_sizes=(4,),
            max_epochs=1,
            random_state=0,
        )
        .fit(dtype(unit) * rows)
        .score(dtype(unit) * rows)
        for unit in (1.0, scale)
    ]
    assert found[0] == pytest.approx(found[1], abs=1e-3)


@pytest.mark.parametrize("storage", [np.asarray, sp.csr_array])
@pytest.mark.parametrize("linear_path", [True, False])
@pytest.mark.parametrize("kind", [DenseAutoencoder, ConvAutoencoder])
def test_one_huge_value_leaves_finite_results(kind, linear_path, storage):
    rows = X.astype(np.float32)
    rows[7, 3] = 1e30
    autoencoder = kind(2, linear_path=linear_path, **BRIEF).fit(storage(rows))
    codes = autoencoder.transform(storage(rows))
    assert np.isfinite(autoencoder.inverse_transform(codes)).all()
    assert np.isfinite(autoencoder.score(storage(rows)))


@pytest.mark.parametrize("storage", [np.asarray, sp.csr_matrix])
def test_values_beyond_float32_are_refused(storage):
    rows = X.copy()
    rows[7, 3] = -1e40
    with pytest.raises(ValueError, match=r"X has a value of -1e\+40"):
        plain().fit(storage(rows))
    autoencoder = plain().fit(storage(X))
    with pytest.raises(ValueError, match=r"X has a value of -1e\+40"):
        autoencoder.transform(storage(rows))


@pytest.mark.parametrize("storage", [np.asarray, sp.csr_matrix, stored])
def test_values_whose_sum_is_no_number_are_refused(storage):
    rows = X.astype(np.float32)
    rows[:30], rows[30:] = np.finfo(np.float32).max, np.finfo(np.float32).min
    with pytest.raises(ValueError, match=r"X has a value of .*3\.4e\+38"):
        plain().fit(storage(rows))


@pytest.mark.parametrize("storage", [np.asarray, sp.csr_array])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_whitening_leaves_dimensions_without_variance(dtype, storage):
    rows = (RNG.normal(size=(50, 3)) @ RNG.normal(size=(3, 20))).astype(dtype)
    autoencoder = DenseAutoencoder(8, hidden_layer_sizes=(), whiten=True).fit(storage(rows))
    codes = autoencoder.transform(storage(rows))
    np.testing.assert_allclose(codes[:, :3].std(axis=0, ddof=1), 1, rtol=1e-3)
    np.testing.assert_allclose(codes[:, 3:], 0, atol=1e-4)
    alone = np.vstack([autoencoder.transform(storage(rows[[i]])) for i in range(50)])
    np.testing.assert_allclose(alone, codes, atol=1e-4)


@pytest.mark.parametrize("weights", [None, np.arange(1.0, 61.0)])
@pytest.mark.parametrize("autoencoder", [DenseAutoencoder(2, hidden_layer_sizes=()), plain()])
def test_memory_order_does_not_change_a_bit(autoencoder, weights):
    rows = X + 1 / 3
    expected = autoencoder.fit(rows, sample_weight=weights).transform(rows)
    wide = np.zeros((60, 16))
    wide[:, ::2] = rows
    for form in (np.asfortranarray(rows), wide[:, ::2], rows[::-1].copy()[::-1]):
        found = autoencoder.fit(form, sample_weight=weights)
        np.testing.assert_array_equal(found.transform(form), expected)
        np.testing.assert_array_equal(found.score_samples(form), found.score_samples(rows))


def test_scores_of_rows_far_from_zero_are_those_of_their_reconstructions():
    rows = (1e6 + X).astype(np.float32)
    autoencoder = plain().fit(rows)
    errors = rows.astype(float) - autoencoder.inverse_transform(autoencoder.transform(rows))
    np.testing.assert_allclose(
        autoencoder.score_samples(rows), -np.square(errors).sum(axis=1), rtol=1e-6
    )


@pytest.mark.parametrize("loss", ["poisson", "multinomial"])
def test_contractive_codes_of_counts_learn_from_zeros(loss):
    rows = RNG.poisson(0.5, size=(60, 8))
    autoencoder = plain(loss=loss, penalty="contractive").fit(rows)
    assert np.isfinite(autoencoder.history_[-1]["train_loss"])


def test_variational_codes_of_rows_without_a_deviance_are_finite():
    rows = np.ones((40, 1))
    autoencoder = plain(loss="multinomial", penalty="variational").fit(rows)
    assert np.isfinite(autoencoder.history_[-1]["train_loss"])


def test_contractive_codes_need_two_rows_in_a_batch():
    with pytest.raises(ValueError, match="penalty='contractive' needs batch_size"):
        plain(penalty="contractive", batch_size=1).fit(X)


@pytest.mark.parametrize("penalty", ["l1", "contractive", "variational"])
@pytest.mark.filterwarnings("error:The loss exploded")
def test_penalties_of_rows_that_are_all_the_same_are_finite(penalty):
    rows = np.repeat(X[:1], 40, axis=0)
    autoencoder = plain(penalty=penalty).fit(rows)
    assert np.isfinite(autoencoder.inverse_transform(autoencoder.transform(rows))).all()


@pytest.mark.parametrize("loss", ["bce", "poisson", "multinomial"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rounding_of_a_deviance_is_no_gain(loss, dtype):
    for value in np.linspace(0.01, 0.99, 40) if loss == "bce" else np.linspace(900, 1100, 40):
        rows = np.full((2, 1 if loss == "poisson" else 3), value, dtype)
        autoencoder = DenseAutoencoder(
            1, hidden_layer_sizes=(), linear_path=False, loss=loss, max_epochs=1, random_state=0
        ).fit(rows)
        assert (autoencoder.score_samples(rows) <= 0).all()
        assert autoencoder.score(rows) <= 1
        assert autoencoder.history_[0]["variance_explained"] <= 1


def test_training_rows_that_do_not_vary_leave_finite_losses():
    rows = np.zeros((40, 6))
    rows[3:5] = X[:2, :6]
    for seed in range(5):
        autoencoder = DenseAutoencoder(
            1, hidden_layer_sizes=(3,), max_epochs=1, validation_fraction=0.999, random_state=seed
        ).fit(rows)
        for epoch in autoencoder.history_:
            assert np.isfinite([epoch["train_loss"], epoch["valid_loss"]]).all()


@pytest.mark.filterwarnings("ignore:The loss exploded")
def test_a_last_step_that_ends_in_nan_is_not_kept():
    rows = 1000 + np.random.default_rng(0).normal(size=(8, 3))
    for seed in range(20):  # a step comes after its loss, which may be finite
        autoencoder = DenseAutoencoder(
            hidden_layer_sizes=(),
            linear_path=False,
            loss="poisson",
            penalty="variational",
            noise=10.0,
            max_epochs=1,
            random_state=seed,
        ).fit(rows)
        codes = autoencoder.transform(rows)
        assert np.isfinite(autoencoder.inverse_transform(codes)).all()


@pytest.mark.parametrize("storage", [np.asarray, sp.csr_array])
@pytest.mark.parametrize(
    "batch",
    [
        np.repeat([[1.25730221e-31, -1.32104863e-31, 6.40422650e-31]], 5, axis=0),
        1e-46 * X[:5, :3],
        1e-60 * X[:5, :3],
    ],
)
def test_batches_too_small_for_float32_change_nothing_but_the_number_of_rows(batch, storage):
    autoencoder = DenseAutoencoder(1, hidden_layer_sizes=(3,), random_state=0)
    autoencoder.partial_fit(storage(X[:20, :3].astype(np.float32)))
    variance = autoencoder.explained_variance_[0]
    autoencoder.partial_fit(storage(batch))
    assert np.isfinite(autoencoder.transform(X[:, :3])).all()
    assert 0.5 * variance < autoencoder.explained_variance_[0] < variance


@pytest.mark.parametrize("storage", [np.asarray, sp.csr_array])
@pytest.mark.parametrize("scales", [(1.0, 1e20), (1e20, 1.0), (1e31, 1e31), (1e-30, 1e31)])
def test_streams_of_large_batches_are_those_of_pca(scales, storage):
    autoencoder = DenseAutoencoder(2, hidden_layer_sizes=(), random_state=0)
    # Means far apart: their difference, too, has a square beyond float32.
    batches = [scale * (sign + X[:20, :3]) for scale, sign in zip(scales, (1, -1), strict=True)]
    for batch in batches:
        autoencoder.partial_fit(storage(batch.astype(np.float32)))
    expected = PCA(2).fit(np.concatenate(batches))
    np.testing.assert_allclose(
        autoencoder.explained_variance_, expected.explained_variance_, rtol=1e-3
    )
    cosines = np.sum(autoencoder.components_ * expected.components_, axis=1)
    np.testing.assert_allclose(np.abs(cosines), 1, atol=1e-3)


@pytest.mark.parametrize("storage", [np.asarray, sp.csr_array])
def test_streams_of_the_smallest_float32_are_finite(storage):
    rows = (1e-40 * X[:20, :3]).astype(np.float32)
    autoencoder = DenseAutoencoder(2, hidden_layer_sizes=(), random_state=0)
    autoencoder.partial_fit(storage(rows))
    assert np.isfinite(autoencoder.components_).all()
    assert np.isfinite(autoencoder.transform(rows)).all()


@pytest.mark.parametrize("storage", [np.asarray, sp.csr_array])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_streams_of_equal_rows_far_from_zero_are_finite(dtype, storage):
    for scale in np.geomspace(1e20, 1e31, 12):  # rounding of the mean may be large, or zero
        autoencoder = DenseAutoencoder(1, hidden_layer_sizes=(), random_state=0)
        rows = np.repeat(scale * X[:1, :3], 5, axis=0).astype(dtype)
        for batch in (rows, 2 * rows):
            autoencoder.partial_fit(storage(batch))
        assert np.isfinite(autoencoder.transform(rows)).all()


@pytest.mark.parametrize("max_epochs", [1, 2, 5])
@pytest.mark.filterwarnings("ignore:The loss exploded after 1 steps", "ignore:output_activation")
def test_losses_that_explode_in_the_last_epoch_are_reported(max_epochs):
    rows = 1e5 * np.array([[1.257], [-1.321]])  # far from the range of the activation
    autoencoder = DenseAutoencoder(
        hidden_layer_sizes=(),
        linear_path=False,
        output_activation="sigmoid",
        penalty="variational",
        early_stopping=False,
        max_epochs=max_epochs,
        random_state=0,
    )
    with pytest.warns(ConvergenceWarning, match=f"exploded after {min(max_epochs, 2)} steps"):
        autoencoder.fit(rows)
    assert np.isnan(autoencoder.history_[-1]["train_loss"])
    assert np.isfinite(autoencoder.transform(rows)).all()
    assert np.isfinite(autoencoder.score(rows))


@pytest.mark.parametrize("linear_path", [True, False])
@pytest.mark.parametrize("n_rows", [300, 12])
def test_whitened_codes_of_pictures_with_few_training_rows(n_rows, linear_path, digits):
    pictures = digits[0][:n_rows].reshape(-1, 8, 8)
    autoencoder = ConvAutoencoder(
        linear_path=linear_path,
        validation_fraction=0.9,
        noise=0.1,
        whiten=True,
        max_epochs=2,
        random_state=0,
    )
    with warnings.catch_warnings(category=UserWarning, action="ignore"):
        autoencoder.fit(pictures)
    codes = autoencoder.transform(pictures)
    assert np.isfinite(autoencoder.inverse_transform(codes)).all()
    assert np.isfinite(autoencoder.score(pictures))


@pytest.mark.parametrize("scale", [1.0, 1e-27])
def test_rows_that_hardly_vary_have_a_length_for_a_share_of_the_variance(scale):
    # Standard deviations of a thousandth, of low rank: the inverse of their squares is too large
    # for float32.
    rng = np.random.default_rng(0)
    X = (
        1
        + 1e-3 * rng.normal(size=(10, 2)) @ rng.normal(size=(2, 5))
        + 1e-9 * rng.normal(size=(10, 5))
    )
    plain = DenseAutoencoder(
        0.5, linear_path=False, validation_fraction=0.9, max_epochs=1, random_state=0
    )
    assert plain.fit(scale * X).latent_dim_ == 1
