"""Rows that are divided among the processes of a group: each process has its own."""

from contextlib import contextmanager
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from torch import distributed

from .._runtime.process_group import n_processes, rank
from .._runtime.tensors import output_dtype
from .arrays import in_main_memory
from .blocks import ArrayAdapter, Blocks, is_chunked
from .sparse import canonical_csr

# Kinds of values that may be joined, by the letter of their dtype.
_KINDS = {**dict.fromkeys("biuf", "numbers"), **dict.fromkeys("US", "strings"), "O": "objects"}


class ProcessRows(Blocks):
    """Own rows of each process of a `torch.distributed` group, used together as one X.

    For `fit`: X is the rows of all processes, in the order of ranks, and every process ends with
    the same model. Products with principal directions are computed by each process for its own
    rows, and summed over the processes. Networks are trained together: `DenseAutoencoder` with the
    linear path on the scores of all rows, which every process has; plain and convolutional networks
    on batches of which each process takes its own rows. Without a process group, X is the rows of
    this process.

    All processes must make the same calls in the same order, the constructor included, on machines
    of the same kind. `y`, `sample_weight` and `groups` of `fit` are those of the own rows. Pass
    other X, such as arrays, if all processes have the same rows.

    Parameters
    ----------
    X : {array-like, sparse matrix or array, HDF5 dataset, zarr array}
        The rows of this process, at least one. Their number may differ between processes.

    Attributes
    ----------
    shape : tuple of int
        Number of rows of all processes and of columns.
    dtype : numpy.dtype
        That of the rows of the first process.

    Raises
    ------
    ValueError
        If the rows of the processes differ in their number of columns, or only some are sparse.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skae import DenseAutoencoder, ProcessRows
    >>> X = load_digits().data
    >>> rows = ProcessRows(X)
    >>> rows.shape
    (1797, 64)
    >>> DenseAutoencoder(8, hidden_layer_sizes=()).fit(rows).transform(X).shape
    (1797, 8)
    """

    def __init__(self, X: Any) -> None:
        own = self._own = _block_of(X)
        found = _of_all_processes(lambda: (*own.shape, sp.issparse(own), own.dtype))
        kinds = {(n_columns, is_sparse) for _, n_columns, is_sparse, _ in found}
        if len(kinds) > 1:
            described = ", ".join(
                f"{n_columns} columns ({'sparse' if is_sparse else 'dense'})"
                for n_columns, is_sparse in sorted(kinds)
            )
            raise ValueError(f"The rows of the processes must be of one kind, got {described}.")
        _, n_columns, self.is_sparse, self.dtype = found[0]
        ends = accumulate((n_rows for n_rows, *_ in found), initial=0)
        self.row_slices = [slice(*pair) for pair in pairwise(ends)]
        self.own = self.row_slices[rank()]
        self.shape = self.row_slices[-1].stop, n_columns

    def __getitem__(self, index):
        """Return rows of all processes, which must all ask for the same.

        Parameters
        ----------
        index : slice without a step, or ndarray of int

        Returns
        -------
        rows : ndarray or CSR matrix
        """
        indices = np.arange(len(self))[index]
        order = np.argsort(indices, kind="stable")
        ordered = indices[order]
        own = ordered[(ordered >= self.own.start) & (ordered < self.own.stop)]
        parts = _of_all_processes(lambda: self.own_rows(own))
        return self._stacked(parts)[np.argsort(order)]

    def own_rows(self, indices):
        """Return own rows, without the other processes.

        Parameters
        ----------
        indices : ndarray of int
            Of the own rows among all rows.

        Returns
        -------
        rows : ndarray or CSR matrix
            In the order of the indices.
        """
        positions = indices - self.own.start
        if (positions < 0).any():
            raise IndexError("The rows are those of another process.")
        return self._own[positions]

    def each(self, function, arguments):
        """Call a function with the rows of each process, in that process.

        Parameters
        ----------
        function : callable
            Called with the own rows and their further arguments.
        arguments : list of tuple
            The further arguments, one tuple for each process.

        Returns
        -------
        results : list
            One for each process, the same list in all of them.
        """
        return _of_all_processes(lambda: function(self._own, *arguments[rank()]))

    def total(self, function, arguments):
        """Sum the results of a function of the rows of each process.

        Parameters
        ----------
        function : callable
            Called with the own rows and their further arguments.
        arguments : list of tuple
            As in `each`.

        Returns
        -------
        total : Tensor or ndarray
            The sum, the same in all processes.
        """
        results = []

        def compute():
            results.append(function(self._own, *arguments[rank()]))

        _of_all_processes(compute)  # raises in every process if it fails in one
        [own] = results
        if n_processes() == 1:
            return own
        total = torch.as_tensor(own).to(_device_of_group())
        with _explained():
            distributed.all_reduce(total)
        if isinstance(own, torch.Tensor):
            return total.to(own.device)
        return total.cpu().numpy()

    def of_all_rows(self, values, name):
        """Join values of the own rows of each process.

        Parameters
        ----------
        values : array-like or None
            One value for each of the own rows.
        name : str
            The name of the argument of `fit`.

        Returns
        -------
        values : ndarray or None
            One value for each row of all processes; None if no process has any.

        Raises
        ------
        ValueError
            If only some processes have values, or these are of different kinds.
        """
        values = in_main_memory(values, name)
        parts = _of_all_processes(lambda: None if values is None else np.asarray(values))
        without = [number for number, part in enumerate(parts) if part is None]
        if len(without) == len(parts):
            return None
        if without:
            raise ValueError(
                f"{name} must be given by all processes or by none: process {without[0]} of "
                f"{len(parts)} has none."
            )
        kinds = {_KINDS.get(part.dtype.kind, str(part.dtype)) for part in parts}
        if len(kinds) > 1:
            raise ValueError(
                f"{name} must be of one kind in all processes, got {' and '.join(sorted(kinds))}."
            )
        return np.concatenate([np.atleast_1d(part) for part in parts])


def _block_of(X):
    """Return the rows of this process in the form of the blocks of other kinds of storage."""
    if sp.issparse(X):
        return canonical_csr(X, output_dtype(X.dtype))
    return ArrayAdapter(X) if is_chunked(X) else np.asarray(in_main_memory(X, "X"))


def _of_all_processes(compute):
    """Return the results of a function in all processes; an error in one is raised in all."""
    if n_processes() == 1:
        return [compute()]
    outcome = None, None
    try:
        outcome = compute(), None
    except Exception as error:  # the other processes would wait for this one
        outcome = None, f"{type(error).__name__}: {error}"
        own_error = error
    outcomes = [None] * n_processes()
    with _explained():
        distributed.all_gather_object(outcomes, outcome)
    if outcome[1] is not None:
        raise own_error
    for number, (_, message) in enumerate(outcomes):
        if message is not None:
            raise RuntimeError(f"Process {number} of {len(outcomes)} failed: {message}")
    return [result for result, _ in outcomes]


def _device_of_group():
    """The device of the tensors that the processes exchange."""
    if distributed.get_backend() == "gloo":
        return torch.device("cpu")
    return torch.device(torch.accelerator.current_accelerator() or "cpu")


@contextmanager
def _explained():
    """Raise an error that explains itself if another process has ended."""
    try:
        yield
    except RuntimeError as error:
        raise RuntimeError(
            f"Another process of the {n_processes()} that share a fit has ended, so that this one "
            f"cannot continue: see its output."
        ) from error
