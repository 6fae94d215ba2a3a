"""
Codes of two dimensions, by label
=================================

Test digits as codes of two dimensions each. The labels are not used in fitting, only for the
colours: digits of one kind have similar codes because they look alike.
"""

import matplotlib.pyplot as plt
from sklearn.datasets import load_digits

from skae import DenseAutoencoder, LatentDisplay

X, y = load_digits(return_X_y=True)
models = {
    "PCA": DenseAutoencoder(2, hidden_layer_sizes=()),
    "DenseAutoencoder": DenseAutoencoder(2, hidden_layer_sizes=(256, 256), random_state=0),
}
figure, axes = plt.subplots(1, 2, figsize=(10, 4.4), layout="constrained")
for ax, (name, model) in zip(axes, models.items(), strict=True):
    model.fit(X[:1200])
    LatentDisplay.from_estimator(model, X[1200:], y[1200:], ax=ax, scatter_kw={"s": 12})
    ax.set_title(f"{name}: {model.score(X[1200:]):.2f} of the variance")
axes[0].get_legend().remove()
