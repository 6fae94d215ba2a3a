"""New rows from a variational autoencoder."""

import numpy as np
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from ._calls import on_one_state
from ._random import random_state_of
from ._variational import VariationalAutoencoder


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
    @on_one_state
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
