"""Autoencoders that stand where PCA stands in scikit-learn."""

from ._bigrams import ByteBigrams
from ._blocks import RowBlocks
from ._conv import ConvAutoencoder
from ._dense import DenseAutoencoder

__all__ = ["ByteBigrams", "ConvAutoencoder", "DenseAutoencoder", "RowBlocks"]
__version__ = "0.1.0"
