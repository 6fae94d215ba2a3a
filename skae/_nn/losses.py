"""Reconstruction losses: one class, one formula each.

A loss compares the outputs of a network, of shape (n, p), with the rows they stand for. What it
gives for a row is a deviance: zero where the reconstruction is the row itself.
"""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from torch.nn.functional import log_softmax, normalize, softplus

# A column that has (almost) never counted may still count in new rows: its mean is taken for at
# least this share of the mean of all columns; and a probability for at least so much.
_RAREST = 1e-4


class Loss(nn.Module, ABC):
    """``mean_i w_i d(x_i, output_i)`` with the deviance d; a mean, so that it suits any batch.

    Attributes
    ----------
    degree : int
        Power of the unit of X in which d grows; 0 if X has a unit of its own, such as counts.
    """

    degree = 0

    def forward(self, output: Tensor, x: Tensor, w: Tensor | None = None) -> Tensor:
        deviances = self.deviances(output, x)
        return (deviances if w is None else w * deviances).mean()

    @abstractmethod
    def deviances(self, output: Tensor, x: Tensor) -> Tensor:
        """D of each row: shape (n,)."""

    def link(self, output: Tensor) -> Tensor:
        """The reconstruction that an output stands for."""
        return output

    def output_of_mean(self, mean: Tensor) -> Tensor:
        """The output whose reconstruction is the mean of the rows."""
        return mean

    def view(self, x: Tensor) -> Tensor:
        """The rows as an encoder should see them."""
        return x

    def check(self, X):
        """Raise ValueError if the loss is not meant for X."""


class SquaredError(Loss):
    """``|x - x_hat|^2``."""

    degree = 2

    def deviances(self, output, x):
        return (x - output).square().sum(dim=-1)


class AbsoluteError(Loss):
    """``sum_j |x_j - x_hat_j|``."""

    degree = 1

    def deviances(self, output, x):
        return (x - output).abs().sum(dim=-1)


class HuberError(Loss):
    """``sum_j e_j^2`` for errors ``e_j`` up to 1, ``2 |e_j| - 1`` for larger ones (Huber, 1964).

    1 is the deviation of the typical entry of X, in whose unit networks are trained.
    """

    degree = 2

    def deviances(self, output, x):
        errors = (x - output).abs()
        return torch.where(errors <= 1, errors.square(), 2 * errors - 1).sum(dim=-1)


class BinaryCrossEntropy(Loss):
    """``2 sum_j x_j log(x_j / x_hat_j) + (1 - x_j) log((1 - x_j) / (1 - x_hat_j))``.

    Outputs are logits.
    """

    def deviances(self, output, x):
        entropy = torch.xlogy(x, x) + torch.xlogy(1 - x, 1 - x)
        return _not_negative(2 * (softplus(output) - x * output + entropy).sum(dim=-1))

    def link(self, output):
        return output.sigmoid()

    def output_of_mean(self, mean):
        return mean.clamp(_RAREST, 1 - _RAREST).logit()

    def check(self, X):
        if X.min() < 0 or X.max() > 1:
            raise ValueError(
                f"loss='bce' needs X in [0, 1], got a minimum of {X.min():.3g} and a maximum of "
                f"{X.max():.3g}."
            )


class PoissonDeviance(Loss):
    """``2 sum_j x_j log(x_j / x_hat_j) - x_j + x_hat_j``; outputs are logarithms of the rates."""

    def deviances(self, output, x):
        return _not_negative(2 * (output.exp() - x * output + torch.xlogy(x, x) - x).sum(dim=-1))

    def link(self, output):
        return output.exp()

    def output_of_mean(self, mean):
        return _log_of_mean(mean)

    def view(self, x):
        return x.sqrt()  # whose variance does not depend on the rate

    def check(self, X):
        _check_not_negative(X, "poisson")


class MultinomialDeviance(Loss):
    """``2 sum_j x_j log(x_j / (N x_hat_j))`` with ``N = sum_j x_j``, for the shares x_hat.

    Outputs are logarithms of the shares, up to a constant of the row.
    """

    def deviances(self, output, x):
        shares = x / _nonzero(x.sum(dim=-1, keepdim=True))
        return _not_negative(
            2 * (torch.xlogy(x, shares) - x * log_softmax(output, dim=-1)).sum(dim=-1)
        )

    def link(self, output):
        return output.softmax(dim=-1)

    def output_of_mean(self, mean):
        return _log_of_mean(mean)

    def view(self, x):
        return (x / _nonzero(x.sum(dim=-1, keepdim=True))).sqrt()

    def check(self, X):
        _check_not_negative(X, "multinomial")


class CosineDistance(Loss):
    """``1 - x'x_hat / (|x| |x_hat|)``: the length of a row does not matter."""

    def deviances(self, output, x):
        # As half a squared distance: 1 less a similarity near 1 would be rounding, and below zero.
        distances = (_direction(x) - _direction(output)).square().sum(dim=-1) / 2
        distances = torch.where((output != 0).any(dim=-1), distances, 1.0)
        return torch.where((x != 0).any(dim=-1), distances, 0.0)  # zeros have no direction

    def view(self, x):
        return _direction(x)


LOSSES = {
    "mse": SquaredError,
    "mae": AbsoluteError,
    "huber": HuberError,
    "bce": BinaryCrossEntropy,
    "poisson": PoissonDeviance,
    "multinomial": MultinomialDeviance,
    "cosine": CosineDistance,
}

# Those whose reconstructions have a range of their own, and those of counts.
LOSSES_WITH_LINK = {"bce", "poisson", "multinomial"}

LOSSES_OF_COUNTS = {"poisson", "multinomial"}


def _not_negative(deviances):
    """Deviances whose large terms cancel, without what rounding leaves below zero."""
    return deviances.clamp_min(0.0)


def _direction(x):
    """Rows of length one, or of zeros; at any scale, where squares would not be numbers."""
    largest = x.detach().abs().amax(dim=-1, keepdim=True)
    return normalize(x / _nonzero(largest), dim=-1)


def _log_of_mean(mean):
    return mean.clamp_min(_RAREST * mean.mean().clamp_min(_RAREST)).log()


def _nonzero(totals):
    return torch.where(totals > 0, totals, 1.0)


def _check_not_negative(X, name):
    if X.min() < 0:
        raise ValueError(f"loss={name!r} needs non-negative X, got a minimum of {X.min():.3g}.")
