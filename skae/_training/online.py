"""Online learning: networks and principal directions that are updated by batches of rows."""

from itertools import accumulate
from math import sqrt

import torch

from .._data.rows import rows_of
from .._nn.layers import use_generator
from .._pca.incremental import ROWS_PER_UPDATE, aligning_rotation
from .._runtime.device import in_bfloat16
from .._runtime.tensors import squared_row_norms
from .average import AveragedModule
from .data import BatchOrder
from .residual import balanced_scale

# Number of steps until the learning rate is reached, and until it has fallen to seven tenths.
_WARM_UP_STEPS, _DECAY_STEPS = 100, 1600

# Minimum weight of the present step in the running average of weights.
_MIN_STEP_WEIGHT = 1 / 500

# Minimum weight of the present batch in the running gain.
_MIN_BATCH_WEIGHT = 0.2

# Minimum running gain for networks to be used, as a share of the variance.
_MIN_GAIN = 0.001


class AveragedNetworks:
    """Residual networks on the scores of a stream.

    The networks that transform are a running average of those that are trained (EMA). It replaces
    a schedule of the learning rate, which would depend on the unknown end of the stream. Each batch
    evaluates the average before it trains the networks.

    Parameters
    ----------
    module : ResidualAutoencoder
    options : TrainingOptions
    seed : int
    trained : bool
        Whether the module has been trained before: then its learning rate is lower.

    Attributes
    ----------
    average : ResidualAutoencoder
        See `AveragedModule`.
    gain : float
        Running mean of the share of the variance that the average explains beyond PCA on a batch
        that it was not trained on; 0.0 before the second batch.
    """

    def __init__(self, module, options, seed, *, trained=False):
        self.module = module
        self._averaged = AveragedModule(module)
        self.gain = 0.0
        self._first_step = self.n_steps = _DECAY_STEPS if trained else 0
        self._n_evaluations = 0
        self._options = options
        self._seed = seed
        self._optimizer = torch.optim.AdamW(
            module.parameters(),
            lr=options.learning_rate,
            betas=(0.9, 0.95),
            weight_decay=options.weight_decay,
        )

    @property
    def average(self):
        return self._averaged.module

    def set_scale(self, scale):
        """Set the scale of the scores, an estimate that improves with the number of rows."""
        for module in (self.module, self.average):
            module.scale.copy_(scale)

    @torch.inference_mode()
    def evaluate(self, y, variance):
        """Update the gain by the scores of rows that the networks were not trained on.

        Parameters
        ----------
        y : Tensor of shape (n, r)
        variance : float
            Sum of the squared distances of the rows from the mean.
        """
        errors = (y - self.average(y)).square().sum()
        linear_errors = y[:, self.module.latent_dim :].square().sum()
        gain = float((linear_errors - errors) / variance)
        self._n_evaluations += 1
        self.gain += max(_MIN_BATCH_WEIGHT, 1 / self._n_evaluations) * (gain - self.gain)

    def train(self, y, unit):
        """Train for one pass over the scores of a batch, in steps of ``batch_size`` rows.

        Parameters
        ----------
        y : Tensor of shape (n, r)
        unit : float
            Typical length of a row, by which the optimizer is made independent of the unit of X.

        Returns
        -------
        loss : float
            Mean squared error of a row during training.
        """
        self.module.train()
        loss_of, total = self._options.loss(), 0.0
        seed = self._seed + self.n_steps
        order = torch.randperm(len(y), generator=torch.Generator().manual_seed(seed))
        with use_generator(torch.Generator(y.device).manual_seed(seed), self.module):
            for indices in order.tensor_split(self._batch_starts(len(y))):
                batch = y[indices.to(y.device)]
                self._optimizer.zero_grad()
                with in_bfloat16(y.device.type, self._options.bfloat16):
                    y_hat = self.module(batch)
                loss = loss_of(y_hat, batch) / unit**2
                loss.backward()
                self._step()
                total += loss.detach() * len(batch)
        self._averaged.copy_buffers()
        self.average.extend_reach(y)
        self.module.reach = self.average.reach.clone()
        return float(total) / len(y) * unit**2

    def _batch_starts(self, n_rows):
        """Index of the first row of each batch but the first."""
        sizes = BatchOrder(range(n_rows), self._options.batch_size).sizes
        return list(accumulate(sizes))[:-1]

    def to(self, device):
        self.module.to(device)
        self._averaged.to(device)
        for state in self._optimizer.state.values():
            for name in ("exp_avg", "exp_avg_sq"):
                state[name] = state[name].to(device)

    def _step(self):
        self.n_steps += 1
        warm_up = min(1.0, (self.n_steps - self._first_step) / _WARM_UP_STEPS)
        decay = sqrt(1 + self.n_steps / _DECAY_STEPS)
        for group in self._optimizer.param_groups:
            group["lr"] = self._options.learning_rate * warm_up / decay
        self._optimizer.step()
        self._averaged.update(_MIN_STEP_WEIGHT)


class Stream:
    """The state of `partial_fit` between batches.

    Parameters
    ----------
    basis : RunningBasis
    latent_dim : int
        k.
    networks : AveragedNetworks or None
        None for PCA alone.

    Attributes
    ----------
    parameters : dict of str to str
        The parameters of the estimator that cannot change between batches, as it was given them.
    """

    def __init__(self, basis, latent_dim, networks):
        self.basis = basis
        self.latent_dim = latent_dim
        self.networks = networks
        self.parameters = {}
        self._turn = torch.eye(len(basis.squares), dtype=basis.directions.dtype)

    @property
    def gain(self):
        """Share of variance beyond PCA's on new batches; 0.0 where networks are not used."""
        gain = 0.0 if self.networks is None else self.networks.gain
        return gain if gain > _MIN_GAIN else 0.0

    @property
    def directions(self):
        """The principal directions, or those of the networks if they are used: shape (p, r)."""
        return self._turned if self.gain else self.basis.directions

    @property
    def _turned(self):
        """The directions whose coordinates the networks are trained in: shape (p, r)."""
        if self.networks is None:
            return self.basis.directions
        return self.basis.directions @ self._turn

    @property
    def explained_variance(self):
        """Variance along each of the first k directions."""
        return self._squares / max(1, self.basis.n_seen - 1)

    @property
    def explained_variance_ratio(self):
        """Share of the total variance along each of them."""
        return self._squares / (self.basis.total or 1.0)

    @property
    def total_variance(self):
        """Sum of the variances of all columns."""
        return self.basis.total / max(1, self.basis.n_seen - 1)

    @property
    def _squares(self):
        squares = self.basis.squares_along(self._turn) if self.gain else self.basis.squares
        return squares[: self.latent_dim].cpu().numpy()

    def update(self, X):
        """Learn from a batch.

        Returns
        -------
        error : float
            Mean squared error of a row during training.
        explained : float
            Share of the variance of the batch that is explained.
        """
        place = {"dtype": self.basis.directions.dtype, "device": self.basis.directions.device}
        n_before, directions_before = self.basis.n_seen, self._turned
        if self.networks is not None and n_before:
            rows = rows_of(X, mean=self.basis.mean, **place)
            y = rows.times(directions_before).float().to(place["device"])
            self.networks.evaluate(y, rows.squared_norms().sum())
        for start in range(0, X.shape[0], ROWS_PER_UPDATE):
            self.basis.update(rows_of(X[start : start + ROWS_PER_UPDATE], **place))
        if self.networks is not None and n_before:
            self._turn = aligning_rotation(
                directions_before, self.basis.directions, self.latent_dim
            )

        rows = rows_of(X, mean=self.basis.mean, **place)
        y, variance = rows.times(self._turned), rows.squared_norms().mean()
        if self.networks is None:
            error = variance - squared_row_norms(y[:, : self.latent_dim]).mean()
        else:
            squares = self.basis.squares_along(self._turn) / self.basis.n_seen
            self.networks.set_scale(balanced_scale(squares.sqrt().float()))
            unit = sqrt(self.basis.total / self.basis.n_seen)
            loss = self.networks.train(y.float().to(place["device"]), unit)
            error = variance - squared_row_norms(y).mean() + loss
        return float(error), float(1 - error / variance) if variance else 1.0

    def to(self, device):
        """Move all tensors to a device. Between batches they are on the CPU, and can be pickled."""
        self.basis.to(device)
        self._turn = self._turn.to(device)
        if self.networks is not None:
            self.networks.to(device)
