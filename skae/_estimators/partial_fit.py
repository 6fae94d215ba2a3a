"""`partial_fit` for an autoencoder on principal component scores."""

import time
from copy import deepcopy
from typing import Any, Self

import numpy as np
import torch
from sklearn.utils.metaestimators import available_if

from .._nn.builders import check_one_row
from .._pca.incremental import RunningBasis
from .._runtime.device import accurate_device, resolve_device
from .._runtime.execution import in_neutral_surroundings
from .._runtime.tensors import output_dtype, torch_dtype
from .._training.online import AveragedNetworks, Stream
from .._training.selection import LONGEST_NONLINEAR_CODE
from . import auto
from .auto import (
    resolve_hidden_layer_sizes,
    resolve_latent_dim,
    resolve_linear_path,
    training_options,
)
from .parameters import check_combinations, random_state_of


def _can_follow(autoencoder):
    linear_path = resolve_linear_path(autoencoder)
    if not linear_path or autoencoder.whiten or autoencoder.truncations is not None:
        raise AttributeError(
            "partial_fit needs the linear path (linear_path), whiten=False and truncations=None."
        )
    return True


class PartialFitMixin:
    """What makes batches of rows into the fitted attributes of `DenseAutoencoder`."""

    @available_if(_can_follow)
    @in_neutral_surroundings
    def partial_fit(self, X: Any, y: Any = None) -> Self:
        """Go on learning from a batch of rows, as `IncrementalPCA` does.

        The principal directions are those of all rows so far; the networks take one pass over the
        batch, and are used while they explain more of each new batch than PCA does. The components
        are the principal directions; while networks are used, these are turned within their span
        so that the coordinates of the networks stay where they are. Needs ``linear_path=True``,
        ``whiten=False`` and ``truncations=None``; may follow `fit` and `truncate`.

        Parameters
        ----------
        X : {array-like, sparse matrix or array} of shape (n_samples, n_features)
            A batch. The first must have at least ``latent_dim`` rows; some hundreds are best.
        y : None
            Ignored.

        Returns
        -------
        self : object
            The fitted estimator. If it fails it is left as it was before.
        """
        return self._learn_aside("_follow", X)

    def _follow(self, X):
        start = time.perf_counter()
        self._validate_params()
        check_combinations(self)
        device = accurate_device(resolve_device(self.device))
        first = not hasattr(self, "components_")
        X = self._validate_rows(X, reset=first)
        if first and self._wants_share:
            raise ValueError(
                f"latent_dim={self.latent_dim} must be an integer for partial_fit: a first batch "
                f"does not tell how many numbers explain so much of the rows to come."
            )
        if first:
            vars(self).pop("module_", None)  # of a plain fit
            self.latent_dim_ = resolve_latent_dim(self.latent_dim, True, *X.shape)
            self._lengths, self._gains_when_cut = (), {}
            n, p = auto.ROWS_OF_STREAM, X.shape[1]
            self._masked = self._share_masked(n, p, self.latent_dim_)
            self.mean_ = np.zeros(X.shape[1], dtype=output_dtype(X.dtype))
            self.history_ = []
        # A copy, since a failure must leave no trace.
        stream = deepcopy(getattr(self, "_stream", None)) or self._new_stream(device)
        if X.shape[0] == 1 and stream.networks is not None:
            self._check_one_row(stream.networks.module)
        stream.to(device)
        error, explained = stream.update(X)
        stream.to("cpu")

        n_used = len(stream.basis.squares) if stream.gain else self.latent_dim_
        self._keep_directions(stream.directions[:, :n_used])
        self.explained_variance_ = stream.explained_variance
        self.explained_variance_ratio_ = stream.explained_variance_ratio
        self.nonlinear_gain_ = stream.gain
        self._stream = stream
        vars(self).pop("_seen", None)  # the stream knows more
        self._code_scale = None
        epoch = {
            "stage": "batch",
            "epoch": 1 + sum(entry["stage"] == "batch" for entry in self.history_),
            "train_loss": error,
            "variance_explained": explained,
            "dur": time.perf_counter() - start,
        }
        module = self._linear_module()
        if stream.gain:
            module = deepcopy(stream.networks.average)
        mean, history = stream.basis.mean, [*self.history_, epoch]
        self._keep(module, mean, self.mean_.dtype, epoch["epoch"], history)

    def _check_one_row(self, module):
        """Raise ValueError if a custom network cannot be trained on one row."""
        for name, n_inputs in (("encoder", len(module.scale)), ("decoder", module.latent_dim)):
            network = getattr(module, name)
            if getattr(self, name) is not None and network is not None:
                check_one_row(network, name, n_inputs, "X with 1 row")

    def _cut_history(self, n_directions):
        """Let a shorter code go on from what is known of the rows along its own directions."""
        stream = vars(self).get("_stream")
        if stream is not None and n_directions < stream.latent_dim:
            # PCA was kept, or codes could not be cut: networks start anew, as after `fit`.
            del self._stream
            self._seen = (stream.basis.n_seen, stream.explained_variance, stream.total_variance)
        if hasattr(self, "_seen"):
            n_seen, variances, total_variance = self._seen
            self._seen = (n_seen, variances[:n_directions], total_variance)

    def _new_stream(self, device):
        """A stream that starts from what is fitted, if anything is."""
        if getattr(self, "_stream_not_saved", False):
            raise ValueError(
                "partial_fit cannot go on from an autoencoder that was saved by skae.save in the "
                "middle of its batches: the file holds the model and not what it remembers of "
                "them. Pickle holds both."
            )
        n, p, k = auto.ROWS_OF_STREAM, len(self.mean_), self.latent_dim_
        n_directions = min(p, k + auto.FURTHER_DIRECTIONS)
        basis = RunningBasis(p, n_directions, torch_dtype(self.mean_.dtype))
        rng = random_state_of(self.random_state)
        module = None
        if hasattr(self, "_seen"):
            n_seen, variances, total = self._seen
            directions = np.concatenate([self.components_, self._further_components]).T
            basis.start_from(n_seen, self.mean_, directions, variances, total)
            module = deepcopy(self.module_).float()
        hidden = resolve_hidden_layer_sizes(
            self.hidden_layer_sizes, auto.hidden_layer_sizes(n, p, k)
        )
        if not hidden or n_directions == k:
            return Stream(basis, k, None)
        trained = (
            module is not None and module.decoder is not None and len(module.scale) == n_directions
        )
        if not trained:
            scale, encoder = (
                torch.ones(n_directions, dtype=torch.float32),
                k <= LONGEST_NONLINEAR_CODE,
            )
            module = self._build(rng.randint(2**31), scale, hidden, 0.0, encoder)
        options = training_options(self, self._schedule(n, p), n, device)
        networks = AveragedNetworks(module, options, rng.randint(2**31), trained=trained)
        return Stream(basis, k, networks)
