import subprocess
import sys

import numpy as np
import pytest
import scipy.sparse as sp

from skae import ConvAutoencoder, DenseAutoencoder

SCRIPT = """
import os, resource
import numpy as np
import scipy.sparse as sp
from pathlib import Path
from skae import DenseAutoencoder

rng = np.random.default_rng(0)
X = rng.normal(size=(3000, 1500))
model = DenseAutoencoder(2, hidden_layer_sizes=()).fit(X[:200])
pages = int(Path("/proc/self/statm").read_text().split()[0])
limit = pages * os.sysconf("SC_PAGE_SIZE") + 30 * 2**20
resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
try:
    model.reconstruction_errors(X)
except MemoryError as error:
    print(error)
resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))

n, p, per_row = 5_000, 65_536, 512
indices = 128 * np.arange(per_row, dtype=np.int32) + rng.integers(0, 128, (n, 1), dtype=np.int32)
values = rng.random(n * per_row, dtype=np.float32)
indptr = np.arange(0, n * per_row + 1, per_row, dtype=np.int32)
X = sp.csr_matrix((values, indices.ravel(), indptr), shape=(n, p))
DenseAutoencoder(16, hidden_layer_sizes=(32,), max_epochs=1, random_state=0).fit(X).transform(X)
status = Path("/proc/self/status").read_text().splitlines()
print(next(line.split()[1] for line in status if line.startswith("VmHWM")))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads and limits memory as Linux does")
def test_wide_sparse_rows_are_never_made_dense_and_lack_of_memory_is_a_memory_error():
    command = [sys.executable, "-W", "ignore", "-c", SCRIPT]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    error, peak = done.stdout.splitlines()
    # Dense, the rows would need 1.3 GB, and several times that with their copies in a fit.
    assert int(peak) * 1024 < 1.2e9
    assert error


def test_a_network_too_large_for_any_memory_raises_an_error_before_allocation():
    X = sp.random(40, 65_536, density=0.01, format="csr", dtype=np.float32, random_state=0)
    wide = DenseAutoencoder(8, linear_path=False, hidden_layer_sizes=(10**7, 10**6))
    sentence = r"need .* GB to train, but .* GB are available: hidden_layer_sizes=\(\d+,\) "
    with pytest.raises(MemoryError, match=sentence):
        wide.fit(X)
    assert not hasattr(wide, "module_")
    with pytest.raises(MemoryError, match=r"hidden_layer_sizes=\(2147483647,\) and lat"):
        DenseAutoencoder(2, hidden_layer_sizes=2**31 - 1).fit(X)
    with pytest.raises(MemoryError, match=r"channels=\(10000000, 10000000\), kernel_size=5"):
        ConvAutoencoder(2, channels=(10**7, 10**7)).fit(np.ones((30, 8, 8)))
