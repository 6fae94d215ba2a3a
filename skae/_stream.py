"""A stream of batches: the directions follow the rows, the networks follow the directions."""

from math import sqrt

import torch

from ._rows import rows_of
from ._running_basis import ROWS_AT_ONCE, turn_towards
from ._scores import compressed
from ._tall import squared_lengths

# The share of variance that networks must have gained on new batches to be used.
_LEAST_GAIN = 0.001


class Stream:
    """What `partial_fit` remembers.

    Parameters
    ----------
    basis : RunningBasis
    latent_dim : int
        k.
    follower : Follower or None
        None for PCA alone.
    """

    def __init__(self, basis, latent_dim, follower):
        self.basis = basis
        self.latent_dim = latent_dim
        self.follower = follower
        self._turn = torch.eye(len(basis.squares), dtype=basis.directions.dtype)

    @property
    def gain(self):
        """Share of variance beyond PCA's on new batches; 0.0 where networks are not used."""
        gain = 0.0 if self.follower is None else self.follower.gain
        return gain if gain > _LEAST_GAIN else 0.0

    @property
    def directions(self):
        """The principal directions, or where networks are used theirs: shape (p, r)."""
        return self._turned if self.gain else self.basis.directions

    @property
    def _turned(self):
        """Those in whose coordinates the networks learn: shape (p, r)."""
        if self.follower is None:  # nothing was learnt in other coordinates
            return self.basis.directions
        return self.basis.directions @ self._turn

    @property
    def explained_variance(self):
        """Variance along each of the first k directions."""
        return self._squares / max(1, self.basis.n_seen - 1)

    @property
    def explained_variance_ratio(self):
        """Its share of the whole variance."""
        return self._squares / (self.basis.total or 1.0)

    @property
    def total_variance(self):
        """Sum of the variances of all columns."""
        return self.basis.total / max(1, self.basis.n_seen - 1)

    @property
    def _squares(self):
        squares = self.basis.squares_along(self._turn) if self.gain else self.basis.squares
        return squares[: self.latent_dim].cpu().numpy()

    def take(self, X):
        """Learn from a batch; return its mean squared error and the share of variance explained."""
        place = {"dtype": self.basis.directions.dtype, "device": self.basis.directions.device}
        n_before, before = self.basis.n_seen, self._turned
        if self.follower is not None and n_before:
            rows = rows_of(X, mean=self.basis.mean, **place)
            y = rows.times(before).float().to(place["device"])
            self.follower.judge(y, rows.squared_norms().sum())
        for start in range(0, X.shape[0], ROWS_AT_ONCE):
            self.basis.update(rows_of(X[start : start + ROWS_AT_ONCE], **place))
        if self.follower is not None and n_before:
            self._turn = turn_towards(before, self.basis.directions, self.latent_dim)

        rows = rows_of(X, mean=self.basis.mean, **place)
        y, variance = rows.times(self._turned), rows.squared_norms().mean()
        if self.follower is None:
            error = variance - squared_lengths(y[:, : self.latent_dim]).mean()
        else:
            squares = self.basis.squares_along(self._turn) / self.basis.n_seen
            self.follower.set_scale(compressed(squares.sqrt().float()))
            unit = sqrt(self.basis.total / self.basis.n_seen)
            loss = self.follower.learn(y.float().to(place["device"]), unit)
            error = variance - squared_lengths(y).mean() + loss
        return float(error), float(1 - error / variance) if variance else 1.0

    def to(self, device):
        """Move all tensors there; between batches they stay on the CPU, and can be pickled."""
        self.basis.to(device)
        self._turn = self._turn.to(device)
        if self.follower is not None:
            self.follower.to(device)
