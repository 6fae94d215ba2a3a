"""How `fit` and `partial_fit` learn: from validated rows to a `FittedState`."""

import time
from copy import deepcopy
from dataclasses import replace
from numbers import Integral, Real

import numpy as np
import torch

from .._data.arrays import in_main_memory, is_tensor
from .._data.blocks import Blocks
from .._data.incomplete import CompletedArray
from .._data.rows import rows_of
from .._data.validation import (
    apply_sample_weight,
    count_of,
    dense_array,
    standard_deviations,
    validate_groups,
    validate_labels,
    whitening_divisors,
)
from .._nn.builders import DenseNetworks, NetworkSettings
from .._nn.layers import check_one_row
from .._nn.losses import LOSSES
from .._pca.holdout import shortest_code
from .._pca.incremental import RunningBasis
from .._pca.missing import completed
from .._pca.solvers import Basis, apply_weights, principal_basis, uses_full_eigenproblem
from .._runtime.device import float64_device, has_float64, resolve_device
from .._runtime.execution import device_lock
from .._runtime.reports import CallbackReport, ReportGroup, callback_context, open_report
from .._runtime.storage import NO_CHECKPOINT, Cache, Checkpoint, digest, stable_repr
from .._runtime.tensors import output_dtype, torch_dtype
from .._training.early_stopping import Interrupts
from .._training.online import AveragedNetworks, Stream
from .._training.plain import fit_plain
from .._training.selection import (
    LONGEST_NONLINEAR_CODE,
    SelectionResult,
    most_epochs,
    select,
)
from .._version import __version__
from . import auto
from .auto import resolve_latent_dim, resolve_linear_path, resolve_truncations, training_options
from .parameters import random_state_of
from .state import fitted_state, pca_module, split_directions

# Parameters that do not affect the result.
_WITHOUT_EFFECT = {"verbose", "callbacks", "checkpoint", "memory"}


def learn(estimator, X, y, sample_weight, groups, previous):
    """Learn from validated rows: sets ``_state``.

    Parameters
    ----------
    estimator : BaseAutoencoder
    X : ndarray, CSR matrix, Blocks or tensor on an accelerator
    y, sample_weight, groups
        As in `fit`.
    previous : Module or None
        The module that training starts from with ``warm_start``.
    """
    device = resolve_device(estimator.device)
    X = dense_array(X) if is_tensor(X) and device.type == "cpu" else X
    sample_weight = in_main_memory(sample_weight, "sample_weight")
    if isinstance(X, Blocks):
        y = X.of_all_rows(y, "y") if estimator.supervision else y
        sample_weight = X.of_all_rows(sample_weight, "sample_weight")
        groups = X.of_all_rows(groups, "groups")
    LOSSES[estimator.loss]().check(X)
    groups = validate_groups(groups, X.shape[0])
    labels, n_rows = None, X.shape[0]
    X, weights, groups = apply_sample_weight(X, sample_weight, groups)
    if estimator.supervision:
        counted = slice(None) if X.shape[0] == n_rows else np.asarray(sample_weight) > 0
        labels = validate_labels(y, n_rows, estimator.supervision, counted)
    if X.shape[0] < 2:
        raise ValueError("sample_weight leaves one row of positive weight: fit needs at least two.")
    options = training_options(estimator, estimator._schedule(*X.shape), X.shape[0], device)
    checkpoint = NO_CHECKPOINT
    if estimator.checkpoint is not None:
        # Random generators and the last bits depend on the kind of device.
        identity = {**estimator._identity(X, weights), "device": device.type}
        identity["groups"] = "None" if groups is None else digest(groups)
        if labels is not None:
            identity["y"] = digest(labels.values)
        checkpoint = Checkpoint(estimator.checkpoint, identity)
    options = replace(options, checkpoint=checkpoint, groups=groups)
    linear_path = resolve_linear_path(estimator)
    n_epochs = most_epochs(options) if linear_path else options.max_epochs
    context = callback_context(estimator, n_epochs)
    if context is not None:
        context.call_on_fit_task_begin(estimator=estimator, X=X, y=y)
    interrupts = Interrupts()
    with (
        interrupts.counted(),
        checkpoint,
        open_report(estimator.verbose) as report,
        device_lock(device),
    ):
        if context is not None:
            report = ReportGroup([report, CallbackReport(estimator, context)])
        options = replace(options, report=report, interrupts=interrupts)
        rng = random_state_of(estimator.random_state)
        data, loadings = X, None
        if estimator.missing_values is not None and isinstance(X, np.ndarray):
            data = completed(X, weights)
            loadings = data.loadings
        networks = estimator._networks(data, weights, options, rng, previous)
        learn_kind = _learn_residual if linear_path else _learn_plain
        state = learn_kind(estimator, data, weights, networks, options, rng, labels)
        n_counted = count_of(sample_weight, X.shape[0])
        state = replace(state.counted(n_counted), loadings=loadings)
        if estimator.whiten:
            codes = state.encode(X, estimator.device)
            deviations = standard_deviations(dense_array(codes), weights, sample_weight)
            divisors = whitening_divisors(deviations, state.mean.dtype, float(estimator.whiten))
            state = replace(state, code_scale=divisors)
    estimator._state = replace(state, interrupted=interrupts.n > 0)
    if context is not None:
        # All attributes are set, so callbacks need none to reconstruct the fitted estimator.
        context.call_on_fit_task_end(estimator=estimator, X=X, y=y, reconstruction_attributes={})


def _learn_residual(estimator, X, weights, networks, options, rng, labels):
    """PCA, and networks on top of it where they help."""
    k = networks.settings.latent_dim
    n_directions = estimator._n_directions(networks, *X.shape)
    rows, basis = _principal_basis(estimator, X, weights, n_directions, k, options, rng)
    seed = rng.randint(2**31)

    def build(*buffers, encoder):
        return networks.placed(networks.residual(seed, *buffers, encoder=encoder), options.device)

    problem = estimator._problem(rows, basis, networks, build, options.device)
    result = SelectionResult()
    if problem is not None:
        result = select(problem, options, estimator.validation_fraction, rng, labels)
    return fitted_state(
        mean=rows.mean,
        history=result.history,
        n_iter=result.n_epochs,
        explained_variance=basis.variances[:k],
        explained_variance_ratio=basis.explained_variance_ratio[:k],
        nonlinear_gain=result.gain,
        gains_when_cut=result.gains_when_cut,
        **estimator._fields(result.module, rows, basis, output_dtype(X.dtype), k),
        **estimator._fields_of_input(networks),
    )


def _learn_plain(estimator, X, weights, networks, options, rng, labels):
    """Networks on the rows themselves, without PCA."""
    rows = rows_of(X, weights=weights, device=options.device)
    seed = rng.randint(2**31)
    module, history = fit_plain(
        rows,
        lambda: networks.placed(networks.plain(seed), options.device),
        estimator.output_activation is not None,
        options,
        estimator.validation_fraction,
        rng,
        labels,
    )
    return fitted_state(
        module,
        rows.mean,
        output_dtype(X.dtype),
        n_rows=len(rows),
        n_iter=len(history),
        history=history,
        **estimator._fields_of_input(networks),
    )


def network_settings(estimator, latent_dim, masked, previous=None):
    """The `NetworkSettings` that the parameters determine."""
    return NetworkSettings(
        latent_dim=latent_dim,
        linear_path=resolve_linear_path(estimator),
        lengths=resolve_truncations(estimator.truncations, latent_dim),
        loss=LOSSES[estimator.loss],
        activation=estimator.activation,
        output_activation=estimator.output_activation,
        penalty=estimator.penalty,
        alpha=estimator.alpha,
        encoder=estimator.encoder,
        decoder=estimator.decoder,
        masked=masked,
        noise=estimator.noise,
        one_row=estimator.batch_size == 1,
        previous=previous,
    )


def length_of_code(estimator, X, weights, options, rng):
    """Length of the code for X: ``latent_dim``, or the length for that share of the variance."""
    if not _is_share(estimator.latent_dim):
        return resolve_latent_dim(estimator.latent_dim, resolve_linear_path(estimator), *X.shape)
    rows, seed = rows_of(X, weights=weights, device=options.device), rng.randint(2**31)
    share, fraction = estimator.latent_dim, estimator.validation_fraction
    return options.checkpoint.load_or_compute(
        "length", lambda: shortest_code(rows, share, fraction, seed, options.groups)
    )


def _is_share(latent_dim):
    return isinstance(latent_dim, Real) and not isinstance(latent_dim, Integral)


def identity_of(estimator, X, weights):
    """What two calls of `fit` must have in common to give the same result, by name."""
    parameters = estimator.get_params()
    return {
        "estimator": type(estimator).__name__,
        **{k: stable_repr(v) for k, v in parameters.items() if k not in _WITHOUT_EFFECT},
        "linear_path": stable_repr(resolve_linear_path(estimator)),
        "X": digest(X),
        "sample_weight": "None" if weights is None else digest(weights),
        "torch": str(torch.__version__),
        "skae": __version__,
    }


def _principal_basis(estimator, X, weights, n_directions, latent_dim, options, rng):
    """The rows of X and their principal directions, in the precision that codes will have."""
    dtype = output_dtype(X.dtype) if has_float64(options.device) else np.dtype("float32")
    rows = rows_of(X, weights=weights, dtype=torch_dtype(dtype), device=options.device)
    if getattr(estimator, "_drops_unused_columns", False):
        rows = rows.of_used_columns(n_directions)
    if not (rows.is_dense or uses_full_eigenproblem(rows.shape, n_directions, rows.is_dense)):
        # The tolerance of Krylov iteration is coarser than float32: float64 would be slower alone.
        rows = rows.in_dtype(torch.float32)
    seed = rng.randint(2**31)
    cache = _cache_of(estimator.memory, X, weights, rows, seed)

    def compute():
        basis = principal_basis(
            apply_weights(rows),
            n_directions,
            n_accurate=latent_dim,
            generator=torch.Generator().manual_seed(seed),
            cache=cache,
        )
        return {**vars(basis), "variances": torch.from_numpy(basis.variances)}

    basis = options.checkpoint.load_or_compute("basis", compute)
    directions = basis["directions"].to(options.device)
    return rows, Basis(directions, basis["variances"].numpy(), basis["total_variance"])


def _cache_of(memory, X, weights, rows, seed):
    """The cache that fits on the same rows share. Its key has all that their bits depend on."""
    if memory is None:
        return NO_CHECKPOINT
    if isinstance(X, CompletedArray):
        X = X.filled
    key = {
        "X": digest(X),
        "sample_weight": "None" if weights is None else digest(weights),
        "seed": seed,
        "dtype": str(rows.dtype),
        "columns": rows.shape[1],
        "device": str(rows.device),
        "threads": torch.get_num_threads(),
        "torch": str(torch.__version__),
        "skae": __version__,
    }
    return Cache(memory, key)


# -- Batches of rows ------------------------------------------------------------------------------


def learn_from_batch(estimator, X, state):
    """Learn from a validated batch of rows: sets ``_state`` and ``_stream``.

    Parameters
    ----------
    estimator : DenseAutoencoder
    X : ndarray, CSR matrix or Blocks
    state : FittedState or None
        The state so far, with a linear path; None for a first batch.
    """
    start = time.perf_counter()
    if estimator.supervision:
        raise ValueError(
            f"supervision={estimator.supervision:g} must be 0 for partial_fit: labels take part in "
            f"fit alone."
        )
    device = float64_device(resolve_device(estimator.device))
    if state is None and _is_share(estimator.latent_dim):
        raise ValueError(
            f"latent_dim={estimator.latent_dim} must be an integer for partial_fit: from a first "
            f"batch it is unknown how many dimensions explain that share of later rows."
        )
    # A copy, so that a failure changes nothing.
    stream = deepcopy(vars(estimator).get("_stream"))
    stream = stream or _new_stream(estimator, X, state, device)
    if X.shape[0] == 1 and stream.networks is not None:
        _check_one_row(estimator, stream.networks.module)
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
    estimator._stream = stream
    estimator._state = fitted_state(
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


def _check_one_row(estimator, module):
    """Raise ValueError if a custom network cannot be trained on one row."""
    for name, n_inputs in (("encoder", len(module.scale)), ("decoder", module.latent_dim)):
        network = getattr(module, name)
        if getattr(estimator, name) is not None and network is not None:
            check_one_row(network, name, n_inputs, "X with 1 row")


def _new_stream(estimator, X, state, device):
    """A stream that starts from the fitted state, if there is one."""
    if state is not None and state.of_stream:
        raise ValueError(
            "partial_fit cannot continue from an autoencoder that was saved by skae.save between "
            "its batches: the file contains the model, but not the state of training. Pickle "
            "stores both."
        )
    n, p = auto.ROWS_OF_STREAM, X.shape[1]
    if state is None:
        k, dtype = resolve_latent_dim(estimator.latent_dim, True, *X.shape), output_dtype(X.dtype)
    else:
        k, dtype = state.latent_dim, state.mean.dtype
    n_directions = min(p, k + auto.FURTHER_DIRECTIONS)
    basis = RunningBasis(p, n_directions, torch_dtype(dtype))
    rng = random_state_of(estimator.random_state)
    module = None
    if state is not None:
        directions = state.directions
        basis.start_from(
            state.n_rows, state.mean, directions, state.variances, state.total_variance
        )
        module = deepcopy(state.module).float()
    hidden = auto.resolve_hidden_layer_sizes(
        estimator.hidden_layer_sizes, auto.hidden_layer_sizes(n, p, k)
    )
    if not hidden or n_directions == k:
        return Stream(basis, k, None)
    trained = (
        module is not None and module.decoder is not None and len(module.scale) == n_directions
    )
    if not trained:
        settings = network_settings(estimator, k, estimator._masked_share(n, p, k))
        networks = DenseNetworks(settings, n_directions, hidden)
        scale = torch.ones(n_directions, dtype=torch.float32)
        seed, encoder = rng.randint(2**31), k <= LONGEST_NONLINEAR_CODE
        module = networks.residual(seed, scale, encoder=encoder)
    options = training_options(estimator, estimator._schedule(n, p), n, device)
    averaged = AveragedNetworks(module, options, rng.randint(2**31), trained=trained)
    return Stream(basis, k, averaged)
