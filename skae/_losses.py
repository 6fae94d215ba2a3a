"""Reconstruction losses: one class, one formula each.

Every loss takes reconstructions ``x_hat`` and the rows ``x`` they stand for, both of shape
(n, p), and weights ``w`` of the rows, None for ones. It returns one number: a mean over rows, so
that it does not depend on the batch size.
"""

from torch import Tensor, nn


class SquaredError(nn.Module):
    """``mean_i w_i |x_i - x_hat_i|^2``."""

    def forward(self, x_hat: Tensor, x: Tensor, w: Tensor | None = None) -> Tensor:
        errors = (x - x_hat).square().sum(dim=-1)
        return (errors if w is None else w * errors).mean()


LOSSES = {"mse": SquaredError}
