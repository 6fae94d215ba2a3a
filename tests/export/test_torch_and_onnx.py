"""Fitted autoencoders as torch modules and ONNX models."""

import io
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from onnxruntime import InferenceSession
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler
from torch import nn

from skae import (
    AnomalyDetector,
    ByteBigrams,
    ConvAutoencoder,
    DenseAutoencoder,
    to_onnx,
    to_torch,
)

PLAIN = {"linear_path": False, "hidden_layer_sizes": (16,), "max_epochs": 2, "random_state": 0}
PICTURES = {"input_shape": (8, 8), "channels": (4,), "max_epochs": 2, "random_state": 0}
CONVOLUTIONS = {"hidden_layer_sizes": (16,), **PICTURES}


class Clipped(nn.Module):
    def __init__(self, n_inputs, n_outputs):
        super().__init__()
        self.linear = nn.Linear(n_inputs, n_outputs)

    def forward(self, x):
        return self.linear(x).clamp(max=1.0)


class Branching(nn.Module):
    def __init__(self, n_inputs, n_outputs):
        super().__init__()
        self.linear = nn.Linear(n_inputs, n_outputs)

    def forward(self, x):
        return self.linear(x) if float(x.sum()) > 0 else -self.linear(x)


ESTIMATORS = {
    "residual": DenseAutoencoder(
        4, hidden_layer_sizes=(32,), max_epochs=12, whiten=True, random_state=0
    ),
    "multinomial": DenseAutoencoder(4, loss="multinomial", activation="silu", **PLAIN),
    "variational": DenseAutoencoder(
        4, penalty="variational", output_activation="softplus", truncations=(1, 2), **PLAIN
    ),
    "custom": DenseAutoencoder(4, **PLAIN | {"encoder": Clipped, "decoder": Clipped}),
    "convolutions": ConvAutoencoder(4, **CONVOLUTIONS),
    "plain convolutions": ConvAutoencoder(
        4, linear_path=False, bottleneck="channels", activation="elu", **PICTURES
    ),
}


@pytest.fixture(scope="module")
def rows(digits):
    return digits[0][:700].astype(np.float32)


@pytest.fixture(scope="module", params=ESTIMATORS)
def fitted(request, rows):
    return ESTIMATORS[request.param].fit(rows)


@pytest.fixture(scope="module")
def linear(rows):
    return DenseAutoencoder(4, hidden_layer_sizes=()).fit(rows)


def run(model_proto, X, output=0):
    session = InferenceSession(model_proto.SerializeToString())
    (entry,) = session.get_inputs()
    return session.run(None, {entry.name: X})[output]


def assert_agree(found, expected, tolerance=1e-5):
    assert found.dtype == expected.dtype
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= tolerance * np.abs(expected).max()


def test_torch_modules_equal_estimators(fitted, rows):
    codes = fitted.transform(rows)
    assert_agree(to_torch(fitted)(torch.from_numpy(rows)).numpy(), codes, 1e-6)
    decoded = to_torch(fitted, inverse=True)(torch.from_numpy(codes)).numpy()
    assert_agree(decoded, fitted.inverse_transform(codes), 1e-6)


@pytest.mark.slow
def test_onnx_models_equal_estimators(fitted, rows):
    codes = fitted.transform(rows)
    model = to_onnx(fitted, rows)
    assert b".py" not in model.SerializeToString()  # no path of this machine
    assert_agree(run(model, rows), codes)
    decoded = run(to_onnx(fitted, codes, inverse=True), codes)
    assert_agree(decoded, fitted.inverse_transform(codes))
    if isinstance(fitted, ConvAutoencoder):
        pictures = rows.reshape(-1, 8, 8)
        whole = clone(fitted).fit(pictures)
        assert_agree(run(to_onnx(whole, pictures), pictures), whole.transform(pictures))


@pytest.mark.slow
# torch.export makes a call that torch itself calls deprecated.
@pytest.mark.filterwarnings(r"ignore:.*LeafSpec\)` is deprecated:FutureWarning")
def test_torch_export_supports_any_number_of_rows(rows):
    autoencoder = ConvAutoencoder(4, whiten=True, **CONVOLUTIONS).fit(rows)
    axes = ({0: torch.export.Dim("n_samples")},)
    x = torch.from_numpy(rows)
    program = torch.export.export(to_torch(autoencoder), (x[:2],), dynamic_shapes=axes)
    file = io.BytesIO()
    torch.export.save(program, file)
    file.seek(0)
    loaded = torch.export.load(file).module()
    for n in (1, 100):
        assert_agree(loaded(x[:n]).numpy(), autoencoder.transform(rows[:n]), 1e-6)


def test_modules_are_copies_of_the_encoder_or_the_decoder(rows):
    autoencoder = DenseAutoencoder(4, **PLAIN).fit(rows)
    before = autoencoder.transform(rows)
    halves = [to_torch(autoencoder, inverse=inverse) for inverse in (False, True)]
    n_weights = [sum(w.numel() for w in half.parameters()) for half in halves]
    assert n_weights == [64 * 16 + 16 + 16 * 4 + 4, 4 * 16 + 16 + 16 * 64 + 64]
    for half in halves:
        half.half()
    np.testing.assert_array_equal(autoencoder.transform(rows), before)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("first", "classifier", "dtype"),
    [
        (StandardScaler(), LogisticRegression(max_iter=1000, tol=1e-2), np.float64),
        (FunctionTransformer(np.sqrt), LogisticRegression(max_iter=1000, tol=1e-2), np.float32),
    ],
)
def test_pipelines_give_the_same_labels(digits, first, classifier, dtype, quick):
    X_train, X_test, y_train, _ = digits
    X_train, X_test = X_train.astype(dtype), X_test.astype(dtype)
    pipeline = make_pipeline(first, quick(8, max_epochs=3), classifier).fit(X_train, y_train)
    model_proto = to_onnx(pipeline, X_train[:2])
    np.testing.assert_array_equal(run(model_proto, X_test), pipeline.predict(X_test))
    assert_agree(run(model_proto, X_test, 1), pipeline.predict_proba(X_test))


@pytest.mark.slow
def test_models_without_an_onnx_form_raise_an_error(rows, linear):
    with pytest.raises(ValueError, match=r"ByteBigrams has no ONNX form.*pipeline\[1:\]"):
        to_onnx(make_pipeline(ByteBigrams(), linear), [b"bytes"])
    with pytest.raises(ValueError, match=r"func must be one of .*numpy\.sqrt"):
        to_onnx(make_pipeline(FunctionTransformer(np.cbrt), linear).fit(rows), rows)
    branching = DenseAutoencoder(4, **PLAIN | {"encoder": Branching}).fit(rows)
    with pytest.raises(ValueError, match="one of its layers Branching, Linear"):
        to_onnx(branching, rows)
    clipped = DenseAutoencoder(4, **PLAIN | {"encoder": Clipped}).fit(rows)
    with pytest.raises(ValueError, match="leave out an input of Clip"):
        to_onnx(make_pipeline(clipped), rows)


def test_wrong_arguments_are_named(rows, linear):
    with pytest.raises(ValueError, match=r"rows of shape \(5,\), but .* takes 64 columns"):
        to_onnx(linear, rows[:, :5])
    with pytest.raises(ValueError, match="target_opset=17 must be"):
        to_onnx(linear, rows, target_opset=17)
    with pytest.raises(TypeError, match="inverse=True needs an autoencoder, got Pipeline"):
        to_onnx(make_pipeline(linear), rows, inverse=True)
    with pytest.raises(TypeError, match="got Pipeline"):
        to_torch(make_pipeline(linear))


def test_a_missing_package_is_named(monkeypatch, rows, linear):
    monkeypatch.setitem(sys.modules, "skl2onnx", None)
    with pytest.raises(ImportError, match=r'needs skl2onnx: pip install "skae\[onnx\]"'):
        to_onnx(linear, rows)


def test_a_pipeline_that_starts_from_words_takes_a_frame():
    rng = np.random.RandomState(0)
    frame = pd.DataFrame(
        {"a": rng.rand(80), "b": 50 * rng.rand(80), "c": rng.choice(["x", "y"], 80)}
    )
    columns = ColumnTransformer(
        [("n", StandardScaler(), ["a", "b"]), ("c", OneHotEncoder(sparse_output=False), ["c"])]
    )
    pca = DenseAutoencoder(2, hidden_layer_sizes=())
    pipeline = make_pipeline(columns, pca, LogisticRegression()).fit(frame, frame["a"] > 0.5)
    session = InferenceSession(to_onnx(pipeline, frame).SerializeToString())
    inputs = {name: frame[[name]].to_numpy() for name in frame}
    np.testing.assert_array_equal(session.run(None, inputs)[0], pipeline.predict(frame))


def test_example_rows_may_have_missing_entries(rows):
    missing = DenseAutoencoder(4, hidden_layer_sizes=(), missing_values=np.nan).fit(rows)
    example = np.full((1, 64), np.nan, dtype=np.float32)
    assert_agree(run(to_onnx(missing, example), rows), missing.transform(rows))


def test_what_to_export_of_a_detector_is_named(rows):
    detector = AnomalyDetector(DenseAutoencoder(4, hidden_layer_sizes=())).fit(rows[:100])
    for export in (
        lambda: to_onnx(detector, rows),
        lambda: to_onnx(make_pipeline(detector), rows),
        lambda: to_torch(detector),
    ):
        with pytest.raises(TypeError, match="estimator_"):
            export()
