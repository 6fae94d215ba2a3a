"""What a user's type checker knows of skae: checked by mypy in CI, and never run."""

from typing import assert_type

import numpy as np

import skae
from skae import AnomalyDetector, ByteBigrams, ConvAutoencoder, DenseAutoencoder, RowBlocks


def used() -> None:
    X = np.zeros((10, 4))

    autoencoder = DenseAutoencoder(2, hidden_layer_sizes=(8,), max_epochs="auto", random_state=0)
    assert_type(autoencoder.fit(X), DenseAutoencoder)
    assert_type(autoencoder.transform(X), np.ndarray)
    assert_type(autoencoder.inverse_transform(X[:, :2]), np.ndarray)
    assert_type(autoencoder.score(X, sample_weight=np.ones(10)), float)
    assert_type(autoencoder.score_samples(RowBlocks([X])), np.ndarray)
    assert_type(autoencoder.reconstruction_errors(X, mean=True), np.ndarray)
    assert_type(autoencoder.reconstruction_errors(X, top=2), tuple[np.ndarray, np.ndarray])
    assert_type(autoencoder.truncate(1), DenseAutoencoder)
    assert_type(ConvAutoencoder(0.9, input_shape=(2, 2)).fit(X), ConvAutoencoder)
    assert_type(AnomalyDetector(autoencoder, contamination=0.05).fit(X), AnomalyDetector)
    assert_type(AnomalyDetector().predict(X), np.ndarray)
    assert_type(ByteBigrams(norm=None).fit([b"bytes"]), ByteBigrams)
    skae.save(autoencoder, "model.skae")

    # A comment that is not needed is an error too: each of these is one.
    DenseAutoencoder("8")  # type: ignore[arg-type]
    DenseAutoencoder(8, latentdim=8)  # type: ignore[call-arg]
    DenseAutoencoder(8, (16,))  # type: ignore[call-arg]
    ConvAutoencoder(8, input_shape=28)  # type: ignore[arg-type]
    autoencoder.truncate("1")  # type: ignore[arg-type]
