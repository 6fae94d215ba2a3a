"""Rows that count more or less than once: `sample_weight` in the principal directions."""

import numpy as np
import torch
from sklearn.utils.validation import _check_sample_weight

from ._blocks import Blocks

# Less than so many times the precision of a row is taken for rounding.
_ROUNDING = 100


def weighed(X, sample_weight):
    """The rows that count, and how often: weights of mean one, None where all count the same."""
    if sample_weight is None:
        return X, None
    weights = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
    if not weights.any():
        raise ValueError("sample_weight is zero for every row: at least one must count.")
    if not weights.all():
        if isinstance(X, Blocks):
            raise ValueError("sample_weight is zero for some rows of blocks: leave them out.")
        X, weights = X[weights > 0], weights[weights > 0]
    if (weights == weights[0]).all():
        return X, None
    return X, weights / weights.mean()


def deviations_of(codes, weights, sample_weight):
    """Standard deviation of each code; weights above one count like so many rows."""
    codes = codes.astype(np.float64)  # squares of large float32 are no numbers
    if weights is None:
        return codes.std(axis=0, ddof=1)
    n_rows = max(float(np.sum(sample_weight)), len(codes))
    centred = codes - np.average(codes, axis=0, weights=weights)
    return np.sqrt(weights @ centred**2 / len(codes) * n_rows / (n_rows - 1))


def divisors(deviations, dtype):
    """By what to divide codes of a dtype to whiten them: 1 for those whose deviation is rounding.

    That is about the last place of a whole row, which has the length of all deviations together.
    """
    least = _ROUNDING * np.finfo(dtype).eps * np.sqrt(np.square(deviations).sum())
    return np.where(deviations > least, deviations, 1).astype(dtype)


def counting(rows):
    """The rows as the principal directions see them: each as often as its weight says."""
    return rows if rows.weights is None else WeightedRows(rows)


class WeightedRows:
    """``sqrt(W) A``, which has the principal directions of rows repeated W times.

    Parameters
    ----------
    rows : Rows
        A, with weights W of mean one.
    """

    def __init__(self, rows):
        self._rows = rows
        self.shape = rows.shape
        self.mean = rows.mean
        self.dtype = rows.dtype
        self.device = rows.device

    def __len__(self):
        return len(self._rows)

    def times(self, W):
        product = self._rows.times(W)
        return product.mul_(_roots(self._rows, product)[:, None])

    def transposed_times(self, Q):
        return self._rows.transposed_times(Q * _roots(self._rows, Q)[:, None])

    def prepare_for_many_products(self):
        self._rows.prepare_for_many_products()

    def squared_norms(self):
        return self._rows.weights * self._rows.squared_norms()

    def covariance(self):
        return self._rows.covariance()

    def gram(self):
        gram = self._rows.gram()
        roots = _roots(self._rows, gram)
        return gram.mul_(roots).mul_(roots[:, None])


def _roots(rows, like):
    return torch.from_numpy(np.sqrt(rows.weights)).to(like)
