"""Valid and invalid input of fit and transform."""

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch

from skae import DenseAutoencoder


@pytest.fixture(scope="module")
def counts():
    """Small integers with many zeros, so that every kind of storage holds the same numbers."""
    rng = np.random.default_rng(0)
    latent = rng.gamma(0.5, size=(120, 3)) @ rng.gamma(0.5, size=(3, 40))
    return rng.poisson(latent).clip(0, 255).astype(np.float64)


def wide_indices(X):
    X = sp.csr_matrix(X)
    X.indices, X.indptr = X.indices.astype(np.int64), X.indptr.astype(np.int64)
    return X


def repeated_entries(X):
    """A CSR matrix that holds each number of X as two halves."""
    whole = sp.csr_matrix(X)
    return sp.csr_matrix(
        (whole.data.repeat(2) / 2, whole.indices.repeat(2), 2 * whole.indptr), shape=X.shape
    )


KINDS = {
    "float32": lambda X: X.astype(np.float32),
    "uint8": lambda X: X.astype(np.uint8),
    "int64": lambda X: X.astype(np.int64),
    "Fortran order": np.asfortranarray,
    "list": lambda X: X.tolist(),
    "DataFrame": pd.DataFrame,
    "csr_matrix": sp.csr_matrix,
    "csr_array": sp.csr_array,
    "csc_matrix": sp.csc_matrix,
    "coo_array": sp.coo_array,
    "64-bit indices": wide_indices,
    "sparse float32": lambda X: sp.csr_matrix(X, dtype=np.float32),
    "sparse integers": lambda X: sp.csr_matrix(X, dtype=np.int32),
    "sparse with repeated entries": repeated_entries,
    "tensor": torch.from_numpy,
}


@pytest.mark.parametrize("linear_path", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_storage_gives_the_same_codes(counts, quick, kind, linear_path):
    reference = quick(linear_path=linear_path, precision="float32", max_epochs=4).fit(counts)
    codes = reference.transform(counts)
    same = KINDS[kind](counts)
    found = quick(linear_path=linear_path, precision="float32", max_epochs=4).fit(same)
    # float32 rounding, grown by training: a thousandth of the spread of the codes.
    np.testing.assert_allclose(found.transform(same), codes, atol=2e-3 * codes.std())
    np.testing.assert_allclose(reference.transform(same), codes, atol=1e-4 * codes.std())


def test_a_read_only_memmap_is_read(counts, quick, tmp_path):
    path = tmp_path / "X.npy"
    np.save(path, counts)
    X = np.load(path, mmap_mode="r")
    np.testing.assert_array_equal(quick().fit_transform(X), quick().fit_transform(counts))


@pytest.mark.parametrize("kind", ["float32", "csr_matrix", "64-bit indices"])
@pytest.mark.parametrize("linear_path", [True, False])
def test_input_is_never_modified(counts, quick, kind, linear_path):
    X = KINDS[kind](counts)
    before = X.copy()
    quick(linear_path=linear_path, whiten=True, max_epochs=2).fit(X).score(X)
    if sp.issparse(X):
        for part in ("data", "indices", "indptr"):
            np.testing.assert_array_equal(getattr(X, part), getattr(before, part))
    else:
        np.testing.assert_array_equal(X, before)


# -- Data that is odd but allowed -----------------------------------------------------------------


@pytest.mark.parametrize("linear_path", [True, False])
@pytest.mark.parametrize("convert", [np.array, sp.csr_matrix])
@pytest.mark.parametrize(
    "change",
    [
        lambda X: X * (np.arange(X.shape[1]) != 3),
        lambda X: X * (np.arange(len(X)) % 5 != 0)[:, None],
        lambda X: np.zeros_like(X),
        lambda X: np.ones_like(X),
        lambda X: X[:1].repeat(60, axis=0),
        lambda X: 1e-9 * X,
        lambda X: 1e9 * X,
    ],
    ids=["constant column", "zero rows", "zeros", "ones", "one row", "tiny", "huge"],
)
def test_degenerate_data_gives_finite_results(counts, quick, change, convert, linear_path):
    X = convert(change(counts))
    autoencoder = quick(linear_path=linear_path, whiten=True, max_epochs=2).fit(X)
    codes = autoencoder.transform(X)
    assert np.isfinite(codes).all()
    assert np.isfinite(autoencoder.inverse_transform(codes)).all()
    assert np.isfinite(autoencoder.score(X))


def test_the_unit_of_the_data_does_not_matter(counts, quick):
    for unit in (1e-6, 1e6):
        gain = quick(2, max_epochs=30).fit(unit * counts).nonlinear_gain_
        assert gain == pytest.approx(quick(2, max_epochs=30).fit(counts).nonlinear_gain_, abs=0.02)


def test_the_unit_does_not_matter_to_the_plain_network(counts, quick):
    scores = [quick(linear_path=False).fit(u * counts).score(u * counts) for u in (1e-6, 1, 1e6)]
    assert scores[0] > 0.2
    assert scores == pytest.approx([scores[1]] * 3, abs=0.02)


# -- Data and parameters that are wrong -----------------------------------------------------------


def with_entry(value):
    X = np.ones((10, 4))
    X[3, 2] = value
    return X


@pytest.mark.parametrize(
    ("X", "error", "sentence"),
    [
        (with_entry(np.nan), ValueError, "Input X contains NaN"),
        (with_entry(np.inf), ValueError, "Input X contains infinity"),
        (sp.csr_matrix(with_entry(np.nan)), ValueError, "Input X contains NaN"),
        (np.ones(5), ValueError, "Expected 2D array, got 1D array instead"),
        (np.ones((0, 3)), ValueError, r"0 sample\(s\).*minimum of 2 is required"),
        (np.ones((5, 0)), ValueError, r"0 feature\(s\).*minimum of 1 is required"),
        (np.ones((1, 3)), ValueError, r"1 sample\(s\).*minimum of 2 is required"),
        (np.ones((5, 3)) * 1j, ValueError, "Complex data not supported"),
        (np.array([["a", "b"], ["c", "d"]]), ValueError, "'?numeric|convert string to float"),
        (np.ones((5, 2, 2)), ValueError, r"has 3 axes, .* pass X\.reshape\(len\(X\), -1\)"),
    ],
)
def test_invalid_data_raises(quick, X, error, sentence):
    with pytest.raises(error, match=sentence):
        quick(2).fit(X)


@pytest.mark.parametrize(
    ("parameters", "sentence"),
    [
        (
            {"latent_dim": 0},
            r"'latent_dim' parameter .* int in the range \[1, 2147483647\].* Got 0",
        ),
        ({"latent_dim": 2.5}, r"'latent_dim' parameter .* int .* Got 2.5"),
        (
            {"latent_dim": 30},
            r"latent_dim=30 must be at most min\(n_samples=25, n_features=40\) = 25, as in PCA"
            r".*linear_path=False it may have any length",
        ),
        ({"activation": "relux"}, r"'activation' parameter .*'gelu'.* Got 'relux'"),
        ({"hidden_layer_sizes": (5, 0)}, r"hidden_layer_sizes=\(5, 0\) must be .* positive int"),
        ({"hidden_layer_sizes": (2.5,)}, r"hidden_layer_sizes=\(2.5,\) must be .* positive int"),
        ({"hidden_layer_sizes": "big"}, r"'hidden_layer_sizes' parameter .* Got 'big'"),
        (
            {"output_activation": "sigmoid", "linear_path": True},
            r"output_activation='sigmoid' needs linear_path=False",
        ),
        ({"device": "gpu"}, r"device='gpu' must be 'auto' or a device that PyTorch supports"),
        ({"device": "meta"}, r"device='meta' needs a META device, .*only 'cpu'.*device='cpu'"),
        ({"validation_fraction": 1.0}, r"'validation_fraction' parameter .* Got 1.0"),
    ],
)
def test_invalid_parameters_raise(counts, quick, parameters, sentence):
    with pytest.raises(ValueError, match=sentence):
        quick(**parameters).fit(counts[:25])


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_cuda_without_cuda_raises(counts, quick):
    with pytest.raises(ValueError, match=r"device='cuda' needs a CUDA device.*finds none"):
        quick(device="cuda").fit(counts)


def test_codes_of_the_wrong_length_raise(counts, quick):
    autoencoder = quick(4).fit(counts)
    sentence = (
        "X has 5 columns, but the codes of this DenseAutoencoder have latent_dim_=4 dimensions"
    )
    with pytest.raises(ValueError, match=sentence):
        autoencoder.inverse_transform(np.ones((3, 5)))


@pytest.mark.parametrize(
    ("activation", "scale", "sentence"),
    [
        ("sigmoid", 2.0, r"'sigmoid' reconstructs values from 0 to 1, but X has values .* to 2"),
        ("tanh", -2.0, r"'tanh' reconstructs values from -1 to 1, but X has values from -2"),
        ("relu", -1.0, r"'relu' reconstructs values from 0 to inf, but X has values from -1"),
    ],
)
def test_values_that_the_output_activation_cannot_reach_are_warned_of(activation, scale, sentence):
    X = np.linspace(0, 1, 60).reshape(20, 3)
    plain = DenseAutoencoder(2, output_activation=activation, hidden_layer_sizes=(4,), max_epochs=1)
    plain.fit(X)  # without a warning
    for outside in (scale * X, sp.csr_array(scale * X)):
        with pytest.warns(UserWarning, match=sentence):
            plain.fit(outside)
