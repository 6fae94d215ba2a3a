"""Penalties on codes, one formula each, and ordered codes."""

import torch
from torch import Tensor, nn

from .layers import RandomLayer

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


# Numbers in place of missing ones start at so many deviations: unlike those of most rows.
_FAR = 3.0


def powers_of_two(latent_dim):
    """1, 2, 4 ... below a length."""
    return tuple(2**power for power in range((latent_dim - 1).bit_length()))


def completed(network, latent_dim, lengths, generator):
    """A decoder network that takes codes cut to some lengths as well, if there are any."""
    if not lengths:
        return network
    return nn.Sequential(Completion(latent_dim, lengths, generator), network)


def ordered(autoencoder, lengths, loss):
    """The autoencoder, to be trained for codes cut to some lengths as well, if there are any."""
    if lengths:
        autoencoder.lengths = lengths
        autoencoder.penalties.append(NestedLoss(loss))
    return autoencoder


class Completion(nn.Module):
    """Codes cut short, with learnt numbers in place of those they lack.

    A network behind it takes codes of several lengths, and knows by these numbers which one it has.

    **Shape**: from (n, j), for j of ``lengths`` or ``latent_dim``, to (n, latent_dim).

    Examples
    --------
    >>> import torch
    >>> completion = Completion(4, (1, 2), torch.Generator().manual_seed(0))
    >>> completion(torch.zeros(3, 2)).shape
    torch.Size([3, 4])
    """

    def __init__(self, latent_dim, lengths, generator):
        super().__init__()
        self.missing = nn.ParameterDict()
        for length in lengths:
            n_missing = latent_dim - length
            start = _FAR * torch.randn(n_missing, generator=generator, dtype=torch.float32)
            self.missing[str(length)] = nn.Parameter(start)

    def forward(self, z: Tensor) -> Tensor:
        length = str(z.shape[1])
        if length not in self.missing:
            return z
        return torch.cat([z, self.missing[length].expand(len(z), -1)], dim=1)


class NestedLoss(nn.Module):
    """``sum_j log d_j`` with the loss d_j of codes cut to j numbers.

    With the loss of whole codes it makes the geometric mean over all lengths small, so that no
    length counts for more because its loss is larger.

    Parameters
    ----------
    loss : Loss
    """

    def __init__(self, loss):
        super().__init__()
        self.loss = loss

    def forward(self, autoencoder, x: Tensor, z: Tensor, output: Tensor) -> Tensor:
        total = torch.zeros((), dtype=torch.float32, device=x.device)
        for length in autoencoder.lengths:
            deviances = self.loss.deviances(autoencoder.output(z[:, :length]), x)
            # The gradient of its logarithm, row by row.
            total = total + deviances / deviances.detach().mean().clamp_min(1e-30)
        return total
