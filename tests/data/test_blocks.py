"""Rows in blocks, files, HDF5 datasets and zarr arrays, used as one X."""

import zlib

import h5py
import numpy as np
import pytest
import scipy.sparse as sp
import zarr
from sklearn.model_selection import GridSearchCV

from skae import ConvAutoencoder, DenseAutoencoder, RowBlocks, load, save
from skae._data import validation as validation_module
from skae._data.blocks import ArrayAdapter, Blocks
from skae._pca import solvers as solvers_module

BRIEF = {"max_epochs": 4, "random_state": 0}


def halves(X):
    return [X[:500], X[500:]]


def as_npy(X, folder):
    return RowBlocks([_saved(np.save, folder / f"{i}.npy", part) for i, part in halves_of(X)])


def as_npz(X, folder):
    X = sp.csr_matrix(X)
    return RowBlocks([_saved(sp.save_npz, folder / f"{i}.npz", part) for i, part in halves_of(X)])


def as_hdf5(X, folder):
    file = h5py.File(folder / "X.h5", "w")
    return file.create_dataset("X", data=X, chunks=(64, X.shape[1]))


def as_zarr(X, folder):
    store = zarr.open(str(folder / "X.zarr"), mode="w", shape=X.shape, chunks=(64, 64), dtype="f8")
    store[:] = X
    return store


def halves_of(X):
    return enumerate(halves(X))


def _saved(save, path, part):
    save(path, part)
    return path


KINDS = {
    "arrays": lambda X, folder: RowBlocks(halves(X)),
    "sparse": lambda X, folder: RowBlocks(halves(sp.csr_matrix(X))),
    "columns": lambda X, folder: RowBlocks(halves(sp.csc_matrix(X))),
    ".npy": as_npy,
    ".npz": as_npz,
    "HDF5": as_hdf5,
    "zarr": as_zarr,
}


@pytest.mark.parametrize("kind", KINDS)
def test_blocks_give_the_same_results_as_one_array(kind, tmp_path, digits):
    X, X_test, _, _ = digits
    blocks = KINDS[kind](X, tmp_path)
    weights = np.random.RandomState(0).uniform(0.5, 2, len(X))
    for parameters in ({"hidden_layer_sizes": ()}, {"hidden_layer_sizes": (32,), **BRIEF}):
        for sample_weight in (None, weights):
            whole = DenseAutoencoder(6, **parameters).fit(X, sample_weight=sample_weight)
            ours = DenseAutoencoder(6, **parameters).fit(blocks, sample_weight=sample_weight)
            np.testing.assert_allclose(ours.mean_, whole.mean_, rtol=1e-6)
            assert ours.score(X_test) == pytest.approx(whole.score(X_test), abs=0.005)
            codes = ours.transform(X)
            np.testing.assert_allclose(ours.transform(blocks), codes, rtol=1e-5, atol=1e-5)
            errors = ours.score_samples(X)
            np.testing.assert_allclose(ours.score_samples(blocks), errors, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["arrays", "sparse", ".npy", "HDF5", "zarr"])
def test_networks_on_the_rows_are_trained_from_blocks(kind, tmp_path, digits):
    X, X_test = digits[0][:600], digits[1]
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


@pytest.mark.slow
@pytest.mark.parametrize("solver", ["eigenproblem", "Krylov"])
def test_wide_sparse_blocks_are_never_made_dense_whole(solver, bigrams, monkeypatch):
    if solver == "Krylov":
        monkeypatch.setattr(solvers_module, "_EXACT_SIDE", 16)
    X = bigrams[0]
    blocks = RowBlocks(halves(X))
    largest = []
    to_array = sp.csr_matrix.toarray
    for kind in (sp.csr_matrix, sp.csr_array):
        monkeypatch.setattr(
            kind, "toarray", lambda self, *a, **k: largest.append(self.shape[0]) or to_array(self)
        )
    autoencoder = DenseAutoencoder(4, hidden_layer_sizes=(32,), **BRIEF).fit(blocks)
    codes = autoencoder.transform(blocks)
    assert max(largest, default=0) < len(blocks) / 2
    np.testing.assert_allclose(codes, autoencoder.transform(X), rtol=1e-4, atol=1e-5)


def test_rows_are_returned_in_the_order_of_the_indices(digits):
    X = digits[0]
    indices = np.array([900, 3, 499, 500, 3])
    for blocks in (RowBlocks(halves(X)), RowBlocks(halves(sp.csr_matrix(X)))):
        for index in (indices, slice(490, 510), slice(0, 0), indices[:0]):
            rows = blocks[index]
            np.testing.assert_array_equal(rows.toarray() if sp.issparse(rows) else rows, X[index])
    np.testing.assert_array_equal(ArrayAdapter(X)[indices], X[indices])


def test_a_checkpoint_identifies_rows_in_blocks(tmp_path, digits):
    X = digits[0]
    autoencoder = DenseAutoencoder(4, checkpoint=str(tmp_path), hidden_layer_sizes=(16,), **BRIEF)
    codes = autoencoder.fit(RowBlocks(halves(X))).transform(X)
    again = autoencoder.fit(RowBlocks(halves(X))).transform(X)
    assert codes.tobytes() == again.tobytes()
    with pytest.raises(ValueError, match="belongs to another fit, with other rows of X"):
        autoencoder.fit(RowBlocks(halves(X + 1)))


def test_invalid_blocks_are_refused(digits):
    X = digits[0]
    with pytest.raises(ValueError, match="one block of rows or more"):
        RowBlocks([])
    with pytest.raises(ValueError, match=r"as many columns as the first, 64, got .* \(5, 3\)"):
        RowBlocks([X, X[:5, :3]])
    with pytest.raises(ValueError, match="all be sparse or none"):
        DenseAutoencoder(2).fit(RowBlocks([X, sp.csr_matrix(X)]))
    broken = X.copy()
    broken[700, 3] = np.nan
    with pytest.raises(ValueError, match="Input X contains NaN"):
        DenseAutoencoder(2).fit(RowBlocks(halves(broken)))
    with pytest.raises(ValueError, match="X has 3 features, but DenseAutoencoder is expecting 64"):
        DenseAutoencoder(2, hidden_layer_sizes=()).fit(X).transform(RowBlocks([X[:, :3]]))
    with pytest.raises(ValueError, match=r"RowBlocks of 1 row\(s\) must have 2 at least"):
        DenseAutoencoder(1).fit(RowBlocks([X[:1]]))
    with pytest.raises(ValueError, match="zero for some rows of blocks: leave them out"):
        DenseAutoencoder(2).fit(RowBlocks([X]), sample_weight=np.arange(len(X)))
    with pytest.raises(ValueError, match="loss='poisson' needs non-negative X"):
        DenseAutoencoder(2, linear_path=False, loss="poisson").fit(RowBlocks(halves(X - 1)))


class Compressed:
    """Compressed rows: a kind of storage that skae does not support."""

    def __init__(self, X, n_rows):
        self.shape, self.dtype = X.shape, X.dtype
        self.starts = list(range(0, len(X), n_rows))
        self.chunks_ = [zlib.compress(X[start : start + n_rows].tobytes()) for start in self.starts]


class CompressedBlocks(Blocks):
    """All that skae needs for one more kind of storage."""

    is_sparse = False

    def __init__(self, X):
        self.X, self.shape, self.dtype = X, X.shape, X.dtype
        stops = [*X.starts[1:], len(self)]
        self.row_slices = [slice(*ends) for ends in zip(X.starts, stops, strict=True)]

    def __getitem__(self, index):
        return np.concatenate(list(self.each(lambda block: block, [()] * len(self.row_slices))))[
            index
        ]

    def each(self, function, arguments):
        for chunk, args in zip(self.X.chunks_, arguments, strict=True):
            block = np.frombuffer(zlib.decompress(chunk), self.dtype).reshape(-1, self.shape[1])
            yield function(block, *args)

    def total(self, function, arguments):
        return sum(self.each(function, arguments))


@pytest.mark.parametrize("linear_path", [True, False])
def test_a_kind_of_storage_is_one_class_and_one_line(linear_path, digits, tmp_path, monkeypatch):
    line = (lambda X: isinstance(X, Compressed), CompressedBlocks)
    monkeypatch.setattr(validation_module, "BLOCK_KINDS", [*validation_module.BLOCK_KINDS, line])
    X, X_test, _, _ = digits
    parameters = {"linear_path": linear_path, "hidden_layer_sizes": (16,), "whiten": True, **BRIEF}
    whole = DenseAutoencoder(4, **parameters).fit(X)
    ours = DenseAutoencoder(4, **parameters).fit(Compressed(X, 300))
    assert ours.score(X_test) == pytest.approx(whole.score(X_test), abs=0.01)
    codes = ours.transform(X_test)
    save(ours, tmp_path / "ours.skae")
    loaded = load(tmp_path / "ours.skae")
    np.testing.assert_array_equal(loaded.transform(X_test), codes)
    compressed = Compressed(X_test, 50)
    np.testing.assert_allclose(loaded.transform(compressed), codes, rtol=1e-5, atol=1e-5)
    assert loaded.score(compressed) == pytest.approx(ours.score(X_test), abs=1e-6)


def test_a_search_selects_rows_of_blocks(digits):
    X = digits[0]
    found = [
        GridSearchCV(DenseAutoencoder(hidden_layer_sizes=()), {"latent_dim": [1, 3]}, cv=2)
        .fit(rows)
        .cv_results_["mean_test_score"]
        for rows in (X, RowBlocks(halves(X)))
    ]
    np.testing.assert_allclose(found[1], found[0], rtol=1e-6)
