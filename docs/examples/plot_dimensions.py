"""
What a dimension of a code means
================================

Each dimension of a code is set to some of its percentiles in turn, while the others stay as they
are. The mean reconstructions show what it stands for. For PCA this is a multiple of a component;
for networks nothing simpler exists.
"""

from sklearn.datasets import load_digits, load_wine
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skae import DenseAutoencoder, DimensionsDisplay

# %%
# Wines, of which 13 quantities were measured. The first dimension is that of phenols and
# flavanoids, the second that of colour and alcohol.

wines = load_wine(as_frame=True).data
model = make_pipeline(StandardScaler(), DenseAutoencoder(3, random_state=0)).fit(wines)
DimensionsDisplay.from_estimator(model, wines)

# %%
# Digits, as pictures at each percentile.

digits = load_digits().data
model = DenseAutoencoder(4, hidden_layer_sizes=(64,), random_state=0).fit(digits)
DimensionsDisplay.from_estimator(model, digits, shape=(8, 8))
