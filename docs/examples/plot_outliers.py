"""
Outliers by their reconstruction error
======================================

A model that was fitted to threes alone draws other digits badly. ``score_samples`` is minus the
squared error of each row: the lower, the less it is like those that were fitted. Far from those
networks may err by any amount, so only the order of the scores has a meaning.
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
ax.set(xscale="log", xlabel="squared error of the reconstruction", ylabel="share of unseen digits")
ax.legend(frameon=False)

# %%
# The chance that a digit which is no three has a larger error than a three, with PCA's for
# comparison:

pca = DenseAutoencoder(8, hidden_layer_sizes=()).fit(train[y_train == 3])
for name, model in {"PCA": pca, "DenseAutoencoder": autoencoder}.items():
    print(f"{name}: {roc_auc_score(~normal, -model.score_samples(test)):.4f}")
