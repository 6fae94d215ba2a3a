"""Products of CSR matrices with a dense one, in threads.

They gather rows of the dense matrix with `embedding_bag`: the fastest sparse product that PyTorch
has on a CPU (docs/design.md has the figures).
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import scipy.sparse as sp
import torch
from torch.nn.functional import embedding_bag

from ._device import in_turn_with_room, is_out_of_memory
from ._threads import in_threads, in_turn

# Columns of the dense matrix that are gathered at a time; and how many of its rows, where many
# products are worth a rearrangement: 2,048 rows of 64 float32 stay in the nearest large cache.
PANEL, PANEL_ROWS = 64, 2048

# Fewer non-zeros of a row than these, on average, are not worth a sum of their own.
LEAST_PER_SUM = 16

# Non-zeros that one thread takes at a time: some milliseconds, and 16 bytes each.
_ENTRIES_OF_PART = 2**21


@dataclass(frozen=True)
class Term:
    """``csr[rows] @ dense[columns]``."""

    csr: sp.csr_matrix
    rows: slice
    columns: slice

    def add_to(self, out, panel, device):
        def add(rows):
            part = out[rows.start - self.rows.start : rows.stop - self.rows.start]
            part += self._product(rows, panel, device).to(out.device)

        in_turn_with_room([self.rows], add)

    def _product(self, rows, panel, device):
        offsets = self.csr.indptr[rows.start : rows.stop + 1]
        entries = slice(offsets[0], offsets[-1])
        indices = tensor_of(self.csr.indices[entries]).to(device)
        values = tensor_of(self.csr.data[entries]).to(panel)
        offsets = tensor_of((offsets - offsets[0]).astype(self.csr.indices.dtype)).to(device)
        return embedding_bag(
            indices,
            panel[self.columns],
            offsets,
            mode="sum",
            per_sample_weights=values,
            include_last_offset=True,
        )


def add_products(parts, dense, product, n_entries, device):
    """Add a sum of products to some rows of ``product``, for each part: panel by panel.

    Parameters
    ----------
    parts : list of (slice, list of Term)
        The rows of ``product``, different ones for each part, and what is added to them.
    dense, product : Tensor
        Of as many columns.
    n_entries : int
        Non-zeros in all.
    device : torch.device
        Where to compute.
    """

    def gather(panel):
        return panel.to(device).contiguous()

    def add(job):
        rows, terms, panel, out = job
        for term in terms:
            term.add_to(out[rows], panel, device)

    is_large = n_entries > 2 * _ENTRIES_OF_PART
    if device.type != "cpu":

        def add_all(panel, out):
            in_turn(add, [(rows, terms, panel, out) for rows, terms in parts])

        _in_panels_with_room(dense, product, gather, add_all)
        return
    each = in_threads if is_large else in_turn
    for columns, sums in zip(
        dense.split(4 * PANEL, dim=1), product.split(4 * PANEL, dim=1), strict=True
    ):
        panels = each(gather, columns.split(PANEL, dim=1))
        jobs = [
            (rows, terms, panel, out)
            for panel, out in zip(panels, sums.split(PANEL, dim=1), strict=True)
            for rows, terms in parts
        ]
        each(add, jobs)


def _in_panels_with_room(dense, product, gather, add):
    """Call ``add`` with each panel of the dense matrix and the columns of the product it gives.

    The panels are narrower from where the device has no room on.
    """
    start, width = 0, PANEL
    while start < dense.shape[1]:
        columns = slice(start, start + width)
        try:
            panel = gather(dense[:, columns])
        except RuntimeError as error:
            if width < 2 or not is_out_of_memory(error):
                raise
            width //= 2
        else:
            add(panel, product[:, columns])
            del panel  # before the next is there
            start += width


def rows_of_csr(csr):
    """The product of a whole CSR matrix, as parts."""
    return [(rows, [Term(csr, rows, slice(None))]) for rows in slices_of_entries(csr.indptr)]


def columns_of_csr(blocks):
    """The product of a transpose that is made of the blocks of `transposed_blocks`, as parts."""
    entries = sum(transpose.indptr.astype(np.int64) for _, transpose in blocks)
    return [
        (part, [Term(transpose, part, rows) for rows, transpose in blocks])
        for part in slices_of_entries(entries)
    ]


def transposed_blocks(csr, dtype):
    """The transposes of some rows of a CSR matrix each: a list of (rows, transpose)."""
    n, p = csr.shape
    step = max(PANEL_ROWS, -(-LEAST_PER_SUM * n * p // max(1, csr.nnz)))
    blocks = [slice(start, min(start + step, n)) for start in range(0, n, step)]
    return list(
        zip(blocks, _each(lambda rows: _transposed(csr[rows], dtype), blocks, csr.nnz), strict=True)
    )


def column_blocks(csr, blocks):
    """A CSR matrix cut into some of its columns each, from `transposed_blocks`: as parts.

    None where that would not make products faster.
    """
    n, p = csr.shape
    most = csr.nnz // (LEAST_PER_SUM * n)
    if min(most, p // PANEL_ROWS) <= 1:
        return None
    width = max(PANEL_ROWS, -(-p // most))
    columns = [slice(start, start + width) for start in range(0, p, width)]

    def cut(block):
        rows, transpose = block
        pieces = [(_transposed(transpose[part]), part) for part in columns]
        step = PANEL_ROWS // 2
        parts = []
        for start in range(0, rows.stop - rows.start, step):
            own = slice(start, min(start + step, rows.stop - rows.start))
            terms = [Term(piece, own, part) for piece, part in pieces]
            parts.append((slice(rows.start + own.start, rows.start + own.stop), terms))
        return parts

    return [part for parts in _each(cut, blocks, csr.nnz) for part in parts]


def slices_of_entries(offsets):
    """Slices of rows with about as many non-zeros each, from where each row starts."""
    n_parts = max(1, int(offsets[-1]) // _ENTRIES_OF_PART)
    targets = np.linspace(0, offsets[-1], n_parts + 1)[1:-1]
    cuts = np.unique([0, *np.searchsorted(offsets, targets), len(offsets) - 1])
    return [slice(start, stop) for start, stop in pairwise(cuts)]


def only_needed(csr, dense):
    """The same product without the rows of ``dense`` that it does not need."""
    needed, indices = np.unique(csr.indices, return_inverse=True)
    indices = indices.reshape(-1).astype(csr.indices.dtype)
    small = sp.csr_matrix((csr.data, indices, csr.indptr), shape=(csr.shape[0], len(needed)))
    return small, dense[torch.from_numpy(needed).long().to(dense.device)]


def tensor_of(array):
    """A NumPy array as a tensor, sharing its memory unless that is read-only."""
    return torch.from_numpy(array if array.flags.writeable else array.copy())


def _transposed(csr, dtype=None):
    transpose = csr.T.tocsr()
    return transpose if dtype is None else transpose.astype(dtype, copy=False)


def _each(function, parts, n_entries):
    if n_entries < _ENTRIES_OF_PART:
        return [function(part) for part in parts]
    return in_threads(function, parts)
