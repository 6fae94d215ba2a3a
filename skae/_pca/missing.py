"""Missing entries: probabilistic PCA of the observed entries, which fills the others.

The model is ``x = m + W z + e`` with standard normal z and noise e of variance s^2 in each column
(Tipping and Bishop, 1999). Its parameters are fitted to the observed entries alone by variational
expectation-maximisation, in which columns of W that explain little become zero (Ilin and Raiko,
2010). A row is filled by the expectation of z given its observed entries: least squares with the
ridge s^2.
"""

from math import isqrt

import numpy as np
import torch

from .._data.incomplete import CompletedArray, observed_mean
from .._data.rows import rows_of
from .._runtime.tensors import batch_slices
from .solvers import principal_basis

# Numbers of factors to choose from, and most products of a column's loadings in all columns.
_N_FACTORS, _MOST_PRODUCTS = (2, 4, 8, 16, 32), 2**24

# Share of the observed entries that the choice of the number of factors is validated on.
_VALIDATION_SHARE = 0.1

# The model is fitted to about this number of rows, fewer if they have more than so many entries.
_SAMPLE_SIZE, _MOST_ENTRIES = 2048, 2**22

# The iteration ends when the noise changes by a smaller share, or after so many steps.
_TOLERANCE, _MOST_STEPS = 2e-3, 30

# Smallest variance of the noise, as a share of the variance of an entry.
_LEAST_NOISE = 1e-6


def completed(X, weights):
    """Fit the model to a dense X with NaN for missing entries, and fill these.

    Parameters
    ----------
    X : ndarray of shape (n, p)
    weights : ndarray of shape (n,) or None
        Weight of each row, of mean one.

    Returns
    -------
    X : CompletedArray
        Its loadings are W / s, with which `fill` fills other rows.
    """
    mean = observed_mean(X, weights)
    loadings = _fitted_loadings(X, weights, mean)
    return CompletedArray(fill(X, mean, loadings), X, mean, loadings)


def fill(X, mean, loadings):
    """Return X with each NaN replaced by its expectation given the observed entries of its row.

    A row without any observed entry is filled with the mean.

    Parameters
    ----------
    X : ndarray of shape (n, p)
    mean : ndarray of shape (p,)
    loadings : ndarray of shape (p, q)

    Returns
    -------
    filled : ndarray of shape (n, p), of the dtype of X
    """
    filled = X.copy()
    incomplete = np.flatnonzero(np.isnan(X).any(axis=1))
    L = torch.from_numpy(np.asarray(loadings, dtype=np.float64))
    products = _products(L)
    for part in batch_slices(len(incomplete), 8 * (L.shape[0] + L.shape[1] ** 2)):
        some = incomplete[part]
        x, is_observed = _centred(X[some], mean)
        expected = _expected(x, is_observed, L, products).numpy() + mean
        filled[some] = np.where(is_observed.numpy() > 0, X[some], expected)
    return filled


def _expected(x, is_observed, L, products):
    """Expectation of all entries given the observed ones, in rows that are centred."""
    z = torch.linalg.solve(_precisions(is_observed, products), (x @ L)[:, :, None])[:, :, 0]
    return z @ L.T


def _fitted_loadings(X, weights, mean):
    """W / s of the model: ndarray of shape (p, q)."""
    n_rows = max(2, min(_SAMPLE_SIZE, _MOST_ENTRIES // X.shape[1]))
    sample = np.unique(np.linspace(0, len(X) - 1, min(len(X), n_rows)).astype(int))
    x, is_observed = _centred(X[sample], mean)
    w = torch.ones(len(x), dtype=torch.float64)
    if weights is not None:
        w = torch.from_numpy(weights[sample] / weights[sample].mean())
    unit = float((w @ x.square()).sum() / (w @ is_observed).sum()) ** 0.5
    if not unit:
        return np.zeros((X.shape[1], 1))
    x /= unit
    q = _chosen_n_factors(x, is_observed, w)
    return _Model(x, is_observed, w, q).fitted_loadings().numpy()


def _chosen_n_factors(x, is_observed, w):
    """The number of factors with the smallest error on entries that the model was not fitted to."""
    n, p = x.shape
    largest = min(p - 1, n - 1, isqrt(_MOST_PRODUCTS // p))
    candidates = sorted({max(1, min(q, largest)) for q in _N_FACTORS})
    generator = torch.Generator().manual_seed(0)
    drawn = torch.rand(x.shape, generator=generator, dtype=torch.float64) < _VALIDATION_SHARE
    is_fitted = is_observed * ~drawn
    held_out = (is_observed - is_fitted) * w[:, None]
    best, smallest = candidates[0], torch.inf
    for q in candidates:
        L = _Model(x * is_fitted, is_fitted, w, q).fitted_loadings()
        errors = (_expected(x * is_fitted, is_fitted, L, _products(L)) - x).square()
        error = float((held_out * errors).sum())
        if error > smallest:
            break
        best, smallest = q, error
    return best


class _Model:
    """Variational Bayesian PCA of the observed entries.

    Parameters
    ----------
    x : Tensor of shape (n, p)
        Centred, in a unit in which entries are near one; zero where an entry is missing.
    is_observed : Tensor of shape (n, p)
        1.0 or 0.0.
    w : Tensor of shape (n,)
        Weights of the rows.
    n_factors : int
        q.
    """

    def __init__(self, x, is_observed, w, n_factors):
        self.x, self.is_observed, self.w = x, is_observed, w
        self.squares, self.n_observed = w @ x.square(), w @ is_observed
        p, q = x.shape[1], n_factors
        rows = rows_of((x * w.sqrt()[:, None]).numpy(), mean=np.zeros(p), dtype=torch.float64)
        basis = principal_basis(rows, q)
        variances = torch.from_numpy(basis.variances)
        beyond = basis.total_variance - float(variances.sum())
        self.noise = max(beyond / (p - q) if p > q else 0.0, 0.01)
        self.W = basis.directions * (variances - self.noise).clamp_min(0.1 * self.noise).sqrt()
        self.covariances = torch.zeros(p, q, q, dtype=torch.float64)  # of each row of W
        self.relevance = self.W.square().mean(dim=0) + 1e-3  # prior variance of each column of W

    def fitted_loadings(self):
        """Iterate to convergence; return W / s."""
        for _ in range(_MOST_STEPS):
            before = self.noise
            self._update(*self._expectations())
            if abs(self.noise - before) <= _TOLERANCE * before:
                break
        return self.W / self.noise**0.5

    def _expectations(self):
        """Sums over rows: of E[z z'] and x E[z] for each column, and of E[z z']."""
        (n, p), q = self.x.shape, self.W.shape[1]
        second = torch.zeros(p, q * q, dtype=torch.float64)
        mixed = torch.zeros(p, q, dtype=torch.float64)
        total = torch.zeros(q * q, dtype=torch.float64)
        products = (_products(self.W) + self.covariances.flatten(1)) / self.noise
        for part in batch_slices(n, 8 * (p + 2 * q * q)):
            is_observed, x, w = self.is_observed[part], self.x[part], self.w[part, None]
            root = torch.linalg.cholesky(_precisions(is_observed, products))
            covariances = torch.cholesky_inverse(root)
            z = (covariances @ (x @ self.W / self.noise)[:, :, None])[:, :, 0]
            moments = w * (covariances + z[:, :, None] * z[:, None, :]).flatten(1)
            second += is_observed.T @ moments
            mixed += x.T @ (w * z)
            total += moments.sum(dim=0)
        return second.view(p, q, q), mixed, total.view(q, q) / n

    def _update(self, second, mixed, moments_of_z):
        """Update W, its covariances and prior, and the noise."""
        precisions = second + torch.diag(self.noise / self.relevance)
        inverses = torch.cholesky_inverse(torch.linalg.cholesky(precisions))
        W, covariances = (inverses @ mixed[:, :, None])[:, :, 0], self.noise * inverses
        residuals = self.squares - 2 * (W * mixed).sum(dim=1)
        moments_of_W = W[:, :, None] * W[:, None, :] + covariances
        residuals += (moments_of_W * second).sum(dim=(1, 2))
        self.noise = max(float(residuals.sum() / self.n_observed.sum()), _LEAST_NOISE)
        # z is made standard normal, and columns of W orthogonal: the iteration converges faster.
        change = torch.linalg.cholesky(moments_of_z)
        rotation = torch.linalg.eigh(change.T @ moments_of_W.sum(dim=0) @ change).eigenvectors
        change = change @ rotation
        self.W, self.covariances = W @ change, change.T @ covariances @ change
        variances = self.covariances.diagonal(dim1=1, dim2=2)
        self.relevance = (self.W.square() + variances).mean(dim=0)


def _centred(X, mean):
    """Centred rows with zeros for missing entries, and 1.0 where an entry is observed."""
    centred = X.astype(np.float64) - mean
    is_observed = ~np.isnan(centred)
    centred[~is_observed] = 0.0
    return torch.from_numpy(centred), torch.from_numpy(is_observed.astype(np.float64))


def _products(L):
    """Products of the loadings of each column: shape (p, q^2)."""
    return (L[:, :, None] * L[:, None, :]).flatten(1)


def _precisions(is_observed, products):
    """``I + L_o' L_o`` for the observed columns o of each row: shape (n, q, q)."""
    q = isqrt(products.shape[1])
    return (is_observed @ products).view(-1, q, q) + torch.eye(q, dtype=torch.float64)
