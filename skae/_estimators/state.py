"""What a fit has learnt: a `FittedState`, its shorter codes, and its fields as plain data.

A `FittedState` does not depend on the parameters of an estimator, which may change after `fit`.
"""

from dataclasses import dataclass, field, fields, replace
from functools import partial
from numbers import Integral, Real
from threading import Lock

import numpy as np
import torch

from .._data.arrays import device_of, in_precision_for, is_tensor
from .._data.blocks import Blocks
from .._data.sparse import some_rows
from .._nn.autoencoders import (
    Autoencoder,
    PlainAutoencoder,
    ResidualAutoencoder,
    VariationalAutoencoder,
)
from .._runtime.device import in_pieces, resolve_device, supported_dtype
from .._runtime.precision import full_precision_convolutions
from .._runtime.tensors import batch_slices, tensor_of, torch_dtype
from .codec import PlainCodec, PrincipalCodec

# Bytes of rows for which codes, scores and reconstructions are computed at a time.
_CHUNK_BYTES = 256 * 2**20

# Threads that use a state at the same time share its codec.
_CODEC_LOCK = Lock()


@dataclass(frozen=True, eq=False)
class FittedState:
    """What a fit has learnt.

    Attributes
    ----------
    module : Autoencoder
        On the CPU, in evaluation mode.
    mean : ndarray of shape (p,)
        In the precision in which codes are computed.
    history : list of dict
    n_iter : int
    interrupted : bool
        Whether Ctrl-C ended the fit.
    components, further_components : ndarray of shape (k, p) and (r - k, p), or None
        The principal directions for the scores that the module takes; None if it takes rows.
    explained_variance, explained_variance_ratio : ndarray of shape (k,), or None
        None without a linear path, like the gain.
    nonlinear_gain : float or None
    gains_when_cut : dict
        Share of the variance beyond PCA for each length that codes can be truncated to.
    code_scale : ndarray of shape (k,), or None
        Divisors of the codes.
    n_rows, variances, total_variance : int, ndarray of shape (r,), float; or None
        Number of training rows, their variance along each direction, and their total variance,
        from which `partial_fit` starts. Without principal component scores the variances are None;
        without a linear path the total is, too.
    of_stream : bool
        Whether it comes from `partial_fit`, which needs more than this to continue.
    shape, flat : tuple of int or None, bool
        Shape of one picture, and whether reconstructions are flat rows.
    loadings : ndarray of shape (p, q), or None
        With which missing entries are filled; None if X may have none.
    columns, n_features : ndarray of int of shape (u,), int; or None
        Indices of the columns that have a part in the components, which are then of shape
        ``(k, u)``, and p. The mean may be given for these columns alone: that of others is zero.
    n_counted : int, float or None
        Number of rows by their weights, where it is not that of the rows.
    """

    module: Autoencoder
    mean: np.ndarray
    history: list
    n_iter: int
    interrupted: bool = False
    components: np.ndarray | None = None
    further_components: np.ndarray | None = None
    explained_variance: np.ndarray | None = None
    explained_variance_ratio: np.ndarray | None = None
    nonlinear_gain: float | None = None
    gains_when_cut: dict = field(default_factory=dict)
    code_scale: np.ndarray | None = None
    n_rows: int | None = None
    variances: np.ndarray | None = None
    total_variance: float | None = None
    of_stream: bool = False
    shape: tuple | None = None
    flat: bool = True
    loadings: np.ndarray | None = None
    columns: np.ndarray | None = None
    n_features: int | None = None
    n_counted: float | None = None

    def __post_init__(self):
        if self.columns is not None:
            object.__setattr__(self, "mean", self._in_all_columns(self.mean[None])[0])

    def _in_all_columns(self, rows):
        """Rows with zeros in the columns that have no part in the components."""
        if self.columns is None or rows.shape[1] != len(self.columns):
            return rows
        wide = np.zeros((len(rows), self.n_features), rows.dtype)
        wide[:, self.columns] = rows
        return wide

    latent_dim = property(lambda self: self.module.latent_dim)
    has_linear_path = property(lambda self: not isinstance(self.module, PlainAutoencoder))
    code_is_pca = property(lambda self: self.has_linear_path and self.module.encoder is None)
    is_variational = property(lambda self: isinstance(self.module, VariationalAutoencoder))

    @property
    def linear_components(self):
        """The principal directions, rows of shape (p,), wherever they are stored."""
        if self.components is None and self.has_linear_path:
            return self.module.directions.numpy().T
        return None if self.components is None else self._in_all_columns(self.components)

    @property
    def directions(self):
        """All principal directions, of shape (p, r)."""
        return self._in_all_columns(np.concatenate([self.components, self.further_components])).T

    def counted(self, n_counted):
        """The state of rows that are repeated as often as their weights say, of so many rows."""
        if self.n_rows is None or self.total_variance is None or n_counted == self.n_rows:
            return self
        factor = n_counted / (n_counted - 1) * (self.n_rows - 1) / self.n_rows
        names = ("explained_variance", "variances", "total_variance")
        known = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        scaled = {name: variance * factor for name, variance in known.items()}
        return replace(self, n_counted=n_counted, **scaled)

    @property
    def singular_values(self):
        """Singular values of the centred training rows, as PCA defines them; or None."""
        if self.n_rows is None or self.explained_variance is None:
            return None
        n_rows = self.n_counted or self.n_rows
        return np.sqrt((n_rows - 1) * np.maximum(self.explained_variance, 0))

    @property
    def noise_variance(self):
        """Mean variance along the directions beyond the code, as PCA defines it; or None."""
        if self.n_rows is None or self.total_variance is None:
            return None
        n_beyond = min(self.n_counted or self.n_rows, len(self.mean)) - self.latent_dim
        variance = float(self.total_variance - self.explained_variance.sum())
        return max(variance, 0.0) / n_beyond if n_beyond > 0 else 0.0

    @property
    def lengths(self):
        """The lengths that codes can be truncated to, including their present length."""
        if self.has_linear_path and not list(self.module.parameters()):
            return range(1, self.latent_dim + 1)
        return (*self.module.lengths, self.latent_dim)

    def truncated(self, latent_dim):
        """The state whose codes are the first dimensions of these."""
        if latent_dim == self.latent_dim:
            return self
        changes = {"module": self.module.truncated(latent_dim), "of_stream": False}
        if self.code_scale is not None:
            changes["code_scale"] = self.code_scale[:latent_dim]
        if self.has_linear_path:
            changes |= {
                "explained_variance": self.explained_variance[:latent_dim],
                "explained_variance_ratio": self.explained_variance_ratio[:latent_dim],
                "nonlinear_gain": self.gains_when_cut.get(latent_dim, 0.0),
            }
        if self.components is not None:
            directions = np.concatenate([self.components, self.further_components]).T
            if changes["module"].decoder is None:
                changes["module"] = pca_module(latent_dim, self.mean.dtype)
                directions = directions[:, :latent_dim]
            components = split_directions(torch.from_numpy(directions), latent_dim)
            changes["components"], changes["further_components"] = components
            if self.variances is not None:
                changes["variances"] = self.variances[: directions.shape[1]]
        return replace(self, **changes)

    def on(self, device):
        """The `Codec` that computes on a device.

        That of the last device other than the CPU is kept until the state is dropped: to copy
        directions and networks to the device takes longer than to encode a few rows there.
        """
        kind = PlainCodec if self.components is None else PrincipalCodec
        if device.type == "cpu":
            return kind(self, device)
        device = torch.empty(0, device=device).device  # with the index of the current one
        version = _version_of(self.module)
        with _CODEC_LOCK:
            *key, codec = vars(self).get("_codec", (None, None, None))
            if key != [device, version]:
                vars(self).pop("_codec", None)
                codec = None  # before there are two on the device
                with torch.inference_mode(False):
                    codec = kind(self, device)
                vars(self)["_codec"] = (device, version, codec)
        return codec

    def __getstate__(self):
        return {entry.name: getattr(self, entry.name) for entry in fields(self)}

    def encode(self, X, device):
        """Codes of rows, of shape (n, k), of the `output_dtype` of X.

        They are an ndarray, or a tensor on the device of X if X is one.

        Parameters
        ----------
        X : ndarray, CSR matrix, Blocks or tensor on an accelerator, of shape (n, p)
        device : str or torch.device
            The parameter ``device`` of an estimator.
        """
        return in_precision_for(X, self._codes(X, device))

    def _codes(self, X, device):
        """The same in the precision of the mean."""
        if isinstance(X, Blocks):
            return np.concatenate(list(X.apply(partial(self._codes, device=device))))
        codec = self.on(resolve_device(device))
        codes = _empty((X.shape[0], self.latent_dim), self.mean.dtype, like=X)

        def encode(rows):
            codes[rows] = codec.encode(codec.rows(some_rows(X, rows)))

        in_chunks(codec, X.shape[0], codec.bytes_of_row(X), encode)
        if self.code_scale is not None:
            codes /= tensor_of(self.code_scale).to(codes)
        return codes if is_tensor(X) else codes.numpy()

    def decode(self, Z, device):
        """Reconstructions of codes, of shape (n, p): of the type, dtype and device of the codes."""
        codec = self.on(resolve_device(device))
        codes = Z if is_tensor(Z) else tensor_of(Z)
        X_hat = _empty((len(Z), len(self.mean)), Z.dtype, like=Z)
        codes = codes.to(supported_dtype(torch_dtype(self.mean.dtype), codes.device))
        if self.code_scale is not None:
            codes = codes * tensor_of(self.code_scale).to(codes)

        def decode(rows):
            # A copy: layers of a custom decoder may work in place.
            X_hat[rows] = codec.decode(codec.placed(codes[rows].clone()))

        in_chunks(codec, len(Z), self.mean.nbytes, decode)
        return X_hat if is_tensor(Z) else X_hat.numpy()

    def errors(self, X, device, *methods):
        """What methods of a `Codec` return for each row: float64 of shape (len(methods), n).

        An ndarray, or a tensor on the device of X if X is one.
        """
        if isinstance(X, Blocks):
            return np.hstack(list(X.apply(lambda block: self.errors(block, device, *methods))))
        codec = self.on(resolve_device(device))
        errors = _empty((len(methods), X.shape[0]), np.dtype(np.float64), like=X)

        def compare(chunk):
            rows = codec.rows(some_rows(X, chunk), compared=True)
            for results, method in zip(errors, methods, strict=True):
                results[chunk] = getattr(codec, method)(rows)

        in_chunks(codec, X.shape[0], codec.bytes_of_row(X), compare)
        return errors if is_tensor(X) else errors.numpy()

    def to_plain(self):
        """The fields as a dict: arrays, numbers, lists, dicts and the module."""
        plain = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        if self.columns is not None:
            plain["mean"] = self.mean[self.columns]
        return plain

    @classmethod
    def from_plain(cls, plain):
        """The state of `to_plain`.

        Raises
        ------
        ValueError
            If a field is missing or unknown, or fields are inconsistent.
        """
        names = {entry.name for entry in fields(cls)}
        if set(plain) != names:
            raise ValueError(f"fields missing or unknown: {', '.join(sorted(set(plain) ^ names))}")
        state = cls(**plain)
        state._check_kinds()
        state._check_shapes()
        return state

    def _check_kinds(self):
        array, none = np.ndarray, type(None)
        kinds = [
            (Autoencoder, "module"),
            (list, "history"),
            (dict, "gains_when_cut"),
            (bool, "interrupted", "of_stream", "flat"),
            (Integral, "n_iter"),
            ((Integral, none), "n_rows"),
            ((Real, none), "nonlinear_gain", "total_variance"),
            ((tuple, none), "shape"),
            (array, "mean"),
            ((array, none), "code_scale", "components", "further_components", "variances"),
            ((array, none), "loadings", "columns"),
            ((Integral, none), "n_features"),
            ((Real, none), "n_counted"),
        ]
        if self.has_linear_path:
            kinds.append((array, "explained_variance", "explained_variance_ratio"))
            kinds.append((Real, "nonlinear_gain"))
        if self.components is not None:
            kinds.append((array, "further_components"))
        if self.n_rows is not None and self.components is not None and not self.of_stream:
            kinds += [(array, "variances"), (Real, "total_variance")]
        for kind, *names in kinds:
            for name in names:
                value = getattr(self, name)
                if not isinstance(value, kind):
                    raise ValueError(f"{name} is of type {type(value).__name__}")

    def _check_shapes(self):
        k, p = self.latent_dim, len(self.mean)
        of_codes = ("explained_variance", "explained_variance_ratio", "code_scale")
        expected = {"mean": (p,), **dict.fromkeys(of_codes, (k,))}
        if isinstance(self.module, ResidualAutoencoder):
            r, u = len(self.module.scale), p if self.columns is None else len(self.columns)
            expected |= {
                "components": (k, u),
                "further_components": (r - k, u),
                "variances": (r,),
            }
            if self.components is None:
                raise ValueError("components are missing")
        if self.loadings is not None:
            expected["loadings"] = (p, self.loadings.shape[-1])
        for name, shape in expected.items():
            array = getattr(self, name)
            if array is not None and array.shape != shape:
                raise ValueError(f"{name} is of shape {array.shape}, not {shape}")
        codec = self.on(torch.device("cpu"))
        rows = codec.rows(np.ones((1, p), self.mean.dtype))
        codes = codec.encode(rows)
        shapes = (*codes.shape, *codec.decode(codes).shape, *codec.errors(rows).shape)
        if shapes != (1, k, 1, p, 1):
            raise ValueError("the networks do not fit the other fields")


def fitted_state(module, mean, dtype, **others):
    """The `FittedState` of a trained module, on the CPU and in the given precision."""
    module = module.cpu().to(torch_dtype(dtype)).eval()
    return FittedState(module=module, mean=mean.astype(dtype), **others)


def pca_module(latent_dim, dtype=np.float32):
    """The module of PCA on scores: it has no networks."""
    scale = torch.ones(latent_dim, dtype=torch_dtype(np.dtype(dtype)))
    return ResidualAutoencoder(scale, latent_dim).eval()


def split_directions(directions, latent_dim):
    """Directions of shape (p, r) as the rows of two arrays: the first k, and the others."""
    parts = directions.cpu().tensor_split([latent_dim], dim=1)
    # Each is contiguous after transposing, as products with sparse rows need.
    return tuple(part.contiguous().numpy().T for part in parts)


def _empty(shape, dtype, like):
    """A new tensor for results: on the device of X if X is a tensor, else on the CPU."""
    device = device_of(like)
    dtype = dtype if isinstance(dtype, torch.dtype) else torch_dtype(dtype)
    return torch.empty(shape, dtype=supported_dtype(dtype, device), device=device)


def _version_of(module):
    """A number of each weight and buffer that changes when it is changed in place."""
    tensors = module.state_dict(keep_vars=True).values()
    return [(id(tensor), 0 if tensor.is_inference() else tensor._version) for tensor in tensors]


def in_chunks(codec, n_rows, row_bytes, compute):
    """Call a function that uses a codec for slices of rows that fit into memory."""
    with full_precision_convolutions(codec.module, codec.device):
        for chunk in batch_slices(n_rows, row_bytes, _CHUNK_BYTES):
            rows = range(chunk.start, chunk.stop)
            in_pieces(rows, lambda piece: compute(slice(piece.start, piece.stop)))
