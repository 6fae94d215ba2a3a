"""A fitted autoencoder as a plain torch module, for whatever serves those."""

from copy import copy, deepcopy

import torch
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from .._estimators.base import BaseAutoencoder
from .._estimators.state import PrincipalCodec
from .._runtime.execution import in_neutral_surroundings
from .._runtime.tensors import tensor_of


class OnRows(nn.Module):
    """An autoencoder of principal component scores as one of the rows themselves::

        z     = encode(V'(x - m))
        x_hat = m + V decode(z)

    **Shape**: x and x_hat (n, p); z (n, k).

    Parameters
    ----------
    mean : Tensor of shape (p,)
        m.
    directions : Tensor of shape (p, r)
        V.
    autoencoder : ResidualAutoencoder
    """

    def __init__(self, mean, directions, autoencoder):
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("directions", directions)
        self.autoencoder = autoencoder

    def encode(self, x: Tensor) -> Tensor:
        return self.autoencoder.encode((x - self.mean) @ self.directions)

    def decode(self, z: Tensor) -> Tensor:
        return self.mean + self.autoencoder.decode(z) @ self.directions.T


class Encoding(nn.Module):
    """``z = encode(x) / s``, in float64 for x in float64, else in float32.

    **Shape**: x (n, p) or (n, *any shape of p numbers*); z (n, k).
    """

    def __init__(self, autoencoder, scale):
        super().__init__()
        self.autoencoder = autoencoder
        self.register_buffer("scale", scale)

    def forward(self, x: Tensor) -> Tensor:
        z = self.autoencoder.encode(x.flatten(1).to(self.scale.dtype)) / self.scale
        return z.to(torch.promote_types(x.dtype, torch.float32))


class Decoding(nn.Module):
    """``x_hat = decode(s z)``, in float64 for z in float64, else in float32.

    **Shape**: z (n, k); x_hat (n, *shape).
    """

    def __init__(self, autoencoder, scale, shape):
        super().__init__()
        self.autoencoder = autoencoder
        self.shape = shape
        self.register_buffer("scale", scale)

    def forward(self, z: Tensor) -> Tensor:
        x_hat = self.autoencoder.decode(self.scale * z.to(self.scale.dtype))
        return x_hat.unflatten(1, self.shape).to(torch.promote_types(z.dtype, torch.float32))


@in_neutral_surroundings
def to_torch(estimator, *, inverse=False):
    """Return what `transform` computes as a plain torch module.

    Mean, principal directions, networks and whitening are all in it, and nothing of skae is
    needed to call it once `torch.export` has taken it apart.

    Parameters
    ----------
    estimator : DenseAutoencoder or ConvAutoencoder
        Fitted. It stays as it is: the module holds copies.
    inverse : bool, default=False
        What `inverse_transform` computes instead.

    Returns
    -------
    module : torch.nn.Module
        On the CPU, in evaluation mode, without gradients and in the precision of the fit. It takes
        a dense tensor of shape (n, n_features), or of pictures for a `ConvAutoencoder`, and gives
        codes of shape (n, latent_dim); with ``inverse`` it takes codes and gives what
        `inverse_transform` does. Results are float64 for float64, else float32.

    Raises
    ------
    TypeError
        If ``estimator`` is no autoencoder of skae.

    See Also
    --------
    to_onnx : The same as an ONNX model, and whole pipelines.

    Examples
    --------
    >>> import torch
    >>> from sklearn.datasets import load_digits
    >>> from skae import DenseAutoencoder, to_torch
    >>> X = load_digits().data
    >>> module = to_torch(DenseAutoencoder(8, hidden_layer_sizes=()).fit(X))
    >>> module(torch.from_numpy(X)).shape
    torch.Size([1797, 8])
    """
    if not isinstance(estimator, BaseAutoencoder):
        raise TypeError(
            f"estimator must be a DenseAutoencoder or a ConvAutoencoder, got "
            f"{type(estimator).__name__}."
        )
    check_is_fitted(estimator)
    estimator = copy(estimator)  # which another thread may fit anew meanwhile
    autoencoder, scale = _half(estimator._state, inverse)
    if inverse:
        state = estimator._state
        shape = (estimator.n_features_in_,) if state.flat else state.shape
        module = Decoding(autoencoder, scale, shape)
    else:
        module = Encoding(autoencoder, scale)
    return module.eval().requires_grad_(False)


def _half(state, inverse):
    """A copy of the autoencoder of rows, without the networks not needed, and its code's scale."""
    codec = state.on(torch.device("cpu"))  # this machine may lack the device of the fit
    autoencoder = deepcopy(codec.module)
    linear_code = autoencoder.encoder is None
    for name in ("encoder",) if inverse else ("decoder", "refiner"):
        setattr(autoencoder, name, None)
    if isinstance(codec, PrincipalCodec):
        used = [codec.components.T]
        if inverse or not linear_code:
            used.append(codec.further_components.T)
        autoencoder = OnRows(codec.mean.clone(), torch.cat(used, dim=1), autoencoder)
    if state.code_scale is None:
        scale = torch.ones(state.latent_dim, dtype=codec.mean.dtype)
    else:
        scale = tensor_of(state.code_scale).clone()
    return autoencoder, scale
