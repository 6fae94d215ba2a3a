"""Penalties on codes, one formula each, ordered codes, and the head for labels."""

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, linear

from .layers import RandomLayer, Stored

# Lower bound of mean squares and variances that are divided by.
_TINY = 1e-12

# A variance below this share of the mean square is rounding error.
_ROUNDING = 1e-10

# Standard deviation of the initial values of missing dimensions: unlike the codes of most rows.
_FAR = 3.0

# Maximum number of steps in which a head is fitted to given codes.
_STEPS_OF_HEAD = 100


class SparsityPenalty(Stored):
    """``alpha mean_j |z_j| / rms(z_j)``, where rms is the root mean square over a batch.

    It is small where each dimension of the code is near zero for most rows and far from zero for
    few rows, as with the independent components of Le et al., ICA with Reconstruction Cost (2011).
    """

    def __init__(self, alpha):
        super().__init__()
        self.alpha = alpha

    def forward(self, autoencoder, x: Tensor, z: Tensor, output: Tensor) -> Tensor:
        z = z.float()
        rms = z.square().mean(dim=0).clamp_min(_TINY).sqrt()
        return self.alpha * (z.abs() / rms).mean(dim=1)


class ContractivePenalty(RandomLayer):
    """``alpha mean_j |u dz_j/dv|^2 / var(z_j)``, where v is the encoder's view of x and u its unit.

    It is small where a change of a row changes its code little (Rifai et al., 2011). The sum over
    j is estimated by one product with a random vector (Hutchinson, 1989).
    """

    def __init__(self, alpha):
        super().__init__()
        self.alpha = alpha

    def forward(self, autoencoder, x: Tensor, z: Tensor, output: Tensor) -> Tensor:
        z = z.float()
        variances = z.var(dim=0, correction=0)
        # In a batch of equal rows the variance is rounding error.
        varies = variances > _TINY + _ROUNDING * z.square().mean(dim=0)
        probe = torch.where(varies, self.normal(z) / variances.clamp_min(_TINY).sqrt(), 0.0)
        # With respect to the view, not to x: a square root has no derivative at zero.
        view = autoencoder.loss.view(x.detach()).requires_grad_()
        codes = autoencoder.encoder_output_of_view(view)[:, : z.shape[1]]
        (slopes,) = torch.autograd.grad((probe * codes).sum(), view, create_graph=True)
        slopes = autoencoder.unit * slopes
        return self.alpha * slopes.square().sum(dim=1) / z.shape[1]


# The one list of penalties by a class; parameters, builders and files read it.
PENALTIES = {"l1": SparsityPenalty, "contractive": ContractivePenalty}


# Label smoothing of the head that trains with an autoencoder (docs/design.md has figures).
_SMOOTHING = 0.1


class LabelHead(nn.Module):
    """A linear classifier or regressor of codes: ``A z + b``, which trains with an autoencoder.

    Its loss is the cross-entropy of the softmax, or the squared error of a standardised target
    (Le, Patterson and White, 2018). All weights start at zero. Smoothed labels (Szegedy et al.,
    2016) keep few rows from being learnt by heart.

    **Shape**: from (n, k) to (n, n_classes), or (n, 1) for a regression. Labels have shape (n, 2):
    the index of a class or a target, and the weight of the row, zero for a row without a label.

    Parameters
    ----------
    latent_dim : int
        k.
    n_classes : int
        0 for a regression.
    supervision : float
        Weight of the loss against the logarithm of the reconstruction loss.
    floor : float, default=0.0
        Added to the reconstruction loss before its logarithm is taken, so that a loss that is small
        beside it no longer competes with that of the labels.
    smoothing : float, default=0.0
        Share of a label that is spread over all classes.
    """

    def __init__(self, latent_dim, n_classes, supervision=1.0, floor=0.0, smoothing=0.0):
        super().__init__()
        self.n_classes = n_classes
        self.supervision = supervision
        self.floor = floor
        self.smoothing = smoothing
        n_outputs = n_classes or 1
        self.weight = nn.Parameter(torch.zeros(n_outputs, latent_dim, dtype=torch.float32))
        self.bias = nn.Parameter(torch.zeros(n_outputs, dtype=torch.float32))

    def forward(self, z: Tensor) -> Tensor:
        with torch.autocast(z.device.type, enabled=False):
            return linear(z.float(), self.weight, self.bias)

    def losses(self, prediction: Tensor, labels: Tensor) -> Tensor:
        """Weighted loss of each row: shape (n,)."""
        target, weight = labels.unbind(dim=1)
        if self.n_classes:
            return weight * cross_entropy(
                prediction, target.long(), reduction="none", label_smoothing=self.smoothing
            )
        return weight * (prediction[:, 0] - target).square()


def with_head(autoencoder, n_classes, supervision, floor):
    """The autoencoder with a new `LabelHead` on its device."""
    head = LabelHead(autoencoder.latent_dim, n_classes, supervision, floor, _SMOOTHING)
    autoencoder.head = head.to(next(autoencoder.parameters()).device)
    return autoencoder


@torch.enable_grad()
def fitted_head(z: Tensor, labels: Tensor, n_classes: int) -> LabelHead:
    """A `LabelHead` fitted to codes by full batches, with the usual ridge of a logistic regression.

    Codes should be standardised.
    """
    head = LabelHead(z.shape[1], n_classes).to(z.device)
    optimizer = torch.optim.LBFGS(
        head.parameters(), max_iter=_STEPS_OF_HEAD, line_search_fn="strong_wolfe"
    )

    def closure():
        optimizer.zero_grad()
        loss = head.losses(head(z), labels).mean() + head.weight.square().sum() / (2 * len(z))
        loss.backward()
        return loss

    optimizer.step(closure)
    return head.requires_grad_(False)


class Completion(Stored):
    """Fill the missing dimensions of truncated codes with learnt values.

    One decoder then accepts codes of several lengths: the learnt values identify the length.

    **Shape**: from (n, j), where j is in ``lengths`` or ``latent_dim``, to (n, latent_dim).

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
        # `len(z)` would be a constant of an exported graph.
        return torch.cat([z, self.missing[length].expand(z.shape[0], -1)], dim=1)


class NestedLoss(Stored):
    """``sum_j log d_j``, where d_j is the loss of codes truncated to j dimensions.

    Together with the loss of whole codes, training minimises the geometric mean over all lengths,
    so that a length with a larger loss has no larger weight.

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
            # It has the gradient of the logarithm, as a sum over rows.
            total = total + deviances / deviances.detach().mean().clamp_min(1e-30)
        return total


def with_completion(decoder, latent_dim, lengths, generator):
    """The decoder network behind a `Completion` of truncated codes, if there are ``lengths``."""
    if not lengths:
        return decoder
    return nn.Sequential(Completion(latent_dim, lengths, generator), decoder)


def with_nested_loss(autoencoder, lengths, loss):
    """The autoencoder, with a `NestedLoss` of truncated codes if there are ``lengths``."""
    if lengths:
        autoencoder.lengths = lengths
        autoencoder.penalties.append(NestedLoss(loss))
    return autoencoder


def powers_of_two(latent_dim):
    """The tuple 1, 2, 4 ... of powers of two below ``latent_dim``."""
    return tuple(2**power for power in range((latent_dim - 1).bit_length()))
