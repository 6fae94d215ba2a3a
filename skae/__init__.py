"""Autoencoders that stand where PCA stands in scikit-learn."""

from ._data.processes import ProcessRows
from ._estimators.anomalies import AnomalyDetector
from ._estimators.bigrams import ByteBigrams
from ._estimators.conv import ConvAutoencoder
from ._estimators.dense import DenseAutoencoder
from ._export.onnx import register_onnx, to_onnx
from ._export.saving import load, save
from ._export.torch_module import to_torch
from ._plotting.column_errors import ColumnErrorsDisplay
from ._plotting.dimensions import DimensionsDisplay
from ._plotting.latent import LatentDisplay
from ._plotting.loss_curve import LossCurveDisplay
from ._plotting.reconstruction import ReconstructionDisplay
from ._plotting.variance import VarianceDisplay
from ._version import __version__

__all__ = [
    "AnomalyDetector",
    "ByteBigrams",
    "ColumnErrorsDisplay",
    "ConvAutoencoder",
    "DenseAutoencoder",
    "DimensionsDisplay",
    "LatentDisplay",
    "LossCurveDisplay",
    "ProcessRows",
    "ReconstructionDisplay",
    "VarianceDisplay",
    "__version__",
    "load",
    "register_onnx",
    "save",
    "to_onnx",
    "to_torch",
]

# Pickles, skops and reprs name public classes by this package, whatever file they are in.
for _name in __all__:
    if hasattr(globals()[_name], "__module__"):
        globals()[_name].__module__ = __name__
