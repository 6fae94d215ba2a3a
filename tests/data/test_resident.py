"""X stays on a device while it fits: copies, waits and launches are counted on a simulated one."""

import gc

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from skae import ConvAutoencoder, DenseAutoencoder
from skae._data.rows import rows_of
from skae._runtime import tensors as tensors_module

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


def n_bytes(X):
    return X.data.nbytes + X.indices.nbytes + X.indptr.nbytes


@pytest.fixture(scope="module")
def wide():
    """Wide sparse rows, and a linear autoencoder of them on the device."""
    X = sp.random(3000, 20_000, 0.01, "csr", np.float32, random_state=np.random.default_rng(0))
    return X, DenseAutoencoder(256, hidden_layer_sizes=(), device="cuda", random_state=0)


def test_a_linear_fit_uploads_sparse_rows_once(wide, counts):
    X, model = wide
    counts.reset()
    model.fit(X)
    assert counts.stats()["bytes_to_device"] < 2 * n_bytes(X)
    on_cpu = DenseAutoencoder(256, hidden_layer_sizes=(), device="cpu", random_state=0).fit(X)
    assert model.score(X) == pytest.approx(on_cpu.score(X), abs=1e-5)


def test_a_second_transform_uploads_its_rows_alone(wide, counts):
    X, model = wide
    model.fit(X)
    gc.collect()
    before = counts.stats()["bytes_in_use"]
    Z = model.transform(X[:1])
    for call, most in ((lambda: model.transform(X[:1]), 60), (lambda: model.score(X[:9]), 60)):
        counts.reset()
        call()
        assert counts.stats()["launches"] <= most
        assert counts.stats()["bytes_to_device"] < 4 * X.shape[1] + 20_000
    counts.reset()
    np.testing.assert_allclose(model.inverse_transform(Z), model.inverse_transform(Z))
    assert counts.stats()["bytes_to_device"] == 2 * Z.nbytes
    del model._state
    gc.collect()
    assert counts.stats()["bytes_in_use"] <= before


NETWORKS = {
    "scores": (DenseAutoencoder, {"linear_path": True}),
    "plain": (DenseAutoencoder, {"linear_path": False}),
    "labels": (DenseAutoencoder, {"linear_path": False, "supervision": 0.5}),
    "variational": (DenseAutoencoder, {"linear_path": False, "penalty": "variational"}),
    "pictures": (ConvAutoencoder, {"channels": (4,)}),
    "plain pictures": (ConvAutoencoder, {"channels": (4,), "linear_path": False}),
}


KINDS = [(how, "float32") for how in NETWORKS]
KINDS += [("plain", "csr"), ("pictures", "uint8")]


@pytest.mark.parametrize(("how", "storage"), KINDS)
def test_no_batch_is_copied_or_waited_for(how, storage, digits, counts):
    X, y = digits[0][:600], digits[2][:600]
    X = sp.csr_matrix(X.astype(np.float32)) if storage == "csr" else X.astype(storage)
    kind, parameters = NETWORKS[how]
    if kind is ConvAutoencoder:
        parameters = {**parameters, "input_shape": (8, 8)}
    else:
        parameters = {**parameters, "hidden_layer_sizes": (16,)}
    n_copies, n_waits = [], []
    for n_epochs in (1, 3):
        settings = {"device": "cuda", "precision": "float32", "random_state": 0}
        model = kind(4, batch_size=20, max_epochs=n_epochs, **settings, **parameters)
        counts.reset()
        model.fit(X, y, sample_weight=np.linspace(1, 2, len(y)))
        n_copies.append(counts.stats()["copies_to_device"])
        n_waits.append(counts.stats()["copies_to_host"] + counts.stats()["waits"])
    # Two more epochs are 54 more batches, and more copies and waits than that if each had one.
    assert n_copies[1] - n_copies[0] < 54
    assert n_waits[1] - n_waits[0] < 54


@pytest.mark.parametrize("kind", ["float32", "uint8", "csr"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rows_are_the_same_on_both_devices(kind, dtype):
    rng = np.random.default_rng(0)
    X = rng.integers(0, 200, (300, 700)) * (rng.random((300, 700)) < 0.1)
    X[7] = 0
    X = sp.csr_matrix(X.astype(np.float32)) if kind == "csr" else X.astype(kind)
    here, there = (rows_of(X, dtype=dtype, device=device) for device in ("cpu", "cuda"))
    assert there._resident
    indices = rng.permutation(300)[:50]
    on_both = tensors_module.Indices(indices, there.device)
    for index in (slice(5, 40), indices, on_both, on_both[3:9]):
        expected = here.dense(tensors_module.on_host(index))
        assert torch.equal(there.dense(index).cpu(), expected)
    for factor, method in ((700, "times"), (300, "transposed_times")):
        for n_columns in (0, 3, 200):
            W = torch.randn(factor, n_columns, dtype=dtype)
            expected, found = getattr(here, method)(W), getattr(there, method)(W.to("cuda"))
            torch.testing.assert_close(found.cpu(), expected, rtol=1e-4, atol=0.05)


@pytest.mark.parametrize("n", [0, 12, 24])
def test_a_product_for_which_memory_ends_is_computed_in_pieces(n, counts):
    X = sp.random(400, 900, 0.1, "csr", np.float32, random_state=0)
    W, Q = torch.randn(900, 30, device="cuda"), torch.randn(400, 30, device="cuda")
    expected = rows_of(X).times(W.cpu()), rows_of(X).transposed_times(Q.cpu())
    rows = rows_of(X, device="cuda")
    counts.fail_after(n)
    try:
        found = rows.times(W), rows.transposed_times(Q)
    except torch.OutOfMemoryError:  # of what is beyond the products with X
        counts.fail_after(-1)
        found = rows.times(W), rows.transposed_times(Q)
    finally:
        counts.fail_after(-1)
    for product, of_cpu in zip(found, expected, strict=True):
        torch.testing.assert_close(product.cpu(), of_cpu, rtol=1e-4, atol=1e-3)
