"""Fitted autoencoders as torch modules and ONNX models."""

import io
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from onnxruntime import InferenceSession
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler
from torch import nn

from skae import (
    AnomalyDetector,
    ByteBigrams,
    ConvAutoencoder,
    DenseAutoencoder,
    register_onnx,
    to_onnx,
    to_torch,
)

PLAIN = {"linear_path": False, "hidden_layer_sizes": (32,), "max_epochs": 2, "random_state": 0}
CONVOLUTIONS = {"input_shape": (8, 8), "max_epochs": 3, "random_state": 0}


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
    "linear": DenseAutoencoder(4, hidden_layer_sizes=()),
    "residual": DenseAutoencoder(
        4, hidden_layer_sizes=(64, 64), max_epochs=12, whiten=True, random_state=0
    ),
    "plain": DenseAutoencoder(4, corruption=0.1, truncations=(1, 2), **PLAIN),
    "poisson": DenseAutoencoder(4, loss="poisson", **PLAIN),
    "multinomial": DenseAutoencoder(4, loss="multinomial", activation="silu", **PLAIN),
    "cosine": DenseAutoencoder(4, loss="cosine", output_activation="softplus", **PLAIN),
    "variational": DenseAutoencoder(4, penalty="variational", **PLAIN),
    "custom": DenseAutoencoder(4, **PLAIN | {"encoder": Clipped, "decoder": Clipped}),
    "convolutions": ConvAutoencoder(4, **CONVOLUTIONS),
    "plain convolutions": ConvAutoencoder(
        4, linear_path=False, bottleneck="channels", activation="elu", **CONVOLUTIONS
    ),
}


@pytest.fixture(scope="module")
def rows(digits):
    return digits[0].astype(np.float32)


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
    assert_agree(run(to_onnx(fitted, rows), rows), codes)
    decoded = run(to_onnx(fitted, codes, inverse=True), codes)
    assert_agree(decoded, fitted.inverse_transform(codes))


@pytest.mark.slow
def test_float64_input_gives_float64_output(digits):
    X = digits[0]
    autoencoder = ConvAutoencoder(4, **CONVOLUTIONS).fit(X)
    codes = autoencoder.transform(X)
    assert_agree(to_torch(autoencoder)(torch.from_numpy(X)).numpy(), codes, 1e-12)
    # Networks of ONNX models are float32.
    assert_agree(run(to_onnx(autoencoder, X), X), codes)


@pytest.mark.slow
def test_pictures_are_input_and_output(digits):
    images = digits[0].astype(np.float32).reshape(-1, 4, 8, 2)
    autoencoder = ConvAutoencoder(4, max_epochs=1, random_state=0).fit(images)
    codes = autoencoder.transform(images)
    assert_agree(run(to_onnx(autoencoder, images), images), codes)
    flat = images.reshape(len(images), -1)
    assert_agree(run(to_onnx(autoencoder, flat), flat), codes)
    decoded = run(to_onnx(autoencoder, codes, inverse=True), codes)
    assert_agree(decoded, autoencoder.inverse_transform(codes))


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
    assert n_weights == [64 * 32 + 32 + 32 * 4 + 4, 4 * 32 + 32 + 32 * 64 + 64]
    for half in halves:
        half.half()
    np.testing.assert_array_equal(autoencoder.transform(rows), before)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("first", "classifier", "dtype"),
    [
        (StandardScaler(), MLPClassifier((32,), tol=1e-2, random_state=0), np.float32),
        (StandardScaler(), MLPClassifier((32,), tol=1e-2, random_state=0), np.float64),
        (FunctionTransformer(np.sqrt), LogisticRegression(max_iter=1000, tol=1e-2), np.float32),
        (FunctionTransformer(np.log1p), LogisticRegression(max_iter=1000, tol=1e-2), np.float64),
        (FunctionTransformer(), LogisticRegression(max_iter=1000, tol=1e-2), np.float32),
    ],
)
def test_pipelines_give_the_same_labels(digits, first, classifier, dtype, quick):
    X_train, X_test, y_train, _ = digits
    X_train, X_test = X_train.astype(dtype), X_test.astype(dtype)
    pipeline = make_pipeline(first, quick(8), classifier).fit(X_train, y_train)
    model_proto = to_onnx(pipeline, X_train[:2])
    np.testing.assert_array_equal(run(model_proto, X_test), pipeline.predict(X_test))
    assert_agree(run(model_proto, X_test, 1), pipeline.predict_proba(X_test))


@pytest.mark.slow
def test_a_union_of_autoencoders_is_exported(rows, linear):
    parts = [("dense", linear), ("conv", ConvAutoencoder(3, **CONVOLUTIONS))]
    union = make_pipeline(FeatureUnion(parts), StandardScaler()).fit(rows)
    assert_agree(run(to_onnx(union, rows), rows), union.transform(rows))


def test_skl2onnx_can_be_called_directly(rows, linear):
    import skl2onnx

    register_onnx()
    register_onnx()
    model_proto = skl2onnx.to_onnx(make_pipeline(linear), rows, target_opset=20)
    assert_agree(run(model_proto, rows), linear.transform(rows))


def test_models_contain_no_paths_of_the_machine(rows):
    autoencoder = DenseAutoencoder(4, **PLAIN).fit(rows)
    assert b".py" not in to_onnx(autoencoder, rows).SerializeToString()


def test_models_above_two_gigabytes_raise_an_error(monkeypatch, rows, linear):
    monkeypatch.setattr("skae._export.onnx._MOST_BYTES", 1000)
    with pytest.raises(
        ValueError, match=r"1\.\d+e-06 GB .* at most 1e-06 GB: .*torch\.export\.save"
    ):
        to_onnx(linear, rows)
    with pytest.raises(ValueError, match="at most 1e-06 GB"):
        to_onnx(make_pipeline(StandardScaler(), linear).fit(rows), rows)


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


def test_the_inverse_of_truncated_codes_takes_any_number_of_rows(rows):
    X = rows[:100]
    parameters = {"hidden_layer_sizes": (8,), "max_epochs": 2, "random_state": 0}
    model = DenseAutoencoder(4, truncations=(1, 2), linear_path=False, **parameters).fit(X)
    short = model.truncate(2)
    codes = short.transform(X)
    session = InferenceSession(to_onnx(short, codes, inverse=True).SerializeToString())
    for n in (1, 3, len(codes)):
        (found,) = session.run(None, {"codes": codes[:n]})
        np.testing.assert_allclose(found, short.inverse_transform(codes[:n]), rtol=1e-4, atol=1e-4)


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


def test_what_to_export_of_a_detector_is_named(rows):
    detector = AnomalyDetector(DenseAutoencoder(4, hidden_layer_sizes=())).fit(rows[:100])
    for export in (lambda: to_onnx(detector, rows), lambda: to_torch(detector)):
        with pytest.raises(TypeError, match="estimator_"):
            export()
