"""Training on rows with missing entries: losses and errors are those of the observed entries.

In training some observed entries of each row are hidden from the networks, anew in each batch, and
filled as missing ones are: the networks learn to reconstruct entries that they are not given.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import nn

from .._data.dense_rows import CompletedRows
from .._nn.losses import Loss, SquaredError
from .._pca.holdout import directions_without_validation
from .._pca.missing import fill
from .._runtime.device import in_float64
from .residual import RowsProblem, ScoresProblem

# Largest share of the observed entries of a row that are hidden in training; it differs by row.
_MOST_HIDDEN = 0.5


class ObservedEntries(nn.Module):
    """A loss for targets that are NaN where an entry is missing, whose part in the loss is zero.

    Parameters
    ----------
    loss : Loss
        A sum over columns that is zero where output and target agree.
    directions : Tensor of shape (p, r), default=None
        If given, outputs are scores along these.
    """

    def __init__(self, loss: Loss, directions: torch.Tensor | None = None):
        super().__init__()
        self.loss = loss
        self.register_buffer("directions", directions)

    def forward(self, output, x, w=None):
        if self.directions is not None:
            output = output.float() @ self.directions.T
        return self.loss(output, with_output_for_missing(x, output), w)


def with_output_for_missing(x, output):
    """The target x with outputs in the place of NaN."""
    return torch.where(x.isnan(), output.detach().to(x.dtype), x)


@dataclass(frozen=True)
class Targets:
    """What a `RowSet` with missing entries is trained for.

    Attributes
    ----------
    get_target : callable
        Returns the observed entries of rows with given indices, with NaN for missing ones.
    corrupted_batch : callable
        Returns the input for rows with given indices, of which a seed determines hidden entries.
    criterion : ObservedEntries
    """

    get_target: Callable[[np.ndarray], torch.Tensor]
    corrupted_batch: Callable[[np.ndarray, int], torch.Tensor]
    criterion: ObservedEntries


def partly_hidden(rows: CompletedRows, indices, seed) -> np.ndarray:
    """Rows with given indices, of which some observed entries were hidden and filled again."""
    X, rng = rows.completed.observed[indices], np.random.RandomState(seed)
    shares = _MOST_HIDDEN * rng.random_sample((len(X), 1))
    X = np.where(rng.random_sample(X.shape) < shares, np.nan, X)
    return fill(X, rows.completed.mean, rows.completed.loadings)


class _ObservedProblem:
    """Before a `ResidualProblem`: the same with errors of the observed entries."""

    @cached_property
    def squared_norms(self):
        return self.rows.observed_norms()

    def row_set(self, indices, labels=None):
        targets = Targets(self.get_target, self.corrupted_batch, self._criterion())
        return replace(super().row_set(indices, labels), targets=targets)

    def _squared_errors(self, x_hat, x, indices):
        target = self.get_target(indices).to(x_hat.device)
        return in_float64(target - self._rows_of(x_hat)).square().nansum(dim=1)

    def _of_observed(self):
        """Return this copy with the errors that PCA has on the observed entries."""
        self.outside_subspace = np.zeros(len(self))
        self.linear_errors = self.errors(self.new_module(False), np.arange(len(self)))
        return self


class ObservedScoresProblem(_ObservedProblem, ScoresProblem):
    """A `ScoresProblem` of `CompletedRows`: networks take the scores of filled rows."""

    def _in_basis_without(self, scores, fitted, validation):
        directions = directions_without_validation(self.rows, scores, validation)
        return self._in_basis(directions, self.rows.times(directions), fitted)

    def _in_basis_of_all(self, scores):
        return self._in_basis(self.basis.directions, scores, np.arange(len(self)))

    def _in_basis(self, directions, scores, indices):
        problem = self._with(scores, indices)
        problem._directions = directions.float().to(self.device)
        return problem._of_observed()

    def _criterion(self):
        return ObservedEntries(SquaredError(), self._directions)

    def _rows_of(self, x_hat):
        return x_hat @ self._directions.T

    def get_target(self, indices):
        return (self.rows.observed.centred(indices) / self.unit).float()

    def corrupted_batch(self, indices, seed):
        X = partly_hidden(self.rows, indices, seed) - self.rows.mean
        x = torch.from_numpy(X / self.unit).float().to(self.device)
        return x @ self._directions


class ObservedRowsProblem(_ObservedProblem, RowsProblem):
    """A `RowsProblem` of `CompletedRows`: networks take filled rows."""

    def _with(self, directions, scores, indices):
        return super()._with(directions, scores, indices)._of_observed()

    def _criterion(self):
        return ObservedEntries(SquaredError())

    def _rows_of(self, x_hat):
        return x_hat

    def get_target(self, indices):
        return (self.rows.observed.dense(indices) / self.unit).float()

    def corrupted_batch(self, indices, seed):
        return torch.from_numpy(partly_hidden(self.rows, indices, seed) / self.unit).float()
