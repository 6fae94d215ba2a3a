"""Principal directions of rows: a full eigenproblem where it is small, else Krylov iteration."""

from dataclasses import dataclass

import numpy as np
import torch

from .._data.ranges import rounding_of_mean
from .._runtime.checkpoint import NO_CHECKPOINT
from .._runtime.device import on_float64_device
from .._runtime.execution import in_threads, slices_of_work
from .._runtime.tensors import power_of_two, row_slices, transposed_product
from .exact import exact_directions
from .krylov import krylov_vectors

# Up to this length of the smaller side the full eigenproblem takes a few seconds at most; of dense
# rows, for which it is worth more seconds, to the last digit.
_EXACT_SIDE, _EXACT_SIDE_OF_DENSE = 2048, 4096

# For wider matrices than the first of these the Gram matrix takes longer than Krylov iteration,
# unless its side is at most the second.
_LONG_SIDE, _EXACT_SIDE_OF_LONG = 16_384, 640

# Columns that Krylov iteration adds at a time: fewer converge in fewer columns, more are multiplied
# faster. Of equal eigenvalues it finds at most as many.
_BLOCK_SIZE = 64

# Rows of the directions in one triangular solve, and random vectors that test orthonormality.
_ROWS_AT_ONCE, _N_PROBES = 8192, 8

# The number of leading columns to which the others are made orthogonal first.
_N_LEADING = 64

# A smaller share of the variance cannot be distinguished from zero.
_ROUNDING = {torch.float32: 2e-6, torch.float64: 1e-11}


@dataclass
class Basis:
    """Principal directions of n rows in p columns.

    Attributes
    ----------
    directions : Tensor of shape (p, r)
        Orthonormal columns by decreasing variance. In each column the entry that is largest in
        absolute value is positive: scikit-learn fixes the signs of `PCA` in the same way.
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
        """Share of the total variance along each direction; zeros if the rows do not vary."""
        return self.variances / (self.total_variance or 1.0)

    def share_beyond(self, n_directions):
        """Return the share of the variance beyond the first directions; 0.0 if it is rounding."""
        inside = self.variances[:n_directions].sum()
        share = 1.0 - inside / self.total_variance if self.total_variance > 0 else 0.0
        return share if share > _ROUNDING[self.directions.dtype] else 0.0


def principal_basis(
    rows, n_directions, *, n_accurate=None, tol=None, generator=None, cache=NO_CHECKPOINT
):
    """Compute the leading principal directions of rows.

    Parameters
    ----------
    rows : Rows or WeightedRows
    n_directions : int
        Number of directions, at most min(n, p). Directions beyond the rank of the rows are
        arbitrary, but orthonormal to the others.
    n_accurate : int, default=n_directions
        Krylov iteration stops when the first ``n_accurate`` directions explain nearly as much
        variance as possible.
    tol : float, default=None
        The variance they lack, extrapolated from its growth so far, is then less than this share of
        the total variance and less than 20 times this share of their own variance. None is 1e-6 for
        dense rows, else 2e-4.
    generator : torch.Generator
        Draws the start of the Krylov iteration, and directions beyond the rank of the rows; a
        generator with a fixed seed if None.
    cache : object with `load_or_compute`, default=NO_CHECKPOINT
        Stores steps for calls with other numbers of directions of the same rows.

    Returns
    -------
    basis : Basis
    """
    n_accurate = n_directions if n_accurate is None else n_accurate
    tol = (1e-6 if rows.is_dense else 2e-4) if tol is None else tol
    generator = generator or torch.Generator().manual_seed(0)
    total = _sum_of_squares(rows, cache)
    if uses_full_eigenproblem(rows.shape, n_directions, rows.is_dense):
        squares, columns, is_short = exact_directions(rows, n_directions, n_accurate, total, cache)
        columns, lengths = on_float64_device(columns), None
        is_orthonormal = rows.shape[1] <= rows.shape[0]
    else:
        squares, gains, vectors = krylov_vectors(
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
        columns = on_float64_device(vectors)  # torch's solvers are there too
        lengths = _lengths_of(columns)
        squares = squares + gains
        # Their squares come from an eigenproblem and have an error of about eps times the largest.
        is_short = lengths <= 4 * torch.finfo(columns.dtype).eps ** 0.5 * lengths.max()
        is_orthonormal = False
    if not is_orthonormal:
        columns = _orthonormal(columns, lengths, is_short.to(columns.device), generator)
    degrees_of_freedom = max(1, len(rows) - 1)
    return Basis(
        directions=fix_signs(columns).to(rows.device),
        variances=np.maximum(squares, 0.0) / degrees_of_freedom,
        total_variance=total / degrees_of_freedom,
    )


def uses_full_eigenproblem(shape, n_directions, is_dense):
    """Whether `principal_basis` solves a full eigenproblem for rows of this shape.

    Parameters
    ----------
    shape : tuple of int
    n_directions : int
    is_dense : bool
        Whether the rows are a dense array.
    """
    if is_dense:
        side = _EXACT_SIDE_OF_DENSE
    else:
        is_wide = shape[1] > max(_LONG_SIDE, shape[0])
        side = _EXACT_SIDE_OF_LONG if is_wide else _EXACT_SIDE
    return min(shape) <= max(side, 2 * n_directions)


def apply_weights(rows):
    """Return rows for `principal_basis` that count according to their weights, if they have any."""
    return rows if rows.weights is None else WeightedRows(rows)


class WeightedRows:
    """``sqrt(W) A``, whose principal directions are those of rows repeated W times.

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
        self.is_dense = rows.is_dense

    def __len__(self):
        return len(self._rows)

    def times(self, W):
        product = self._rows.times(W)
        return product.mul_(self._root_weights(product)[:, None])

    def transposed_times(self, Q):
        return self._rows.transposed_times(Q * self._root_weights(Q)[:, None])

    def prepare_for_many_products(self):
        self._rows.prepare_for_many_products()

    def squared_norms(self):
        return self._rows.weights * self._rows.squared_norms()

    def in_float64(self):
        return WeightedRows(self._rows.in_float64())

    def covariance(self, unit=1.0):
        return self._rows.covariance(unit)

    def gram(self, unit=1.0):
        gram = self._rows.gram(unit)
        roots = self._root_weights(gram)
        return gram.mul_(roots).mul_(roots[:, None])

    def centred(self, index):
        values = self._rows.centred(index)
        return values.mul_(self._root_weights(values)[index, None])

    def centred_columns(self, columns):
        values = self._rows.centred_columns(columns)
        return values.mul_(self._root_weights(values)[:, None])

    def _root_weights(self, like):
        return torch.from_numpy(np.sqrt(self._rows.weights)).to(like)


def _sum_of_squares(rows, cache):
    """Sum of the squares of the centred rows; 0.0 if it is the rounding of the mean."""
    found = cache.load_or_compute(
        "total", lambda: {"total": torch.tensor(rows.squared_norms().sum())}
    )
    total = float(found["total"])
    return total if total > rounding_of_mean(rows.mean, len(rows)) else 0.0


def _orthonormal(columns, lengths, is_short, generator):
    """Make columns orthonormal in their order, replacing those that are too short by random ones.

    Works in place where possible: there is memory for one such tensor of wide data, not for three.

    Parameters
    ----------
    columns : Tensor of shape (p, r)
    lengths : Tensor of shape (r,), or None
        By which columns are divided first; None if they are of length one.
    is_short : bool Tensor of shape (r,)
    generator : torch.Generator
    """
    parts = _parts_of(columns)
    if lengths is not None:
        lengths = torch.where(is_short, 1.0, lengths)
        in_threads(lambda part: columns[part].div_(lengths), parts)
    if not is_short.any():
        if _are_orthonormal(columns, parts):
            return columns
        # Usually the others deviate by more than rounding only along the longest columns.
        if columns.shape[1] > 2 * _N_LEADING and _orthogonalize_to_leading(columns, parts):
            return columns
        factor, failed = torch.linalg.cholesky_ex(transposed_product(columns, columns))
        if not failed:
            solve = _triangular_solver(columns, factor.T)
            in_threads(solve, slices_of_work(len(columns), columns.numel() * len(factor)))
            return columns
    noise = torch.randn(len(columns), int(is_short.sum()), generator=generator, dtype=columns.dtype)
    columns[:, is_short] = noise.to(columns.device)
    return torch.linalg.qr(columns).Q


def _lengths_of(columns):
    """Divide columns by a power of two near their size; return their lengths then."""
    parts = _parts_of(columns)
    largest = max(in_threads(lambda part: float(columns[part].abs().max()), parts))
    unit = power_of_two(largest)  # the squares of large or small float32 overflow or vanish

    def squares(part):
        return columns[part].div_(unit).square().sum(dim=0)

    return sum(in_threads(squares, parts)).sqrt()


def _parts_of(columns):
    """Slices of rows for threads; on other devices, of which temporary results are small."""
    if columns.device.type == "cpu":
        return slices_of_work(len(columns), 16 * columns.numel())
    return row_slices(columns)


def _orthogonalize_to_leading(columns, parts):
    """Make the first columns orthonormal and the others orthogonal to them, in place.

    Returns whether all columns are orthonormal then.
    """
    leading, others = columns[:, :_N_LEADING], columns[:, _N_LEADING:]
    factor, failed = torch.linalg.cholesky_ex(transposed_product(leading, leading))
    if failed:
        return False
    in_threads(_triangular_solver(leading, factor.T), parts)
    products = transposed_product(leading, others)
    in_threads(lambda part: others[part].addmm_(leading[part], products, alpha=-1), parts)
    return _are_orthonormal(columns, parts)


def _triangular_solver(columns, upper):
    """Return a function that multiplies a slice of rows by the inverse of a triangular matrix."""

    def solve(part):
        for rows in columns[part].split(_ROWS_AT_ONCE):
            rows.copy_(torch.linalg.solve_triangular(upper, rows, upper=True, left=False))

    return solve


def _are_orthonormal(columns, parts):
    """Whether ``V'V z`` equals z, within rounding, for a few random z of ones and minus ones."""
    generator = torch.Generator().manual_seed(0)
    z = torch.randint(0, 2, (columns.shape[1], _N_PROBES), generator=generator) * 2 - 1
    z = z.to(columns)
    products = sum(in_threads(lambda part: columns[part].T @ (columns[part] @ z), parts))
    return float((products - z).abs().max()) <= 100 * torch.finfo(columns.dtype).eps


def fix_signs(directions):
    """Turn each direction, in place, so that its entry of largest absolute value is positive."""
    parts = slices_of_work(len(directions), 16 * directions.numel(), directions.device)

    def extremes(part):
        return torch.stack([directions[part].amax(dim=0), -directions[part].amin(dim=0)])

    highest, lowest = torch.stack(in_threads(extremes, parts)).amax(dim=0)
    for tie in torch.nonzero(highest == lowest)[:, 0].tolist():  # the first entry decides
        column = directions[:, tie]
        lowest[tie] -= column[column.abs().argmax()]
    signs = torch.where(highest < lowest, -1.0, 1.0).to(directions.dtype)
    in_threads(lambda part: directions[part].mul_(signs), parts)
    return directions
