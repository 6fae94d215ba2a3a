"""Searches over code lengths that share the principal directions of each fold."""

import os
import shutil
import subprocess
import sys
import time
from tempfile import gettempdir

import numpy as np
import pytest
import torch
from joblib import Memory, Parallel, delayed
from joblib._store_backends import CacheWarning
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.model_selection import GridSearchCV, HalvingGridSearchCV, KFold
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline

from skae import ConvAutoencoder, DenseAutoencoder
from skae._pca import exact as exact_module
from skae._pca import krylov as krylov_module
from skae._pca import solvers as solvers_module
from skae._runtime.execution import device_lock
from skae._runtime.storage import Cache

LENGTHS = (2, 8, 4)


@pytest.fixture(params=["eigenproblem", "Krylov"])
def solver(request, monkeypatch):
    """Both solvers of the principal directions, on rows that are quick to fit."""
    if request.param == "Krylov":
        monkeypatch.setattr(solvers_module, "_EXACT_SIDE_OF_DENSE", 16)
        monkeypatch.setattr(solvers_module, "_EXACT_SIDE", 16)
        monkeypatch.setattr(solvers_module, "_BLOCK_SIZE", 8)
    return request.param


@pytest.fixture
def n_products(solver, monkeypatch):
    """How many long steps towards principal directions were computed so far."""
    counts = {"steps": 0}

    def counting(original):
        def counted(*arguments):
            counts["steps"] += 1
            return original(*arguments)

        return counted

    where, name = exact_module, "leading_eigenvectors"
    if solver == "Krylov":
        where, name = krylov_module, "_orthonormal"
    monkeypatch.setattr(where, name, counting(getattr(where, name)))
    return counts


def codes_of(latent_dim, X, memory=None, sample_weight=None):
    linear = DenseAutoencoder(latent_dim, hidden_layer_sizes=(), memory=memory, random_state=0)
    return linear.fit(X, sample_weight=sample_weight).transform(X).tobytes()


@pytest.mark.slow
def test_codes_are_the_same_with_and_without_a_memory(solver, tmp_path, bigrams):
    X = bigrams[0]
    for latent_dim in LENGTHS:
        alone = codes_of(latent_dim, X)
        assert codes_of(latent_dim, X, str(tmp_path)) == alone
        assert codes_of(latent_dim, X, Memory(tmp_path, mmap_mode="r", verbose=0)) == alone


def test_a_shorter_code_uses_the_steps_of_a_longer_one(solver, tmp_path, n_products, digits):
    X = digits[0]
    codes_of(8, X, str(tmp_path))
    before = n_products["steps"]
    assert before > 0
    for latent_dim in (2, 4):
        codes_of(latent_dim, X, str(tmp_path))
    # The start of Krylov iteration is made orthonormal anew each time, and that is all.
    assert n_products["steps"] - before == (2 if solver == "Krylov" else 0)


def test_other_rows_and_other_weights_share_nothing(solver, tmp_path, digits):
    X, weights = digits[0], np.random.RandomState(0).uniform(0.5, 2, len(digits[0]))
    memory = str(tmp_path)
    codes_of(4, X, memory)
    assert codes_of(4, X[::2], memory) == codes_of(4, X[::2])
    assert codes_of(4, X, memory, weights) == codes_of(4, X, None, weights)
    changed = X.copy()
    changed[7, 20] += 1
    assert codes_of(4, changed, memory) == codes_of(4, changed)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [GridSearchCV, HalvingGridSearchCV])
def test_searches_find_the_same_scores(kind, tmp_path, digits):
    X, y = digits[0][:600], digits[2][:600]
    parameters = {} if kind is GridSearchCV else {"random_state": 0, "min_resources": 300}

    def scores(memory, n_jobs):
        autoencoder = DenseAutoencoder(
            hidden_layer_sizes=(32,), max_epochs=4, memory=memory, random_state=0, device="cpu"
        )
        pipeline = make_pipeline(autoencoder, KNeighborsClassifier())
        search = kind(
            pipeline,
            {"denseautoencoder__latent_dim": LENGTHS},
            cv=KFold(3),
            n_jobs=n_jobs,
            **parameters,
        )
        return search.fit(X, y).cv_results_["mean_test_score"]

    alone = scores(None, 1)
    np.testing.assert_array_equal(scores(str(tmp_path), 1), alone)
    if kind is GridSearchCV:  # workers have a thread each, and so round otherwise
        np.testing.assert_allclose(scores(str(tmp_path), 2), alone, atol=0.02)


@pytest.mark.slow
def test_convolutions_share_too(solver, tmp_path, n_products, digits):
    def fit(latent_dim):
        return ConvAutoencoder(
            latent_dim, input_shape=(8, 8), memory=str(tmp_path), max_epochs=1, random_state=0
        ).fit(digits[0])

    fit(2)
    before = n_products["steps"]
    fit(3)
    assert n_products["steps"] - before == (1 if solver == "Krylov" else 0)


def test_an_invalid_memory_raises(digits):
    with pytest.raises(ValueError, match="'memory' parameter of DenseAutoencoder must be"):
        DenseAutoencoder(memory=3).fit(digits[0])


def hold(device):
    with device_lock(torch.device(device)):
        start = time.time()
        time.sleep(0.3)
        return start, time.time(), os.getppid()


def test_workers_use_a_gpu_one_at_a_time():
    """The lock needs no GPU."""
    workers = Parallel(n_jobs=2)
    (_, first_end, parent), (second_start, _, _) = sorted(
        workers(delayed(hold)("cuda:7") for _ in range(2))
    )
    assert second_start >= first_end
    os.remove(os.path.join(gettempdir(), f"skae-{parent}-cuda-7.lock"))
    starts_and_ends = workers(delayed(hold)("cpu") for _ in range(2))
    assert max(start for start, *_ in starts_and_ends) < min(end for _, end, _ in starts_and_ends)


def damaged(path):
    """Contents that a file may have after an accident, or None where it was lost."""
    whole = path.read_bytes()
    yield from (None, b"", whole[:-1], whole[: len(whole) // 2])
    for i in range(16):
        place = int((i + 0.5) / 16 * len(whole))
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
    assert n_files >= 60


def test_a_damaged_array_is_written_again(tmp_path, digits, n_products, solver):
    def steps_of_a_fit():
        before = n_products["steps"]
        return codes_of(2, digits[0][:160], str(tmp_path)), n_products["steps"] - before

    alone, n_steps = steps_of_a_fit()
    for path in tmp_path.rglob("output.pkl"):
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    assert steps_of_a_fit() == (alone, n_steps)
    # The start of Krylov iteration is made orthonormal anew each time.
    assert steps_of_a_fit() == (alone, 1 if solver == "Krylov" else 0)


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


TWO_FITS = """
import sys
import numpy as np
from sklearn.datasets import load_digits
from skae import DenseAutoencoder

X = load_digits().data
print("ready", flush=True)
sys.stdin.readline()
codes = [
    DenseAutoencoder(k, hidden_layer_sizes=(), memory=sys.argv[1], random_state=0).fit_transform(
        X[start:]
    )
    for start in range(3)
    for k in (2, 4)
]
np.savez(sys.argv[2], *codes)
"""


@pytest.mark.slow
def test_two_processes_with_one_memory_find_the_same_codes(tmp_path):
    script = [sys.executable, "-W", "error", "-c", TWO_FITS]
    outputs = [tmp_path / f"{name}.npz" for name in ("one", "other", "alone")]
    memories = [tmp_path / "memory", tmp_path / "memory", tmp_path / "another"]
    processes = [
        subprocess.Popen(
            [*script, str(memory), str(output)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for memory, output in zip(memories, outputs, strict=True)
    ]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()
    for process in processes:
        process.communicate()
        assert process.returncode == 0
    one, other, alone = (np.load(output) for output in outputs)
    assert len(alone.files) == 6
    for name in alone.files:
        np.testing.assert_array_equal(one[name], alone[name])
        np.testing.assert_array_equal(other[name], alone[name])
