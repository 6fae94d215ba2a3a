"""Base class of the autoencoder estimators: validation, public methods, fitted state."""

import warnings
from abc import ABC, abstractmethod
from contextlib import suppress
from copy import copy
from dataclasses import replace
from numbers import Integral
from typing import Any, Self

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import _check_n_features, check_is_fitted

from .._data.arrays import check_same_library, device_of, received, with_results_in_kind
from .._data.blocks import is_dask, lazy_result
from .._data.items import warn_of_targets
from .._data.ranges import rounding_of_mean
from .._data.validation import apply_sample_weight, dense_array, validate_codes, validate_rows
from .._nn.losses import LOSSES, Loss, SquaredError
from .._nn.serialization import decoded, encoded
from .._runtime.device import explain_out_of_memory, resolve_device
from .._runtime.execution import (
    device_lock,
    on_snapshot,
    single_thread_after_fork,
    with_neutral_settings,
)
from .._runtime.reports import (
    CallbackReport,
    CallbackSupportMixin,
    ReportGroup,
    callback_context,
    open_report,
    with_callbacks,
)
from .._runtime.storage import NO_CHECKPOINT, Checkpoint, digest, stable_repr
from .._training.gate import BOTH, LABELS, Wishes
from .._version import __version__
from .auto import resolve_linear_path, training_options
from .column_errors import ColumnErrorsMixin
from .combinations import check_combinations
from .fitting import checked, fit_state, whitened, with_filled_entries
from .parameters import (
    CONSTRAINTS,
    DocumentedMixin,
    NameHintsMixin,
    available_if,
    check_callbacks,
    check_folders,
    python_numbers,
    random_state_of,
)
from .state import FittedAttribute, FittedState

# Parameters that do not affect the result.
_WITHOUT_EFFECT = {"verbose", "callbacks", "checkpoint", "memory"}

# What `fit` and `partial_fit` set beside the attributes that end in an underscore.
_PRIVATE_FITTED = ("_state", "_stream", "_shape_of_X", "_library_of_fit")


def _is_variational(autoencoder):
    state = vars(autoencoder).get("_state")
    if state is None and autoencoder.penalty != "variational":
        raise AttributeError(
            f"sample needs penalty='variational', got penalty={autoencoder.penalty!r}."
        )
    if state is not None and not state.is_variational:
        raise AttributeError("sample needs penalty='variational' in fit.")
    return True


class BaseAutoencoder(
    CallbackSupportMixin,
    ColumnErrorsMixin,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    DocumentedMixin,
    NameHintsMixin,
    BaseEstimator,
    ABC,
):
    """An autoencoder as an estimator of scikit-learn.

    A subclass defines the parameters, and the plan of a fit (`_plan`). A fit learns a
    `FittedState`.
    """

    _parameter_constraints = CONSTRAINTS

    missing_values = None  # in pickles from before it was a parameter

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

    @staticmethod
    @abstractmethod
    def _schedule(n_samples, n_features):
        """Largest batch and learning rate that "auto" means."""

    @abstractmethod
    def _plan(self, given, options, rng, previous):
        """The `FitPlan` for the validated arguments of `fit`, which every "auto" is resolved in.

        Raises for everything that can be refused before long work.

        Parameters
        ----------
        given : Given
        options : TrainingOptions
        rng : RandomState
        previous : Module or None
            The module that training starts from with ``warm_start``.
        """

    def _wishes(self):
        return Wishes(
            labels=bool(self.supervision),
            custom_encoder=self.encoder is not None,
            # Who gives a decoder, or wants to fill entries by it, wants it to be trained.
            decoder=self.fit_inverse_transform
            or self.missing_values is not None
            or (self.decoder is not None and self.encoder is None),
        )

    def _validate_params(self):
        with python_numbers(self):
            super()._validate_params()
        check_callbacks(self.callbacks)
        check_folders(self)

    @with_neutral_settings
    def fit(self, X: Any, y: Any = None, sample_weight: Any = None, groups: Any = None) -> Self:
        """Learn to encode and decode the rows of X.

        Parameters
        ----------
        X : {array-like, sparse matrix or array, dask array} of shape (n_samples, n_features)
            Training rows, at least two. Sparse data of any format is made dense in batches only;
            HDF5 datasets, zarr arrays and dask arrays are read in parts.
        y : array-like of shape (n_samples,), default=None
            Classes, or a regression target if they are floats that are not all whole numbers.
            Rows without a label have -1, or NaN among targets. Ignored with ``supervision=0``.
        sample_weight : array-like of shape (n_samples,), default=None
            Weight of each row in the principal directions and in every loss; not negative. A
            row of weight zero is left out.
        groups : array-like of shape (n_samples,), default=None
            The group of each row, of any type: the file that it is a part of, the film, the
            patient. Validation rows are whole groups, so that no other row of their group is
            trained on. Without groups they are runs of adjacent rows.

        Returns
        -------
        self : object
            The fitted estimator. If fitting fails, it does not change.

        Raises
        ------
        KeyboardInterrupt
            By Ctrl-C. During training, the estimator is then fitted with the best validated model
            so far, and ``interrupted_`` is true. Before training, or by a second Ctrl-C, it does
            not change.
        """
        self._learn_in_copy(
            lambda learner, *given: learner._fit(*given), X, y, sample_weight, groups
        )
        if self.interrupted_:
            raise KeyboardInterrupt  # for the caller of `fit`; the estimator is fitted
        return self

    def _learn_in_copy(self, learn, X, *arguments):
        """Learn in a copy, then take over its attributes in one step.

        Other threads get the old state or the new one. If learning fails, the estimator does not
        change.
        """
        learner = copy(self)
        X, kind = received(X)
        if kind is not None and learner.device == "auto":
            learner.device = device_of(X)
        with explain_out_of_memory("fit", lambda: learner.device), python_numbers(learner):
            learn(learner, X, *arguments)
        vars(learner).pop("_library_of_fit", None)
        if kind is not None:
            learner._library_of_fit = kind.name
        parameters = self.get_params(deep=False)  # they may have been set during the fit
        self.__dict__ = {**vars(learner), **parameters}
        return self

    @with_callbacks
    def _fit(self, X, y, sample_weight, groups):
        self._validate_params()
        check_combinations(self)
        device = resolve_device(self.device)
        previous, X_given = self._reset(), X
        X = self._validate_rows(X, reset=True)
        warn_of_targets(X_given, y, X.shape)
        given = checked(
            X,
            y,
            sample_weight,
            groups,
            supervision=self.supervision,
            loss=LOSSES[self.loss](),
            device=device,
        )
        options = training_options(self, self._schedule(*given.X.shape), given.X.shape[0], device)
        checkpoint = self._checkpoint_for(given, device)
        context = callback_context(self)
        if context is not None:
            context.call_on_fit_task_begin(estimator=self, X=X, y=y)
        with (
            options.interrupts.counted(),
            checkpoint,
            open_report(self.verbose) as report,
            device_lock(device),
        ):
            if context is not None:
                report = ReportGroup([report, CallbackReport(self, context)])
            options = replace(options, report=report, checkpoint=checkpoint, groups=given.groups)
            rng = random_state_of(self.random_state)
            given = with_filled_entries(given, self.missing_values)
            plan = self._plan(given, options, rng, previous)
            report.plan(plan)
            state = fit_state(plan, given, options, rng)
            self._warn_of_unused(state)
            if self.whiten:
                state = whitened(state, given, self.whiten, self.device)
        self._state = replace(state, interrupted=options.interrupts.n > 0)
        if context is not None:
            # All attributes are set, so callbacks need none to reconstruct the fitted estimator.
            context.call_on_fit_task_end(estimator=self, X=X, y=y, reconstruction_attributes={})

    def _warn_of_unused(self, state):
        """Warn of what is for the training of an encoder where none was trained."""
        if not resolve_linear_path(self) or {LABELS, BOTH} & {e["stage"] for e in state.history}:
            return
        for name, unused in (("noise", 0), ("corruption", "auto"), ("encoder", None)):
            if getattr(self, name) not in (0, unused):
                warnings.warn(
                    f"{name} has no effect: for a code of {state.latent_dim} dimensions of these "
                    f"{state.n_rows} rows no encoder was trained, and it is PCA's. "
                    f"linear_path=False with hidden layers trains one in any case.",
                    UserWarning,
                    stacklevel=2,
                )

    def _checkpoint_for(self, given, device):
        """The `Checkpoint` of this call of `fit`, by all that its result depends on."""
        if self.checkpoint is None:
            return NO_CHECKPOINT
        parameters = self.get_params()
        identity = {
            "estimator": type(self).__name__,
            **{k: stable_repr(v) for k, v in parameters.items() if k not in _WITHOUT_EFFECT},
            "linear_path": stable_repr(resolve_linear_path(self)),
            "X": digest(given.X),
            "sample_weight": "None" if given.weights is None else digest(given.weights),
            "groups": "None" if given.groups is None else digest(given.groups),
            # Random generators and the last bits depend on the kind of device.
            "device": device.type,
            "torch": str(torch.__version__),
            "skae": __version__,
            **self._identity_of_input(),
        }
        if given.labels is not None:
            identity["y"] = digest(given.labels.values)
        return Checkpoint(self.checkpoint, identity)

    def _identity_of_input(self):
        """What a checkpoint has to know of X beyond its rows."""
        return {}

    def _reset(self):
        """Delete what an earlier `fit` learnt; return the module to start from, or None."""
        previous = getattr(self, "module_", None) if self.warm_start else None
        for name in [name for name in vars(self) if name in _PRIVATE_FITTED or name.endswith("_")]:
            delattr(self, name)
        return previous

    @property
    def _needs_random_access(self):
        """Whether networks train on the rows themselves, in random order."""
        return not resolve_linear_path(self)

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

    @property
    def _n_features_out(self):
        return self.latent_dim_

    def __copy__(self):
        """A shallow copy with the same module, which `__getstate__` would convert."""
        other = type(self).__new__(type(self))
        vars(other).update(vars(self))
        return other

    def __getstate__(self):
        """The state as plain data, with a module of known layers, which skops can store too."""
        state = dict(super().__getstate__())
        if "_state" in state:
            arrays, plain = {}, state["_state"].to_plain()
            with suppress(ValueError):  # a custom network remains a module
                plain["module"] = (encoded(plain["module"], "module", arrays), arrays)
            state["_state"] = plain
        return state

    def __setstate__(self, state):
        if "_state" in state:
            plain = dict(state["_state"])
            if isinstance(plain["module"], tuple):
                plain["module"] = decoded(*plain["module"])
            state = {**state, "_state": FittedState(**plain)}
        super().__setstate__(state)

    def __sklearn_is_fitted__(self):
        return "_state" in vars(self)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.input_tags.allow_nan = self.missing_values is not None
        tags.input_tags.positive_only = LOSSES.get(self.loss, Loss).of_counts
        tags.array_api_support = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    def _dask_result(self, method, X, n_columns=None):
        """A dask array of what a method returns for each block of X."""
        if method != "inverse_transform":
            _check_n_features(self, X, reset=False)
        dtype = np.float64 if n_columns is None else None
        return lazy_result(self, method, X, n_columns, dtype)

    def _validate_rows(self, X, *, reset):
        single_thread_after_fork()
        missing = (self.missing_values if reset else self._state.loadings) is not None
        in_random_order = self._needs_random_access
        return validate_rows(self, X, reset=reset, in_random_order=in_random_order, missing=missing)
