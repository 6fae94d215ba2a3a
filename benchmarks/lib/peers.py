"""What else reconstructs its input: p-512-k-512-p, five epochs, batches of 256, Adam 0.001.

Each peer is wrapped to have `fit`, `transform` and `inverse_transform` like PCA. Unless told
otherwise it takes rows of p = 784 columns and codes of k = 12 dimensions.
"""

import warnings

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPRegressor
from skorch import NeuralNetRegressor
from torch import nn

HIDDEN, EPOCHS, BATCH, RATE = 512, 5, 256, 1e-3


class Peer:
    """``transform`` returns the reconstructions, which ``inverse_transform`` hands on."""

    def __init__(self, fit, reconstruct):
        self._fit = fit
        self._reconstruct = reconstruct

    def fit(self, X):
        self._fit(X)
        return self

    def transform(self, X):
        return self._reconstruct(X)

    def inverse_transform(self, X):
        return X


def network(n_features, latent_dim):
    return nn.Sequential(
        nn.Linear(n_features, HIDDEN),
        nn.ReLU(),
        nn.Linear(HIDDEN, latent_dim),
        nn.Linear(latent_dim, HIDDEN),
        nn.ReLU(),
        nn.Linear(HIDDEN, n_features),
    )


def seeded_network(seed, n_features, latent_dim):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return network(n_features, latent_dim)


def bare_loop(seed, n_features=784, latent_dim=12):
    module = seeded_network(seed, n_features, latent_dim)
    generator = torch.Generator().manual_seed(seed)

    def fit(X):
        X = torch.from_numpy(X)
        optimizer = torch.optim.Adam(module.parameters(), lr=RATE)
        for _ in range(EPOCHS):
            for rows in torch.randperm(len(X), generator=generator).split(BATCH):
                optimizer.zero_grad()
                nn.functional.mse_loss(module(X[rows]), X[rows]).backward()
                optimizer.step()

    @torch.inference_mode()
    def reconstruct(X):
        return module(torch.from_numpy(X)).numpy()

    return Peer(fit, reconstruct)


def skorch_by_hand(seed, n_features=784, latent_dim=12):
    net = NeuralNetRegressor(
        seeded_network(seed, n_features, latent_dim),
        max_epochs=EPOCHS,
        batch_size=BATCH,
        lr=RATE,
        optimizer=torch.optim.Adam,
        iterator_train__shuffle=True,
        train_split=None,
        verbose=0,
    )
    return Peer(lambda X: net.fit(X, X), net.predict)


def mlp_regressor(seed, n_features=784, latent_dim=12):
    # It has no layer without an activation, so the code passes a ReLU as well.
    model = MLPRegressor(
        hidden_layer_sizes=(HIDDEN, latent_dim, HIDDEN),
        batch_size=BATCH,
        learning_rate_init=RATE,
        max_iter=EPOCHS,
        n_iter_no_change=EPOCHS,
        random_state=seed,
    )

    def fit(X):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(X, X)

    return Peer(fit, model.predict)


def pyod(seed, n_features=784, latent_dim=12):
    try:
        from pyod.models.auto_encoder import AutoEncoder
    except ImportError:
        return None
    model = AutoEncoder(
        epoch_num=EPOCHS,
        batch_size=BATCH,
        lr=RATE,
        hidden_neuron_list=[HIDDEN, latent_dim],
        random_state=seed,
        verbose=0,
    )

    @torch.inference_mode()
    def reconstruct(X):
        # As its own Dataset does, but for constant columns, which that divides by almost zero.
        scaled = np.where(model.X_std > 0, (X - model.X_mean) / (model.X_std + 1e-8), 0)
        X_hat = model.model.eval()(torch.as_tensor(scaled, dtype=torch.float32)).numpy()
        return X_hat * model.X_std + model.X_mean

    return Peer(model.fit, reconstruct)


PEERS = {
    "PyOD AutoEncoder": pyod,
    "MLPRegressor(X, X)": mlp_regressor,
    "skorch by hand": skorch_by_hand,
    "bare PyTorch loop": bare_loop,
}
