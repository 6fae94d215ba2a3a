"""Rows on disk train in less memory than they have."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]

N_BYTES = 100 * 10**6  # of X on disk
CHILD = """
import os, sys
from pathlib import Path
import numpy as np
import scipy.sparse as sp
import torch
from benchmarks.lib.memory import GrowthOfMemory
from skae import DenseAutoencoder
from skae._estimators import state as state_module
from skae._data import rows as rows_module
from skae._data import sparse as sparse_module
from skae._runtime import tensors as tensors_module

# As small beside X as they are beside rows that fill a disk.
tensors_module._LARGE = tensors_module._BATCH_BYTES = 8 * 2**20
rows_module._LARGE = rows_module._PART = 8 * 2**20
state_module._CHUNK_BYTES = 16 * 2**20
sparse_module._ENTRIES_OF_PART = 2**18
torch.set_num_threads(1)  # threads would not be in the other processes
folder = Path(sys.argv[1])

def load(name):
    return np.load(folder / f"{name}.npy", mmap_mode="r")

def fit(kind):
    parts = tuple(map(load, ("data", "indices", "indptr")))
    X = sp.csr_array(parts) if kind == "csr" else load("X")
    brief = {"max_epochs": 1, "batch_size": 1024, "random_state": 0}
    model = DenseAutoencoder(4, hidden_layer_sizes=(8,), **brief)
    model.fit(X[:1000]).transform(X[:1000])  # whatever is loaded once
    with GrowthOfMemory() as growth:
        codes = model.fit(X).transform(X)
    print(growth.gigabytes * 1e9, model.score(X[:1000]), *codes.shape, flush=True)

# In processes of their own, which share the imports, also those of a first fit.
DenseAutoencoder(2, linear_path=False, hidden_layer_sizes=(4,), max_epochs=1).fit(np.eye(40))
for kind in ("dense", "csr"):
    process = os.fork()
    if not process:
        fit(kind)
        os._exit(0)
    assert os.waitpid(process, 0)[1] == 0, kind
"""


@pytest.fixture
def folder(tmp_path):
    """Windows over Python's source files, and which bytes are in each, as sparse rows."""
    sys.path.insert(0, str(ROOT))
    try:
        from benchmarks.lib.windows import source_text, windows_of
    finally:
        sys.path.remove(str(ROOT))
    folder = tmp_path
    X = windows_of(source_text(), 256, N_BYTES // 1024).astype(np.float32)
    np.save(folder / "X.npy", X)
    indptr = np.arange(0, X.size // 2 + 1, 128, dtype=np.int32)
    indices = (8 * np.arange(128) + X[:, :128].astype(np.int32) // 32).ravel().astype(np.int32)
    for name, part in (("indptr", indptr), ("indices", indices), ("data", X[:, 128:].ravel())):
        np.save(folder / f"{name}.npy", part)
    return folder


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="measures memory as Linux reports it")
def test_rows_on_disk_train_in_less_memory_than_they_have(folder):
    command = [sys.executable, "-W", "ignore", "-c", CHILD, str(folder)]
    # What is freed goes back to the system at once, as larger pieces always do.
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": str(2**20)}
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=ROOT, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr
    lines = [[float(word) for word in line.split()] for line in done.stdout.splitlines()]
    assert len(lines) == 2
    for grown, score, *shape in lines:
        assert grown < N_BYTES
        assert 0 < score < 1
        assert shape == [N_BYTES // 1024, 4]
