"""The estimators: parameters, fitted state, methods."""

from .conv import ConvAutoencoder
from .dense import DenseAutoencoder

# What is saved, exported and tested against scikit-learn's contract.
AUTOENCODERS = (ConvAutoencoder, DenseAutoencoder)
