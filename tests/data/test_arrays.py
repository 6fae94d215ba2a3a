"""Arrays of other libraries in, codes of their kind out: with scikit-learn's array API dispatch.

scikit-learn's own checks of it are in tests/estimators/test_contract.py. Those marked gpu run on
any CUDA device.
"""

import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
import sklearn
import torch
from sklearn.utils.estimator_checks import check_array_api_input

from skae import ConvAutoencoder, DenseAutoencoder


def gpu(test):
    """Runs where there is a CUDA device."""
    skip = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
    return pytest.mark.gpu(skip(test))


@pytest.fixture
def dispatch(monkeypatch):
    monkeypatch.setenv("SCIPY_ARRAY_API", "1")
    pytest.importorskip("scipy", "1.14")
    with sklearn.config_context(array_api_dispatch=True):
        yield


def dense(**parameters):
    settings = {"hidden_layer_sizes": (16,), "max_epochs": 2, "precision": "float32"}
    return DenseAutoencoder(6, random_state=0, **{**settings, **parameters})


def pictures(**parameters):
    return ConvAutoencoder(4, channels=(4,), max_epochs=1, random_state=0, **parameters)


ESTIMATORS = [
    dense(),
    dense(whiten=0.5, truncations=(2,)),
    dense(linear_path=False),
    dense(hidden_layer_sizes=()),
    pictures(input_shape=(8, 8)),
]


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_tensors_give_the_same_bits_as_arrays(estimator, digits, dispatch):
    X, weights = digits[0][:300], np.linspace(1, 2, 300)
    expected = sklearn.clone(estimator).set_params(device="cpu").fit(X, sample_weight=weights)
    model = sklearn.clone(estimator).fit(
        torch.from_numpy(X), sample_weight=torch.from_numpy(weights)
    )
    rows = torch.from_numpy(X)
    Z = model.transform(rows)
    assert isinstance(Z, torch.Tensor)
    np.testing.assert_array_equal(Z.numpy(), expected.transform(X))
    X_hat = model.inverse_transform(Z)
    np.testing.assert_array_equal(X_hat.numpy(), expected.inverse_transform(Z.numpy()))
    np.testing.assert_array_equal(model.score_samples(rows).numpy(), expected.score_samples(X))
    assert model.score(rows, sample_weight=torch.from_numpy(weights)) == expected.score(
        X, sample_weight=weights
    )
    assert isinstance(model.mean_, np.ndarray)
    assert model.device == "auto"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (torch.float64, torch.float64),
        (torch.float32, torch.float32),
        (torch.float16, torch.float32),
        (torch.bfloat16, torch.float32),
        (torch.uint8, torch.float32),
        (torch.int64, torch.float64),
    ],
)
def test_the_precision_of_codes_is_that_of_tensors(given, expected, digits, dispatch):
    X = torch.from_numpy(digits[0][:100]).to(given).requires_grad_(given.is_floating_point)
    model = dense(hidden_layer_sizes=()).fit(X)
    assert model.transform(X).dtype == expected
    assert model.fit_transform(X).dtype == expected


@pytest.mark.parametrize("device", ["CPU_DEVICE", "device1"])
def test_arrays_of_another_library_come_back_on_their_device(device, digits, dispatch):
    xp = pytest.importorskip("array_api_strict")
    device, rows = xp.Device(device), digits[0][:100]
    X = xp.asarray(rows, device=device)
    model = pictures(input_shape=(8, 8)).fit(X, sample_weight=xp.ones(100, device=device))
    Z = model.transform(X)
    X_hat = model.inverse_transform(Z)
    scores = model.score_samples(X)
    for result in (Z, X_hat, scores):
        assert result.__array_namespace__() is xp
        assert result.device == device
        assert result.dtype == xp.float64


def test_a_model_of_arrays_takes_tensors_and_one_of_tensors_the_same_library(digits, dispatch):
    X, rows = digits[0][:100], torch.from_numpy(digits[0][:100])
    model = dense(hidden_layer_sizes=())
    assert isinstance(model.fit(X).transform(rows), torch.Tensor)
    model = pickle.loads(pickle.dumps(model.fit(rows)))
    with pytest.raises(ValueError, match=r"transform\(\) must use the same namespace .* torch"):
        model.transform(X)
    with sklearn.config_context(array_api_dispatch=False):
        assert isinstance(model.transform(X), np.ndarray)
    assert isinstance(model.fit(X).transform(X), np.ndarray)


def test_sparse_and_invalid_tensors_get_a_sentence(digits, dispatch):
    X = torch.from_numpy(digits[0][:100])
    with pytest.raises(TypeError, match="X is a sparse tensor: pass a SciPy sparse array"):
        dense().fit(X.to_sparse())
    with pytest.raises(ValueError, match="Input X contains infinity"):
        dense().fit(X.log())
    with pytest.raises(ValueError, match="X has 3 columns, but the codes"):
        dense(hidden_layer_sizes=()).fit(X).inverse_transform(X[:, :3])


def test_tensors_on_the_cpu_need_no_dispatch(digits):
    X = digits[0][:100]
    model = dense(hidden_layer_sizes=()).fit(torch.from_numpy(X))
    Z = model.transform(torch.from_numpy(X))
    np.testing.assert_array_equal(Z, model.transform(X))
    assert isinstance(model.inverse_transform(torch.from_numpy(Z)), np.ndarray)


# On a CUDA device


@gpu
@pytest.mark.parametrize("method", ["fit", "partial_fit", "transform", "inverse_transform"])
def test_a_tensor_on_a_device_needs_dispatch(method, digits):
    model, X = dense(hidden_layer_sizes=()), torch.from_numpy(digits[0][:100]).cuda()
    rows = X[:, :6] if method == "inverse_transform" else X
    model.fit(digits[0])
    with pytest.raises(TypeError, match=r"X is a tensor on 'cuda:0': use .*array_api_dispatch"):
        getattr(model, method)(rows)
    with pytest.raises(TypeError, match="sample_weight is a tensor on 'cuda:0'"):
        model.fit(digits[0][:100], sample_weight=X[:, 0])


@gpu
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_codes_are_on_the_device_of_the_rows(estimator, digits, dispatch):
    X = torch.from_numpy(digits[0][:300])
    weights = torch.linspace(1, 2, 300)
    expected = sklearn.clone(estimator).set_params(device="cuda")
    expected.fit(X.numpy(), sample_weight=weights.numpy())
    model = sklearn.clone(estimator).fit(X.cuda(), sample_weight=weights.cuda())
    Z = model.transform(X.cuda())
    X_hat, scores = model.inverse_transform(Z), model.score_samples(X.cuda())
    for result in (Z, X_hat, scores):
        assert result.is_cuda
        assert result.dtype == torch.float64
    unit = float(Z.abs().max())
    np.testing.assert_allclose(Z.cpu(), expected.transform(X.numpy()), atol=1e-3 * unit)
    assert model.score(X.cuda()) == pytest.approx(expected.score(X.numpy()), abs=1e-4)
    # A model that computes elsewhere returns codes on the device of the rows, too.
    model.set_params(device="cpu")
    Z_cpu = model.transform(X.cuda())
    assert Z_cpu.is_cuda
    np.testing.assert_allclose(Z_cpu.cpu(), Z.cpu(), atol=1e-3 * unit)


class Transfers(torch.utils._python_dispatch.TorchDispatchMode):
    """Counts the bytes that are copied from a CUDA device to the CPU."""

    def __init__(self):
        super().__init__()
        self.n_bytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        tensors = [value for value in args if isinstance(value, torch.Tensor)]
        if isinstance(result, torch.Tensor) and result.device.type == "cpu":
            self.n_bytes += sum(tensor.nbytes for tensor in tensors if tensor.is_cuda)
        return result


@gpu
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_codes_and_reconstructions_make_no_trip_to_the_cpu(estimator, digits, dispatch):
    X = torch.from_numpy(digits[0][:300]).cuda()
    model = sklearn.clone(estimator).fit(X)
    with Transfers() as transfers:
        Z = model.transform(X)
        X_hat = model.inverse_transform(Z)
    assert X_hat.is_cuda
    assert transfers.n_bytes == 0
    with Transfers() as transfers:
        Z.cpu()
    assert transfers.n_bytes == Z.nbytes


@gpu
@pytest.mark.parametrize(
    ("estimator", "dtype"), [(ESTIMATORS[-2], "float64"), (ESTIMATORS[-1], "float32")]
)
def test_scikit_learn_checks_of_tensors_on_a_device(estimator, dtype, monkeypatch):
    monkeypatch.setenv("SCIPY_ARRAY_API", "1")
    monkeypatch.setattr(torch.backends.cuda, "is_built", lambda: True)
    estimator = sklearn.clone(estimator).set_params(latent_dim=2)
    if isinstance(estimator, ConvAutoencoder):
        estimator.set_params(input_shape=(10,))
    check_array_api_input(
        type(estimator).__name__,
        estimator,
        "torch",
        "cuda",
        dtype_name=dtype,
        check_sample_weight=True,
    )


PIPELINE = """
import numpy as np, sklearn, torch
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler
from skae import DenseAutoencoder

X, y = load_digits(return_X_y=True)
X, y = torch.from_numpy(X), torch.from_numpy(y.astype(float))
sklearn.set_config(array_api_dispatch=True)
autoencoder = DenseAutoencoder(8, hidden_layer_sizes=(16,), max_epochs=2, random_state=0)
pipeline = make_pipeline(MinMaxScaler(), autoencoder, Ridge(solver="svd")).fit(X, y)
predicted = pipeline.predict(X)
assert isinstance(predicted, torch.Tensor) and predicted.device == X.device
pca = make_pipeline(MinMaxScaler(), PCA(8, svd_solver="full"), Ridge(solver="svd")).fit(X, y)
print(pipeline.score(X, y), pca.score(X, y))
"""


@pytest.mark.slow
def test_a_pipeline_of_tensors_predicts_tensors():
    pytest.importorskip("scipy", "1.14")
    found = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PIPELINE],
        env={**os.environ, "SCIPY_ARRAY_API": "1"},
        capture_output=True,
        text=True,
    )
    assert found.returncode == 0, found.stderr
    score, score_of_pca = map(float, found.stdout.split())
    assert score > score_of_pca - 0.05
