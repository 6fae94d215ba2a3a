"""Fitted autoencoders as files of arrays and JSON, which are read without running anything.

A file is of safetensors' format: the arrays, and in its metadata one text of JSON that says what
they belong to.
"""

import json
import os
from contextlib import suppress
from copy import copy
from errno import EIO
from hashlib import sha256
from numbers import Real
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from sklearn import __version__ as sklearn_version
from sklearn.utils.validation import check_is_fitted

from .._estimators.bigrams import ByteBigrams
from .._estimators.conv import ConvAutoencoder
from .._estimators.dense import DenseAutoencoder
from .._nn.autoencoders import Autoencoder, LinearPathAutoencoder, ResidualAutoencoder
from .._nn.serialization import decoded, encoded
from .._runtime.execution import with_neutral_settings
from .._runtime.tensors import torch_dtype
from .._version import __version__

_CLASSES = {kind.__name__: kind for kind in (ByteBigrams, ConvAutoencoder, DenseAutoencoder)}

# Of what files look like; a newer one may mean something else by the same words.
_FORMAT = 1

# Parameters that name folders and code: a file that could set them could have code run by `fit`.
_OF_THE_PROCESS = {"callbacks", "checkpoint", "memory"}

# What `partial_fit` remembers beyond the model, and what `set_callbacks` of scikit-learn sets.
_NOT_WRITTEN = {"_stream", "_skl_callbacks"}

# What every fit learns beside the module and the arrays whose shapes are checked.
_LEARNT = {
    "n_iter_": int,
    "history_": list,
    "_gains_when_cut": dict,
    "_lengths": tuple,
    "_code_scale": (np.ndarray, type(None)),
}

_LEARNT_OF = {
    ConvAutoencoder: {"input_shape_": tuple, "_fitted_flat": bool},
    DenseAutoencoder: {"_masked": Real},
}

_OTHER_OBJECT = """\
estimator must be one of {}, got {}. skops saves it whole, and loads nothing but types that \
you trust, whose names to read first:
    skops.io.dump(estimator, path)
    types = skops.io.get_untrusted_types(file=path)
    estimator = skops.io.load(path, trusted=types)"""


@with_neutral_settings
def save(estimator: Any, path: str | PathLike) -> None:
    """Write a fitted autoencoder to one file, without pickle.

    The file is of the safetensors format: parameters, versions and the history of the fit as JSON,
    and every array and weight. `load` gives back an estimator whose codes are the same bits.

    Parameters
    ----------
    estimator : DenseAutoencoder, ConvAutoencoder or ByteBigrams
        A pipeline around it needs skops, joblib or pickle, and networks of one's own must be made
        of common layers of `torch.nn`. The parameters ``memory``, ``checkpoint`` and ``callbacks``
        are left out, and so is what `partial_fit` remembers beyond the model.
    path : str or path-like
        The file; one that is there is replaced once the new one is whole.

    Raises
    ------
    TypeError
        If it is another object; the message shows how skops saves it.
    ValueError
        If it holds something that cannot be written; the message names it.
    OSError
        If the file cannot be written; one that was there stays as it was.

    See Also
    --------
    load : Its inverse.

    Examples
    --------
    >>> import numpy as np, tempfile
    >>> from sklearn.datasets import load_digits
    >>> import skae
    >>> X = load_digits().data
    >>> pca = skae.DenseAutoencoder(8, hidden_layer_sizes=()).fit(X)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     skae.save(pca, f"{folder}/digits.skae")
    ...     loaded = skae.load(f"{folder}/digits.skae")
    >>> np.array_equal(loaded.transform(X), pca.transform(X))
    True
    """
    if type(estimator) not in _CLASSES.values():
        raise TypeError(_OTHER_OBJECT.format(", ".join(_CLASSES), type(estimator).__name__))
    check_is_fitted(estimator)
    estimator = copy(estimator)  # which another thread may fit anew meanwhile
    arrays = {}
    parameters = estimator.get_params(deep=False)
    state = {
        name: value
        for name, value in vars(estimator).items()
        if name not in parameters and name not in _NOT_WRITTEN
    }
    parameters = {k: v for k, v in parameters.items() if k not in _OF_THE_PROCESS}
    content = {
        "format": _FORMAT,
        "versions": _versions(),
        "class": type(estimator).__name__,
        "parameters": {k: encoded(v, k, arrays) for k, v in parameters.items()},
        "state": {k: encoded(v, k, arrays) for k, v in state.items()},
    }
    text = json.dumps(content, allow_nan=False)
    try:
        _write(Path(path), arrays, {"skae": text, "sha256": _digest(text, arrays)})
    except (OSError, SafetensorError) as error:
        number, reason = getattr(error, "errno", None), getattr(error, "strerror", None)
        raise OSError(
            number or EIO,
            f"{os.fspath(path)!r} cannot be written ({reason or error}): whatever was there is as "
            f"it was",
        ) from error


def _write(path, arrays, metadata):
    """Write a file whole, or not at all; several processes may."""
    unfinished = path.with_name(f"{path.name}.{os.getpid()}.unfinished")
    try:
        unfinished.touch()
        mode = unfinished.stat().st_mode
        save_file(arrays, unfinished, metadata)
        unfinished.chmod(mode)  # safetensors leaves files to their owner alone
        with open(unfinished, "rb+") as file:
            os.fsync(file.fileno())  # which may be the first to find the disk full
        os.replace(unfinished, path)
    finally:
        with suppress(OSError):  # it has been moved, or there is no such folder
            unfinished.unlink()


@with_neutral_settings
def load(path: str | PathLike) -> Any:
    """Read what `save` wrote. Nothing in the file is run, now or by a later `fit`.

    Parameters
    ----------
    path : str or path-like
        The file.

    Returns
    -------
    estimator : DenseAutoencoder, ConvAutoencoder or ByteBigrams
        Fitted; on the device of its parameter ``device``, which a machine without that device
        may set to another. Its ``memory``, ``checkpoint`` and ``callbacks`` are None, whatever
        the file says.

    Raises
    ------
    ValueError
        If the file is not from `save`, is damaged, or was written by a later version of skae.

    See Also
    --------
    save : Its inverse.

    Examples
    --------
    >>> import tempfile
    >>> import skae
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     skae.save(skae.ByteBigrams(norm=None), f"{folder}/bigrams.skae")
    ...     skae.load(f"{folder}/bigrams.skae")
    ByteBigrams(norm=None)
    """
    with open(path, "rb"):  # errors of the file system speak for themselves
        pass
    try:
        return _read(path)
    except _NewerError:
        raise
    except Exception as error:  # whatever a file of unknown origin may lead to
        raise ValueError(
            f"{os.fspath(path)!r} is damaged, or is no file of skae.save: {error}"
        ) from error


class _NewerError(ValueError):
    """The file is of a format to come."""


def _versions():
    return {
        "skae": __version__,
        "torch": str(torch.__version__),
        "numpy": np.__version__,
        "scikit-learn": sklearn_version,
    }


def _read(path):
    with safe_open(path, framework="numpy") as file:
        metadata = file.metadata() or {}
        if "skae" not in metadata:
            raise ValueError("it has no description of an estimator")
        content = json.loads(metadata["skae"].replace('"reach"', '"clipping_bound"'))
        if content["format"] > _FORMAT:
            raise _NewerError(
                f"{os.fspath(path)!r} was written by skae {content['versions']['skae']} in format "
                f"{content['format']}, but this version reads up to {_FORMAT}: install that one."
            )
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no dict)
    if _digest(metadata["skae"], arrays) != metadata.get("sha256"):
        raise ValueError("its contents have changed since they were written")
    kind = _CLASSES[content["class"]]
    parameters = {
        k: decoded(v, arrays) for k, v in content["parameters"].items() if k not in _OF_THE_PROCESS
    }
    estimator = kind(**parameters)
    estimator._validate_params()
    taken = {*estimator.get_params(deep=False), *_NOT_WRITTEN}
    for name, value in content["state"].items():
        if name in taken or hasattr(kind, name):
            raise ValueError(f"{name} is nothing that a fit learns")
        setattr(estimator, name, decoded(value, arrays))
    if kind is not ByteBigrams:
        _check_shapes(estimator)
        _check_learnt(estimator)
        _check_use(estimator)
    if "components_" in content["state"] and "_seen" not in content["state"]:
        estimator._stream_not_saved = True
    return estimator


def _digest(text, arrays):
    hashed = sha256(text.encode())
    for name in sorted(arrays):
        hashed.update(f"{name} {arrays[name].dtype} {arrays[name].shape}".encode())
        hashed.update(arrays[name].data)
    return hashed.hexdigest()


def _check_shapes(estimator):
    """Raise an error if what was read does not fit together."""
    k, p, module = estimator.latent_dim_, estimator.n_features_in_, estimator.module_
    if not isinstance(module, Autoencoder) or module.latent_dim != k:
        raise ValueError("module_ is no autoencoder of this length")
    of_codes = ("explained_variance_", "explained_variance_ratio_", "_code_scale")
    expected = {"mean_": (p,), **dict.fromkeys(of_codes, (k,))}
    n_inputs = p
    if isinstance(module, ResidualAutoencoder):
        n_inputs = len(module.scale)
        expected |= {"components_": (k, p), "_further_components": (n_inputs - k, p)}
    for name, shape in expected.items():
        array = getattr(estimator, name, None)
        if array is not None and array.shape != shape:
            raise ValueError(f"{name} is of shape {array.shape}, not {shape}")
    with torch.inference_mode():
        x = torch.zeros(1, n_inputs, dtype=torch_dtype(estimator.mean_.dtype))
        if module(x).shape != x.shape:
            raise ValueError("module_ does not return rows of the width of its input")


def _check_learnt(estimator):
    """Raise an error if something that a fit learns is missing or of another kind."""
    expected = _LEARNT | _LEARNT_OF[type(estimator)]
    if isinstance(estimator.module_, (LinearPathAutoencoder, ResidualAutoencoder)):
        of_pca = ("explained_variance_", "explained_variance_ratio_")
        expected |= {"nonlinear_gain_": Real, **dict.fromkeys(of_pca, np.ndarray)}
    for name, kind in expected.items():
        if not hasattr(estimator, name):
            raise ValueError(f"{name} is missing")
        if not isinstance(getattr(estimator, name), kind):
            raise ValueError(f"{name} is a {type(getattr(estimator, name)).__name__}")


def _check_use(estimator):
    """Raise an error if a row cannot be encoded and decoded."""
    here = copy(estimator)
    here.device = "cpu"
    codec = here._codec()
    rows = here._rows(np.ones((1, here.n_features_in_), here.mean_.dtype))
    codes = codec.encode(rows)
    shapes = (*codes.shape, *codec.decode(codes).shape, *codec.errors(rows).shape)
    if shapes != (1, here.latent_dim_, 1, here.n_features_in_, 1):
        raise ValueError("what it holds does not fit together")
