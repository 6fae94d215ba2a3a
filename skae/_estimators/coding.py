"""What a fitted autoencoder answers by its state: attributes, codes, reconstructions, scores."""

from copy import copy
from numbers import Integral
from typing import Any, Self

import numpy as np
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import _check_n_features, check_is_fitted

from .._data.arrays import check_same_library, with_results_in_kind
from .._data.blocks import is_dask, lazy_result
from .._data.items import warn_of_targets
from .._data.ranges import rounding_of_mean
from .._data.validation import apply_sample_weight, dense_array, validate_codes
from .._nn.losses import SquaredError
from .._runtime.execution import on_snapshot, single_thread_after_fork
from .parameters import available_if, random_state_of


class FittedAttribute:
    """An attribute of an estimator that returns an attribute of its `FittedState`.

    Without a state, or where the value is None, the estimator has no such attribute.
    """

    def __init__(self, name):
        self._name = name

    def __set_name__(self, owner, public_name):
        self._public_name = public_name

    def __get__(self, estimator: Any, owner: Any = None) -> Any:
        if estimator is None:
            return self
        state = vars(estimator).get("_state")
        value = None if state is None else getattr(state, self._name)
        if value is None:
            name = type(estimator).__name__
            raise AttributeError(f"{name!r} object has no attribute {self._public_name!r}")
        return value

    def __set__(self, estimator, value):
        raise AttributeError(f"{self._public_name} is learnt by fit and cannot be set")


def _is_variational(autoencoder):
    state = vars(autoencoder).get("_state")
    if state is None and autoencoder.penalty != "variational":
        raise AttributeError(
            f"sample needs penalty='variational', got penalty={autoencoder.penalty!r}."
        )
    if state is not None and not state.is_variational:
        raise AttributeError("sample needs penalty='variational' in fit.")
    return True


class CodingMixin(ClassNamePrefixFeaturesOutMixin, TransformerMixin):
    """Attributes and methods of an autoencoder that its `FittedState` answers."""

    latent_dim_ = FittedAttribute("latent_dim")
    n_components_ = FittedAttribute("latent_dim")
    mean_ = FittedAttribute("mean")
    components_ = FittedAttribute("linear_components")
    explained_variance_ = FittedAttribute("explained_variance")
    explained_variance_ratio_ = FittedAttribute("explained_variance_ratio")
    singular_values_ = FittedAttribute("singular_values")
    noise_variance_ = FittedAttribute("noise_variance")
    n_samples_ = FittedAttribute("n_rows")
    code_is_pca_ = FittedAttribute("code_is_pca")
    nonlinear_gain_ = FittedAttribute("nonlinear_gain")
    module_ = FittedAttribute("module")
    n_iter_ = FittedAttribute("n_iter")
    history_ = FittedAttribute("history")
    interrupted_ = FittedAttribute("interrupted")

    @on_snapshot
    def transform(self, X: Any) -> np.ndarray:
        """Encode the rows of X.

        Parameters
        ----------
        X : {array-like, sparse matrix or array} of shape (n_samples, n_features)

        Returns
        -------
        Z : ndarray of shape (n_samples, latent_dim)
            The codes: float32 if X is float32 or of integers of up to 16 bits, else float64. With
            scikit-learn's ``array_api_dispatch`` they are of the library and on the device of X.
        """
        check_is_fitted(self)
        if is_dask(X):
            return self._dask_result("transform", X, self.latent_dim_)
        method = f"{type(self).__name__}.transform"
        check_same_library(X, vars(self).get("_library_of_fit"), method)
        return self._encode(X)

    @with_results_in_kind
    def _encode(self, X):
        X = self._validate_rows(X, reset=False)
        return self._state.encode(X, self.device)

    @on_snapshot
    @with_results_in_kind
    def inverse_transform(self, X: Any) -> np.ndarray:
        """Decode codes into rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, latent_dim)
            Codes as `transform` returns them.

        Returns
        -------
        X_hat : ndarray of shape (n_samples, n_features)
            Reconstructions, with the dtype of X if that is float32 or float64. They are dense, so
            decode wide data a few thousand rows at a time.
        """
        check_is_fitted(self)
        if is_dask(X):
            return self._dask_result("inverse_transform", X, self.n_features_in_)
        single_thread_after_fork()
        Z = validate_codes(X)
        if Z.shape[1] != self.latent_dim_:
            raise ValueError(
                f"X has {Z.shape[1]} columns, but the codes of this {type(self).__name__} have "
                f"latent_dim_={self.latent_dim_} dimensions."
            )
        return self._state.decode(Z, self.device)

    @on_snapshot
    @with_results_in_kind
    def score_samples(self, X: Any) -> np.ndarray:
        """Return minus the reconstruction error of each row: squared, or that of the loss.

        Rows that differ from the training rows have low scores: an anomaly score.

        Parameters
        ----------
        X : {array-like, sparse matrix or array} of shape (n_samples, n_features)

        Returns
        -------
        scores : ndarray of shape (n_samples,)
            In squared units of X, or in those of the loss; 0 for a perfect reconstruction.
        """
        check_is_fitted(self)
        if is_dask(X):
            return self._dask_result("score_samples", X)
        return -self._state.errors(self._validate_rows(X, reset=False), self.device, "errors")[0]

    @on_snapshot
    @with_results_in_kind
    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """Return the share of the variance of X that the reconstruction explains.

        ``1 - |X - X_hat|^2 / |X - mean_|^2``, where ``mean_`` is the mean of the training rows.
        Higher is better; the values of autoencoders and of PCA can be compared. With another loss
        it is the share of the deviance: one minus the sum of the errors divided by that sum with
        ``mean_`` as the reconstruction of every row.

        Parameters
        ----------
        X : {array-like, sparse matrix or array} of shape (n_samples, n_features)
        y : None
            Ignored.
        sample_weight : array-like of shape (n_samples,), default=None
            Weight of each row; not negative.

        Returns
        -------
        score : float
            At most 1.0. If X is constant, 1.0 for a perfect reconstruction, else 0.0.
        """
        check_is_fitted(self)
        rows = self._validate_rows(X, reset=False)
        warn_of_targets(X, y, rows.shape)
        X, weights = apply_sample_weight(rows, sample_weight)
        weights = np.ones(X.shape[0]) if weights is None else weights
        errors = self._state.errors(X, self.device, "errors", "errors_of_mean")
        error, total = dense_array(errors) @ weights
        loss = getattr(self._state.module, "loss", SquaredError)
        rounding = rounding_of_mean(
            self.mean_, weights.sum(), loss.degree, of_counts=loss.of_counts
        )
        if total <= rounding:
            return float(error <= rounding)
        return float(1 - error / total)

    @on_snapshot
    def truncate(self, latent_dim: int) -> Self:
        """Return a fitted autoencoder whose codes are the first dimensions of these.

        Where PCA was kept, any length is possible and gives PCA of that length; else the lengths
        of the parameter ``truncations`` are.

        Parameters
        ----------
        latent_dim : int
            Length of the shorter code.

        Returns
        -------
        shorter : estimator
            Of the same class, with the ``history_`` of this fit. This estimator does not change.
        """
        check_is_fitted(self)
        lengths = self._state.lengths
        is_length = isinstance(latent_dim, Integral) and not isinstance(latent_dim, bool)
        if not is_length or latent_dim not in lengths:
            shorter = ", ".join(map(str, lengths[:-1])) or "no shorter length"
            raise ValueError(
                f"latent_dim={latent_dim!r} must be one of the lengths that these codes of "
                f"{self.latent_dim_} dimensions were trained to be truncated to: {shorter}. "
                f"Add it to truncations and fit again."
            )
        shorter, latent_dim = copy(self), int(latent_dim)
        shorter.latent_dim = latent_dim
        if not isinstance(self.truncations, (str, type(None))):
            shorter.truncations = tuple(j for j in self.truncations if j < latent_dim)
        shorter._state = self._state.truncated(latent_dim)
        if latent_dim < self.latent_dim_:
            # `partial_fit` continues from the shorter basis; its networks start anew.
            shorter._stream = None
        return shorter

    @available_if(_is_variational)
    @on_snapshot
    def sample(
        self, n_samples: int = 1, *, random_state: int | np.random.RandomState | None = None
    ) -> np.ndarray:
        """Draw new rows by decoding codes from a standard normal distribution.

        Needs ``penalty="variational"``.

        Parameters
        ----------
        n_samples : int, default=1
            Number of rows.
        random_state : int, RandomState instance or None, default=None
            Seeds the codes. None takes fresh entropy.

        Returns
        -------
        X : ndarray of shape (n_samples, n_features)
            The mean of each row's distribution, as `inverse_transform` returns it.
        """
        check_is_fitted(self)
        if not isinstance(n_samples, Integral) or isinstance(n_samples, bool) or n_samples < 1:
            raise ValueError(f"n_samples={n_samples!r} must be a positive integer.")
        codes = random_state_of(random_state).standard_normal((n_samples, self.latent_dim_))
        if self._state.code_scale is not None:
            codes /= self._state.code_scale
        return self.inverse_transform(codes.astype(self.mean_.dtype))

    def _dask_result(self, method, X, n_columns=None):
        """A dask array of what a method returns for each block of X."""
        if method != "inverse_transform":
            _check_n_features(self, X, reset=False)
        dtype = np.float64 if n_columns is None else None
        return lazy_result(self, method, X, n_columns, dtype)
