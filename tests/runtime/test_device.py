"""Devices: which ones are accepted, and what a fit does where one has little memory or no float64.

Those marked gpu run on any CUDA device.
"""

from dataclasses import replace

import dask.array as da
import numpy as np
import pytest
import scipy.sparse as sp
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from skae import ConvAutoencoder, DenseAutoencoder
from skae._data import rows as rows_module
from skae._estimators.codec import PrincipalCodec
from skae._pca import solvers as solvers_module
from skae._runtime import device as device_module
from skae._runtime import tensors as tensors_module
from skae._training.net import AutoencoderNet
from skae._training.residual import ScoresProblem


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


def test_fits_agree_where_a_device_has_no_float64(digits, monkeypatch):
    expected = brief(device="cpu").fit(digits[0])
    without = replace(device_module._KINDS["cpu"], has_float64=lambda device: False)
    monkeypatch.setitem(device_module._KINDS, "cpu", without)
    narrow = brief(device="cpu").fit(digits[0])
    assert narrow.components_.dtype == np.float32
    assert narrow.transform(digits[1]).dtype == np.float64
    assert narrow.score(digits[1]) == pytest.approx(expected.score(digits[1]), abs=0.02)
    # One that was fitted in float64 works there too, in float32.
    np.testing.assert_allclose(
        expected.inverse_transform(expected.transform(digits[1])),
        narrow.inverse_transform(narrow.transform(digits[1])),
        atol=2.0,
    )


@pytest.mark.parametrize(
    ("lacking", "expected"), [(None, "xpu"), ("float64", "cpu"), ("training", "cpu")]
)
def test_auto_is_the_accelerator_if_it_can_do_the_work(lacking, expected, monkeypatch):
    accelerator = torch.device("xpu")
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: accelerator)
    kind = device_module.DeviceKind(
        is_available=lambda: True, has_float64=lambda device: lacking != "float64"
    )
    monkeypatch.setitem(device_module._KINDS, "xpu", kind)
    monkeypatch.setattr(device_module, "_computes", lambda *arguments: lacking != "training")
    assert device_module.resolve_device("auto") == torch.device(expected)
    assert "xpu" in device_module.autocast_kinds()
    missing = replace(kind, is_available=lambda: False)
    monkeypatch.setitem(device_module._KINDS, "xpu", missing)
    assert device_module.resolve_device("auto") == torch.device("cpu")


def test_auto_is_the_cpu_without_an_accelerator(monkeypatch):
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: None)
    assert device_module.resolve_device("auto") == torch.device("cpu")


def test_a_device_without_memory_is_not_taken_for_one_that_cannot_compute():
    def fail(device):
        raise torch.OutOfMemoryError("Tried to allocate 2.00 GiB.")

    assert device_module._computes(fail, torch.device("cpu"))


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("MPS backend out of memory (MPS allocated: 9 GB)", True),
        ("CUDA error: out of memory", True),
        ("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`", True),
        ("CUDA error: an illegal memory access was encountered", False),
    ],
)
def test_messages_of_devices_without_memory_are_recognized(message, expected):
    assert device_module.is_out_of_memory(RuntimeError(message)) is expected


class WithoutSparse(TorchDispatchMode):
    """Refuses products with sparse rows on a CUDA device."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if "embedding_bag" in func.name() and args[0].is_cuda:
            raise NotImplementedError("not implemented for this device")
        return func(*args, **(kwargs or {}))


@gpu
def test_sparse_rows_are_multiplied_on_the_cpu_where_a_device_cannot(digits, monkeypatch):
    X = sp.csr_matrix(digits[0])
    monkeypatch.setattr(solvers_module, "_EXACT_SIDE", 8)
    expected = brief(device="cuda").fit(X)
    tried = replace(
        device_module._KINDS["cuda"],
        multiplies_sparse=lambda device: device_module._computes(device_module._embed, device),
    )
    monkeypatch.setitem(device_module._KINDS, "cuda", tried)
    device_module._computes.cache_clear()
    try:
        with WithoutSparse():
            assert device_module.sparse_device(torch.device("cuda")) == torch.device("cpu")
            model = brief(device="cuda").fit(X)
            Z = model.transform(X)
    finally:
        device_module._computes.cache_clear()
    np.testing.assert_allclose(Z, expected.transform(X), atol=1e-2 * np.abs(Z).max())


class WithoutFloat64(TorchDispatchMode):
    """Refuses float64 on a CUDA device, as Apple's devices do."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        results = func(*args, **(kwargs or {}))
        for result in results if isinstance(results, (tuple, list)) else [results]:
            if isinstance(result, torch.Tensor) and result.is_cuda:
                assert result.dtype != torch.float64, f"{func} gives float64"
        return results


@gpu
@pytest.mark.parametrize("how", ["exact", "gram", "krylov", "sparse", "plain", "pictures"])
def test_a_device_without_float64_never_gets_float64(digits, how, monkeypatch):
    without = replace(device_module._KINDS["cuda"], has_float64=lambda device: False)
    monkeypatch.setitem(device_module._KINDS, "cuda", without)
    X = digits[0][:60] if how == "gram" else digits[0]
    X = sp.csr_matrix(X) if how == "sparse" else X
    if how == "krylov":
        monkeypatch.setattr(solvers_module, "_EXACT_SIDE", 8)
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


@gpu
@pytest.mark.parametrize(
    ("kind", "parameters"),
    [
        ("dense", {"memory": True}),
        ("sparse", {"whiten": True, "truncations": "auto"}),
        ("wide", {}),
        ("wide sparse", {"latent_dim": 0.8}),
        ("weighted", {}),
        ("blocks", {"hidden_layer_sizes": ()}),
    ],
)
def test_scores_too_large_for_a_device_stay_on_the_cpu(
    digits, kind, parameters, monkeypatch, tmp_path
):
    parameters = {**parameters, "device": "cuda"}
    if "memory" in parameters:
        parameters["memory"] = str(tmp_path)
    X, weights = digits[0], None
    if "wide" in kind:
        X = np.tile(X[:150], (1, 4))
    if "sparse" in kind:
        X = sp.csr_matrix(X)
    if kind == "weighted":
        weights = np.linspace(1, 2, len(X))
    if kind == "blocks":
        X = da.from_array(X, chunks=(600, -1))
    expected = brief(**parameters).fit(X, sample_weight=weights)
    monkeypatch.setattr(tensors_module, "_LARGE", 2**8)
    monkeypatch.setattr(tensors_module, "_SHARE_OF_DEVICE", 0.0)
    model = brief(**parameters).fit(X, sample_weight=weights)
    X = digits[1] if "wide" not in kind else np.tile(digits[1], (1, 4))
    np.testing.assert_allclose(
        model.transform(X), expected.transform(X), atol=1e-3 * np.abs(X).max()
    )
    assert model.score(X) == pytest.approx(expected.score(X), abs=1e-4)


def needing_room(function, most, count):
    """The function where there is room for ``most`` rows, which ``count`` takes from arguments."""

    def limited(*args, **kwargs):
        if count(*args) > most:
            raise torch.OutOfMemoryError("Tried to allocate 2.00 GiB.")
        return function(*args, **kwargs)

    return limited


def test_rows_are_encoded_in_pieces_that_fit(digits, monkeypatch):
    model = brief().fit(digits[0])
    X = digits[1]
    Z, X_hat, scores = model.transform(X), None, model.score_samples(X)
    X_hat = model.inverse_transform(Z)
    for name in ("encode", "decode", "errors"):
        method = getattr(PrincipalCodec, name)
        limited = needing_room(method, 100, lambda codec, rows: len(rows))
        monkeypatch.setattr(PrincipalCodec, name, limited)
    np.testing.assert_allclose(model.transform(X), Z, atol=1e-9)
    np.testing.assert_allclose(model.inverse_transform(Z), X_hat, atol=1e-9)
    np.testing.assert_allclose(model.score_samples(X), scores, atol=1e-6)


@pytest.mark.filterwarnings("ignore:The device has no room for a batch")
@pytest.mark.parametrize("step", ["training", "validation"])
def test_steps_use_parts_of_a_batch_that_fit(digits, step, monkeypatch):
    expected = brief().fit(digits[0])
    parts = []

    def count(net, x, *arguments):
        parts.append(len(x))
        return len(x) if net.module_.training == (step == "training") else 0

    limited = needing_room(AutoencoderNet.infer, 50, count)
    monkeypatch.setattr(AutoencoderNet, "infer", limited)
    model = brief().fit(digits[0])
    assert max(parts) > 50 > min(parts)
    assert model.score(digits[1]) == pytest.approx(expected.score(digits[1]), abs=1e-3)


def test_batches_are_loaded_in_pieces_that_fit(digits, monkeypatch):
    expected = brief().fit(digits[0]).transform(digits[1])
    sizes = []

    def count(problem, indices):
        sizes.append(len(indices))
        return len(indices)

    limited = needing_room(ScoresProblem.get_batch, 50, count)
    monkeypatch.setattr(ScoresProblem, "get_batch", limited)
    np.testing.assert_array_equal(brief().fit(digits[0]).transform(digits[1]), expected)
    assert max(sizes) > 50


@pytest.mark.filterwarnings("ignore:The device has no room for a batch")
def test_a_device_too_small_for_one_row_raises_memory_error(digits, monkeypatch):
    model = brief(device="cpu").fit(digits[0])
    for where in (AutoencoderNet, "infer"), (PrincipalCodec, "encode"):
        limited = needing_room(getattr(*where), 0, lambda *arguments: len(arguments[-1]))
        monkeypatch.setattr(*where, limited)
    sentence = (
        r"device='cpu' has no room for (fit|transform): .* GB are free and one step needs 2.00"
    )
    unfitted = brief(device="cpu")
    with pytest.raises(MemoryError, match=sentence):
        unfitted.fit(digits[0])
    assert not hasattr(unfitted, "mean_")
    with pytest.raises(MemoryError, match=sentence):
        model.transform(digits[1])


@gpu
@pytest.mark.parametrize("kind", [DenseAutoencoder, ConvAutoencoder])
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_a_default_device_changes_no_bit(digits, kind, device):
    X = digits[0][:300].reshape(-1, 8, 8) if kind is ConvAutoencoder else digits[0]

    def codes():
        model = kind(4, device=device, max_epochs=2, random_state=0).fit(X)
        return model.inverse_transform(model.transform(X))

    expected = codes()
    torch.set_default_device("cuda")
    try:
        with torch.autocast("cuda", torch.bfloat16):
            np.testing.assert_array_equal(codes(), expected)
        assert torch.get_default_device().type == "cuda"
    finally:
        torch.set_default_device(None)


@gpu
def test_memory_reserved_by_torch_counts_as_free(monkeypatch):
    device = torch.device("cuda")
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (100, 1000))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 50)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 20)
    assert device_module.free_bytes(device) == 130


DIRECTIONS = ["exact", "gram", "krylov", "sparse gram", "sparse krylov", "blocks"]


def rows_whose_directions_are(how, digits, monkeypatch):
    """Rows of which the principal directions are found in this way."""
    X = np.tile(digits[0][:100], (1, 20)) if "gram" in how else digits[0]
    X = X + 1e-3 * np.random.default_rng(0).normal(size=X.shape) * (X > 0)
    if "krylov" in how:
        monkeypatch.setattr(solvers_module, "_EXACT_SIDE", 8)
    if how == "blocks":
        return da.from_array(X, chunks=(600, -1))
    return sp.csr_matrix(X) if "sparse" in how else X


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
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("how", DIRECTIONS)
def test_directions_are_found_in_pieces_for_which_there_is_room(digits, how, weighted, monkeypatch):
    X = rows_whose_directions_are(how, digits, monkeypatch)
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


@gpu
@pytest.mark.parametrize("how", DIRECTIONS)
def test_directions_that_a_device_has_no_room_for_get_a_sentence(digits, how, monkeypatch):
    X = rows_whose_directions_are(how, digits, monkeypatch)
    unfitted = brief(device="cuda")
    sentence = r"device='cuda' has no room for fit: .* GB are free and one step needs 2.00"
    with WithRoomFor(8), pytest.raises(MemoryError, match=sentence):
        unfitted.fit(X)
    assert not hasattr(unfitted, "mean_")


@gpu
def test_sparse_rows_are_multiplied_in_narrow_panels_where_there_is_no_room():
    X = sp.random(40, 3000, density=0.02, format="csr", random_state=0)
    rows = rows_module.rows_of(X, dtype=torch.float64, device="cuda")
    W = torch.randn(70, 3000, dtype=torch.float64, device="cuda").T
    expected = (X - X.mean(axis=0)) @ W.cpu().numpy()
    with WithRoomFor(8 * 3000 * 20) as room:
        product = rows.times(W)
    assert room.refused == [8 * 3000 * width for width in (70, 64, 32)]
    np.testing.assert_allclose(product.cpu(), expected, atol=1e-9)


@gpu
@pytest.mark.parametrize("how", ["exact", "sparse krylov", "plain", "pictures"])
def test_the_same_seed_gives_the_same_bits_on_a_device(digits, how, monkeypatch):
    X = rows_whose_directions_are(how, digits, monkeypatch)
    model = brief(device="cuda", linear_path=how != "plain")
    if how == "pictures":
        model = ConvAutoencoder(4, input_shape=(8, 8), channels=(4,), max_epochs=1, device="cuda")
        model.set_params(random_state=0)
    with torch.backends.cudnn.flags(deterministic=True):  # for the gradients of convolutions
        first, second = (model.fit(X).transform(X) for _ in range(2))
    np.testing.assert_array_equal(first, second)


@gpu
def test_tensors_are_measured_in_pieces_for_which_there_is_room(digits):
    X = torch.from_numpy(digits[0]).float()
    weights = np.linspace(0.5, 1.5, len(X))
    rows = rows_module.rows_of(X.numpy(), weights=weights)
    with WithRoomFor(8 * 64 * 700) as room:
        tensors = rows_module.rows_of(X.cuda(), weights=weights, device="cuda")
        mean, norms = tensors.mean, tensors.squared_norms()
    assert len(room.refused) == 2
    np.testing.assert_allclose(mean, rows.mean, atol=1e-12)
    np.testing.assert_allclose(norms, rows.squared_norms(), rtol=1e-12)
