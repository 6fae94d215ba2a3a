"""Incremental PCA: principal directions of rows that arrive in batches."""

from math import sqrt

import numpy as np
import torch
from torch.nn.functional import pad

from .._runtime.tensors import power_of_two
from .holdout import nearest_rotations
from .solvers import fix_signs

# The most rows of one call of `RunningBasis.update`.
ROWS_PER_UPDATE = 1024


class RunningBasis:
    """The leading principal directions of all rows so far (Ross et al., 2008).

    The state is the mean m of N rows and their sums of squares S along r directions V. With a new
    batch B of n rows and mean m_b, the scatter matrix of all rows is ``M'M`` with::

        M = [ sqrt(S) V' ;  B - 1 m_b' ;  sqrt(n N / (n + N)) (m - m_b)' ]

    and the smaller matrix ``M M'`` has the same nonzero eigenvalues.

    Parameters
    ----------
    n_features : int
        p.
    n_directions : int
        r, at most p. Directions beyond the rank of the rows are zero.
    dtype : torch.dtype

    Attributes
    ----------
    n_seen : int
        N, the number of rows so far.
    mean : ndarray of shape (p,)
    directions : Tensor of shape (p, r)
        Orthonormal columns by decreasing variance, the zero ones last.
    squares : float64 Tensor of shape (r,)
        Sum of the squares of the centred rows along each direction.
    total : float
        Sum of the squares of the centred rows.
    """

    def __init__(self, n_features, n_directions, dtype):
        self.n_seen = 0
        self.mean = np.zeros(n_features)
        self.directions = torch.zeros(n_features, n_directions, dtype=dtype)
        self.squares = torch.zeros(n_directions, dtype=torch.float64)
        self.total = 0.0

    def start_from(self, n_seen, mean, directions, variances, total_variance):
        """Continue from the basis of ``n_seen`` rows that were fitted at once."""
        n_known = directions.shape[1]
        self.n_seen = n_seen
        self.mean = mean.astype(np.float64)
        self.directions[:, :n_known] = torch.from_numpy(directions)
        self.squares[:n_known] = torch.from_numpy(variances * (n_seen - 1))
        self.total = total_variance * (n_seen - 1)

    def update(self, rows):
        """Update the basis with a batch of `Rows` that is centred at its own mean."""
        n, r = len(rows), len(self.squares)
        share = n / (n + self.n_seen)
        shift = sqrt(share * self.n_seen) * (self.mean - rows.mean)
        c = torch.from_numpy(shift).to(self.directions)
        # In a unit of its length: its square may be too large for float32.
        unit = power_of_two(max(float(c.abs().max()), torch.finfo(c.dtype).tiny))
        scaled = c / unit
        roots = self.squares.sqrt()

        gram = roots.new_zeros(r + n + 1, r + n + 1)  # M M', on and below the diagonal
        gram[:r, :r] = torch.diag(self.squares)
        gram[r:-1, :r] = rows.times(self.directions).to(roots.device) * roots
        gram[r:-1, r:-1] = rows.in_float64().gram()
        gram[-1, :r] = c @ self.directions * roots
        gram[-1, r:-1] = rows.times(scaled[:, None])[:, 0].to(gram) * unit
        gram[-1, -1] = (scaled @ scaled).to(gram) * unit**2
        values, vectors = torch.linalg.eigh(gram)
        values, vectors = values[-r:].flip(0), vectors[:, -r:].flip(1)
        kept = int((values > 4 * torch.finfo(c.dtype).eps * values[0]).sum())
        values, vectors = values[:kept], vectors[:, :kept]
        # In a unit again: the inverse of a small length may be too large for float32.
        unit = power_of_two(max(float(values[:1].sum()) ** 0.5, torch.finfo(c.dtype).tiny))
        vectors = (vectors / (values.sqrt() / unit)).to(c.dtype)

        directions = self.directions @ ((roots[:, None] / unit).to(c.dtype) * vectors[:r])
        directions += rows.transposed_times(vectors[r:-1]) / unit
        directions += torch.outer(c / unit, vectors[-1])
        factor, failed = torch.linalg.cholesky_ex(directions.T @ directions)
        if not failed:
            directions = torch.linalg.solve_triangular(factor.T, directions, upper=True, left=False)
        else:
            directions = torch.linalg.qr(directions).Q
        self.directions = pad(fix_signs(directions), (0, r - kept))
        self.squares = pad(values, (0, r - kept))
        self.total += float(rows.squared_norms().sum() + shift @ shift)
        self.mean = self.mean + share * (rows.mean - self.mean)
        self.n_seen += n

    def to(self, device):
        self.directions = self.directions.to(device)
        self.squares = self.squares.to(device)

    def squares_along(self, rotation):
        """Return the sum of squares along each of the rotated directions: shape (r,)."""
        return rotation.double().square().T @ self.squares


def aligning_rotation(old, new, latent_dim):
    """Compute the rotation of the first k new directions, and of the others, nearest to the old.

    Networks that were trained in the old coordinates stay valid in the rotated ones: principal axes
    themselves change their order and rotate with every batch.

    Parameters
    ----------
    old, new : Tensor of shape (p, r)
    latent_dim : int
        k.

    Returns
    -------
    rotation : Tensor of shape (r, r)
        ``new @ rotation`` is close to ``old``.
    """
    return nearest_rotations(new.T @ old, latent_dim).to(new)
