"""Networks and directions that follow batches of rows (`partial_fit`)."""

from copy import deepcopy
from math import sqrt

import torch

from .._data.rows import rows_of
from .._nn.layers import use_generator
from .._pca.incremental import ROWS_PER_UPDATE, aligning_rotation
from .._runtime.device import in_bfloat16
from .._runtime.tensors import squared_row_norms
from .net import n_batches
from .residual import compressed, widen_clipping_bound

# Steps until the learning rate is reached, and over which it falls to seven tenths.
_WARM_UP, _COOLING = 100, 1600

# The average over the steps forgets one part in so many, at most, with each.
_LONGEST_MEMORY = 500

# How much of the running gain a new batch makes up.
_NEWS = 0.2


class AveragedNetworks:
    """Residual networks on the scores of a stream.

    The networks that transform are a running average of those that are trained, which stands in for
    a schedule that would have to know where the stream ends. Each batch judges them before they
    learn from it.

    Parameters
    ----------
    module : ResidualAutoencoder
    options : TrainingOptions
    seed : int
    trained : bool
        Whether the module has been trained before: then it is changed with more care.

    Attributes
    ----------
    average : ResidualAutoencoder
    gain : float
        Running share of the variance that the average explains beyond PCA on batches it had not
        seen when they came; 0.0 before the second batch.
    """

    def __init__(self, module, options, seed, *, trained=False):
        self.module = module
        self.average = deepcopy(module).eval()
        self.gain = 0.0
        self._first_step = self.n_steps = _COOLING if trained else 0
        self._n_judged = 0
        self._options = options
        self._seed = seed
        self._optimizer = torch.optim.AdamW(
            module.parameters(),
            lr=options.learning_rate,
            betas=(0.9, 0.95),
            weight_decay=options.weight_decay,
        )

    def set_scale(self, scale):
        """The scale of the scores, which settles as rows come."""
        for module in (self.module, self.average):
            module.scale.copy_(scale)

    @torch.inference_mode()
    def judge(self, y, variance):
        """Compare with PCA on the scores of rows that are new.

        Parameters
        ----------
        y : Tensor of shape (n, r)
        variance : float
            Sum of the squared distances of the rows from the mean.
        """
        errors = (y - self.average(y)).square().sum()
        linear_errors = y[:, self.module.latent_dim :].square().sum()
        gain = float((linear_errors - errors) / variance)
        self._n_judged += 1
        self.gain += max(_NEWS, 1 / self._n_judged) * (gain - self.gain)

    def learn(self, y, unit):
        """One pass over the scores of a batch, in steps of ``batch_size`` rows.

        Parameters
        ----------
        y : Tensor of shape (n, r)
        unit : float
            Length of the typical row, for the optimizer.

        Returns
        -------
        loss : float
            Mean squared error of a row while learning.
        """
        widen_clipping_bound(self.module, y)
        self.average.clipping_bound.copy_(self.module.clipping_bound)
        self.module.train()
        loss_of, total = self._options.loss(), 0.0
        seed = self._seed + self.n_steps
        order = torch.randperm(len(y), generator=torch.Generator().manual_seed(seed))
        with use_generator(torch.Generator(y.device).manual_seed(seed), self.module):
            for numbers in order.tensor_split(self._starts(len(y))):
                batch = y[numbers.to(y.device)]
                self._optimizer.zero_grad()
                with in_bfloat16(y.device.type, self._options.bfloat16):
                    y_hat = self.module(batch)
                loss = loss_of(y_hat, batch) / unit**2
                loss.backward()
                self._step()
                total += loss.detach() * len(batch)
        return float(total) / len(y) * unit**2

    def _starts(self, n_rows):
        """Where batches begin, the first apart."""
        size = self._options.batch_size
        return [size * i for i in range(1, n_batches(n_rows, size))]

    def to(self, device):
        self.module.to(device)
        self.average.to(device)
        for state in self._optimizer.state.values():
            for name in ("exp_avg", "exp_avg_sq"):
                state[name] = state[name].to(device)

    def _step(self):
        self.n_steps += 1
        warm = min(1.0, (self.n_steps - self._first_step) / _WARM_UP)
        for group in self._optimizer.param_groups:
            group["lr"] = self._options.learning_rate * warm / sqrt(1 + self.n_steps / _COOLING)
        self._optimizer.step()
        forgotten = max(1 / _LONGEST_MEMORY, 9 / (self.n_steps + 9))
        with torch.no_grad():
            for mean, weight in zip(
                self.average.parameters(), self.module.parameters(), strict=True
            ):
                mean.lerp_(weight, forgotten)
            for old, new in zip(self.average.buffers(), self.module.buffers(), strict=True):
                old.copy_(new)  # such as what a batch normalisation has seen


# The share of variance that networks must have gained on new batches to be used.
_LEAST_GAIN = 0.001


class Stream:
    """What `partial_fit` remembers.

    Parameters
    ----------
    basis : RunningBasis
    latent_dim : int
        k.
    networks : AveragedNetworks or None
        None for PCA alone.
    """

    def __init__(self, basis, latent_dim, networks):
        self.basis = basis
        self.latent_dim = latent_dim
        self.networks = networks
        self._turn = torch.eye(len(basis.squares), dtype=basis.directions.dtype)

    @property
    def gain(self):
        """Share of variance beyond PCA's on new batches; 0.0 where networks are not used."""
        gain = 0.0 if self.networks is None else self.networks.gain
        return gain if gain > _LEAST_GAIN else 0.0

    @property
    def directions(self):
        """The principal directions, or where networks are used theirs: shape (p, r)."""
        return self._turned if self.gain else self.basis.directions

    @property
    def _turned(self):
        """Those in whose coordinates the networks learn: shape (p, r)."""
        if self.networks is None:  # nothing was learnt in other coordinates
            return self.basis.directions
        return self.basis.directions @ self._turn

    @property
    def explained_variance(self):
        """Variance along each of the first k directions."""
        return self._squares / max(1, self.basis.n_seen - 1)

    @property
    def explained_variance_ratio(self):
        """Its share of the whole variance."""
        return self._squares / (self.basis.total or 1.0)

    @property
    def total_variance(self):
        """Sum of the variances of all columns."""
        return self.basis.total / max(1, self.basis.n_seen - 1)

    @property
    def _squares(self):
        squares = self.basis.squares_along(self._turn) if self.gain else self.basis.squares
        return squares[: self.latent_dim].cpu().numpy()

    def take(self, X):
        """Learn from a batch; return its mean squared error and the share of variance explained."""
        place = {"dtype": self.basis.directions.dtype, "device": self.basis.directions.device}
        n_before, before = self.basis.n_seen, self._turned
        if self.networks is not None and n_before:
            rows = rows_of(X, mean=self.basis.mean, **place)
            y = rows.times(before).float().to(place["device"])
            self.networks.judge(y, rows.squared_norms().sum())
        for start in range(0, X.shape[0], ROWS_PER_UPDATE):
            self.basis.update(rows_of(X[start : start + ROWS_PER_UPDATE], **place))
        if self.networks is not None and n_before:
            self._turn = aligning_rotation(before, self.basis.directions, self.latent_dim)

        rows = rows_of(X, mean=self.basis.mean, **place)
        y, variance = rows.times(self._turned), rows.squared_norms().mean()
        if self.networks is None:
            error = variance - squared_row_norms(y[:, : self.latent_dim]).mean()
        else:
            squares = self.basis.squares_along(self._turn) / self.basis.n_seen
            self.networks.set_scale(compressed(squares.sqrt().float()))
            unit = sqrt(self.basis.total / self.basis.n_seen)
            loss = self.networks.learn(y.float().to(place["device"]), unit)
            error = variance - squared_row_norms(y).mean() + loss
        return float(error), float(1 - error / variance) if variance else 1.0

    def to(self, device):
        """Move all tensors there; between batches they stay on the CPU, and can be pickled."""
        self.basis.to(device)
        self._turn = self._turn.to(device)
        if self.networks is not None:
            self.networks.to(device)
