"""
New digits from a variational autoencoder
=========================================

With ``penalty="variational"`` the codes of the rows have about a standard normal distribution. So
codes drawn at random from this distribution decode into new rows that are like the training rows.
New rows are means without noise, and smoother than measured rows.
"""

import matplotlib.pyplot as plt
from sklearn.datasets import load_digits

from skae import DenseAutoencoder

X = load_digits().data
autoencoder = DenseAutoencoder(
    8, linear_path=False, penalty="variational", hidden_layer_sizes=(512, 256), random_state=0
)
new = autoencoder.fit(X).sample(40, random_state=0)

figure, axes = plt.subplots(4, 10, figsize=(8, 3.6), layout="constrained")
for ax, picture in zip(axes.flat, new.reshape(-1, 8, 8), strict=True):
    ax.imshow(picture, cmap="gray_r", vmin=0, vmax=16)
    ax.set_axis_off()
figure.suptitle("sampled, not measured")
