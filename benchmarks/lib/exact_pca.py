"""Exact PCA of any length at once, by NumPy and scikit-learn alone: what every cell is held to."""

import numpy as np
import scipy.sparse as sp
from scipy.linalg import eigh
from sklearn.decomposition import PCA


class ExactPCA:
    """The first ``longest`` principal components; those of a shorter code are the first of them.

    scikit-learn's full solvers need dense rows. For wide sparse rows the n x n Gram matrix of the
    centred rows has the same eigenvectors, in memory that n rows allow.
    """

    def __init__(self, X, longest):
        if not sp.issparse(X):
            pca = PCA(longest, svd_solver="full" if min(X.shape) <= 1000 else "covariance_eigh")
            pca.fit(X.astype(np.float64))
            self.mean, self.components = pca.mean_, pca.components_
            return
        X = X.astype(np.float64)
        self.mean = np.asarray(X.mean(axis=0)).ravel()
        gram = (X @ X.T).toarray()
        cross = X @ self.mean
        gram += self.mean @ self.mean - cross[:, None] - cross[None, :]
        n = len(gram)
        values, vectors = eigh(gram, subset_by_index=(n - longest, n - 1), overwrite_a=True)
        left = vectors[:, ::-1] / np.sqrt(values[::-1])
        self.components = (X.T @ left - np.outer(self.mean, left.sum(axis=0))).T

    def codes(self, X, latent_dim):
        components = self.components[:latent_dim]
        return X @ components.T - components @ self.mean

    def variance_explained(self, X, latent_dim):
        """Share of the variance of X around the training mean; the components are orthonormal."""
        squares = X.multiply(X) if sp.issparse(X) else np.square(X, dtype=np.float64)
        total = squares.sum(dtype=np.float64) - 2 * (X @ self.mean).sum()
        total += X.shape[0] * (self.mean @ self.mean)
        return float(np.square(self.codes(X, latent_dim)).sum() / total)
