"""Whole batches of a set of rows: their number, their order, and their place on the device."""

import torch

from .._runtime.device import in_pieces, is_out_of_memory
from .._runtime.process_group import indices_of_rank
from .._runtime.tensors import Indices, rows_at


def n_batches(n_rows, batch_size):
    """Number of batches that rows make in training.

    One row that is left over joins the last batch: by itself it would have no variance, and as
    much weight as a whole batch.
    """
    left_over = n_rows % batch_size
    return max(1, n_rows // batch_size + (left_over > 1))


class Batches:
    """Iterates over whole batches of a `RowSet`, shuffled if there is a generator.

    Yields inputs, each with itself, weights and labels or None, and what is to be reconstructed.
    """

    def __init__(self, rows, batch_size, device, generator=None):
        self.rows = rows
        self.batch_size = batch_size
        self.device = torch.device(device)
        self.generator = generator
        # On a device from the start: nothing is copied there for a batch.
        self.weights, self.labels = (
            None if values is None else values.to(self.device)
            for values in (rows.weights, rows.labels)
        )

    def __len__(self):
        return n_batches(len(self.rows), self.batch_size)

    @property
    def sizes(self):
        """Number of rows of each batch, of which a process of a group takes a share."""
        n_before_last = self.batch_size * (len(self) - 1)
        return [self.batch_size] * (len(self) - 1) + [len(self.rows) - n_before_last]

    def __iter__(self):
        indices, own = self.rows.indices, self.rows.own
        if self.generator is not None:
            indices = indices[torch.randperm(len(indices), generator=self.generator).numpy()]
        if own is None:
            indices = self._on_device(indices)
        start = 0
        for size in self.sizes:
            selected, factor = indices[start : start + size], 1.0
            start += size
            if own is not None or self.generator is not None:
                selected, factor = indices_of_rank(selected, own)
            if own is not None:
                selected = self._on_device(selected)
            batch, weights = self._get_batch(selected), self.weights
            weights = None if weights is None else rows_at(weights, selected).to(batch.device)
            if factor != 1.0:
                weights = factor * (torch.ones_like(batch[:, 0]) if weights is None else weights)
            labels = self.labels
            if labels is not None:
                labels = rows_at(labels, selected).to(batch.device)
                labels[:, 1] *= factor
            yield batch, (batch, weights, labels, self.rows.target_of(selected, batch))

    def _on_device(self, indices):
        return indices if self.device.type == "cpu" else Indices(indices, self.device)

    def _get_batch(self, indices):
        """The batch on the device, or on the CPU if the device has no room for all of it."""
        try:
            return self.rows.input_of(indices, self.generator).to(self.device)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
        get_batch = self.rows.input_of
        return torch.cat(in_pieces(indices, lambda some: get_batch(some, self.generator).cpu()))
