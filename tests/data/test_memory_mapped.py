"""Rows on disk train in less memory than they have."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp

from skae._data import rows as rows_module
from skae._runtime import tensors as tensors_module

ROOT = Path(__file__).parents[2]

# X on disk, and what the process may hold beyond what it used before.
N_BYTES, MEMORY = 120 * 10**6, 95 * 10**6
CHILD = """
import sys
from pathlib import Path
import numpy as np
import scipy.sparse as sp
from benchmarks.lib.memory import GrowthOfMemory
from skae import ConvAutoencoder, DenseAutoencoder
from skae._estimators import state as state_module
from skae._data import rows as rows_module
from skae._data import sparse as sparse_module
from skae._runtime import tensors as tensors_module

kind, folder = sys.argv[1], Path(sys.argv[2])
X = np.load(folder / "X.npy", mmap_mode="r") if kind != "csr" else sp.csr_array(
    tuple(np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("data", "indices", "indptr"))
)
# As small beside X as they are beside rows that fill a disk.
tensors_module._LARGE = tensors_module._BATCH_BYTES = 8 * 2**20
rows_module._LARGE = rows_module._PART = 8 * 2**20
state_module._CHUNK_BYTES = 16 * 2**20
sparse_module._ENTRIES_OF_PART = 2**18
brief = {"max_epochs": 1, "batch_size": 512, "random_state": 0}
if kind == "convolutions":
    model = ConvAutoencoder(4, channels=(4,), hidden_layer_sizes=(8,), **brief)
else:
    model = DenseAutoencoder(4, hidden_layer_sizes=(16,), **brief)
model.fit(X[:1000]).transform(X[:1000])  # threads, and whatever is loaded once
with GrowthOfMemory() as growth:
    codes = model.fit(X).transform(X)
print(growth.gigabytes * 1e9, model.score(X[:1000]), *codes.shape)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Windows over Python's source files, and which bytes are in each, as sparse rows."""
    sys.path.insert(0, str(ROOT))
    try:
        from benchmarks.lib.windows import source_text, windows_of
    finally:
        sys.path.remove(str(ROOT))
    folder = tmp_path_factory.mktemp("rows")
    X = windows_of(source_text(), 256, N_BYTES // 1024).astype(np.float32)
    np.save(folder / "X.npy", X)
    indptr = np.arange(0, X.size // 2 + 1, 128, dtype=np.int32)
    indices = (8 * np.arange(128) + X[:, :128].astype(np.int32) // 32).ravel().astype(np.int32)
    for name, part in (("indptr", indptr), ("indices", indices), ("data", X[:, 128:].ravel())):
        np.save(folder / f"{name}.npy", part)
    return folder


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="measures memory as Linux reports it")
@pytest.mark.parametrize("kind", ["dense", "csr", "convolutions"])
def test_rows_on_disk_train_in_less_memory_than_they_have(folder, kind):
    command = [sys.executable, "-W", "ignore", "-c", CHILD, kind, str(folder)]
    # What is freed goes back to the system at once, as larger pieces always do.
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": str(2**20)}
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=ROOT, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr
    grown, score, *shape = map(float, done.stdout.split())
    assert grown < MEMORY
    assert 0 < score < 1
    assert shape == [N_BYTES // 1024, 4]


@pytest.mark.slow
def test_a_matrix_transposed_in_parts_gives_the_same_codes(bigrams, quick, monkeypatch):
    X = bigrams[0]
    expected = quick(8).fit(X).transform(X)
    monkeypatch.setattr(rows_module, "_LARGE", X.data.nbytes)
    monkeypatch.setattr(rows_module, "_PART", X.data.nbytes // 5)
    monkeypatch.setattr(tensors_module, "_LARGE", 2**16)
    codes = quick(8).fit(sp.csr_array(X)).transform(X)
    np.testing.assert_allclose(codes, expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max())
