"""A fitted state on a device: codes, reconstructions and errors of rows."""

from abc import ABC, abstractmethod
from copy import deepcopy

import torch
from torch import nn

from .._data.rows import rows_of
from .._runtime.device import in_float64, supported_dtype
from .._runtime.tensors import tensor_of, torch_dtype

# Bytes of rows that are made dense at a time for networks on the rows themselves.
_BATCH_BYTES = 8 * 2**20


class Codec(ABC):
    """A `FittedState` on a device: from `Rows` to codes and back.

    Parameters
    ----------
    state : FittedState
    device : torch.device
    """

    row_bytes: int  # memory for encoding one row, in addition to the row itself

    def __init__(self, state, device):
        fitted_dtype = torch_dtype(state.mean.dtype)
        self.device = device
        self.dtype = supported_dtype(fitted_dtype, device)
        self.module: nn.Module = state.module
        if device.type != "cpu" or self.dtype != fitted_dtype:
            self.module = deepcopy(state.module).to(self.dtype).to(device)
        self.mean = self.placed(state.mean)
        self._mean_of_rows = state.mean

    def placed(self, array):
        """An array or tensor as a tensor on the device."""
        tensor = array if isinstance(array, torch.Tensor) else tensor_of(array)
        return tensor.to(self.dtype).to(self.device)

    def rows(self, X):
        """Rows of X as `Rows` on the device."""
        return rows_of(X, mean=self._mean_of_rows, dtype=self.dtype, device=self.device)

    def bytes_of_row(self, X):
        """Memory for encoding a row of X, including the row if it is read from a file."""
        return self.row_bytes + getattr(X, "row_bytes", 0)

    @abstractmethod
    def encode(self, rows):
        """Codes of the rows: Tensor of shape (n, k)."""

    @abstractmethod
    def decode(self, codes):
        """Rows from their codes: Tensor of shape (n, p)."""

    @abstractmethod
    def errors(self, rows):
        """Reconstruction error of each row by the loss: float64 Tensor of shape (n,)."""

    @abstractmethod
    def errors_by_column(self, rows):
        """The part of each entry in the error of its row: float64 Tensor of shape (n, p)."""

    @abstractmethod
    def errors_of_mean(self, rows):
        """Errors of the rows with the mean as the reconstruction of each."""


class PrincipalCodec(Codec):
    """The codec of a module that takes principal component scores."""

    def __init__(self, state, device):
        super().__init__(state, device)
        self.components = self.placed(state.components)
        self.further_components = self.placed(state.further_components)
        n_scores = len(self.components) + len(self.further_components)
        widest = max((len(weight) for weight in self.module.parameters()), default=0)
        self.row_bytes = 4 * max(n_scores, widest) * self.components.itemsize

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
        return self._decoded(codes, self.mean)

    def _decoded(self, codes, origin):
        """Reconstructions of codes, for directions that start at an origin."""
        scores = self.module.decode(codes)
        k = len(self.components)
        x_hat = torch.addmm(origin, scores[:, :k], self.components)
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

    @torch.inference_mode()
    def errors_by_column(self, rows):
        # Around the mean: the difference of two large numbers would lose digits.
        codes = self.encode(rows).to(self.mean.device)
        centred = self._decoded(codes, torch.zeros_like(self.mean))
        return in_float64(rows.centred(slice(None)) - centred).square()

    def errors_of_mean(self, rows):
        return torch.from_numpy(rows.squared_norms())


class PlainCodec(Codec):
    """The codec of a module that takes the rows themselves, made dense in batches."""

    def __init__(self, state, device):
        super().__init__(state, device)
        self.row_bytes = 4 * state.latent_dim
        # Activations of the layers take several times the memory of the batch.
        self._batch_size = max(1, _BATCH_BYTES // (4 * len(state.mean)))

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
    def errors_by_column(self, rows):
        batches = self._batches(rows)
        errors = [self.module.deviances_by_column(self.module(x), x) for x in batches]
        return in_float64(torch.cat(errors))

    @torch.inference_mode()
    def errors_of_mean(self, rows):
        output = self.module.output_of_mean(self.mean)
        batches = self._batches(rows)
        return torch.cat([self.module.deviances(output, x) for x in batches])

    def _batches(self, rows):
        for start in range(0, len(rows), self._batch_size):
            yield rows.dense(slice(start, start + self._batch_size))
