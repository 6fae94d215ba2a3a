"""A loss, and an estimator, can be added in one place."""

import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

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


# A script of its own: the checks, and what else the package does with an estimator.
RECURRENT = """
import pickle
import warnings

import matplotlib
import numpy as np
import torch
from sklearn.utils.estimator_checks import check_estimator

matplotlib.use("agg")
import skae
from skae._estimators import AUTOENCODERS

kind = AUTOENCODERS[-1]
rng = np.random.default_rng(0)
phases = 2 * np.pi * rng.uniform(0, 0.3, (300, 1))
X = np.sin(2 * np.pi * rng.uniform(1, 3, (300, 1)) * np.linspace(0, 1, 20) + phases)
X = X.astype(np.float32)
warnings.simplefilter("ignore")
autoencoder = kind(2, max_epochs=12, random_state=0).fit(X)
assert autoencoder.nonlinear_gain_ > 0.05 and not autoencoder.code_is_pca_
codes = autoencoder.transform(X)
skae.save(autoencoder, "recurrent.skae")
for copy in (skae.load("recurrent.skae"), pickle.loads(pickle.dumps(autoencoder))):
    np.testing.assert_array_equal(copy.transform(X), codes)
again = kind(2, max_epochs=12, random_state=0).fit(X)
np.testing.assert_array_equal(again.transform(X), codes)
np.testing.assert_allclose(skae.to_torch(autoencoder)(torch.from_numpy(X)), codes, atol=1e-5)
try:
    import onnxruntime
except ImportError:
    pass
else:
    session = onnxruntime.InferenceSession(skae.to_onnx(autoencoder, X).SerializeToString())
    np.testing.assert_allclose(session.run(None, {"X": X})[0], codes, atol=1e-4)
assert len(skae.LatentDisplay.from_estimator(autoencoder, X).scatters_) == 1
quick = kind(2, max_epochs=1, validation_fraction=0.5)
results = check_estimator(quick, on_skip=None, on_fail=None)
failed = {r["check_name"] for r in results if r["status"] == "failed"}
print([name for name in failed if "sample_weight_equivalence" not in name])
print(sum(r["status"] == "passed" for r in results) > 40)
"""


@pytest.mark.slow
def test_an_estimator_is_one_file_and_its_name_in_one_list(tmp_path):
    package = tmp_path / "skae"
    shutil.copytree(Path(skae.__file__).parent, package)
    shutil.copy(Path(__file__).with_name("recurrent.py"), package / "_estimators")
    init = package / "_estimators" / "__init__.py"
    line = "from .recurrent import RecurrentAutoencoder\n\n# What is saved"
    text = init.read_text().replace("\n# What is saved", line)
    init.write_text(text.replace("DenseAutoencoder)", "DenseAutoencoder, RecurrentAutoencoder)"))
    done = subprocess.run(
        [sys.executable, "-c", RECURRENT],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.split() == ["[]", "True"], done.stderr
