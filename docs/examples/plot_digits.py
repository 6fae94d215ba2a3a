"""
Digits from eight dimensions
============================

Ten test digits, their reconstructions by PCA from codes of eight dimensions, and those by
:class:`~skae.DenseAutoencoder` from codes of the same length. PCA adds up the same eight pictures
for every digit. The autoencoder changes them with the digit.
"""

from sklearn.datasets import load_digits
from sklearn.decomposition import PCA

from skae import DenseAutoencoder, ReconstructionDisplay

X = load_digits().data
train, test = X[:1500], X[1500:]
pca = PCA(8).fit(train)
autoencoder = DenseAutoencoder(8, hidden_layer_sizes=(256,), random_state=0).fit(train)
ReconstructionDisplay.from_estimator(autoencoder, test[:10], references={"PCA": pca}, shape=(8, 8))

# %%
# The share of the variance of all test digits that eight dimensions explain:

linear = DenseAutoencoder(8, hidden_layer_sizes=()).fit(train)
print(f"PCA {linear.score(test):.3f}, DenseAutoencoder {autoencoder.score(test):.3f}")
