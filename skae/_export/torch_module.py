"""`to_torch`: fitted autoencoders as plain torch modules."""

from copy import deepcopy
from typing import Any

import torch
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from .._estimators.base import BaseAutoencoder
from .._estimators.codec import PrincipalCodec
from .._runtime.execution import with_neutral_settings
from .._runtime.tensors import tensor_of


class RowAutoencoder(nn.Module):
    """An autoencoder of rows, from an autoencoder of principal component scores::

        z     = encode(V'(x - m))
        x_hat = m + V decode(z)

    **Shape**: x and x_hat (n, p); z (n, k); the mean m (p,); the directions V (p, r).
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


class Encoder(nn.Module):
    """``z = encode(x) / s``, in float64 for x in float64, else in float32.

    **Shape**: x (n, p), or (n, *shape) with the product p; z (n, k).
    """

    def __init__(self, autoencoder, scale):
        super().__init__()
        self.autoencoder = autoencoder
        self.register_buffer("scale", scale)

    def forward(self, x: Tensor) -> Tensor:
        z = self.autoencoder.encode(x.flatten(1).to(self.scale.dtype)) / self.scale
        return z.to(torch.promote_types(x.dtype, torch.float32))


class Decoder(nn.Module):
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


@with_neutral_settings
def to_torch(estimator: Any, *, inverse: bool = False) -> nn.Module:
    """Return what `transform` computes as a plain torch module.

    It contains the mean, the principal directions, the networks and the whitening. After
    `torch.export` it runs without skae.

    Parameters
    ----------
    estimator : DenseAutoencoder or ConvAutoencoder
        Fitted estimator. It is not changed: the module contains copies.
    inverse : bool, default=False
        Whether the module computes `inverse_transform` instead.

    Returns
    -------
    module : torch.nn.Module
        On the CPU, in evaluation mode, without gradients and in the precision of the fit. It takes
        a dense tensor of shape (n, n_features), or of pictures for a `ConvAutoencoder`, and returns
        codes of shape (n, latent_dim); with ``inverse`` it takes codes and returns the result of
        `inverse_transform`. Results are float64 for float64 input, else float32. Rows with missing
        entries have codes of NaN.

    Raises
    ------
    TypeError
        If ``estimator`` is not an autoencoder of skae.

    See Also
    --------
    to_onnx : Export autoencoders and whole pipelines as ONNX models.

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
            f"{type(estimator).__name__}: pass the autoencoder itself, the last step of a pipeline "
            f"or estimator_ of an AnomalyDetector."
        )
    check_is_fitted(estimator)
    state = estimator._state  # once: another thread may fit the estimator in the meantime
    autoencoder, scale = _encoder_or_decoder(state, inverse)
    if inverse:
        module = Decoder(autoencoder, scale, (len(state.mean),) if state.flat else state.shape)
    else:
        module = Encoder(autoencoder, scale)
    return module.eval().requires_grad_(False)


def _encoder_or_decoder(state, inverse):
    """A copy of the autoencoder of rows, without unused networks, and the scale of its codes."""
    codec = state.on(torch.device("cpu"))  # this machine may lack the device of the fit
    autoencoder = deepcopy(codec.module)
    linear_code = autoencoder.encoder is None
    for name in ("encoder",) if inverse else ("decoder", "refiner"):
        setattr(autoencoder, name, None)
    if isinstance(codec, PrincipalCodec):
        used = [codec.wide(codec.components)]
        if inverse or not linear_code:
            used.append(codec.wide(codec.further_components))
        autoencoder = RowAutoencoder(codec.mean.clone(), torch.cat(used, dim=1), autoencoder)
    if state.code_scale is None:
        scale = torch.ones(state.latent_dim, dtype=codec.mean.dtype)
    else:
        scale = tensor_of(state.code_scale).clone()
    return autoencoder, scale
