"""Reconstruction errors by column: of every entry, the largest of each row, or the mean of rows."""

from functools import partial
from numbers import Integral
from typing import Any, overload

import numpy as np
import torch
from sklearn.utils.validation import _check_n_features, check_is_fitted

from .._data.arrays import with_results_in_kind
from .._data.blocks import Blocks, is_dask, lazy_result
from .._data.sparse import some_rows
from .._runtime.device import resolve_device
from .._runtime.execution import on_snapshot
from .state import in_chunks

# Memory for an entry of a batch: the row, its reconstruction, their difference and the error.
_BYTES_PER_ENTRY = 24


class ColumnErrorsMixin:
    """The method `reconstruction_errors` of an autoencoder."""

    @overload
    def reconstruction_errors(
        self, X: Any, *, top: None = None, mean: bool = False
    ) -> np.ndarray: ...

    @overload
    def reconstruction_errors(
        self, X: Any, *, top: int, mean: bool = False
    ) -> tuple[np.ndarray, np.ndarray]: ...

    @on_snapshot
    @with_results_in_kind
    def reconstruction_errors(
        self, X: Any, *, top: int | None = None, mean: bool = False
    ) -> np.ndarray | tuple[np.ndarray, np.ndarray]:
        """Return the reconstruction error of each column of each row.

        The sum over the columns of a row is minus its `score_samples`. The errors have the same
        unit: squared units of X, or the unit of the loss.

        Parameters
        ----------
        X : {array-like, sparse matrix or array} of shape (n_samples, n_features)
        top : int, default=None
            Return only the ``top`` largest errors of each row, and their columns. Memory is then
            needed for a few thousand rows at a time, also if X is sparse and wide.
        mean : bool, default=False
            Return the mean of each column over the rows of X, likewise in little memory.

        Returns
        -------
        errors : ndarray of shape (n_samples, n_features), (n_samples, top) or (n_features,)
            Of float64, not negative; zero for missing entries. For a `ConvAutoencoder` that was
            fitted to pictures, rows and means have the shape of these, unless ``top`` is given.
        columns : ndarray of int of shape (n_samples, top)
            Only with ``top``: the columns of these errors, the largest error first;
            ``feature_names_in_[columns]`` are their names.
        """
        check_is_fitted(self)
        _check_choice(top, mean, self.n_features_in_)
        state: Any = self._state
        if is_dask(X) and top is None and not mean and state.flat:
            _check_n_features(self, X, reset=False)
            method = "reconstruction_errors"
            return lazy_result(self, method, X, self.n_features_in_, np.float64)
        X = self._validate_rows(X, reset=False)
        if top is not None:
            return _of_entries(X, state, self.device, int(top))
        compute = _mean if mean else _of_entries
        errors = compute(X, state, self.device)
        return errors if state.flat else errors.reshape(*errors.shape[:-1], *state.shape)


def _check_choice(top, mean, n_features):
    if top is None:
        return
    if not isinstance(top, Integral) or isinstance(top, bool) or not 1 <= top <= n_features:
        raise ValueError(
            f"top={top!r} must be None or an integer from 1 to n_features={n_features}."
        )
    if mean:
        raise ValueError(f"top={top!r} needs mean=False: it is the largest errors of each row.")


def _of_entries(X, state, device, top=None):
    """All errors (n, p), or the ``top`` largest of each row and their columns, both (n, top)."""
    if isinstance(X, Blocks):
        parts = list(X.apply(partial(_of_entries, state=state, device=device, top=top)))
        if top is None:
            return np.concatenate(parts)
        return tuple(np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    errors = np.empty(X.shape if top is None else (X.shape[0], top))
    columns = None if top is None else np.empty(errors.shape, dtype=np.int64)

    def store(rows, part):
        if top is not None:
            part, indices = torch.topk(part, top, dim=1)
            columns[rows] = indices.cpu()
        errors[rows] = part.cpu()

    _for_batches(X, state, device, store)
    return errors if top is None else (errors, columns)


def _mean(X, state, device):
    """The mean error of each column (p,)."""
    compute = partial(_total, state=state, device=device)
    total = X.total(compute, [()] * len(X.row_slices)) if isinstance(X, Blocks) else compute(X)
    return total / X.shape[0]


def _total(X, state, device):
    total = np.zeros(X.shape[1])

    def add(rows, part):
        total[:] += part.sum(dim=0).cpu().numpy()

    _for_batches(X, state, device, add)
    return total


def _for_batches(X, state, device, use):
    """Call a function with slices of rows and the errors of their entries."""
    codec = state.on(resolve_device(device))
    row_bytes = codec.bytes_of_row(X) + _BYTES_PER_ENTRY * X.shape[1]

    def compare(rows):
        use(rows, codec.errors_by_column(codec.rows(some_rows(X, rows), compared=True)))

    in_chunks(codec, X.shape[0], row_bytes, compare)
