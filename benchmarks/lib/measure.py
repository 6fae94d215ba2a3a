"""Measure one model on one data set: one function, one flat dict, in a process of its own."""

import os
import platform
import time
import warnings
from contextlib import suppress
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import scipy.sparse as sp
from joblib import Parallel, delayed
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from benchmarks.lib.memory import peak_resident_bytes
from skae import DenseAutoencoder

MODELS = {
    "PCA": lambda k, seed: PCA(k, svd_solver="arpack", random_state=seed),
    "TruncatedSVD": lambda k, seed: TruncatedSVD(k, random_state=seed),
    "DenseAutoencoder, linear": lambda k, seed: DenseAutoencoder(
        k, hidden_layer_sizes=(), random_state=seed
    ),
    "DenseAutoencoder": lambda k, seed: DenseAutoencoder(k, random_state=seed),
}


def measure_apart(*arguments):
    """`measure` in a fresh process, so that its peak memory is its own."""
    with get_context("spawn").Pool(1) as pool:
        return pool.apply(measure, arguments)


def measure(model, latent_dim, seed, folder, classify=None):
    """Fit on train.npz, encode and judge on test.npz; both with y in labels.npz.

    ``classify`` computes the accuracy (default: `accuracy`).
    """
    X_train, X_test = (sp.load_npz(Path(folder, f"{part}.npz")) for part in ("train", "test"))
    labels = np.load(Path(folder, "labels.npz"))
    estimator = MODELS[model](latent_dim, seed)

    start = time.perf_counter()
    estimator.fit(X_train)
    fit_seconds = time.perf_counter() - start
    Z_train = estimator.transform(X_train)
    start = time.perf_counter()
    Z_test = estimator.transform(X_test)
    transform_seconds = time.perf_counter() - start
    peak_memory = peak_resident_bytes()
    return {
        "model": model,
        "latent_dim": latent_dim,
        "seed": seed,
        "n_train": X_train.shape[0],
        "n_test": X_test.shape[0],
        "variance_explained": variance_explained(estimator, X_train, X_test, Z_test),
        "accuracy": (classify or accuracy)(Z_train, labels["train"], Z_test, labels["test"], seed),
        "fit_seconds": fit_seconds,
        "transform_seconds": transform_seconds,
        "peak_memory_gb": peak_memory / 1e9,
        "nonlinear_gain": getattr(estimator, "nonlinear_gain_", None),
        **circumstances(),
    }


def variance_explained(estimator, X_train, X_test, Z_test):
    """``1 - |X - X_hat|^2 / |X - mean|^2`` on the test rows, with the mean of the training rows.

    X is sparse. Only the reconstructions are dense, 256 rows at a time.
    """
    mean = np.asarray(X_train.mean(axis=0), dtype=np.float64).ravel()
    n_test = X_test.shape[0]
    total = np.square(X_test.data, dtype=np.float64).sum() + n_test * mean @ mean
    total -= 2 * (X_test @ mean).sum()
    error = 0.0
    for start in range(0, n_test, 256):
        rows = slice(start, start + 256)
        X = X_test[rows].tocoo()
        difference = estimator.inverse_transform(Z_test[rows])
        difference[X.row, X.col] -= X.data
        error += np.einsum("ij,ij->", difference, difference, dtype=np.float64)
    return 1 - error / total


def explained_by_reconstructions(X_train, X_test, X_hat):
    """The same of dense test rows, from their reconstructions."""
    total = np.square(X_test - X_train.mean(axis=0, dtype=np.float64)).sum()
    return 1 - np.square(X_test - X_hat, dtype=np.float64).sum() / total


def accuracy(Z_train, y_train, Z_test, y_test, seed):
    """Share of test rows that a small network classifies correctly, on plain or standardised codes.

    The better of the two: neither suits every model, and whoever uses one tries both.
    """
    standardised = accuracy_standardised(Z_train, y_train, Z_test, y_test, seed)
    return max(standardised, _accuracy(_network(seed), Z_train, y_train, Z_test, y_test))


def accuracy_standardised(Z_train, y_train, Z_test, y_test, seed):
    """The same on standardised codes alone, in a fraction of the time."""
    classifier = make_pipeline(StandardScaler(), _network(seed))
    return _accuracy(classifier, Z_train, y_train, Z_test, y_test)


def _network(seed):
    return MLPClassifier((256,), early_stopping=True, random_state=seed)


def _accuracy(classifier, Z_train, y_train, Z_test, y_test):
    # Products of this size take several times as long with two threads where another program runs.
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # 200 epochs are enough to compare
        return classifier.fit(Z_train, y_train).score(Z_test, y_test)


def accuracies(Z_train, Z_test, y_train, y_test, options):
    """Accuracy of a classifier of each seed, that learns rows evenly spread over all."""
    learnt = slice(None, None, -(-len(Z_train) // options.classified))
    seeds = range(options.seed, options.seed + options.n_seeds)
    one = delayed(accuracy)
    fits = (one(Z_train[learnt], y_train[learnt], Z_test, y_test, seed) for seed in seeds)
    return np.array(Parallel(n_jobs=-1)(fits))


def circumstances():
    """Versions and processor, for whoever reads the figures later."""
    packages = ("torch", "scikit-learn", "numpy", "scipy", "skorch")
    return {
        "processor": _processor(),
        "n_cores": os.cpu_count(),
        "python": platform.python_version(),
        **{package: version(package) for package in packages},
    }


def _processor():
    with suppress(OSError):  # there is such a file on Linux alone
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":")[1].strip()
    return platform.processor() or platform.machine()
