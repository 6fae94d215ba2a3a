"""How a fit learns, from top to bottom: rows, directions, networks, the gate, the fitted state."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from .._data.arrays import in_main_memory, is_tensor
from .._data.blocks import Blocks
from .._data.incomplete import CompletedArray
from .._data.rows import rows_of
from .._data.validation import (
    Labels,
    apply_sample_weight,
    count_of,
    dense_array,
    standard_deviations,
    validate_groups,
    validate_labels,
    whitening_divisors,
)
from .._pca.missing import completed
from .._pca.solvers import Basis, apply_weights, principal_basis, uses_full_eigenproblem
from .._runtime.cache import Cache
from .._runtime.checkpoint import NO_CHECKPOINT
from .._runtime.device import has_float64
from .._runtime.digests import digest
from .._runtime.tensors import output_dtype, torch_dtype
from .._training.gate import SelectionResult, Wishes, runs_to_try, select
from .._training.plain import fit_plain
from .._version import __version__
from .state import fitted_state


@dataclass(frozen=True)
class Given:
    """The validated arguments of a fit, without rows of weight zero.

    Attributes
    ----------
    X : ndarray, CSR matrix, Blocks, CompletedArray or tensor on an accelerator
    weights : ndarray of mean one, or None if all are equal
    groups : ndarray of int or None
    labels : Labels or None
    sample_weight : array-like or None
        As the user gave it.
    """

    X: Any
    weights: np.ndarray | None = None
    groups: np.ndarray | None = None
    labels: Labels | None = None
    sample_weight: Any = None


def checked(X, y, sample_weight, groups, *, supervision, loss, device):
    """The `Given` of validated rows and of the other arguments of `fit`, which are checked."""
    X = dense_array(X) if is_tensor(X) and device.type == "cpu" else X
    sample_weight = in_main_memory(sample_weight, "sample_weight")
    if isinstance(X, Blocks):
        y = X.of_all_rows(y, "y") if supervision else y
        sample_weight = X.of_all_rows(sample_weight, "sample_weight")
        groups = X.of_all_rows(groups, "groups")
    loss.check(X)
    n_rows, labels = X.shape[0], None
    groups = validate_groups(groups, n_rows)
    X, weights, groups = apply_sample_weight(X, sample_weight, groups)
    if supervision:
        counted = slice(None) if X.shape[0] == n_rows else np.asarray(sample_weight) > 0
        labels = validate_labels(y, n_rows, supervision, counted)
    if X.shape[0] < 2:
        raise ValueError("sample_weight leaves one row of positive weight: fit needs at least two.")
    return Given(X, weights, groups, labels, sample_weight)


def with_filled_entries(given, missing_values):
    """The same with missing entries filled by PCA, if there may be any."""
    if missing_values is None or not isinstance(given.X, np.ndarray):
        return given
    return replace(given, X=completed(given.X, given.weights))


def fit_state(plan, given, options, rng):
    """Learn from rows what a plan says: the `FittedState`.

    Parameters
    ----------
    plan : FitPlan
    given : Given
    options : TrainingOptions
    rng : RandomState

    Returns
    -------
    state : FittedState
    """
    state = (_fit_plain if plan.form is None else _fit_on_pca)(plan, given, options, rng)
    loadings = given.X.loadings if isinstance(given.X, CompletedArray) else None
    n_counted = count_of(given.sample_weight, given.X.shape[0])
    return replace(state.counted(n_counted), loadings=loadings)


def _fit_on_pca(plan, given, options, rng):
    """PCA, and networks on top of it where they beat it on validation rows."""
    k, networks = plan.latent_dim, plan.networks

    # 1. The principal directions of all rows.
    rows, basis = _principal_basis(plan, given, options, rng)

    # 2. What the networks would be trained on.
    seed = rng.randint(2**31)

    def build(*buffers, encoder):
        return networks.placed(networks.residual(seed, *buffers, encoder=encoder), options.device)

    # 3. Runs of training, until the networks of one beat PCA.
    result = SelectionResult()
    if plan.has_networks:
        left = basis.share_beyond(k)
        wishes = plan.wishes if basis.total_variance > 0 else Wishes()  # constant rows have no code
        result = select(
            plan.form.problem(rows, basis, k, build, options.device),
            options,
            rng,
            given.labels,
            runs=runs_to_try(rows.shape, k, wishes, left),
        )

    # 4. The fitted model: PCA, with the networks that were kept.
    return fitted_state(
        mean=rows.mean,
        history=result.history,
        n_iter=result.n_epochs,
        explained_variance=basis.variances[:k],
        explained_variance_ratio=basis.explained_variance_ratio[:k],
        nonlinear_gain=result.gain,
        gains_when_cut=result.gains_when_cut,
        **plan.form.fields(result.module, rows, basis, k, output_dtype(given.X.dtype)),
        **plan.fields,
    )


def _fit_plain(plan, given, options, rng):
    """Networks on the rows themselves, without PCA."""
    settings = plan.networks.settings
    rows = rows_of(given.X, weights=given.weights, device=options.device)
    seed = rng.randint(2**31)
    module, history = fit_plain(
        rows,
        lambda: plan.networks.placed(plan.networks.plain(seed), options.device),
        # What the user's decoder returns is the reconstruction, like that of an output activation.
        settings.output_activation is not None or settings.decoder is not None,
        options,
        rng,
        given.labels,
    )
    return fitted_state(
        module,
        rows.mean,
        output_dtype(given.X.dtype),
        n_rows=len(rows),
        n_iter=len(history),
        history=history,
        **plan.fields,
    )


def whitened(state, given, exponent, device):
    """The state whose codes are divided by a power of their standard deviations."""
    X = given.X.observed if isinstance(given.X, CompletedArray) else given.X
    codes = state.encode(X, device)
    deviations = standard_deviations(dense_array(codes), given.weights, given.sample_weight)
    divisors = whitening_divisors(deviations, state.mean.dtype, float(exponent))
    return replace(state, code_scale=divisors)


def _principal_basis(plan, given, options, rng):
    """The rows of X and their principal directions, in the precision that codes will have."""
    X, weights = given.X, given.weights
    dtype = output_dtype(X.dtype) if has_float64(options.device) else np.dtype("float32")
    rows = rows_of(X, weights=weights, dtype=torch_dtype(dtype), device=options.device)
    if plan.form.drops_unused_columns:
        rows = rows.of_used_columns(plan.n_directions)
    if not (rows.is_dense or uses_full_eigenproblem(rows.shape, plan.n_directions, rows.is_dense)):
        # The tolerance of Krylov iteration is coarser than float32: float64 would be slower alone.
        rows = rows.in_dtype(torch.float32)
    seed = rng.randint(2**31)
    cache = _cache_of(plan.memory, X, weights, rows, seed)

    def compute():
        basis = principal_basis(
            apply_weights(rows),
            plan.n_directions,
            n_accurate=plan.latent_dim,
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
