"""Base class of the autoencoder estimators: parameters, `fit`, and what is pickled."""

import warnings
from abc import ABC, abstractmethod
from contextlib import suppress
from copy import copy
from dataclasses import replace
from typing import Any, Self

import torch
from sklearn.base import BaseEstimator

from .._data.arrays import device_of, received
from .._data.items import warn_of_targets
from .._data.validation import validate_rows
from .._nn.losses import LOSSES, Loss
from .._nn.serialization import decoded, encoded
from .._runtime.checkpoint import NO_CHECKPOINT, Checkpoint
from .._runtime.device import explain_out_of_memory, resolve_device
from .._runtime.digests import digest, stable_repr
from .._runtime.execution import (
    device_lock,
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
from .._training.gate import BOTH, LABELS, Wishes
from .._version import __version__
from .auto import resolve_linear_path, training_options
from .coding import CodingMixin
from .column_errors import ColumnErrorsMixin
from .combinations import check_combinations
from .fitting import checked, fit_state, whitened, with_filled_entries
from .parameters import (
    CONSTRAINTS,
    DocumentedMixin,
    NameHintsMixin,
    check_callbacks,
    check_folders,
    python_numbers,
    random_state_of,
)
from .state import FittedState

# Parameters that do not affect the result.
_WITHOUT_EFFECT = {"verbose", "callbacks", "checkpoint", "memory"}

# What `fit` and `partial_fit` set beside the attributes that end in an underscore.
_PRIVATE_FITTED = ("_state", "_stream", "_shape_of_X", "_library_of_fit")


class BaseAutoencoder(
    CallbackSupportMixin,
    CodingMixin,
    ColumnErrorsMixin,
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

    def _validate_rows(self, X, *, reset):
        single_thread_after_fork()
        missing = (self.missing_values if reset else self._state.loadings) is not None
        in_random_order = self._needs_random_access
        return validate_rows(self, X, reset=reset, in_random_order=in_random_order, missing=missing)
