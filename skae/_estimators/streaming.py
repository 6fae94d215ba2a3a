"""How `partial_fit` learns: from a batch of rows and the state so far to the next state."""

import time
from copy import deepcopy

import torch

from .._pca.incremental import RunningBasis
from .._runtime.tensors import torch_dtype
from .._training.gate import LONGEST_NONLINEAR_CODE
from .._training.online import AveragedNetworks, Stream
from .state import fitted_state, pca_module, split_directions


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
