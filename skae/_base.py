"""What every autoencoder estimator shares: validation, the public methods, the fitted state."""

from abc import ABC, abstractmethod
from copy import deepcopy
from numbers import Integral, Real

import numpy as np
import scipy.sparse as sp
import torch
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import check_array, check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted, validate_data

from . import _defaults
from ._basis import is_exact, principal_basis
from ._device import multiplies_bfloat16, resolve_device
from ._losses import LOSSES
from ._modules import ACTIVATIONS
from ._net import TrainingOptions
from ._rows import batch_slices, rows_of, torch_dtype

# Codes, scores and reconstructions are computed for about this many bytes of rows at a time.
_CHUNK_BYTES = 256 * 2**20


class BaseAutoencoder(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator, ABC):
    """The scikit-learn face of an autoencoder.

    A subclass stores its parameters, and in `_fit_rows` sets the learnt attributes that its
    `_codec` works from.
    """

    _parameter_constraints = {
        "latent_dim": [Interval(Integral, 1, None, closed="left"), None],
        "activation": [StrOptions(set(ACTIVATIONS))],
        "linear_path": ["boolean"],
        "output_activation": [StrOptions(set(ACTIVATIONS)), None],
        "loss": [StrOptions(set(LOSSES))],
        "whiten": ["boolean"],
        "max_epochs": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"})],
        "batch_size": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"})],
        "learning_rate": [Interval(Real, 0, None, closed="neither"), StrOptions({"auto"})],
        "weight_decay": [Interval(Real, 0, None, closed="left")],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "device": [str, torch.device],
        "precision": [StrOptions({"auto", "float32", "bfloat16"})],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    @staticmethod
    @abstractmethod
    def _schedule(n_samples, n_features):
        """Steps, fewest epochs and highest learning rate that "auto" means."""

    @abstractmethod
    def _fit_rows(self, X, device, rng):
        """Learn from validated X; set ``mean_``, ``latent_dim_`` and what `_codec` needs."""

    @abstractmethod
    def _codec(self):
        """The fitted attributes as a `Codec`."""

    def fit(self, X, y=None):
        """Learn to encode and decode the rows of X.

        Parameters
        ----------
        X : {array-like, sparse matrix or array} of shape (n_samples, n_features)
            Training rows, at least two. Sparse data of any format is never made dense whole.
        y : None
            Ignored.

        Returns
        -------
        self : object
            The fitted estimator. If fitting fails it is left as it was before.
        """
        before = dict(vars(self))
        try:
            self._fit(X)
        except BaseException:
            vars(self).clear()
            vars(self).update(before)
            raise
        return self

    def _fit(self, X):
        self._validate_params()
        device = resolve_device(self.device)
        X = self._validate_rows(X, reset=True)
        validated = {"n_features_in_", "feature_names_in_"}
        for name in [name for name in vars(self) if name.endswith("_") and name not in validated]:
            delattr(self, name)
        # scikit-learn would take None as NumPy's global generator, and so advance it.
        seed = np.random.RandomState() if self.random_state is None else self.random_state
        self._code_scale = None
        self._fit_rows(X, device, check_random_state(seed))
        if self.whiten:
            deviations = self._encode(X).std(axis=0, ddof=1)
            self._code_scale = np.where(deviations > 0, deviations, 1).astype(self.mean_.dtype)

    def transform(self, X):
        """Encode the rows of X.

        Parameters
        ----------
        X : {array-like, sparse matrix or array} of shape (n_samples, n_features)

        Returns
        -------
        Z : ndarray of shape (n_samples, latent_dim)
            The codes: float32 for float32 and for integers of up to 16 bits, else float64.
        """
        check_is_fitted(self)
        X = self._validate_rows(X, reset=False)
        Z = self._encode(X)
        if self._code_scale is not None:
            Z /= self._code_scale
        return Z.astype(output_dtype(X.dtype), copy=False)

    def inverse_transform(self, X):
        """Decode codes into rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, latent_dim)
            Codes as `transform` returns them.

        Returns
        -------
        X_hat : ndarray of shape (n_samples, n_features)
            Reconstructions, with the dtype of X if that is float32 or float64. They are dense:
            decode wide data a few thousand rows at a time.
        """
        check_is_fitted(self)
        Z = check_array(X, dtype=[np.float64, np.float32], input_name="X")
        if Z.shape[1] != self.latent_dim_:
            raise ValueError(
                f"X has {Z.shape[1]} columns, but this {type(self).__name__} makes codes of "
                f"latent_dim_={self.latent_dim_} numbers."
            )
        codec = self._codec()
        codes = Z.astype(self.mean_.dtype)
        if self._code_scale is not None:
            codes *= self._code_scale
        X_hat = np.empty((len(Z), self.n_features_in_), dtype=Z.dtype)
        device = resolve_device(self.device)
        for chunk in batch_slices(len(Z), self.n_features_in_ * codes.itemsize, _CHUNK_BYTES):
            X_hat[chunk] = codec.decode(torch.from_numpy(codes[chunk]).to(device)).cpu()
        return X_hat

    def score_samples(self, X):
        """Return minus the squared reconstruction error of each row.

        Rows unlike those seen in `fit` score low: an anomaly score.

        Parameters
        ----------
        X : {array-like, sparse matrix or array} of shape (n_samples, n_features)

        Returns
        -------
        scores : ndarray of shape (n_samples,)
            In squared units of X; 0 for a perfect reconstruction.
        """
        check_is_fitted(self)
        return -self._squared_errors(self._validate_rows(X, reset=False))

    def score(self, X, y=None):
        """Return the share of the variance of X that the reconstruction explains.

        ``1 - |X - X_hat|^2 / |X - mean_|^2``, where ``mean_`` is the mean of the rows that were
        fitted. Higher is better; comparable between autoencoders and with PCA.

        Parameters
        ----------
        X : {array-like, sparse matrix or array} of shape (n_samples, n_features)
        y : None
            Ignored.

        Returns
        -------
        score : float
            At most 1.0. If X does not vary at all, 1.0 for a perfect reconstruction, else 0.0.
        """
        check_is_fitted(self)
        X = self._validate_rows(X, reset=False)
        error = self._squared_errors(X).sum()
        total = rows_of(X, mean=self.mean_).squared_norms().sum()
        if total == 0:
            return float(error == 0)
        return float(1 - error / total)

    @property
    def _n_features_out(self):
        return self.latent_dim_

    def __sklearn_is_fitted__(self):
        return hasattr(self, "latent_dim_")

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    def _validate_rows(self, X, *, reset):
        X = validate_data(
            self,
            X,
            reset=reset,
            accept_sparse="csr",
            dtype="numeric",
            ensure_min_samples=2 if reset else 1,
        )
        if sp.issparse(X):
            X = X.astype(output_dtype(X.dtype), copy=False)
            if not X.has_canonical_format:
                X = X.copy()
                X.sum_duplicates()
        return X

    def _resolve_latent_dim(self, wanted, n_samples, n_features):
        if wanted is None:
            return min(32, n_samples, n_features)
        if self.linear_path and wanted > min(n_samples, n_features):
            raise ValueError(
                f"latent_dim={wanted} must be at most min(n_samples={n_samples}, "
                f"n_features={n_features}) = {min(n_samples, n_features)}, as in PCA, from which "
                f"the code starts; with linear_path=False it may have any length."
            )
        return int(wanted)

    def _resolve_hidden_layer_sizes(self, auto):
        if isinstance(self.hidden_layer_sizes, str):  # "auto"
            return auto
        return positive_integers(self.hidden_layer_sizes, "hidden_layer_sizes")

    def _check_output_activation(self):
        if self.output_activation is not None and self.linear_path:
            raise ValueError(
                f"output_activation={self.output_activation!r} needs linear_path=False: with the "
                f"linear path the output is a sum that starts from PCA's."
            )

    def _principal_basis(self, X, n_directions, latent_dim, device, rng):
        """The rows of X and their principal directions, in the precision that codes will have."""
        # Krylov iteration has a tolerance of its own; float64 would only make it slower.
        dtype = output_dtype(X.dtype) if is_exact(X.shape, n_directions) else np.dtype("float32")
        rows = rows_of(X, dtype=torch_dtype(dtype), device=device)
        generator = torch.Generator().manual_seed(rng.randint(2**31))
        return rows, principal_basis(rows, n_directions, n_accurate=latent_dim, generator=generator)

    def _keep(self, module, history, mean, dtype):
        self.mean_ = mean.astype(dtype)
        self.module_ = module.to(torch_dtype(dtype)).cpu().eval()
        self.history_ = history
        self.n_iter_ = len(history)

    def _module_on_device(self):
        device = resolve_device(self.device)
        return self.module_ if device.type == "cpu" else deepcopy(self.module_).to(device)

    def _training_options(self, n_samples, n_features, device):
        """The parameters of training, with every "auto" resolved."""
        n_steps, fewest_epochs, auto_rate = self._schedule(n_samples, n_features)
        n_fitted = max(1, int(n_samples * (1 - self.validation_fraction)))
        batch_size = self.batch_size
        if batch_size == "auto":
            batch_size = _defaults.batch_size(n_fitted)
        max_epochs = self.max_epochs
        if max_epochs == "auto":
            max_epochs = _defaults.max_epochs(n_fitted, batch_size, n_steps, fewest_epochs)
        learning_rate = self.learning_rate
        if learning_rate == "auto":
            learning_rate = auto_rate
        return TrainingOptions(
            loss=LOSSES[self.loss],
            max_epochs=max_epochs,
            batch_size=batch_size,
            learning_rate=learning_rate,
            weight_decay=self.weight_decay,
            early_stopping=self.early_stopping,
            n_iter_no_change=self.n_iter_no_change,
            tol=self.tol,
            bfloat16=self.precision == "bfloat16"
            or (self.precision == "auto" and multiplies_bfloat16(device)),
            device=device,
            verbose=self.verbose,
        )

    def _rows(self, X):
        dtype, device = torch_dtype(self.mean_.dtype), resolve_device(self.device)
        return rows_of(X, mean=self.mean_, dtype=dtype, device=device)

    def _encode(self, X):
        codec = self._codec()
        codes = np.empty((X.shape[0], self.latent_dim_), dtype=self.mean_.dtype)
        for chunk in batch_slices(X.shape[0], codec.row_bytes, _CHUNK_BYTES):
            codes[chunk] = codec.encode(self._rows(X[chunk])).cpu()
        return codes

    def _squared_errors(self, X):
        codec = self._codec()
        errors = np.empty(X.shape[0])
        for chunk in batch_slices(X.shape[0], codec.row_bytes, _CHUNK_BYTES):
            errors[chunk] = codec.squared_errors(self._rows(X[chunk])).cpu()
        return errors


def positive_integers(sizes, name):
    """The value of a parameter that takes a tuple of positive integers."""
    given, sizes = sizes, tuple(np.atleast_1d(np.asarray(sizes, dtype=object)))
    if not all(isinstance(size, Integral) and size > 0 for size in sizes):
        raise ValueError(f"{name}={given!r} must be a tuple of positive integers.")
    return tuple(map(int, sizes))


def output_dtype(dtype):
    """float32 where it holds every number of the given dtype, else float64."""
    return np.dtype(np.float32 if np.can_cast(dtype, np.float32) else np.float64)
