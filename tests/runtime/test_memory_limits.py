import subprocess
import sys

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from skae import DenseAutoencoder
from skae._runtime.device import free_bytes

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


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak from /proc")
def test_wide_sparse_rows_are_never_made_dense_whole():
    # Dense, these rows would need 2.6 GB, and several times that with their copies in a fit.
    done = subprocess.run([sys.executable, "-c", FIT], capture_output=True, text=True, check=True)
    peak_gb = int(done.stdout) * 1024 / 1e9
    assert peak_gb < 2.0


def test_a_network_too_large_for_memory_raises_an_error_before_allocation(monkeypatch):
    monkeypatch.setattr("skae._nn.builders.free_bytes", lambda device: 16e9)
    X = sp.random(40, 65_536, density=0.01, format="csr", dtype=np.float32, random_state=0)
    wide = DenseAutoencoder(
        1024,
        linear_path=False,
        hidden_layer_sizes=(32768, 16384, 8192, 4096, 2048),
    )
    sentence = (
        r"need 91\.\d GB to train, but 16\.0 GB are available: hidden_layer_sizes=\(2048,\) "
        r"needs 4\.4 GB, and linear_path=True"
    )
    with pytest.raises(MemoryError, match=sentence):
        wide.fit(X)
    assert not hasattr(wide, "module_")


def test_free_memory_is_a_plausible_number():
    free = free_bytes(torch.device("cpu"))
    assert 1e8 < free < 1e15


LIMITED = """
import os, resource
import numpy as np
from pathlib import Path
from skae import DenseAutoencoder

X = np.random.default_rng(0).normal(size=(3000, 1500))
model = DenseAutoencoder(2, hidden_layer_sizes=()).fit(X[:200])
pages = int(Path("/proc/self/statm").read_text().split()[0])
limit = pages * os.sysconf("SC_PAGE_SIZE") + 30 * 2**20
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
try:
    model.reconstruction_errors(X)
except MemoryError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits the memory of a process")
def test_lack_of_memory_on_the_cpu_is_a_memory_error():
    done = subprocess.run([sys.executable, "-c", LIMITED], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout
