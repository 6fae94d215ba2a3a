"""DenseAutoencoder: its parameters, and how its modules are built."""

from collections.abc import Callable, Sequence
from os import PathLike
from typing import Any, Self

import numpy as np
import torch
from sklearn.utils.metaestimators import available_if

from .._nn.builders import DenseNetworks
from .._runtime.device import resolve_device
from .._runtime.execution import with_neutral_settings
from .._training.residual import ScoresProblem
from .._training.selection import LONGEST_NONLINEAR_CODE
from . import auto
from .auto import resolve_linear_path
from .base import BaseAutoencoder
from .fitting import learn_from_batch, length_of_code, network_settings
from .parameters import check_combinations, naming_ours
from .state import in_two_parts, pca_module


def _can_learn_from_batches(autoencoder):
    linear_path = resolve_linear_path(autoencoder)
    if not linear_path or autoencoder.whiten or autoencoder.truncations is not None:
        raise AttributeError(
            "partial_fit needs the linear path (linear_path), whiten=False and truncations=None."
        )
    return True


class DenseAutoencoder(BaseAutoencoder):
    """Autoencoder of fully connected networks that starts from PCA and only improves on it.

    The code is PCA's plus what a network f adds, the reconstruction is PCA's plus what a network
    g adds::

        z     = V_k' (x - mean) + f(y)         y = V_r' (x - mean)
        x_hat = mean + V_r ([z; 0] + g(z))

    ``V_r`` are the leading r principal directions. Both networks start at zero, so training
    starts at PCA; rows put aside decide whether f and g stay, and where they do not help the
    model remains PCA. Since ``V_r`` is orthonormal the networks train on the r scores of each
    row and never meet the columns of X: wide sparse data costs no more memory than PCA.

    Parameters
    ----------
    latent_dim : int or float in (0, 1), default=None
        Length k of the code; at most ``min(n_samples, n_features)`` with the linear path. A
        float is a share of the variance: the code is as long as PCA's that explains so much of
        rows it has not seen. None means ``min(32, n_samples, n_features)``.
    hidden_layer_sizes : "auto", int or tuple of int, default="auto"
        Widths of the encoder's hidden layers; the decoder mirrors them. "auto" is two
        layers for short codes (three from 40,000 rows on) and one wide layer for long ones. ``()``
        with the linear path is PCA alone, at any size and sparsity.
    activation : {"elu", "gelu", "relu", "sigmoid", "silu", "softplus", "tanh"}, default="gelu"
        Activation of the hidden layers.
    encoder, decoder : torch.nn.Module or callable, default=None
        One's own networks in place of ours. A module is copied for each `fit`; a callable makes
        one from the numbers it takes and returns: ``encoder(n_inputs, latent_dim)`` and
        ``decoder(latent_dim, n_outputs)``. With the linear path they are what is added to PCA,
        from zero on, and work on ``min(latent_dim + 256, n_samples, n_features)`` scores;
        else they work on the columns of X.
    linear_path : bool or "auto", default="auto"
        Whether codes and reconstructions start from PCA's. False gives the plain mirrored
        perceptron on X itself, which takes any ``latent_dim``. "auto" is True if the loss is
        "mse" and neither `output_activation` nor `penalty` is set, else False.
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
        Weight of the labels y in training: of the cross-entropy of a linear classifier of the
        codes, or the squared error of a linear regressor of a standardised target, against the
        logarithm of the loss. 0 ignores y. 1.0 is recommended, and 0.3 costs hardly any variance.
        The classifier is removed after training; docs/codes.md has more.
    whiten : bool, default=False
        Divide each code by its standard deviation over the training rows.
    corruption : float or "auto", default="auto"
        Share of the encoder's inputs that are set to their mean in training, afresh in each
        batch: a denoising autoencoder. The rows to reconstruct stay whole; with the linear path
        so does PCA's part of the code. "auto" is 0.1 for codes of more than 16 numbers of rows
        with more columns than rows, with the linear path, else 0.
    noise : float, default=0.0
        Standard deviation of normal noise that is added to the encoder's inputs in training,
        likewise; in units of their typical deviation.
    max_epochs : int or "auto", default="auto"
        Most passes over the training rows. "auto" makes about 600 steps, in 8 to 30 passes.
    batch_size : int or "auto", default="auto"
        Rows in a batch. "auto" is 128, less where there would be fewer than 16 batches, and 256
        from 40,000 rows on.
    learning_rate : float or "auto", default="auto"
        Highest learning rate of AdamW's one-cycle schedule. "auto" is 0.002, or 0.0025 if X has
        at least as many rows as columns; twice that from 40,000 rows on.
    weight_decay : float, default=0.3
        Decoupled weight decay of AdamW.
    early_stopping : bool, default=True
        Stop training when the validation loss stops improving. With the linear path the validation
        rows judge trial runs of a quarter of the epochs, and the winner's training goes on with
        all rows for as long as they promise, at most for the rest of the epochs. Without it,
        training stops when they have not improved for `n_iter_no_change` epochs.
    validation_fraction : float, default=0.1
        Share of the rows to put aside, in runs of neighbouring rows.
    n_iter_no_change : int, default=10
        Epochs to wait for an improvement on the rows put aside.
    tol : float, default=1e-4
        Share by which the validation loss must fall to count as an improvement.
    device : str or torch.device, default="auto"
        Where to compute; "auto" is the first CUDA device if there is one, else the CPU.
    precision : {"auto", "float32", "bfloat16"}, default="auto"
        Of the matrix products in training. "auto" is bfloat16 where the hardware multiplies it
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
        Told of every stage of training: the trial runs, then the training on all rows. One that
        asks for an end, such as `skorch.callbacks.EarlyStopping`, ends that stage. Callbacks of
        scikit-learn 1.9 go to `set_callbacks`.
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
        (seconds). Where labels take part, also "train_label_loss" and "valid_label_loss".
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

    @naming_ours
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

    @available_if(_can_learn_from_batches)
    @with_neutral_settings
    def partial_fit(self, X: Any, y: Any = None) -> Self:
        """Go on learning from a batch of rows, as `IncrementalPCA` does.

        The principal directions are those of all rows so far; the networks take one pass over the
        batch, and are used while they explain more of each new batch than PCA does. The components
        are the principal directions; while networks are used, these are turned within their span
        so that the coordinates of the networks stay where they are. Needs ``linear_path=True``,
        ``whiten=False`` and ``truncations=None``; may follow `fit` and `truncate`.

        Parameters
        ----------
        X : {array-like, sparse matrix or array} of shape (n_samples, n_features)
            A batch. The first must have at least ``latent_dim`` rows; some hundreds are best.
        y : None
            Ignored.

        Returns
        -------
        self : object
            The fitted estimator. If it fails it is left as it was before.
        """
        return self._learn_aside("_learn_from_batch", X)

    def _learn_from_batch(self, X):
        self._validate_params()
        check_combinations(self)
        resolve_device(self.device)
        state = vars(self).get("_state")
        if state is not None and state.components is None:
            state = None  # of a plain fit, from which no directions are known
        X = self._validate_rows(X, reset=state is None)
        learn_from_batch(self, X, state)

    def _networks(self, X, weights, options, rng, previous):
        n, p = X.shape
        linear_path = resolve_linear_path(self)
        k = length_of_code(self, X, weights, options, rng)
        widths = auto.hidden_layer_sizes(n, p, k) if linear_path else (512, 256)
        hidden = auto.resolve_hidden_layer_sizes(self.hidden_layer_sizes, widths)
        settings = network_settings(self, k, self._share_masked(n, p, k), previous)
        if not linear_path:
            networks = DenseNetworks(settings, p, hidden)
            networks.check(options.device)
            return networks
        n_scores = min(n, p, k + auto.FURTHER_DIRECTIONS)
        networks = DenseNetworks(settings, n_scores, hidden, auto.dropout(n))
        if self.supervision and not _are_wanted(networks):
            raise ValueError(
                f"supervision={self.supervision:g} needs networks, which hidden_layer_sizes="
                f"{self.hidden_layer_sizes!r} with the linear path has none of."
            )
        if _are_wanted(networks):
            networks.check(options.device, n_networks=2 if k <= LONGEST_NONLINEAR_CODE else 1)
        return networks

    def _n_directions(self, networks, n_samples, n_features):
        return networks.n_inputs if _are_wanted(networks) else networks.settings.latent_dim

    def _problem(self, rows, basis, networks, build, device):
        if not _are_wanted(networks):
            return None
        return ScoresProblem(rows, basis, networks.settings.latent_dim, build, device)

    def _fields(self, module, rows, basis, dtype, latent_dim):
        module = module or pca_module(latent_dim)
        n_used = len(module.scale)
        components, further_components = in_two_parts(basis.directions[:, :n_used], latent_dim)
        return {
            "module": module,
            "dtype": components.dtype,
            "components": components,
            "further_components": further_components,
            "n_rows": len(rows),
            "variances": basis.variances[:n_used],
            "total_variance": basis.total_variance,
        }

    def _share_masked(self, n, p, latent_dim):
        """What ``corruption`` means."""
        if self.corruption != "auto":
            return self.corruption
        return auto.corruption(n, p, latent_dim) if resolve_linear_path(self) else 0.0


def _are_wanted(networks):
    """Whether there is more to train than PCA."""
    return bool(networks.hidden) or networks.has_custom
