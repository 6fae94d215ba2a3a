"""Searches over code lengths that share the principal directions of each fold."""

import multiprocessing
import os
import shutil
import subprocess
import sys
import time
from tempfile import gettempdir
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from joblib import Memory
from joblib._store_backends import CacheWarning
from sklearn.model_selection import GridSearchCV, KFold

from skae import DenseAutoencoder
from skae._runtime.cache import Cache
from skae._runtime.execution import device_lock


@pytest.fixture(params=["eigenproblem", "Krylov"])
def rows(request, digits):
    """Rows for both solvers of the principal directions."""
    if request.param == "eigenproblem":
        return digits[0]
    return sp.random(700, 17_000, 0.003, "csr", random_state=np.random.default_rng(0))


def codes_of(latent_dim, X, memory=None, sample_weight=None):
    linear = DenseAutoencoder(latent_dim, hidden_layer_sizes=(), memory=memory, random_state=0)
    return linear.fit(X, sample_weight=sample_weight).transform(X).tobytes()


def written(folder):
    """What is stored, by the name of its file."""
    return {path: path.read_bytes() for path in folder.rglob("output.pkl")}


def test_shorter_codes_use_what_was_stored_for_a_longer_one(rows, tmp_path):
    assert codes_of(8, rows, str(tmp_path)) == codes_of(8, rows)
    stored = written(tmp_path)
    assert stored
    for latent_dim in (2, 4):
        memory = Memory(str(tmp_path), mmap_mode="r", verbose=0)
        assert codes_of(latent_dim, rows, memory) == codes_of(latent_dim, rows)
    assert written(tmp_path) == stored


def test_other_rows_and_other_weights_share_nothing(tmp_path, digits):
    X, weights = digits[0], np.random.RandomState(0).uniform(0.5, 2, len(digits[0]))
    memory = tmp_path
    codes_of(4, X, memory)
    assert codes_of(4, X[::2], memory) == codes_of(4, X[::2])
    assert codes_of(4, X, memory, weights) == codes_of(4, X, None, weights)
    changed = X.copy()
    changed[7, 20] += 1
    assert codes_of(4, changed, memory) == codes_of(4, changed)


def test_a_search_finds_the_same_scores(tmp_path, digits):
    def scores(memory):
        autoencoder = DenseAutoencoder(
            hidden_layer_sizes=(8,), max_epochs=2, memory=memory, random_state=0, device="cpu"
        )
        search = GridSearchCV(autoencoder, {"latent_dim": [2, 8, 4]}, cv=KFold(2))
        return search.fit(digits[0][:300]).cv_results_["mean_test_score"]

    np.testing.assert_array_equal(scores(str(tmp_path)), scores(None))


def test_an_invalid_memory_raises(digits):
    with pytest.raises(ValueError, match="'memory' parameter of DenseAutoencoder must be"):
        DenseAutoencoder(memory=3).fit(digits[0])


def hold(device):
    with device_lock(torch.device(device)):
        start = time.time()
        time.sleep(0.3)
        return start, time.time(), os.getppid()


@pytest.mark.skipif(sys.platform != "linux", reason="forks")
# Python warns of any fork of a process with threads.
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_workers_use_a_gpu_one_at_a_time():
    """The lock needs no GPU."""
    with multiprocessing.get_context("fork").Pool(2) as workers:
        (_, first_end, parent), (second_start, _, _) = sorted(workers.map(hold, ["cuda:7"] * 2))
        assert second_start >= first_end
        os.remove(os.path.join(gettempdir(), f"skae-{parent}-cuda-7.lock"))
        of_cpu = workers.map(hold, ["cpu"] * 2)
    assert max(start for start, *_ in of_cpu) < min(end for _, end, _ in of_cpu)


def damaged(path):
    """Contents that a file may have after an accident, or None where it was lost."""
    whole = path.read_bytes()
    yield from (None, b"", whole[:-1], whole[: len(whole) // 2])
    for i in range(4):
        place = int((i + 0.5) / 4 * len(whole))
        yield whole[:place] + bytes([whole[place] ^ 1 << i % 8]) + whole[place + 1 :]


def test_a_damaged_memory_changes_no_code(tmp_path, digits, capfd):
    X = digits[0][:160]
    alone = codes_of(2, X, str(tmp_path / "whole"))
    n_files = 0
    for path in sorted((tmp_path / "whole").rglob("*.*")):
        for content in damaged(path) if path.is_file() else ():
            shutil.copytree(tmp_path / "whole", tmp_path / "copy")
            copy = tmp_path / "copy" / path.relative_to(tmp_path / "whole")
            copy.unlink()
            if content is not None:
                copy.write_bytes(content)
            assert codes_of(2, X, str(tmp_path / "copy")) == alone
            shutil.rmtree(tmp_path / "copy")
            n_files += 1
    assert n_files >= 24


def test_a_damaged_array_is_written_again(tmp_path, digits):
    alone = codes_of(2, digits[0][:160], str(tmp_path))
    stored = written(tmp_path)
    for path, content in stored.items():
        middle = len(content) // 2
        path.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
    assert written(tmp_path) != stored
    assert codes_of(2, digits[0][:160], str(tmp_path)) == alone
    assert written(tmp_path) == stored


def test_a_memory_that_cannot_be_written_is_named(digits, tmp_path):
    (tmp_path / "file").touch()
    folder = str(tmp_path / "file" / "folder")
    with pytest.raises(OSError, match=rf"memory='{folder}' cannot be written \(Not a directory\)"):
        codes_of(2, digits[0][:160], folder)


def test_a_memory_on_a_full_disk_only_costs_time(digits, tmp_path, monkeypatch):
    X = digits[0][:160]
    alone = codes_of(2, X)

    def full(*arguments, **keywords):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("joblib.numpy_pickle.dump", full)
    with pytest.warns((CacheWarning, RuntimeWarning), match="No space left on device"):
        assert codes_of(2, X, str(tmp_path)) == alone


def test_an_error_of_the_step_is_no_error_of_the_memory(tmp_path):
    def fail():
        raise OSError("of the rows")

    with pytest.raises(OSError, match="of the rows"):
        Cache(str(tmp_path), {"X": "some"}).load_or_compute("step", fail)


SIX_FITS = """
import sys
import numpy as np
from sklearn.datasets import load_digits
from skae import DenseAutoencoder

X = load_digits().data
if len(sys.argv) > 2:
    print("ready", flush=True)
    sys.stdin.readline()
codes = [
    DenseAutoencoder(k, hidden_layer_sizes=(), memory=sys.argv[1], random_state=0).fit_transform(
        X[start:]
    )
    for start in range(3)
    for k in (2, 4)
]
"""


@pytest.mark.slow
def test_two_processes_with_one_memory_find_the_same_codes(tmp_path):
    script = f"{SIX_FITS}\nnp.savez(sys.argv[2], *codes)"
    paths = [tmp_path / "one.npz", tmp_path / "other.npz"]
    processes = [
        subprocess.Popen(
            [sys.executable, "-W", "error", "-c", script, str(tmp_path / "memory"), str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for path in paths
    ]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()
    for process in processes:
        process.communicate()
        assert process.returncode == 0
    alone = {"sys": SimpleNamespace(argv=["", str(tmp_path / "another")])}
    exec(SIX_FITS.replace("import sys", ""), alone)
    for path in paths:
        found = np.load(path)
        for name, expected in zip(found.files, alone["codes"], strict=True):
            np.testing.assert_array_equal(found[name], expected)
