"""Fitted autoencoders as files of arrays and JSON, which are read without running anything.

A file is of safetensors' format: the arrays, and in its metadata one text of JSON that says what
they belong to.
"""

import json
import os
import warnings
from contextlib import suppress
from copy import copy
from dataclasses import MISSING, fields
from errno import EINVAL, EIO
from hashlib import sha256
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from sklearn import __version__ as sklearn_version
from sklearn import config_context
from sklearn.utils._metadata_requests import SIMPLE_METHODS
from sklearn.utils.validation import check_is_fitted

from .._estimators import AUTOENCODERS
from .._estimators.bigrams import ByteBigrams
from .._estimators.state import FittedState
from .._nn.autoencoders import ResidualAutoencoder
from .._nn.serialization import decoded, encoded
from .._runtime.execution import with_neutral_settings
from .._version import __version__

_CLASSES = {kind.__name__: kind for kind in (*AUTOENCODERS, ByteBigrams)}

# The format that is written; `READERS` has those that are read.
_FORMAT = 4

# Parameters that name folders and code: a file that could set them could have code run by `fit`.
_OF_THE_PROCESS = {"callbacks", "checkpoint", "memory"}

# Parameters of format 3 that exist no longer, or mean something else: a new fit takes the defaults.
_REMOVED = {"n_iter_no_change", "tol"}
# Where scikit-learn keeps the requests of `set_fit_request` and the like.
_REQUEST = "_metadata_request"

# What scikit-learn keeps in estimators beside their parameters.
_OF_SKLEARN = ("n_features_in_", "feature_names_in_", "_sklearn_output_config", _REQUEST)

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
        Pipelines need skops, joblib or pickle, and custom networks must consist of common layers
        of `torch.nn`. The parameters ``memory``, ``checkpoint`` and ``callbacks``
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
    estimator._validate_params()  # which may have been set since `fit`
    arrays, learnt = {}, vars(estimator)
    parts = {
        "parameters": {
            name: value
            for name, value in estimator.get_params(deep=False).items()
            if name not in _OF_THE_PROCESS
        },
        "sklearn": {
            name: learnt[name] if name != _REQUEST else _plain_requests(learnt[name])
            for name in _OF_SKLEARN
            if name in learnt
        },
        "state": learnt["_state"].to_plain() if "_state" in learnt else {},
    }
    content = {
        "format": _FORMAT,
        "versions": {
            "skae": __version__,
            "torch": str(torch.__version__),
            "numpy": np.__version__,
            "scikit-learn": sklearn_version,
        },
        "class": type(estimator).__name__,
        **{
            part: {name: encoded(value, name, arrays) for name, value in values.items()}
            for part, values in parts.items()
        },
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
    """Write a file whole, or not at all; several processes may.

    The file that a symbolic link leads to is written, and the link stays.
    """
    path = Path(os.path.realpath(path))
    if path.exists() and not path.is_file():
        raise OSError(EINVAL, "it is a folder, a pipe or a device, and must be a file")
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


def _read(path):
    with safe_open(path, framework="numpy") as file:
        metadata = file.metadata() or {}
        if "skae" not in metadata:
            raise ValueError("it has no description of an estimator")
        content = json.loads(metadata["skae"])
        if content["format"] > _FORMAT:
            raise _NewerError(
                f"{os.fspath(path)!r} was written by skae {content['versions']['skae']} in format "
                f"{content['format']}, but this version reads up to {_FORMAT}: install that one."
            )
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no dict)
    if _digest(metadata["skae"], arrays) != metadata.get("sha256"):
        raise ValueError("its contents have changed since they were written")
    kind = _CLASSES[content["class"]]
    parameters, learnt, plain = READERS[content["format"]](content, arrays)
    n_convs = parameters.pop("n_convs_per_stage", 1)  # of early files of version 0.1.0
    if n_convs != 1:
        warnings.warn(
            f"n_convs_per_stage={n_convs} of the file no longer exists: the networks in the file "
            f"are as they were, but another fit makes stages of one convolution.",
            stacklevel=4,
        )
    estimator = kind(**{k: v for k, v in parameters.items() if k not in _OF_THE_PROCESS})
    estimator._validate_params()
    for name, value in learnt.items():
        if name not in _OF_SKLEARN:
            raise ValueError(f"{name} is nothing that a fit learns")
        if name == _REQUEST:
            _request_again(estimator, value)
        else:
            setattr(estimator, name, value)
    if kind is not ByteBigrams:
        state = FittedState.from_plain(plain)
        if len(state.mean) != estimator.n_features_in_:
            raise ValueError("mean has another length than rows")
        if hasattr(kind, "input_shape_") is (state.shape is None):
            raise ValueError("shape does not suit the estimator")
        estimator._state = state
    return estimator


def _plain_requests(router):
    """The requests of `set_fit_request` and the like as a dict: the method, then the metadata."""
    return {
        method: dict(request.requests)
        for method in SIMPLE_METHODS
        if (request := getattr(router, method, None)) and request.requests
    }


def _request_again(estimator, requests):
    """Set requests as an estimator had them when it was saved, whether routing is on or not."""
    with config_context(enable_metadata_routing=True):
        for method, names in requests.items():
            getattr(estimator, f"set_{method}_request")(**names)


def _read_4(content, arrays):
    """Parameters, attributes of scikit-learn and fields of the state."""
    return [
        {name: decoded(value, arrays) for name, value in content[part].items()}
        for part in ("parameters", "sklearn", "state")
    ]


def _read_3(content, arrays):
    """The same from a file of format 3, which has all columns, and does not count by weights."""
    parameters, learnt, plain = _with_reach(*_read_4(content, arrays))
    return parameters, learnt, {**plain, "columns": None, "n_features": None, "n_counted": None}


def _with_reach(parameters, learnt, plain):
    """The same of networks that clipped each input by itself, as those before format 4 did."""
    parameters = {name: v for name, v in parameters.items() if name not in _REMOVED}
    module = plain.get("module")
    if isinstance(module, ResidualAutoencoder) and "clipping_bound" in module._buffers:
        # It was twice the largest training input; codes had no bound but that of training rows.
        longest = module._buffers.pop("clipping_bound").square().sum().sqrt() / 2
        reach = torch.stack([longest, torch.full_like(longest, torch.inf)])
        module.register_buffer("reach", reach)
    return parameters, learnt, plain


def _read_2(content, arrays):
    """The same from a file of format 2, which has no loadings."""
    parameters, learnt, plain = _read_3(content, arrays)
    return parameters, learnt, {**plain, "loadings": None}


# Before format 2 files held the attributes of estimators: a field of the state for each.
_FIELDS_1 = {
    "module_": "module",
    "mean_": "mean",
    "history_": "history",
    "n_iter_": "n_iter",
    "interrupted_": "interrupted",
    "components_": "components",
    "_further_components": "further_components",
    "explained_variance_": "explained_variance",
    "explained_variance_ratio_": "explained_variance_ratio",
    "nonlinear_gain_": "nonlinear_gain",
    "_gains_when_cut": "gains_when_cut",
    "_code_scale": "code_scale",
    "input_shape_": "shape",
    "_fitted_flat": "flat",
}


def _read_1(content, arrays):
    """The same from a file of format 1."""
    renamed = json.loads(json.dumps(content).replace('"reach"', '"clipping_bound"'))
    parameters, attributes = (
        {name: decoded(value, arrays) for name, value in renamed[part].items()}
        for part in ("parameters", "state")
    )
    learnt = {name: attributes[name] for name in _OF_SKLEARN if name in attributes}
    defaults = {entry.name: entry.default for entry in fields(FittedState)}
    plain = {name: value for name, value in defaults.items() if value is not MISSING}
    for name, field in _FIELDS_1.items():
        if name in attributes:
            plain[field] = attributes[name]
    known = attributes.get("_seen", (None, None, None))
    plain["n_rows"], plain["variances"], plain["total_variance"] = known
    plain["of_stream"] = "components_" in attributes and "_seen" not in attributes
    return _with_reach(parameters, learnt, plain)


READERS = {1: _read_1, 2: _read_2, 3: _read_3, 4: _read_4}


def _digest(text, arrays):
    hashed = sha256(text.encode())
    for name in sorted(arrays):
        hashed.update(f"{name} {arrays[name].dtype} {arrays[name].shape}".encode())
        hashed.update(arrays[name].data)
    return hashed.hexdigest()
