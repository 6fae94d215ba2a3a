"""Devices: which ones are accepted, and what a fit does where one has little memory or no float64.

Those marked gpu run on any CUDA device.
"""

from dataclasses import replace

import dask.array as da
import numpy as np
import pytest
import scipy.sparse as sp
import torch
from sklearn.base import clone
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from skae import ConvAutoencoder, DenseAutoencoder
from skae._runtime import device as device_module


def gpu(test):
    """Runs where there is a CUDA device."""
    skip = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
    return pytest.mark.gpu(skip(test))


def brief(**parameters):
    return DenseAutoencoder(
        **{
            "latent_dim": 6,
            "hidden_layer_sizes": (16,),
            "max_epochs": 2,
            "precision": "float32",
            "random_state": 0,
            **parameters,
        },
    )


@pytest.mark.parametrize("device", ["mps", "xpu", "meta", "cuda:99"])
def test_a_missing_device_raises(digits, device):
    if getattr(torch, device, torch.cuda).is_available() and device != "cuda:99":
        pytest.skip("it is there")
    with pytest.raises(ValueError, match=rf"device='{device}' (needs an? .* only 'cpu'|must be)"):
        brief(device=device).fit(digits[0])


def test_auto_is_the_cpu_without_an_accelerator(monkeypatch):
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: None)
    assert device_module.resolve_device("auto") == torch.device("cpu")
    assert device_module.resolve_device("cpu:0") == torch.device("cpu")


class Cramped(nn.Module):
    """A layer on a device that has room for a limited number of rows at a time."""

    most_rows, sizes = 10**9, []
    error = torch.OutOfMemoryError("Tried to allocate 2.00 GiB.")

    def __init__(self, n_inputs, n_outputs):
        super().__init__()
        self.layer = nn.Linear(n_inputs, n_outputs)

    def forward(self, x):
        self.sizes.append(len(x))
        if len(x) > self.most_rows:
            raise self.error
        return self.layer(x)


@pytest.mark.filterwarnings("ignore:The device has no room for a batch")
@pytest.mark.parametrize("message", ["MPS backend out of memory", "CUDA error: out of memory"])
def test_rows_are_trained_on_and_encoded_in_pieces_that_fit(digits, message, monkeypatch):
    roomy = brief(encoder=Cramped, decoder=Cramped, linear_path=False).fit(digits[0][:500])
    X = digits[1]
    Z, scores = roomy.transform(X), roomy.score_samples(X)
    X_hat = roomy.inverse_transform(Z)
    monkeypatch.setattr(Cramped, "most_rows", 20)
    monkeypatch.setattr(Cramped, "error", RuntimeError(message))
    monkeypatch.setattr(Cramped, "sizes", [])
    np.testing.assert_allclose(roomy.transform(X), Z, atol=1e-5)
    np.testing.assert_allclose(roomy.inverse_transform(Z), X_hat, atol=1e-5)
    np.testing.assert_allclose(roomy.score_samples(X), scores, rtol=1e-5)
    assert max(Cramped.sizes) > 20
    cramped = clone(roomy).fit(digits[0][:500])
    assert cramped.score(X) == pytest.approx(roomy.score(X), abs=1e-3)


@pytest.mark.filterwarnings("ignore:The device has no room for a batch")
def test_a_device_too_small_for_one_row_raises_memory_error(digits, monkeypatch):
    X = digits[0][:300]
    model = brief(device="cpu", encoder=Cramped, linear_path=False).fit(X)
    monkeypatch.setattr(Cramped, "most_rows", 0)
    sentence = r"device='cpu' has no room for transform: .* GB are free and one step needs 2.00"
    with pytest.raises(MemoryError, match=sentence):
        model.transform(X)


def rows_whose_directions_are(how, digits):
    """Rows of which the principal directions are found in this way."""
    X = np.tile(digits[0][:100], (1, 20)) if "gram" in how else digits[0][:800]
    X = X + 1e-3 * np.random.default_rng(0).normal(size=X.shape) * (X > 0)
    if how == "krylov":
        return sp.random(650, 17_000, 0.002, "csr", random_state=np.random.default_rng(0))
    if how == "blocks":
        return da.from_array(X, chunks=(400, -1))
    return sp.csr_matrix(X) if "sparse" in how else X


class WithoutFloat64(TorchDispatchMode):
    """Refuses float64 on a CUDA device, as Apple's devices do."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        results = func(*args, **(kwargs or {}))
        for result in results if isinstance(results, (tuple, list)) else [results]:
            if isinstance(result, torch.Tensor) and result.is_cuda:
                assert result.dtype != torch.float64, f"{func} gives float64"
        return results


@gpu
@pytest.mark.parametrize("how", ["exact", "gram", "krylov", "plain", "pictures"])
def test_a_device_without_float64_never_gets_float64(digits, how, monkeypatch):
    without = replace(device_module._KINDS["cuda"], has_float64=lambda device: False)
    monkeypatch.setitem(device_module._KINDS, "cuda", without)
    X = rows_whose_directions_are(how, digits)
    model = brief(device="cuda", linear_path=how != "plain")
    if how == "pictures":
        model = ConvAutoencoder(4, input_shape=(8, 8), channels=(4,), max_epochs=1, device="cuda")
    weights = np.linspace(1, 2, X.shape[0])
    with WithoutFloat64():
        model.fit(X, sample_weight=weights)
        Z = model.transform(X)
        model.inverse_transform(Z)
        assert -0.1 < model.score(X) < 1  # plain networks have not learnt in two epochs
    assert Z.dtype == np.float64


class WithRoomFor(TorchDispatchMode):
    """Refuses tensors of more bytes on a CUDA device."""

    def __init__(self, n_bytes):
        super().__init__()
        self.n_bytes, self.refused = n_bytes, []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        results = func(*args, **(kwargs or {}))
        is_new = func._schema.returns and func._schema.returns[0].alias_info is None
        for result in results if isinstance(results, (tuple, list)) else [results]:
            is_there = is_new and isinstance(result, torch.Tensor) and result.is_cuda
            if is_there and result.nbytes > self.n_bytes:
                self.refused.append(result.nbytes)
                raise torch.OutOfMemoryError("Tried to allocate 2.00 GiB.")
        return results


@gpu
@pytest.mark.parametrize(
    ("how", "weighted"),
    [("exact", True), ("gram", False), ("sparse gram", True), ("blocks", False)],
)
def test_directions_are_found_in_pieces_or_there_is_a_sentence(digits, how, weighted):
    X = rows_whose_directions_are(how, digits)
    weights = np.linspace(1, 2, X.shape[0]) if weighted else None
    linear = brief(device="cuda", hidden_layer_sizes=())
    expected = linear.fit(X, sample_weight=weights).components_
    # Room for the directions and a matrix of the shorter side, not for X.
    side = min(X.shape)
    with WithRoomFor(8 * max(side**2, 16 * X.shape[1])) as room:
        found = linear.fit(X, sample_weight=weights).components_
    # Blocks of a dask array are multiplied by its workers, which ask for their own device.
    assert len(room.refused) > 1 or how == "blocks"
    np.testing.assert_allclose(found, expected, atol=1e-6)
    unfitted = brief(device="cuda")
    sentence = r"device='cuda' has no room for fit: .* GB are free and one step needs 2.00"
    with WithRoomFor(8), pytest.raises(MemoryError, match=sentence):
        unfitted.fit(X)
    assert not hasattr(unfitted, "mean_")


@gpu
@pytest.mark.parametrize("how", ["exact", "krylov", "plain", "pictures"])
def test_the_same_seed_gives_the_same_bits_on_a_device(digits, how):
    X = rows_whose_directions_are(how, digits)
    model = brief(device="cuda", linear_path=how != "plain")
    if how == "pictures":
        model = ConvAutoencoder(4, input_shape=(8, 8), channels=(4,), max_epochs=1, device="cuda")
        model.set_params(random_state=0)
    with torch.backends.cudnn.flags(deterministic=True):  # for the gradients of convolutions
        first, second = (model.fit(X).transform(X) for _ in range(2))
    np.testing.assert_array_equal(first, second)
