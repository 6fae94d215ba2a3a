"""Data at the edges: that hardly varies, of extreme scale, or in another memory order."""

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


@pytest.mark.parametrize(("dtype", "scale"), [(np.float32, 1e-30), (np.float64, 1e20)])
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


def test_equal_rows_score_one_or_zero_whatever_their_mean_rounds_to():
    rows = np.full((50, 7), 0.3)
    assert DenseAutoencoder(2, hidden_layer_sizes=()).fit(rows).score(rows) == 1.0
    assert plain().fit(rows).score(rows) == 0.0


@pytest.mark.parametrize("storage", [np.asarray, sp.csr_array])
@pytest.mark.parametrize(
    ("kind", "scale", "shape"),
    [(DenseAutoencoder, 1e-30, (60, 8)), (ConvAutoencoder, 1e30, (20, 60))],
)
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
@pytest.mark.parametrize(("scale", "shape"), [(2.0**-90, (60, 8)), (2.0**98, (40, 90))])
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


@pytest.mark.parametrize("max_epochs", [1, 5])
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
