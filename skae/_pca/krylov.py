"""Block Krylov iteration: eigenvectors of the largest eigenvalues, from products with X alone."""

from math import ceil, log

import numpy as np
import torch
from torch.nn.functional import pad

from .._runtime.device import in_float64
from .._runtime.execution import in_threads, slices_of_work
from .._runtime.tensors import transposed_product

# Columns of the Krylov space that are kept side by side.
_SLAB = 256

# Blocks beside twice the vectors that have to be accurate, before the first look.
_FIRST_BLOCKS = 2

# What is left of a new block may be so much shorter than the block before it is taken for rounding.
_ROUNDING = 1e-5

# Up to this side T has its eigenvalues in float64 whatever the rows are.
_SMALL_SIDE = 512

# The growth of the variance from block to block is never taken to fall off more slowly.
_SLOWEST = 0.97


def krylov_vectors(rows, n_vectors, n_accurate, *, block_size, total, tol, generator, cache):
    """Leading eigenvectors of ``M = A A'``, or of ``A'A`` where A has fewer columns than rows.

    Block Lanczos iteration with full reorthogonalisation (Musco and Musco, 2015). Q grows block by
    block into an orthonormal basis of ``span(B, M B, M^2 B, ...)`` for a random B. The eigenvectors
    of ``T = Q' M Q`` turn Q into approximate eigenvectors of M. Nothing as long as the longer side
    outlives its block. The blocks depend on their size, and not on the number of vectors, which
    only decides how many there are: hence the cache.

    Parameters
    ----------
    rows : Rows
        A.
    n_vectors : int
    n_accurate : int
        How many of them have to be accurate.
    block_size : int
    total : float
        Trace of M.
    tol : float
        Accurate are vectors that lack less than this share of the total, and 20 times this share of
        what they have.
    generator : torch.Generator
        Draws B.
    cache : object with `load_or_compute`

    Returns
    -------
    values : float64 Tensor of shape (n_vectors,)
        What A's rows have along each direction: the squares of the scores, added up.
    vectors : Tensor of shape (side, n_vectors)
        Orthonormal, or zero beyond the rank of A.
    """
    space = _Space(rows, block_size, generator)
    next_check = max(n_vectors * 3 // 2, 2 * n_accurate) + _FIRST_BLOCKS * block_size
    while True:
        space.grow(cache)
        m = len(space.T)
        is_whole = m == space.side or np.trace(space.T) >= (1 - 1e-7) * total
        if m < next_check and not is_whole:
            continue
        values, vectors = _leading(space.T, min(n_vectors, m), rows.dtype)
        if is_whole:
            break
        leading = values[:n_accurate], vectors[:, :n_accurate]
        lacking, ratio = _lacking(space, *leading)
        allowed = min(tol * total, 20 * tol * values[:n_accurate].sum())
        if lacking <= allowed:
            break
        # Rather a block too many than another look.
        n_blocks = ceil(log(allowed / 3 / lacking) / log(ratio))
        next_check = m + block_size * min(n_blocks, max(1, m // (2 * block_size)))
    values, vectors = _refined(space.T, values, vectors)
    if not space.is_tall:
        # A' u is one more half step: along it there is more than along u.
        positive = values > 1e-12 * values[0]
        values = values + np.where(positive, space.residuals(vectors) / np.fmax(values, 1e-300), 0)
    missing = n_vectors - len(values)
    return pad(torch.from_numpy(values), (0, missing)), pad(space.combined(vectors), (0, missing))


class _Space:
    """The Krylov space so far.

    Attributes
    ----------
    T : float64 ndarray of shape (m, m)
    """

    def __init__(self, rows, block_size, generator):
        self._rows = rows
        self.side = min(rows.shape)
        self.block_size = min(block_size, self.side)
        self.is_tall = rows.shape[0] > rows.shape[1]
        start = torch.randn(self.side, self.block_size, generator=generator, dtype=rows.dtype)
        self._block = _orthonormal(start.to(rows.device))[0]
        self._slabs = []
        self._previous = self._block[:, :0]
        self._gram = None  # of what M Q has outside of Q
        self.T = np.zeros((0, 0))

    def grow(self, cache):
        """Take the next block in."""
        m = len(self.T)
        self._keep(self._block)
        found = cache.load_or_compute(f"columns from {m} by {self.block_size}", self._step)
        self.T = _bordered(self.T, in_float64(found["column"]).cpu().numpy())
        self._gram = found["gram"].cpu().numpy()
        self._previous, self._block = self._block, found["block"].to(self._rows.device)

    def _keep(self, block):
        if self._slabs and self._slabs[-1].shape[1] < _SLAB:
            self._slabs[-1] = torch.cat([self._slabs[-1], block], dim=1)
        else:
            self._slabs.append(block)

    def _step(self):
        """The new columns of T, and the next block of Q."""
        self._rows.prepare_for_many_products()
        following = self._product(self._block).to(self._block.device)
        size = torch.linalg.vector_norm(following)
        # Nearly all of it is in the last two blocks: without that, one pass is as good as two.
        recent = torch.cat([self._previous, self._block], dim=1)
        local = transposed_product(recent, following)
        following -= recent @ local
        column = self._inside(following)
        self._subtract(column, following)
        column[len(column) - len(local) :] += local
        gram = in_float64(transposed_product(following, following))
        block = self._next_block(following, size)
        return {"column": column, "block": block.contiguous(), "gram": gram}

    def _product(self, block):
        if self.is_tall:
            return self._rows.transposed_times(self._rows.times(block))
        return self._rows.times(self._rows.transposed_times(block))

    def _next_block(self, following, size):
        """Orthonormal columns outside of Q: as many as a block has, while there are any."""
        m = sum(slab.shape[1] for slab in self._slabs)
        width = min(self.block_size, self.side - m)
        new, spread = following[:, :0], 1.0
        if torch.linalg.vector_norm(following) > _ROUNDING * size:
            new, spread = _orthonormal(following)
            new = new[:, :width]
        if new.shape[1] < width:
            # M maps a part of Q into itself: eigenvalues that are alike, or none left but zeros.
            generator = torch.Generator().manual_seed(m)
            noise = torch.randn(
                self.side, width - new.shape[1], generator=generator, dtype=following.dtype
            )
            new = torch.cat([new, noise.to(new.device) / self.side**0.5], dim=1)
            self._subtract(self._inside(new), new)
            new, spread = _orthonormal(new)[0], np.inf
        if spread > 30:  # the shortest part was magnified, and with it what it has in Q
            self._subtract(self._inside(new), new)
            new, _ = _orthonormal(new)
        return new

    def _inside(self, columns):
        """``Q' columns``."""
        n_operations = 2 * columns.numel() * len(self._slabs) * _SLAB
        groups = slices_of_work(len(self._slabs), n_operations, columns.device)
        parts = in_threads(lambda group: [slab.T @ columns for slab in self._slabs[group]], groups)
        return torch.cat([product for part in parts for product in part])

    def _subtract(self, coefficients, columns):
        """``columns -= Q coefficients``."""
        each = coefficients.split([slab.shape[1] for slab in self._slabs])

        def subtract(part):
            for slab, own in zip(self._slabs, each, strict=True):
                columns[part].addmm_(slab[part], own, alpha=-1)

        n_operations = 2 * len(columns) * coefficients.numel()
        in_threads(subtract, slices_of_work(len(columns), n_operations, columns.device))

    def combined(self, vectors):
        """``Q vectors``."""
        factors = torch.from_numpy(vectors).to(self._block.dtype).to(self._block.device)
        product = factors.new_zeros(self.side, factors.shape[1])
        self._subtract(-factors, product)
        return product

    def residuals(self, vectors):
        """Squared length of ``M u - theta u`` for ``u = Q vectors``."""
        last = vectors[-len(self._gram) :]
        return np.einsum("ij,ij->j", last, self._gram @ last)


def _lacking(space, values, vectors):
    """How much the sum of the leading values is below its limit, and by what ratio that falls.

    From how much the last block, and the last two, added to it: that is a geometric series.
    """
    n_last = len(space._gram)
    one, two = (_growth(space.T, values, vectors, n) for n in (n_last, 2 * n_last))
    ratio = float(np.clip(one / max(two - one, 1e-300), 0.05, _SLOWEST))
    lacking = one * ratio / (1 - ratio)
    if not space.is_tall:
        gained = (space.residuals(vectors) / np.fmax(values, 1e-12 * values[0] + 1e-300)).sum()
        lacking = max(lacking - gained, gained / 2)
    return max(lacking, 1e-300), ratio


def _growth(T, values, vectors, n):
    """How much the last n columns added to the sum of the leading eigenvalues, or a bit more.

    The vectors without their last entries, made orthonormal, are a guess at what they were before:
    with S the last rows, ``sum(values) - tr((I - S'S)^-1 (S1' T11 S1))``, reduced to n columns.
    """
    S = vectors[-n:]
    scaled = S * values
    P, F, corner = S @ S.T, scaled @ S.T, T[-n:, -n:]
    inner = F - P @ F - F @ P + P @ corner @ P
    try:
        correction = np.trace(np.linalg.solve(np.eye(n) - P, inner))
    except np.linalg.LinAlgError:
        return values.sum()
    growth = 2 * np.trace(F) - np.trace(corner @ P) - correction
    return float(np.clip(growth, 0.0, values.sum()))


def _leading(T, n, dtype):
    """The n largest eigenvalues, in falling order, and their vectors."""
    T = torch.from_numpy(T)
    # Large ones take seconds, and are known no better than the products.
    values, vectors = torch.linalg.eigh(T if len(T) <= _SMALL_SIDE else T.to(dtype))
    return values[-n:].flip(0).double().numpy(), vectors[:, -n:].flip(1).double().numpy()


def _refined(T, values, vectors):
    """The same in float64: the eigenvalues of T within the span of these vectors."""
    if len(T) <= _SMALL_SIDE:
        return values, vectors
    T, S = torch.from_numpy(T), torch.from_numpy(vectors)
    parts = slices_of_work(S.shape[1], 2 * len(T) * S.numel())
    images = torch.cat(in_threads(lambda part: T @ S[:, part], parts), dim=1)
    values, turn = torch.linalg.eigh(transposed_product(S, images))
    turned = in_threads(lambda part: S @ turn[:, part], parts)
    return values.flip(0).numpy(), torch.cat(turned, dim=1).flip(1).numpy()


def _bordered(T, column):
    """The symmetric matrix T with one more block ``column`` on its right and below it."""
    old, grown = len(T), len(column)
    bordered = np.empty((grown, grown))
    bordered[:old, :old] = T
    bordered[:, old:] = column
    bordered[old:, :] = column.T
    bordered[old:, old:] = (column[old:] + column[old:].T) / 2
    return bordered


def _orthonormal(block):
    """An orthonormal basis of the span of ``block``, less what is tiny in it.

    And how many times as long as the shortest the longest of its columns was.
    """
    spread = 1.0
    for _ in range(2):
        values, vectors = torch.linalg.eigh(in_float64(transposed_product(block, block)))
        kept = values > 1e-6 * values[-1]
        spread = max(spread, float((values[-1] / values[kept][0]).sqrt()))
        block = block @ (vectors[:, kept] / values[kept].sqrt()).to(block)
    return block, spread
