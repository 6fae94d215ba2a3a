"""What a fit will do: every "auto" resolved, before long work; nothing below sees an estimator."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from numbers import Integral, Real
from typing import Any

import torch

from .._data.dense_rows import CompletedRows
from .._data.rows import rows_of
from .._nn.autoencoders import LinearPathAutoencoder
from .._nn.builders import Networks, NetworkSettings
from .._nn.losses import LOSSES
from .._pca.holdout import shortest_code
from .._training.gate import Wishes
from .._training.observed import ObservedRowsProblem, ObservedScoresProblem
from .._training.residual import RowsProblem, ScoresProblem
from .auto import resolve_latent_dim, resolve_linear_path, resolve_truncations
from .state import pca_module, split_directions


class Form(ABC):
    """Where networks on top of PCA take their inputs from."""

    # Whether columns that are never used can be left out.
    drops_unused_columns = False

    @staticmethod
    @abstractmethod
    def problem(rows, basis, latent_dim, build, device):
        """The `ResidualProblem` of networks that ``build(*buffers, encoder=...)`` makes."""

    @staticmethod
    @abstractmethod
    def fields(module, rows, basis, latent_dim, dtype):
        """Fields of the `FittedState` of PCA with a module, which is None for PCA alone."""


class OnScores(Form):
    """Networks on the principal component scores of rows."""

    drops_unused_columns = True

    @staticmethod
    def problem(rows, basis, latent_dim, build, device):
        kind = ObservedScoresProblem if isinstance(rows, CompletedRows) else ScoresProblem
        return kind(rows, basis, latent_dim, build, device)

    @staticmethod
    def fields(module, rows, basis, latent_dim, dtype):
        module = module or pca_module(latent_dim)
        n_used = len(module.scale)
        components, further_components = split_directions(basis.directions[:, :n_used], latent_dim)
        return {
            "module": module,
            "dtype": components.dtype,
            "components": components,
            "further_components": further_components,
            "columns": rows.columns,
            "n_features": None if rows.columns is None else rows.n_features,
            "n_rows": len(rows),
            "variances": basis.variances[:n_used],
            "total_variance": basis.total_variance,
        }


class OnRows(Form):
    """Networks on the rows themselves."""

    @staticmethod
    def problem(rows, basis, latent_dim, build, device):
        kind = ObservedRowsProblem if isinstance(rows, CompletedRows) else RowsProblem
        return kind(rows, basis, build, device)

    @staticmethod
    def fields(module, rows, basis, latent_dim, dtype):
        if module is None:
            scale = torch.ones(latent_dim, dtype=torch.float32)
            directions = basis.directions[:, :latent_dim]
            module = LinearPathAutoencoder(torch.from_numpy(rows.mean), directions, scale)
        known = {"n_rows": len(rows), "total_variance": basis.total_variance}
        return {"module": module, "dtype": dtype, **known}


@dataclass(frozen=True)
class FitPlan:
    """What a fit will do.

    Attributes
    ----------
    networks : Networks
        Builds the networks.
    form : type of Form or None
        None for a plain autoencoder, without PCA.
    n_directions : int
        Principal directions to compute; 0 for a plain autoencoder.
    has_networks : bool
        Whether networks are trained on top of PCA.
    wishes : Wishes
        What the user asks of them.
    memory : str, joblib.Memory or None
    fields : dict
        Fields of the `FittedState` about the shape of rows.
    """

    networks: Networks
    form: type[Form] | None
    n_directions: int
    has_networks: bool
    wishes: Wishes
    memory: Any = None
    fields: dict = field(default_factory=dict)

    @property
    def latent_dim(self):
        return self.networks.settings.latent_dim

    def __str__(self):
        if self.form is None:
            return f"plan: a plain autoencoder of {self.latent_dim} dimensions, {self.networks}"
        networks = f", then {self.networks} if they gain" if self.has_networks else ""
        return (
            f"plan: PCA of {self.latent_dim} dimensions by {self.n_directions} principal "
            f"directions{networks}"
        )


def network_settings(estimator, latent_dim, masked, previous=None):
    """The `NetworkSettings` that the parameters determine."""
    return NetworkSettings(
        latent_dim=latent_dim,
        linear_path=resolve_linear_path(estimator),
        lengths=resolve_truncations(estimator.truncations, latent_dim),
        loss=LOSSES[estimator.loss],
        activation=estimator.activation,
        output_activation=estimator.output_activation,
        penalty=estimator.penalty,
        alpha=estimator.alpha,
        encoder=estimator.encoder,
        decoder=estimator.decoder,
        masked=masked,
        noise=estimator.noise,
        one_row=estimator.batch_size == 1,
        previous=previous,
    )


def length_of_code(latent_dim, linear_path, given, options, rng):
    """Length of the code: ``latent_dim``, or the length for that share of the variance."""
    if not is_share(latent_dim):
        return resolve_latent_dim(latent_dim, linear_path, *given.X.shape)
    rows = rows_of(given.X, weights=given.weights, device=options.device)
    seed = rng.randint(2**31)
    return options.checkpoint.load_or_compute(
        "length",
        lambda: shortest_code(rows, latent_dim, options.validation_fraction, seed, options.groups),
    )


def is_share(latent_dim):
    """Whether a length is given as a share of the variance."""
    return isinstance(latent_dim, Real) and not isinstance(latent_dim, Integral)
