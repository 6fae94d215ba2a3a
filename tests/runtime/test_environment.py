"""What a user has set around a call, in torch or NumPy, changes no code and is there afterwards."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from copy import copy
from itertools import product
from threading import Event, Thread

import numpy as np
import pytest
import torch
from skorch.callbacks import Callback
from torch import nn

import skae
from skae import ConvAutoencoder, DenseAutoencoder
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


# Those that can be set at the same time; the others are tried with one model each.
TOGETHER = ("autocast", "default device", "float64", "inference_mode", "errors raise")
ALONE = [around for around in AROUND if around not in TOGETHER]


@contextmanager
def all_set():
    with ExitStack() as stack:
        for around in TOGETHER:
            stack.enter_context(AROUND[around]())
        yield


class Own(nn.Module):
    """A custom encoder."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(64, 4)

    def forward(self, x):
        return self.layer(x)


# In these epochs networks come to be worth keeping.
LONG = {"hidden_layer_sizes": (64,), "max_epochs": 12, "random_state": 0}
BRIEF = {"max_epochs": 2, "random_state": 0}
MODELS = {
    "linear path": lambda: DenseAutoencoder(4, whiten=True, truncations=(2,), **LONG),
    "ordered": lambda: DenseAutoencoder(
        4,
        hidden_layer_sizes=(16,),
        linear_path=False,
        truncations=(2,),
        penalty="variational",
        **BRIEF,
    ),
    "own": lambda: DenseAutoencoder(
        4, encoder=_OWN, hidden_layer_sizes=(16,), linear_path=False, **BRIEF
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
    if hasattr(model, "sample"):
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
            known[name] = answers(MODELS[name], digits[0][:500], digits[1][:50], folder)
        return known[name]

    return of


@pytest.mark.parametrize(
    ("model", "around"),
    [(model, all_set) for model in MODELS]
    + [("plain pictures", AROUND[around]) for around in ALONE],
    ids=[*MODELS, *ALONE],
)
def test_settings_around_a_call_change_no_bit(digits, tmp_path, expected, model, around):
    wanted = expected(model)
    X, new = digits[0][:500], digits[1][:50]
    with around():
        before = surroundings()
        found = answers(MODELS[model], X, new, tmp_path)
        assert surroundings() == before
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("model", ["own", "plain pictures"])
def test_settings_for_a_gpu_change_no_bit(digits, tmp_path, expected, model):
    wanted = expected(model)  # device="auto" is the GPU
    with torch.autocast("cuda", torch.bfloat16), default_device("cuda"):
        before = surroundings()
        found = answers(MODELS[model], digits[0][:500], digits[1][:50], tmp_path)
        assert surroundings() == before
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(one, other)


def codes_of_stream(X, new):
    model = DenseAutoencoder(4, hidden_layer_sizes=(64,), random_state=0, precision="bfloat16")
    for part in np.array_split(np.tile(X, (4, 1)), 4):
        model.partial_fit(part)
    assert model.nonlinear_gain_ > 0
    return model.transform(new)


@pytest.mark.slow
def test_settings_around_partial_fit_change_no_bit(digits):
    expected = codes_of_stream(*digits[:2])
    with all_set():
        before = surroundings()
        found = codes_of_stream(*digits[:2])
        assert surroundings() == before
    np.testing.assert_array_equal(found, expected)


def test_settings_are_restored_after_an_error(digits):
    model = DenseAutoencoder(4, encoder=lambda n, k: nn.Linear(n, k + 1), hidden_layer_sizes=(8,))
    for around in AROUND.values():
        with around():
            before = surroundings()
            with pytest.raises(ValueError, match="encoder must turn"):
                model.fit(digits[0])
            assert surroundings() == before


@pytest.mark.parametrize("around", ["inference_mode", "float64"])
def test_networks_made_with_other_settings_fit(digits, around):
    with AROUND[around]():
        model = DenseAutoencoder(
            4, encoder=Own(), linear_path=False, hidden_layer_sizes=(8,), **BRIEF
        )
        model.fit(digits[0][:300])
        # Again outside of it: nothing is left that cannot learn.
        again = copy(model)
    again.set_params(warm_start=True).fit(digits[0][:300])
    assert np.isfinite(again.transform(digits[1])).all()


def precisions():
    """torch's settings that round factors of float32, older and newer."""
    found = {}
    for name, get in {
        "products": torch.get_float32_matmul_precision,
        "cudnn": lambda: torch.backends.cudnn.allow_tf32,
    }.items():
        try:
            found[name] = get()
        except RuntimeError:  # newer ones are set
            found[name] = "mixed"
    for library, operation in product(("cudnn", "mkldnn", "cuda"), ("conv", "rnn", "matmul")):
        part = getattr(getattr(torch.backends, library), operation, None)
        found[library, operation] = getattr(part, "fp32_precision", None)
    return found


class Watch(Callback):
    """Notes the settings within a fit; may raise an error, or fit another model."""

    def __init__(self, then=lambda: None):
        self.then, self.seen = then, []

    def on_epoch_end(self, net, **kwargs):
        self.seen.append(precisions())
        self.then()


def fail():
    raise ZeroDivisionError


def set_products(precision):
    return lambda: torch.set_float32_matmul_precision(precision)


def set_newer(library, operation, precision):
    def set_it():
        part = getattr(getattr(torch.backends, library), operation, None)
        if not hasattr(part, "fp32_precision"):
            pytest.skip("this version of torch has no such setting")
        part.fp32_precision = precision

    return set_it


def set_all():
    if not hasattr(torch.backends, "fp32_precision"):
        pytest.skip("this version of torch has no such setting")
    torch.backends.fp32_precision = "tf32"


ROUNDING = {
    "medium": set_products("medium"),
    "mkldnn": set_newer("mkldnn", "matmul", "bf16"),
    "all": set_all,
}


@pytest.fixture
def restored_precisions():
    """Leaves torch's settings as they are when it is imported."""
    yield
    if hasattr(torch.backends, "fp32_precision"):
        torch.backends.fp32_precision = "none"
    torch.set_float32_matmul_precision("highest")
    for library in ("cuda", "mkldnn"):
        part = getattr(getattr(torch.backends, library), "matmul", None)
        if hasattr(part, "fp32_precision"):
            part.fp32_precision = "none"


@pytest.mark.parametrize("rounding", ROUNDING)
def test_products_are_not_rounded_in_a_fit(digits, rounding, restored_precisions):
    X, watch = digits[0][:300], Watch()
    model = DenseAutoencoder(
        4, hidden_layer_sizes=(8,), linear_path=False, callbacks=[watch], **BRIEF
    )
    wanted = model.fit(X).transform(X)
    ROUNDING[rounding]()
    before = precisions()
    watch.seen.clear()
    np.testing.assert_array_equal(model.fit(X).transform(X), wanted)
    assert precisions() == before
    products = [
        value
        for seen in watch.seen
        for name, value in seen.items()
        if name == "products" or "matmul" in name
    ]
    assert products
    assert not set(products) & {"high", "medium", "tf32", "bf16"}


def test_precision_is_restored_after_errors_nested_calls_and_in_threads(
    digits, restored_precisions
):
    X, inner = digits[0][:200], DenseAutoencoder(2, hidden_layer_sizes=())
    plain = DenseAutoencoder(2, hidden_layer_sizes=(8,), linear_path=False, **BRIEF)
    torch.set_float32_matmul_precision("high")
    before = precisions()
    with pytest.raises(ZeroDivisionError):
        plain.set_params(callbacks=[Watch(fail)]).fit(X)
    assert precisions() == before
    watch = Watch(lambda: inner.fit(X))
    plain.set_params(callbacks=[watch]).fit(X)
    assert precisions() == before
    assert {seen["products"] for seen in watch.seen} == {"highest"}  # after the inner fit, too
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: inner.fit(X).transform(X), range(12)))
    assert precisions() == before


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("linear_path", [True, False])
def test_codes_on_a_gpu_do_not_depend_on_what_is_allowed(digits, linear_path):
    X = digits[0][:300].reshape(-1, 8, 8).astype(np.float32)
    model = ConvAutoencoder(4, channels=(4,), linear_path=linear_path, device="cuda", **BRIEF)
    codes = []
    model.fit(X)
    for allowed in (True, False):
        torch.backends.cudnn.allow_tf32 = allowed
        codes.append(model.transform(X))
        assert torch.backends.cudnn.allow_tf32 == allowed
    torch.backends.cudnn.allow_tf32 = True
    np.testing.assert_array_equal(*codes)


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

    watchers = [Thread(target=watch) for _ in range(2)]
    for watcher in watchers:
        watcher.start()
    for k in (6, 3, 6):
        model.set_params(latent_dim=k).fit(X)
    stop.set()
    for watcher in watchers:
        watcher.join()
    assert not wrong
    np.testing.assert_array_equal(model.transform(new), known[6])
