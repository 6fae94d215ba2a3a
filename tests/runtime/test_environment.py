"""What a user has set around a call, in torch or NumPy, changes no code and is there afterwards."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from copy import copy, deepcopy
from functools import partial
from threading import Event, Thread

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

import skae
from skae import ConvAutoencoder, DenseAutoencoder
from skae._runtime import execution as execution_module
from skae._runtime.execution import neutral_settings


def surroundings():
    """All that a call might leave changed."""
    try:
        precision = torch.get_float32_matmul_precision()
    except RuntimeError:
        precision = None
    return {
        "autocast": [torch.is_autocast_enabled(kind) for kind in ("cpu", "cuda")],
        "autocast dtype": torch.get_autocast_dtype("cpu"),
        "device": torch.get_default_device(),
        "dtype": torch.get_default_dtype(),
        "precision": precision,
        "grad": torch.is_grad_enabled(),
        "inference": torch.is_inference_mode_enabled(),
        "errors": np.geterr(),
        "random": torch.get_rng_state().tolist(),
        "numpy random": np.random.get_state()[1].tolist(),
        "threads": torch.get_num_threads(),
        "modes": torch._C._len_torch_dispatch_stack(),
    }


@contextmanager
def default_dtype(dtype):
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


@contextmanager
def default_device(device):
    torch.set_default_device(device)
    try:
        yield
    finally:
        torch.set_default_device(None)


@contextmanager
def matmul_precision(precision):
    torch.set_float32_matmul_precision(precision)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision("highest")


AROUND = {
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "autocast float16": lambda: torch.autocast("cpu", torch.float16),
    "default device": lambda: default_device("meta"),
    "with device": lambda: torch.device("meta"),
    "float64": lambda: default_dtype(torch.float64),
    "float16": lambda: default_dtype(torch.float16),
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "errors raise": lambda: np.errstate(all="raise"),
}


# One of each kind of setting; the slow tests have all.
_MOST_DIFFERENT = ("autocast", "default device", "float64", "inference_mode")
_SETTINGS = [
    around if around in _MOST_DIFFERENT else pytest.param(around, marks=pytest.mark.slow)
    for around in AROUND
]


class Own(nn.Module):
    """A custom encoder."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(64, 4)

    def forward(self, x):
        return self.layer(x)


# In these epochs networks come to be worth keeping.
LONG = {"hidden_layer_sizes": (64,), "max_epochs": 16, "random_state": 0}
BRIEF = {"max_epochs": 2, "random_state": 0}
MODELS = {
    "linear path": lambda: DenseAutoencoder(4, whiten=True, truncations=(2,), **LONG),
    "plain": lambda: DenseAutoencoder(
        4, hidden_layer_sizes=(16,), linear_path=False, loss="poisson", **BRIEF
    ),
    "variational": lambda: DenseAutoencoder(
        4, hidden_layer_sizes=(16,), linear_path=False, penalty="variational", **BRIEF
    ),
    "ordered": lambda: DenseAutoencoder(
        4,
        hidden_layer_sizes=(16,),
        linear_path=False,
        truncations=(2,),
        penalty="contractive",
        **BRIEF,
    ),
    "own": lambda: DenseAutoencoder(
        4, encoder=_OWN, hidden_layer_sizes=(16,), linear_path=False, **BRIEF
    ),
    "share": lambda: DenseAutoencoder(0.5, hidden_layer_sizes=(), **BRIEF),
    "pictures": lambda: ConvAutoencoder(
        4, input_shape=(8, 8), channels=(4,), hidden_layer_sizes=(8,), **BRIEF
    ),
    "plain pictures": lambda: ConvAutoencoder(
        4, input_shape=(8, 8), channels=(4,), bottleneck="channels", linear_path=False, **BRIEF
    ),
}
with torch.random.fork_rng(devices=[]):
    torch.manual_seed(0)
    _OWN = Own()


def answers(make, X, new, folder):
    """All that the public methods return."""
    model = make().fit(X)
    assert model.get_params()["max_epochs"] == 2 or model.nonlinear_gain_ > 0
    skae.save(model, folder / "model") if model.get_params().get("encoder") is None else None
    Z = model.transform(new)
    results = [Z, model.inverse_transform(Z), model.score_samples(new), model.score(new)]
    results.append(make().fit_transform(X[:300]))
    if (folder / "model").exists():
        results.append(skae.load(folder / "model").transform(new))
    if model.get_params()["penalty"] == "variational":
        results.append(model.sample(3, random_state=0))
    if model.get_params()["truncations"] is not None:
        results.append(model.truncate(2).transform(new))
    module = skae.to_torch(model)
    with neutral_settings():
        results.append(module(torch.from_numpy(new)).numpy())
    return results


@pytest.fixture(scope="module")
def expected(digits, tmp_path_factory):
    """The same with nothing set, for each model."""
    known = {}

    def of(name):
        if name not in known:
            folder = tmp_path_factory.mktemp("plain")
            known[name] = answers(MODELS[name], digits[0][:600], digits[1][:50], folder)
        return known[name]

    return of


@pytest.mark.parametrize("model", list(MODELS))
@pytest.mark.parametrize("around", _SETTINGS)
def test_settings_around_a_call_change_no_bit(digits, tmp_path, expected, model, around):
    wanted = expected(model)
    X, new = digits[0][:600], digits[1][:50]
    with AROUND[around]():
        before = surroundings()
        found = answers(MODELS[model], X, new, tmp_path)
        assert surroundings() == before
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("model", ["linear path", "plain", "plain pictures"])
@pytest.mark.parametrize(
    "around",
    [lambda: torch.autocast("cuda", torch.bfloat16), lambda: default_device("cuda")],
    ids=["autocast", "default device"],
)
def test_settings_for_a_gpu_change_no_bit(digits, tmp_path, expected, model, around):
    wanted = expected(model)  # device="auto" is the GPU
    with around():
        before = surroundings()
        found = answers(MODELS[model], digits[0][:600], digits[1][:50], tmp_path)
        assert surroundings() == before
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(one, other)


def codes_of_stream(X, new):
    model = DenseAutoencoder(4, hidden_layer_sizes=(64,), random_state=0, precision="bfloat16")
    for part in np.array_split(np.tile(X, (4, 1)), 4):
        model.partial_fit(part)
    assert model.nonlinear_gain_ > 0
    return model.transform(new)


@pytest.fixture(scope="module")
def expected_of_stream(digits):
    return codes_of_stream(*digits[:2])


@pytest.mark.parametrize("around", _SETTINGS)
def test_settings_around_partial_fit_change_no_bit(digits, expected_of_stream, around):
    with AROUND[around]():
        before = surroundings()
        found = codes_of_stream(*digits[:2])
        assert surroundings() == before
    np.testing.assert_array_equal(found, expected_of_stream)


@pytest.mark.parametrize("around", list(AROUND))
def test_settings_are_restored_after_an_error(digits, around):
    model = DenseAutoencoder(4, encoder=lambda n, k: nn.Linear(n, k + 1), hidden_layer_sizes=(8,))
    with AROUND[around]():
        before = surroundings()
        with pytest.raises(ValueError, match="encoder must turn"):
            model.fit(digits[0])
        assert surroundings() == before


@pytest.mark.parametrize("around", ["autocast", "default device", "inference_mode", "float64"])
def test_networks_made_with_other_settings_fit(digits, around):
    with AROUND[around]() if around != "default device" else torch.no_grad():
        own = Own()
        model = DenseAutoencoder(
            4, encoder=own, linear_path=False, hidden_layer_sizes=(8,), **BRIEF
        )
        model.fit(digits[0][:300])
        # Again outside of it: nothing is left that cannot learn.
        again = copy(model)
    again.set_params(warm_start=True).fit(digits[0][:300])
    assert np.isfinite(again.transform(digits[1])).all()


@pytest.mark.parametrize("precision", ["high", "medium"])
def test_rounded_products_do_not_change_codes(digits, precision):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(2500, 2400)).astype(np.float32) * 0.97 ** np.arange(2400, dtype=np.float32)
    pca = DenseAutoencoder(8, hidden_layer_sizes=(), random_state=0)
    wanted = pca.fit(X).transform(X)
    with matmul_precision(precision):
        found = pca.fit(X).transform(X)
        assert torch.get_float32_matmul_precision() == precision
    np.testing.assert_allclose(found, wanted, atol=1e-4 * np.abs(wanted).max())


@pytest.mark.parametrize("graph", [torch.inference_mode, torch.enable_grad])
def test_products_are_not_rounded(graph):
    generator = torch.Generator().manual_seed(0)
    a, b, c = (torch.randn(900, 900, generator=generator) for _ in range(3))
    exact = (a.double() @ b.double()).float()
    added = (c.double() + a.double() @ b.double()).float()
    # Rounded factors differ by 1e-3; each way to multiply may sum in another order.
    close = partial(torch.testing.assert_close, rtol=1e-5, atol=1e-5)
    with matmul_precision("medium"), neutral_settings(), graph():
        for product in (a @ b, torch.mm(a, b), torch.einsum("ij,jk->ik", a, b)):
            close(product, exact)
        close(torch.mm(a, b, out=torch.empty(900, 900)), exact)
        close(nn.functional.linear(a, b.T), exact)
        close(torch.bmm(a[None], b[None])[0], exact)
        close(torch.addmm(c, a, b), added)
        close(c.clone().addmm_(a, b), added)
        assert (a.double() @ b.double()).dtype == torch.float64


class RoundedConvolutions(TorchDispatchMode):
    """Rounds the factors of convolutions of float32 to TF32, as CUDA devices do by default."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.overloadpacket is not torch.ops.aten.convolution:
            with self:
                result = func.decompose(*args, **(kwargs or {}))
            return func(*args, **(kwargs or {})) if result is NotImplemented else result
        if args[0].dtype == torch.float32:
            args = (*(execution_module._split(factor)[0] for factor in args[:2]), *args[2:])
        return func(*args, **(kwargs or {}))


def test_rounding_and_the_rest_add_up():
    x = torch.randn(1000, generator=torch.Generator().manual_seed(0)) * 2.0 ** torch.arange(
        -50, 50, 0.1
    )
    nearest, rest = execution_module._split(x)
    assert torch.equal(nearest + rest, x)
    assert (rest.abs() <= 2.0**-11 * x.abs()).all()
    assert not (nearest.view(torch.int32) & (2**13 - 1)).any()


@pytest.mark.parametrize("graph", [torch.inference_mode, torch.no_grad])
@pytest.mark.parametrize("kind", [nn.Conv2d, nn.ConvTranspose2d])
def test_convolutions_in_parts_are_not_rounded(kind, graph, monkeypatch):
    x = torch.randn(4, 16, 20, 20, generator=torch.Generator().manual_seed(0))
    layer = kind(16, 8, 5, stride=2, padding=2)
    with torch.no_grad():
        exact = deepcopy(layer).double()(x.double())
    unit = float(exact.abs().max())
    with RoundedConvolutions(), graph():
        rounded = layer(x)
        with execution_module._FullPrecisionConvolutions():
            on_cpu = layer(x)  # in float64
        monkeypatch.setattr(execution_module, "_is_on_cpu", lambda tensor: False)
        with execution_module._FullPrecisionConvolutions():
            in_parts = layer(x)
    assert (rounded - exact).abs().max() > 5e-5 * unit
    assert (on_cpu - exact).abs().max() < 1e-6 * unit
    assert (in_parts - exact).abs().max() < 1e-6 * unit


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("linear_path", [True, False])
def test_rounded_convolutions_do_not_change_codes(digits, linear_path):
    X = digits[0][:300].reshape(-1, 8, 8).astype(np.float32)
    model = ConvAutoencoder(4, channels=(4,), linear_path=linear_path, device="cuda", **BRIEF)
    Z = model.fit(X).transform(X)
    X_hat = model.inverse_transform(Z)
    allowed = torch.backends.cudnn.allow_tf32
    assert allowed
    with RoundedConvolutions():
        np.testing.assert_allclose(model.transform(X), Z, atol=2e-6 * np.abs(Z).max())
        np.testing.assert_allclose(model.inverse_transform(Z), X_hat, atol=2e-6 * X_hat.max())
    assert torch.backends.cudnn.allow_tf32 == allowed


@pytest.mark.parametrize("setting", ["tf32", "bf16"])
def test_convolutions_that_a_cpu_may_round_do_not_change_codes(digits, setting):
    settings = getattr(torch.backends.mkldnn, "conv", None)
    if settings is None:
        pytest.skip("this version of torch has no such setting")
    X = digits[0][:100].reshape(-1, 8, 8).astype(np.float32)
    model = ConvAutoencoder(4, channels=(4,), device="cpu", **BRIEF).fit(X)
    Z, before = model.transform(X), settings.fp32_precision
    settings.fp32_precision = setting
    try:
        with RoundedConvolutions():
            found = model.transform(X)
        assert settings.fp32_precision == setting
    finally:
        settings.fp32_precision = before
    np.testing.assert_allclose(found, Z, atol=2e-6 * np.abs(Z).max())


def test_onnx_export_with_other_settings(digits):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("skl2onnx")
    X = digits[0].astype(np.float32)
    model = DenseAutoencoder(4, hidden_layer_sizes=(16,), **BRIEF).fit(X)
    with torch.autocast("cpu", torch.bfloat16), torch.inference_mode(), torch.device("meta"):
        graph = skae.to_onnx(model, X)
    session = onnxruntime.InferenceSession(graph.SerializeToString())
    codes = session.run(["codes"], {"X": X})[0]
    np.testing.assert_allclose(codes, model.transform(X), atol=1e-3)


@pytest.mark.slow
def test_transform_while_another_thread_refits_gives_old_codes_or_new_ones(digits):
    X, new = digits[0][:400], digits[1][:20]
    short, long = (DenseAutoencoder(k, hidden_layer_sizes=(8,), **BRIEF).fit(X) for k in (3, 6))
    known = {3: short.transform(new), 6: long.transform(new)}
    model, stop, wrong = copy(short), Event(), []

    def watch():
        while not stop.is_set():
            try:
                codes = model.transform(new)
                if not np.array_equal(codes, known[codes.shape[1]]):
                    wrong.append("a mixture")
                model.score_samples(new)
            except Exception as error:
                wrong.append(repr(error))

    watchers = [Thread(target=watch) for _ in range(3)]
    for watcher in watchers:
        watcher.start()
    for k in (6, 3, 6, 3, 6):
        model.set_params(latent_dim=k).fit(X)
    stop.set()
    for watcher in watchers:
        watcher.join()
    assert not wrong
    np.testing.assert_array_equal(model.transform(new), known[6])


def test_four_threads_may_fit_one_object(digits):
    X = digits[0][:400]
    model = DenseAutoencoder(4, hidden_layer_sizes=(8,), **BRIEF)
    with ThreadPoolExecutor(4) as pool:
        codes = list(pool.map(lambda _: model.fit(X).transform(X), range(8)))
    for one in codes:
        np.testing.assert_array_equal(one, codes[0])


class Decoder(nn.Module):
    """A custom decoder, during which another thread may leave autocast."""

    def __init__(self, interrupted):
        super().__init__()
        self.interrupted = interrupted
        self.layer = nn.Linear(4, 64)

    def forward(self, z):
        if self.interrupted:
            torch.clear_autocast_cache()  # as a thread does that leaves autocast
        return self.layer(z)


def test_autocast_in_another_thread_changes_no_bit(digits):
    codes = []
    for interrupted in (False, True):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            decoder = Decoder(interrupted)
        # Codes that may be cut decode with the same weights several times in one step.
        model = DenseAutoencoder(
            4,
            decoder=decoder,
            hidden_layer_sizes=(16,),
            linear_path=False,
            truncations=(1, 2),
            precision="bfloat16",
            **BRIEF,
        )
        codes.append(model.fit(digits[0][:600]).transform(digits[1]))
    np.testing.assert_array_equal(*codes)
