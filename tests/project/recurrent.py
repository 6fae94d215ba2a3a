"""RecurrentAutoencoder: a third estimator in one file, which test_extending.py puts in place."""

import torch
from torch import nn

from skae._estimators.auto import resolve_linear_path
from skae._estimators.dense import DenseAutoencoder
from skae._estimators.plan import FitPlan, OnRows, length_of_code, network_settings
from skae._nn.autoencoders import LinearPathAutoencoder
from skae._nn.builders import Networks
from skae._nn.layers import Stored, initialised, perceptron
from skae._training.gate import runs_to_try


class LastState(Stored):
    """A GRU that reads the columns of rows one after another; its last state becomes the code."""

    def __init__(self, n_states, n_outputs):
        super().__init__()
        self.gru = nn.GRU(1, n_states, batch_first=True)
        self.norm = nn.LayerNorm(n_states)
        self.linear = nn.Linear(n_states, n_outputs)

    def forward(self, x):
        _, state = self.gru(x.unsqueeze(-1))
        return self.linear(self.norm(state[0]))


class RecurrentNetworks(Networks):
    """A recurrent encoder, and a perceptron as decoder."""

    def __init__(self, settings, n_columns):
        super().__init__(settings)
        self.n_columns = n_columns

    def __str__(self):
        return "a recurrent encoder"

    def pair(self, seed, encoder):
        given, generator = self.settings, torch.Generator().manual_seed(seed)
        f = initialised(generator, LastState, 8, self.n_encoded) if encoder else None
        sizes = [given.latent_dim, 16, self.n_columns]
        return f, initialised(generator, perceptron, sizes, given.activation)

    def residual(self, seed, mean, directions, scale, *, encoder):
        f, g = self.pair(seed, encoder)
        return self._finished(LinearPathAutoencoder(mean, directions, scale, f, g))

    def plain(self, seed):
        return self._plain(*self.pair(seed, True))


class RecurrentAutoencoder(DenseAutoencoder):
    """An autoencoder of sequences of numbers."""

    def _plan(self, given, options, rng, previous):
        linear_path = resolve_linear_path(self)
        k = length_of_code(self.latent_dim, linear_path, given, options, rng)
        wishes, n_columns = self._wishes(), given.X.shape[1]
        return FitPlan(
            RecurrentNetworks(network_settings(self, k, 0.0, previous), n_columns),
            form=OnRows if linear_path else None,
            n_directions=k,
            has_networks=not linear_path or bool(runs_to_try(given.X.shape, k, wishes)),
            wishes=wishes,
        )
