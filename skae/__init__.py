"""Autoencoders that stand where PCA stands in scikit-learn."""

from ._bigrams import ByteBigrams
from ._conv import ConvAutoencoder
from ._dense import DenseAutoencoder

__all__ = ["ByteBigrams", "ConvAutoencoder", "DenseAutoencoder"]
__version__ = "0.1.0"
