"""A fitted state on a device: codes, reconstructions and errors of rows."""

from abc import ABC, abstractmethod
from copy import deepcopy
from itertools import repeat

import numpy as np
import torch
from torch import nn

from .._data.dense_rows import CompletedRows
from .._data.incomplete import CompletedArray, has_missing
from .._data.rows import rows_of
from .._pca.missing import fill
from .._runtime.device import in_float64, supported_dtype
from .._runtime.tensors import tensor_of, torch_dtype
from .._training.observed import with_output_for_missing

# Bytes of rows that are made dense at a time for networks on the rows themselves.
_BATCH_BYTES = 8 * 2**20

# Rows that networks on scores take at a time on the CPU, so that activations stay in its cache.
_ROWS_OF_PART = 1024

# How often missing entries move half of the way to the reconstruction by the networks. Further
# steps, or whole ones, make rows worse of which half is missing (docs/design.md).
_N_PASSES = 2


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
        self.module.eval()  # also after the user has trained it further
        self.mean = self.placed(state.mean)
        self._mean_of_rows = state.mean
        self._loadings = state.loadings

    def placed(self, array):
        """An array or tensor as a tensor on the device."""
        tensor = array if isinstance(array, torch.Tensor) else tensor_of(array)
        return tensor.to(self.dtype).to(self.device)

    def rows(self, X, *, compared=False):
        """Rows of X as `Rows` on the device, filled where entries are missing.

        Raises ValueError if the loss is not defined for X and errors, or logarithms, are computed.
        """
        loss = getattr(self.module, "loss", None)
        if loss is not None and (compared or loss.of_counts):
            loss.check(X)
        if self._loadings is not None and has_missing(X):
            X = CompletedArray(self._filled(X), X, self._mean_of_rows, self._loadings)
        return rows_of(X, mean=self._mean_of_rows, dtype=self.dtype, device=self.device)

    def _filled(self, X):
        """X with each NaN filled: linearly, then partly by the reconstructions of the networks."""
        filled, incomplete = X.copy(), np.isnan(X).any(axis=1)
        x = X[incomplete]
        x_filled = fill(x, self._mean_of_rows, self._loadings)
        has_networks = any(True for _ in self.module.parameters())
        for _ in range(_N_PASSES if has_networks else 0):
            x_hat = self.decode(self.encode(self.rows(x_filled))).cpu().numpy()
            x_filled = np.where(np.isnan(x), (x_filled + x_hat) / 2, x)
        filled[incomplete] = x_filled
        return filled

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
        self._columns = state.columns
        n_scores = len(self.components) + len(self.further_components)
        widest = max((len(weight) for weight in self.module.parameters()), default=0)
        self.row_bytes = 4 * max(n_scores, widest) * self.components.itemsize

    def wide(self, directions):
        """Directions of shape (p, r): zero in the columns that have no part in them."""
        if self._columns is None:
            return directions.T
        wide = directions.new_zeros(len(self.mean), len(directions))
        wide[torch.from_numpy(self._columns).to(wide.device)] = directions.T
        return wide

    def _with_part(self, rows):
        """The rows of the columns that have a part in the directions."""
        return rows if self._columns is None else rows.of_columns(self._columns)

    def _scores(self, rows):
        rows = self._with_part(rows)
        scores = (rows.times(part.T) for part in (self.components, self.further_components))
        return torch.cat([part.to(self.mean.device) for part in scores], dim=1)

    @torch.inference_mode()
    def encode(self, rows):
        if self.module.encoder is None:
            return self._with_part(rows).times(self.components.T)
        return _by_parts(self.module.encode, self._scores(rows))

    @torch.inference_mode()
    def decode(self, codes):
        return self._decoded(codes, self.mean)

    def _decoded(self, codes, origin):
        """Reconstructions of codes, for directions that start at an origin."""
        scores = _by_parts(self.module.decode, codes)
        k, columns = len(self.components), self._columns
        if columns is not None:
            columns = torch.from_numpy(columns).to(origin.device)
        part = origin if columns is None else origin[columns]
        x_hat = torch.addmm(part, scores[:, :k], self.components)
        if self.module.decoder is not None:
            x_hat.addmm_(scores[:, k:], self.further_components)
        if columns is None:
            return x_hat
        return origin.repeat(len(x_hat), 1).index_copy_(1, columns, x_hat)

    @torch.inference_mode()
    def errors(self, rows):
        if isinstance(rows, CompletedRows):
            x_hat = self.decode(self.encode(rows))
            return in_float64(rows.observed.dense(slice(None)) - x_hat).square().nansum(dim=1)
        # |x - x_hat|^2 = |x - m|^2 - |y|^2 + |y - y_hat|^2, because the directions are orthonormal.
        y = self._scores(rows)
        y_hat = _by_parts(self.module, y)
        changes = (in_float64(y - y_hat).square() - in_float64(y).square()).sum(dim=1)
        norms = torch.from_numpy(rows.squared_norms()).to(changes.device)
        return (norms + changes).clamp_min_(0.0)

    @torch.inference_mode()
    def errors_by_column(self, rows):
        # Around the mean: the difference of two large numbers would lose digits.
        codes = self.encode(rows).to(self.mean.device)
        centred = self._decoded(codes, torch.zeros_like(self.mean))
        given = rows.observed if isinstance(rows, CompletedRows) else rows
        errors = in_float64(given.centred(slice(None)) - centred).square()
        return errors.masked_fill_(errors.isnan(), 0.0)  # of missing entries

    def errors_of_mean(self, rows):
        incomplete = isinstance(rows, CompletedRows)
        return torch.from_numpy(rows.observed_norms() if incomplete else rows.squared_norms())


def _by_parts(network, values):
    """What a network returns for rows."""
    if values.device.type != "cpu":
        return network(values)
    return torch.cat([network(part) for part in values.split(_ROWS_OF_PART)])


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
        outputs = (self.module(x) for x in self._batches(rows))
        return self._deviances(outputs, rows, self.module.deviances)

    @torch.inference_mode()
    def errors_by_column(self, rows):
        outputs = (self.module(x) for x in self._batches(rows))
        return in_float64(self._deviances(outputs, rows, self.module.deviances_by_column))

    @torch.inference_mode()
    def errors_of_mean(self, rows):
        outputs = repeat(self.module.output_of_mean(self.mean))
        return self._deviances(outputs, rows, self.module.deviances)

    def _deviances(self, outputs, rows, compare):
        """What a method of the module returns for rows and the outputs of their batches."""
        if isinstance(rows, CompletedRows):
            rows = rows.observed
        errors = []
        for x, output in zip(self._batches(rows), outputs, strict=False):
            errors.append(compare(output, with_output_for_missing(x, output)))
        return torch.cat(errors)

    def _batches(self, rows):
        for start in range(0, len(rows), self._batch_size):
            yield rows.dense(slice(start, start + self._batch_size))
