"""Block Krylov iteration: leading eigenvectors, computed from products with X alone."""

from math import ceil, log

import numpy as np
import torch
from torch.nn.functional import pad

from .._runtime.device import in_float64
from .._runtime.execution import in_threads, slices_of_work
from .._runtime.tensors import transposed_product
from .exact import leading_eigenvectors

# Columns of the Krylov space that are stored in one tensor.
_SLAB = 256

# Convergence is first checked after twice as many columns as accurate vectors, and these blocks.
_FIRST_BLOCKS = 2

# So few products do not pay for the memory that prepares the rows for many.
_FEW_BLOCKS = 4

# A new block whose orthogonal part is shorter than this share of its length is taken for rounding.
_ROUNDING = 1e-5

# Share of the variance beyond Q that is taken for rounding.
_BEYOND = {torch.float32: 1e-7, torch.float64: 1e-13}

# Up to this size the eigenvalues of T are computed in float64 for rows of every dtype.
_SMALL_SIDE = 512

# Largest ratio of the growth of the variance from one block to the next that is assumed.
_SLOWEST = 0.97


def krylov_vectors(rows, n_vectors, n_accurate, *, block_size, total, tol, generator, cache):
    """Compute leading eigenvectors of ``M = A A'``, or of ``A'A`` if A has fewer columns than rows.

    Block Lanczos iteration with full reorthogonalisation (Musco and Musco, 2015). Q grows block by
    block into an orthonormal basis of ``span(B, M B, M^2 B, ...)`` for a random B. The eigenvectors
    of ``T = Q' M Q``, multiplied by Q, approximate those of M. No tensor as long as the longer side
    is kept after its block. The blocks depend on their size and not on the number of vectors, which
    determines only how many blocks there are: this is why the cache can store them.

    Parameters
    ----------
    rows : Rows
        A.
    n_vectors : int
    n_accurate : int
        How many of them must be accurate.
    block_size : int
    total : float
        Trace of M.
    tol : float
        Vectors are accurate if the sum of their eigenvalues is below its limit by less than this
        share of the total, and by less than 20 times this share of the sum.
    generator : torch.Generator
        Draws B.
    cache : object with `load_or_compute`

    Returns
    -------
    values : float64 ndarray of shape (n_vectors,)
        Eigenvalues: the squared lengths of ``A' u`` for the vectors u, or of ``A u``.
    gains : float64 ndarray of shape (n_vectors,)
        How much more variance there is along ``A' u`` than the eigenvalue says, if A has no more
        rows than columns.
    vectors : Tensor of shape (side, n_vectors)
        Orthonormal, or zero beyond the rank of A.
    """
    space = _Space(rows, block_size, generator)
    next_check = _first_check(n_vectors, n_accurate, block_size)
    while True:
        space.grow(cache)
        m = space.n_columns
        # The trace of M is the sum of all eigenvalues, and that of T the part of it within Q.
        is_complete = m == space.side or space.trace >= (1 - _BEYOND[rows.dtype]) * total
        if m < next_check and not is_complete:
            continue
        T = space.projected()
        values, vectors = _leading(T, min(n_vectors, m), rows.dtype)
        if is_complete:
            break
        missing, ratio = _missing(space, T, values[:n_accurate], vectors[:, :n_accurate])
        allowed = min(tol * total, 20 * tol * values[:n_accurate].sum())
        if missing <= allowed:
            break
        # The missing variance falls by the same ratio with each block: so many of them are needed.
        # A further check takes longer than a block that is not needed.
        n_blocks = ceil(log(allowed / 3 / missing) / log(ratio))
        next_check = m + block_size * min(n_blocks, max(1, m // (2 * block_size)))
    values, vectors = _refined(T, values, vectors)
    gains = np.zeros_like(values)
    if not space.has_more_rows:
        # A' u is another half step of the iteration. Along it the variance is |M u|^2 / |A' u|^2,
        # with M u = theta u + residual: theta + |residual|^2 / theta.
        is_positive = values > 1e-12 * values[0]
        gains[is_positive] = (space.residuals(vectors) / np.fmax(values, 1e-300))[is_positive]
    padding = (0, n_vectors - len(values))  # beyond the rank
    return np.pad(values, padding), np.pad(gains, padding), pad(space.combine(vectors), padding)


def _first_check(n_vectors, n_accurate, block_size):
    """Number of columns of Q at which convergence is worth checking first."""
    # Checks of small spaces cost little. Long codes have needed three columns for each vector.
    share = 2 if 2 * n_accurate <= _SMALL_SIDE else 3
    blocks = ceil(max(n_vectors * 3 / 2, share * n_accurate) / block_size)
    return (blocks + (_FIRST_BLOCKS if share == 2 else 0)) * block_size


class _Space:
    """The Krylov space: Q, of m columns so far, and T.

    Attributes
    ----------
    n_columns : int
        m.
    trace : float
        Of ``T = Q' M Q``.
    side : int
        The number of rows of Q and M.
    has_more_rows : bool
        Whether A has more rows than columns, and M is ``A'A``.
    """

    def __init__(self, rows, block_size, generator):
        self._rows = rows
        self.side = min(rows.shape)
        self.block_size = min(block_size, self.side)
        self.has_more_rows = rows.shape[0] > rows.shape[1]
        start = torch.randn(self.side, self.block_size, generator=generator, dtype=rows.dtype)
        self._block = _orthonormal(start.to(rows.device))[0]
        self._slabs = []
        self._previous = self._block[:, :0]
        self._gram = None  # of the part of M Q that is orthogonal to Q
        self.n_columns, self.trace = 0, 0.0
        self._columns_of_T = []  # on and above the diagonal, of one block each

    def grow(self, cache):
        """Add the next block."""
        m = self.n_columns
        self._append(self._block)
        found = cache.load_or_compute(f"columns from {m} by {self.block_size}", self._step)
        column = in_float64(found["column"]).cpu().numpy()
        self._columns_of_T.append(column)
        self.n_columns = len(column)
        self.trace += float(np.trace(column[m:]))
        self._gram = found["gram"].cpu().numpy()
        self._previous, self._block = self._block, found["block"].to(self._rows.device)

    def projected(self):
        """Return ``T = Q' M Q``, which is symmetric: a float64 ndarray of shape (m, m)."""
        T, start = np.zeros((self.n_columns, self.n_columns)), 0
        for column in self._columns_of_T:
            stop = len(column)
            T[:stop, start:stop] = column
            T[start:stop, :start] = column[:start].T
            T[start:stop, start:stop] = (column[start:] + column[start:].T) / 2
            start = stop
        return T

    def _append(self, block):
        if self._slabs and self._slabs[-1].shape[1] < _SLAB:
            self._slabs[-1] = torch.cat([self._slabs[-1], block], dim=1)
        else:
            self._slabs.append(block)

    def _step(self):
        """Compute the new columns of T and the next block of Q."""
        if len(self._columns_of_T) >= _FEW_BLOCKS:
            self._rows.prepare_for_many_products()
        following = self._product(self._block).to(self._block.device)
        size = torch.linalg.vector_norm(following)
        # Nearly all of it is in the span of the last two blocks. Once that is removed, one pass of
        # orthogonalisation is as accurate as two.
        recent = torch.cat([self._previous, self._block], dim=1)
        local = transposed_product(recent, following)
        following -= recent @ local
        column = self._coefficients(following)
        self._subtract(column, following)
        column[len(column) - len(local) :] += local
        gram = in_float64(transposed_product(following, following))
        block = self._next_block(following, size)
        return {"column": column, "block": block.contiguous(), "gram": gram}

    def _product(self, block):
        if self.has_more_rows:
            return self._rows.transposed_times(self._rows.times(block))
        return self._rows.times(self._rows.transposed_times(block))

    def _next_block(self, following, size):
        """Orthonormal columns that are orthogonal to Q: a block of them, or all that are left."""
        m = sum(slab.shape[1] for slab in self._slabs)
        width = min(self.block_size, self.side - m)
        new, spread = following[:, :0], 1.0
        if torch.linalg.vector_norm(following) > _ROUNDING * size:
            new, spread = _orthonormal(following)
            new = new[:, :width]
        if new.shape[1] < width:
            # M maps a part of Q into itself: eigenvalues are equal, or all others are zero.
            generator = torch.Generator().manual_seed(m)
            noise = torch.randn(
                self.side, width - new.shape[1], generator=generator, dtype=following.dtype
            )
            new = torch.cat([new, noise.to(new.device) / self.side**0.5], dim=1)
            self._subtract(self._coefficients(new), new)
            new, spread = _orthonormal(new)[0], np.inf
        if spread > 30:  # scaling the shortest part has magnified its rounding along Q
            self._subtract(self._coefficients(new), new)
            new, _ = _orthonormal(new)
        return new

    def _coefficients(self, columns):
        """Compute ``Q' columns``."""
        n_operations = 2 * columns.numel() * len(self._slabs) * _SLAB
        groups = slices_of_work(len(self._slabs), n_operations, columns.device)
        parts = in_threads(lambda group: [slab.T @ columns for slab in self._slabs[group]], groups)
        return torch.cat([product for part in parts for product in part])

    def _subtract(self, coefficients, columns):
        """Compute ``columns -= Q coefficients``."""
        coefficients_of_slabs = coefficients.split([slab.shape[1] for slab in self._slabs])

        def subtract(part):
            for slab, factors in zip(self._slabs, coefficients_of_slabs, strict=True):
                columns[part].addmm_(slab[part], factors, alpha=-1)

        n_operations = 2 * len(columns) * coefficients.numel()
        in_threads(subtract, slices_of_work(len(columns), n_operations, columns.device))

    def combine(self, vectors):
        """Compute ``Q vectors``."""
        factors = torch.from_numpy(vectors).to(self._block.dtype).to(self._block.device)
        product = factors.new_zeros(self.side, factors.shape[1])
        self._subtract(-factors, product)
        return product

    def residuals(self, vectors):
        """Return the squared lengths of ``M u - theta u`` for ``u = Q vectors``."""
        # M Q = Q T + E, where E has columns for the last block alone, with E'E = gram: what is left
        # of M u is E times the last entries of the vector.
        last = vectors[-len(self._gram) :]
        return np.einsum("ij,ij->j", last, self._gram @ last)


def _missing(space, T, values, vectors):
    """How far the sum of the leading values is below its limit, and the ratio by which that falls.

    Extrapolated as a geometric series from the growth by the last block and by the last two blocks.
    """
    n_last = len(space._gram)
    one, two = (_growth(T, values, vectors, n) for n in (n_last, 2 * n_last))
    ratio = float(np.clip(one / max(two - one, 1e-300), 0.05, _SLOWEST))
    missing = one * ratio / (1 - ratio)
    if not space.has_more_rows:
        gained = (space.residuals(vectors) / np.fmax(values, 1e-12 * values[0] + 1e-300)).sum()
        missing = max(missing - gained, gained / 2)
    return max(missing, 1e-300), ratio


def _growth(T, values, vectors, n):
    """An upper estimate of what the last n columns added to the sum of the leading eigenvalues.

    The vectors without their last n entries, made orthonormal, approximate the previous vectors:
    with S the last n rows, ``sum(values) - tr((I - S'S)^-1 (S1' T11 S1))``, reduced to n columns.
    """
    # Cut to their first rows, V becomes V1 with V1'V1 = I - S'S. Its span, orthonormalised, has
    # tr((V1'V1)^-1 V1'T11 V1) of the eigenvalues. V1'T11 V1 = L - S'S L - L S'S + S'C S with the
    # eigenvalues L and the corner C of T; by (I - S'S)^-1 = I + S'(I - SS')^-1 S all that is left
    # are n x n matrices: P = SS', F = S L S'.
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
    """The n largest eigenvalues of T, in decreasing order, and their eigenvectors."""
    # A large T takes seconds in float64 and is no more accurate than the products with X.
    dtype = torch.float64 if len(T) <= _SMALL_SIDE else dtype
    values, vectors = leading_eigenvectors(torch.from_numpy(T).to(dtype, copy=True), n)
    return values.double().numpy(), vectors.double().numpy()


def _refined(T, values, vectors):
    """Eigenvalues and eigenvectors of T in float64, within the span of vectors S.

    Those in float32 mix neighbours by their last digits, after which ``A' u`` would not be
    orthogonal. The eigenvectors of the small matrix ``S' T S`` separate them again.
    """
    if len(T) <= _SMALL_SIDE:
        return values, vectors
    T, S = torch.from_numpy(T), torch.from_numpy(vectors)
    parts = slices_of_work(S.shape[1], 2 * len(T) * S.numel())
    images = torch.cat(in_threads(lambda part: T @ S[:, part], parts), dim=1)
    values, rotation = leading_eigenvectors(transposed_product(S, images), S.shape[1])
    rotated = in_threads(lambda part: S @ rotation[:, part], parts)
    return values.numpy(), torch.cat(rotated, dim=1).numpy()


def _orthonormal(block):
    """An orthonormal basis of the span of a block, without directions that are tiny in it.

    Also returns the ratio of the longest to the shortest direction of the block.
    """
    spread = 1.0
    for _ in range(2):
        values, vectors = torch.linalg.eigh(in_float64(transposed_product(block, block)))
        kept = values > 1e-6 * values[-1]
        spread = max(spread, float((values[-1] / values[kept][0]).sqrt()))
        block = block @ (vectors[:, kept] / values[kept].sqrt()).to(block)
    return block, spread
