"""The variational autoencoder: a code is drawn from a distribution that the encoder gives."""

from torch import Tensor

from ._modules import PlainAutoencoder
from ._random import RandomLayer

# Losses that are, up to a constant and their scale, minus the logarithm of a probability.
LIKELIHOODS = {"mse", "mae", "bce", "poisson", "multinomial"}


# A smaller loss is no longer divided by.
_TINY = 1e-12


class VariationalAutoencoder(PlainAutoencoder):
    """A `PlainAutoencoder` with a normal distribution for each code (Kingma and Welling, 2014)::

        z ~ N(mu(x), diag(sigma^2(x)))
        minimise  -log p(x | z) + alpha KL(N(mu, sigma^2) || N(0, 1))

    In training codes are drawn, else they are mu. A loss with a unit has the scale that suits it
    best (Rybkin et al., 2021): ``-log p = p / degree log d`` for the loss d of p columns, else it
    is ``d / 2``, both up to a constant.

    **Shape**: as `PlainAutoencoder`, but the encoder gives 2k numbers: mu, then log sigma^2.

    Parameters
    ----------
    alpha : float
        Weight of the divergence: 1 for the evidence lower bound; Higgins et al. (2017) call it
        beta.
    latent_dim, encoder, decoder, loss, activation
        As in `PlainAutoencoder`.
    """

    penalised = True

    def __init__(self, alpha, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.alpha = alpha
        self.noise = RandomLayer()

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        if not self.training:
            return super().forward(x)
        mu, log_variance = self.seen(x).float().chunk(2, dim=1)
        z = mu + (0.5 * log_variance).exp() * self.noise.normal(mu)
        output = self.output(z)
        divergence = 0.5 * (mu.square() + log_variance.exp() - 1 - log_variance).sum(dim=1)
        if self.loss.degree:
            rate = self.loss.degree / x.shape[1]
        else:
            rate = 2 / self.loss.deviances(output, x).detach().mean().clamp_min(_TINY)
        penalties = sum(penalty(self, x, z, output) for penalty in self.penalties)
        return output, self.alpha * rate * divergence + penalties
