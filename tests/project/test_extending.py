"""A loss can be added in one place."""

import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone
from torch.nn.functional import softplus

import skae
from skae import ConvAutoencoder, DenseAutoencoder
from skae._nn.losses import LOSSES, Loss

QUICK = {"hidden_layer_sizes": (8,), "max_epochs": 2, "random_state": 0}

X = np.random.default_rng(0).normal(size=(200, 16)).astype(np.float32)


class LogCosh(Loss):
    """``sum_j log cosh(x_j - x_hat_j)``."""

    is_likelihood = True

    def deviances_by_column(self, output, x):
        errors = (x - output).abs()
        return errors + softplus(-2 * errors) - np.log(2)


@pytest.mark.parametrize(
    "autoencoder",
    [
        DenseAutoencoder(3, loss="log_cosh", penalty="variational", truncations=(1,), **QUICK),
        ConvAutoencoder(3, loss="log_cosh", input_shape=(4, 4), channels=(4,), **QUICK),
    ],
    ids=["dense", "conv"],
)
def test_a_loss_is_one_class_and_one_line(autoencoder, monkeypatch, tmp_path):
    monkeypatch.setitem(LOSSES, "log_cosh", LogCosh)
    autoencoder = clone(autoencoder).fit(X)
    assert isinstance(autoencoder.module_.loss, LogCosh)
    codes, errors = autoencoder.transform(X), -autoencoder.score_samples(X)
    expected = np.log(np.cosh(X - autoencoder.inverse_transform(codes))).sum(axis=1)
    np.testing.assert_allclose(errors, expected, rtol=1e-4)
    skae.save(autoencoder, tmp_path / "loss.skae")
    for copy in (skae.load(tmp_path / "loss.skae"), pickle.loads(pickle.dumps(autoencoder))):
        np.testing.assert_array_equal(copy.transform(X), codes)
        np.testing.assert_array_equal(-copy.score_samples(X), errors)
    np.testing.assert_allclose(skae.to_torch(autoencoder)(torch.from_numpy(X)), codes, atol=1e-5)
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(skae.to_onnx(autoencoder, X).SerializeToString())
    np.testing.assert_allclose(session.run(None, {"X": X})[0], codes, atol=1e-4)
