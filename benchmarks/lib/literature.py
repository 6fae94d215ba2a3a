"""The networks that tutorials and papers start from, trained as their authors train them.

Adam with a rate of 0.001 that never changes, batches of 64, mean squared error, weights as PyTorch
or Xavier draws them. They know nothing of PCA, schedules or test rows; they are here to stand
beside `ConvAutoencoder` in `benchmarks.pictures`.
"""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import nn

BATCH, RATE = 64, 1e-3


@dataclass(frozen=True)
class Network:
    """One network of the literature.

    Attributes
    ----------
    build : callable
        ``build(latent_dim)`` makes (encoder, decoder), from pictures to codes and back.
    shape : tuple of int
        (channels, height, width) of a picture, or (pixels,) for flat ones.
    low, high : float
        Range that its authors scale pixels to.
    epochs : int
        How long its authors train it.
    """

    build: Callable[[int], tuple[nn.Module, nn.Module]]
    shape: tuple[int, ...]
    low: float = 0.0
    high: float = 1.0
    epochs: int = 10


def fully_connected(latent_dim):
    """784-128-64-12-k, ReLU, sigmoid output."""
    widths = [784, 128, 64, 12, latent_dim]
    return _perceptron(widths), nn.Sequential(*_perceptron(widths[::-1]), nn.Sigmoid())


def _perceptron(widths):
    layers = []
    for n_inputs, n_outputs in pairwise(widths):
        layers += [nn.Linear(n_inputs, n_outputs), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def strided(latent_dim):
    """16-32-k strided convolutions, the last one 7 x 7 so that one position is left; sigmoid."""
    encoder = nn.Sequential(
        nn.Conv2d(1, 16, 3, stride=2, padding=1),  # (16, 14, 14)
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, stride=2, padding=1),  # (32, 7, 7)
        nn.ReLU(),
        nn.Conv2d(32, latent_dim, 7),
        nn.Flatten(),
    )
    decoder = nn.Sequential(
        nn.Unflatten(1, (latent_dim, 1, 1)),
        nn.ConvTranspose2d(latent_dim, 32, 7),
        nn.ReLU(),
        nn.ConvTranspose2d(32, 16, 3, stride=2, padding=1, output_padding=1),
        nn.ReLU(),
        nn.ConvTranspose2d(16, 1, 3, stride=2, padding=1, output_padding=1),
        nn.Sigmoid(),
    )
    return encoder, decoder


def two_a_stage(latent_dim):
    """3 x 3 convolutions 16-16-32-32-64-64, a linear layer from 4,096, Xavier weights."""
    encoder, decoder, channels = [], [], 3
    for n_channels, stride in ((16, 1), (16, 1), (32, 2), (32, 1), (64, 2), (64, 1)):
        encoder += [nn.Conv2d(channels, n_channels, 3, stride, padding=1), nn.ReLU()]
        back = nn.ConvTranspose2d(n_channels, channels, 3, stride, 1, output_padding=stride - 1)
        decoder = [back, nn.ReLU(), *decoder]
        channels = n_channels
    encoder += [nn.Flatten(), nn.Linear(4096, latent_dim)]
    decoder = [nn.Linear(latent_dim, 4096), nn.ReLU(), nn.Unflatten(1, (64, 8, 8)), *decoder[:-1]]
    for layer in (*encoder, *decoder):
        if hasattr(layer, "weight"):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
    return nn.Sequential(*encoder), nn.Sequential(*decoder)


NETWORKS = {
    "784-128-64-12": Network(fully_connected, (784,)),
    "16-32-k strided": Network(strided, (1, 28, 28)),
    "16-16-32-32-64-64": Network(two_a_stage, (3, 32, 32), low=-1.0),
}


class Literature:
    """A network of the literature with the methods of PCA.

    Parameters
    ----------
    name : one of NETWORKS
    latent_dim : int
    seed : int
    seconds : float, default=inf
        If given, train for so many instead of the epochs of its authors.
    on_batch : callable, default=None
        Called with (epoch, loss) after every batch, for curves.
    on_epoch : callable, default=None
        Called with (epoch, self) after every epoch, for pictures.

    Pictures come and go flat in [0, 1], colours last.
    """

    def __init__(self, name, latent_dim, seed=0, *, seconds=np.inf, on_batch=None, on_epoch=None):
        self.network = NETWORKS[name]
        self.seed = seed
        self.seconds = seconds
        self.on_batch = on_batch or (lambda epoch, loss: None)
        self.on_epoch = on_epoch or (lambda epoch, model: None)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.encoder, self.decoder = self.network.build(latent_dim)

    def fit(self, X):
        parameters = [*self.encoder.parameters(), *self.decoder.parameters()]
        optimizer = torch.optim.Adam(parameters, lr=RATE)
        generator = torch.Generator().manual_seed(self.seed)
        start = time.perf_counter()
        n_epochs = self.network.epochs if self.seconds == np.inf else sys.maxsize
        for epoch in range(1, n_epochs + 1):
            for indices in torch.randperm(len(X), generator=generator).split(BATCH):
                x = self._pictures(X[indices.numpy()])
                loss = nn.functional.mse_loss(self.decoder(self.encoder(x)), x)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                self.on_batch(epoch, loss.item())
                if time.perf_counter() - start > self.seconds:
                    return self
            self.on_epoch(epoch, self)
        return self

    @torch.inference_mode()
    def transform(self, X):
        codes = [self.encoder(self._pictures(rows)) for rows in np.array_split(X, _parts(X))]
        return torch.cat(codes).numpy()

    @torch.inference_mode()
    def inverse_transform(self, X):
        parts = [
            self._rows(self.decoder(torch.from_numpy(Z))) for Z in np.array_split(X, _parts(X))
        ]
        return torch.cat(parts).numpy()

    def _pictures(self, X):
        """Flat rows in [0, 1], colours last, as the network wants them."""
        x = self.network.low + torch.from_numpy(X) * (self.network.high - self.network.low)
        if len(self.network.shape) == 1:
            return x
        channels, height, width = self.network.shape
        return x.view(-1, height, width, channels).permute(0, 3, 1, 2).contiguous()

    def _rows(self, x):
        if x.ndim == 4:
            x = x.permute(0, 2, 3, 1).flatten(1)
        return (x - self.network.low) / (self.network.high - self.network.low)


def _parts(X):
    return -(-len(X) // 1000)
