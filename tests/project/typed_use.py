"""How a user's type checker reads skae: checked by mypy --strict in CI, and never run."""

from typing import Any, assert_type

import numpy as np
from scipy import sparse
from torch import nn

import skae
from skae import (
    AnomalyDetector,
    ByteBigrams,
    ColumnErrorsDisplay,
    ConvAutoencoder,
    DenseAutoencoder,
    DimensionsDisplay,
    LatentDisplay,
    LossCurveDisplay,
    ProcessRows,
    ReconstructionDisplay,
    VarianceDisplay,
)


def autoencoders() -> None:
    X, y = np.zeros((10, 4)), np.zeros(10)

    autoencoder = DenseAutoencoder(2, hidden_layer_sizes=(8,), max_epochs="auto", random_state=0)
    assert_type(autoencoder.fit(X), DenseAutoencoder)
    assert_type(autoencoder.fit(X, y, sample_weight=y, groups=y), DenseAutoencoder)
    assert_type(autoencoder.partial_fit(X), DenseAutoencoder)
    assert_type(autoencoder.transform(X), np.ndarray)
    assert_type(autoencoder.inverse_transform(X[:, :2]), np.ndarray)
    assert_type(autoencoder.score(X, sample_weight=np.ones(10)), float)
    assert_type(autoencoder.score_samples(X), np.ndarray)
    assert_type(autoencoder.reconstruction_errors(X, mean=True), np.ndarray)
    assert_type(autoencoder.reconstruction_errors(X, top=2), tuple[np.ndarray, np.ndarray])
    assert_type(autoencoder.truncate(1), DenseAutoencoder)
    assert_type(autoencoder.sample(3, random_state=0), np.ndarray)
    DenseAutoencoder(0.9, whiten=0.5, memory="folder", checkpoint="folder", callbacks=None)
    DenseAutoencoder(4, encoder=nn.Linear(4, 4), decoder=nn.Identity, linear_path=False)
    assert_type(AnomalyDetector(autoencoder, contamination=0.05).fit(X), AnomalyDetector)
    detector = AnomalyDetector()
    assert_type(detector.predict(X), np.ndarray)
    assert_type(detector.decision_function(X), np.ndarray)
    assert_type(detector.score_samples(X), np.ndarray)

    pictures = ConvAutoencoder(0.9, input_shape=(2, 2), channels=(4, 8), channel_axis=None)
    assert_type(pictures.fit(X), ConvAutoencoder)
    assert_type(pictures.inverse_transform(X), np.ndarray)
    assert_type(pictures.truncate(1), ConvAutoencoder)

    # These methods are inherited from scikit-learn, which has no types.
    codes: np.ndarray[Any, Any] = autoencoder.fit_transform(X)
    parameters: dict[str, Any] = autoencoder.get_params()
    clone: DenseAutoencoder = autoencoder.set_params(latent_dim=3)
    names: np.ndarray[Any, Any] = clone.get_feature_names_out()
    clone.set_output(transform="pandas")
    assert len(codes) == len(parameters) == len(names)


def bytes_and_rows_of_processes() -> None:
    bigrams = ByteBigrams(input="filename", norm=None)
    assert_type(bigrams.fit(["file"]), ByteBigrams)
    assert_type(bigrams.transform(["file"]), sparse.csr_matrix)
    assert_type(bigrams.get_feature_names_out(), np.ndarray)
    assert_type(ProcessRows(np.zeros((3, 2))), ProcessRows)


def displays() -> None:
    X, model = np.zeros((10, 4)), DenseAutoencoder()
    latent = LatentDisplay.from_estimator(model, X, dims=(0, 1), scatter_kw={"s": 3})
    assert_type(latent, LatentDisplay)
    assert_type(LatentDisplay.from_predictions(X, [0] * 10), LatentDisplay)
    assert_type(latent.plot(ax=None, legend_kw={"ncols": 2}), LatentDisplay)
    curve = LossCurveDisplay.from_estimator(model, train_kw={"color": "k"})
    assert_type(curve, LossCurveDisplay)
    assert_type(LossCurveDisplay.from_history([{"train_loss": 1.0}]), LossCurveDisplay)
    assert_type(curve.plot(), LossCurveDisplay)
    pictures = ReconstructionDisplay.from_estimator(
        model, X, references={"PCA": model}, shape=(2, 2), difference=True, n_columns=5
    )
    assert_type(pictures, ReconstructionDisplay)
    assert_type(ReconstructionDisplay.from_predictions(X, X, name="ours"), ReconstructionDisplay)
    assert_type(pictures.plot(difference=False), ReconstructionDisplay)
    columns = ColumnErrorsDisplay.from_estimator(model, X, reference=X, top=3)
    assert_type(columns, ColumnErrorsDisplay)
    assert_type(columns.plot(), ColumnErrorsDisplay)
    dimensions = DimensionsDisplay.from_estimator(model, X, top=3)
    assert_type(dimensions.plot(), DimensionsDisplay)
    assert_type(dimensions.changes, np.ndarray)
    variance = VarianceDisplay.from_estimator(model, X, latent_dims=(1, 2), X_test=X)
    assert_type(variance, VarianceDisplay)
    assert_type(VarianceDisplay.from_predictions([1, 2], [0.1, 0.2]), VarianceDisplay)
    assert_type(variance.plot(line_kw={"lw": 2}), VarianceDisplay)


def files_and_exports() -> None:
    model: DenseAutoencoder = skae.load("model.skae")
    skae.save(model, "model.skae")
    graph = skae.to_onnx(model, np.zeros((1, 4)), inverse=True, target_opset=None)
    graph.SerializeToString()
    skae.register_onnx()
    module: nn.Module = skae.to_torch(model, inverse=True)
    module.eval()
    version: str = skae.__version__
    assert version


def errors() -> None:
    # A comment that is not needed is an error too: each of these is one.
    DenseAutoencoder("8")  # type: ignore[arg-type]
    DenseAutoencoder(8, latentdim=8)  # type: ignore[call-arg]
    DenseAutoencoder(8, (16,))  # type: ignore[call-arg]
    ConvAutoencoder(8, input_shape=28)  # type: ignore[arg-type]
    DenseAutoencoder().truncate("1")  # type: ignore[arg-type]
    LatentDisplay.from_estimator(DenseAutoencoder(), [[0.0]], dim=0)  # type: ignore[call-arg]
    ReconstructionDisplay.from_predictions([], [], shape=28)  # type: ignore[arg-type]
    skae.to_torch(DenseAutoencoder(), inverse="yes")  # type: ignore[arg-type]
    skae.save(DenseAutoencoder())  # type: ignore[call-arg]
