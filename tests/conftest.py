import os
import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from sklearn.datasets import load_digits

from skae import DenseAutoencoder

ROOT = Path(__file__).parents[1]

if "PYTEST_XDIST_WORKER_COUNT" in os.environ:  # which share the cores among them
    n_workers = int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
    torch.set_num_threads(max(1, os.cpu_count() // n_workers))


# The longest tests, of one process each: begun last they would keep the others waiting.
LONGEST = (
    "test_the_tests_of_a_gpu_pass_on_a_simulated_one",
    "test_rows_on_disk_train_in_less_memory_than_they_have",
    "test_a_script_fits_on_workers_though_one_is_killed",
)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    for item in items:
        if item.path.suffix == ".md":  # a page of docs/
            item.add_marker("slow")
    items.sort(key=lambda item: getattr(item, "originalname", None) not in LONGEST)


@pytest.fixture(scope="session")
def digits():
    """Training and test rows of scikit-learn's digits, with their labels."""
    X, y = load_digits(return_X_y=True)
    return X[:1300], X[1300:], y[:1300], y[1300:]


@pytest.fixture(scope="session")
def bigrams():
    """Training and test rows of square-root bigrams of this Python's files, with their formats."""
    sys.path.insert(0, str(ROOT))
    try:
        from benchmarks.lib.datasets import load_split
    finally:
        sys.path.remove(str(ROOT))
    split = load_split("files-sqrt", per_format=100)
    return split.X_train, split.X_test, split.y_train, split.y_test


@pytest.fixture
def counts():
    """The counts of a simulated CUDA device, from zero; on a real one the test is skipped."""
    module = pytest.importorskip(
        "simulated_cuda", reason="counts are those of `python tests/simulated_cuda -m pytest`"
    )
    module.reset()
    return module


@pytest.fixture
def quick():
    """A `DenseAutoencoder` whose networks are small and trained briefly, but are trained."""

    def make(latent_dim=4, **parameters):
        parameters = {
            "hidden_layer_sizes": (32,),
            "max_epochs": 12,
            "random_state": 0,
            **parameters,
        }
        return DenseAutoencoder(latent_dim, **parameters)

    return make


@pytest.fixture(scope="session")
def variance_explained():
    """A function: share of the variance of X that X_hat explains, around the training mean."""

    def share(X, X_hat, mean):
        return 1 - np.square(X - X_hat).sum() / np.square(X - mean).sum()

    return share


@pytest.fixture(scope="session")
def wide():
    """Counts in 700 sparse rows and so many columns that their directions need Krylov iteration."""
    rng = np.random.default_rng(0)
    topics = sp.random(6, 20_000, 0.02, "csr", random_state=rng)
    noise = sp.random(700, 20_000, 0.002, "csr", random_state=rng)
    weights = rng.gamma(0.5, size=(700, 6))
    return sp.csr_matrix(sp.csr_matrix(weights) @ topics * 3 + noise).astype(np.float32)
