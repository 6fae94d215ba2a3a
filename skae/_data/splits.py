"""Training and validation rows: the choice of the rows that are held out, and sets of rows."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from math import nan
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from .._runtime.tensors import on_host

# With fewer rows a gain cannot be distinguished from chance.
MIN_VALIDATION_ROWS = 8


def held_out_rows(n_rows, fraction, rng, groups=None):
    """Split row indices into training and validation rows: by groups where they are known.

    Parameters
    ----------
    n_rows : int
    fraction : float
        Share of the rows to hold out.
    rng : RandomState
    groups : ndarray of int, default=None
        Number of the group of each row. Rows of one group are held out together.

    Returns
    -------
    training, validation : ndarray of int
        Indices in increasing order.
    """
    if groups is None:
        return held_out_runs(n_rows, fraction, rng)
    numbers, firsts, sizes = np.unique(groups, return_index=True, return_counts=True)
    if len(numbers) == 1:
        warnings.warn(
            f"groups has a single group for all {n_rows} rows, so there is no other one to hold "
            f"out for validation: runs of adjacent rows are held out, as without groups.",
            UserWarning,
            stacklevel=2,
        )
        return held_out_runs(n_rows, fraction, rng)
    order = firsts.argsort()  # the split does not depend on the numbers
    chosen = _held_out_groups(sizes[order], _most_validation_rows(n_rows, fraction), rng)
    is_validation = np.isin(groups, numbers[order][chosen])
    return np.flatnonzero(~is_validation), np.flatnonzero(is_validation)


def held_out_runs(n_rows, fraction, rng, longest_run=32):
    """Split row indices into training and validation rows, holding out runs of adjacent rows.

    Adjacent rows are often of the same group (the chunks of one file, the frames of one film). If
    single rows were held out, most would have a similar training row, and networks that memorise
    would have a low validation loss.

    Parameters
    ----------
    n_rows : int
    fraction : float
        Share of the rows to hold out.
    rng : RandomState
    longest_run : int, default=32
        The most adjacent rows that are held out together.

    Returns
    -------
    training, validation : ndarray of int
        Indices in increasing order.
    """
    n_validation = _most_validation_rows(n_rows, fraction)
    run = int(np.clip(n_validation // 16, 1, longest_run))
    starts = np.arange(0, n_rows, run)
    chosen = rng.permutation(len(starts))[: n_validation // run]
    is_validation = np.isin(np.arange(n_rows) // run, chosen)
    return np.flatnonzero(~is_validation), np.flatnonzero(is_validation)


def _most_validation_rows(n_rows, fraction):
    # At least two training rows: one has no standard deviation, and some layers need two.
    return min(int(fraction * n_rows), n_rows - 2)


def _held_out_groups(sizes, n_validation, rng):
    """Choose groups with about a number of rows together, in random order: a mask of them.

    A group is chosen if the number of rows is nearer to ``n_validation`` with it than without it,
    which excludes groups of more than twice as many rows. If all groups are larger, the smallest is
    chosen.
    """
    is_chosen = np.zeros(len(sizes), dtype=bool)
    if n_validation <= 0:
        return is_chosen
    order, n_rows, n_chosen = rng.permutation(len(sizes)), sizes.sum(), 0
    for group in order:
        size = sizes[group]
        is_nearer = abs(n_chosen + size - n_validation) <= abs(n_chosen - n_validation)
        if is_nearer and n_chosen + size <= n_rows - 2:
            is_chosen[group] = True
            n_chosen += size
    if not n_chosen:
        is_chosen[order[sizes[order].argmin()]] = True
    return is_chosen


@dataclass(frozen=True)
class Measure:
    """Converts the mean loss of a set of rows to the unit of X.

    Attributes
    ----------
    factor : float
        Loss in the unit of X where the loss of the batches is 1.
    outside_subspace : float
        Mean residual outside the subspace of the batches, which no network reconstructs.
    error_of_mean : float
        Mean error if each row is reconstructed by the mean; for squared errors, the variance.
    """

    factor: float = 1.0
    outside_subspace: float = 0.0
    error_of_mean: float = nan

    def error(self, loss):
        """Mean reconstruction error of a row."""
        return self.factor * loss + self.outside_subspace

    def explained(self, loss):
        """Share of the variance, or deviance, that the reconstructions explain."""
        return 1 - self.error(loss) / self.error_of_mean if self.error_of_mean else 1.0


@dataclass(frozen=True)
class RowSet(Dataset):
    """Some rows of a source that returns whole batches.

    Attributes
    ----------
    get_batch : callable
        Returns the rows with given indices as a dense tensor.
    indices : ndarray of int
        Indices of the rows that belong to the set.
    measure : Measure
        Converts the loss on these rows.
    weights : Tensor, default=None
        Weight of each row of the source, of mean one over the set.
    labels : Tensor, default=None
        Label of each row of the source and its weight, of mean one over the set, for a `LabelHead`.
    targets : Targets, default=None
        What is reconstructed, if it is not the batches themselves.
    own : slice, default=None
        The rows of the source that this process has, if each process of a group has its own: it
        takes these of each batch. None if every process has all rows.
    """

    get_batch: Callable[[np.ndarray], torch.Tensor]
    indices: np.ndarray
    measure: Measure = Measure()
    weights: torch.Tensor | None = None
    labels: torch.Tensor | None = None
    targets: Any = None
    own: slice | None = None

    def __len__(self):
        return len(self.indices)

    def input_of(self, indices, generator=None):
        """Rows with given indices as networks take them; there is a generator in training."""
        if generator is None or self.targets is None:
            return self.get_batch(indices)
        seed = int(torch.randint(2**31, (), generator=generator))
        return self.targets.corrupted_batch(on_host(indices), seed)

    def target_of(self, indices, batch):
        """What networks should reconstruct from the batch of rows with given indices."""
        if self.targets is None:
            return batch
        return self.targets.get_target(on_host(indices)).to(batch.device)

    def __getitem__(self, i):
        """Input and target of one row. Callbacks may need it; training gets whole batches."""
        row = self.get_batch(self.indices[[i]])[0]
        return row, row


def row_set(
    get_batch, indices, weights, error_of_mean, *, factor=1.0, outside_subspace=None, labels=None
):
    """A `RowSet` and its `Measure`, from arrays with an entry for each row of the source."""
    w = weights[indices]
    outside = 0.0
    if outside_subspace is not None:
        outside = float(np.average(outside_subspace[indices], weights=w))
    measure = Measure(factor, outside, float(np.average(error_of_mean[indices], weights=w)))
    labels = None if labels is None else labels.weighted(weights, indices)
    if (w == w[0]).all():
        return RowSet(get_batch, indices, measure, labels=labels)
    weights = torch.from_numpy(weights / w.mean()).float()
    return RowSet(get_batch, indices, measure, weights, labels)
