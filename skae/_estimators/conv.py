"""ConvAutoencoder: its parameters, and how its modules are built."""

import warnings
from collections.abc import Callable, Sequence
from math import prod
from numbers import Integral
from os import PathLike
from typing import Any

import numpy as np
import torch
from sklearn.utils._param_validation import Interval, StrOptions

from .._data.blocks import Blocks
from .._data.validation import as_blocks
from .._nn.autoencoders import LinearPathAutoencoder
from .._nn.builders import ConvNetworks
from .._nn.conv import checked_layout, layout_warning, stage_extents
from .._runtime.execution import on_snapshot
from .._training.residual import RowsProblem
from . import auto
from .auto import LARGEST, positive_integers, resolve_latent_dim, resolve_linear_path
from .base import BaseAutoencoder
from .fitting import length_of_code, network_settings
from .parameters import CONSTRAINTS, naming_ours
from .state import Learnt


class ConvAutoencoder(BaseAutoencoder):
    """Autoencoder of convolutions, for pictures and signals, that starts from PCA.

    The code is PCA's plus what a convolutional network f adds; the reconstruction is PCA's plus
    what g draws from the code, plus what h corrects in the picture that PCA draws from it::

        z     = V'(x - mean) + f(x - mean)
        x_hat = mean + V z + g(z) + h(V z)

    All three start at zero, so training starts at PCA; rows put aside decide whether they stay,
    f apart from the others, and where they do not help the model remains PCA.

    Convolutions are for columns that have an order. Where columns have none, as in counts of
    words or of byte pairs, `DenseAutoencoder` is the better tool.

    Parameters
    ----------
    latent_dim : int or float in (0, 1), default=None
        Length k of the code; at most ``min(n_samples, n_features)`` with the linear path. A
        float is a share of the variance: the code is as long as PCA's that explains so much of
        rows it has not seen. None means ``min(32, n_samples, n_features)``, or what a "map" has.
    input_shape : tuple of int, default=None
        Shape of one picture or signal: ``(28, 28)``, ``(32, 32, 3)``, ``(65536,)``. None takes it
        from X if that has more than two axes; if not, a row is a signal of n_features numbers.
    channel_axis : int, default=None
        Which axis of `input_shape` counts channels, as in scikit-image: 0 for ``(3, 32, 32)`` and
        for a signal ``(channels, length)``. None means the last of three axes, and one channel
        otherwise.
    channels : "auto" or tuple of int, default="auto"
        Channels after each stage of convolutions; a stage halves the extents. "auto" has stages
        until at most 8 positions are left along an axis: 64 channels after the last, half as many
        after the one before, and so on down to 16.
    kernel_size : int, default=5
        Extent of the convolutions; odd.
    n_convs_per_stage : int, default=1
        Convolutions in a stage; the first of them has stride 2.
    bottleneck : {"dense", "channels", "map"}, default="dense"
        From the last stage to the code: fully connected layers; one convolution over all that is
        left, to k channels; or one to a single channel, whose positions are the code.
    hidden_layer_sizes : "auto", int or tuple of int, default="auto"
        Widths of the layers between the convolutions and the code, with the dense bottleneck.
        "auto" is one of 512, followed by one of 256 up to four numbers.
    activation : {"elu", "gelu", "relu", "sigmoid", "silu", "softplus", "tanh"}, default="gelu"
        Activation between the layers.
    encoder, decoder : torch.nn.Module or callable, default=None
        One's own networks in place of ours. A module is copied for each `fit`; a callable makes
        one from the numbers it takes and returns: ``encoder(shape, latent_dim)`` and
        ``decoder(latent_dim, shape)``, with the shape of a picture, channels first. With the
        linear path they are what is added to PCA, from zero on.
    linear_path : bool or "auto", default="auto"
        Whether codes and reconstructions start from PCA's. False gives the plain convolutional
        autoencoder, which takes any ``latent_dim``. "auto" is True if the loss is "mse" and
        neither `output_activation` nor `penalty` is set, else False.
    loss : {"mse", "mae", "huber", "bce", "poisson", "multinomial", "cosine"}, default="mse"
        Reconstruction loss: squared or absolute error, Huber's mixture of both, binary
        cross-entropy (X in [0, 1]), Poisson or multinomial deviance (counts), cosine distance.
        All but "mse" train the plain network; docs/losses.md says more.
    output_activation : same choice as activation, or None, default=None
        Last activation of the plain network, for example "sigmoid" for data in [0, 1].
    truncations : "auto" or tuple of int, default=None
        Lengths that codes can be cut to after `fit`, by `truncate`: networks are trained so that
        the first numbers of a code reconstruct as well as they can by themselves. "auto" is 1, 2,
        4 ... below ``latent_dim``. It costs a decoding more for each length and row, and whole
        codes some of their worth.
    penalty : {"l1", "contractive", "variational"}, default=None
        What codes are charged for in training: being far from zero, for many rows ("l1", sparse
        codes); changing with small changes of a row; or being far from standard normal, as in the
        variational autoencoder, whose codes are the means and whose `sample` draws new rows.
        Trains the plain network; all epochs are then made, and the last one is kept.
    alpha : float, default=1.0
        Weight of the penalty against the logarithm of the loss, so that it has no unit; for
        "variational" 1.0 is the evidence lower bound.
    supervision : float, default=0.0
        Weight of the labels y in training, as in `DenseAutoencoder`. 0 ignores y.
    whiten : bool, default=False
        Divide each code by its standard deviation over the training rows.
    corruption : float or "auto", default="auto"
        Share of the encoder's inputs that are set to their mean in training, afresh in each
        batch: a denoising autoencoder. The rows to reconstruct stay whole; with the linear path
        so does PCA's part of the code. "auto" is 0.
    noise : float, default=0.0
        Standard deviation of normal noise that is added to the encoder's inputs in training,
        likewise; in units of their typical deviation.
    max_epochs : int or "auto", default="auto"
        Most passes over the training rows. "auto" makes about 1,200 steps, in 4 to 30 passes.
    batch_size : int or "auto", default="auto"
        Rows in a batch. "auto" is 128, and less where there would be fewer than 16 batches.
    learning_rate : float or "auto", default="auto"
        Highest learning rate of AdamW's one-cycle schedule. "auto" is 0.004.
    weight_decay : float, default=0.3
        Decoupled weight decay of AdamW.
    early_stopping : bool, default=True
        Stop training when the validation loss stops improving, as in `DenseAutoencoder`.
    validation_fraction : float, default=0.1
        Share of the rows to put aside, in runs of neighbouring rows.
    n_iter_no_change : int, default=10
        Epochs to wait for an improvement on the rows put aside.
    tol : float, default=1e-4
        Share by which the validation loss must fall to count as an improvement.
    device : str or torch.device, default="auto"
        Where to compute; "auto" is the first CUDA device if there is one, else the CPU.
    precision : {"auto", "float32", "bfloat16"}, default="auto"
        Of the convolutions in training. "auto" is bfloat16 where the hardware multiplies it
        faster.
    warm_start : bool, default=False
        Start the networks from those of the previous `fit`, where their shapes agree. The
        principal directions are found anew, and the rows put aside decide anew.
    checkpoint : str or path-like, default=None
        Folder to keep the state of `fit` in, after every epoch and other long step. If it is
        killed, the same call goes on from there, to the same codes bit for bit. Needs an integer
        `random_state`. The folder is not removed.
    memory : str or joblib.Memory, default=None
        Where fits on the same rows share what finding principal directions takes, such as those
        of a search over ``latent_dim``. Codes are the same with it and without. Needs an integer
        `random_state` to be of use; docs/scaling.md says more.
    callbacks : list of skorch callbacks, default=None
        Called at every stage of training, as in `DenseAutoencoder`.
    random_state : int, RandomState instance or None, default=None
        Of the rows put aside, the first weights and the order of training. None takes fresh
        entropy; global random states are neither used nor changed.
    verbose : int, default=0
        1 shows one progress bar (in a file, and from each worker of ``n_jobs``, about ten lines),
        2 prints a line an epoch; both end with what was kept and what it gained on validation rows.

    Attributes
    ----------
    latent_dim_ : int
        Length of the code; PCA's name for it, ``n_components_``, is another for the same.
    input_shape_ : tuple of int
        Shape of one picture or signal.
    mean_ : ndarray of shape (n_features,)
        Mean of the training rows.
    components_ : ndarray of shape (latent_dim, n_features)
        Principal directions, the linear part of the code. Linear path only.
    explained_variance_ : ndarray of shape (latent_dim,)
        Variance of the training rows along each direction. Linear path only.
    explained_variance_ratio_ : ndarray of shape (latent_dim,)
        Share of the training rows' variance along each direction. Linear path only.
    nonlinear_gain_ : float
        Share of the variance of the rows put aside that the networks explained beyond PCA in
        the trial run; 0.0 where PCA was kept. Linear path only.
    module_ : torch.nn.Module
        The fitted networks.
    n_iter_ : int
        Epochs of the last training, on all rows; 0 where PCA was kept, or Ctrl-C came before it.
    interrupted_ : bool
        Whether Ctrl-C came in training or after it: the model is the best that had proved itself.
    history_ : list of dict
        One entry for each epoch of each stage: "stage", "epoch", "train_loss" and, but for the
        training on all rows, "valid_loss" (mean error of a row, as in `score_samples`),
        "variance_explained" (as in `score`, of the rows put aside where there is a "valid_loss"),
        "variance_explained_by_pca" (of the same rows, where PCA is what there is to beat) and "dur"
        (seconds); with labels also "train_label_loss" and "valid_label_loss".
    n_features_in_ : int
        Numbers in a picture: the columns of flat X in `fit`.
    feature_names_in_ : ndarray of shape (n_features,)
        Names of the columns of X in `fit`, if all were strings.

    See Also
    --------
    DenseAutoencoder : For columns without an order, and for wide sparse data.

    Notes
    -----
    X may hold pictures as flat rows or as an array of more axes. `inverse_transform` returns what
    `fit` was given. Integers such as uint8 stay what they are in memory; batches become float32.

    References
    ----------
    Masci et al., `Stacked Convolutional Auto-Encoders for Hierarchical Feature Extraction
    <https://doi.org/10.1007/978-3-642-21735-7_7>`_ (2011). A convolutional network that adds a
    correction to a picture: Zhang et al., `Beyond a Gaussian Denoiser
    <https://arxiv.org/abs/1608.03981>`_ (2017).

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skae import ConvAutoencoder
    >>> images = load_digits().images
    >>> autoencoder = ConvAutoencoder(8, max_epochs=10, random_state=0).fit(images[:1500])
    >>> codes = autoencoder.transform(images[1500:])
    >>> codes.shape, autoencoder.inverse_transform(codes).shape
    ((297, 8), (297, 8, 8))
    """

    _schedule = staticmethod(auto.conv_schedule)
    _draws_rows = True

    _parameter_constraints = {
        **CONSTRAINTS,
        "input_shape": ["array-like", None],
        "channel_axis": [Integral, None],
        "channels": ["array-like", StrOptions({"auto"})],
        "kernel_size": [Interval(Integral, 1, LARGEST, closed="both")],
        "n_convs_per_stage": [Interval(Integral, 1, 100, closed="both")],
        "bottleneck": [StrOptions({"dense", "channels", "map"})],
    }

    @naming_ours
    def __init__(
        self,
        latent_dim: float | None = None,
        *,
        input_shape: Sequence[int] | None = None,
        channel_axis: int | None = None,
        channels: Sequence[int] | str = "auto",
        kernel_size: int = 5,
        n_convs_per_stage: int = 1,
        bottleneck: str = "dense",
        hidden_layer_sizes: int | Sequence[int] | str = "auto",
        activation: str = "gelu",
        encoder: Callable[..., Any] | None = None,
        decoder: Callable[..., Any] | None = None,
        linear_path: bool | str = "auto",
        loss: str = "mse",
        output_activation: str | None = None,
        truncations: Sequence[int] | str | None = None,
        penalty: str | None = None,
        alpha: float = 1.0,
        supervision: float = 0.0,
        whiten: bool = False,
        corruption: float | str = "auto",
        noise: float = 0.0,
        max_epochs: int | str = "auto",
        batch_size: int | str = "auto",
        learning_rate: float | str = "auto",
        weight_decay: float = 0.3,
        early_stopping: bool = True,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 10,
        tol: float = 1e-4,
        device: str | torch.device = "auto",
        precision: str = "auto",
        warm_start: bool = False,
        checkpoint: str | PathLike | None = None,
        memory: Any = None,
        callbacks: Sequence[Any] | None = None,
        random_state: int | np.random.RandomState | None = None,
        verbose: int = 0,
    ) -> None:
        self.latent_dim = latent_dim
        self.input_shape = input_shape
        self.channel_axis = channel_axis
        self.channels = channels
        self.kernel_size = kernel_size
        self.n_convs_per_stage = n_convs_per_stage
        self.bottleneck = bottleneck
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.encoder = encoder
        self.decoder = decoder
        self.linear_path = linear_path
        self.loss = loss
        self.output_activation = output_activation
        self.truncations = truncations
        self.penalty = penalty
        self.alpha = alpha
        self.supervision = supervision
        self.whiten = whiten
        self.corruption = corruption
        self.noise = noise
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.tol = tol
        self.device = device
        self.precision = precision
        self.warm_start = warm_start
        self.checkpoint = checkpoint
        self.memory = memory
        self.callbacks = callbacks
        self.random_state = random_state
        self.verbose = verbose

    input_shape_ = Learnt("shape")

    @on_snapshot
    def inverse_transform(self, X: Any) -> np.ndarray:
        """Decode codes into pictures.

        Parameters
        ----------
        X : array-like of shape (n_samples, latent_dim)
            Codes as `transform` returns them.

        Returns
        -------
        X_hat : ndarray of shape (n_samples, n_features) or (n_samples, height, width, channels)
            Reconstructions, flat if `fit` was given flat rows, else of the shape of its pictures,
            with the dtype of X if that is float32 or float64.
        """
        X_hat = super().inverse_transform(X)
        return X_hat if self._state.flat else X_hat.reshape(-1, *self.input_shape_)

    def _validate_rows(self, X, *, reset):
        if isinstance(X, (list, tuple)):
            X = np.asarray(X)
        shape = tuple(getattr(X, "shape", ()))
        flat = len(shape) <= 2
        X = as_blocks(X)
        if not flat:
            expected = self.input_shape if reset else self.input_shape_
            if expected is not None and shape[1:] != positive_integers(expected, "input_shape"):
                raise ValueError(
                    f"X holds arrays of shape {shape[1:]}, but input_shape is {tuple(expected)}."
                )
            if not isinstance(X, Blocks):
                X = np.asarray(X).reshape(len(X), -1)
        if reset:
            self._shape_of_X = None if flat else shape[1:]
        return super()._validate_rows(X, reset=reset)

    def _identity(self, X, weights):
        return {**super()._identity(X, weights), "shape of X": str(self._shape_of_X)}

    def _networks(self, X, weights, options, rng, previous):
        linear_path = resolve_linear_path(self)
        layout = self._resolve_layout(X.shape[1])
        channels = self._resolve_channels(layout)
        if self.kernel_size % 2 == 0:
            raise ValueError(f"kernel_size={self.kernel_size} must be odd.")
        doubt = layout_warning(
            layout,
            shape_given=self.input_shape is not None,
            axis_given=self.channel_axis is not None,
        )
        if doubt is not None:
            warnings.warn(doubt, UserWarning, stacklevel=2)
        if self.bottleneck == "map":
            length = self._length_of_map(layout, channels)
            k = resolve_latent_dim(length, linear_path, *X.shape)
        else:
            k = length_of_code(self, X, weights, options, rng)
        is_dense = self.bottleneck == "dense"
        hidden = auto.resolve_hidden_layer_sizes(
            self.hidden_layer_sizes,
            auto.hidden_layer_sizes_after_convolutions(k) if is_dense else (),
        )
        if hidden and not is_dense:
            raise ValueError(
                f"hidden_layer_sizes={self.hidden_layer_sizes!r} needs bottleneck='dense': with "
                f"bottleneck={self.bottleneck!r} nothing lies between convolutions and code."
            )
        architecture = {
            "channels": channels,
            "kernel_size": self.kernel_size,
            "n_convs_per_stage": self.n_convs_per_stage,
            "bottleneck": self.bottleneck,
            "hidden_layer_sizes": hidden,
            "dropout": auto.dropout(X.shape[0]) if linear_path else 0.0,
            "activation": self.activation,
        }
        masked = 0.0 if self.corruption == "auto" else self.corruption
        settings = network_settings(self, k, masked, previous)
        refiner_width = auto.refiner_width(layout.extents, k)
        networks = ConvNetworks(settings, layout, architecture, refiner_width)
        networks.check(options.device)
        return networks

    def _n_directions(self, networks, n_samples, n_features):
        return networks.settings.latent_dim

    def _problem(self, rows, basis, networks, build, device):
        return RowsProblem(rows, basis, build)

    def _fields(self, module, rows, basis, dtype, latent_dim):
        if module is None:
            scale = torch.ones(latent_dim, dtype=torch.float32)
            module = LinearPathAutoencoder(torch.from_numpy(rows.mean), basis.directions, scale)
        return {"module": module, "dtype": dtype}

    def _fields_of_input(self, networks):
        shape_of_X = vars(self).pop("_shape_of_X")  # no longer needed
        return {"shape": networks.layout.shape, "flat": shape_of_X is None}

    def _resolve_layout(self, n_features):
        shape = self.input_shape if self.input_shape is not None else self._shape_of_X
        shape = (n_features,) if shape is None else positive_integers(shape, "input_shape")
        return checked_layout(shape, self.channel_axis, n_features)

    def _resolve_channels(self, layout):
        if isinstance(self.channels, str):  # "auto"
            return auto.channels(layout.extents)
        channels = positive_integers(self.channels, "channels")
        if not channels:
            raise ValueError("channels=() must be 'auto' or at least one positive integer.")
        return channels

    def _length_of_map(self, layout, channels):
        smallest = stage_extents(layout.extents, len(channels))[-1]
        length = prod(smallest)
        if self.latent_dim not in (None, length):
            raise ValueError(
                f"latent_dim={self.latent_dim} must be {' x '.join(map(str, smallest))} = {length} "
                f"with bottleneck='map': what {len(channels)} stages of stride 2 leave of "
                f"{' x '.join(map(str, layout.extents))}. Change channels to have more or fewer."
            )
        return length
