"""DenseAutoencoder: its parameters and its networks."""

from collections.abc import Callable, Sequence
from os import PathLike
from typing import Any, Self

import numpy as np
import torch

from .._data.dense_rows import CompletedRows
from .._nn.builders import DenseNetworks
from .._runtime.device import resolve_device
from .._runtime.execution import with_neutral_settings
from .._training.observed import ObservedScoresProblem
from .._training.residual import ScoresProblem
from .._training.selection import LONGEST_NONLINEAR_CODE
from . import auto
from .auto import resolve_linear_path
from .base import BaseAutoencoder
from .fitting import learn_from_batch, length_of_code, network_settings
from .parameters import available_if, check_combinations, with_name_hints
from .state import pca_module, split_directions


def _can_learn_from_batches(autoencoder):
    linear_path = resolve_linear_path(autoencoder)
    if not linear_path or autoencoder.whiten or autoencoder.truncations is not None:
        raise AttributeError(
            "partial_fit needs the linear path (linear_path), whiten=0 and truncations=None."
        )
    if autoencoder.missing_values is not None:
        raise AttributeError(
            "partial_fit needs missing_values=None: entries are filled by a model of all rows."
        )
    return True


class DenseAutoencoder(BaseAutoencoder):
    """Autoencoder of fully connected networks that starts from PCA and only improves on it.

    A network f is added to the code of PCA, and a network g to its reconstruction::

        z     = V_k' (x - mean) + f(y)         y = V_r' (x - mean)
        x_hat = mean + V_r ([z; 0] + g(z))

    ``V_r`` are the leading r principal directions. Both networks start at zero, so training
    starts at PCA. Validation rows decide whether f and g are kept; where they do not help, the
    model remains PCA. f of more than 16 dimensions is tried only with at least 150 rows for each
    dimension, or with labels (`supervision`), or if it is custom (`encoder`). Since ``V_r`` is
    orthonormal, the networks train on the r scores of each row and not on the columns of X: wide
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
    activation : {"elu", "gelu", "relu", "sigmoid", "silu", "softplus", "tanh"}, default="gelu"
        Activation of the hidden layers.
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
    supervision : float, default=0.0
        Weight of the labels y in training: of the cross-entropy of a linear classifier of the
        codes, or of the squared error of a linear regressor of a standardised target, relative to
        the logarithm of the loss. 0 ignores y. 1.0 is recommended; 0.3 costs hardly any variance.
        The classifier is removed after training; see docs/codes.md.
    whiten : bool or float in [0, 1], default=False
        Divide each code by this power of its standard deviation over the training rows; True is 1.
    corruption : float or "auto", default="auto"
        Share of the encoder's inputs that are set to their mean in training, drawn anew for each
        batch: a denoising autoencoder. The rows to reconstruct are not changed, nor is PCA's part
        of the code. "auto" is 0.1 with the linear path if X has more columns than rows and codes
        have more than 16 dimensions, else 0.
    noise : float, default=0.0
        Standard deviation of normal noise that is added to the encoder's inputs in training, in
        units of their typical standard deviation.
    missing_values : np.nan or None, default=None
        With np.nan, NaN in dense X is a missing entry: principal directions and losses are those
        of the observed entries, `transform` fills the others first, and reconstructions of codes
        can replace them; see docs/missing.md. None refuses X with NaN.
    max_epochs : int or "auto", default="auto"
        Maximum number of passes over the training rows. "auto" is about 600 steps in 8 to 30
        passes.
    batch_size : int or "auto", default="auto"
        Rows in a batch. "auto" is 128, less where there would be fewer than 16 batches, and 256
        from 40,000 rows on.
    learning_rate : float or "auto", default="auto"
        Highest learning rate of AdamW's one-cycle schedule. "auto" is 0.002, or 0.0025 if X has at
        least as many rows as columns; twice that from 40,000 rows on.
    weight_decay : float, default=0.3
        Decoupled weight decay of AdamW.
    early_stopping : bool, default=True
        Stop training when the validation loss stops improving. With the linear path, trial runs of
        a quarter of the epochs are compared on the validation rows. Training continues from the
        best of them with all rows, for as long as they suggest, at most for the rest of the
        epochs. Else training stops after `n_iter_no_change` epochs without improvement.
    validation_fraction : float, default=0.1
        Share of the validation rows: runs of adjacent rows, or whole groups (see `fit`).
    n_iter_no_change : int, default=10
        Epochs to wait for an improvement of the validation loss.
    tol : float, default=1e-4
        Share by which the validation loss must fall to count as an improvement.
    device : str or torch.device, default="auto"
        Where to compute. "auto" is the device of X if X is a tensor (see `transform`), else the
        accelerator that PyTorch finds if it supports float64, such as CUDA, else the CPU.
    precision : {"auto", "float32", "bfloat16"}, default="auto"
        Precision of matrix products and convolutions in training. "auto" is bfloat16 where the
        hardware computes faster with it.
    warm_start : bool, default=False
        Start the networks from those of the previous `fit` where their shapes agree. Principal
        directions are computed anew, and validation rows decide anew.
    checkpoint : str or path-like, default=None
        Folder that stores the state of `fit` after every epoch and other long step. If the process
        is killed, the same call resumes from there and returns the same codes bit for bit. Needs
        an integer `random_state`. The folder is not removed.
    memory : str or joblib.Memory, default=None
        Cache of the principal directions, which fits on the same rows share, such as those of a
        search over ``latent_dim``. Codes are the same with it and without. Useful only with an
        integer `random_state`; see docs/scaling.md.
    callbacks : list of skorch callbacks, default=None
        Called in every stage of training: the trial runs, then the training on all rows. A
        callback that stops training, such as `skorch.callbacks.EarlyStopping`, ends that stage.
        Callbacks of scikit-learn 1.9 are set with `set_callbacks`.
    random_state : int, RandomState instance or None, default=None
        Seeds the validation split, the initial weights and the batch order. None takes fresh
        entropy; global random states are neither used nor changed.
    verbose : int, default=0
        1 shows a progress bar (about ten lines in a file or from a worker of ``n_jobs``), 2 prints
        a line per epoch; both end with the selected model and its gain on validation rows.

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
        Share of the variance of the validation rows that the networks explained beyond PCA in the
        trial run; 0.0 where PCA was kept. Linear path only.
    module_ : torch.nn.Module
        The fitted networks.
    n_iter_ : int
        Epochs of the last training, on all rows; 0 where PCA was kept, or Ctrl-C came before it.
    interrupted_ : bool
        Whether Ctrl-C came during or after training; the model is then the best validated one.
    history_ : list of dict
        An entry for each epoch of each stage: "stage", "epoch", "train_loss", "valid_loss" (mean
        error of a row, as in `score_samples`; not in the training on all rows),
        "variance_explained" (as in `score`, of the validation rows where there is a "valid_loss"),
        "variance_explained_by_pca" (of the same rows, where PCA is compared) and "dur" (seconds);
        with labels also "train_label_loss" and "valid_label_loss".
    n_features_in_ : int
        Number of columns of X in `fit`.
    feature_names_in_ : ndarray of shape (n_features,)
        Names of the columns of X in `fit`, if all were strings.

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

    _drops_unused_columns = True  # networks train on scores

    @with_name_hints
    def __init__(
        self,
        latent_dim: float | None = None,
        *,
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
        whiten: bool | float = False,
        corruption: float | str = "auto",
        noise: float = 0.0,
        missing_values: float | None = None,
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
        self.missing_values = missing_values
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

    @available_if(_can_learn_from_batches)
    @with_neutral_settings
    def partial_fit(self, X: Any, y: Any = None) -> Self:
        """Continue learning from a batch of rows, as `IncrementalPCA` does.

        The principal directions are those of all rows so far. The networks train for one pass
        over the batch, and are used while they explain more of each new batch than PCA does. While
        networks are used, the components are the principal directions rotated within their span,
        so that the inputs of the networks keep their meaning. Needs ``linear_path=True``,
        ``whiten=0`` and ``truncations=None``; may follow `fit` and `truncate`.

        Parameters
        ----------
        X : {array-like, sparse matrix or array} of shape (n_samples, n_features)
            A batch, of some hundreds of rows at best. The first needs ``latent_dim`` rows at least.
        y : None
            Ignored.

        Returns
        -------
        self : object
            The fitted estimator. If learning fails, it does not change.
        """
        return self._learn_in_copy("_learn_from_batch", X)

    def _learn_from_batch(self, X):
        self._validate_params()
        check_combinations(self)
        resolve_device(self.device)
        state = vars(self).get("_state")
        if state is not None and state.components is None:
            state = None  # a plain fit has no principal directions to continue from
        X = self._validate_rows(X, reset=state is None)
        learn_from_batch(self, X, state)

    def _networks(self, X, weights, options, rng, previous):
        n, p = X.shape
        linear_path = resolve_linear_path(self)
        k = length_of_code(self, X, weights, options, rng)
        widths = auto.hidden_layer_sizes(n, p, k) if linear_path else (512, 256)
        hidden = auto.resolve_hidden_layer_sizes(self.hidden_layer_sizes, widths)
        settings = network_settings(self, k, self._masked_share(n, p, k), previous)
        if not linear_path:
            networks = DenseNetworks(settings, p, hidden)
            networks.check(options.device)
            return networks
        n_scores = min(n, p, k + auto.FURTHER_DIRECTIONS)
        networks = DenseNetworks(settings, n_scores, hidden, auto.dropout(n))
        if self.supervision and not _has_networks(networks):
            raise ValueError(
                f"supervision={self.supervision:g} needs networks, which hidden_layer_sizes="
                f"{self.hidden_layer_sizes!r} with the linear path has none of."
            )
        if _has_networks(networks):
            networks.check(options.device, n_networks=2 if k <= LONGEST_NONLINEAR_CODE else 1)
        return networks

    def _n_directions(self, networks, n_samples, n_features):
        return networks.n_inputs if _has_networks(networks) else networks.settings.latent_dim

    def _problem(self, rows, basis, networks, build, device):
        if not _has_networks(networks):
            return None
        k, is_custom = networks.settings.latent_dim, networks.settings.encoder is not None
        kind = ObservedScoresProblem if isinstance(rows, CompletedRows) else ScoresProblem
        return kind(rows, basis, k, build, device, custom_encoder=is_custom)

    def _fields(self, module, rows, basis, dtype, latent_dim):
        module = module or pca_module(latent_dim)
        n_used = len(module.scale)
        components, further_components = split_directions(basis.directions[:, :n_used], latent_dim)
        return {
            "module": module,
            "dtype": components.dtype,
            "components": components,
            "further_components": further_components,
            "columns": rows.columns,
            "n_features": None if rows.columns is None else rows.n_features,
            "n_rows": len(rows),
            "variances": basis.variances[:n_used],
            "total_variance": basis.total_variance,
        }

    def _masked_share(self, n, p, latent_dim):
        """The share of inputs to mask, with "auto" resolved."""
        if self.corruption != "auto":
            return self.corruption
        return auto.corruption(n, p, latent_dim) if resolve_linear_path(self) else 0.0


def _has_networks(networks):
    """Whether there are networks to train on top of PCA."""
    return bool(networks.hidden) or networks.has_custom
