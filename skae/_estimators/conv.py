"""ConvAutoencoder: its parameters and its networks."""

import warnings
from collections.abc import Callable, Sequence
from numbers import Integral
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from sklearn.utils._param_validation import Interval, StrOptions

from .._data.arrays import with_results_in_kind
from .._data.blocks import Blocks
from .._data.items import as_pictures
from .._data.validation import as_blocks, flat_rows
from .._nn.builders import ConvNetworks
from .._nn.conv import checked_layout, layout_warning
from .._runtime.execution import on_snapshot
from .._training.gate import runs_to_try
from . import auto
from .auto import LARGEST, positive_integers, resolve_latent_dim, resolve_linear_path
from .base import BaseAutoencoder
from .coding import FittedAttribute
from .parameters import CONSTRAINTS, with_name_hints
from .plan import FitPlan, OnRows, length_of_code, network_settings


class ConvAutoencoder(BaseAutoencoder):
    """Convolutional autoencoder for pictures and signals that starts from PCA.

    A network f is added to the code of PCA. Two networks are added to its reconstruction: g takes
    the code, h takes the picture that PCA reconstructs from it::

        z     = V'(x - mean) + f(x - mean)
        x_hat = mean + V z + g(z) + h(V z)

    All three start at zero, so training starts at PCA. Validation rows decide whether they are
    kept; where they do not help, the model is PCA. They are trained for codes of up to 16
    dimensions, and for codes of up to 256 with at least 40 rows for each dimension (150 where X has
    more than twice as many columns as rows), or if they are custom (`encoder`).

    Convolutions are for columns that have an order. For columns without one, such as counts of
    words or of byte pairs, use `DenseAutoencoder`.

    Parameters
    ----------
    latent_dim : int or float in (0, 1), default=None
        Length k of the code; at most ``min(n_samples, n_features)`` with the linear path. A float
        is a share of the variance: the code has as many dimensions as PCA needs for that share of
        validation rows. None means ``min(32, n_samples, n_features)``, or a "map"'s length.
    input_shape : tuple of int, default=None
        Shape of one picture or signal: ``(28, 28)``, ``(32, 32, 3)``, ``(65536,)``. None takes it
        from X if that has more than two axes; if not, a row is a signal of n_features values.
    hidden_layer_sizes : "auto", int or tuple of int, default="auto"
        Widths of the layers between the convolutions and the code, with the dense bottleneck.
        "auto" is one of 512, followed by one of 256 for codes of up to 16 dimensions.
    supervision : float, default=0.0
        Weight of the labels y in training, as in `DenseAutoencoder`. 0 ignores y.
    missing_values : np.nan or None, default=None
        With np.nan, NaN in dense X is a missing entry: principal directions and losses are those
        of the observed entries, `transform` fills the others first, and reconstructions of codes
        can replace them; see docs/missing.md. None refuses X with NaN.
    whiten : bool or float in [0, 1], default=False
        Divide each code by this power of its standard deviation over the training rows; True is 1.
    tol : float, default=0.1
        Training ends when the second half of its steps has brought less than this share of all that
        was gained on validation rows. Smaller values train longer: 0.01 takes 1.2 to 15 times as
        long and gains a little more, 0.3 is for a first look.
    max_epochs : int or "auto", default="auto"
        Maximum number of passes over the training rows. "auto" leaves the end to `tol`; with
        ``early_stopping=False`` or a penalty it is about 1,200 steps in 8 to 30 passes.
    device : str or torch.device, default="auto"
        Where to compute. "auto" is the device of X if X is a tensor (see `transform`), else the
        accelerator that PyTorch finds if it supports float64, such as CUDA, else the CPU.
    random_state : int, RandomState instance or None, default=None
        Seeds the validation split, the initial weights and the batch order. None takes fresh
        entropy; global random states are neither used nor changed.
    verbose : int, default=0
        1 shows the present epoch in one line (in a file or from a worker of ``n_jobs``: lines after
        1, 2, 4, 8 ... epochs), 2 prints the plan and a line per epoch. Both end with a sentence
        about what was kept, and its gain on validation rows.

    Attributes
    ----------
    latent_dim_ : int
        Length of the code; ``n_components_``, its name in PCA, is the same.
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
    singular_values_ : ndarray of shape (latent_dim,)
        Singular values of the centred training rows, one for each direction. Linear path only.
    noise_variance_ : float
        Mean variance of the training rows along a direction beyond those of the code, as in
        probabilistic PCA; of the linear part. Linear path only.
    n_samples_ : int
        Number of training rows with a positive weight.
    nonlinear_gain_ : float
        Share of the variance of the validation rows that the networks explained beyond PCA; 0.0
        where PCA was kept. Linear path only.
    code_is_pca_ : bool
        Whether `transform` returns PCA's codes: PCA was kept, or only a decoder was trained.
    module_ : torch.nn.Module
        The fitted networks.
    n_iter_ : int
        Epochs of the run whose networks were kept; 0 where PCA was kept.
    interrupted_ : bool
        Whether Ctrl-C came during or after training; the model is then the best validated one.
    history_ : list of dict
        An entry for each epoch: "stage" (such as "training"), "epoch", "n_steps" (so far),
        "train_loss", "valid_loss" (mean error of a row, as in `score_samples`),
        "variance_explained" (as in `score`, of the validation rows), "variance_explained_by_pca"
        (of the same rows, where PCA is compared) and "dur" (seconds); with labels also
        "train_label_loss" and "valid_label_loss", and with `callbacks` the numbers they record.
    n_features_in_ : int
        Number of columns of flat X in `fit`: the values in a picture.
    feature_names_in_ : ndarray of shape (n_features,)
        Names of the columns of X in `fit`, if all were strings.

    Other Parameters
    ----------------
    channel_axis : int, default=None
        Axis of `input_shape` that counts channels, as in scikit-image: 0 for ``(3, 32, 32)`` and
        for a signal ``(channels, length)``. None means the last of three axes, and one channel
        otherwise.
    channels : "auto" or tuple of int, default="auto"
        Channels after each stage of convolutions; a stage halves the extents. "auto" adds stages
        until at most 8 positions are left along an axis: 32 channels after the last, 16 after those
        before. The network h has as many as the last stage.
    kernel_size : int, default=5
        Extent of the convolutions; odd.
    bottleneck : {"dense", "channels", "map"}, default="dense"
        Layers between the last stage and the code: fully connected layers; one convolution over
        all positions, to k channels; or one to a single channel, whose positions are the code.
    activation : {"elu", "gelu", "relu", "sigmoid", "silu", "softplus", "tanh"}, default="gelu"
        Activation of the hidden layers. In the same time "gelu" and "silu" explain most.
    encoder : torch.nn.Module or callable, default=None
        Custom encoder network. A module is copied for each `fit`; a callable returns one from the
        shapes of its input and output: ``encoder(shape, latent_dim)``, where ``shape`` is that of
        a picture, channels first. With the linear path its output, zero at first, is added to
        PCA's code.
    decoder : torch.nn.Module or callable, default=None
        Custom decoder network, likewise: ``decoder(latent_dim, shape)``. With the linear path its
        output is added to PCA's reconstruction, starting at zero.
    linear_path : bool or "auto", default="auto"
        Whether codes and reconstructions start from PCA's. False trains a plain autoencoder on X
        itself, with any ``latent_dim``. "auto" is True if the loss is "mse" and neither
        `output_activation` nor `penalty` is set, else False.
    loss : {"mse", "mae", "huber", "bce", "poisson", "multinomial", "cosine"}, default="mse"
        Reconstruction loss: squared or absolute error, Huber's mixture of both, binary
        cross-entropy (X in [0, 1]), Poisson or multinomial deviance (counts), cosine distance. All
        but "mse" train the plain network; see docs/losses.md.
    output_activation : same choice as activation, or None, default=None
        Last activation of the plain network, for example "sigmoid" for data in [0, 1].
    truncations : "auto" or tuple of int, default=None
        Lengths to which `truncate` can shorten codes after `fit`: networks are trained so that the
        first dimensions of a code reconstruct as well as they can by themselves. "auto" is 1, 2, 4
        ... below ``latent_dim``. Each length costs one more decoding per row in training, and
        whole codes reconstruct somewhat less well.
    penalty : {"l1", "contractive", "variational"}, default=None
        Penalty on the codes in training: on their absolute values ("l1", sparse codes); on their
        change with small changes of a row ("contractive"); or on their distance from a standard
        normal distribution ("variational": codes are the means, and `sample` draws new rows). It
        trains the plain network for all epochs and keeps the last one.
    alpha : float, default=1.0
        Weight of the penalty relative to the logarithm of the loss, so that it has no unit. With
        "variational", 1.0 is the evidence lower bound.
    fit_inverse_transform : bool, default=False
        Where the code remains PCA's, train a non-linear decoder for it, and keep it if its
        reconstructions beat PCA's on validation rows. It does not change `transform`. Custom
        decoders and `missing_values` do the same. KernelPCA has a parameter of this name.
    corruption : float or "auto", default="auto"
        Share of the encoder's inputs that are set to their mean in training, drawn anew for each
        batch: a denoising autoencoder. The rows to reconstruct are not changed, nor is PCA's part
        of the code. "auto" is 0.
    noise : float, default=0.0
        Standard deviation of normal noise that is added to the encoder's inputs in training, in
        units of their typical standard deviation.
    batch_size : int or "auto", default="auto"
        Rows in a batch. "auto" is 64, less where there would be fewer than 16 batches, and 192
        from 40,000 rows on. Larger batches keep a GPU busier, and need a larger rate.
    learning_rate : float or "auto", default="auto"
        Learning rate of AdamW, constant after 60 steps. "auto" is 0.002, and 0.003 from 40,000 rows
        on; twice that for plain networks. Lower it if a warning says that the loss exploded.
    weight_decay : float, default=0.01
        Decoupled weight decay of AdamW. Smaller values explain a little more of many rows.
    early_stopping : bool, default=True
        End training by the validation rows, as `tol` says. False trains for ``max_epochs``. In
        both cases the best weights on validation rows are kept.
    validation_fraction : float or "auto", default="auto"
        Share of the validation rows: runs of adjacent rows, or whole groups (see `fit`). A larger
        share makes the decision between networks and PCA a safer one. "auto" is 0.2 with the linear
        path and fewer than 1,000 rows, else 0.1, but at most 10,000 rows.
    precision : {"auto", "float32", "bfloat16"}, default="auto"
        Precision of matrix products and convolutions in training. "auto" is bfloat16 where the
        hardware computes faster with it; "float32" is for results that two kinds of machine share.
    warm_start : bool, default=False
        Start the networks from those of the previous `fit` where their shapes agree, as for rows
        that grow from day to day. Principal directions and the decision of validation rows are new.
    checkpoint : str or path-like, default=None
        Folder that stores the state of `fit` after every epoch and other long step. If the process
        is killed, the same call resumes from there and returns the same codes bit for bit. Needs
        an integer `random_state`. The folder is not removed.
    memory : str, path-like or joblib.Memory, default=None
        Cache of the principal directions, which fits on the same rows share, such as those of a
        search over ``latent_dim``. Codes are the same with it and without. Useful only with an
        integer `random_state`; see docs/scaling.md.
    callbacks : list of skorch callbacks, default=None
        Called in training, such as `skorch.callbacks.EarlyStopping`; the net that they are given
        has batch losses and ``valid_loss`` in its history. Callbacks of scikit-learn 1.9 are set
        with `set_callbacks`.

    See Also
    --------
    DenseAutoencoder : For columns without an order, and for wide sparse data.

    Notes
    -----
    X may contain pictures as flat rows or as an array of more axes; `inverse_transform` returns
    the form that `fit` was given. Integers such as uint8 are kept in memory as they are; batches
    are converted to float32.

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
    _needs_random_access = True

    _parameter_constraints = {
        **CONSTRAINTS,
        "input_shape": ["array-like", None],
        "channel_axis": [Integral, None],
        "channels": ["array-like", StrOptions({"auto"})],
        "kernel_size": [Interval(Integral, 1, LARGEST, closed="both")],
        "bottleneck": [StrOptions({"dense", "channels", "map"})],
    }

    @with_name_hints
    def __init__(
        self,
        latent_dim: float | None = None,
        *,
        input_shape: Sequence[int] | None = None,
        hidden_layer_sizes: int | Sequence[int] | str = "auto",
        supervision: float = 0.0,
        missing_values: float | None = None,
        whiten: bool | float = False,
        tol: float = 0.1,
        max_epochs: int | str = "auto",
        device: str | torch.device = "auto",
        random_state: int | np.random.RandomState | None = None,
        verbose: int = 0,
        channel_axis: int | None = None,
        channels: Sequence[int] | str = "auto",
        kernel_size: int = 5,
        bottleneck: str = "dense",
        activation: str = "gelu",
        encoder: Callable[..., Any] | None = None,
        decoder: Callable[..., Any] | None = None,
        linear_path: bool | str = "auto",
        loss: str = "mse",
        output_activation: str | None = None,
        truncations: Sequence[int] | str | None = None,
        penalty: str | None = None,
        alpha: float = 1.0,
        fit_inverse_transform: bool = False,
        corruption: float | str = "auto",
        noise: float = 0.0,
        batch_size: int | str = "auto",
        learning_rate: float | str = "auto",
        weight_decay: float = 0.01,
        early_stopping: bool = True,
        validation_fraction: float | str = "auto",
        precision: str = "auto",
        warm_start: bool = False,
        checkpoint: str | PathLike | None = None,
        memory: Any = None,
        callbacks: Sequence[Any] | None = None,
    ) -> None:
        self.latent_dim = latent_dim
        self.input_shape = input_shape
        self.hidden_layer_sizes = hidden_layer_sizes
        self.supervision = supervision
        self.missing_values = missing_values
        self.whiten = whiten
        self.tol = tol
        self.max_epochs = max_epochs
        self.device = device
        self.random_state = random_state
        self.verbose = verbose
        self.channel_axis = channel_axis
        self.channels = channels
        self.kernel_size = kernel_size
        self.bottleneck = bottleneck
        self.activation = activation
        self.encoder = encoder
        self.decoder = decoder
        self.linear_path = linear_path
        self.loss = loss
        self.output_activation = output_activation
        self.truncations = truncations
        self.penalty = penalty
        self.alpha = alpha
        self.fit_inverse_transform = fit_inverse_transform
        self.corruption = corruption
        self.noise = noise
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.precision = precision
        self.warm_start = warm_start
        self.checkpoint = checkpoint
        self.memory = memory
        self.callbacks = callbacks

    input_shape_ = FittedAttribute("shape")

    if not TYPE_CHECKING:  # for which any name would exist

        def __getattr__(self, name):
            if name == "partial_fit":
                raise AttributeError(
                    "ConvAutoencoder has no partial_fit: pass pictures on disk, a memory-mapped "
                    "array, an HDF5 dataset or a zarr array, to fit, which reads them in parts. "
                    "DenseAutoencoder has one."
                )
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    @on_snapshot
    @with_results_in_kind
    def inverse_transform(self, X: Any) -> np.ndarray:
        """Decode codes into pictures.

        Parameters
        ----------
        X : array-like of shape (n_samples, latent_dim)
            Codes as `transform` returns them.

        Returns
        -------
        X_hat : ndarray of shape (n_samples, n_features) or (n_samples, height, width, channels)
            Reconstructions: flat if `fit` was given flat rows, else of the shape of its pictures.
            They have the dtype of X if that is float32 or float64.
        """
        X_hat = super().inverse_transform(X)
        return X_hat if self._state.flat else X_hat.reshape(-1, *self.input_shape_)

    def _validate_rows(self, X, *, reset):
        X = as_pictures(X, None if reset else self.input_shape_)
        shape = tuple(getattr(X, "shape", ()))
        flat = len(shape) <= 2
        X = as_blocks(X)
        if not flat:
            expected = self.input_shape if reset else self.input_shape_
            if expected is not None and shape[1:] != positive_integers(expected, "input_shape"):
                raise ValueError(
                    f"X contains arrays of shape {shape[1:]}, but input_shape is {tuple(expected)}."
                )
            X = X if isinstance(X, Blocks) else flat_rows(X)
        if reset:
            self._shape_of_X = None if flat else shape[1:]
        return super()._validate_rows(X, reset=reset)

    def _identity_of_input(self):
        return {"shape of X": str(self._shape_of_X)}

    def _plan(self, given, options, rng, previous):
        (n, p), linear_path = given.X.shape, resolve_linear_path(self)
        layout = self._resolve_layout(p)
        channels = auto.resolve_channels(self.channels, layout.extents)
        if self.kernel_size % 2 == 0:
            raise ValueError(f"kernel_size={self.kernel_size} must be odd.")
        message = layout_warning(
            layout,
            shape_given=self.input_shape is not None,
            axis_given=self.channel_axis is not None,
        )
        if message is not None:
            warnings.warn(message, UserWarning, stacklevel=2)
        if self.bottleneck == "map":
            length = auto.length_of_map(self.latent_dim, layout.extents, len(channels))
            k = resolve_latent_dim(length, linear_path, n, p)
        else:
            k = length_of_code(self.latent_dim, linear_path, given, options, rng)
        is_dense = self.bottleneck == "dense"
        hidden = auto.resolve_hidden_layer_sizes(
            self.hidden_layer_sizes,
            auto.hidden_layer_sizes_after_convolutions(k) if is_dense else (),
        )
        if hidden and not is_dense:
            raise ValueError(
                f"hidden_layer_sizes={self.hidden_layer_sizes!r} needs bottleneck='dense': with "
                f"bottleneck={self.bottleneck!r} there is no layer between convolutions and code."
            )
        architecture = {
            "channels": channels,
            "kernel_size": self.kernel_size,
            "bottleneck": self.bottleneck,
            "hidden_layer_sizes": hidden,
            "activation": self.activation,
        }
        masked = 0.0 if self.corruption == "auto" else self.corruption
        settings = network_settings(self, k, masked, previous)
        refiner_width = auto.refiner_width(layout.extents, k, channels)
        networks = ConvNetworks(settings, layout, architecture, refiner_width)
        wishes = self._wishes()
        has_networks = not linear_path or bool(runs_to_try((n, p), k, wishes))
        if has_networks:
            networks.check(options.device)
        return FitPlan(
            networks,
            form=OnRows if linear_path else None,
            n_directions=k,
            has_networks=has_networks,
            wishes=wishes,
            memory=self.memory,
            fields={"shape": layout.shape, "flat": vars(self).pop("_shape_of_X") is None},
        )

    def _resolve_layout(self, n_features):
        shape = self.input_shape if self.input_shape is not None else self._shape_of_X
        shape = (n_features,) if shape is None else positive_integers(shape, "input_shape")
        return checked_layout(shape, self.channel_axis, n_features)
