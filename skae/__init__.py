"""Autoencoders that stand where PCA stands in scikit-learn."""

from ._bigrams import ByteBigrams
from ._blocks import RowBlocks
from ._conv import ConvAutoencoder
from ._dense import DenseAutoencoder
from ._latent_display import LatentDisplay
from ._loss_curve_display import LossCurveDisplay
from ._onnx import register_onnx, to_onnx
from ._persistence import load, save
from ._reconstruction_display import ReconstructionDisplay
from ._to_torch import to_torch
from ._variance_display import VarianceDisplay
from ._version import __version__

__all__ = [
    "ByteBigrams",
    "ConvAutoencoder",
    "DenseAutoencoder",
    "LatentDisplay",
    "LossCurveDisplay",
    "ReconstructionDisplay",
    "RowBlocks",
    "VarianceDisplay",
    "__version__",
    "load",
    "register_onnx",
    "save",
    "to_onnx",
    "to_torch",
]
