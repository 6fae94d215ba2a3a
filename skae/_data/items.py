"""X as a collection of items: lists of pictures, torch Datasets and DataLoaders, as one array."""

import os
import warnings
from collections.abc import Iterable, Iterator, Sequence
from math import prod

import numpy as np
import torch
from sklearn.utils._missing import is_pandas_na
from torch.utils.data import DataLoader, Dataset, IterableDataset, RandomSampler, SequentialSampler

from .._runtime.device import free_bytes
from .._runtime.tensors import array_of
from .arrays import filled, is_tensor

_CPU = torch.device("cpu")


def as_rows(X):
    """Return X as one array if it is a collection of items; other X is returned unchanged.

    A list, another sequence or an array of objects that are arrays or pictures is stacked, and so
    are the items of a torch Dataset, in its order, without their targets. A tensor in main memory
    becomes an array, and hidden entries of a masked array become NaN.

    Raises
    ------
    MemoryError
        If a Dataset does not fit into memory.
    TypeError
        If the rows of X can be read only once, or in no certain order.
    ValueError
        If X is empty, or its items are of different shapes.
    """
    if isinstance(X, torch.Tensor):
        return X if is_tensor(X) else _of_tensor(X)
    if isinstance(X, np.ma.MaskedArray):
        return filled(X)
    if isinstance(X, DataLoader):
        return _of_loader(X)
    if isinstance(X, Dataset):
        return _of_dataset(X)
    if isinstance(X, memoryview):
        return np.asarray(X)
    if isinstance(X, np.ndarray):
        is_of_items = X.dtype == object and X.ndim == 1 and len(X) and _is_item(X[0])
        return _stacked(list(X), "an array of objects") if is_of_items else _of_numbers(X)
    if isinstance(X, Sequence) and not isinstance(X, (str, bytes, bytearray)):
        return _of_sequence(X)
    if hasattr(X, "__array_interface__") and hasattr(X, "getbands"):
        raise ValueError("X is a single picture, where several are expected: pass [X].")
    if _is_series_of_items(X):
        return _stacked(list(X), f"a {type(X).__name__}")
    if isinstance(X, Iterator) or not _has_length(X):
        raise TypeError(
            f"X is a {type(X).__name__}, whose rows can be read only once, or have no known "
            f"number: pass an array, np.stack(list(X)) of rows or np.concatenate(list(X)) of "
            f"batches."
        )
    return X


def check_two_axes(X, estimator):
    """Raise ValueError if X has more axes than rows and columns.

    Stored arrays cannot be reshaped: their pictures are flat rows, with a warning.
    """
    shape = getattr(X, "shape", None)
    if not isinstance(shape, tuple) or len(shape) <= 2:
        return
    if not hasattr(X, "reshape"):
        warnings.warn(
            f"X of shape {shape} is read as {shape[0]} flat rows of {prod(shape[1:])} columns; "
            f"ConvAutoencoder takes pictures.",
            UserWarning,
            stacklevel=3,
        )
        return
    raise ValueError(
        f"X of shape {shape} has {len(shape)} axes, but {type(estimator).__name__} takes flat "
        f"rows: pass X.reshape(len(X), -1), of an array from np.stack or a Dataset too, or use "
        f"ConvAutoencoder for pictures. The pixels of one picture of many bands are "
        f"X.reshape(-1, X.shape[-1])."
    )


def as_pictures(X, shape):
    """Return the result of `as_rows`; raise ValueError if it is one picture of the given shape."""
    X = as_rows(X)
    is_one = shape is not None and tuple(getattr(X, "shape", ())) == tuple(shape)
    if is_one and len(shape) > 1 and len(X) > 1:
        raise ValueError(
            f"X has the shape of one picture, {tuple(shape)}, where an array of pictures is "
            f"expected: pass X[None]."
        )
    return X


def warn_of_targets(X, y, shape):
    """Warn if y has as many values as rows of a given shape, and is not X: they are ignored."""
    if y is None or y is X or shape[1] < 2:
        return
    try:
        shape_of_y = tuple(np.shape(y) if isinstance(y, (list, tuple)) else getattr(y, "shape", ()))
    except ValueError:  # a list of different lengths
        return
    if len(shape_of_y) < 2 or (shape_of_y[0], prod(shape_of_y[1:])) != tuple(shape):
        return
    if isinstance(X, np.ndarray) and isinstance(y, np.ndarray) and np.array_equal(X, y):
        return
    warnings.warn(
        f"y has as many values as X, shape {shape_of_y}, and is ignored: the target of each row is "
        f"the row itself. For denoising pass clean rows as X, with noise or corruption, which are "
        f"added in training.",
        UserWarning,
        stacklevel=3,
    )


def _has_length(X):
    """Whether X is no iterable, or one with a number of rows."""
    names = ("__len__", "__array__", "shape", "__dlpack__", "__dataframe__")
    return not isinstance(X, Iterable) or any(hasattr(X, name) for name in names)


def _is_item(value):
    """Whether a value in a collection is a row or a picture, and no number or text."""
    return hasattr(value, "__array__") and np.ndim(value) > 0 and not hasattr(value, "columns")


def _is_series_of_items(X):
    """Whether X is a column of a data frame whose values are arrays or pictures."""
    is_column = hasattr(X, "dtype") and hasattr(X, "name") and len(getattr(X, "shape", ())) == 1
    return is_column and str(X.dtype) == "object" and len(X) > 0 and _is_item(next(iter(X)))


def _of_tensor(X):
    if X.is_nested or X.is_quantized:
        raise TypeError(
            "X is a nested or quantized tensor: pass X.to_padded_tensor(0) or X.dequantize()."
        )
    if X.layout != torch.strided:
        raise TypeError("X is a sparse tensor: pass a SciPy sparse array, or X.to_dense().")
    return array_of(X.detach().resolve_conj().resolve_neg())


def _of_sequence(X):
    items = list(X)
    if not items:
        raise ValueError(f"X is an empty {type(X).__name__}: it must have rows.")
    if isinstance(items[0], (str, os.PathLike)):
        raise ValueError(
            f"X is a {type(X).__name__} of texts, such as {items[0]!r}, where rows of numbers are "
            f"expected: pass the pictures of files, such as [Image.open(path) for path in X]."
        )
    if isinstance(items[0], torch.Tensor) or _is_item(items[0]):
        return _stacked(items, f"a {type(X).__name__}")
    try:
        return _of_numbers(np.asarray(items))
    except ValueError:
        if isinstance(items[0], tuple) and np.ndim(next(iter(items[0]), 0)):
            raise ValueError(
                "X is a list of tuples of values of different shapes: pass the rows alone, "
                "[item[0] for item in X] of pairs of a row and its label."
            ) from None
        _check_shapes([np.shape(item) for item in items if _is_regular(item)], "a list")
        raise


def _of_numbers(X):
    """Return an array with NaN for pandas' NA, as None is for scikit-learn; refuse dates."""
    if X.dtype.kind in "mM":
        raise ValueError(f"X must have numbers, got values of type {X.dtype}.")
    if X.dtype == object:
        return np.where(np.frompyfunc(is_pandas_na, 1, 1)(X).astype(bool), np.nan, X)
    return X


def _is_regular(item):
    try:
        np.shape(item)
    except ValueError:
        return False
    return True


def _stacked(items, kind):
    arrays = [_as_array(item) for item in items]
    _check_shapes([array.shape for array in arrays], kind)
    return np.stack(arrays)


def _as_array(item):
    if isinstance(item, torch.Tensor):
        return _of_tensor(item.cpu())
    return filled(item) if isinstance(item, np.ma.MaskedArray) else np.asarray(item)


def _check_shapes(shapes, kind):
    """Raise ValueError unless all shapes are the same."""
    for position, shape in enumerate(shapes):
        if shape != shapes[0]:
            raise ValueError(
                f"X is {kind} of items of different shapes, {shapes[0]} and, at index {position}, "
                f"{shape}: all rows must have the same shape. Crop or resize pictures to one size."
            )


def _of_loader(loader):
    """Rows of a DataLoader, in the order of its Dataset if it takes them in random order."""
    kind, sampler = type(loader).__name__, loader.sampler
    is_shuffled = isinstance(sampler, RandomSampler) and not sampler.replacement
    is_plain = isinstance(loader.dataset, IterableDataset) or isinstance(sampler, SequentialSampler)
    if is_shuffled and len(sampler) == len(loader.dataset) and loader.batch_size is not None:
        batches = DataLoader(loader.dataset, loader.batch_size, collate_fn=loader.collate_fn)
    elif is_plain:
        batches = loader
    else:
        raise TypeError(
            f"X is a {kind} with a sampler, which may give other rows each time: pass its Dataset, "
            f"torch.utils.data.Subset of it, or np.concatenate(list(X))."
        )
    parts, n_bytes = [], 0
    for batch in batches:
        parts.append(_as_array(_rows_of(batch, kind, is_first=not parts)))
        n_bytes += parts[-1].nbytes
        _check_memory(n_bytes, kind)
    if not parts:
        raise ValueError(f"X is an empty {kind}: it must have rows.")
    _check_shapes([part.shape[1:] for part in parts], f"a {kind}")
    return np.concatenate(parts)


def _of_dataset(dataset):
    kind = type(dataset).__name__
    if isinstance(dataset, IterableDataset) or not hasattr(dataset, "__len__"):
        items = []
        for item in dataset:
            items.append(_as_array(_rows_of(item, kind, is_first=not items)))
            _check_memory(len(items) * items[-1].nbytes, kind)
        if not items:
            raise ValueError(f"X is an empty {kind}: it must have rows.")
        return _stacked(items, f"a {kind}")
    if not len(dataset):
        raise ValueError(f"X is an empty {kind}: it must have rows.")
    first = _as_array(_rows_of(dataset[0], kind, is_first=True))
    _check_memory(len(dataset) * first.nbytes, kind)
    rest = (dataset[i] for i in range(1, len(dataset)))
    return _stacked([first, *(_as_array(_rows_of(item, kind)) for item in rest)], f"a {kind}")


def _rows_of(item, kind, is_first=False):
    """The input of a pair of input and target, or the item itself."""
    if isinstance(item, (tuple, list)) and item:
        item, *others = item
        if is_first and others and _is_item(item) and _is_item(others[0]):
            x, y = _as_array(item)[None], _as_array(others[0])[None]
            warn_of_targets(x, y, (1, x.size if x.ndim == y.ndim else 0))
    if not isinstance(item, torch.Tensor) and not _is_item(item):
        raise TypeError(
            f"X is a {kind} of items of type {type(item).__name__}: they must be arrays or "
            f"tensors, or tuples that start with one. Pass np.stack([... for item in X])."
        )
    return item


def _check_memory(n_bytes, kind):
    free = free_bytes(_CPU)
    if n_bytes > free:
        raise MemoryError(
            f"X is a {kind} of {n_bytes / 1e9:.3g} GB or more, but {free / 1e9:.3g} GB of memory "
            f"are free: write its rows to a memory-mapped array, np.lib.format.open_memmap(path, "
            f"'w+', dtype, shape), and pass that."
        )
