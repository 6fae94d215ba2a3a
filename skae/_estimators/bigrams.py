"""ByteBigrams: counts or frequencies of the byte bigrams of byte strings and files."""

import os
from collections.abc import Iterable
from typing import Any, Self

import numpy as np
import scipy.sparse as sp
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils._param_validation import StrOptions

from .parameters import DocumentedMixin

_N_BIGRAMS = 256 * 256


class ByteBigrams(TransformerMixin, DocumentedMixin, BaseEstimator, auto_wrap_output_keys=None):
    """Turn byte strings into sparse rows of byte-bigram frequencies.

    Column ``256 * a + b`` is the frequency of byte ``a`` directly followed by byte ``b``. Models
    need no order of the columns; `DenseAutoencoder` is made for such wide sparse rows. The
    transformer is stateless: `fit` only checks its parameters.

    Parameters
    ----------
    input : {"content", "filename"}, default="content"
        Whether items are the bytes themselves, or paths of files, which are read whole.
    norm : {"l1"} or None, default="l1"
        "l1" returns frequencies: the entries of a row sum to 1. None returns counts.

    Notes
    -----
    An item with fewer than two bytes has no bigrams: its row is all zeros.

    Counts are float32, and therefore exact up to 2**24 occurrences of a bigram in one item.

    A square root of the frequencies (the Hellinger transform) reduces the influence of a few very
    frequent pairs, such as runs of zero bytes, and usually helps:
    ``make_pipeline(ByteBigrams(), FunctionTransformer(np.sqrt), ...)``.

    Examples
    --------
    >>> from skae import ByteBigrams
    >>> X = ByteBigrams(norm=None).fit_transform([b"abab", b"zz", b""])
    >>> X.shape
    (3, 65536)
    >>> X[0, 256 * ord("a") + ord("b")].item()
    2.0
    >>> ByteBigrams().get_feature_names_out()[256 * ord("a") + ord("b")]
    'bigram_6162'
    """

    _parameter_constraints = {
        "input": [StrOptions({"content", "filename"})],
        "norm": [StrOptions({"l1"}), None],
    }

    def __init__(self, *, input: str = "content", norm: str | None = "l1") -> None:
        self.input = input
        self.norm = norm

    def fit(self, X: Any, y: Any = None) -> Self:
        """Check the parameters; the transformer learns nothing.

        Parameters
        ----------
        X : iterable of bytes or of paths
            Ignored; a generator is not consumed.
        y : None
            Ignored.

        Returns
        -------
        self : ByteBigrams
            The estimator itself.
        """
        self._validate_params()
        return self

    def transform(self, X: Iterable[Any]) -> sp.csr_matrix:
        """Count the bigrams of each item.

        Parameters
        ----------
        X : iterable of n_samples items
            Bytes-like objects (``bytes``, ``bytearray``, ``memoryview``, uint8 arrays) with
            ``input="content"``; ``str`` or ``os.PathLike`` paths with ``input="filename"``.

        Returns
        -------
        X_new : CSR matrix of shape (n_samples, 65536), float32
            Frequencies, or counts with ``norm=None``.

        Raises
        ------
        TypeError
            If an item is neither bytes-like nor, with ``input="filename"``, a path, if its entries
            are larger than a byte, or X is an array of byte strings, from which NumPy drops zero
            bytes at the end.
        FileNotFoundError
            If a file does not exist.
        """
        self._validate_params()
        if isinstance(X, (str, bytes, bytearray, memoryview, os.PathLike)):
            raise TypeError(
                f"X must be an iterable of items, one for each row; got a single "
                f"{type(X).__name__}: wrap it in a list."
            )
        if hasattr(X, "columns"):
            raise TypeError("X is a data frame: pass the column that has the items, X[name].")
        if isinstance(X, np.ndarray) and X.dtype.kind == "S":
            raise TypeError(
                f"X is an array of dtype {X.dtype}, from which NumPy drops zero bytes at the end: "
                f"pass a list of bytes, or np.array(chunks, dtype=object)."
            )
        indices, counts, indptr = [], [], [0]
        for position, item in enumerate(X):
            present, count = _count_bigrams(self._bytes_of(item, position))
            if self.norm == "l1":
                count = count / max(1, count.sum())
            indices.append(present.astype(np.int32))
            counts.append(count.astype(np.float32))
            indptr.append(indptr[-1] + len(present))
        if len(indptr) == 1:
            raise ValueError("X must contain at least one item; got an empty iterable.")
        index_dtype = np.int32 if indptr[-1] < 2**31 else np.int64
        return sp.csr_matrix(
            (
                np.concatenate(counts),
                np.concatenate(indices).astype(index_dtype, copy=False),
                np.array(indptr, dtype=index_dtype),
            ),
            shape=(len(counts), _N_BIGRAMS),
        )

    def _bytes_of(self, item, position):
        """The bytes of one item as a uint8 array."""
        if self.input == "filename":
            if not isinstance(item, (str, os.PathLike)):
                raise TypeError(
                    f"X[{position}] must be a path with input='filename'; "
                    f"got {type(item).__name__}."
                )
            with open(item, "rb") as file:  # np.fromfile finds nothing in pipes and the like
                return np.frombuffer(file.read(), dtype=np.uint8)
        if isinstance(item, str):
            raise TypeError(
                f"X[{position}] must be bytes, got str: encode the text first, or use "
                f"input='filename' if it is the path of a file."
            )
        try:
            content = memoryview(item)
        except (TypeError, ValueError):
            raise TypeError(f"X[{position}] must be bytes, got {type(item).__name__}.") from None
        if content.itemsize != 1:  # an array of objects contains addresses
            raise TypeError(
                f"X[{position}] must be bytes, got {type(item).__name__} with entries of "
                f"{content.itemsize} bytes."
            )
        return np.ascontiguousarray(content).reshape(-1).view(np.uint8)

    def set_output(self, *, transform: str | None = None) -> Self:
        """Do nothing: rows remain sparse, which data frames cannot hold, as in `CountVectorizer`.

        Parameters
        ----------
        transform : str, default=None
            Ignored.

        Returns
        -------
        self : ByteBigrams
            The estimator itself.
        """
        return self

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Name the columns: ``bigram_`` and the two bytes in hexadecimal.

        Parameters
        ----------
        input_features : None
            Ignored.

        Returns
        -------
        names : ndarray of 65,536 str objects
            From "bigram_0000" to "bigram_ffff".
        """
        return np.array([f"bigram_{pair:04x}" for pair in range(_N_BIGRAMS)], dtype=object)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.requires_fit = False
        tags.input_tags.two_d_array = False
        tags.input_tags.string = True
        return tags


def _count_bigrams(data):
    """Bigrams that occur in ``data``, in order, and their counts."""
    if len(data) < 2:
        nothing = np.empty(0, dtype=np.int64)
        return nothing, nothing
    pairs = data[:-1].astype(np.int64) << 8 | data[1:]
    counts = np.bincount(pairs, minlength=_N_BIGRAMS)
    present = np.flatnonzero(counts)
    return present, counts[present]
