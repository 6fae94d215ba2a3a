"""Reconstruction losses: one class, one formula each.

A loss compares outputs of a network, of shape (n, p), with rows. Its value for a row is a deviance:
zero where the reconstruction equals the row.
"""

from abc import ABC, abstractmethod

import torch
from torch import Tensor
from torch.nn.functional import log_softmax, normalize, softplus

from .layers import Stored

# Lower bound of a probability, and of a column's mean as a share of the mean of all columns: what
# is zero in all training rows may occur in new rows.
_RAREST = 1e-4

# How far values may be beyond 0 and 1 by rounding, as in `skae._data.ranges`.
_ROUNDING = 1e-6


class Loss(Stored, ABC):
    """``mean_i w_i d(x_i, output_i)`` with the deviance d; a mean, so it does not depend on n.

    Attributes
    ----------
    degree : int
        d grows with this power of the unit of X; 0 if X has a unit of its own, such as counts.
    is_likelihood : bool
        Whether d is minus the logarithm of a probability, up to a constant and a scale.
    of_counts : bool
        Whether the loss is meant for counts.
    """

    degree = 0
    is_likelihood = False
    of_counts = False

    def forward(self, output: Tensor, x: Tensor, w: Tensor | None = None) -> Tensor:
        deviances = self.deviances(output, x)
        return (deviances if w is None else w * deviances).mean()

    @classmethod
    def has_link(cls):
        """Whether reconstructions have a range that the loss defines."""
        return cls.link is not Loss.link

    @abstractmethod
    def deviances_by_column(self, output: Tensor, x: Tensor) -> Tensor:
        """The part of each entry in the deviance of its row, not negative: shape (n, p)."""

    def deviances(self, output: Tensor, x: Tensor) -> Tensor:
        """Deviance of each row, the sum over its columns: shape (n,)."""
        return self.deviances_by_column(output, x).sum(dim=-1)

    def link(self, output: Tensor) -> Tensor:
        """The reconstruction for an output."""
        return output

    def output_of_mean(self, mean: Tensor) -> Tensor:
        """The output whose reconstruction is the mean of the rows."""
        return mean

    def view(self, x: Tensor) -> Tensor:
        """The rows as an encoder takes them."""
        return x

    def check(self, X):
        """Raise ValueError if the loss is not defined for X."""


class SquaredError(Loss):
    """``|x - x_hat|^2``."""

    degree = 2
    is_likelihood = True

    def deviances_by_column(self, output, x):
        return (x - output).square()


class AbsoluteError(Loss):
    """``sum_j |x_j - x_hat_j|``."""

    degree = 1
    is_likelihood = True

    def deviances_by_column(self, output, x):
        return (x - output).abs()


class HuberError(Loss):
    """``sum_j e_j^2`` for errors ``e_j`` up to 1, ``2 |e_j| - 1`` for larger ones (Huber, 1964).

    Networks are trained in a unit in which 1 is the standard deviation of a typical entry of X.
    """

    degree = 2

    def deviances_by_column(self, output, x):
        errors = (x - output).abs()
        return torch.where(errors <= 1, errors.square(), 2 * errors - 1)


class BinaryCrossEntropy(Loss):
    """``2 sum_j x_j log(x_j / x_hat_j) + (1 - x_j) log((1 - x_j) / (1 - x_hat_j))``.

    Outputs are logits. Values beyond 0 and 1 by rounding, as of MinMaxScaler, count as these.
    """

    is_likelihood = True

    def deviances(self, output, x):
        return _not_negative(2 * self._halves(output, x).sum(dim=-1))

    def deviances_by_column(self, output, x):
        return _not_negative(2 * self._halves(output, x))

    def _halves(self, output, x):
        x = x.clamp(0, 1)
        entropy = torch.xlogy(x, x) + torch.xlogy(1 - x, 1 - x)
        return softplus(output) - x * output + entropy

    def link(self, output):
        return output.sigmoid()

    def output_of_mean(self, mean):
        return mean.clamp(_RAREST, 1 - _RAREST).logit()

    def check(self, X):
        if X.min() < -_ROUNDING or X.max() > 1 + _ROUNDING:
            raise ValueError(
                f"loss='bce' needs X in [0, 1], got a minimum of {X.min():.7g} and a maximum of "
                f"{X.max():.7g}."
            )


class PoissonDeviance(Loss):
    """``2 sum_j x_j log(x_j / x_hat_j) - x_j + x_hat_j``; outputs are logarithms of the rates."""

    is_likelihood = True
    of_counts = True

    def deviances(self, output, x):
        return _not_negative(2 * self._halves(output, x).sum(dim=-1))

    def deviances_by_column(self, output, x):
        return _not_negative(2 * self._halves(output, x))

    def _halves(self, output, x):
        return output.exp() - x * output + torch.xlogy(x, x) - x

    def link(self, output):
        return output.exp()

    def output_of_mean(self, mean):
        return _log_of_mean(mean)

    def view(self, x):
        return x.sqrt()  # its variance does not depend on the rate

    def check(self, X):
        _check_not_negative(X, "poisson")


class MultinomialDeviance(Loss):
    """``2 sum_j x_j log(x_j / (N x_hat_j))`` with ``N = sum_j x_j``, for the shares x_hat.

    Outputs are logarithms of the shares, up to a constant of the row.
    """

    is_likelihood = True
    of_counts = True

    def deviances(self, output, x):
        shares = x / _nonzero(x.sum(dim=-1, keepdim=True))
        return _not_negative(
            2 * (torch.xlogy(x, shares) - x * log_softmax(output, dim=-1)).sum(dim=-1)
        )

    def deviances_by_column(self, output, x):
        # N x_hat_j - x_j has a sum of zero, and makes each part a deviance of a count.
        total, logs = x.sum(dim=-1, keepdim=True), log_softmax(output, dim=-1)
        halves = torch.xlogy(x, x / _nonzero(total)) - x * logs + total * logs.exp() - x
        return _not_negative(2 * halves)

    def link(self, output):
        return output.softmax(dim=-1)

    def output_of_mean(self, mean):
        return _log_of_mean(mean)

    def view(self, x):
        return (x / _nonzero(x.sum(dim=-1, keepdim=True))).sqrt()

    def check(self, X):
        _check_not_negative(X, "multinomial")


class CosineDistance(Loss):
    """``1 - x'x_hat / (|x| |x_hat|)``, which does not depend on the length of a row."""

    def deviances(self, output, x):
        # As half a squared distance: 1 minus a similarity near 1 is rounding error, even negative.
        distances = (_direction(x) - _direction(output)).square().sum(dim=-1) / 2
        distances = torch.where((output != 0).any(dim=-1), distances, 1.0)
        return torch.where((x != 0).any(dim=-1), distances, 0.0)  # zeros have no direction

    def deviances_by_column(self, output, x):
        direction, direction_of_output = _direction(x), _direction(output)
        halves = (direction - direction_of_output).square() / 2
        halves = torch.where(_any_nonzero(output), halves, direction.square())
        return torch.where(_any_nonzero(x), halves, 0.0)

    def view(self, x):
        return _direction(x)


# The one list of losses: parameters and files read their names and classes here.
LOSSES = {
    "mse": SquaredError,
    "mae": AbsoluteError,
    "huber": HuberError,
    "bce": BinaryCrossEntropy,
    "poisson": PoissonDeviance,
    "multinomial": MultinomialDeviance,
    "cosine": CosineDistance,
}


def _not_negative(deviances):
    """Deviances, with those clipped to zero that rounding made negative."""
    return deviances.clamp_min(0.0)


def _direction(x):
    """Rows scaled to length one, zeros unchanged; squares of the rows may overflow."""
    largest = x.detach().abs().amax(dim=-1, keepdim=True)
    return normalize(x / _nonzero(largest), dim=-1)


def _any_nonzero(rows):
    return (rows != 0).any(dim=-1, keepdim=True)


def _log_of_mean(mean):
    return mean.clamp_min(_RAREST * mean.mean().clamp_min(_RAREST)).log()


def _nonzero(totals):
    return torch.where(totals > 0, totals, 1.0)


def _check_not_negative(X, name):
    if X.min() < 0:
        raise ValueError(f"loss={name!r} needs non-negative X, got a minimum of {X.min():.3g}.")
