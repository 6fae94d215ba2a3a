"""dask arrays: rows on several machines, here on two worker processes."""

import os
import subprocess
import sys
from itertools import product
from threading import Timer

import dask
import dask.array as da
import joblib
import numpy as np
import pytest
import scipy.sparse as sp
import torch
from distributed import Client, LocalCluster
from sklearn.model_selection import GridSearchCV

from skae import ConvAutoencoder, DenseAutoencoder
from skae._data import rows as rows_module
from skae._pca import solvers as solvers_module

BRIEF = {"hidden_layer_sizes": (32,), "max_epochs": 6, "random_state": 0}


# Of each worker. Half of it is taken once skae and torch are imported, and at 80 % a worker pauses.
MEMORY_LIMIT = 2**30


@pytest.fixture(scope="module")
def client():
    """Two worker processes of one thread each, with less memory than X takes."""
    with (
        LocalCluster(
            n_workers=2, threads_per_worker=1, memory_limit=MEMORY_LIMIT, dashboard_address=None
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client


def sparse_blocks(X, n_rows):
    """A dask array whose blocks are sparse."""
    X = sp.csr_matrix(X)
    blocks = [X[start : start + n_rows] for start in range(0, X.shape[0], n_rows)]
    return da.concatenate(
        [
            da.from_delayed(
                dask.delayed(block), block.shape, meta=sp.csr_matrix((0, 0), dtype=X.dtype)
            )
            for block in blocks
        ]
    )


@pytest.mark.parametrize("blocks", ["dense", "sparse", "columns"])
@pytest.mark.parametrize("parameters", [{"hidden_layer_sizes": ()}, BRIEF])
def test_dask_arrays_give_the_same_results_as_arrays(blocks, parameters, digits):
    X, X_test, _, _ = digits
    lazy = sparse_blocks(X, 300) if blocks == "sparse" else da.from_array(X, chunks=(300, 64))
    if blocks == "columns":
        lazy = lazy.rechunk((400, 16))
    whole = DenseAutoencoder(6, **parameters).fit(X)
    ours = DenseAutoencoder(6, **parameters).fit(lazy)
    assert ours.score(X_test) == pytest.approx(whole.score(X_test), abs=0.005)
    codes = ours.transform(X)
    encoded = ours.transform(lazy)
    assert isinstance(encoded, da.Array)
    assert encoded.shape == codes.shape
    assert encoded.dtype == codes.dtype
    np.testing.assert_allclose(encoded.compute(), codes, rtol=1e-5, atol=1e-5)
    decoded = ours.inverse_transform(encoded)
    np.testing.assert_allclose(decoded, ours.inverse_transform(codes), rtol=1e-4, atol=1e-4)
    errors = ours.score_samples(lazy)
    assert isinstance(errors, da.Array)
    np.testing.assert_allclose(errors, ours.score_samples(X), rtol=1e-4, atol=1e-4)
    assert ours.score(lazy) == pytest.approx(ours.score(X), abs=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("solver", ["eigenproblem", "Krylov"])
def test_wide_sparse_blocks_stay_sparse(solver, bigrams, monkeypatch):
    if solver == "Krylov":
        monkeypatch.setattr(solvers_module, "_EXACT_SIDE", 16)
    X, X_test, _, _ = bigrams
    linear = DenseAutoencoder(4, hidden_layer_sizes=(), random_state=0)
    expected = linear.fit(X).score(X_test)
    lazy = sparse_blocks(X, 200)
    assert linear.fit(lazy).score(X_test) == pytest.approx(expected, abs=1e-3)
    codes = linear.transform(X_test)
    np.testing.assert_allclose(linear.transform(sparse_blocks(X_test, 100)), codes, atol=1e-5)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("kind", ["dense", "sparse"])
class TestWorkersWithAGPU:
    """The synchronous scheduler calls functions of blocks in this process."""

    def fit(self, X, device, kind):
        lazy = sparse_blocks(X, 300) if kind == "sparse" else da.from_array(X, chunks=(300, 64))
        linear = DenseAutoencoder(6, hidden_layer_sizes=(), device=device, random_state=0)
        with dask.config.set(scheduler="synchronous"):
            return linear.fit(lazy)

    def test_blocks_are_multiplied_there(self, kind, digits, monkeypatch):
        monkeypatch.setattr(solvers_module, "_EXACT_SIDE", 16)
        monkeypatch.setattr(solvers_module, "_EXACT_SIDE_OF_LONG", 16)
        devices = []
        kinds = rows_module.SparseRows, rows_module.DenseRows
        for rows, method in product(kinds, ("times", "transposed_times")):
            computed = getattr(rows, method)

            def noted(self, *args, _computed=computed, **named):
                devices.append(self.device.type)
                return _computed(self, *args, **named)

            monkeypatch.setattr(rows, method, noted)
        on_workers = self.fit(digits[0], "auto", kind)
        assert set(devices) == {"cuda"}
        devices.clear()
        on_cpu = self.fit(digits[0], "cpu", kind)
        assert set(devices) == {"cpu"}
        codes = on_cpu.transform(digits[1])
        np.testing.assert_allclose(on_workers.transform(digits[1]), codes, atol=1e-4)

    def test_without_room_there_they_are_multiplied_on_the_cpu(self, kind, digits, monkeypatch):
        def without_room(method, mean, dtype, device, *args, **keywords):
            if torch.device(device).type != "cpu":
                raise torch.OutOfMemoryError("no room")
            return call(method, mean, dtype, device, *args, **keywords)

        call = rows_module._call_method
        monkeypatch.setattr(rows_module, "_call_method", without_room)
        found = self.fit(digits[0], "auto", kind)
        monkeypatch.undo()
        codes = self.fit(digits[0], "cpu", kind).transform(digits[1])
        np.testing.assert_allclose(found.transform(digits[1]), codes, atol=1e-4)


def test_weights_follow_their_rows(digits):
    X = digits[0]
    weights = np.random.RandomState(0).uniform(0.5, 2, len(X))
    linear = DenseAutoencoder(6, hidden_layer_sizes=())
    expected = linear.fit(X, sample_weight=weights).transform(X)
    lazy = da.from_array(X, chunks=(300, 64))
    codes = linear.fit(lazy, sample_weight=weights).transform(X)
    np.testing.assert_allclose(codes, expected, rtol=1e-6, atol=1e-6)


N_BLOCKS, N_ROWS, N_COLUMNS = 60, 10_000, 512


def drawn(seed, n_rows=N_ROWS):
    """Rows of twenty directions and noise."""
    directions = np.random.default_rng(0).normal(size=(20, N_COLUMNS)).astype(np.float32)
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=(n_rows, 20)).astype(np.float32)
    return scores @ directions + rng.standard_normal((n_rows, N_COLUMNS), dtype=np.float32)


@pytest.fixture
def on_disk(tmp_path):
    """1.2 GB of rows, in files."""
    for seed in range(N_BLOCKS):
        np.save(tmp_path / f"{seed}.npy", drawn(1 + seed))
    load = dask.delayed(np.load)
    blocks = [load(tmp_path / f"{seed}.npy") for seed in range(N_BLOCKS)]
    shape = (N_ROWS, N_COLUMNS)
    return da.concatenate([da.from_delayed(block, shape, np.float32) for block in blocks])


@pytest.mark.slow
def test_rows_larger_than_a_worker_fit_though_one_is_killed(client, on_disk):
    X, killed = on_disk, []
    assert X.nbytes > MEMORY_LIMIT

    def kill_one():
        killed.append(next(iter(client.scheduler_info()["workers"])))
        client.run(os._exit, 1, workers=killed, on_error="ignore")

    timer = Timer(2, kill_one)
    timer.start()
    linear = DenseAutoencoder(20, hidden_layer_sizes=(), random_state=0).fit(X)
    timer.cancel()
    assert killed
    whole = np.concatenate([drawn(1 + seed) for seed in range(N_BLOCKS)])
    expected = DenseAutoencoder(20, hidden_layer_sizes=(), random_state=0).fit(whole)
    np.testing.assert_allclose(linear.mean_, expected.mean_, atol=1e-5)
    few = drawn(99, 500)
    codes = expected.transform(few)
    np.testing.assert_allclose(linear.transform(few), codes, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(
        linear.transform(X[:100]), expected.transform(whole[:100]), rtol=1e-2, atol=1e-3
    )


@pytest.mark.slow
def test_a_search_runs_on_the_workers(client, digits):
    linear = DenseAutoencoder(hidden_layer_sizes=(), random_state=0)
    search = GridSearchCV(linear, {"latent_dim": [2, 4, 8]}, cv=3)
    expected = search.fit(digits[0]).cv_results_["mean_test_score"]
    with joblib.parallel_config("dask"):
        found = search.fit(digits[0]).cv_results_["mean_test_score"]
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert search.best_params_ == {"latent_dim": 8}


def test_unsupported_uses_of_dask_raise(digits):
    lazy = da.from_array(digits[0], chunks=(300, 64))
    with pytest.raises(ValueError, match=r"call compute_chunk_sizes\(\) first"):
        DenseAutoencoder(2).fit(lazy[lazy[:, 3] > 2])
    for estimator in (
        DenseAutoencoder(2, linear_path=False),
        ConvAutoencoder(2, input_shape=(8, 8)),
    ):
        with pytest.raises(ValueError, match="other networks read rows in random order"):
            estimator.fit(lazy)
    broken = digits[0].copy()
    broken[700, 3] = np.nan
    with pytest.raises(ValueError, match="Input X contains NaN"):
        DenseAutoencoder(2).fit(da.from_array(broken, chunks=(300, 64)))


FRESH = """
import dask.array as da
import numpy as np
from skae import DenseAutoencoder

X = np.random.default_rng(0).random((300, 20))
lazy = da.from_array(X, chunks=(100, 20))
pca = DenseAutoencoder(3, hidden_layer_sizes=()).fit(lazy)
codes = pca.transform(lazy).compute()
assert np.allclose(codes, DenseAutoencoder(3, hidden_layer_sizes=()).fit(X).transform(X))

import dask
import dask.config
from distributed import Client

assert dask.config.get("distributed.comm.retry.count") == 0
assert dask.config.get("distributed.admin.large-graph-warning-threshold") == "10MB"
with Client(n_workers=1, processes=False, dashboard_address=":0"):
    before = str(dask.config.config)
    assert np.allclose(DenseAutoencoder(3, hidden_layer_sizes=()).fit(lazy).transform(X), codes)
    assert str(dask.config.config) == before
print("done")
"""


@pytest.mark.slow
def test_a_fresh_script_needs_no_distributed_and_leaves_the_configuration_as_it_was():
    command = [sys.executable, "-W", "error::UserWarning", "-c", FRESH]
    finished = subprocess.run(command, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.strip() == "done"
