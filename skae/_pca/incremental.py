"""Principal directions of rows that come in batches."""

from math import sqrt

import numpy as np
import torch
from torch.nn.functional import pad

from .holdout import nearest_rotations

# Rows that the directions take in at a time.
ROWS_PER_UPDATE = 1024


class RunningBasis:
    """The leading principal directions of all rows so far (Ross et al., 2008).

    What is known of the rows is their mean and, along r directions V, their sums of squares S.
    With those of a new batch B, of mean m_b, the scatter of all rows is ``M'M`` with::

        M = [ sqrt(S) V' ;  B - 1 m_b' ;  sqrt(n N / (n + N)) (m - m_b)' ]

    and the small matrix ``M M'`` has its eigenvalues.

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
        """Go on from a basis that was fitted as a whole to n_seen rows."""
        n_known = directions.shape[1]
        self.n_seen = n_seen
        self.mean = mean.astype(np.float64)
        self.directions[:, :n_known] = torch.from_numpy(directions)
        self.squares[:n_known] = torch.from_numpy(variances * (n_seen - 1))
        self.total = total_variance * (n_seen - 1)

    def update(self, rows):
        """Take in some `Rows`, centred at their own mean."""
        n, r = len(rows), len(self.squares)
        share = n / (n + self.n_seen)
        shift = sqrt(share * self.n_seen) * (self.mean - rows.mean)
        c = torch.from_numpy(shift).to(self.directions)
        roots = self.squares.sqrt()

        gram = roots.new_zeros(r + n + 1, r + n + 1)  # of M, below the diagonal
        gram[:r, :r] = torch.diag(self.squares)
        gram[r:-1, :r] = rows.times(self.directions).to(roots.device) * roots
        gram[r:-1, r:-1] = rows.gram()
        gram[-1, :r] = c @ self.directions * roots
        gram[-1, r:-1] = rows.times(c[:, None])[:, 0]
        gram[-1, -1] = c @ c
        values, vectors = torch.linalg.eigh(gram)
        values, vectors = values[-r:].flip(0), vectors[:, -r:].flip(1)
        kept = int((values > 4 * torch.finfo(c.dtype).eps * values[0]).sum())
        values, vectors = values[:kept], (vectors[:, :kept] / values[:kept].sqrt()).to(c.dtype)

        directions = self.directions @ (roots[:, None].to(c.dtype) * vectors[:r])
        directions += rows.transposed_times(vectors[r:-1])
        directions += torch.outer(c, vectors[-1])
        factor, failed = torch.linalg.cholesky_ex(directions.T @ directions)
        if not failed:
            directions = torch.linalg.solve_triangular(factor.T, directions, upper=True, left=False)
        else:
            directions = torch.linalg.qr(directions).Q
        self.directions = pad(directions, (0, r - kept))
        self.squares = pad(values, (0, r - kept))
        self.total += float(rows.squared_norms().sum() + shift @ shift)
        self.mean = self.mean + share * (rows.mean - self.mean)
        self.n_seen += n

    def to(self, device):
        self.directions = self.directions.to(device)
        self.squares = self.squares.to(device)

    def squares_along(self, turn):
        """Sum of the squares along the directions turned by a matrix: shape (r,)."""
        return turn.double().square().T @ self.squares


def aligning_rotation(old, new, latent_dim):
    """The rotation of the first k new directions, and of the others, that is closest to the old.

    What networks have learnt in the old coordinates then holds as nearly as can be: the principal
    axes themselves change places and turn with every batch.

    Parameters
    ----------
    old, new : Tensor of shape (p, r)
    latent_dim : int
        k.

    Returns
    -------
    turn : Tensor of shape (r, r)
        ``new @ turn`` is close to ``old``.
    """
    return nearest_rotations(new.T @ old, latent_dim).to(new)
