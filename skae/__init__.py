"""Autoencoders that stand where PCA stands in scikit-learn."""

from ._bigrams import ByteBigrams
from ._dense import DenseAutoencoder

__all__ = ["ByteBigrams", "DenseAutoencoder"]
__version__ = "0.1.0"
