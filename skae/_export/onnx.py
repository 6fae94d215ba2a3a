"""`to_onnx` and `register_onnx`: fitted autoencoders, and pipelines with them, as ONNX models.

torch exports the graph of an autoencoder; skl2onnx inserts it among those of scikit-learn's
estimators.
"""

import logging
import warnings
from contextlib import contextmanager
from math import prod
from typing import Any

import numpy as np
import torch
from sklearn.base import is_classifier
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils import check_array
from torch import nn

from .._estimators import AUTOENCODERS
from .._estimators.anomalies import AnomalyDetector
from .._estimators.base import BaseAutoencoder
from .._estimators.bigrams import ByteBigrams
from .._runtime.execution import with_neutral_settings
from .torch_module import to_torch

# Size limit of protobuf, the format of ONNX models.
_MOST_BYTES = 2**31 - 1

# The oldest version that torch writes without a conversion: most runtimes can read it.
_OPSET = 18

# Functions of a FunctionTransformer that can be exported.
_FUNCTIONS = {
    np.abs: torch.abs,
    np.exp: torch.exp,
    np.log: torch.log,
    np.log1p: torch.log1p,
    np.sqrt: torch.sqrt,
    np.square: torch.square,
}


@with_neutral_settings
def to_onnx(model: Any, X: Any, *, inverse: bool = False, target_opset: int | None = None) -> Any:
    """Return a fitted autoencoder, or a pipeline with autoencoders, as an ONNX model.

    Needs ``pip install "skae[onnx]"``.

    Parameters
    ----------
    model : estimator
        A fitted autoencoder, or a fitted `Pipeline` of autoencoders, estimators that skl2onnx
        converts, and `FunctionTransformer` of NumPy's abs, exp, log, log1p, sqrt or square.
    X : {array-like, sparse matrix} of shape (n_samples, n_features)
        Example rows, or codes with ``inverse``; only their dtype and shape are used. With pictures
        the model of a `ConvAutoencoder` takes pictures; with a data frame of pandas the model of
        a pipeline has an input for each column if some are words.
    inverse : bool, default=False
        Whether to export `inverse_transform` of an autoencoder instead of `transform`.
    target_opset : int, default=None
        Version of the ONNX operators, 18 or later; None means 18.

    Returns
    -------
    model_proto : onnx.ModelProto
        Takes dense input with any number of rows, in the dtype of X. The input of an autoencoder
        is called "X" and its output "codes", with ``inverse`` the other way round; skl2onnx names
        those of a pipeline. Networks compute in float32, whatever the dtypes of X and of the fit.
        Rows with missing entries have codes of NaN.

    Raises
    ------
    ImportError
        If a package for the export is missing.
    TypeError
        If ``inverse`` is True and the model is not an autoencoder.
    ValueError
        If the pipeline starts from bytes, X has not as many columns as the model, the weights
        exceed the 2 GB of an ONNX model, or a custom network has no ONNX form.

    See Also
    --------
    register_onnx : Use skl2onnx directly, with its own options.
    to_torch : Export models above 2 GB.

    Examples
    --------
    >>> from onnxruntime import InferenceSession
    >>> from sklearn.datasets import load_digits
    >>> from skae import DenseAutoencoder, to_onnx
    >>> X = load_digits().data.astype("float32")
    >>> autoencoder = DenseAutoencoder(8, hidden_layer_sizes=()).fit(X)
    >>> session = InferenceSession(to_onnx(autoencoder, X).SerializeToString())
    >>> session.run(["codes"], {"X": X})[0].shape
    (1797, 8)
    """
    _check_packages()
    from skl2onnx import get_latest_tested_opset_version
    from skl2onnx import to_onnx as converted

    target_opset, latest = target_opset or _OPSET, get_latest_tested_opset_version()
    if not _OPSET <= target_opset <= latest:
        raise ValueError(
            f"target_opset={target_opset} must be a version that torch and skl2onnx both write, "
            f"{_OPSET} to {latest}."
        )
    _refuse_without_form(model)
    if isinstance(model, BaseAutoencoder):
        X = _checked_example(X)
        return _export_autoencoder(model, X.shape[1:], X.dtype, target_opset, inverse)
    if inverse:
        raise TypeError(
            f"inverse=True needs an autoencoder, got {type(model).__name__}: export the "
            f"autoencoder by itself."
        )
    # A data frame of pandas with words is an input for each column.
    if hasattr(X, "select_dtypes") and X.select_dtypes(exclude=["number", "bool"]).shape[1]:
        example = X.iloc[:1]
    else:
        X = _checked_example(X)
        example = np.zeros((1, *X.shape[1:]), X.dtype)
    register_onnx()
    # Probabilities are an array, as in predict_proba, and not a list of dictionaries.
    options = {"zipmap": False} if is_classifier(model) else None
    return converted(model, example, target_opset=target_opset, options=options)


def register_onnx() -> None:
    """Register converters of autoencoders in skl2onnx, to call it directly.

    `to_onnx` does this itself. A converter of `FunctionTransformer`, for the functions that
    `to_onnx` names, is registered as well, unless skl2onnx already has another one. A second call
    changes nothing.

    Raises
    ------
    ImportError
        If a package for the export is missing.

    See Also
    --------
    to_onnx : Export without a direct call of skl2onnx.

    Examples
    --------
    >>> import skl2onnx
    >>> from sklearn.datasets import load_digits
    >>> from skae import DenseAutoencoder, register_onnx
    >>> X = load_digits().data.astype("float32")
    >>> autoencoder = DenseAutoencoder(8, hidden_layer_sizes=()).fit(X)
    >>> register_onnx()
    >>> skl2onnx.to_onnx(autoencoder, X, target_opset=18).graph.input[0].name
    'X'
    """
    _check_packages()
    from skl2onnx import get_model_alias, update_registered_converter

    for kind in AUTOENCODERS:
        update_registered_converter(
            kind, f"Skae{kind.__name__}", _set_shape_of_codes, _convert_autoencoder
        )
    if get_model_alias(FunctionTransformer) == "SklearnFunctionTransformer":
        update_registered_converter(
            FunctionTransformer,
            "SkaeFunctionTransformer",
            _set_shape_of_function,
            _convert_function,
        )


def _check_packages():
    try:
        import onnxscript  # noqa: F401
        import skl2onnx  # noqa: F401
    except ImportError as error:
        raise ImportError(
            f'Export to ONNX needs {error.name}: pip install "skae[onnx]"', name=error.name
        ) from error


def _checked_example(X):
    """X as an array with a shape and a dtype; its values may be missing."""
    return check_array(
        X, accept_sparse=True, allow_nd=True, ensure_all_finite=False, input_name="X"
    )


def _refuse_without_form(model):
    """Raise an error if a model starts from bytes, or is a detector."""
    parts = (model, *model.get_params().values())
    if any(isinstance(part, ByteBigrams) for part in parts):
        raise ValueError(
            "ByteBigrams has no ONNX form, because ONNX models take no byte strings: export the "
            "following steps, to_onnx(pipeline[1:], pipeline[:1].transform(chunks)), and pass "
            "dense rows of bigrams to the ONNX model."
        )
    if any(isinstance(part, AnomalyDetector) for part in parts):
        raise TypeError(
            "AnomalyDetector has no ONNX form: export to_onnx(detector.estimator_, X), and its "
            "reconstructions of codes, the same with inverse=True. With n_neighbors=0 the score of "
            "a row is minus its squared distance from its reconstruction."
        )


def _export_autoencoder(estimator, shape, dtype, target_opset, inverse=False):
    """A `ModelProto` of `transform` or `inverse_transform`, for rows of a shape and dtype.

    Weights are float32, whatever the precision of the fit: some runtimes support no other.
    """
    name = type(estimator).__name__
    module = to_torch(estimator, inverse=inverse).float()
    if inverse:
        width, what = estimator.latent_dim_, "dimensions"
    else:
        width, what = estimator.n_features_in_, "columns"
    if prod(shape) != width:
        raise ValueError(f"X has rows of shape {shape}, but {name} takes {width} {what}.")
    n_bytes = sum(weights.nbytes for weights in module.state_dict().values())
    if n_bytes > _MOST_BYTES:
        raise ValueError(
            f"{name} has {n_bytes / 1e9:.3g} GB of weights, but an ONNX model holds at most "
            f"{_MOST_BYTES / 1e9:.3g} GB: save it with torch instead, "
            f"torch.export.save(torch.export.export(skae.to_torch(model), (x,)), path)."
        )
    names = ("codes", "X") if inverse else ("X", "codes")
    rows = {0: torch.export.Dim("n_samples")}
    try:
        return _export_module(module, np.zeros((2, *shape), dtype), rows, names, target_opset)
    except torch.onnx.OnnxExporterError as error:
        layers = {type(layer).__name__ for layer in module.modules() if _is_foreign(layer)}
        raise ValueError(
            f"{name} has no ONNX form, because torch cannot export one of its layers "
            f"{', '.join(sorted(layers))}."
        ) from error


def _export_module(module, example, dynamic_axes, names, target_opset):
    """A `ModelProto` of a module in evaluation mode, for arrays like the example."""
    with _quiet_exporter():
        program = torch.onnx.export(
            module,
            (torch.from_numpy(example),),
            dynamo=True,
            dynamic_shapes=(dynamic_axes,),
            input_names=names[:1],
            output_names=names[1:],
            opset_version=target_opset,
            verbose=False,
        )
    model_proto = program.model_proto
    for node in model_proto.graph.node:
        node.ClearField("metadata_props")  # they contain paths of files on this machine
    return model_proto


def _is_foreign(layer):
    """Whether a layer may lack an ONNX form: containers and layers of skae have one."""
    containers = (nn.Identity, nn.ModuleList, nn.Sequential)
    return type(layer) not in containers and not type(layer).__module__.startswith("skae.")


@contextmanager
def _quiet_exporter():
    """Silence torch's exporter on packages that it misses and on its own deprecated calls."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", r".*LeafSpec\)` is deprecated", FutureWarning)
            yield
    finally:
        logger.setLevel(level)


def _set_shape_of_codes(operator):
    _set_shape(operator, operator.raw_operator.latent_dim_)


def _set_shape_of_function(operator):
    if operator.raw_operator.func is None:  # it may merge several inputs
        from skl2onnx.shape_calculators import function_transformer

        function_transformer.calculate_sklearn_function_transformer_output_shapes(operator)
    else:
        _set_shape(operator, *operator.inputs[0].type.shape[1:])


def _set_shape(operator, *extents):
    from skl2onnx.common.utils import check_input_and_output_numbers

    check_input_and_output_numbers(operator, input_count_range=1, output_count_range=1)
    operator.outputs[0].type.shape = [operator.inputs[0].get_first_dimension(), *extents]


def _convert_autoencoder(scope, operator, container):
    from skl2onnx.helpers import add_onnx_graph

    estimator, shape = operator.raw_operator, tuple(operator.inputs[0].type.shape[1:])
    model_proto = _export_autoencoder(estimator, shape, _dtype_of(operator), container.target_opset)
    incomplete = {node.op_type for node in model_proto.graph.node if "" in node.input}
    if incomplete:
        raise ValueError(
            f"{type(estimator).__name__} has layers that leave out an input of "
            f"{', '.join(sorted(incomplete))}, which skl2onnx does not support in a pipeline: "
            f"export the autoencoder by itself."
        )
    add_onnx_graph(scope, operator, container, model_proto)


def _convert_function(scope, operator, container):
    from skl2onnx.helpers import add_onnx_graph
    from skl2onnx.operator_converters import function_transformer

    transformer = operator.raw_operator
    if transformer.func is None:
        function_transformer.convert_sklearn_function_transformer(scope, operator, container)
        return
    if transformer.func not in _FUNCTIONS or transformer.kw_args:
        names = ", ".join(f"numpy.{function.__name__}" for function in _FUNCTIONS)
        raise ValueError(
            f"{transformer} has no ONNX form: func must be one of {names}, without kw_args."
        )
    module = Elementwise(_FUNCTIONS[transformer.func]).eval()
    n_axes = len(operator.inputs[0].type.shape)
    example = np.zeros((2,) * n_axes, _dtype_of(operator))
    axes, names = dict.fromkeys(range(n_axes), torch.export.Dim.DYNAMIC), ("X", "variable")
    model_proto = _export_module(module, example, axes, names, container.target_opset)
    add_onnx_graph(scope, operator, container, model_proto)


def _dtype_of(operator):
    from onnx.helper import tensor_dtype_to_np_dtype

    tensor_type = operator.inputs[0].type.to_onnx_type().tensor_type
    return tensor_dtype_to_np_dtype(tensor_type.elem_type)


class Elementwise(nn.Module):
    """``f(x)`` for each entry of x, in floating point."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x.to(torch.promote_types(x.dtype, torch.float32)))
