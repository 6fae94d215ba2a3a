"""Golden codes: what small fits give today, stored to compare later versions with.

``python -m tests.golden.write`` fits every entry of `CONFIGURATIONS` and writes beside this file

- ``golden.npz``: codes and reconstructions of a few rows, losses of each epoch, fitted numbers;
- ``NAME.skae``: the file of `skae.save`;
- ``NAME.pickle`` for the names in `PICKLED`.

Run it when a change of results is wanted, and say so in the changelog; never to make a test pass.
Names of configurations may be given as arguments, to write anew only those.
"""

import os
import pickle
import sys
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import scipy.sparse as sp
import torch
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from skorch.callbacks import Callback
from torch import nn

import skae
from skae import ConvAutoencoder, DenseAutoencoder

FOLDER = Path(__file__).parent

# Rows of digits to fit; the rows after them are those whose codes are stored.
N_ROWS, N_SHOWN = 640, 8

# What is stored beside codes; NaN stands for what a form lacks.
SCALARS = ("n_iter_", "latent_dim_", "n_features_in_", "nonlinear_gain_")
LOSSES = ("train_loss", "valid_loss", "variance_explained", "variance_explained_by_pca")
LINEAR = ("mean_", "explained_variance_")

# How far fits on other machines may be from those stored, as a share of an array's largest number.
# Measured with the instructions of AVX2 and of SSE4 in place of AVX-512: 1e-4, and 0.07 for
# convolutions on top of PCA, whose first steps divide small gradients by their own size.
TOLERANCE, TOLERANCE_OF_CONVOLUTIONS = 2e-3, 0.3

# Which fits keep which networks; `Configuration.networks` is one of these.
PCA, DECODER, BOTH, PLAIN = "PCA", "the decoder alone", "both networks", "no linear path"


def dense(latent_dim=3, **parameters):
    return DenseAutoencoder(latent_dim, **{"hidden_layer_sizes": (48,)} | BRIEF | parameters)


def conv(latent_dim=3, **parameters):
    settings = {"input_shape": (8, 8), "channels": (8,)}
    if parameters.get("bottleneck") != "map":
        settings["hidden_layer_sizes"] = (16,)
    return ConvAutoencoder(latent_dim, **settings | BRIEF | parameters)


# The device and precision that every machine has.
BRIEF = {
    "max_epochs": 8,
    "validation_fraction": 0.1,
    "batch_size": 16,
    "learning_rate": 0.01,
    "device": "cpu",
    "precision": "float32",
    "random_state": 0,
}


def images():
    """Rows to fit and rows to show, in [0, 1]."""
    X = load_digits().data[: N_ROWS + N_SHOWN].astype(np.float32) / 16
    return X[:N_ROWS], X[N_ROWS:]


def digits(dtype=np.float32):
    """The same without columns that hardly vary.

    Directions of no variance are any, and a stream makes much of their rounding.
    """
    X, shown = images()
    varying = X.std(axis=0) > 0.05
    return X[:, varying].astype(dtype), shown[:, varying].astype(dtype)


def digits_in_float64():
    return digits(np.float64)


def counts():
    X, shown = digits()
    return 16 * X, 16 * shown


def sparse_digits():
    """CSR matrices of the bright pixels."""
    return tuple(sp.csr_matrix(np.where(part > 0.5, part, 0)) for part in digits())


def blocks():
    """The same rows in parts of unequal lengths."""
    X, shown = digits()
    return da.from_array(X, chunks=((190, 260, len(X) - 450), X.shape[1])), shown


def wide_sparse():
    """CSR matrices with more columns than rows, whose directions come from Krylov iteration."""
    rng = np.random.RandomState(0)
    factors = rng.exponential(size=(700, 8)) * 0.5 ** np.arange(8)
    X = rng.poisson(0.2 * factors @ rng.exponential(size=(8, 1200)))
    X = sp.csr_matrix(X.astype(np.float32))
    return X[:-N_SHOWN], X[-N_SHOWN:]


def whole(estimator, X):
    return estimator.fit(X)


def weighted(estimator, X):
    return estimator.fit(X, sample_weight=np.arange(X.shape[0]) % 5)


def streamed(estimator, X):
    """Several passes by `partial_fit`."""
    for _ in range(5):
        for batch in np.array_split(X, 8):
            estimator.partial_fit(batch)
    return estimator


def streamed_after_fit(estimator, X):
    return estimator.fit(X[:450]).partial_fit(X[450:])


def warm_started(estimator, X):
    return estimator.fit(X[:450]).set_params(warm_start=True).fit(X)


class KilledError(Exception):
    """What ends a fit in the middle."""


class Killer(Callback):
    """Ends a fit after some epochs, counted over all its stages."""

    def __init__(self, n_epochs):
        self.n_epochs = n_epochs

    def on_epoch_end(self, net, **kwargs):
        self.n_epochs -= 1
        if self.n_epochs == 0:
            raise KilledError


def resumed(estimator, X):
    """Killed twice in its training, and then let end."""
    with tempfile.TemporaryDirectory() as folder:
        estimator.set_params(checkpoint=folder)
        for n_epochs in (2, 5):
            try:
                estimator.set_params(callbacks=[Killer(n_epochs)]).fit(X)
            except KilledError:
                continue
            raise AssertionError("the fit ended before it was killed")
        estimator.set_params(callbacks=None).fit(X)
        assert os.listdir(folder), "nothing was kept in the checkpoint"
        return estimator.set_params(checkpoint=None)


def layers(n_inputs, width, n_outputs):
    """Layers of torch with weights drawn without torch."""
    first, second = nn.Linear(n_inputs, width), nn.Linear(width, n_outputs)
    rng = np.random.RandomState(n_inputs)
    for layer in (first, second):
        largest = np.sqrt(3 / layer.in_features)
        drawn = rng.uniform(-largest, largest, size=layer.weight.shape)
        layer.weight.data = torch.from_numpy(drawn.astype(np.float32))
        nn.init.zeros_(layer.bias)
    return nn.Sequential(first, nn.LayerNorm(width), nn.GELU(), second)


def custom(**parameters):
    return dense(encoder=layers(52, 48, 3), decoder=layers(3, 48, 52), **parameters)


@dataclass(frozen=True)
class Configuration:
    """An estimator, its rows, how it is fitted and which networks it must have kept then."""

    make: Callable[[], Any]
    networks: str
    data: Callable[[], Any] = digits
    fit: Callable[[Any, Any], Any] = whole
    truncated: int | None = None
    tolerance: float = TOLERANCE

    def fitted(self):
        """The fitted estimator and the rows to show."""
        X, shown = self.data()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            estimator = self.fit(self.make(), X)
        kept = networks_kept(estimator)
        assert kept == self.networks, f"kept {kept} instead of {self.networks}"
        return estimator, shown

    def shown(self):
        return self.data()[1]

    def results(self):
        """The fitted estimator, and what is stored of it."""
        estimator, shown = self.fitted()
        return estimator, described(estimator) | coded(estimator, shown, self.truncated)


def networks_kept(estimator):
    if not hasattr(estimator, "components_"):
        return PLAIN
    if estimator.module_.decoder is None:
        return PCA
    return DECODER if estimator.module_.encoder is None else BOTH


def described(estimator):
    """Scalars, losses and what is left of PCA."""
    history = [[epoch.get(loss, np.nan) for loss in LOSSES] for epoch in estimator.history_]
    results = {
        "scalars": np.array([getattr(estimator, name, np.nan) for name in SCALARS], dtype=float),
        "losses": np.array(history, dtype=float).reshape(-1, len(LOSSES)),
    }
    return results | {name: getattr(estimator, name) for name in LINEAR if hasattr(estimator, name)}


def coded(estimator, shown, truncated=None):
    """Codes and reconstructions of some rows, also cut where codes can be."""
    codes = estimator.transform(shown)
    results = {"codes": codes, "reconstructions": estimator.inverse_transform(codes)}
    if truncated:
        shorter = estimator.truncate(truncated)
        results["cut codes"] = shorter.transform(shown)
        results["cut reconstructions"] = shorter.inverse_transform(results["cut codes"])
    return {name: np.asarray(value) for name, value in results.items()}


CONFIGURATIONS = {
    "linear": Configuration(
        lambda: dense(6, hidden_layer_sizes=()), PCA, digits_in_float64, truncated=2
    ),
    "linear of wide sparse rows": Configuration(
        lambda: dense(4, hidden_layer_sizes=()), PCA, wide_sparse
    ),
    "linear stream": Configuration(lambda: dense(6, hidden_layer_sizes=()), PCA, fit=streamed),
    "both networks": Configuration(lambda: dense(hidden_layer_sizes=(48, 24)), BOTH),
    "decoder alone": Configuration(lambda: dense(18, fit_inverse_transform=True), DECODER),
    "networks on sparse rows": Configuration(dense, BOTH, sparse_digits),
    "blocks of rows": Configuration(dense, BOTH, blocks),
    "ordered": Configuration(lambda: dense(4, truncations=(1, 2)), BOTH, truncated=2),
    "share of variance": Configuration(lambda: dense(0.6), BOTH),
    "weighted": Configuration(dense, BOTH, fit=weighted),
    "whitened": Configuration(lambda: dense(whiten=True), BOTH),
    "denoising": Configuration(lambda: dense(corruption=0.1, noise=0.1), BOTH),
    "custom networks": Configuration(lambda: custom(max_epochs=14), BOTH),
    "plain custom networks": Configuration(lambda: custom(linear_path=False), PLAIN),
    "stream": Configuration(dense, BOTH, fit=streamed),
    "stream after fit": Configuration(dense, BOTH, fit=streamed_after_fit),
    "warm start": Configuration(dense, BOTH, fit=warm_started),
    "checkpoint": Configuration(dense, BOTH, fit=resumed),
    "plain": Configuration(lambda: dense(linear_path=False), PLAIN, digits_in_float64),
    "plain checkpoint": Configuration(lambda: dense(linear_path=False), PLAIN, fit=resumed),
    "plain ordered": Configuration(
        lambda: dense(4, linear_path=False, truncations="auto"), PLAIN, truncated=2
    ),
    "plain weighted": Configuration(
        lambda: dense(linear_path=False, activation="elu"), PLAIN, fit=weighted
    ),
    "l1": Configuration(lambda: dense(6, penalty="l1", alpha=0.1), PLAIN),
    "contractive": Configuration(lambda: dense(penalty="contractive", alpha=0.1), PLAIN),
    "variational": Configuration(lambda: dense(penalty="variational"), PLAIN),
    "bounded": Configuration(lambda: dense(linear_path=False, output_activation="sigmoid"), PLAIN),
    "poisson": Configuration(lambda: dense(loss="poisson"), PLAIN, counts),
    "cross-entropy of sparse rows": Configuration(lambda: dense(loss="bce"), PLAIN, sparse_digits),
    "convolutional": Configuration(
        lambda: conv(max_epochs=12), BOTH, images, tolerance=TOLERANCE_OF_CONVOLUTIONS
    ),
    "plain convolutional": Configuration(lambda: conv(linear_path=False), PLAIN, images),
    "convolutional map": Configuration(
        lambda: conv(16, bottleneck="map", channels=(4,), linear_path=False),
        PLAIN,
        images,
    ),
}
PICKLED = ("both networks", "plain", "convolutional")


def stored_path(name, kind):
    """Where a file of a configuration lies."""
    return FOLDER / f"{name.replace(' ', '-')}.{kind}"


def main(names):
    path = FOLDER / "golden.npz"
    arrays = dict(np.load(path)) if names else {}
    for name in names or CONFIGURATIONS:
        estimator, results = CONFIGURATIONS[name].results()
        arrays |= {f"{name}/{key}": value for key, value in results.items()}
        skae.save(estimator, stored_path(name, "skae"))
        if name in PICKLED:
            stored_path(name, "pickle").write_bytes(pickle.dumps(estimator))
    np.savez_compressed(path, **arrays)


if __name__ == "__main__":
    main(sys.argv[1:])
