"""Penalties on codes: terms that are added to the logarithm of the loss, one formula each.

Both measure a code by its own deviation, or a network would escape by making it small.
"""

import torch
from torch import Tensor, nn

from ._random import RandomLayer

_TINY = 1e-12

# A variance that is a smaller share of the mean square is rounding.
_ROUNDING = 1e-10


class SparsityPenalty(nn.Module):
    """``alpha mean_j |z_j| / rms(z_j)``, the root of the mean square taken over a batch.

    Small where each number of the code is near zero for most rows and far from it for few, as
    with the independent components of Le et al., ICA with Reconstruction Cost (2011).
    """

    def __init__(self, alpha):
        super().__init__()
        self.alpha = alpha

    def forward(self, autoencoder, x: Tensor, z: Tensor, output: Tensor) -> Tensor:
        z = z.float()
        rms = z.square().mean(dim=0).clamp_min(_TINY).sqrt()
        return self.alpha * (z.abs() / rms).mean(dim=1)


class ContractivePenalty(RandomLayer):
    """``alpha mean_j |u dz_j/dv|^2 / var(z_j)``, for the view v of x, of unit u, that is encoded.

    Small where codes change little when a row does (Rifai et al., 2011). The sum over j is
    estimated by one product with a random vector (Hutchinson, 1989).
    """

    def __init__(self, alpha):
        super().__init__()
        self.alpha = alpha

    def forward(self, autoencoder, x: Tensor, z: Tensor, output: Tensor) -> Tensor:
        z = z.float()
        variances = z.var(dim=0, correction=0)
        # Of a batch whose rows are all the same it would be rounding.
        varies = variances > _TINY + _ROUNDING * z.square().mean(dim=0)
        probe = torch.where(varies, self.normal(z) / variances.clamp_min(_TINY).sqrt(), 0.0)
        # By the view of the rows, not by the rows: a square root has no slope at zero.
        view = autoencoder.loss.view(x.detach()).requires_grad_()
        seen = autoencoder.seen_of_view(view)[:, : z.shape[1]]
        (slopes,) = torch.autograd.grad((probe * seen).sum(), view, create_graph=True)
        slopes = autoencoder.unit * slopes
        return self.alpha * slopes.square().sum(dim=1) / z.shape[1]
