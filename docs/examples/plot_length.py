"""
How long should a code be?
==========================

The share of the variance of test digits by the length of the code. From the length at which the
two lines meet, PCA is enough: see :doc:`/choosing`.
"""

from sklearn.datasets import load_digits

from skae import DenseAutoencoder, VarianceDisplay

X = load_digits().data
autoencoder = DenseAutoencoder(hidden_layer_sizes=(64,), random_state=0)
VarianceDisplay.from_estimator(autoencoder, X[:900], X_test=X[900:], latent_dims=(2, 4, 8, 16, 32))
