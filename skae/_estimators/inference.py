"""How a fitted autoencoder turns rows into codes and codes into rows.

A codec works on a bounded number of rows; whoever calls it cuts the data up.
"""

from abc import ABC, abstractmethod

import torch

from .._runtime.device import in_float64

# Rows that a plain codec holds at a time.
_BATCH_BYTES = 8 * 2**20


class Codec(ABC):
    """From `Rows` to codes and back.

    ``row_bytes`` is what encoding holds for each row beyond a batch of X.
    """

    row_bytes: int

    @abstractmethod
    def encode(self, rows):
        """Codes of the rows: Tensor of shape (n, k)."""

    @abstractmethod
    def decode(self, codes):
        """Rows from their codes: Tensor of shape (n, p)."""

    @abstractmethod
    def errors(self, rows):
        """Reconstruction error of each row, as its loss has it: float64 Tensor of shape (n,)."""

    @abstractmethod
    def errors_of_mean(self, rows):
        """The same, had each row been reconstructed by the mean."""


class PrincipalCodec(Codec):
    """A module that works on principal component scores; the columns of X never reach it.

    Parameters
    ----------
    mean : Tensor of shape (p,)
    components : Tensor of shape (k, p)
        The directions of the linear code.
    further_components : Tensor of shape (r - k, p)
        The directions beyond.
    module : ResidualAutoencoder
    """

    def __init__(self, mean, components, further_components, module):
        self.mean = mean
        self.components = components
        self.further_components = further_components
        self.module = module
        n_scores = len(components) + len(further_components)
        widest = max((len(weight) for weight in module.parameters()), default=0)
        self.row_bytes = 4 * max(n_scores, widest) * components.itemsize

    def _scores(self, rows):
        scores = (rows.times(part.T) for part in (self.components, self.further_components))
        return torch.cat([part.to(self.mean.device) for part in scores], dim=1)

    @torch.inference_mode()
    def encode(self, rows):
        if self.module.encoder is None:
            return rows.times(self.components.T)
        return self.module.encode(self._scores(rows))

    @torch.inference_mode()
    def decode(self, codes):
        scores = self.module.decode(codes)
        k = len(self.components)
        x_hat = torch.addmm(self.mean, scores[:, :k], self.components)
        if self.module.decoder is not None:
            x_hat.addmm_(scores[:, k:], self.further_components)
        return x_hat

    @torch.inference_mode()
    def errors(self, rows):
        # |x - x_hat|^2 = |x - m|^2 - |y|^2 + |y - y_hat|^2, because the directions are orthonormal.
        y = self._scores(rows)
        y_hat = self.module(y)
        changes = (in_float64(y - y_hat).square() - in_float64(y).square()).sum(dim=1)
        norms = torch.from_numpy(rows.squared_norms()).to(changes.device)
        return (norms + changes).clamp_min_(0.0)

    def errors_of_mean(self, rows):
        return torch.from_numpy(rows.squared_norms())


class PlainCodec(Codec):
    """A module that works on the rows themselves, made dense a batch at a time.

    Parameters
    ----------
    module : Autoencoder
    mean : Tensor of shape (p,)
        Mean of the rows that were fitted.
    latent_dim : int
    """

    def __init__(self, module, mean, latent_dim):
        n_features = len(mean)
        self.module = module
        self.mean = mean
        self.row_bytes = 4 * latent_dim
        # Whatever lies between the layers is several times as large as the batch itself.
        self._batch_size = max(1, _BATCH_BYTES // (4 * n_features))

    @torch.inference_mode()
    def encode(self, rows):
        return torch.cat([self.module.encode(x) for x in self._batches(rows)])

    @torch.inference_mode()
    def decode(self, codes):
        return torch.cat([self.module.decode(z) for z in codes.split(self._batch_size)])

    @torch.inference_mode()
    def errors(self, rows):
        batches = self._batches(rows)
        return torch.cat([self.module.deviances(self.module(x), x) for x in batches])

    @torch.inference_mode()
    def errors_of_mean(self, rows):
        output = self.module.output_of_mean(self.mean)
        batches = self._batches(rows)
        return torch.cat([self.module.deviances(output, x) for x in batches])

    def _batches(self, rows):
        for start in range(0, len(rows), self._batch_size):
            yield rows.dense(slice(start, start + self._batch_size))
