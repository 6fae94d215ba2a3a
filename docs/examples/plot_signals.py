"""
Signals, and their noise
========================

Pulses of random place, width and height, measured with noise: three dimensions describe all of a
pulse except its noise. PCA cannot shift a pulse by adding up other pulses, however good its three
directions are. The convolutions of :class:`~skae.ConvAutoencoder` can. They also remove the noise,
for which the code has no dimension left.
"""

import numpy as np

from skae import ConvAutoencoder, DenseAutoencoder, ReconstructionDisplay

random = np.random.RandomState(0)
place, width, height = random.uniform((16, 2, 1), (80, 8, 2), size=(1200, 3)).T
clean = height[:, None] * np.exp(-(((np.arange(96) - place[:, None]) / width[:, None]) ** 2))
X = clean + 0.15 * random.standard_normal(clean.shape)

pca = DenseAutoencoder(3, hidden_layer_sizes=()).fit(X[:1000])
autoencoder = ConvAutoencoder(
    3, input_shape=(96,), channels=(16, 32), hidden_layer_sizes=(128,), random_state=0
).fit(X[:1000])
ReconstructionDisplay.from_estimator(autoencoder, X[1000:1004], references={"PCA": pca})

# %%
# Squared error against the pulses without their noise:

for name, model in {"PCA": pca, "ConvAutoencoder": autoencoder}.items():
    cleaned = model.inverse_transform(model.transform(X[1000:]))
    print(f"{name}: {np.mean((cleaned - clean[1000:]) ** 2):.4f}")
print(f"the noise itself: {np.mean((X - clean) ** 2):.4f}")
