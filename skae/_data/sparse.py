"""CSR matrices: a canonical form, and products with dense matrices in threads."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import scipy.sparse as sp
import torch
from torch.nn.functional import embedding_bag

from .._runtime.device import in_turn_with_room, is_out_of_memory, sparse_device
from .._runtime.execution import in_one_thread, in_threads
from .._runtime.tensors import tensor_of

# Columns of the dense matrix in one product, and its rows if the sparse matrix is rearranged for
# many products: 2,048 rows of 64 float32 fit into the cache of a core.
PANEL, PANEL_ROWS = 64, 2048

# The least average number of non-zeros per row of a block: sums of fewer take too long.
MIN_NONZEROS_PER_SUM = 16

# Non-zeros that one thread multiplies at a time, in some milliseconds; they take 16 bytes each.
_ENTRIES_OF_PART = 2**21


def canonical_csr(X, dtype):
    """Return a sparse matrix as CSR with sorted, unique indices, without changing the given one."""
    X = X.tocsr().astype(dtype, copy=False)
    if not X.has_canonical_format:
        X = X.copy()
        X.sum_duplicates()
    return X


@dataclass(frozen=True)
class Term:
    """The product ``csr[rows] @ dense[columns]``."""

    csr: sp.csr_matrix
    rows: slice
    columns: slice

    def add_to(self, out, panel, device):
        """Add the product with a panel of columns of ``dense`` to ``out``."""

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
    """Add sums of products to the rows of ``product``, one panel of columns at a time.

    Parameters
    ----------
    parts : list of (slice, list of Term)
        Disjoint rows of ``product``, and the terms that are added to them.
    dense, product : Tensor
        With the same number of columns.
    n_entries : int
        Total number of non-zeros.
    device : torch.device
        Computes the products, if it can.
    """
    if not dense.shape[1]:  # torch's kernels fail on some machines
        return
    device = sparse_device(device)

    def gather(panel):
        return panel.to(device).contiguous()

    def add(job):
        rows, terms, panel, out = job
        for term in terms:
            term.add_to(out[rows], panel, device)

    if device.type != "cpu":

        def add_all(panel, out):
            in_one_thread(add, [(rows, terms, panel, out) for rows, terms in parts])

        _in_panels_with_room(dense, product, gather, add_all)
        return
    is_large = n_entries > 2 * _ENTRIES_OF_PART
    map_parts = in_threads if is_large else in_one_thread
    for columns, sums in zip(
        dense.split(4 * PANEL, dim=1), product.split(4 * PANEL, dim=1), strict=True
    ):
        panels = map_parts(gather, columns.split(PANEL, dim=1))
        jobs = [
            (rows, terms, panel, out)
            for panel, out in zip(panels, sums.split(PANEL, dim=1), strict=True)
            for rows, terms in parts
        ]
        map_parts(add, jobs)


def _in_panels_with_room(dense, product, gather, add):
    """Call ``add`` with each panel of the dense matrix and the same columns of the product.

    Panels become narrower where the device has no room for one.
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
            del panel  # before the next one is allocated
            start += width


def rows_of_csr(csr):
    """Return the parts of `add_products` for the product with a CSR matrix."""
    return [(rows, [Term(csr, rows, slice(None))]) for rows in slices_of_entries(csr.indptr)]


def columns_of_csr(blocks):
    """Return the parts for the product with a transpose, given as `transposed_blocks`."""
    entries = sum(transpose.indptr.astype(np.int64) for _, transpose in blocks)
    return [
        (part, [Term(transpose, part, rows) for rows, transpose in blocks])
        for part in slices_of_entries(entries)
    ]


def transposed_blocks(csr, dtype):
    """Return the transposes of blocks of rows of a CSR matrix: a list of (rows, transpose)."""
    n, p = csr.shape
    step = max(PANEL_ROWS, -(-MIN_NONZEROS_PER_SUM * n * p // max(1, csr.nnz)))
    blocks = [slice(start, min(start + step, n)) for start in range(0, n, step)]
    return list(
        zip(
            blocks,
            _map(lambda rows: _transposed(some_rows(csr, rows), dtype), blocks, csr.nnz),
            strict=True,
        )
    )


def column_blocks(csr, dtype, transpose=None):
    """Divide a CSR matrix into blocks of columns, from its `transposed_blocks`: return the parts.

    Returns None if that does not make products faster.
    """
    n, p = csr.shape
    max_blocks = csr.nnz // (MIN_NONZEROS_PER_SUM * n)
    if min(max_blocks, p // PANEL_ROWS) <= 1:
        return None
    width = max(PANEL_ROWS, -(-p // max_blocks))
    columns = [slice(start, start + width) for start in range(0, p, width)]

    def cut(block):
        rows, transposed = block
        pieces = [(_transposed(some_rows(transposed, part)), part) for part in columns]
        step = PANEL_ROWS // 2
        parts = []
        for start in range(0, rows.stop - rows.start, step):
            local = slice(start, min(start + step, rows.stop - rows.start))
            terms = [Term(piece, local, part) for piece, part in pieces]
            parts.append((slice(rows.start + local.start, rows.start + local.stop), terms))
        return parts

    blocks = transpose or transposed_blocks(csr, dtype)
    return [part for parts in _map(cut, blocks, csr.nnz) for part in parts]


def without_unused_rows(csr, dense):
    """Return smaller factors of ``csr @ dense``, without the rows of ``dense`` it does not use."""
    used, indices = np.unique(csr.indices, return_inverse=True)
    indices = indices.reshape(-1).astype(csr.indices.dtype)
    small = sp.csr_matrix((csr.data, indices, csr.indptr), shape=(csr.shape[0], len(used)))
    return small, dense[torch.from_numpy(used).long().to(dense.device)]


def some_rows(X, rows):
    """Return a slice of rows of an array or a CSR matrix without a copy, which SciPy would make."""
    if not sp.issparse(X):
        return X[rows]
    offsets = X.indptr[rows.start : rows.stop + 1]
    entries = slice(offsets[0], offsets[-1])
    parts = (X.data[entries], X.indices[entries], offsets - offsets[0])
    return sp.csr_matrix(parts, shape=(len(offsets) - 1, X.shape[1]))


def some_columns(csr, columns):
    """Return a CSR matrix with some of its columns, in time that the others do not matter for.

    Parameters
    ----------
    csr : CSR matrix with sorted indices
    columns : ndarray of int
        In increasing order, at least one.
    """
    places = np.searchsorted(columns, csr.indices)
    kept = columns[np.minimum(places, len(columns) - 1)] == csr.indices
    indices = places.astype(csr.indices.dtype)
    data, indptr = csr.data, csr.indptr
    if not kept.all():
        offsets = np.concatenate([[0], np.cumsum(kept)])
        data, indices, indptr = data[kept], indices[kept], offsets[indptr].astype(indptr.dtype)
    return sp.csr_matrix((data, indices, indptr), shape=(csr.shape[0], len(columns)))


def slices_of_entries(offsets):
    """Return slices of rows with similar numbers of non-zeros, given the offset of each row."""
    n_parts = max(1, int(offsets[-1]) // _ENTRIES_OF_PART)
    targets = np.linspace(0, offsets[-1], n_parts + 1)[1:-1]
    cuts = np.unique([0, *np.searchsorted(offsets, targets), len(offsets) - 1])
    return [slice(start, stop) for start, stop in pairwise(cuts)]


def _transposed(csr, dtype=None):
    transpose = csr.T.tocsr()
    return transpose if dtype is None else transpose.astype(dtype, copy=False)


def _map(function, parts, n_entries):
    if n_entries < _ENTRIES_OF_PART:
        return [function(part) for part in parts]
    return in_threads(function, parts)
