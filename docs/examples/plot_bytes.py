"""
Bytes of files as maps
======================

How often each byte (down) is followed by each other byte (across), in a source file, a header and a
compiled library. The models were not fitted on these files, and reconstruct them from codes of four
dimensions. Text uses the printable characters, at the upper left. Compiled code has stripes at zero
and at the highest bytes. The way from bytes to a classifier: :doc:`/tutorial`.
"""

from importlib.util import find_spec
from pathlib import Path

import numpy as np

from skae import ByteBigrams, DenseAutoencoder, ReconstructionDisplay

# Files of 20 to 400 KB of packages that skae needs, a hundred of each kind at most.
folders = [find_spec(name).submodule_search_locations[0] for name in ("numpy", "scipy", "torch")]
files = []
for endings in ({".py"}, {".h"}, {".so", ".pyd"}):
    found = [
        path
        for folder in folders
        for path in sorted(Path(folder).rglob("*"))
        if path.suffix in endings and 20_000 <= path.stat().st_size <= 400_000
    ]
    files.append(np.random.RandomState(0).permutation(found)[:100])

bigrams = ByteBigrams(input="filename")
train = np.sqrt(bigrams.fit_transform(np.concatenate([paths[10:] for paths in files])))
test = np.sqrt(bigrams.transform(np.concatenate([paths[:10] for paths in files])))
autoencoder = DenseAutoencoder(4, hidden_layer_sizes=(256,), random_state=0).fit(train)

# Without square roots a few very frequent pairs would dominate, in training and in the figure.
pca = DenseAutoencoder(4, hidden_layer_sizes=()).fit(train)
ReconstructionDisplay.from_estimator(autoencoder, test[::10], references={"PCA": pca})

# %%
# The share of the variance of thirty test files, with 65,536 columns, that four dimensions explain:

print(f"PCA {pca.score(test):.3f}, DenseAutoencoder {autoencoder.score(test):.3f}")
