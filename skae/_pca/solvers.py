"""Rows that count more or less than once: `sample_weight` in the principal directions."""

from dataclasses import dataclass

import numpy as np
import torch

from .._runtime.device import accurate
from .._runtime.execution import in_threads, slices_of_work
from .._runtime.storage import NOWHERE
from .._runtime.tensors import cross, power_of_two
from .krylov import krylov_vectors


def counting(rows):
    """The rows as the principal directions see them: each as often as its weight says."""
    return rows if rows.weights is None else WeightedRows(rows)


class WeightedRows:
    """``sqrt(W) A``, which has the principal directions of rows repeated W times.

    Parameters
    ----------
    rows : Rows
        A, with weights W of mean one.
    """

    def __init__(self, rows):
        self._rows = rows
        self.shape = rows.shape
        self.mean = rows.mean
        self.dtype = rows.dtype
        self.device = rows.device

    def __len__(self):
        return len(self._rows)

    def times(self, W):
        product = self._rows.times(W)
        return product.mul_(_roots(self._rows, product)[:, None])

    def transposed_times(self, Q):
        return self._rows.transposed_times(Q * _roots(self._rows, Q)[:, None])

    def prepare_for_many_products(self):
        self._rows.prepare_for_many_products()

    def squared_norms(self):
        return self._rows.weights * self._rows.squared_norms()

    def covariance(self):
        return self._rows.covariance()

    def gram(self):
        gram = self._rows.gram()
        roots = _roots(self._rows, gram)
        return gram.mul_(roots).mul_(roots[:, None])


def _roots(rows, like):
    return torch.from_numpy(np.sqrt(rows.weights)).to(like)


# Up to this length of the smaller side the full eigenproblem costs a few seconds at most.
_EXACT_SIDE = 2048

# Where the longer side is so much longer that the Gram matrix costs more than Krylov iteration.
_LONG_SIDE, _EXACT_SIDE_OF_LONG = 16_384, 640

# Krylov iteration adds so many columns at a time: fewer converge in fewer columns, more multiply
# faster. Of equal eigenvalues it finds as many.
_BLOCK_SIZE = 64

# Rows of the directions that are solved for at a time, and vectors that test them.
_ROWS_AT_ONCE, _N_PROBES = 8192, 8

# First columns, by length, that others are freed from before all are made orthonormal together.
_LONGEST = 64

# Shares of the variance below these are indistinguishable from none.
_ROUNDING = {torch.float32: 2e-6, torch.float64: 1e-11}


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

    def share_beyond(self, n_directions):
        """Share of the total variance beyond the first directions; 0.0 if it is but rounding."""
        inside = self.variances[:n_directions].sum()
        share = 1.0 - inside / self.total_variance if self.total_variance > 0 else 0.0
        return share if share > _ROUNDING[self.directions.dtype] else 0.0


def principal_basis(
    rows, n_directions, *, n_accurate=None, tol=2e-4, generator=None, cache=NOWHERE
):
    """The leading principal directions of ``rows``.

    Parameters
    ----------
    rows : Rows
    n_directions : int
        How many directions are wanted, at most min(n, p). Beyond the rank of the rows they are
        any that complete the others.
    n_accurate : int, default=n_directions
        Krylov iteration stops when these hold nearly as much variance as the best can.
    tol : float
        ... that is, when they lack less than this share of the total variance, and of their own
        less than 20 times that, as far as the growth so far tells.
    generator : torch.Generator
        Draws the start of the Krylov iteration, and directions beyond the rank of the rows; one
        with a fixed seed if None.
    cache : object with `recall`, default=NOWHERE
        Where steps are kept for other numbers of directions of the same rows.
    """
    n_accurate = n_directions if n_accurate is None else n_accurate
    generator = generator or torch.Generator().manual_seed(0)
    found = cache.recall("total", lambda: {"total": torch.tensor(rows.squared_norms().sum())})
    total = float(found["total"])
    if total <= len(rows) * (10 * np.finfo(np.float64).eps * np.linalg.norm(rows.mean)) ** 2:
        total = 0.0  # of rows that are all alike, but for the rounding of their mean
    if is_exact(rows.shape, n_directions):
        values, directions = _exact(rows, n_directions, generator, cache)
    else:
        values, vectors = krylov_vectors(
            rows,
            n_directions,
            n_accurate,
            block_size=_BLOCK_SIZE,
            total=total,
            tol=tol,
            generator=generator,
            cache=cache,
        )
        if rows.shape[0] <= rows.shape[1]:
            vectors = rows.transposed_times(vectors)
        directions = _directions(vectors, generator)
    degrees_of_freedom = max(1, len(rows) - 1)
    return Basis(
        directions=_fix_signs(directions).to(rows.device),
        variances=values.clamp_min(0.0).cpu().numpy().astype(np.float64) / degrees_of_freedom,
        total_variance=total / degrees_of_freedom,
    )


def is_exact(shape, n_directions):
    """Whether the directions come from a full eigenproblem."""
    is_wide = shape[1] > max(_LONG_SIDE, shape[0])
    side = _EXACT_SIDE_OF_LONG if is_wide else _EXACT_SIDE
    return min(shape) <= max(side, 2 * n_directions)


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


def _directions(columns, generator):
    """``columns`` orthonormal in their order, those that are too short replaced by random ones.

    Works in place where it can: wide data has room for one such tensor, not for three.
    """
    columns = accurate(columns)  # where the solvers are, too
    parts = slices_of_work(len(columns), 16 * columns.numel(), columns.device)
    largest = max(in_threads(lambda part: float(columns[part].abs().max()), parts))
    unit = power_of_two(largest)  # or squares of float32 are no numbers

    def squares(part):
        return columns[part].div_(unit).square().sum(dim=0)

    lengths = sum(in_threads(squares, parts)).sqrt()
    # Their squares come from an eigenproblem and are known to about eps of the largest.
    short = lengths <= 4 * torch.finfo(columns.dtype).eps ** 0.5 * lengths.max()
    lengths = torch.where(short, 1.0, lengths)
    in_threads(lambda part: columns[part].div_(lengths), parts)
    if not short.any():
        if _are_orthonormal(columns, parts):
            return columns
        # Only what the longest columns left in the others is more than rounding, most often.
        if columns.shape[1] > 2 * _LONGEST and _rid_of_leading(columns, parts):
            return columns
        factor, failed = torch.linalg.cholesky_ex(cross(columns, columns))
        if not failed:
            solve = _solving(columns, factor.T)
            in_threads(solve, slices_of_work(len(columns), columns.numel() * len(factor)))
            return columns
    noise = torch.randn(len(columns), int(short.sum()), generator=generator, dtype=columns.dtype)
    columns[:, short] = noise.to(columns.device)
    return torch.linalg.qr(columns).Q


def _rid_of_leading(columns, parts):
    """Make the first columns orthonormal and the others orthogonal to them; whether it sufficed."""
    leading, others = columns[:, :_LONGEST], columns[:, _LONGEST:]
    factor, failed = torch.linalg.cholesky_ex(cross(leading, leading))
    if failed:
        return False
    in_threads(_solving(leading, factor.T), parts)
    products = cross(leading, others)
    in_threads(lambda part: others[part].addmm_(leading[part], products, alpha=-1), parts)
    return _are_orthonormal(columns, parts)


def _solving(columns, upper):
    """A function that multiplies a part of the rows by the inverse of a triangular matrix."""

    def solve(part):
        for rows in columns[part].split(_ROWS_AT_ONCE):
            rows.copy_(torch.linalg.solve_triangular(upper, rows, upper=True, left=False))

    return solve


def _are_orthonormal(columns, parts):
    """Whether ``V'V z`` is z, within rounding, for a few random z of ones and minus ones."""
    generator = torch.Generator().manual_seed(0)
    z = torch.randint(0, 2, (columns.shape[1], _N_PROBES), generator=generator) * 2 - 1
    z = z.to(columns)
    images = sum(in_threads(lambda part: columns[part].T @ (columns[part] @ z), parts))
    return float((images - z).abs().max()) <= 100 * torch.finfo(columns.dtype).eps


def _fix_signs(directions):
    parts = slices_of_work(len(directions), 16 * directions.numel(), directions.device)

    def extremes(part):
        return torch.stack([directions[part].amax(dim=0), -directions[part].amin(dim=0)])

    highest, lowest = torch.stack(in_threads(extremes, parts)).amax(dim=0)
    for tie in torch.nonzero(highest == lowest)[:, 0].tolist():  # the first of them decides
        column = directions[:, tie]
        lowest[tie] -= column[column.abs().argmax()]
    signs = torch.where(highest < lowest, -1.0, 1.0).to(directions.dtype)
    in_threads(lambda part: directions[part].mul_(signs), parts)
    return directions
