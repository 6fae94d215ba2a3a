"""Rows as torch's DataLoader takes them: whole batches of a set of rows, and the unit of losses."""

from collections.abc import Callable
from dataclasses import dataclass
from math import nan
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from .._runtime.device import in_pieces, is_out_of_memory
from .._runtime.process_group import indices_of_rank
from .._runtime.tensors import Indices, on_host, rows_at

_CPU = torch.device("cpu")


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

    A batch is the pair of what networks take and what the loss compares with: the rows that are to
    be reconstructed, or a dict of these ("rows") and of "weights" and "labels" where there are any.

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
    device : torch.device
        Where batches are wanted.
    """

    get_batch: Callable[[np.ndarray], torch.Tensor]
    indices: np.ndarray
    measure: Measure = Measure()
    weights: torch.Tensor | None = None
    labels: torch.Tensor | None = None
    targets: Any = None
    own: slice | None = None
    device: torch.device = _CPU

    def __len__(self):
        return len(self.indices)

    def __getitem__(self, i):
        """One row and what is to be reconstructed, by its position in the set."""
        x, target = self.batch_at(self.indices[[i]])
        rows = target["rows"] if isinstance(target, dict) else target
        return x[0], rows[0]

    def __getitems__(self, batch):
        """The batch that a `BatchOrder` describes; a list of rows for a loader of the user."""
        if isinstance(batch, list):
            return [self[i] for i in batch]
        return self.batch_at(batch.indices, batch.seed, batch.is_shared)

    def batch_at(self, indices, seed=None, is_shared=False):
        """The batch of the rows with given indices; of this process, if processes share it.

        With a seed, targets may hide some entries from the networks.
        """
        share, factor = indices, 1.0
        if is_shared or self.own is not None:
            share, factor = indices_of_rank(indices, self.own)
        if self.own is not None:
            share = _on_device(share, self.device)
        x = self._input_of(share, seed)
        target = {"rows": x}
        if self.targets is not None:
            target["rows"] = self.targets.get_target(on_host(share)).to(x.device)
        if self.weights is not None:
            target["weights"] = rows_at(self.weights, share).to(x.device)
        if factor != 1.0:
            ones = torch.ones(len(x), dtype=torch.float32, device=x.device)
            target["weights"] = factor * target.get("weights", ones)
        if self.labels is not None:
            target["labels"] = rows_at(self.labels, share).to(x.device)
            target["labels"][:, 1] *= factor
        return x, target if len(target) > 1 else target["rows"]

    def _input_of(self, indices, seed):
        """Inputs on the device, or on the CPU if the device has no room for all of them."""
        hides = seed is not None and self.targets is not None

        def take(some):
            if hides:
                return self.targets.corrupted_batch(on_host(some), seed)
            return self.get_batch(some)

        try:
            return take(indices).to(self.device)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
        return torch.cat(in_pieces(indices, lambda some: take(some).cpu()))


def row_set(
    get_batch,
    indices,
    weights,
    error_of_mean,
    *,
    factor=1.0,
    outside_subspace=None,
    labels=None,
    device=_CPU,
):
    """A `RowSet` and its `Measure`, from arrays with an entry for each row of the source."""
    w = weights[indices]
    outside = 0.0
    if outside_subspace is not None:
        outside = float(np.average(outside_subspace[indices], weights=w))
    measure = Measure(factor, outside, float(np.average(error_of_mean[indices], weights=w)))
    # On the device from the start: nothing is copied there for a batch.
    labels = None if labels is None else labels.weighted(weights, indices).to(device)
    of_batches = None
    if not (w == w[0]).all():
        of_batches = torch.from_numpy(weights / w.mean()).float().to(device)
    return RowSet(get_batch, indices, measure, of_batches, labels, device=device)


@dataclass(frozen=True)
class _Batch:
    """Indices of the rows of a batch, and how they are taken; see `RowSet.batch_at`."""

    indices: Any
    seed: int | None
    is_shared: bool


class BatchOrder:
    """The batches of a set of rows in one pass, as a DataLoader's ``batch_sampler``.

    One row that is left over joins the last batch: by itself it would have no variance, and as
    much weight as a whole batch.

    Parameters
    ----------
    rows : RowSet
    batch_size : int
    generator : torch.Generator, default=None
        Draws the order of the rows, in training; None keeps their order.

    Attributes
    ----------
    sizes : list of int
        Number of rows of each batch, of which a process of a group takes a share.
    """

    def __init__(self, rows, batch_size, generator=None):
        self._rows = rows
        self._generator = generator
        n_batches = max(1, len(rows) // batch_size + (len(rows) % batch_size > 1))
        n_before_last = batch_size * (n_batches - 1)
        self.sizes = [batch_size] * (n_batches - 1) + [len(rows) - n_before_last]

    def __len__(self):
        return len(self.sizes)

    def __iter__(self):
        indices, generator, rows = self._rows.indices, self._generator, self._rows
        if generator is not None:
            indices = indices[torch.randperm(len(indices), generator=generator).numpy()]
        if rows.own is None:
            indices = _on_device(indices, rows.device)
        start = 0
        for size in self.sizes:
            seed = None
            if generator is not None and rows.targets is not None:
                seed = int(torch.randint(2**31, (), generator=generator))
            yield _Batch(indices[start : start + size], seed, generator is not None)
            start += size


def loader(rows, batch_size, generator=None):
    """Torch's DataLoader of whole batches; shuffled if there is a generator."""
    return DataLoader(
        rows,
        batch_sampler=BatchOrder(rows, batch_size, generator),
        collate_fn=_as_it_is,
        # DataLoader draws a seed for workers, of which there are none: not from the global one.
        generator=torch.Generator(),
    )


def _as_it_is(batch):
    return batch


def _on_device(indices, device):
    return indices if device.type == "cpu" else Indices(indices, device)
