"""
History of training
===================

The networks are trained once, and compared with PCA on validation rows. Training ends where more of
it gains little. Dotted: PCA.
"""

from sklearn.datasets import load_digits

from skae import DenseAutoencoder, LossCurveDisplay

autoencoder = DenseAutoencoder(8, hidden_layer_sizes=(256,), random_state=0)
autoencoder.fit(load_digits().data)
LossCurveDisplay.from_estimator(autoencoder)

# %%
# What the networks explain beyond PCA, as a share of the variance of the validation rows:

print(round(autoencoder.nonlinear_gain_, 3))
