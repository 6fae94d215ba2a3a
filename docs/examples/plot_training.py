"""
History of training
===================

A fit has up to three stages. Two short trial runs compare networks with PCA on validation rows:
first networks after the code alone, then networks on both sides of it. The better ones are then
trained on all rows. Dotted: PCA.
"""

from sklearn.datasets import load_digits

from skae import DenseAutoencoder, LossCurveDisplay

autoencoder = DenseAutoencoder(8, hidden_layer_sizes=(256,), random_state=0)
autoencoder.fit(load_digits().data)
LossCurveDisplay.from_estimator(autoencoder)

# %%
# What the trial run explained beyond PCA, as a share of the variance of the validation rows:

print(round(autoencoder.nonlinear_gain_, 3))
