"""Training problems of networks on top of PCA: on principal component scores, and on whole rows."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from copy import copy
from dataclasses import replace
from functools import cached_property, partial

import numpy as np
import torch

from .._data.dense_rows import Rows, weights_of
from .._nn.autoencoders import LinearPathAutoencoder, ResidualAutoencoder
from .._nn.penalties import fitted_head
from .._pca.holdout import directions_without_validation, scores_without_validation
from .._pca.solvers import Basis
from .._runtime.device import in_float64, in_pieces
from .._runtime.tensors import in_float32, rows_at, squared_row_norms
from .data import row_set

# Standard deviations and clipping bounds are estimated from about this number of rows.
_SAMPLE_SIZE = 10_000

# What the outputs of a classifier are multiplied by, to find the factor that suits new rows.
_FACTORS_OF_CERTAINTY = [1.2**power for power in range(-12, 4)]

# Number of rows whose errors are computed at a time.
_BATCH_SIZE = 1024


class ResidualProblem(ABC):
    """Rows that non-linear networks are to reconstruct with smaller errors than PCA.

    Batches are in a unit in which typical values are near one, whatever the unit of X; errors are
    in squared units of X. A new problem has computed nothing yet: batches, errors and modules are
    those of the two copies that `in_both_bases` returns.

    Parameters
    ----------
    rows : Rows
        n rows.
    basis : Basis
        Their leading principal directions.
    latent_dim : int
        Length k of the code.

    Attributes
    ----------
    weights : ndarray of shape (n,)
        Weight of each row.
    linear_errors : ndarray of shape (n,)
        Squared error of PCA on each row.
    outside_subspace : ndarray of shape (n,)
        Part of `linear_errors` that is outside the subspace of the batches, which no network
        reconstructs.
    device : torch.device
        Where batches are wanted.
    """

    linear_errors = outside_subspace = None

    def __init__(self, rows: Rows, basis: Basis, latent_dim: int, device: torch.device):
        self.rows = rows
        self.basis = basis
        self.latent_dim = latent_dim
        self.device = device
        self.weights = weights_of(rows)

    def __len__(self):
        return len(self.rows)

    @property
    def squared_norms(self):
        """Squared distance of each row from the mean: shape (n,)."""
        return self.rows.squared_norms()

    @property
    @abstractmethod
    def unit(self):
        """Distance in X of two rows whose distance in a batch is 1."""

    def in_both_bases(self, fitted, validation):
        """Compute the problem without the validation rows in the basis, and in the basis of all.

        Their coordinates are as similar as possible, so that networks trained in the first basis
        can be trained further in the second.

        Parameters
        ----------
        fitted, validation : ndarray of int
            Indices of the rows for training, and of the validation rows.

        Returns
        -------
        without_validation, of_all : ResidualProblem
        """
        self.rows.prepare_for_many_products()  # same summation order with and without the cache
        scores = self.rows.times(self.basis.directions)
        without_validation = self._in_basis_without(scores, fitted, validation)
        return without_validation, self._in_basis_of_all(scores)

    @abstractmethod
    def _in_basis_without(self, scores, fitted, validation):
        """A copy in a basis without the validation rows."""

    @abstractmethod
    def _in_basis_of_all(self, scores):
        """A copy in the basis of all rows. May overwrite the scores."""

    @abstractmethod
    def get_batch(self, indices):
        """Rows with given indices as networks take them: a dense tensor."""

    @abstractmethod
    def new_module(self, encoder):
        """A new module that equals PCA until it is trained.

        It has a non-linear decoder, and with ``encoder`` a non-linear encoder too.
        """

    @abstractmethod
    def finished(self, module):
        """The trained module, changed in place to take and return rows in the unit of X."""

    def row_set(self, indices, labels=None):
        """Some of the rows, for training or validation, with their `Labels` if given."""
        return row_set(
            self.get_batch,
            indices,
            self.weights,
            self.squared_norms,
            factor=self.unit**2,
            outside_subspace=self.outside_subspace,
            labels=labels,
            device=self.device,
        )

    @abstractmethod
    def limit(self, module, indices):
        """Let the networks fade out beyond the rows with given indices, if they have a reach."""

    def variance(self, indices):
        """Weighted sum of the squared distances of some rows from the mean; 1.0 if it is 0."""
        return self.weights[indices] @ self.squared_norms[indices] or 1.0

    def explained_by_pca(self, indices):
        """Share of the variance of some rows that PCA explains."""
        return 1 - float(
            self.weights[indices] @ self.linear_errors[indices] / self.variance(indices)
        )

    @torch.inference_mode()
    def errors(self, module, indices, length=None):
        """Squared error of a module on each of some rows, from codes cut to a length if given."""
        module.eval()
        errors = []

        def compute(indices):
            x = self.get_batch(indices)
            x_hat = module.decode(module.encode(x)[:, :length])
            return self._squared_errors(x_hat, x, indices)

        for batch in np.array_split(indices, -(-len(indices) // _BATCH_SIZE)):
            errors += in_pieces(batch, compute)
        return self.unit**2 * torch.cat(errors).cpu().numpy() + self.outside_subspace[indices]

    def _squared_errors(self, x_hat, x, indices):
        """Squared error of each reconstruction of a batch, in the unit of batches."""
        return in_float64(x - x_hat).square().sum(dim=1)

    @torch.inference_mode()
    def _codes(self, module, indices):
        """Codes of some rows as a head takes them."""
        module.eval()

        def compute(indices):
            return module.standardised(module.encode(self.get_batch(indices))).float()

        batches = np.array_split(indices, -(-len(indices) // _BATCH_SIZE))
        return torch.cat([codes for batch in batches for codes in in_pieces(batch, compute)])

    def label_losses(self, module, labels, fitted, validation):
        """Loss of a classifier, or regressor, of codes on each validation row, times its weight.

        It is fitted to about `_SAMPLE_SIZE` of the other rows. Codes that have seen their labels
        make it too certain, so its outputs are scaled by the factor that suits the validation rows.
        """
        fitted = fitted[:: 1 + len(fitted) // _SAMPLE_SIZE]
        codes, targets = [], []
        for indices in (fitted, validation):
            codes.append(self._codes(module, indices))
            targets.append(labels.weighted(self.weights, indices)[indices].to(codes[0].device))
        std, mean = torch.std_mean(codes[0], dim=0)
        codes = [(z - mean) / torch.where(std > 0, std, 1.0) for z in codes]
        head = fitted_head(codes[0], targets[0], labels.n_classes)
        prediction = head(codes[1])
        losses = [head.losses(factor * prediction, targets[1]) for factor in _FACTORS_OF_CERTAINTY]
        return min(losses, key=torch.sum).double().cpu().numpy()

    def label_gains(self, module, labels, fitted, validation):
        """`label_losses` of PCA minus those of a module, and their unit in squared units of X.

        The unit is PCA's error in the subspace of the batches: the product is what labels add to
        the logarithm of the loss, to first order.
        """
        pca = self.new_module(False)
        gains = self.label_losses(pca, labels, fitted, validation)
        gains -= self.label_losses(module, labels, fitted, validation)
        errors = self.linear_errors[validation] - self.outside_subspace[validation]
        return gains, float(np.average(errors, weights=self.weights[validation]))

    def gains(self, module, indices):
        """Squared error of PCA minus that of a module, on each of some rows."""
        return self.linear_errors[indices] - self.errors(module, indices)

    def gains_when_cut(self, module, indices):
        """Share of the variance of some rows beyond PCA for each length that codes are cut to."""
        if not module.lengths:
            return {}
        pca, weights = self.new_module(False), self.weights[indices]
        variance = self.variance(indices)
        return {
            length: weights
            @ (self.errors(pca, indices, length) - self.errors(module, indices, length))
            / variance
            for length in module.lengths
        }


class ScoresProblem(ResidualProblem):
    """Rows by their principal component scores.

    Parameters
    ----------
    rows : Rows
        n rows.
    basis : Basis
        Their r leading principal directions, r at least k.
    latent_dim : int
        Length k of the code.
    build : callable
        ``build(scale, encoder=...)`` makes a new module, with or without a non-linear encoder.
    device : torch.device
        Device of the batches.
    """

    def __init__(
        self,
        rows: Rows,
        basis: Basis,
        latent_dim: int,
        build: Callable[..., ResidualAutoencoder],
        device: torch.device,
    ):
        super().__init__(rows, basis, latent_dim, device)
        self._build = build

    @cached_property
    def unit(self):
        """Root mean square of the distances of rows from the mean."""
        return float(np.sqrt(np.average(self.squared_norms, weights=self.weights)))

    def _in_basis_without(self, scores, fitted, validation):
        return self._with(
            scores_without_validation(self.rows, scores, validation, self.latent_dim), fitted
        )

    def _in_basis_of_all(self, scores):
        return self._with(scores, np.arange(len(self)))

    def _with(self, scores, indices):
        """A copy with scores in some basis, scaled after the rows with given indices."""
        problem = copy(self)
        problem.outside_subspace = np.maximum(self.squared_norms - squared_row_norms(scores), 0.0)
        beyond_code = squared_row_norms(scores[:, self.latent_dim :])
        problem.linear_errors = problem.outside_subspace + beyond_code
        problem._scores = in_float32(scores.div_(self.unit))
        problem._sample = _sample(problem._scores, indices)
        return problem

    def get_batch(self, indices):
        return rows_at(self._scores, indices).to(self.device)

    def new_module(self, encoder):
        return self._build(balanced_scale(self._sample.std(dim=0)), encoder=encoder)

    @torch.no_grad()
    def limit(self, module, indices):
        module.eval()
        for batch in np.array_split(indices, -(-len(indices) // _BATCH_SIZE)):
            in_pieces(batch, lambda some: module.extend_reach(self.get_batch(some)))

    def finished(self, module):
        module.scale = self.unit * module.scale  # the module is homogeneous
        return module


class RowsProblem(ResidualProblem):
    """The rows themselves.

    Parameters
    ----------
    rows : Rows
    basis : Basis
        Their k leading principal directions.
    build : callable
        ``build(mean, directions, scale, encoder=...)`` makes a new module, with or without a
        non-linear encoder.
    """

    def __init__(
        self,
        rows: Rows,
        basis: Basis,
        build: Callable[..., LinearPathAutoencoder],
        device: torch.device,
    ):
        super().__init__(rows, basis, basis.directions.shape[1], device)
        self._build = build

    @cached_property
    def unit(self):
        """Typical size of a centred entry."""
        return typical_entry(self.rows, self.weights)

    def _in_basis_without(self, scores, fitted, validation):
        directions = directions_without_validation(self.rows, scores, validation)
        return self._with(directions, self.rows.times(directions), fitted)

    def _in_basis_of_all(self, scores):
        return self._with(self.basis.directions, scores, np.arange(len(self)))

    def _with(self, directions, scores, indices):
        """A copy with other directions, scaled after the scores of the rows with given indices."""
        problem = copy(self)
        problem.linear_errors = np.maximum(self.squared_norms - squared_row_norms(scores), 0.0)
        problem.outside_subspace = np.zeros(len(self))
        problem._directions = directions.float()
        standard_deviations = in_float64(_sample(scores, indices)).std(dim=0)
        problem._scale = (balanced_scale(standard_deviations) / self.unit).float()
        return problem

    def get_batch(self, indices):
        return scaled_batch(self.rows.dense, self.unit, indices)

    def row_set(self, indices, labels=None):
        get_batch = partial(scaled_batch, self.rows.own_dense, self.unit)
        return replace(super().row_set(indices, labels), get_batch=get_batch, own=self.rows.own)

    def new_module(self, encoder):
        mean = torch.from_numpy(self.rows.mean / self.unit).float()
        return self._build(mean, self._directions, self._scale, encoder=encoder)

    def limit(self, module, indices):
        pass  # convolutional networks have no reach

    def finished(self, module):
        module.scale = self.unit * module.scale  # the module is homogeneous
        module.unit = self.unit * module.unit
        # Networks are trained in float32; the linear path keeps all digits.
        module.mean = torch.from_numpy(self.rows.mean)
        module.directions = self.basis.directions
        return module


def _sample(scores, indices):
    """The scores of about `_SAMPLE_SIZE` of the rows with given indices."""
    return scores[indices[:: 1 + len(indices) // _SAMPLE_SIZE]]


def balanced_scale(standard_deviations):
    """Geometric mean of each standard deviation and of their root mean square; of 1 if that is 0.

    Scores of very different variance become more alike when they are divided by it.
    """
    common = standard_deviations.square().mean().sqrt()
    common = torch.where(common > 0, common, 1.0)
    return (standard_deviations.clamp_min(1e-6 * common) * common).sqrt()


def typical_entry(rows, weights):
    """Root mean square of the centred entries; 1.0 if all entries are zero.

    At least the precision of float32 at the mean: a smaller value is rounding.
    """
    typical = np.sqrt(np.average(rows.squared_norms(), weights=weights) / rows.shape[1])
    of_mean = np.sqrt(np.mean(np.square(rows.mean)))
    return float(max(typical, np.finfo(np.float32).eps * of_mean)) or 1.0


def scaled_batch(get_rows, unit, indices):
    """Rows with given indices, divided by a unit: a float32 tensor."""
    return (get_rows(indices) / unit).float()
