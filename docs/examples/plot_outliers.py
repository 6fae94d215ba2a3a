"""
Outliers by their reconstruction error
======================================

A model that was fitted on threes alone reconstructs other digits badly. ``score_samples`` is minus
the squared error of each row: a low score means that the row is unlike the training rows. Far from
the training rows, the error of the networks can have any size, so only the order of the scores has
a meaning.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import train_test_split

from skae import DenseAutoencoder

X, y = load_digits(return_X_y=True)
train, test, y_train, y_test = train_test_split(X, y, stratify=y, random_state=0)
normal = y_test == 3

autoencoder = DenseAutoencoder(8, random_state=0).fit(train[y_train == 3])
errors = -autoencoder.score_samples(test)

figure, ax = plt.subplots(figsize=(7, 3.6), layout="constrained")
bins = np.geomspace(errors.min(), errors.max(), 40)
for name, chosen in {"threes": normal, "other digits": ~normal}.items():
    ax.hist(
        errors[chosen], bins, weights=np.full(chosen.sum(), 1 / chosen.sum()), alpha=0.7, label=name
    )
ax.set(xscale="log", xlabel="squared error of the reconstruction", ylabel="share of test digits")
ax.legend(frameon=False)

# %%
# The probability that another digit has a larger error than a three, beside that of PCA:

pca = DenseAutoencoder(8, hidden_layer_sizes=()).fit(train[y_train == 3])
for name, model in {"PCA": pca, "DenseAutoencoder": autoencoder}.items():
    print(f"{name}: {roc_auc_score(~normal, -model.score_samples(test)):.4f}")
