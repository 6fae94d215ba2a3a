"""How `partial_fit` learns: from a batch of rows and the state so far to the next state."""

import time
from copy import deepcopy
from numbers import Integral
from typing import Any, Self

import torch

from .._data.items import warn_of_targets
from .._nn.builders import DenseNetworks
from .._nn.layers import check_one_row
from .._pca.incremental import RunningBasis
from .._runtime.device import float64_device, resolve_device
from .._runtime.digests import stable_repr
from .._runtime.execution import with_neutral_settings
from .._runtime.tensors import output_dtype, torch_dtype
from .._training.gate import LONGEST_NONLINEAR_CODE
from .._training.online import AveragedNetworks, Stream
from . import auto
from .combinations import check_combinations
from .parameters import available_if, random_state_of
from .plan import is_share, network_settings
from .state import fitted_state, pca_module, split_directions

# Parameters that `partial_fit` reads at the first batch alone.
_KEPT_BY_STREAMS = (
    *("latent_dim", "hidden_layer_sizes", "activation", "encoder", "decoder", "corruption"),
    *("noise", "batch_size", "learning_rate", "weight_decay", "precision"),
)


def _can_learn_from_batches(autoencoder):
    linear_path = auto.resolve_linear_path(autoencoder)
    if not linear_path or autoencoder.whiten or autoencoder.truncations is not None:
        raise AttributeError(
            "partial_fit needs the linear path (linear_path), whiten=0 and truncations=None."
        )
    if autoencoder.supervision:
        raise AttributeError("partial_fit needs supervision=0: labels take part in fit alone.")
    if autoencoder.missing_values is not None:
        raise AttributeError(
            "partial_fit needs missing_values=None: entries are filled by a model of all rows."
        )
    return True


class StreamingMixin:
    """`partial_fit` of an autoencoder whose networks take scores."""

    @available_if(_can_learn_from_batches)
    @with_neutral_settings
    def partial_fit(self, X: Any, y: Any = None) -> Self:
        """Continue learning from a batch of rows, as `IncrementalPCA` does.

        The principal directions are those of all rows so far. The networks train for one pass
        over the batch, and are used while they explain more of each new batch than PCA does. While
        networks are used, the components are the principal directions rotated within their span,
        so that the inputs of the networks keep their meaning. Needs ``linear_path=True``,
        ``whiten=0`` and ``truncations=None``; may follow `fit` and `truncate`.

        Parameters
        ----------
        X : {array-like, sparse matrix or array} of shape (n_samples, n_features)
            A batch, of some hundreds of rows at best. The first needs ``latent_dim`` rows at least.
        y : None
            Ignored.

        Returns
        -------
        self : object
            The fitted estimator. If learning fails, it does not change.
        """
        return self._learn_in_copy(lambda learner, *given: learner._learn_from_batch(*given), X, y)

    def _learn_from_batch(self, X, y):
        self._validate_params()
        check_combinations(self)
        device = float64_device(resolve_device(self.device))
        state = vars(self).get("_state")
        if state is not None and state.components is None:
            state = None  # a plain fit has no principal directions to continue from
        if state is None and is_share(self.latent_dim):
            raise ValueError(
                f"latent_dim={self.latent_dim} must be an integer for partial_fit: from a first "
                f"batch it is unknown how many dimensions explain that share of later rows."
            )
        X_given, X = X, self._validate_rows(X, reset=state is None)
        warn_of_targets(X_given, y, X.shape)
        # A copy, so that a failure changes nothing.
        stream = deepcopy(vars(self).get("_stream")) or self._new_stream(X, state, device)
        self._check_unchanged(stream)
        if X.shape[0] == 1 and stream.networks is not None:
            self._check_one_row(stream.networks.module)
        self._state = learn_from_batch(stream, X, state, device)
        self._stream = stream

    def _new_stream(self, X, state, device):
        n, p = auto.ROWS_OF_STREAM, X.shape[1]
        if state is None:
            k = auto.resolve_latent_dim(self.latent_dim, True, *X.shape)
            dtype = output_dtype(X.dtype)
        else:
            k, dtype = state.latent_dim, state.mean.dtype
        hidden = auto.resolve_hidden_layer_sizes(
            self.hidden_layer_sizes, auto.hidden_layer_sizes(n, p, k)
        )
        settings = network_settings(self, k, self._masked_share(n, p, k))
        networks = DenseNetworks(settings, min(p, k + auto.FURTHER_DIRECTIONS), hidden)
        options = auto.training_options(self, self._schedule(n, p), n, device)
        stream = new_stream(networks, options, p, dtype, state, random_state_of(self.random_state))
        stream.parameters = {name: stable_repr(getattr(self, name)) for name in _KEPT_BY_STREAMS}
        # The length that was learnt: latent_dim may have been set since `fit`.
        if state is not None and isinstance(self.latent_dim, Integral):
            stream.parameters["latent_dim"] = stable_repr(k)
        return stream

    def _check_unchanged(self, stream):
        """Raise ValueError if a parameter has changed since the first batch."""
        for name, first in stream.parameters.items():
            value = stable_repr(getattr(self, name))
            if value != first:
                raise ValueError(
                    f"{name}={value} was {first} when the batches began, and what has been learnt "
                    f"depends on it: set it back, or start anew with a clone."
                )

    def _check_one_row(self, module):
        """Raise ValueError if a custom network cannot be trained on one row."""
        for name, n_inputs in (("encoder", len(module.scale)), ("decoder", module.latent_dim)):
            network = getattr(module, name)
            if getattr(self, name) is not None and network is not None:
                check_one_row(network, name, n_inputs, "X with 1 row")


def new_stream(networks, options, n_features, dtype, state, rng):
    """A `Stream` that starts from a fitted state, if there is one.

    Parameters
    ----------
    networks : DenseNetworks
        Builds the networks, if they have hidden layers.
    options : TrainingOptions
    n_features : int
    dtype : dtype
        Precision of the codes.
    state : FittedState or None
    rng : RandomState
    """
    k, n_directions = networks.settings.latent_dim, networks.n_inputs
    basis = RunningBasis(n_features, n_directions, torch_dtype(dtype))
    module = None
    if state is not None:
        if state.of_stream:
            raise ValueError(
                "partial_fit cannot continue from an autoencoder that was saved by skae.save "
                "between its batches: the file contains the model, but not the state of training. "
                "Pickle stores both."
            )
        basis.start_from(
            state.n_rows, state.mean, state.directions, state.variances, state.total_variance
        )
        module = deepcopy(state.module).float()
    if not networks.hidden or n_directions == k:
        return Stream(basis, k, None)
    trained = (
        module is not None and module.decoder is not None and len(module.scale) == n_directions
    )
    if not trained:
        scale = torch.ones(n_directions, dtype=torch.float32)
        seed, encoder = rng.randint(2**31), k <= LONGEST_NONLINEAR_CODE
        module = networks.residual(seed, scale, encoder=encoder)
    return Stream(basis, k, AveragedNetworks(module, options, rng.randint(2**31), trained=trained))


def learn_from_batch(stream, X, state, device):
    """Update a stream by a validated batch of rows: the `FittedState` after it.

    Parameters
    ----------
    stream : Stream
    X : ndarray, CSR matrix or Blocks
    state : FittedState or None
        The state so far, with a linear path; None for a first batch.
    device : torch.device
    """
    start = time.perf_counter()
    stream.to(device)
    error, explained = stream.update(X)
    stream.to("cpu")

    history = [] if state is None else state.history
    epoch = {
        "stage": "batch",
        "epoch": 1 + sum(entry["stage"] == "batch" for entry in history),
        "train_loss": error,
        "variance_explained": explained,
        "dur": time.perf_counter() - start,
    }
    k, variances = stream.latent_dim, None
    if stream.gain:
        module, n_used = deepcopy(stream.networks.average), len(stream.basis.squares)
    else:
        module, n_used, variances = pca_module(k), k, stream.explained_variance
    components, further_components = split_directions(stream.directions[:, :n_used], k)
    return fitted_state(
        module,
        stream.basis.mean,
        components.dtype,
        history=[*history, epoch],
        n_iter=epoch["epoch"],
        interrupted=state is not None and state.interrupted,
        components=components,
        further_components=further_components,
        explained_variance=stream.explained_variance,
        explained_variance_ratio=stream.explained_variance_ratio,
        nonlinear_gain=stream.gain,
        of_stream=True,
        n_rows=stream.basis.n_seen,
        variances=variances,
        total_variance=stream.total_variance,
    )
