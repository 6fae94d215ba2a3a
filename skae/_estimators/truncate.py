"""Shorter codes, and new rows, from a fitted autoencoder."""

from copy import copy
from typing import Self

import numpy as np
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from .._nn.autoencoders import VariationalAutoencoder
from .._runtime.execution import on_snapshot
from .parameters import random_state_of


class TruncateMixin:
    """`truncate`, for estimators with ``module_`` and ``_cut``."""

    @on_snapshot
    def truncate(self, latent_dim: int) -> Self:
        """Return a fitted autoencoder whose codes are the first numbers of these.

        Where PCA was kept, any length is possible, and gives PCA of that length; else those of
        the parameter ``truncations``.

        Parameters
        ----------
        latent_dim : int
            Length of the shorter code.

        Returns
        -------
        shorter : estimator
            Of the same class; this one stays as it is. Its ``history_`` is that of this fit.
        """
        check_is_fitted(self)
        lengths = self._lengths_to_cut_to()
        if latent_dim not in lengths:
            shorter = ", ".join(map(str, lengths[:-1])) or "no shorter length"
            raise ValueError(
                f"latent_dim={latent_dim!r} must be one of the lengths that these codes of "
                f"{self.latent_dim_} numbers were trained to be cut to, which are {shorter}. Name "
                f"it in truncations and fit."
            )
        shorter = copy(self)
        shorter.latent_dim = shorter.latent_dim_ = latent_dim
        if not isinstance(self.truncations, (str, type(None))):
            shorter.truncations = tuple(j for j in self.truncations if j < latent_dim)
        if self._code_scale is not None:
            shorter._code_scale = self._code_scale[:latent_dim]
        if self._has_linear_path and latent_dim < self.latent_dim_:
            shorter.explained_variance_ = self.explained_variance_[:latent_dim]
            shorter.explained_variance_ratio_ = self.explained_variance_ratio_[:latent_dim]
            shorter.nonlinear_gain_ = self._gains_when_cut.get(latent_dim, 0.0)
        shorter._cut(latent_dim)
        return shorter

    def _lengths_to_cut_to(self):
        if self._has_linear_path and not list(self.module_.parameters()):
            return range(1, self.latent_dim_ + 1)
        return (*self.module_.lengths, self.latent_dim_)


def _is_variational(autoencoder):
    fitted = getattr(autoencoder, "module_", None)
    if fitted is None and autoencoder.penalty != "variational":
        raise AttributeError(
            f"sample needs penalty='variational', got penalty={autoencoder.penalty!r}."
        )
    if fitted is not None and not isinstance(fitted, VariationalAutoencoder):
        raise AttributeError("sample needs penalty='variational' in fit.")
    return True


class SampleMixin:
    """`sample`, for estimators with ``latent_dim_``, ``mean_`` and `inverse_transform`."""

    @available_if(_is_variational)
    @on_snapshot
    def sample(
        self, n_samples: int = 1, *, random_state: int | np.random.RandomState | None = None
    ) -> np.ndarray:
        """Draw new rows: decoded codes of a standard normal distribution.

        Needs ``penalty="variational"``.

        Parameters
        ----------
        n_samples : int, default=1
            How many.
        random_state : int, RandomState instance or None, default=None
            Of the codes; None takes fresh entropy.

        Returns
        -------
        X : ndarray of shape (n_samples, n_features)
            The mean of each row's distribution, as from `inverse_transform`.
        """
        check_is_fitted(self)
        codes = random_state_of(random_state).standard_normal((n_samples, self.latent_dim_))
        if self._code_scale is not None:
            codes /= self._code_scale
        return self.inverse_transform(codes.astype(self.mean_.dtype))
