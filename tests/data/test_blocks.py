"""HDF5 datasets and zarr arrays as X, and one more kind of storage."""

import h5py
import numpy as np
import pytest
import zarr

from skae import ConvAutoencoder, DenseAutoencoder
from skae._data.validation import as_blocks

BRIEF = {"max_epochs": 2, "random_state": 0}


def as_hdf5(X, folder):
    file = h5py.File(folder / "X.h5", "w")
    return file.create_dataset("X", data=X, chunks=(64, X.shape[1]))


def as_zarr(X, folder):
    store = zarr.open(str(folder / "X.zarr"), mode="w", shape=X.shape, chunks=(64, 64), dtype="f8")
    store[:] = X
    return store


KINDS = {"HDF5": as_hdf5, "zarr": as_zarr}


@pytest.mark.parametrize("kind", KINDS)
def test_blocks_give_the_same_results_as_one_array(kind, tmp_path, digits):
    X, X_test = digits[0][:700], digits[1]
    blocks = KINDS[kind](X, tmp_path)
    weights = np.random.RandomState(0).uniform(0.5, 2, len(X))
    for parameters in ({"hidden_layer_sizes": ()}, {"hidden_layer_sizes": (16,), **BRIEF}):
        for sample_weight in (None, weights):
            whole = DenseAutoencoder(6, **parameters).fit(X, sample_weight=sample_weight)
            ours = DenseAutoencoder(6, **parameters).fit(blocks, sample_weight=sample_weight)
            np.testing.assert_allclose(ours.mean_, whole.mean_, rtol=1e-6)
            assert ours.score(X_test) == pytest.approx(whole.score(X_test), abs=0.005)
            codes = ours.transform(X)
            np.testing.assert_allclose(ours.transform(blocks), codes, rtol=1e-5, atol=1e-5)
            errors = ours.score_samples(X)
            np.testing.assert_allclose(ours.score_samples(blocks), errors, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_networks_on_the_rows_are_trained_from_blocks(kind, tmp_path, digits):
    X, X_test = digits[0][:400], digits[1]
    blocks = KINDS[kind](X, tmp_path)
    brief = {"max_epochs": 2, "random_state": 0}
    plain = DenseAutoencoder(4, linear_path=False, hidden_layer_sizes=(32,), **brief)
    conv = ConvAutoencoder(4, input_shape=(8, 8), channels=(8,), **brief)
    for autoencoder in (plain, conv):
        expected = autoencoder.fit(X).score(X_test)
        assert autoencoder.fit(blocks).score(X_test) == pytest.approx(expected, abs=0.01)


def test_images_in_a_dataset_keep_their_shape(tmp_path, digits):
    images = digits[0].reshape(-1, 8, 8)
    with h5py.File(tmp_path / "images.h5", "w") as file:
        dataset = file.create_dataset("images", data=images, chunks=(64, 8, 8))
        autoencoder = ConvAutoencoder(4, **BRIEF).fit(dataset)
        codes = autoencoder.transform(dataset)
    np.testing.assert_allclose(codes, autoencoder.transform(images), rtol=1e-5, atol=1e-5)
    assert autoencoder.inverse_transform(codes[:3]).shape == (3, 8, 8)


@pytest.mark.parametrize("kind", KINDS)
def test_rows_are_selected_as_numpy_selects_them(kind, tmp_path, digits):
    X = digits[0]
    rows = as_blocks(KINDS[kind](X, tmp_path))
    indices = np.array([900, 3, 499, 500, 3])
    mask = np.arange(len(X)) % 3 == 0
    for index in (indices, mask, slice(490, 510), slice(9, 2, -3), slice(0, 0), indices[:0]):
        np.testing.assert_array_equal(rows[index], X[index])


def test_a_checkpoint_identifies_stored_rows(tmp_path, digits):
    X = digits[0]
    autoencoder = DenseAutoencoder(4, checkpoint=str(tmp_path), hidden_layer_sizes=(16,), **BRIEF)
    codes = autoencoder.fit(zarr.array(X)).transform(X)
    again = autoencoder.fit(zarr.array(X)).transform(X)
    assert codes.tobytes() == again.tobytes()
    with pytest.raises(ValueError, match="belongs to another fit, with other rows of X"):
        autoencoder.fit(zarr.array(X + 1))


def test_invalid_rows_are_refused(digits):
    X = digits[0]
    broken = X.copy()
    broken[700, 3] = np.nan
    with pytest.raises(ValueError, match="Input X contains NaN"):
        DenseAutoencoder(2).fit(zarr.array(broken))
    with pytest.raises(ValueError, match="X has 3 features, but DenseAutoencoder is expecting 64"):
        DenseAutoencoder(2, hidden_layer_sizes=()).fit(X).transform(zarr.array(X[:, :3]))
    with pytest.raises(ValueError, match=r"X has 1 row\(s\), but must have 2 at least"):
        DenseAutoencoder(1).fit(zarr.array(X[:1]))
    with pytest.raises(ValueError, match="zero for some rows of a stored X: leave them out"):
        DenseAutoencoder(2).fit(zarr.array(X), sample_weight=np.arange(len(X)))
    with pytest.raises(ValueError, match="loss='poisson' needs non-negative X"):
        DenseAutoencoder(2, linear_path=False, loss="poisson").fit(zarr.array(X - 1))
