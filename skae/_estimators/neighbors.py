"""How far rows are from the training rows around them, in the codes of an autoencoder."""

from dataclasses import dataclass

import numpy as np
from sklearn.neighbors import NearestNeighbors

# The most training rows that new ones are compared with, and of which the unit of codes is found.
_MOST_REFERENCES, _ROWS_FOR_UNIT = 10_000, 256


@dataclass(frozen=True, eq=False)
class Neighbors:
    """Training rows that scores refer to.

    For a row with the squared error e and the distance d of its code from the k-th nearest code of
    a training row, ``t = e + d^2`` is about its squared distance from that training row. Rows in
    sparse regions have larger t, so t is multiplied by its ratio to the mean of its neighbours::

        score = -t * t / mean(t of the k neighbours)

    Attributes
    ----------
    index : NearestNeighbors
        The codes of at most 10,000 training rows (m, latent_dim), in the unit of reconstructions.
    distances : ndarray of shape (m,)
        t of these rows; none is its own neighbour.
    unit : float
        Divisor of codes: their total standard deviation over that of reconstructions.
    """

    index: NearestNeighbors
    distances: np.ndarray
    unit: float

    @classmethod
    def of(cls, codes, errors, decode, n_neighbors, rng):
        """The neighbours among training rows, chosen if too many; None of fewer than two."""
        if len(codes) < 2:
            return None
        chosen = rng.permutation(len(codes))[:_MOST_REFERENCES]
        codes, errors = codes[chosen].astype(np.float64), errors[chosen]
        some = codes[:_ROWS_FOR_UNIT]
        decoded = np.asarray(decode(some), dtype=np.float64).reshape(len(some), -1)
        total, of_codes = decoded.var(axis=0).sum(), some.var(axis=0).sum()
        unit = float(np.sqrt(of_codes / total)) if total > 0 and of_codes > 0 else 1.0
        k = min(n_neighbors, len(codes) - 1)
        index = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(codes / unit)
        nearest, _ = index.kneighbors()
        return cls(index, errors + nearest[:, -1] ** 2, unit)

    def scores(self, codes, errors):
        """Scores of rows from their codes and squared errors: shape (n,), low for anomalies."""
        nearest, neighbors = self.index.kneighbors(codes.astype(np.float64) / self.unit)
        distances = errors + nearest[:, -1] ** 2
        # Repeated rows are at distance zero from each other, and all rows may be the same.
        smallest = np.finfo(np.float64).eps * self.distances.mean()
        around = np.maximum(self.distances[neighbors].mean(axis=1), smallest)
        return -distances * np.divide(distances, around, np.ones_like(around), where=around > 0)
