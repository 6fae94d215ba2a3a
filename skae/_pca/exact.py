"""Principal directions to the last digit: a full eigenproblem, or the singular values of rows.

Eigenvalues of ``A'A`` are squares of the singular values of A, and have the same rounding whatever
their size: in float64 singular values of less than 1e-8 of the largest are lost. Rows in float32
have no more digits than that. For rows in float64 the spectrum that is found decides: where it
falls too far, singular values are computed from a triangular factor of A, which squares nothing.
"""

import numpy as np
import torch
from scipy import linalg

from .._runtime.execution import single_threaded_blas
from .._runtime.tensors import batch_slices, power_of_two

# Eigenvalues of a smaller share of the largest are not accurate enough for rows in float64.
_STEEP = 1e-5

# Lengths of directions below this share of the longest are rounding, by the eigenvalues.
_SHORTEST = 4 * np.finfo(np.float64).eps ** 0.5

# Up to this side all eigenvectors are computed at once, which fits with a memory share.
_SMALL_SIDE = 1024

# Directions that are computed in float64 at a time.
_PANEL = 256


def exact_directions(rows, n_directions, n_accurate, total, cache):
    """Compute the leading principal directions of rows in float64.

    Parameters
    ----------
    rows : Rows or WeightedRows
        A, of shape (n, p).
    n_directions : int
    n_accurate : int
        How many of them need all digits.
    total : float
        The sum of the squares of A.
    cache : object with `load_or_compute`

    Returns
    -------
    squares : float64 ndarray of shape (n_directions,)
        Sum of the squared scores along each direction.
    directions : Tensor of shape (p, n_directions)
        Of length one, in the dtype of the rows.
    is_short : bool Tensor of shape (n_directions,)
        Whether a direction is beyond the rank of A, and arbitrary.
    """
    wide = rows.in_float64()
    unit = power_of_two((total / len(rows)) ** 0.5)
    shares, vectors, shortest = _leading_vectors(
        wide, n_directions, n_accurate, unit, cache, rows.dtype == torch.float64
    )
    if rows.shape[1] <= rows.shape[0]:
        squares, directions = shares, vectors.to(rows.dtype)
        is_short = torch.zeros(n_directions, dtype=torch.bool, device=directions.device)
    else:
        squares, directions = _images(wide, vectors, unit, rows.dtype)
        is_short = squares <= shortest**2 * squares[0]
    squares = squares.cpu().numpy() * unit**2
    return np.minimum.accumulate(squares), directions, is_short


def _leading_vectors(rows, n_vectors, n_accurate, unit, cache, has_digits):
    """Eigenvalues and eigenvectors of the smaller of ``A'A`` and ``A A'``, the largest first.

    Also returns the share of the longest direction below which others are rounding.
    """
    side = min(rows.shape)
    has_more_rows = rows.shape[1] <= rows.shape[0]
    is_small = side <= _SMALL_SIDE or 2 * n_vectors > side
    n_computed = side if is_small else n_vectors

    def eigenvectors():
        matrix = rows.covariance(unit) if has_more_rows else rows.gram(unit)
        values, vectors = leading_eigenvectors(matrix, n_computed)
        return {"values": values, "vectors": vectors}

    found = cache.load_or_compute(f"{n_computed} eigenvectors", eigenvectors)
    shortest = _SHORTEST
    if has_digits and found["values"][n_accurate - 1] < _STEEP * found["values"][0]:
        found = cache.load_or_compute("singular vectors", lambda: _singular_vectors(rows, unit))
        shortest = max(rows.shape) * np.finfo(np.float64).eps
    device = rows.device
    values, vectors = found["values"][:n_vectors], found["vectors"][:, :n_vectors]
    return values.to(device).clamp_min(0.0), vectors.to(device), shortest


def leading_eigenvectors(matrix, n_vectors):
    """Compute the largest eigenvalues of a symmetric matrix, the largest first, and their vectors.

    The matrix is overwritten.
    """
    side = len(matrix)
    if matrix.device.type != "cpu":
        values, vectors = torch.linalg.eigh(matrix)
    else:
        # SciPy's solvers take half the time of torch's, and less for a part of the vectors.
        # SciPy before 1.12 asks for too little memory for the first one of a single entry.
        part = {"driver": "evd" if side > 1 else "evr"}
        if n_vectors < side:
            part = {"driver": "evr", "subset_by_index": (side - n_vectors, side - 1)}
        with single_threaded_blas():
            # Transposed it is in the order of LAPACK, which needs no copy then.
            found = linalg.eigh(matrix.numpy().T, overwrite_a=True, check_finite=False, **part)
        values, vectors = map(torch.from_numpy, found)
    return values[-n_vectors:].flip(0), vectors[:, -n_vectors:].flip(1).contiguous()


def _singular_vectors(rows, unit):
    """The same from singular values: of A, or of ``A'`` if it has more rows.

    A triangular factor R of it is updated batch by batch, since ``[R; B]`` and all batches so far
    have the same singular values and right singular vectors.
    """
    side = min(rows.shape)
    if rows.shape[1] <= rows.shape[0]:
        slices = batch_slices(rows.shape[0], 1, 4 * side)
        batches = (rows.centred(part) for part in slices)
    else:
        slices = batch_slices(rows.shape[1], 1, 4 * side)
        batches = (rows.centred_columns(part).T for part in slices)
    factor = torch.zeros(0, side, dtype=torch.float64, device=rows.device)
    for batch in batches:
        factor = torch.linalg.qr(torch.cat([factor, batch / unit]), mode="r").R
    if factor.device.type == "cpu":
        with single_threaded_blas():
            _, values, vectors = linalg.svd(factor.numpy(), full_matrices=True, check_finite=False)
        values, vectors = torch.from_numpy(values), torch.from_numpy(vectors)
    else:
        _, values, vectors = torch.linalg.svd(factor)
    return {"values": values.square(), "vectors": vectors.T.contiguous()}


def _images(rows, vectors, unit, dtype):
    """``A' u`` for each vector u, divided by its length, and the squares of these lengths."""
    directions = torch.empty(rows.shape[1], vectors.shape[1], dtype=dtype, device=vectors.device)
    squares = []
    for panel, part in zip(vectors.split(_PANEL, 1), directions.split(_PANEL, 1), strict=True):
        images = rows.transposed_times(panel) / unit
        lengths = torch.linalg.vector_norm(images, dim=0)
        squares.append(lengths.square())
        part.copy_(images.div_(torch.where(lengths > 0, lengths, 1.0)))
    return torch.cat(squares), directions
