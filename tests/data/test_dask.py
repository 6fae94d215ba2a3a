"""dask arrays: rows on several machines, here on two worker processes."""

import subprocess
import sys

import dask
import dask.array as da
import numpy as np
import pytest
import scipy.sparse as sp
import torch

from skae import ConvAutoencoder, DenseAutoencoder

BRIEF = {"hidden_layer_sizes": (32,), "max_epochs": 3, "random_state": 0}


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


@pytest.mark.parametrize(
    ("blocks", "parameters"),
    [("dense", BRIEF), ("sparse", BRIEF), ("columns", {"hidden_layer_sizes": ()})],
)
def test_dask_arrays_give_the_same_results_as_arrays(blocks, parameters, digits):
    X, X_test = digits[0][:700], digits[1]
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


def test_wide_sparse_blocks_stay_sparse_and_weights_follow_their_rows(wide):
    linear = DenseAutoencoder(4, hidden_layer_sizes=(), random_state=0)
    weights = np.random.RandomState(0).uniform(0.5, 2, wide.shape[0])
    expected = linear.fit(wide, sample_weight=weights).score(wide)
    assert linear.fit(sparse_blocks(wide, 200), sample_weight=weights).score(wide) == (
        pytest.approx(expected, abs=1e-3)
    )
    codes = linear.transform(wide)
    found = linear.transform(sparse_blocks(wide, 100))
    np.testing.assert_allclose(found, codes, atol=1e-4 * np.abs(codes).max())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("kind", ["dense", "sparse"])
def test_blocks_are_multiplied_on_a_gpu_of_the_workers(kind, digits, counts):
    """The synchronous scheduler calls functions of blocks in this process."""
    X = digits[0]
    lazy = sparse_blocks(X, 300) if kind == "sparse" else da.from_array(X, chunks=(300, 64))
    codes, n_bytes = [], []
    for device in ("auto", "cpu"):
        counts.reset()
        with dask.config.set(scheduler="synchronous"):
            linear = DenseAutoencoder(6, hidden_layer_sizes=(), device=device).fit(lazy)
        n_bytes.append(counts.stats()["bytes_to_device"])
        codes.append(linear.transform(digits[1]))
    assert n_bytes[1] == 0 < n_bytes[0]
    np.testing.assert_allclose(*codes, atol=1e-4)


# Each block is read by a worker; the first to come to the sixth dies then.
WORKERS = """
import os, sys
import dask.array as da
import dask.config
import joblib
import numpy as np
from skae import DenseAutoencoder

X = np.random.default_rng(0).normal(size=(3000, 40)) * np.linspace(2, 1, 40)
died = sys.argv[1] + "/died"

def killing(block, block_info=None):
    if block_info[0]["chunk-location"][0] == 6 and not os.path.exists(died):
        open(died, "w").close()
        os._exit(1)
    return block

if __name__ == "__main__":
    linear = DenseAutoencoder(5, hidden_layer_sizes=(), random_state=0)
    expected = linear.fit(X).transform(X)
    lazy = da.from_array(X, chunks=(300, 40))
    assert np.allclose(linear.fit(lazy).transform(lazy).compute(), expected)

    from distributed import Client, LocalCluster
    from sklearn.model_selection import GridSearchCV

    assert dask.config.get("distributed.comm.retry.count") == 0
    assert dask.config.get("distributed.admin.large-graph-warning-threshold") == "10MB"
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster),
    ):
        before = str(dask.config.config)
        linear.fit(lazy.map_blocks(killing, dtype=float))
        assert os.path.exists(died)
        assert np.allclose(linear.transform(X), expected)
        assert str(dask.config.config) == before
        search = GridSearchCV(linear, {"latent_dim": [2, 4]}, cv=2)
        scores = search.fit(X[:600]).cv_results_["mean_test_score"]
        with joblib.parallel_config("dask"):
            assert np.allclose(search.fit(X[:600]).cv_results_["mean_test_score"], scores)
    print("done")
"""


@pytest.mark.slow
def test_a_script_fits_on_workers_though_one_is_killed(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(WORKERS)
    command = [sys.executable, "-W", "error::UserWarning", str(script), str(tmp_path)]
    finished = subprocess.run(command, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.strip() == "done"


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
