"""Arrays of other libraries, such as torch, CuPy and JAX: as input, and results of their kind."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any, TypeVar, cast

import numpy as np
import torch
from sklearn import get_config
from sklearn.utils import _array_api

from .._runtime.device import supported_dtype
from .._runtime.tensors import array_of, output_dtype, tensor_of, torch_dtype

F = TypeVar("F", bound=Callable[..., Any])

# The type of devices in main memory in the DLPack protocol.
_MAIN_MEMORY = 1


@dataclass(frozen=True)
class ArrayKind:
    """The library and the device of an array.

    Attributes
    ----------
    namespace : module
        The functions of the library, as the array API standard names them.
    device : object
        A device of the library.
    """

    namespace: Any
    device: Any

    @property
    def name(self):
        """The name of the library."""
        return self.namespace.__name__.rpartition("array_api_compat.")[2]

    def of(self, result):
        """Return an ndarray, or a tensor on an accelerator, as an array of this kind.

        A tuple is a tuple of these. Other results are returned unchanged.
        """
        if isinstance(result, tuple):
            return tuple(map(self.of, result))
        if isinstance(result, torch.Tensor):
            return result if self.name == "torch" else self.namespace.from_dlpack(result)
        if isinstance(result, np.ndarray):
            return self.namespace.asarray(result, device=self.device)
        return result


def received(X, name="X"):
    """Return an argument of a public method in the form used for computing, and its kind.

    With scikit-learn's ``array_api_dispatch``, arrays in main memory become ndarrays that share it,
    and arrays on an accelerator become tensors there. All else is returned as it is, and its kind
    is None.

    Raises
    ------
    TypeError
        If X is on an accelerator and ``array_api_dispatch`` is off, or is a sparse tensor.
    """
    is_array = hasattr(X, "__dlpack__") and not isinstance(X, (np.ndarray, np.generic))
    if not is_array:
        return X, None
    if not get_config()["array_api_dispatch"]:
        _check_in_main_memory(X, name)
        return X, None
    if getattr(X, "layout", torch.strided) != torch.strided:
        raise TypeError(
            f"{name} is a sparse tensor: pass a SciPy sparse array, or {name}.to_dense()."
        )
    kind = ArrayKind(_array_api.get_namespace(X)[0], _array_api.device(X))
    tensor = _tensor(X, kind).detach()
    if tensor.device.type != "cpu":
        return tensor, kind
    return array_of(tensor), kind


def in_main_memory(values, name):
    """Return an array-like of one value per row; tensors and masked arrays become ndarrays."""
    values, _ = received(values, name)
    if isinstance(values, np.ma.MaskedArray):
        return filled(values)
    return array_of(values.detach()) if isinstance(values, torch.Tensor) else values


def filled(X):
    """Return a masked array as an ndarray, in which hidden entries are NaN."""
    if not np.ma.getmaskarray(X).any():
        return X.data
    dtype = np.promote_types(X.dtype, np.float32) if X.dtype.kind in "biuf" else object
    return X.astype(dtype).filled(np.nan)


def is_tensor(X):
    """Whether X is a tensor on an accelerator; `received` converts those in main memory."""
    return isinstance(X, torch.Tensor) and X.device.type != "cpu"


def in_precision_for(X, results):
    """Return results in float32 if that represents X, or on a device without float64; else float64.

    Both are ndarrays, or tensors on an accelerator; X may be sparse, or blocks.
    """
    dtype = output_dtype(X.dtype)
    if not is_tensor(results):
        return results.astype(dtype, copy=False)
    return results.to(supported_dtype(torch_dtype(dtype), results.device))


def device_of(X):
    """Return the torch device of the result of `received`."""
    return X.device if is_tensor(X) else torch.device("cpu")


def with_results_in_kind(method: F) -> F:
    """Decorate a method of a copy of an estimator: its result is of the kind of X.

    The method computes on the device of X if the parameter ``device`` is "auto".
    """

    @wraps(method)
    def wrapper(self: Any, X: Any, *args: Any, **kwargs: Any) -> Any:
        X, kind = received(X)
        if kind is None:
            return method(self, X, *args, **kwargs)
        if self.device == "auto":
            self.device = device_of(X)
        return kind.of(method(self, X, *args, **kwargs))

    return cast(F, wrapper)


def check_same_library(X, library, method):
    """Raise ValueError if X is of another library than the arrays passed to `fit`.

    scikit-learn's estimators raise it too while ``array_api_dispatch`` is on.

    Parameters
    ----------
    X : array-like
    library : str or None
        The name of the library; None if `fit` was given none.
    method : str
    """
    if library is None or not get_config()["array_api_dispatch"]:
        return
    _, kind = received(X)
    name = "numpy" if kind is None else kind.name
    if name != library:
        raise ValueError(
            f"Inputs passed to {method}() must use the same namespace as those passed to fit(): "
            f"{library}, got {name}. Convert X, or switch array_api_dispatch off for this call."
        )


def _tensor(X, kind):
    if isinstance(X, torch.Tensor):
        return X
    try:
        return torch.from_dlpack(X)
    except (AttributeError, BufferError, RuntimeError, TypeError, ValueError):
        # Read-only memory, or a device without DLPack.
        return tensor_of(np.asarray(_array_api._convert_to_numpy(X, kind.namespace)))


def _check_in_main_memory(X, name):
    if isinstance(X, torch.Tensor):
        is_elsewhere, where = X.device.type != "cpu", f"a tensor on {str(X.device)!r}"
    else:
        is_elsewhere = X.__dlpack_device__()[0] != _MAIN_MEMORY
        where = f"an array of type {type(X).__name__} on an accelerator"
    if is_elsewhere:
        raise TypeError(
            f"{name} is {where}: use sklearn.set_config(array_api_dispatch=True) to compute there, "
            f"or pass a copy in main memory."
        )
