"""Plain autoencoders in the form that the parameters ask for."""

from ._modules import PlainAutoencoder
from ._penalties import ContractivePenalty, SparsityPenalty
from ._variational import VariationalAutoencoder

PENALTIES = {"l1": SparsityPenalty, "contractive": ContractivePenalty}


def plain_autoencoder(latent_dim, encoder, decoder, loss, activation, penalty, alpha):
    """A `PlainAutoencoder`, with a penalty of `PENALTIES`, or "variational", or None."""
    if penalty == "variational":
        return VariationalAutoencoder(
            alpha, latent_dim, encoder, decoder, loss, activation=activation
        )
    module = PlainAutoencoder(latent_dim, encoder, decoder, loss, activation=activation)
    if penalty is not None:
        module.penalties.append(PENALTIES[penalty](alpha))
    return module
