"""DenseAutoencoder: its parameters and its networks."""

from collections.abc import Callable, Sequence
from os import PathLike
from typing import Any

import numpy as np
import torch

from .._nn.builders import DenseNetworks
from .._training.gate import DECODER, runs_to_try
from . import auto
from .auto import resolve_linear_path
from .base import BaseAutoencoder
from .parameters import with_name_hints
from .plan import FitPlan, OnScores, length_of_code, network_settings
from .streaming import StreamingMixin


class DenseAutoencoder(StreamingMixin, BaseAutoencoder):
    """Autoencoder of fully connected networks that starts from PCA and only improves on it.

    A network f is added to the code of PCA, and a network g to its reconstruction::

        z     = V_k' (x - mean) + f(y)         y = V_r' (x - mean)
        x_hat = mean + V_r ([z; 0] + g(z))

    ``V_r`` are the leading r principal directions. Both networks start at zero, so training
    starts at PCA. Validation rows decide whether the networks are kept; where they do not help, the
    model is PCA. They are trained for codes of up to 16 dimensions, and for codes of up to 256 with
    at least 40 rows for each dimension (150 where X has more than twice as many columns as rows),
    or with labels (`supervision`), or if they are custom (`encoder`). What they add shrinks with
    the distance from the training rows: very distant rows are coded nearly as by PCA. Since ``V_r``
    is orthonormal, the networks train on the r scores of each row and not on the columns of X: wide
    sparse data needs no more memory than PCA.

    Parameters
    ----------
    latent_dim : int or float in (0, 1), default=None
        Length k of the code; at most ``min(n_samples, n_features)`` with the linear path. A float
        is a share of the variance: the code has as many dimensions as PCA needs for that share of
        validation rows. None means ``min(32, n_samples, n_features)``.
    hidden_layer_sizes : "auto", int or tuple of int, default="auto"
        Widths of the encoder's hidden layers; the decoder has them in reverse order. "auto" is two
        layers for short codes (three from 40,000 rows on) and one wide layer for long ones. ``()``
        with the linear path is PCA alone, for X of any size and sparsity.
    supervision : float, default=0.0
        Weight of the labels y in training: of the cross-entropy of a linear classifier of the
        codes, or of the squared error of a linear regressor of a standardised target, relative to
        the logarithm of the loss. 0 ignores y. 3.0 is recommended; 0.3 costs hardly any variance.
        The classifier is removed after training; see docs/codes.md.
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
        Number of columns of X in `fit`.
    feature_names_in_ : ndarray of shape (n_features,)
        Names of the columns of X in `fit`, if all were strings.

    Other Parameters
    ----------------
    activation : {"elu", "gelu", "relu", "sigmoid", "silu", "softplus", "tanh"}, default="gelu"
        Activation of the hidden layers. In the same time "gelu" and "silu" explain most.
    encoder : torch.nn.Module or callable, default=None
        Custom encoder network. A module is copied for each `fit`; a callable returns one from the
        sizes of its input and output: ``encoder(n_inputs, latent_dim)``. With the linear path the
        network takes ``min(latent_dim + 256, n_samples, n_features)`` scores, and its output is
        added to PCA's code, starting at zero; else it takes the columns of X.
    decoder : torch.nn.Module or callable, default=None
        Custom decoder network, likewise: ``decoder(latent_dim, n_outputs)``. With the linear path
        its output is added to the scores of PCA's reconstruction, starting at zero; else it is
        the reconstruction.
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
        of the code. "auto" is 0.1 with the linear path if X has more columns than rows and codes
        have more than 16 dimensions, else 0.
    noise : float, default=0.0
        Standard deviation of normal noise that is added to the encoder's inputs in training, in
        units of their typical standard deviation.
    batch_size : int or "auto", default="auto"
        Rows in a batch. "auto" is 128, less where there would be fewer than 16 batches, and 256
        from 40,000 rows on. Larger batches keep a GPU busier, and need a larger rate.
    learning_rate : float or "auto", default="auto"
        Learning rate of AdamW, constant after 60 steps. "auto" is 0.002, or 0.0025 if X has at
        least as many rows as columns; twice that from 40,000 rows on, and for plain networks. Lower
        it if a warning says that the loss exploded.
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
    sklearn.decomposition.PCA : The linear model, for dense data.
    sklearn.decomposition.TruncatedSVD : The linear model without centring, for sparse data.

    References
    ----------
    PCA as the start of an autoencoder: `PCA-Boosted Autoencoders
    <https://arxiv.org/abs/2205.11673>`_. The directions of wide data by block Krylov iteration:
    Musco and Musco, `Randomized Block Krylov Methods for Stronger and Faster Approximate Singular
    Value Decomposition <https://arxiv.org/abs/1504.05477>`_ (2015).

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.decomposition import PCA
    >>> from skae import DenseAutoencoder
    >>> X = load_digits().data
    >>> autoencoder = DenseAutoencoder(8, random_state=0).fit(X[:1500])
    >>> autoencoder.transform(X[1500:]).shape
    (297, 8)
    >>> pca = DenseAutoencoder(8, hidden_layer_sizes=()).fit(X[:1500])
    >>> autoencoder.score(X[1500:]) > pca.score(X[1500:]) + 0.05
    True
    """

    _schedule = staticmethod(auto.dense_schedule)

    @with_name_hints
    def __init__(
        self,
        latent_dim: float | None = None,
        *,
        hidden_layer_sizes: int | Sequence[int] | str = "auto",
        supervision: float = 0.0,
        missing_values: float | None = None,
        whiten: bool | float = False,
        tol: float = 0.1,
        max_epochs: int | str = "auto",
        device: str | torch.device = "auto",
        random_state: int | np.random.RandomState | None = None,
        verbose: int = 0,
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
        self.hidden_layer_sizes = hidden_layer_sizes
        self.supervision = supervision
        self.missing_values = missing_values
        self.whiten = whiten
        self.tol = tol
        self.max_epochs = max_epochs
        self.device = device
        self.random_state = random_state
        self.verbose = verbose
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

    def _plan(self, given, options, rng, previous):
        (n, p), linear_path = given.X.shape, resolve_linear_path(self)
        k = length_of_code(self.latent_dim, linear_path, given, options, rng)
        widths = auto.hidden_layer_sizes(n, p, k) if linear_path else (512, 256)
        hidden = auto.resolve_hidden_layer_sizes(self.hidden_layer_sizes, widths)
        settings = network_settings(self, k, self._masked_share(n, p, k), previous)
        wishes = self._wishes()
        n_scores, runs = p, []
        if linear_path:
            n_scores = min(n, p, k + auto.FURTHER_DIRECTIONS)
            runs = runs_to_try((n, p), k, wishes)
        networks = DenseNetworks(settings, n_scores, hidden)
        can_train = bool(hidden) or networks.has_custom
        if self.supervision and linear_path and not can_train:
            raise ValueError(
                f"supervision={self.supervision:g} needs networks, which hidden_layer_sizes="
                f"{self.hidden_layer_sizes!r} with the linear path has none of."
            )
        has_networks = can_train and bool(runs)
        if has_networks or not linear_path:
            networks.check(options.device, n_networks=1 if runs == [DECODER] else 2)
        return FitPlan(
            networks,
            form=OnScores if linear_path else None,
            n_directions=n_scores if has_networks else k,
            has_networks=has_networks,
            wishes=wishes,
            memory=self.memory,
        )

    def _masked_share(self, n, p, latent_dim):
        """The share of inputs to mask, with "auto" resolved."""
        if self.corruption != "auto":
            return self.corruption
        return auto.corruption(n, p, latent_dim) if resolve_linear_path(self) else 0.0
