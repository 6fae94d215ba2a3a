import subprocess
import sys

import pytest

FIT = """
import numpy as np
import scipy.sparse as sp
from pathlib import Path
from skae import DenseAutoencoder

rng = np.random.default_rng(0)
n, p, per_row = 10_000, 65_536, 1_311
indices = np.concatenate([rng.choice(p, per_row, replace=False) for _ in range(n)])
values = rng.random(n * per_row, dtype=np.float32)
indptr = np.arange(0, n * per_row + 1, per_row, dtype=np.int32)
X = sp.csr_matrix((values, indices.astype(np.int32), indptr), shape=(n, p))
DenseAutoencoder(32, max_epochs=1, random_state=0).fit(X).transform(X)
status = Path("/proc/self/status").read_text().splitlines()
print(next(line.split()[1] for line in status if line.startswith("VmHWM")))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak from /proc")
def test_wide_sparse_rows_are_never_made_dense_whole():
    # Dense, these rows alone would take 2.6 GB; with their copies in a fit, several times that.
    done = subprocess.run([sys.executable, "-c", FIT], capture_output=True, text=True, check=True)
    peak_gb = int(done.stdout) * 1024 / 1e9
    assert peak_gb < 2.0
