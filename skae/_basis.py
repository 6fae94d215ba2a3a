"""The leading principal directions of X, to a tolerance, without making it dense.

With ``A = X - 1 mean'`` of shape (n, p) the directions are the right singular vectors of A.
There are three roads to them, chosen by the smaller side of A:

- the (p, p) covariance ``A'A`` and its eigenvectors;
- the (n, n) Gram matrix ``A A'`` and its eigenvectors, mapped back by ``A'``;
- block Krylov iteration (Musco and Musco, 2015) where both sides are long.
"""

from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch.nn.functional import pad

from ._checkpoint import NOWHERE
from ._device import accurate, in_float64

# Up to this length of the smaller side the full eigenproblem costs a few seconds at most.
_EXACT_SIDE = 2048

# Columns that Krylov iteration adds at a time: fewer converge sooner, more multiply faster.
_BLOCK_SIZE = 128

# Rows of the directions that are made orthonormal at a time.
_ROWS_AT_ONCE = 8192


@dataclass
class Basis:
    """Principal directions of n rows in p columns.

    Attributes
    ----------
    directions : Tensor of shape (p, r)
        Orthonormal columns by decreasing variance; in each the entry that is largest in absolute
        value is positive, as scikit-learn fixes the signs of `PCA`.
    variances : ndarray of shape (r,)
        Sample variance along each direction.
    total_variance : float
        Sum of the sample variances of all columns.
    """

    directions: torch.Tensor
    variances: np.ndarray
    total_variance: float

    @property
    def explained_variance_ratio(self):
        """Share of the total variance along each direction; zeros if nothing varies."""
        return self.variances / (self.total_variance or 1.0)


def principal_basis(
    rows, n_directions, *, n_accurate=None, tol=1.5e-3, generator=None, cache=NOWHERE
):
    """The leading principal directions of ``rows``.

    Parameters
    ----------
    rows : Rows
    n_directions : int
        How many directions are wanted, at most min(n, p). Beyond the rank of the rows they are
        any that complete the others.
    n_accurate : int, default=n_directions
        Krylov iteration stops when the variance along the first n_accurate directions stops
        growing.
    tol : float
        ... that is, when 128 more columns add less than this share to it.
    generator : torch.Generator
        Draws the start of the Krylov iteration, and directions beyond the rank of the rows; one
        with a fixed seed if None.
    cache : object with `recall`, default=NOWHERE
        Where steps are kept for other numbers of directions of the same rows.
    """
    n_accurate = n_directions if n_accurate is None else n_accurate
    generator = generator or torch.Generator().manual_seed(0)
    if is_exact(rows.shape, n_directions):
        values, directions = _exact(rows, n_directions, generator, cache)
    else:
        values, directions = _krylov(rows, n_directions, n_accurate, tol, generator, cache)
    degrees_of_freedom = max(1, len(rows) - 1)
    found = cache.recall("total", lambda: {"total": torch.tensor(rows.squared_norms().sum())})
    return Basis(
        directions=_fix_signs(directions).to(rows.device),
        variances=values.clamp_min(0.0).cpu().numpy().astype(np.float64) / degrees_of_freedom,
        total_variance=float(found["total"]) / degrees_of_freedom,
    )


def is_exact(shape, n_directions):
    """Whether the directions come from a full eigenproblem."""
    return min(shape) <= max(_EXACT_SIDE, 2 * n_directions)


def _exact(rows, n_directions, generator, cache):
    """Eigenvectors of the covariance or of the Gram matrix, whichever is smaller."""
    n, p = rows.shape
    small = rows.covariance if p <= n else rows.gram
    found = cache.recall("eigenvectors", lambda: _eigenvectors(small()))
    leading = slice(min(n, p) - n_directions, min(n, p))
    eigenvalues = found["values"][leading].flip(0)
    vectors = found["vectors"][:, leading].flip(1).to(rows.dtype).to(rows.device)
    if p <= n:
        return eigenvalues, vectors
    return eigenvalues, _directions(rows.transposed_times(vectors), generator)


def _eigenvectors(matrix):
    values, vectors = torch.linalg.eigh(accurate(matrix))
    return {"values": values, "vectors": vectors.contiguous()}


def _values(matrix):
    return {"values": torch.linalg.eigvalsh(accurate(matrix))}


def _krylov(rows, n_directions, n_accurate, tol, generator, cache):
    """Block Lanczos iteration with full reorthogonalisation, on the shorter side of A.

    Q grows block by block into an orthonormal basis of ``span(B, M B, M^2 B, ...)`` for a random
    B, with ``M = A A'`` (or ``A'A`` where A has fewer columns than rows). The eigenvectors of
    ``T = Q' M Q`` turn Q into approximate eigenvectors of M. Nothing as long as the longer side
    outlives its block. The blocks do not depend on the number of directions, which only decides
    how many there are: hence the cache.
    """
    tall = rows.shape[0] > rows.shape[1]
    forth, back = (
        (rows.times, rows.transposed_times) if tall else (rows.transposed_times, rows.times)
    )
    side = min(rows.shape)

    def step():
        """The new columns of T, and the next block of Q: none if M maps Q into itself."""
        rows.prepare_for_many_products()
        following = back(forth(block)).to(Q.device)  # M block
        column = Q.T @ following
        size = torch.linalg.vector_norm(following)
        following -= Q @ column
        if torch.linalg.vector_norm(following) <= 1e-5 * size:
            return {"column": column, "block": following[:, :0]}
        new = _orthonormal(following)
        new = _orthonormal(new - Q @ (Q.T @ new))[:, : side - Q.shape[1]]
        return {"column": column, "block": new.contiguous()}

    start = torch.randn(side, _BLOCK_SIZE, generator=generator, dtype=rows.dtype)
    block = Q = _orthonormal(start.to(rows.device))
    T = Q.new_zeros(0, 0)
    captured, n_checked, next_check = 0.0, 0, n_directions * 3 // 2 + _BLOCK_SIZE
    while True:
        found = cache.recall(f"columns from {len(T)}", step)
        T = _bordered(T, found["column"].to(rows.device))
        if len(T) >= min(side, next_check):
            found_values = cache.recall(f"values of {len(T)}", partial(_values, T))["values"]
            before, captured = captured, found_values[-n_accurate:].sum()
            n_new, n_checked = len(T) - n_checked, len(T)
            if captured - before <= tol * captured * n_new / _BLOCK_SIZE:
                break
            next_check = len(T) + 2 * _BLOCK_SIZE
        block = found["block"].to(rows.device)
        if not block.shape[1]:
            break
        Q = torch.cat([Q, block], dim=1)

    found = cache.recall(f"vectors of {len(T)}", partial(_eigenvectors, T))
    values = found["values"][-n_directions:].flip(0)
    directions = Q @ found["vectors"][:, -n_directions:].flip(1).to(rows.device)
    if not tall:
        del Q
        directions = rows.transposed_times(directions)
    n_missing = n_directions - len(values)
    return pad(values, (0, n_missing)), _directions(pad(directions, (0, n_missing)), generator)


def _bordered(T, column):
    """The symmetric matrix T with one more block ``column`` on its right and below it."""
    old, grown = len(T), len(column)
    bordered = T.new_empty(grown, grown)
    bordered[:old, :old] = T
    bordered[:, old:] = column
    bordered[old:, :] = column.T
    bordered[old:, old:] = (column[old:] + column[old:].T) / 2
    return bordered


def _orthonormal(block):
    """An orthonormal basis of the span of ``block``, less what is tiny in it."""
    for _ in range(2):
        values, vectors = torch.linalg.eigh(in_float64(block.T @ block))
        kept = values > 1e-6 * values[-1]
        block = block @ (vectors[:, kept] / values[kept].sqrt()).to(block)
    return block


def _directions(columns, generator):
    """``columns`` orthonormal in their order, those that are too short replaced by random ones.

    Works in place where it can: wide data has room for one such tensor, not for three.
    """
    columns = accurate(columns)  # where the solvers are, too
    lengths = torch.linalg.vector_norm(columns, dim=0)
    # Their squares come from an eigenproblem and are known to about eps of the largest.
    short = lengths <= 4 * torch.finfo(columns.dtype).eps ** 0.5 * lengths[0]
    columns /= torch.where(short, 1.0, lengths)
    if not short.any():
        factor, failed = torch.linalg.cholesky_ex(columns.T @ columns)
        if not failed:
            for part in columns.split(_ROWS_AT_ONCE):
                part.copy_(torch.linalg.solve_triangular(factor.T, part, upper=True, left=False))
            return columns
    noise = torch.randn(len(columns), int(short.sum()), generator=generator, dtype=columns.dtype)
    columns[:, short] = noise.to(columns.device)
    return torch.linalg.qr(columns).Q


def _fix_signs(directions):
    for part in directions.split(64, dim=1):
        largest = part.abs().argmax(dim=0, keepdim=True)
        part *= part.gather(0, largest).sign()
    return directions
