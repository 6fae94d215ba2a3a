"""What every autoencoder estimator shares: validation, the public methods, the fitted state."""

from abc import ABC, abstractmethod
from contextlib import suppress
from copy import copy, deepcopy
from dataclasses import replace
from numbers import Integral, Real
from typing import Any, Self

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import check_array
from sklearn.utils.validation import _check_n_features, check_is_fitted
from torch import nn

from .._data.blocks import Blocks, is_dask, lazily
from .._data.rows import rows_of
from .._data.validation import divisors, standard_deviations, validated, weighed
from .._nn.autoencoders import PlainAutoencoder, copy_matching_weights
from .._nn.builders import plain_autoencoder
from .._nn.losses import LOSSES, Loss
from .._nn.penalties import with_nested_loss
from .._nn.serialization import decoded, encoded
from .._pca.holdout import shortest_code
from .._pca.solvers import Basis, counting, is_exact, principal_basis
from .._runtime.device import (
    explaining_lack_of_memory,
    has_float64,
    in_pieces,
    resolve_device,
    supported_dtype,
    survive_fork,
)
from .._runtime.execution import in_neutral_surroundings, on_one_state, taking_turns
from .._runtime.reports import (
    CallbackSupportMixin,
    Reports,
    Tasks,
    callback_context,
    report_of,
    with_callbacks,
)
from .._runtime.storage import NOWHERE, Cache, Checkpoint, description, digest
from .._runtime.tensors import batch_slices, output_dtype, tensor_of, torch_dtype
from .._training.early_stopping import Interrupts
from .._training.selection import most_epochs
from .._version import __version__
from .auto import resolve_latent_dim, resolve_linear_path, training_options
from .parameters import (
    CONSTRAINTS,
    DocumentedMixin,
    OurNamesMixin,
    check_callbacks,
    check_combinations,
    check_folders,
    python_numbers,
    random_state_of,
)
from .truncate import SampleMixin, TruncateMixin

# Codes, scores and reconstructions are computed for about this many bytes of rows at a time.
_CHUNK_BYTES = 256 * 2**20


class BaseAutoencoder(
    CallbackSupportMixin,
    TruncateMixin,
    SampleMixin,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    DocumentedMixin,
    OurNamesMixin,
    BaseEstimator,
    ABC,
):
    """The scikit-learn face of an autoencoder.

    A subclass stores its parameters, and in `_fit_rows` sets the learnt attributes that its
    `_codec` works from.
    """

    _parameter_constraints = CONSTRAINTS

    latent_dim_: int
    mean_: np.ndarray
    module_: nn.Module
    n_iter_: int
    history_: list[dict[str, Any]]

    @staticmethod
    @abstractmethod
    def _schedule(n_samples, n_features):
        """Steps, fewest epochs, largest batch and highest learning rate that "auto" means."""

    @abstractmethod
    def _fit_rows(self, X, weights, options, rng):
        """Learn from validated X, and the weights of its rows or None.

        Sets ``mean_``, ``latent_dim_`` and what `_codec` needs.
        """

    @abstractmethod
    def _codec(self):
        """The fitted attributes as a `Codec`."""

    @abstractmethod
    def _cut(self, latent_dim):
        """Cut what was learnt to codes of ``latent_dim`` numbers."""

    def _validate_params(self):
        with python_numbers(self):
            super()._validate_params()
        check_callbacks(self.callbacks)
        check_folders(self)

    @in_neutral_surroundings
    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> Self:
        """Learn to encode and decode the rows of X.

        Parameters
        ----------
        X : {array-like, sparse matrix or array, RowBlocks} of shape (n_samples, n_features)
            Training rows, at least two. Sparse data of any format is never made dense whole;
            HDF5 datasets, zarr arrays, `RowBlocks` and dask arrays are read a piece at a time.
        y : None
            Ignored.
        sample_weight : array-like of shape (n_samples,), default=None
            How often each row counts, in the principal directions and in every loss; not
            negative. A weight of zero leaves the row out.

        Returns
        -------
        self : object
            The fitted estimator. If fitting fails it is left as it was before.

        Raises
        ------
        KeyboardInterrupt
            By Ctrl-C. In training, the estimator is then fitted with the best that has proved
            itself, and ``interrupted_`` is true; else, and by a second Ctrl-C, it is left as it was
            before.
        """
        self._learn_aside("_fit", X, y, sample_weight)
        if self.interrupted_:
            raise KeyboardInterrupt  # for what called `fit`; the estimator is fitted
        return self

    def _learn_aside(self, learn, *arguments):
        """Learn in a copy, and take what it has learnt in one step, which other threads see whole.

        If learning fails the estimator is as it was.
        """
        learner = copy(self)
        with explaining_lack_of_memory("fit", self.device), python_numbers(learner):
            getattr(learner, learn)(*arguments)
        parameters = self.get_params(deep=False)  # which may have been set meanwhile
        self.__dict__ = {**vars(learner), **parameters}
        return self

    @with_callbacks
    def _fit(self, X, y, sample_weight):
        self._validate_params()
        check_combinations(self)
        device = resolve_device(self.device)
        self._forget()
        X = self._validate_rows(X, reset=True)
        LOSSES[self.loss]().check(X)
        X, weights = weighed(X, sample_weight)
        if X.shape[0] < 2:
            raise ValueError("sample_weight leaves one row that counts: fit needs two at least.")
        options = training_options(self, self._schedule(*X.shape), X.shape[0], device)
        checkpoint = NOWHERE
        if self.checkpoint is not None:
            # The states of generators, and the last bits, are those of one kind of device.
            identity = {**self._identity(X, weights), "device": device.type}
            checkpoint = Checkpoint(self.checkpoint, identity)
        options = replace(options, checkpoint=checkpoint)
        context = callback_context(self, self._most_epochs(options))
        if context is not None:
            context.call_on_fit_task_begin(estimator=self, X=X, y=y)
        interrupts = Interrupts()
        with (
            interrupts.counted(),
            checkpoint,
            report_of(self.verbose) as report,
            taking_turns(device),
        ):
            if context is not None:
                report = Reports([report, Tasks(self, context)])
            options = replace(options, report=report, interrupts=interrupts)
            self._fit_rows(X, weights, options, random_state_of(self.random_state))
            del self._previous
            if self.whiten:
                deviations = standard_deviations(self._encode(X), weights, sample_weight)
                self._code_scale = divisors(deviations, self.mean_.dtype)
        self.interrupted_ = interrupts.n > 0
        if context is not None:
            # No attribute is missing: a copy of the estimator is the fitted one.
            context.call_on_fit_task_end(estimator=self, X=X, y=y, reconstruction_attributes={})

    def _forget(self):
        """Drop what an earlier `fit` learnt, but for what this one starts from."""
        self._previous = getattr(self, "module_", None) if self.warm_start else None
        self._code_scale = None
        self._gains_when_cut = {}
        for name in ("_stream", "_stream_not_saved", "_seen"):  # from which `partial_fit` goes on
            vars(self).pop(name, None)
        for name in [name for name in vars(self) if name.endswith("_")]:
            delattr(self, name)

    def _most_epochs(self, options):
        if not self._has_linear_path:
            return options.max_epochs
        return most_epochs(options)

    @property
    def _wants_share(self):
        """Whether ``latent_dim`` is a share of the variance."""
        return isinstance(self.latent_dim, Real) and not isinstance(self.latent_dim, Integral)

    @property
    def _has_linear_path(self):
        """Whether codes start from PCA's: those of what is fitted, else of what is to be fitted."""
        if hasattr(self, "module_"):
            return not isinstance(self.module_, PlainAutoencoder)
        return resolve_linear_path(self)

    @property
    def _draws_rows(self):
        """Whether networks are trained on the rows themselves, in random order."""
        return not self._has_linear_path

    @property
    def _has_custom_networks(self):
        return self.encoder is not None or self.decoder is not None

    def _length_of_code(self, X, weights, options, rng):
        """What ``latent_dim`` means for X."""
        if not self._wants_share:
            return resolve_latent_dim(self.latent_dim, self._has_linear_path, *X.shape)
        rows, seed = rows_of(X, weights=weights, device=options.device), rng.randint(2**31)
        return options.checkpoint.recall(
            "length",
            lambda: shortest_code(rows, self.latent_dim, self.validation_fraction, seed),
        )

    def _n_encoded(self, latent_dim):
        """How many numbers an encoder gives."""
        return 2 * latent_dim if self.penalty == "variational" else latent_dim

    def _plain(self, encoder, decoder):
        """The plain autoencoder of two networks, in the form that was asked for."""
        return self._ordered(
            plain_autoencoder(
                self.latent_dim_,
                encoder,
                decoder,
                LOSSES[self.loss](),
                self.output_activation,
                self.penalty,
                self.alpha,
            )
        )

    def _ordered(self, module):
        return with_nested_loss(module, self._lengths, LOSSES[self.loss]())

    def _identity(self, X, weights):
        """What makes this call of `fit` the same as another."""
        silent = {"verbose", "callbacks", "checkpoint", "memory"}
        parameters = {k: description(v) for k, v in self.get_params().items() if k not in silent}
        return {
            "estimator": type(self).__name__,
            **parameters,
            "linear_path": description(self._has_linear_path),
            "X": digest(X),
            "sample_weight": "None" if weights is None else digest(weights),
            "torch": str(torch.__version__),
            "skae": __version__,
        }

    @on_one_state
    def transform(self, X: Any) -> np.ndarray:
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
        if is_dask(X):
            return self._lazily("transform", X, self.latent_dim_)
        X = self._validate_rows(X, reset=False)
        Z = self._encode(X)
        if self._code_scale is not None:
            Z /= self._code_scale
        return Z.astype(output_dtype(X.dtype), copy=False)

    @on_one_state
    def inverse_transform(self, X: Any) -> np.ndarray:
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
        if is_dask(X):
            return self._lazily("inverse_transform", X, self.n_features_in_)
        survive_fork()
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

        def decode(piece):
            rows = slice(piece.start, piece.stop)
            X_hat[rows] = codec.decode(self._on_device(codes[rows])).cpu()

        for chunk in batch_slices(len(Z), self.n_features_in_ * codes.itemsize, _CHUNK_BYTES):
            in_pieces(range(chunk.start, chunk.stop), decode)
        return X_hat

    @on_one_state
    def score_samples(self, X: Any) -> np.ndarray:
        """Return minus the reconstruction error of each row: squared, or as the loss has it.

        Rows unlike those seen in `fit` score low: an anomaly score.

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
            return self._lazily("score_samples", X)
        return -self._in_chunks(self._validate_rows(X, reset=False), "errors")[0]

    @on_one_state
    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """Return the share of the variance of X that the reconstruction explains.

        ``1 - |X - X_hat|^2 / |X - mean_|^2``, where ``mean_`` is the mean of the rows that were
        fitted. Higher is better; comparable between autoencoders and with PCA. With another loss
        it is the share of the deviance: one minus the sum of the errors over what it would be if
        ``mean_`` were the reconstruction of every row.

        Parameters
        ----------
        X : {array-like, sparse matrix or array} of shape (n_samples, n_features)
        y : None
            Ignored.
        sample_weight : array-like of shape (n_samples,), default=None
            How often each row counts; not negative.

        Returns
        -------
        score : float
            At most 1.0. If X does not vary at all, 1.0 for a perfect reconstruction, else 0.0.
        """
        check_is_fitted(self)
        X, weights = weighed(self._validate_rows(X, reset=False), sample_weight)
        weights = np.ones(X.shape[0]) if weights is None else weights
        error, total = self._in_chunks(X, "errors", "errors_of_mean") @ weights
        if total == 0:
            return float(error == 0)
        return float(1 - error / total)

    @property
    def n_components_(self):
        """``latent_dim_``, by the name that it has in `PCA`."""
        return self.latent_dim_

    @property
    def _n_features_out(self):
        return self.latent_dim_

    def __copy__(self):
        """A shallow copy, with the same module: `__getstate__` would take that apart."""
        other = type(self).__new__(type(self))
        vars(other).update(vars(self))
        return other

    def __getstate__(self):
        """The state, with a module of known layers as plain data: skops, too, keeps that."""
        state, arrays = dict(super().__getstate__()), {}
        if "module_" in state:
            with suppress(ValueError):  # of a network of one's own, which stays what it is
                state["module_"] = (encoded(self.module_, "module_", arrays), arrays)
        return state

    def __setstate__(self, state):
        module = state.get("module_")
        if isinstance(module, tuple):
            state = {**state, "module_": decoded(*module)}
        super().__setstate__(state)

    def __sklearn_is_fitted__(self):
        return hasattr(self, "latent_dim_")

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.input_tags.positive_only = LOSSES.get(self.loss, Loss).of_counts
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    def _lazily(self, method, X, n_columns=None):
        """A dask array of what a method says of each block of another."""
        if method != "inverse_transform":
            _check_n_features(self, X, reset=False)
        dtype = np.dtype(np.float64) if n_columns is None else output_dtype(X.dtype)
        return lazily(self, method, X, n_columns, dtype)

    def _validate_rows(self, X, *, reset):
        survive_fork()
        return validated(self, X, reset=reset, in_random_order=self._draws_rows)

    def _principal_basis(self, X, weights, n_directions, latent_dim, options, rng):
        """The rows of X and their principal directions, in the precision that codes will have."""
        # Krylov iteration has a tolerance of its own; float64 would only make it slower.
        exact = is_exact(X.shape, n_directions) and has_float64(options.device)
        dtype = output_dtype(X.dtype) if exact else np.dtype("float32")
        rows = rows_of(X, weights=weights, dtype=torch_dtype(dtype), device=options.device)
        seed = rng.randint(2**31)
        cache = self._cache_of(X, weights, rows, seed)

        def compute():
            basis = principal_basis(
                counting(rows),
                n_directions,
                n_accurate=latent_dim,
                generator=torch.Generator().manual_seed(seed),
                cache=cache,
            )
            return {**vars(basis), "variances": torch.from_numpy(basis.variances)}

        found = options.checkpoint.recall("basis", compute)
        directions = found["directions"].to(options.device)
        return rows, Basis(directions, found["variances"].numpy(), found["total_variance"])

    def _cache_of(self, X, weights, rows, seed):
        """What fits on the same rows share: all that their bits depend on is in the key."""
        if self.memory is None:
            return NOWHERE
        key = {
            "X": digest(X),
            "sample_weight": "None" if weights is None else digest(weights),
            "seed": seed,
            "dtype": str(rows.dtype),
            "device": str(rows.device),
            "threads": torch.get_num_threads(),
            "torch": str(torch.__version__),
            "skae": __version__,
        }
        return Cache(self.memory, key)

    def _warmed(self, module):
        """The module, with ``warm_start`` its networks as the previous `fit` left them.

        Those of another shape, or that PCA had won over, start anew.
        """
        return copy_matching_weights(self._previous or nn.Module(), module)

    def _keep(self, module, mean, dtype, n_epochs, history):
        self.mean_ = mean.astype(dtype)
        self.module_ = module.cpu().to(torch_dtype(dtype)).eval()
        self.n_iter_ = n_epochs
        self.history_ = history

    def _module_on_device(self):
        dtype, device = self._place()
        if device.type == "cpu" and dtype == torch_dtype(self.mean_.dtype):
            return self.module_
        return deepcopy(self.module_).to(dtype).to(device)

    def _on_device(self, array):
        """A fitted array as a tensor where codes are computed."""
        dtype, device = self._place()
        return tensor_of(array).to(dtype).to(device)

    def _place(self):
        """The type of tensors that codes are computed in, and the device."""
        device = resolve_device(self.device)
        return supported_dtype(torch_dtype(self.mean_.dtype), device), device

    def _rows(self, X):
        dtype, device = self._place()
        return rows_of(X, mean=self.mean_, dtype=dtype, device=device)

    def _encode(self, X):
        if isinstance(X, Blocks):
            return np.concatenate(list(X.apply(self._encode)))
        codec = self._codec()
        codes = np.empty((X.shape[0], self.latent_dim_), dtype=self.mean_.dtype)

        def encode(piece):
            rows = slice(piece.start, piece.stop)
            codes[rows] = codec.encode(self._rows(X[rows])).cpu()

        for chunk in _chunks(X, codec):
            in_pieces(range(chunk.start, chunk.stop), encode)
        return codes

    def _in_chunks(self, X, *methods):
        """What methods of the codec say of each row: shape (len(methods), n)."""
        if isinstance(X, Blocks):
            return np.hstack(list(X.apply(lambda block: self._in_chunks(block, *methods))))
        codec = self._codec()
        errors = np.empty((len(methods), X.shape[0]))

        def compare(piece):
            chunk = slice(piece.start, piece.stop)
            rows = self._rows(X[chunk])
            for said, method in zip(errors, methods, strict=True):
                said[chunk] = getattr(codec, method)(rows).cpu()

        for chunk in _chunks(X, codec):
            in_pieces(range(chunk.start, chunk.stop), compare)
        return errors


def _chunks(X, codec):
    """Slices of rows for which there is room."""
    row_bytes = codec.row_bytes + getattr(X, "row_bytes", 0)
    return batch_slices(X.shape[0], row_bytes, _CHUNK_BYTES)
